"""How few candidates a second stage must score to give what scoring all of them gives: measured on queries."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latewood.common.types import Id
from latewood.errors import InvalidInputError
from latewood.forms.candidates import ScoreArray, items_of
from latewood.forms.ids import plain_ids
from latewood.forms.ragged import Ragged
from latewood.forms.values import number_of, shown
from latewood.index.index import Index
from latewood.index.results import Hits
from latewood.rerank.first_stages.protocol import texts_of
from latewood.rerank.fusion import fuse
from latewood.rerank.options import TwoStageOptions
from latewood.rerank.stages import Pool

ALPHAS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
BETAS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
DEPTHS = 6
"""Settings that are tried: depths from k to the full one lie evenly on a logarithmic scale."""
LARGEST = float(np.finfo(np.float64).max)

Top = Sequence[Id]
"""The best hits of a query."""


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


class FullRerank:
    """What the full rerank of one query's candidates tells of every setting: each scores the first so many of them.

    Parameters
    ----------
    ids : sequence of ids [candidates]
        In first-stage order.
    scores : float64 array [candidates], or None
        Of the first stage.
    places : int array [candidates]
        Of each in the order of MaxSim, by which `beta` goes.
    to : int
        How many best ones `alpha` and `beta` work towards.
    top : callable
        Number of candidates that are scored, from the first on → best hits.
    """

    def __init__(
        self, ids: Top, scores: ScoreArray | None, places: NDArray[np.intp], to: int, top: Callable[[int], Top]
    ) -> None:
        self.count = len(ids)
        self.has_scores = scores is not None or not ids
        self.top = top
        self._scores = scores
        self._pruned: dict[float, int] = {}
        self._to = min(to, self.count)
        self._exits: dict[int, int] = {}
        failures = 0
        for position in range(self._to, self.count):
            better = np.count_nonzero(places[:position] < places[position])
            failures = 0 if better < self._to else failures + 1
            self._exits.setdefault(failures, position + 1)

    def scored(self, depth: int, alpha: float | None, beta: int | None) -> int:
        """Count the documents that are scored with a setting."""
        count = min(depth, self.count)
        if alpha is not None and count >= self._to:
            count = min(count, self._kept(alpha))
        return count if beta is None else min(count, self._exits.get(beta, count))

    def _kept(self, alpha: float) -> int:
        if alpha not in self._pruned:
            self._pruned[alpha] = self.count
            if self._scores is not None and self.count:
                kth = float(self._scores[self._to - 1])
                least = kth if np.isinf(kth) else max(kth - alpha * abs(kth), -LARGEST)
                self._pruned[alpha] = int(np.count_nonzero(self._scores >= least))
        return self._pruned[alpha]


def rank_fully(index: Index, vectors: Ragged, pools: Sequence[Pool], options: TwoStageOptions) -> list[FullRerank]:
    """Score all candidates of all queries."""

    def every(**more: Any) -> list[Hits]:
        ids = [pool.ids for pool in pools]
        return index.rerank_batch(
            vectors, ids, missing=options.missing, threads=options.threads, with_documents=False, **more
        )

    hits = every()
    # Early exit goes by the scores on codes.
    by_codes = hits if all(own.plan.rescore is None for own in hits) else every(rescore="off")
    return [_ranked(*one, options) for one in zip(pools, hits, by_codes, strict=True)]


def _ranked(pool: Pool, hits: Hits, by_codes: Hits, options: TwoStageOptions) -> FullRerank:
    place = {hit.id: position for position, hit in enumerate(by_codes)}
    keys = plain_ids(pool.ids)
    order = range(len(keys)) if pool.order is None else np.argsort(-pool.order, kind="stable").tolist()
    rows = [row for row in order if keys[row] in place]
    ids = [keys[row] for row in rows]
    nth = {key: position for position, key in enumerate(ids)}
    columns = [column[rows] for column in (*pool.scores.values(), *pool.ranked.values())]
    # Places among the candidates, the best by MaxSim first.
    found = np.array([nth[hit.id] for hit in hits], dtype=np.intp)
    maxsim = np.array([hit.score for hit in hits])

    def top(count: int) -> Top:
        scored = found < count
        best = found[scored]
        if options.fusion is not None:
            fused = fuse([column[best] for column in columns], maxsim[scored], options.fusion)
            best = best[np.argsort(-fused, kind="stable")]
        return [ids[position] for position in best[: options.k].tolist()]

    scores = None if pool.order is None else pool.order[rows]
    places = np.array([place[key] for key in ids], dtype=np.intp)
    return FullRerank(ids, scores, places, options.prune_to or options.k, top)


def measure(ranked: Sequence[FullRerank], worth: Callable[[int, Top], float], depth: int, k: int) -> list[Setting]:
    """Measure all settings, the full rerank first.

    Parameters
    ----------
    ranked : sequence of FullRerank
    worth : callable
        Number of a query, and hits → what these are worth; NaN for a query that does not count.
    depth, k : int
    """
    depths = sorted({round(float(one)) for one in np.geomspace(min(k, depth), depth, DEPTHS)}, reverse=True)
    alphas = (None, *ALPHAS) if all(one.has_scores for one in ranked) else (None,)
    # What a setting scores is the first so many candidates of a query, and many settings score as many.
    value = lru_cache(maxsize=None)(lambda number, count: worth(number, ranked[number].top(count)))
    whole = _mean(value(number, one.count) for number, one in enumerate(ranked))
    if whole == 0.0:
        message = "no relevant document is among the hits of the full rerank: there is nothing to keep; look at qrels"
        raise InvalidInputError(message)
    settings = []
    for own, alpha, beta in product(depths, alphas, (None, *BETAS)):
        counts = [one.scored(own, alpha, beta) for one in ranked]
        kept = _mean(value(number, count) for number, count in enumerate(counts)) / whole
        settings.append(Setting(own, alpha, beta, kept, float(np.mean(counts))))
    return settings


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return sum(known) / len(known) if known else 1.0


def cheapest(measured: Sequence[Setting], target: float) -> Setting:
    """Give the setting that scores the fewest documents and reaches the target; the full rerank always does."""
    reached = [one for one in measured if one.kept >= target]
    return min(reached, key=lambda one: (one.scored, -one.kept, one.depth))


def share_of_hits(full: Sequence[Top]) -> Callable[[int, Top], float]:
    """Make a measure of the share of the full rerank's hits."""
    whole = [set(top) for top in full]
    return lambda number, top: len(whole[number].intersection(top)) / len(whole[number]) if whole[number] else np.nan


def ndcg(judgements: Sequence[Mapping[str, float]], k: int) -> Callable[[int, Top], float]:
    """Make a measure of nDCG at k."""
    gains = [{key: max(gain, 0.0) for key, gain in own.items()} for own in judgements]
    best = [_discounted(sorted(own.values(), reverse=True)[:k]) for own in gains]

    def of(number: int, top: Top) -> float:
        own = [gains[number].get(str(key), 0.0) for key in top[:k]]
        return _discounted(own) / best[number] if best[number] else 0.0

    return of


def _discounted(gains: Sequence[float]) -> float:
    return float(np.sum(np.array(gains) / np.log2(np.arange(2, len(gains) + 2))))


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
        if queries and not own:
            message = (
                f"none of {len(queries)} queries has judgements: there is no {shown(next(iter(queries)))} in qrels, "
                "whose ids are others"
            )
            raise InvalidInputError(message)
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
    if not isinstance(judgement, Mapping):
        message = f"qrels of query {position} are {shown(judgement)}; pass a mapping of document id to relevance"
        raise InvalidInputError(message)
    return {
        str(key): number_of(relevance, f"the relevance of document {shown(key)} for query {position}")
        for key, relevance in judgement.items()
    }
