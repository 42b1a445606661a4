"""Combine the scores of two stages for the same candidates."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latewood.common.types import Id
from latewood.errors import InvalidInputError
from latewood.forms.candidates import ScoreArray, distinct, read_candidates, score_array
from latewood.forms.ids import plain_ids
from latewood.forms.values import number_of, shown

Fusion: TypeAlias = Literal["rrf"] | float
"""How the scores of several stages become one: by reciprocal ranks, or with this weight on MaxSim."""


def fusion_of(value: Any, what: str) -> Fusion | None:
    """Check that `value` says how to fuse, or None for not at all."""
    if value is None:
        return None
    if isinstance(value, str):
        if value == "rrf":
            return "rrf"
        message = f"{what} is {shown(value)}; it is 'rrf', a weight of MaxSim between 0 and 1, or None"
        raise InvalidInputError(message)
    return number_of(value, what, least=0.0, most=1.0)


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
    share = number_of(weight, "weight", least=0.0, most=1.0)
    left, right = normalise(first), normalise(second)
    if left.shape != right.shape:
        message = f"{left.size} first and {right.size} second scores; fusion needs both for each candidate"
        raise InvalidInputError(message)
    return (1.0 - share) * left + share * right


def ranks(scores: ArrayLike) -> NDArray[np.int64]:
    """Rank of each score, the largest being 1; ties keep their order."""
    values = score_array(scores, "the scores")
    order = np.argsort(-values, kind="stable")
    result = np.empty(values.size, dtype=np.int64)
    result[order] = np.arange(1, values.size + 1)
    return result


RANK_CONSTANT = 60.0
"""Of reciprocal rank fusion, as its paper has it."""


def fuse(first: Sequence[ScoreArray], maxsim: ScoreArray, fusion: Fusion) -> ScoreArray:
    """Fuse the scores that several stages gave to the same candidates.

    Parameters
    ----------
    first : sequence of float64 arrays [candidates]
        Of one or more first stages; NaN where a stage gave none, which adds nothing.
    maxsim : float64 array [candidates]
    fusion : "rrf" or float
        The sum of reciprocal ranks, or MaxSim's weight in the sum of normalised scores; first stages share the rest.

    Returns
    -------
    float64 array [candidates]
    """
    if isinstance(fusion, float):
        share = (1.0 - fusion) / len(first)
        parts = [fusion * normalise(maxsim), *(share * _where_known(normalise, scores) for scores in first)]
    else:
        parts = [_reciprocal(maxsim), *(_where_known(_reciprocal, scores) for scores in first)]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float64)


def _reciprocal(scores: ScoreArray) -> ScoreArray:
    return np.asarray(1.0 / (RANK_CONSTANT + ranks(scores)), dtype=np.float64)


def _where_known(function: Callable[[ScoreArray], ScoreArray], scores: ScoreArray) -> ScoreArray:
    known = ~np.isnan(scores)
    result = np.zeros(scores.size)
    result[known] = function(scores[known])
    return result


def reciprocal_rank_fusion(
    *runs: Mapping[Id, float] | Iterable[object], constant: float = RANK_CONSTANT
) -> list[tuple[Id, float]]:
    """Fuse ranked lists by the sum of `1 / (constant + rank)`, after Cormack, Clarke and Büttcher (2009).

    Parameters
    ----------
    *runs : candidates in any form of `latewood.FirstStage`
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
    offset = number_of(constant, "constant", least=0.0)
    totals: dict[Id, float] = {}
    for number, run in enumerate(runs):
        ids, scores = distinct(*read_candidates(run, f"the candidates of run {number}"))
        positions = np.arange(1, len(ids) + 1) if scores is None else ranks(scores)
        for key, position in zip(plain_ids(ids), positions.tolist(), strict=True):
            totals[key] = totals.get(key, 0.0) + 1.0 / (offset + position)
    return sorted(totals.items(), key=lambda item: -item[1])
