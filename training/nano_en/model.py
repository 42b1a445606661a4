"""The student: some of the teacher's layers, its embedding table at low rank, a projection to the index's width."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, BertConfig, BertModel
from transformers.masking_utils import eager_mask

from training.nano_en.settings import SEED, Settings

MAX_POSITIONS = 304  # the document length, rounded up
LEVELS = 8  # of the embedding table's 4 bits, each side of zero
STEP = 0.335  # of a row's root mean square: sixteen even steps of this size lose least of a normal distribution


def plain_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attend by plain matrix products, all in the precision at hand.

    On a CPU the fused kernel's backward pass takes half of a training step, and transformers' own "eager" attention
    scales and normalises the largest tensor of all in float32.

    Parameters
    ----------
    module : torch.nn.Module
    query, key, value : torch.Tensor
        [texts, heads, tokens, width of a head].
    attention_mask : torch.Tensor or None
        Added to the scores.
    scaling : float
    **_ : object
        What transformers passes besides.

    Returns
    -------
    tuple of torch.Tensor and None
    """
    del module
    scores = (query * scaling) @ key.transpose(2, 3)
    if attention_mask is not None:
        scores = scores + attention_mask.to(scores.dtype)
    return (scores.softmax(dim=-1) @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register("plain", plain_attention)
AttentionMaskInterface.register("plain", eager_mask)


def quantise(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows of the embedding table in 4 bits, and what a step is worth in each.

    Parameters
    ----------
    rows : torch.Tensor
        [..., rank].

    Returns
    -------
    codes : torch.Tensor
        Whole numbers from -8 to 7, as floats.
    step : torch.Tensor
        [..., 1], representable as float16: that is how it is shipped.
    """
    step = (STEP * rows.square().mean(dim=-1, keepdim=True).sqrt()).half().float().clamp_min(1e-7)
    return (rows / step).round().clamp(-LEVELS, LEVELS - 1), step


class Student(nn.Module):
    """A small BERT whose token outputs are projected to unit vectors.

    Parameters
    ----------
    config : transformers.BertConfig
        Of the layers that are kept.
    rank : int
        Rank of the embedding table.
    dim : int
        Width of the token vectors.
    """

    def __init__(self, config: BertConfig, rank: int, dim: int) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, rank)
        self.expand = nn.Linear(rank, config.hidden_size, bias=False)
        self.bert: Any = BertModel(config, add_pooling_layer=False)
        # Never looked at: `forward` gives embeddings.
        self.bert.embeddings.register_module("word_embeddings", nn.Identity())
        self.project = nn.Linear(config.hidden_size, dim, bias=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return unit token vectors, [texts, tokens, dim]."""
        rows = self.word(input_ids)
        with torch.no_grad():
            codes, step = quantise(rows)
            error = codes * step - rows
        # The rows as they will be shipped; the gradient passes as if they had not been rounded.
        embedded = self.expand(rows + error)
        hidden = self.bert(inputs_embeds=embedded, attention_mask=attention_mask).last_hidden_state
        return nn.functional.normalize(self.project(hidden).float(), dim=-1)


def build(settings: Settings) -> Student:
    """Return a student with weights of chance, in the shape the settings name."""
    options: dict[str, Any] = {"attn_implementation": "plain"}
    config = BertConfig(
        vocab_size=30522,
        hidden_size=384,
        num_hidden_layers=len(settings.layers),
        num_attention_heads=12,
        intermediate_size=settings.intermediate,
        max_position_embeddings=max(MAX_POSITIONS, settings.document_length),
        # Twelve layers of training noise less: a student this small does not overfit the teacher's vectors.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **options,
    )
    return Student(config, settings.rank, settings.dim)


def factorise(
    table: npt.NDArray[np.float32], counts: npt.NDArray[np.int64], rank: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Write an embedding table as low-rank factors and a mean, frequent tokens kept better than rare ones.

    Parameters
    ----------
    table : numpy.ndarray
        [vocabulary, width].
    counts : numpy.ndarray
        Occurrences of each token in the training text.
    rank : int

    Returns
    -------
    word : numpy.ndarray
        [vocabulary, rank].
    expand : numpy.ndarray
        [width, rank].
    mean : numpy.ndarray
        [width], what every token has in common.
    """
    # The square root of a square root: by plain frequency the table would serve a hundred function words.
    weight = np.sqrt(np.sqrt(counts + 1.0))[:, None]
    mean = (weight**2 * table).sum(axis=0) / (weight**2).sum()
    rest = table - mean
    basis = np.linalg.svd(weight * rest, full_matrices=False)[2][:rank]
    # Turned by chance, so that every column has like variance: 4 bits with one step a row need that.
    turn = np.linalg.qr(np.random.default_rng(SEED).standard_normal((rank, rank)))[0]
    basis = turn @ basis
    word = rest @ basis.T
    # Both factors of like size, so that one learning rate suits both.
    scale = np.sqrt(word.std())
    return (word / scale).astype(np.float32), (basis.T * scale).astype(np.float32), mean.astype(np.float32)


def from_teacher(
    settings: Settings,
    teacher: BertModel,
    projection: npt.NDArray[np.float32],
    counts: npt.NDArray[np.int64],
) -> Student:
    """Return a student that starts from the teacher's own weights.

    Parameters
    ----------
    settings : Settings
    teacher : transformers.BertModel
    projection : numpy.ndarray
        What the teacher's outputs are projected by, [384, dim].
    counts : numpy.ndarray
        Occurrences of each token in the training text.

    Returns
    -------
    Student
    """
    student = build(settings)
    state = teacher.state_dict()
    table = state["embeddings.word_embeddings.weight"].float().cpu().numpy()
    word, expand, mean = factorise(table, counts, settings.rank)
    own = student.bert.state_dict()
    for name in own:
        if name.startswith("encoder.layer."):
            layer, rest = name.removeprefix("encoder.layer.").split(".", 1)
            weight = state[f"encoder.layer.{settings.layers[int(layer)]}.{rest}"]
            own[name] = _kept(weight, rest, state, settings.layers[int(layer)], settings.intermediate)
        elif name in state:
            own[name] = state[name][: own[name].shape[0]]
    own["embeddings.token_type_embeddings.weight"] = state[
        "embeddings.token_type_embeddings.weight"
    ] + torch.from_numpy(mean)
    student.bert.load_state_dict(own)
    with torch.no_grad():
        student.word.weight.copy_(torch.from_numpy(word))
        student.expand.weight.copy_(torch.from_numpy(expand))
        student.project.weight.copy_(torch.from_numpy(projection.T))
    return student


def _kept(weight: torch.Tensor, name: str, state: dict[str, torch.Tensor], layer: int, neurons: int) -> torch.Tensor:
    """Return a layer's weight with only its feed-forward neurons of largest weights."""
    prefix = f"encoder.layer.{layer}."
    into = state[prefix + "intermediate.dense.weight"]
    if neurons >= into.shape[0]:
        return weight
    size = into.norm(dim=1) * state[prefix + "output.dense.weight"].norm(dim=0)
    chosen = size.topk(neurons).indices.sort().values
    if name.startswith("intermediate."):
        return weight[chosen]
    return weight[:, chosen] if name == "output.dense.weight" else weight
