"""Queries and candidates in the forms that callers have → the flat arrays that the core takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latewood._arrays import integers, numbers
from latewood._ids import join_ids, normalise_ids
from latewood._typing import FloatArray, IdSequence, OffsetArray
from latewood.errors import InvalidInputError
from latewood.ragged import listed


def is_text_batch(queries: Any) -> bool:
    """Whether `queries` is a sequence of texts; a mixed one is an error further on."""
    return isinstance(queries, (list, tuple)) and len(queries) > 0 and isinstance(queries[0], str)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of several queries, flat."""

    ids: IdSequence
    offsets: OffsetArray
    scores: FloatArray | None


def one_list(candidates: Any, scores: Any) -> Candidates:
    """Candidates of one query: ids, a mapping id → score, or (id, score) pairs."""
    ids, found = _split(candidates, "the candidates")
    values = _scores(scores if scores is not None else found, len(ids), "the candidates")
    return Candidates(ids, np.array([0, len(ids)], dtype=np.int64), values)


def many_lists(candidates: Any, scores: Any, offsets: Any, queries: int) -> Candidates:
    """Candidates of several queries: a list for each query, or flat ids with offsets."""
    if offsets is not None:
        ids = normalise_ids(candidates, what="candidates")
        bounds = integers(offsets, "candidate offsets")
        if len(bounds) != queries + 1 or bounds[0] != 0 or bounds[-1] != len(ids) or (bounds[1:] < bounds[:-1]).any():
            message = (
                f"candidate offsets must have {queries + 1} entries, start at 0, never fall and end at {len(ids)}, "
                "the number of candidates"
            )
            raise InvalidInputError(message)
        return Candidates(ids, bounds, _scores(scores, len(ids), "the candidates"))
    lists = _lists(candidates, "candidate", queries)
    score_lists = None if scores is None else _lists(scores, "score", queries)
    parts: list[IdSequence] = []
    values: list[FloatArray] = []
    for position, entry in enumerate(lists):
        where = f"the candidates of query {position}"
        ids, found = _split(entry, where)
        given = _scores(score_lists[position] if score_lists is not None else found, len(ids), where)
        parts.append(ids)
        if given is not None:
            values.append(given)
    filled = sum(len(part) > 0 for part in parts)
    if values and sum(len(value) > 0 for value in values) != filled:
        message = "some candidate lists have scores and some do not; give scores for all or for none"
        raise InvalidInputError(message)
    bounds = np.zeros(queries + 1, dtype=np.int64)
    np.cumsum([len(part) for part in parts], out=bounds[1:])
    return Candidates(join_ids(parts, what="candidates"), bounds, np.concatenate(values) if values else None)


def _lists(given: Any, what: str, queries: int) -> Sequence[Any]:
    """Check that there is one list for each query."""
    lists = listed(given, f"the {what} lists")
    if isinstance(lists, np.ndarray) and lists.ndim > 1:
        lists = list(lists)
    if not isinstance(lists, (list, tuple)):
        message = f"the {what} lists are a {type(given).__name__}; pass one list for each of {queries} queries"
        raise InvalidInputError(message)
    if len(lists) != queries:
        message = f"{len(lists)} {what} lists for {queries} queries; give one list for each query"
        raise InvalidInputError(message)
    return lists


def _split(entry: Any, where: str) -> tuple[IdSequence, Any]:
    if type(entry) is list and entry and type(entry[0]) is str:
        return normalise_ids(entry, what=where), None
    if isinstance(entry, Mapping):
        return normalise_ids(entry.keys(), what=where), list(entry.values())
    if isinstance(entry, Sequence) and not isinstance(entry, (str, bytes)) and entry and isinstance(entry[0], tuple):
        if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in entry):
            message = f"{where}: tuples must be (id, score) pairs, all of them"
            raise InvalidInputError(message)
        return normalise_ids([key for key, _ in entry], what=where), [score for _, score in entry]
    return normalise_ids(entry, what=where), None


def _scores(scores: Any, count: int, where: str) -> FloatArray | None:
    if scores is None:
        return None
    values = numbers(listed(scores, f"the scores of {where}"), f"the scores of {where}")
    if values.size != count:
        message = f"{values.size} scores for {count} ids of {where}; give one score for each"
        raise InvalidInputError(message)
    if np.isnan(values).any():
        message = f"score {int(np.flatnonzero(np.isnan(values))[0])} of {where} is NaN"
        raise InvalidInputError(message)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)
