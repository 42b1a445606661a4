"""What a search or a rerank may choose: the types of keyword arguments, and their checks before any work is done."""

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict, get_args

import numpy as np

from latewood._ids import normalise_ids
from latewood._options import choice_of, count_of, filter_json, number_of, optional, threads_of
from latewood._typing import Gather, Id, MissingRule, ScoreKind
from latewood.errors import InvalidInputError
from latewood.feedback import Feedback, checked

# Asking a type for its words takes longer than any check of them.
_GATHERERS, _MISSING, _SCORES = get_args(Gather), get_args(MissingRule), get_args(ScoreKind)


class SearchOptions(TypedDict, total=False):
    """Keyword arguments that `search` and `search_batch` share; described at `Searcher.search`."""

    filter: Mapping[str, Any] | None
    ids: Iterable[Id] | None
    weights: Any
    gather: Gather | None
    candidates: int | None
    probes: int | None
    threshold: float | None
    feedback: Feedback | None
    score: ScoreKind
    with_documents: bool
    threads: int | None


def checked_search(
    k: Any,
    filter: Any = None,  # noqa: A002
    ids: Any = None,
    gather: Any = None,
    candidates: Any = None,
    probes: Any = None,
    threshold: Any = None,
    feedback: Any = None,
    threads: Any = None,
) -> dict[str, Any]:
    """Check the options of a search, and give them as the core takes them."""
    return {
        "k": count_of(k, "k"),
        "filter": filter_json(filter),
        "ids": optional(normalise_ids, ids, "ids"),
        "gather": optional(choice_of, gather, "gather", _GATHERERS),
        "candidates": optional(count_of, candidates, "candidates"),
        "probes": optional(count_of, probes, "probes"),
        "threshold": optional(number_of, threshold, "threshold"),
        "feedback": checked(feedback),
        "threads": threads_of(threads),
    }


def checked_rerank(k: Any, alpha: Any, beta: Any, missing: Any, threads: Any) -> dict[str, Any]:
    """Check the options of a rerank, and give them as the core takes them."""
    if k is None and (alpha is not None or beta is not None):
        message = "alpha and beta work towards a top k; pass k="
        raise InvalidInputError(message)
    return {
        "k": optional(count_of, k, "k"),
        "alpha": optional(number_of, alpha, "alpha", least=0.0, most=float(np.finfo(np.float64).max)),
        "beta": optional(count_of, beta, "beta"),
        "missing": choice_of(missing, "missing", _MISSING),
        "threads": threads_of(threads),
    }


def checked_score(score: Any) -> ScoreKind:
    """Check which score is asked for."""
    return choice_of(score, "score", _SCORES)  # type: ignore[return-value]
