"""Combine the scores of two stages for the same candidates."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latewood._ids import plain_ids
from latewood._queries import distinct, read_candidates, score_array
from latewood._typing import Id
from latewood.errors import InvalidInputError


def normalise(scores: ArrayLike) -> NDArray[np.float64]:
    """Bring scores to 0 … 1 by their smallest and largest finite values.

    -inf becomes 0 and inf 1; where all finite scores are equal, they become 1.
    """
    values = score_array(scores, "the scores")
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.where(np.isposinf(values), 1.0, 0.0)
    low, high = float(finite.min()), float(finite.max())
    if high == low:
        return np.where(np.isneginf(values), 0.0, 1.0)
    if not np.isfinite(high - low):
        values, low, high = values / 2, low / 2, high / 2
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

    Raises
    ------
    InvalidInputError
        Scores that are no numbers, NaN, or not as many in both; another weight.
    """
    share = number_of(weight, "weight", 1.0)
    left, right = normalise(first), normalise(second)
    if left.shape != right.shape:
        message = f"{left.size} first and {right.size} second scores; fusion needs both for each candidate"
        raise InvalidInputError(message)
    return (1.0 - share) * left + share * right


def number_of(value: Any, what: str, most: float = sys.float_info.max) -> float:
    """Check that `value` is a number from 0 to `most`, by default any finite one."""
    if (
        not isinstance(value, (int, float, np.integer, np.floating))
        or isinstance(value, bool)
        or not 0 <= value <= most
    ):
        limits = "a finite number of at least 0" if most > 1 else f"a number between 0 and {most:g}"
        message = f"{what} must be {limits}, not {value!r}"
        raise InvalidInputError(message)
    return float(value)


def ranks(scores: ArrayLike) -> NDArray[np.int64]:
    """Rank of each score, the largest being 1; ties keep their order."""
    values = score_array(scores, "the scores")
    order = np.argsort(-values, kind="stable")
    result = np.empty(values.size, dtype=np.int64)
    result[order] = np.arange(1, values.size + 1)
    return result


def reciprocal_rank_fusion(*runs: Mapping[Id, float] | Iterable[Any], constant: float = 60.0) -> list[tuple[Id, float]]:
    """Fuse ranked lists by the sum of `1 / (constant + rank)`, after Cormack, Clarke and Büttcher (2009).

    Parameters
    ----------
    *runs : candidates in any form of `latewood.first_stage`
        Ids best first, a mapping of id to score, hits. A document that a list lacks gains nothing from it; of one that
        a list has twice the best place counts.
    constant : float
        Not negative; the larger, the less the first ranks stand out.

    Returns
    -------
    list of (id, score)
        Best first; ties in the order in which the ids appear in the runs.

    Raises
    ------
    InvalidInputError
        Runs in no such form, NaN scores, another constant.
    """
    offset = number_of(constant, "constant")
    totals: dict[Id, float] = {}
    for number, run in enumerate(runs):
        ids, scores = distinct(*read_candidates(run, f"the candidates of run {number}"))
        positions = np.arange(1, len(ids) + 1) if scores is None else ranks(scores)
        for key, position in zip(plain_ids(ids), positions.tolist(), strict=True):
            totals[key] = totals.get(key, 0.0) + 1.0 / (offset + position)
    return sorted(totals.items(), key=lambda item: -item[1])
