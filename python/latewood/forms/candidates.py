"""Candidates in the forms that first stages give → the flat arrays that the core takes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from latewood.common.types import IdSequence, OffsetArray
from latewood.errors import InvalidInputError
from latewood.forms.arrays import as_array, as_list, laid_out, offsets_of, offsets_of_one
from latewood.forms.ids import join_ids, normalise_ids
from latewood.forms.values import shown

ScoreArray: TypeAlias = NDArray[np.float64]

ID_NAMES = ("id", "_id", "doc_id", "docid", "document_id", "corpus_id")
SCORE_NAMES = ("score", "_score")
CANDIDATES = "a list, the best first: of ids, or of (id, score) pairs"


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of several queries, flat."""

    ids: IdSequence
    offsets: OffsetArray
    scores: ScoreArray | None


def one_list(candidates: Any, scores: Any) -> Candidates:
    """Candidates of one query, in any form of `read_candidates`."""
    ids, found = read_candidates(candidates, "the candidates")
    values = found if scores is None else _scores(scores, len(ids), "the candidates")
    return Candidates(ids, offsets_of_one(len(ids)), values)


def many_lists(candidates: Any, scores: Any, offsets: Any, queries: int) -> Candidates:
    """Candidates of several queries: a list for each query, or flat ids with offsets."""
    if offsets is not None:
        ids = _ids(items_of(candidates, "the candidates"), "the candidates")
        bounds = offsets_of(
            items_of(offsets, "candidate offsets", "an integer array"),
            "candidate offsets",
            end=len(ids),
            items="candidates",
            count=queries,
        )
        values = None if scores is None else _scores(scores, len(ids), "the candidates")
        return Candidates(ids, bounds, values)
    lists = items_of(candidates, "the candidates", "one list for each query")
    own_scores = [None] * queries if scores is None else items_of(scores, "the scores", "one list for each query")
    for given, what in ((lists, "candidate"), (own_scores, "score")):
        if len(given) != queries:
            message = f"{len(given)} {what} lists for {queries} queries; give one list for each query"
            raise InvalidInputError(message)
    parts: list[Scored] = []
    for position, (entry, own) in enumerate(zip(lists, own_scores, strict=True)):
        where = f"the candidates of query {position}"
        ids, found = read_candidates(entry, where)
        parts.append((ids, found if own is None else _scores(own, len(ids), where)))
    scored = all_scored(parts, "some candidate")
    bounds = np.zeros(queries + 1, dtype=np.int64)
    np.cumsum([len(ids) for ids, _ in parts], out=bounds[1:])
    values = np.concatenate([found for _, found in parts if found is not None]) if scored else None
    return Candidates(join_ids([ids for ids, _ in parts], what="candidates"), bounds, values)


