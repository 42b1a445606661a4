"""Combine the scores of two stages for the same candidates."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latewood._typing import Id
from latewood.errors import InvalidInputError


def normalise(scores: ArrayLike) -> NDArray[np.float64]:
    """Bring scores to 0 … 1 by their smallest and largest finite values; -inf becomes 0, equal scores become 1."""
    values = np.asarray(scores, dtype=np.float64)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.zeros_like(values)
    low, high = float(finite.min()), float(finite.max())
    if high == low:
        return np.where(np.isneginf(values), 0.0, 1.0)
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def weighted_fusion(first: ArrayLike, second: ArrayLike, weight: float = 0.5) -> NDArray[np.float64]:
    """Weighted sum of normalised scores: `(1 - weight) · first + weight · second`.

    Parameters
    ----------
    first, second : array-like [candidates]
        Scores of the same candidates in the same order.
    weight : float
        Share of the second stage, between 0 and 1.

    Returns
    -------
    float64 array [candidates]
    """
    if not 0.0 <= weight <= 1.0:
        message = f"the weight of a fusion lies between 0 and 1, not {weight}"
        raise InvalidInputError(message)
    left, right = normalise(first), normalise(second)
    if left.shape != right.shape:
        message = f"{left.size} first and {right.size} second scores; fusion needs both for each candidate"
        raise InvalidInputError(message)
    return (1.0 - weight) * left + weight * right


def ranks(scores: ArrayLike) -> NDArray[np.int64]:
    """Rank of each score, the largest being 1; ties keep their order."""
    values = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    result = np.empty(values.size, dtype=np.int64)
    result[order] = np.arange(1, values.size + 1)
    return result


def reciprocal_rank_fusion(*runs: Mapping[Id, float] | Sequence[Id], constant: float = 60.0) -> list[tuple[Id, float]]:
    """Fuse ranked lists by the sum of `1 / (constant + rank)`, after Cormack, Clarke and Büttcher (2009).

    Parameters
    ----------
    *runs : mapping of id to score, or sequence of ids best first
        A document that a list lacks gains nothing from it.
    constant : float
        The larger, the less the first ranks stand out.

    Returns
    -------
    list of (id, score)
        Best first; ties in the order in which the ids appear in the runs.
    """
    totals: dict[Id, float] = {}
    for run in runs:
        if isinstance(run, Mapping):
            ids = list(run)
            positions = ranks([run[key] for key in ids])
        else:
            ids = list(run)
            positions = np.arange(1, len(ids) + 1)
        for key, position in zip(ids, positions.tolist(), strict=True):
            totals[key] = totals.get(key, 0.0) + 1.0 / (constant + position)
    return sorted(totals.items(), key=lambda item: -item[1])
