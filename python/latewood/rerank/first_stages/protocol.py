"""What finds candidates for a text: a protocol of two methods, and how their results are read."""

import inspect
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from latewood.common.types import Id
from latewood.errors import DuplicateIdError, InvalidInputError
from latewood.forms.candidates import Scored, items_of, read_candidates
from latewood.forms.ids import plain_ids

FirstStageHits = tuple[Sequence[Id], Sequence[float]]
"""Ids and their scores, the best first."""


@runtime_checkable
class FirstStage(Protocol):
    """Anything that finds candidates for a text query.

    The candidates of a query have one of these forms:

    * ids, the best first: a list, an array, anything else that can be gone through in order;
    * a mapping of id to score, a tuple of ids and of scores, or (id, score) pairs;
    * hits: objects or mappings with an `id` (or `doc_id`, `corpus_id` and the like) and a `score`, or rows of a
      structured array.

    Scores are the higher the better. An id is never taken apart. All candidates have one form, and all or none have a
    score.

    A first stage whose `search_batch` has a parameter `filter` gets that of the search, where there is one: a mapping,
    or a sequence with one mapping or None for each query. One that has a method `score_batch(queries, candidates)`
    scores any document for a query, as `LexicalFirstStage.score_batch` describes it.
    """

    def search(self, query: str, k: int) -> Any:
        """Give at most k candidates."""

    def search_batch(self, queries: Sequence[str], k: int) -> Any:
        """Give the same for each query, in the order of `queries`."""


def name_of(first_stage: Any) -> str:
    """How messages call a first stage: by its class, or by the function that it is."""
    inner = getattr(first_stage, "function", first_stage)
    return f"the first stage {getattr(inner, '__qualname__', type(inner).__name__)}"


def refuse_async(call: Any, name: str) -> None:
    """Refuse what gives its candidates only to those who await them."""
    if inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None)):  # noqa: B004
        message = (
            f"{name} is async, and is called by what cannot await it; wrap it in a function that runs it to its end"
        )
        raise InvalidInputError(message)


def takes_filter(first_stage: Any) -> bool:
    """Whether a first stage can be given a filter."""
    # A method that is not written in Python need not say.
    with suppress(TypeError, ValueError):
        return "filter" in inspect.signature(first_stage.search_batch).parameters
    return False


def candidates_of(
    first_stage: Any, queries: Sequence[str], k: int, *, condition: Any = None, start: int = 0
) -> list[Scored]:
    """Ask a first stage for the candidates of each query, and read what it gives.

    Parameters
    ----------
    first_stage : FirstStage
    queries : sequence of str
    k : int
    condition : mapping or sequence of them, optional
        The filter, for a stage that takes one.
    start : int
        Place of the first query in the whole call, for messages.

    Raises
    ------
    InvalidInputError
        Results in no form that `FirstStage` lists, or not one for each query; the message names stage and query. What
        the stage itself raises passes through.
    """
    options = {"filter": condition} if condition is not None and takes_filter(first_stage) else {}
    found = first_stage.search_batch(queries, k, **options)
    where = f"the results of {name_of(first_stage)} for {len(queries)} queries"
    results = items_of(found, where, "a list with the candidates of each query")
    if len(results) != len(queries):
        message = f"{name_of(first_stage)} gave {len(results)} lists of candidates for {len(queries)} queries"
        raise InvalidInputError(message)
    return [
        read_candidates(result, f"the candidates of {name_of(first_stage)} for query {position} ({query[:60]!r})")
        for position, (query, result) in enumerate(zip(queries, results, strict=True), start)
    ]


def texts_of(texts: Any, what: str) -> list[str]:
    """Check that `texts` is a collection of str, and give it as a list."""
    items = items_of(texts, what, "a list of str")
    for position, text in enumerate(items):
        if not isinstance(text, str):
            message = f"{what}: entry {position} is a {type(text).__name__}, not a str"
            raise InvalidInputError(message)
    return list(items)


def unique_ids(ids: Any) -> Sequence[Id]:
    """Bring ids to plain ones, each only once."""
    keys = plain_ids(ids)
    seen: set[Id] = set()
    for position, key in enumerate(keys):
        if key in seen:
            message = f"the id {key!r} is given twice, again at position {position}; each document needs its own"
            raise DuplicateIdError(message)
        seen.add(key)
    return keys


def check_count(ids: Sequence[Id], expected: int, what: str) -> None:
    """Refuse ids that are not as many as what they name."""
    if len(ids) != expected:
        message = f"{len(ids)} ids for the {expected} {what}; give one for each"
        raise InvalidInputError(message)
