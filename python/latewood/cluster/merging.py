"""What shards have found → what one index would have found."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latewood.cluster.order import without_order
from latewood.cluster.routing import chosen
from latewood.common.types import FloatArray, Id, IdSequence, OffsetArray, ResultIds, Stats
from latewood.forms.ids import join_ids, plain_ids
from latewood.index.explanation import Explanation
from latewood.index.feedback import Added
from latewood.index.found import metadata_of, plan_of
from latewood.index.options import RankingOptions, RerankOptions, SearchOptions
from latewood.index.queries import Queries
from latewood.index.results import Hit, Hits, Plan, SearchArrays, Source


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a shard has found for a batch of queries, best first, as it travels.

    Attributes
    ----------
    ids : int64 array or list of str [rows]
    scores : float32 array [rows]
        Not divided by the number of the query's tokens.
    offsets : int64 array [queries + 1]
        Those of query i are rows `offsets[i]` to `offsets[i + 1]`.
    groups : list of str or None [rows], or None
        What a document has in common with all of its group; None where it stands for itself.
    documents : bytes or None
        Text and metadata of each row, the latter as JSON, in UTF-8: most are never looked at.
    bounds : list of int [2 rows + 1], or None
        Where each of them begins and ends.
    given : list of bool [2 rows], or None
        Whether there is one.
    names : list of str
    stats : float64 array [queries, names]
        What was counted, by these names.
    plans : list of dict
    planned : list of int [queries]
        The place of each query's plan among these.
    seconds : float
        That a query took in the shard's process.
    """

    ids: IdSequence
    scores: FloatArray
    offsets: OffsetArray
    groups: list[str | None] | None
    documents: Any
    bounds: list[int] | None
    given: list[bool] | None
    names: list[str]
    stats: NDArray[np.float64]
    plans: list[dict[str, Any]]
    planned: list[int]
    seconds: float

    def report(self, query: int) -> tuple[Stats, Plan]:
        """Give what was counted for a query, and how its candidates were found."""
        return dict(zip(self.names, self.stats[query].tolist(), strict=True)), plan_of(self.plans[self.planned[query]])

    def document(self, row: int) -> tuple[str | None, str | None]:
        """Give text, and metadata as JSON, of a row; None where there is none, or where they have not travelled."""
        if self.bounds is None or self.given is None:
            return None, None
        first, middle, last = self.bounds[2 * row : 2 * row + 3]
        with_text, with_metadata = self.given[2 * row : 2 * row + 2]
        return (
            str(self.documents[first:middle], "utf-8") if with_text else None,
            str(self.documents[middle:last], "utf-8") if with_metadata else None,
        )


Answers = dict[int, Found]
"""What shards have found, by shard."""
Orders = Callable[[Mapping[int, Sequence[Id]]], Mapping[int, NDArray[np.int64]]]
"""Takes some documents of shards, and gives their places in the order of all; a shard may be missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """What all shards have found together, best first: rows with their query's number, and their rank from 0."""

    ids: ResultIds
    scores: FloatArray
    queries: NDArray[np.int64]
    ranks: NDArray[np.int64]
    groups: list[str | None] | None
    shards: NDArray[np.int64]
    rows: NDArray[np.int64]
    """Where they come from: the shard, and the row of what it has found."""

    def some(self, kept: NDArray[np.bool_]) -> "Merged":
        """Give some of the rows."""
        rows = np.flatnonzero(kept)
        return Merged(
            chosen(self.ids, rows),
            self.scores[rows],
            self.queries[rows],
            self.ranks[rows],
            _rows(self.groups, rows),
            self.shards[rows],
            self.rows[rows],
        )

    def offsets(self, queries: int) -> OffsetArray:
        """Give the bounds of each query's rows."""
        return np.searchsorted(self.queries, np.arange(queries + 1))