def of_run(queries: Any, run: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Take queries and a run apart: the ids, queries and candidates of those queries that the run has.

    Raises
    ------
    InvalidInputError
        No mappings, or candidates for a query that is not there.
    """
    for given, what in ((queries, "queries"), (run, "the run")):
        if not isinstance(given, Mapping):
            message = f"{what} must be a mapping by query id, not a {type(given).__name__}; use rerank_batch"
            raise InvalidInputError(message)
    unknown = next((key for key in run if key not in queries), None)
    if unknown is not None:
        message = f"the run has candidates for query {unknown!r}, and there is no such query"
        raise InvalidInputError(message)
    keys = [key for key in queries if key in run]
    return keys, [queries[key] for key in keys], [run[key] for key in keys]


# ── one list, in whatever form ───────────────────────────────────────────────────────────────────────────────────────

Scored: TypeAlias = tuple[IdSequence, ScoreArray | None]
"""Ids, and a score for each or None."""


def read_candidates(found: Any, where: str) -> Scored:
    """Take the candidates of one query apart.

    Parameters
    ----------
    found
        Ids, the best first: a list, array or any other iterable. With scores, the higher the better: a mapping id →
        score; a tuple of ids and of scores; or an iterable of (id, score) pairs, of objects with `id` and `score`, of
        mappings or of rows of a structured array with such keys. An id is never taken apart.
    where : str
        How messages call them.

    Raises
    ------
    InvalidInputError
        Anything else, entries in different forms, ids that are none, scores that are no numbers, or not as many.
    """
    # Reranking a hundred candidates takes well under a millisecond in all, and these are the usual forms.
    if (type(found) is list and found and type(found[0]) is str) or (
        type(found) is np.ndarray and found.ndim == 1 and found.dtype == np.int64
    ):
        return _ids(found, where), None
    if isinstance(found, Mapping):
        return _columns(list(found.keys()), list(found.values()), where)
    if hasattr(found, "items"):
        message = (
            f"{where} come as a {type(found).__name__}, which could be ids or id → score; pass a list or a dict of it"
        )
        raise InvalidInputError(message)
    if isinstance(found, tuple) and len(found) == 2 and _are_columns(found, where):
        return _columns(*found, where)
    entries = items_of(found, where)
    if isinstance(entries, np.ndarray):
        if entries.dtype.names is None:
            return _ids(entries, where), None
        entries = [dict(zip(entries.dtype.names, row.tolist(), strict=True)) for row in entries.reshape(-1)]
    samples = {type(entry): entry for entry in entries}
    readers = set(map(_reader, samples.values())) or {None}
    if len(readers) > 1:
        kinds = ", ".join(sorted(kind.__name__ for kind in samples))
        message = f"{where} come in several forms ({kinds}); give all of them in one"
        raise InvalidInputError(message)
    (reader,) = readers
    if reader is None:
        return _ids(entries, where), None
    pairs = [reader(entry, where) for entry in entries]
    lacking = sum(score is None for _, score in pairs)
    if lacking == len(pairs):
        return _ids([key for key, _ in pairs], where), None
    return _columns([key for key, _ in pairs], [score for _, score in pairs], where)


def all_scored(parts: Sequence[Scored], what: str, start: int = 0) -> bool:
    """Whether several lists have scores; some with and some without are refused, empty ones go with both.

    `start` is the number of the first query, for messages.
    """
    scored = [position for position, (_, scores) in enumerate(parts, start) if scores is not None]
    plain = [position for position, (ids, scores) in enumerate(parts, start) if scores is None and len(ids)]
    if scored and plain and any(len(parts[position - start][0]) for position in scored):
        message = (
            f"{what} lists have scores and some do not, such as those of queries {scored[0]} and {plain[0]}; "
            "give scores for all or for none"
        )
        raise InvalidInputError(message)
    return bool(scored) and not plain


def distinct(ids: IdSequence, scores: ScoreArray | None) -> Scored:
    """Leave out repetitions of an id: the one with the best score stays, of equal ones the first."""
    keys: Sequence[Any] = ids.tolist() if isinstance(ids, np.ndarray) else ids
    if len(set(keys)) == len(keys):
        return ids, scores
    order = range(len(keys)) if scores is None else np.argsort(-scores, kind="stable").tolist()
    best: dict[Any, int] = {}
    for position in order:
        best.setdefault(keys[position], position)
    kept = sorted(best.values())
    return _ids([keys[position] for position in kept], "ids"), None if scores is None else scores[kept]


def items_of(given: Any, where: str, wanted: str = CANDIDATES) -> Any:
    """Bring an ordered iterable to a list or a one-dimensional array.

    What has no order or is no collection is refused, with what is `wanted` instead.
    """
    if type(given) is list:
        return given
    if given is None or isinstance(given, (str, bytes, bytearray, Mapping)):
        _refuse(given, where, wanted)
    if isinstance(given, (set, frozenset)):
        message = f"{where} come as a {type(given).__name__}, which has no order; pass {wanted}"
        raise InvalidInputError(message)
    if hasattr(given, "__array__"):
        array = as_array(given, where)
        if array.ndim == 1:
            return array if array.dtype.names or array.dtype.kind in "iuf" else array.tolist()
        if array.ndim > 1:
            return list(array)
        _refuse(given, where, wanted)
    if not isinstance(given, Iterable) and not hasattr(given, "__getitem__"):
        _refuse(given, where, wanted)
    return as_list(given, where)


def _refuse(given: Any, where: str, wanted: str) -> NoReturn:
    found = "None" if given is None else f"one {type(given).__name__}"
    message = f"{where} come as {found}; pass {wanted}"
    raise InvalidInputError(message) from None


def _are_columns(found: tuple[Any, Any], where: str) -> bool:
    """Whether a tuple of two is (ids, scores), and not two candidates."""
    first, second = found
    if not _is_column(first) or not (second is None or _is_column(second)):
        return False
    if not all(type(part) is tuple and len(part) == 2 for part in found):
        return True
    columns = not any(_is_number(key) and not isinstance(key, (int, np.integer)) for key in first) and all(
        map(_is_number, second)
    )
    pairs = all(isinstance(key, (str, int, np.integer)) and _is_number(score) for key, score in found)
    if columns and pairs:
        message = f"{where} are {shown(found)}: two ids with their scores, or two (id, score) pairs; pass lists"
        raise InvalidInputError(message)
    return not pairs


def _is_column(value: Any) -> bool:
    if isinstance(value, (str, bytes, Mapping)) or _named(value, ID_NAMES) is not None:
        return False
    return isinstance(value, Iterable)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, (bool, np.bool_))


# ── one entry ────────────────────────────────────────────────────────────────────────────────────────────────────────

_Reader: TypeAlias = Callable[[Any, str], tuple[Any, Any]]


def _reader(entry: Any) -> _Reader | None:
    """Choose what takes such an entry apart into id and score; None for an id, and for what is none of it."""
    if isinstance(entry, (str, int)):
        return None
    if isinstance(entry, Mapping):
        return _from_mapping
    if _named(entry, ID_NAMES) is not None:
        return _from_object
    return _from_pair if isinstance(entry, (tuple, list)) else None


def _from_pair(entry: Any, where: str) -> tuple[Any, Any]:
    if len(entry) != 2 or entry[1] is None:
        message = f"{where} have the entry {shown(entry)}; tuples and lists are (id, score) pairs, the score a number"
        raise InvalidInputError(message)
    return entry[0], entry[1]


def _from_mapping(entry: Mapping[str, Any], where: str) -> tuple[Any, Any]:
    key = next((name for name in ID_NAMES if name in entry), None)
    if key is None:
        message = f"{where} have an entry with the keys {', '.join(map(str, entry)) or 'none'}; one must be 'id'"
        raise InvalidInputError(message)
    score = next((name for name in SCORE_NAMES if name in entry), None)
    return entry[key], None if score is None else _given(entry[score], where)


def _from_object(entry: Any, where: str) -> tuple[Any, Any]:
    key, score = _named(entry, ID_NAMES), _named(entry, SCORE_NAMES)
    return getattr(entry, key or ""), None if score is None else _given(getattr(entry, score), where)


def _named(entry: Any, names: Iterable[str]) -> str | None:
    return next((name for name in names if hasattr(entry, name)), None)


def _given(score: Any, where: str) -> Any:
    if score is None:
        message = f"{where} have an entry whose score is None; give a number, or no score at all"
        raise InvalidInputError(message)
    return score


# ── columns ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _columns(ids: Any, scores: Any, where: str) -> Scored:
    keys = _ids(items_of(ids, where), where)
    return keys, None if scores is None else _scores(scores, len(keys), where)


def _ids(keys: Any, where: str) -> IdSequence:
    try:
        return normalise_ids(keys)
    except InvalidInputError as error:
        message = f"{where}: {error}"
        raise InvalidInputError(message) from error


def _scores(scores: Any, count: int, where: str) -> ScoreArray:
    values = score_array(scores, f"the scores of {where}")
    if values.size != count:
        message = f"{values.size} scores for {count} ids of {where}; give one score for each"
        raise InvalidInputError(message)
    return values


def score_array(scores: Any, where: str) -> ScoreArray:
    """Bring scores to a float64 array; what is no number or NaN is refused."""
    array = as_array(items_of(scores, where, "a list of numbers"), where)
    # Integers beyond 64 bits and fractions come as objects.
    numbers = array.dtype.kind in "fiu" or (array.dtype.kind == "O" and all(map(_is_number, array.tolist())))
    if array.ndim != 1 or (array.size and not numbers):
        wrong = next((value for value in array.tolist() if not _is_number(value)), None)
        found = f"of shape {array.shape}" if array.ndim != 1 else f"such as {shown(wrong)}"
        message = f"{where} are not numbers, one for each candidate, but {found}"
        raise InvalidInputError(message)
    try:
        values = laid_out(array, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        message = f"{where} are not all numbers of 64 bits: {error}"
        raise InvalidInputError(message) from error
    if np.isnan(values).any():
        message = f"{where}: the one at position {int(np.flatnonzero(np.isnan(values))[0])} is NaN"
        raise InvalidInputError(message)
    return values
