"""How few candidates a second stage must score to give what scoring all of them gives: measured on queries."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latewood.common.types import Id
from latewood.errors import InvalidInputError
from latewood.forms.candidates import items_of
from latewood.forms.values import shown
from latewood.rerank.first_stages.protocol import texts_of

ALPHAS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0, None)
BETAS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, None)
"""Settings that are tried, the least work first."""
HALVINGS = 3
"""Of the depth."""

Top = Sequence[Id]
"""The best hits of a query."""
Kept = Callable[[Sequence[Top]], float]


@dataclass(frozen=True, slots=True)
class Setting:
    """What was measured with one setting.

    Attributes
    ----------
    depth : int
    alpha : float or None
    beta : int or None
    kept : float
        Share of the full rerank's best hits that were the same, or of its nDCG.
    scored : float
        Documents scored for a query, on average.
    """

    depth: int
    alpha: float | None
    beta: int | None
    kept: float
    scored: float


@dataclass(frozen=True, slots=True)
class TwoStageTuning:
    """What `TwoStage.tune` has found.

    Attributes
    ----------
    k : int
        Hits that were wanted.
    target : float
        The share that was to be kept.
    queries : int
        Queries that it was measured with.
    full : Setting
        The full rerank: every candidate that the first stage found is scored.
    chosen : Setting
        The setting that scores the fewest documents of those that reach the target.
    measured : tuple of Setting
        All that were tried.
    """

    k: int
    target: float
    queries: int
    full: Setting
    chosen: Setting
    measured: tuple[Setting, ...]


def tried(depth: int, k: int, *, scored: bool) -> Iterator[tuple[int, float | None, Iterator[int | None]]]:
    """Give depths and alphas, and for each the betas, the least work first; alphas need first-stage scores."""
    for shallower in sorted({max(k, depth >> halving) for halving in range(HALVINGS + 1)}):
        for alpha in ALPHAS if scored else (None,):
            yield shallower, alpha, iter(BETAS)


def best_of(measured: Sequence[Setting], target: float) -> Setting:
    """Give the setting that scores the fewest documents and reaches the target; the full rerank always does."""
    reached = [one for one in measured if one.kept >= target]
    return min(reached, key=lambda one: (one.scored, -one.kept, one.depth))


def same_hits(full: Sequence[Top]) -> Kept:
    """Measure the share of the full rerank's hits that were found, on average over the queries that have any."""

    def kept(found: Sequence[Top]) -> float:
        shares = [len(set(top) & set(some)) / len(top) for top, some in zip(full, found, strict=True) if len(top)]
        return float(np.mean(shares)) if shares else 1.0

    return kept


def same_ndcg(full: Sequence[Top], judgements: Sequence[Mapping[str, float]], k: int) -> Kept:
    """Measure the share of the full rerank's nDCG at k."""

    def ndcg(found: Sequence[Top]) -> float:
        return float(np.mean([_ndcg(top, own, k) for top, own in zip(found, judgements, strict=True)]))

    whole = ndcg(full)
    if whole == 0.0:
        message = (
            "no relevant document is among the hits of the full rerank: there is nothing to keep; look at the qrels"
        )
        raise InvalidInputError(message)
    return lambda found: ndcg(found) / whole


def _ndcg(top: Top, judgements: Mapping[str, float], k: int) -> float:
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    gains = np.array([max(judgements.get(str(key), 0.0), 0.0) for key in top[:k]])
    ideal = np.array(sorted((max(gain, 0.0) for gain in judgements.values()), reverse=True)[:k])
    best = float(ideal @ discounts[: len(ideal)])
    return float(gains @ discounts[: len(gains)]) / best if best else 0.0


def judged(queries: Any, qrels: Any) -> tuple[list[str], list[dict[str, float]] | None]:
    """Bring queries and judgements to lists of the same order; queries without judgements are left out.

    Parameters
    ----------
    queries : sequence of str, or mapping of query id to str
    qrels : None, or mapping of query id to {document id: relevance}, or a sequence with one such for each query
    """
    if isinstance(queries, Mapping):
        if qrels is None:
            return texts_of(list(queries.values()), "queries"), None
        if not isinstance(qrels, Mapping):
            message = f"queries are a mapping by query id, and qrels a {type(qrels).__name__}; pass both in one form"
            raise InvalidInputError(message)
        own = [(text, qrels[key]) for key, text in queries.items() if key in qrels]
        texts, judgements = [text for text, _ in own], [judgement for _, judgement in own]
    else:
        texts = texts_of(queries, "queries")
        if qrels is None:
            return texts, None
        judgements = items_of(qrels, "qrels", "a list with a mapping of document id to relevance for each query")
        if len(judgements) != len(texts):
            message = f"{len(judgements)} qrels for {len(texts)} queries; give one mapping for each"
            raise InvalidInputError(message)
    return texts_of(texts, "queries"), [_relevance(own, position) for position, own in enumerate(judgements)]


def _relevance(judgement: Any, position: int) -> dict[str, float]:
    try:
        return {str(key): float(relevance) for key, relevance in judgement.items()}
    except (AttributeError, TypeError, ValueError) as error:
        message = f"qrels of query {position} are {shown(judgement)}; pass a mapping of document id to relevance"
        raise InvalidInputError(message) from error