def best(found: Answers, orders: Orders, *, of_groups: bool = True) -> Merged:
    """Bring what shards have found in order: by falling score, equal ones in document order.

    A shard knows the order of its own documents. Where several have documents of one score, they are asked which places
    these have among all. Of each group only its best document stays, unless all are wanted. Where each shard gives the
    best of its k best groups, the first k are those of one index: what keeps the best document of a group from being
    among its own shard's are k groups that are better, and these are better in all shards together, too.
    """
    parts = list(found.values())
    shards = _joined([np.full(len(part.scores), shard) for shard, part in found.items()], np.int64)
    queries = _joined([np.repeat(np.arange(len(part.planned)), np.diff(part.offsets)) for part in parts], np.int64)
    scores = _joined([part.scores for part in parts], np.float32)
    ids = join_ids([part.ids for part in parts], what="ids")
    # As the core has it, 0.0 stands before -0.0.
    keys = (np.signbit(scores), -scores, queries)
    order = np.lexsort(keys)
    tied = order[_tied([key[order] for key in keys], shards[order])]
    if len(tied):
        by_shard = {shard: tied[shards[tied] == shard] for shard in np.unique(shards[tied]).tolist()}
        told = orders({shard: plain_ids(chosen(ids, own)) for shard, own in by_shard.items()})
        places = np.zeros(len(scores), np.int64)
        for shard, own in told.items():
            places[by_shard[shard]] = own
        order = np.lexsort((places, *keys))
    told_groups = [part.groups for part in parts if part.groups is not None]
    groups = list(chain.from_iterable(told_groups)) if told_groups else None
    if of_groups and groups is not None:
        order = order[_first_of_groups(queries[order].tolist(), _rows(groups, order) or [])]
    queries = queries[order]
    ranks = np.arange(len(order)) - np.searchsorted(queries, queries)
    rows = _joined([np.arange(len(part.scores)) for part in parts], np.int64)[order]
    return Merged(chosen(ids, order), scores[order], queries, ranks, _rows(groups, order), shards[order], rows)


def _joined(parts: Sequence[NDArray[Any]], kind: Any) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, kind), *parts])


def _rows(column: list[Any] | None, rows: NDArray[np.int64]) -> list[Any] | None:
    return None if column is None else [column[row] for row in rows.tolist()]


