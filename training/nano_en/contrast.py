"""Second stage: the student ranks as the teacher does with all of its dimensions, and as the labels say, pooled or not.

The teacher's MaxSim in 384 dimensions ranks better than its projection does, so this stage can pass what the first one
aims at; the first stage's loss stays in, so that what no question asks about is not forgotten.
"""

import time

import numpy as np
import numpy.typing as npt
import torch

from training.nano_en import checkpoint, distil, pairs, teacher
from training.nano_en.batches import pad
from training.nano_en.encode import punctuation
from training.nano_en.log import say
from training.nano_en.model import Student, build
from training.nano_en.optimiser import adamw, set_rate
from training.nano_en.pooling import labels
from training.nano_en.precision import mixed
from training.nano_en.settings import SEED, Settings
from training.nano_en.tokens import load_tokenizer

CHECKPOINT = "checkpoints/contrast.pt"
SHARPNESS = 2.0  # of the softmax over a row of scores in units of their standard deviation
LABEL_WEIGHT, POOLED_WEIGHT, TOKEN_WEIGHT = 0.2, 1.0, 2.0
FACTORS = (4, 8)


def draw(
    found: list[pairs.Pairs], settings: Settings, step: int
) -> tuple[list[npt.NDArray[np.uint16]], list[npt.NDArray[np.uint16]], np.random.Generator]:
    """Return a step's questions and passages: all positives in their order, then a negative of each.

    A batch is of one collection: its passages are of like length, and each other's harder negatives.

    Parameters
    ----------
    found : list of Pairs
    settings : Settings
    step : int

    Returns
    -------
    tuple
        Questions, passages, and the step's source of chance.
    """
    rng = np.random.default_rng((SEED, 7, step))
    sizes = np.array([len(p.positives) for p in found], float)
    chosen = found[rng.choice(len(found), p=sizes / sizes.sum())]
    rows = rng.choice(len(chosen.positives), min(settings.contrast_pairs, len(chosen.positives)), replace=False)
    wrong = chosen.negatives[rows, rng.integers(0, chosen.negatives.shape[1], len(rows))]
    documents = [chosen.documents[int(i)] for i in np.concatenate([chosen.positives[rows], wrong])]
    return [chosen.queries[int(i)] for i in rows], documents, rng


def scores(
    queries: torch.Tensor, query_mask: torch.Tensor, documents: torch.Tensor, document_mask: torch.Tensor
) -> torch.Tensor:
    """Return MaxSim of each query with each document, over the query's length, [queries, documents]."""
    width = queries.shape[-1]
    flat = queries.reshape(-1, width) @ documents.reshape(-1, width).T
    dots = flat.view(*queries.shape[:2], *documents.shape[:2])
    best = dots.masked_fill(~document_mask[None, None], -1.0).amax(dim=-1)
    weight = query_mask.float()[..., None]
    return (best * weight).sum(dim=1) / weight.sum(dim=1)


def standard(rows: torch.Tensor) -> torch.Tensor:
    """Return rows of scores with mean 0 and standard deviation 1: teacher and student differ in both."""
    return (rows - rows.mean(dim=1, keepdim=True)) / rows.std(dim=1, keepdim=True).clamp_min(1e-4)


def rank_loss(student: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the divergence from the teacher's ranking plus a share of the labels' cross entropy."""
    logits = SHARPNESS * standard(student)
    aims = (SHARPNESS * standard(target)).softmax(dim=1)
    divergence = torch.nn.functional.kl_div(logits.log_softmax(dim=1), aims, reduction="batchmean")
    right = torch.arange(len(student), device=student.device)
    return divergence + LABEL_WEIGHT * torch.nn.functional.cross_entropy(logits, right)


def pooled(vectors: torch.Tensor, mask: torch.Tensor, factor: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pool documents to a part of their vectors; the clusters are taken as given, their means are live.

    Parameters
    ----------
    vectors : torch.Tensor
        [documents, tokens, dim].
    mask : torch.Tensor
        [documents, tokens], bool.
    factor : int

    Returns
    -------
    tuple of torch.Tensor
        [documents, clusters, dim], and which of them there are.
    """
    values, there = vectors.detach().cpu().numpy(), mask.cpu().numpy()
    groups = [labels(v[m], -(-int(m.sum()) // factor)) for v, m in zip(values, there, strict=True)]
    most = max(int(group.max()) + 1 for group in groups)
    assign = np.zeros((len(values), most, values.shape[1]), np.float32)
    for row, group, m in zip(assign, groups, there, strict=True):
        row[group, np.flatnonzero(m)] = 1.0
    member = torch.from_numpy(assign).to(vectors.device)
    return torch.nn.functional.normalize(member @ vectors, dim=-1), member.sum(dim=-1) > 0


def start(settings: Settings) -> Student:
    """Return the distilled student."""
    saved = checkpoint.load(settings.work / distil.CHECKPOINT)
    if saved is None:
        message = "there is no distilled student: run the step `distil` first"
        raise FileNotFoundError(message)
    student = build(settings)
    student.load_state_dict(saved["student"])
    return student


def run(settings: Settings) -> float:
    """Train for `contrast_steps`, from the last checkpoint if there is one.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    float
        The ranking loss without pooling, a running mean over about the last fifty steps.
    """
    found = pairs.read(settings)
    device = settings.device
    large = teacher.load(device)
    matrix = torch.from_numpy(teacher.projection(settings)).to(device)
    skipped = torch.from_numpy(punctuation(load_tokenizer())).to(device)
    student = start(settings).to(device)
    optimiser = adamw(student, settings.contrast_rate)
    step, running = 0, 0.0
    if saved := checkpoint.load(settings.work / CHECKPOINT):
        student.load_state_dict(saved["student"])
        optimiser.load_state_dict(saved["optimiser"])
        step, running = saved["step"], saved["loss"]

    def keep() -> None:
        parts = {"student": student.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "loss": running}
        checkpoint.save(settings.work / CHECKPOINT, **parts)

    def forward(rows: list[npt.NDArray[np.uint16]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        ids, mask = (part.to(device) for part in pad(rows))
        target = teacher.outputs(large, ids, mask).clone()
        with mixed(ids.device):
            vectors = student(ids, mask)
        return ids, mask.bool(), vectors, target

    last = began = time.monotonic()
    first = step
    while step < settings.contrast_steps:
        rate = set_rate(optimiser, settings.contrast_rate, step / settings.contrast_steps, warm_up=0.05)
        questions, passages, rng = draw(found, settings, step)
        _, asked, query, query_target = forward(questions)
        ids, there, document, target = forward(passages)
        token = distil.token_loss(document, teacher.project(target, matrix), there)
        token = 0.5 * (token + distil.token_loss(query, teacher.project(query_target, matrix), asked))
        told = there & ~torch.isin(ids, skipped)
        aims = scores(query_target, asked, target, told)
        whole = rank_loss(scores(query, asked, document, told), aims)
        part = rank_loss(scores(query, asked, *pooled(document, told, int(rng.choice(FACTORS)))), aims)
        torch.autograd.backward(whole + POOLED_WEIGHT * part + TOKEN_WEIGHT * token)
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        running += (whole.item() - running) / min(step, 50)
        if step % 10 == 0:
            say(
                settings,
                step=step,
                rank=round(running, 4),
                pooled=round(part.item(), 4),
                token=round(token.item(), 4),
                rate=rate,
                seconds=round((time.monotonic() - began) / (step - first), 2),
            )
        if time.monotonic() - last > settings.checkpoint_seconds:
            keep()
            last = time.monotonic()
    keep()
    return running
