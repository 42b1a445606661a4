"""Texts of like length side by side, so that little is padding; the same order at every start."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from training.nano_en.settings import SEED
from training.nano_en.tokens import Tokens


def pad(rows: list[npt.NDArray[np.uint16]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask, each [texts, longest]."""
    width = max(len(row) for row in rows)
    ids = np.zeros((len(rows), width), np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def by_length(lengths: npt.NDArray[np.int64], batch_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield batches of the texts in order of their length, each of at most `batch_tokens` with padding."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > batch_tokens:
            yield order[start:end]
            start = end


def epoch(lengths: npt.NDArray[np.int64], batch_tokens: int, number: int) -> list[npt.NDArray[np.int64]]:
    """Return an epoch's batches: of like length within runs of the shuffled texts, and then shuffled themselves."""
    rng = np.random.default_rng((SEED, number))
    order = rng.permutation(len(lengths))
    # A run is long enough for batches of almost one length, short enough that every epoch mixes texts anew.
    runs = np.array_split(order, max(1, len(order) // 8192))
    batches = [run[batch] for run in runs for batch in by_length(lengths[run], batch_tokens)]
    return [batches[i] for i in rng.permutation(len(batches))]


def gather(tokens: Tokens, batch: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch's ids and mask."""
    return pad([tokens[int(text)] for text in batch])