def _tied(keys: Sequence[NDArray[Any]], shards: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say of each row whether another shard has one of the same keys; all are in the order of the keys."""
    same = np.logical_and.reduce([key[1:] == key[:-1] for key in keys])
    runs = np.concatenate([np.zeros(min(len(shards), 1), np.int64), np.cumsum(~same)])
    mixed = runs[1:][same & (shards[1:] != shards[:-1])]
    return np.isin(runs, mixed)


def _first_of_groups(queries: Sequence[int], groups: Sequence[str | None]) -> list[int]:
    """Give the places of the first of each group of each query, and of those that stand for themselves."""
    known: set[tuple[int, str]] = set()
    kept = []
    for place, (query, group) in enumerate(zip(queries, groups, strict=True)):
        if group is None or (query, group) not in known:
            kept.append(place)
            if group is not None:
                known.add((query, group))
    return kept


@dataclass(frozen=True, slots=True)
class Ranked:
    """What came of the searches and reranks that answer a batch of queries."""

    merged: Merged
    """What the last of them has found."""
    passes: Sequence[Answers]
    """In order."""
    counted: Sequence[Stats] = ()
    """For each query, what was counted here and not by a shard."""
    found_by: int = -1
    """The pass that has found the documents."""
    expanded: Queries | None = None
    """With feedback, the queries as they were asked in the end."""
    added: Sequence[Added] = ()
    """And what joined each."""


class Origin(Source):
    """What came of a search or a rerank, and what its hits come from: the shard that owns a document explains it.

    Parameters
    ----------
    ranked : Ranked
    lengths : int64 array [queries]
        Token vectors of each query, as it was given.
    options : RankingOptions
    missing : collection of int
        Shards that have not answered: stats tell how many, and which by `missing_shard_…`.
    explain : callable
        Takes a query's place in the batch and an id.
    """

    def __init__(
        self,
        ranked: Ranked,
        lengths: OffsetArray,
        options: RankingOptions,
        missing: Iterable[int],
        explain: Callable[[int, Id], Explanation],
    ) -> None:
        self._ranked = ranked
        self._lengths = lengths
        self._options = options
        self._missing = sorted(missing)
        self._explain = explain

    def explain(self, query: int, place: int, key: Id) -> Explanation:
        """See `Source.explain`."""
        return self._explain(query, key)

    def report(self, query: int) -> tuple[Stats, Plan]:
        """See `Source.report`."""
        passes = [{place: one.report(query) for place, one in answers.items()} for answers in self._ranked.passes]
        told = {f"missing_shard_{place}": 1.0 for place in self._missing}
        if told:
            told["missing_shards"] = float(len(told))
        counted = self._ranked.counted[query] if self._ranked.counted else {}
        found, scored = ([plan for _, plan in passes[number].values()] for number in (self._ranked.found_by, -1))
        return {**self._stats(passes), **counted, **told}, _plan(found, scored)

    def hits(self) -> list[Hits]:
        """Choose among what shards have found, as a single index does."""
        rows = self._chosen()
        batch = [Hits(source=self, query=query) for query in range(len(self._lengths))]
        found = self._ranked.passes[-1]
        columns = (rows.queries, rows.scores, rows.ranks, rows.shards, rows.rows)
        for key, query, score, rank, shard, row in zip(
            plain_ids(rows.ids), *(column.tolist() for column in columns), strict=True
        ):
            text, stored = found[shard].document(row)
            metadata = without_order(metadata_of(key, stored))
            batch[query].append(Hit(key, score, rank + 1, text, metadata, self, query))
        return batch

    def arrays(self) -> SearchArrays:
        """Do the same, and give ids and scores as arrays."""
        rows, count = self._chosen(), len(self._lengths)
        told = [self.report(query) for query in range(count)]
        stats: Stats = {"queries": 0.0}
        for own, _ in told:
            for name, value in own.items():
                stats[name] = stats.get(name, 0.0) + value
        plans = [plan for _, plan in told] or [Plan("none")]
        plan = next((plan for plan in plans if plan.gather != "none"), plans[0])
        # As an index does, which cannot tell of which kind none would be.
        ids = rows.ids if len(rows.ids) else []
        return SearchArrays(ids, rows.scores, rows.offsets(count), stats, plan)

    def _chosen(self) -> Merged:
        rows, options = self._ranked.merged, self._options
        if options.length_normalize:
            rows = replace(rows, scores=rows.scores / self._lengths.astype(np.float32)[rows.queries])
        kept = rows.ranks >= options.offset
        if isinstance(options, (SearchOptions, RerankOptions)) and options.k is not None:
            kept &= rows.ranks < options.offset + options.k
        if options.min_score is not None:
            kept &= rows.scores.astype(np.float64) >= options.min_score
        return rows.some(kept)

    def _stats(self, passes: Sequence[Mapping[int, tuple[Stats, Plan]]]) -> Stats:
        """Add up what shards tell; each one's time, and that of the slowest."""
        total: Stats = {}
        seconds: dict[int, float] = {}
        for answers, told in zip(self._ranked.passes, passes, strict=True):
            for place, (stats, _) in told.items():
                seconds[place] = seconds.get(place, 0.0) + answers[place].seconds
                for name, value in stats.items():
                    total[name] = total.get(name, 0.0) + value
        if "queries" in total:
            total["queries"] = 1.0
        total["shards"] = float(len(seconds))
        total["slowest_shard_s"] = max(seconds.values(), default=0.0)
        return {**total, **{f"shard_{place}_s": own for place, own in sorted(seconds.items())}}


def _plan(plans: Sequence[Plan], last: Sequence[Plan]) -> Plan:
    """Tell how most shards have found candidates, and on what these were scored in the end.

    What shards did not have in common is left out.
    """
    if not plans:
        return Plan("none")
    busy = [plan for plan in plans if plan.gather != "none"] or plans
    names = [plan.gather for plan in busy]
    first = busy[0]
    differing: dict[str, Any] = {
        name: None
        for name in Plan.__dataclass_fields__
        if name not in ("gather", "without_effect")
        and any(getattr(plan, name) != getattr(first, name) for plan in busy)
    }
    # What had an effect in one shard had one.
    idle = [
        name
        for part in (busy, last)
        for name in (part[0].without_effect if part else ())
        if all(name in plan.without_effect for plan in part)
    ]
    told = replace(
        first, gather=max(set(names), key=names.count), without_effect=tuple(dict.fromkeys(idle)), **differing
    )
    return replace(told, rescore=last[0].rescore if last else told.rescore)
