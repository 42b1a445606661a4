"""The teacher's token vectors, once: unit length, projected, in files that distillation only reads."""

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import BertModel

from training.nano_en import tokens
from training.nano_en.batches import by_length, gather
from training.nano_en.log import say
from training.nano_en.precision import mixed
from training.nano_en.settings import SEED, Settings
from training.nano_en.texts import SETS

# Files used of a source, where not all are: of a dictionary with nine million tokens about as much as of other text.
MOST_SHARDS = {"dict-gcide": 4}


def load(device: str) -> BertModel:
    """Return the teacher, ready to be run."""
    model: Any = BertModel.from_pretrained(tokens.teacher_folder(), add_pooling_layer=False)
    loaded: BertModel = model.eval().to(device)
    return loaded


def outputs(model: BertModel, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return token outputs of unit length, [texts, tokens, 384]."""
    device = model.device
    with torch.inference_mode(), mixed(device):
        hidden = model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
    return torch.nn.functional.normalize(hidden.float(), dim=-1)


def fit_projection(settings: Settings, model: BertModel) -> npt.NDArray[np.float32]:
    """Fit the projection to `dim` dimensions that keeps most of the collections' dot products: PCA without centring.

    Centring would change the dot products that MaxSim sums; the mean direction is simply the first component.

    Parameters
    ----------
    settings : Settings
    model : transformers.BertModel

    Returns
    -------
    numpy.ndarray
        [384, dim], orthonormal columns.
    """
    rng = np.random.default_rng(SEED)
    moment = np.zeros((model.config.hidden_size, model.config.hidden_size))
    collections = {source.name for source in SETS}
    names = [name for name in tokens.names(settings) if name in collections]
    for name in names:
        source = tokens.read(settings, name)
        sample = rng.choice(len(source), min(len(source), settings.pca_texts // len(names)), replace=False)
        for batch in by_length(source.lengths[sample], 8192):
            ids, mask = gather(source, sample[batch])
            vectors = outputs(model, ids, mask)[mask.bool()].double().cpu().numpy()
            moment += vectors.T @ vectors
    values, basis = np.linalg.eigh(moment)
    say(settings, projection_keeps=round(float(values[-settings.dim :].sum() / values.sum()), 4))
    kept: npt.NDArray[np.float32] = basis[:, ::-1][:, : settings.dim].astype(np.float32)
    return kept


def projection(settings: Settings, model: BertModel | None = None) -> npt.NDArray[np.float32]:
    """Return the projection, fitted at the first call."""
    path = settings.work / "projection.npy"
    if not path.exists():
        np.save(path, fit_projection(settings, model or load(settings.device)))
    matrix: npt.NDArray[np.float32] = np.load(path)
    return matrix


def project(vectors: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Project token vectors and give them unit length again."""
    return torch.nn.functional.normalize(vectors @ matrix, dim=-1)


def shards(settings: Settings, name: str, source: tokens.Tokens) -> list[tuple[int, int]]:
    """Return the runs of a source's texts that share a file: (first, one past the last)."""
    edges = [0]
    while edges[-1] < len(source):
        goal = source.offsets[edges[-1]] + settings.shard_tokens
        edges.append(min(len(source), max(edges[-1] + 1, int(np.searchsorted(source.offsets, goal)))))
    return list(itertools.pairwise(edges))[: MOST_SHARDS.get(name)]


def shard_path(settings: Settings, name: str, number: int) -> Path:
    """Where a shard's vectors are kept."""
    return settings.work / "teacher" / f"{name}-{number:04d}.npy"


def write(settings: Settings) -> None:
    """Run the teacher over every text; shards that are there are not run again."""
    model = load(settings.device)
    matrix = torch.from_numpy(projection(settings, model)).to(settings.device)
    (settings.work / "teacher").mkdir(exist_ok=True)
    for name in tokens.names(settings):
        source = tokens.read(settings, name)
        for number, (first, last) in enumerate(shards(settings, name, source)):
            path = shard_path(settings, name, number)
            if path.exists():
                continue
            started = time.monotonic()
            base = source.offsets[first]
            vectors = np.empty((source.offsets[last] - base, settings.dim), np.float16)
            for batch in by_length(source.lengths[first:last], 8192):
                ids, mask = gather(source, first + batch)
                projected = project(outputs(model, ids, mask), matrix).half().cpu().numpy()
                for row, text in zip(projected, first + batch, strict=True):
                    start, end = source.offsets[text] - base, source.offsets[text + 1] - base
                    vectors[start:end] = row[: end - start]
            partial = path.with_suffix(".part.npy")
            np.save(partial, vectors)
            partial.rename(path)
            speed = len(vectors) / (time.monotonic() - started)
            say(settings, teacher=name, shard=number, tokens_per_second=round(speed))
