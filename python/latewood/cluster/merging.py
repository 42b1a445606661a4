"""What shards have found → what one index would have found."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import copysign
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latewood.cluster.order import order_of, without_order
from latewood.common.types import Id, Stats
from latewood.index.explanation import Explanation
from latewood.index.feedback import Added
from latewood.index.options import RankingOptions, RerankOptions, SearchOptions
from latewood.index.queries import Queries
from latewood.index.results import Hit, Hits, Plan, Source


class Row(NamedTuple):
    """A document that a shard has found."""

    id: Id
    score: float
    """Not divided by the number of the query's tokens."""
    order: int
    """Its place among all documents of the cluster."""
    group: str | None
    """What it has in common with all documents of its group; None where it stands for itself."""
    text: str | None
    metadata: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Told:
    """What shards tell of documents beside ids and scores."""

    group_by: str | None = None
    """The field by which rows have a group."""
    documents: bool = False
    """Whether rows have texts and metadata."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a shard has found for a query: plain values, which travel between processes."""

    rows: list[Row]
    """Best first."""
    stats: Stats
    plan: Plan
    seconds: float
    """What it took, in the shard's process."""

    @classmethod
    def of(cls, hits: Hits, groups: Iterable[str | None], seconds: float, *, documents: bool) -> "Found":
        """Take them from hits of a shard."""

        def row(hit: Hit, group: str | None) -> Row:
            document = (hit.text, without_order(hit.metadata)) if documents else (None, None)
            return Row(hit.id, hit.score, order_of(hit.metadata), group, *document)

        return cls(list(map(row, hits, groups)), hits.stats, hits.plan, seconds)


class Batch(list[Found]):
    """What a shard has found for a batch of queries, in columns where it is pickled: as objects that takes its time."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Give the columns."""
        columns = list(zip(*(row for one in self for row in one.rows), strict=True))
        plans: dict[Plan, Plan] = {}
        return _batch, (
            [len(one.rows) for one in self],
            columns,
            # One call has told all of them, by the same names.
            list(self[0].stats) if self else [],
            np.array([list(one.stats.values()) for one in self], np.float64),
            # Most queries have one plan, which is pickled once.
            [plans.setdefault(one.plan, one.plan) for one in self],
            [one.seconds for one in self],
        )


def _batch(
    counts: list[int],
    columns: list[tuple[Any, ...]],
    names: list[str],
    stats: NDArray[np.float64],
    plans: list[Plan],
    seconds: list[float],
) -> Batch:
    rows = map(Row, *columns) if columns else iter(())
    told = zip(counts, stats.tolist(), plans, seconds, strict=True)
    return Batch(
        Found(list(islice(rows, count)), dict(zip(names, values, strict=True)), plan, took)
        for count, values, plan, took in told
    )


Answers = list[dict[int, Found]]
"""What shards have found, by shard, for each query of a batch."""


def best(found: Mapping[int, Found]) -> list[Row]:
    """Bring what shards have found for a query in order: by falling score, equal ones in document order.

    Of each group only its best document stays. Where each shard gives the best of its k best groups, the first k are
    those of one index: what keeps the best document of a group from being among its own shard's are k groups that are
    better, and these are better in all shards together, too.
    """
    rows = sorted(
        (row for one in found.values() for row in one.rows),
        # As the core has it, 0.0 stands before -0.0.
        key=lambda row: (-row.score, copysign(1.0, row.score) < 0, row.order),
    )
    kept, known = [], set()
    for row in rows:
        if row.group is None or row.group not in known:
            known.add(row.group)
            kept.append(row)
    return kept


@dataclass(frozen=True, slots=True)
class Ranked:
    """What came of the searches and reranks that answer a batch of queries."""

    passes: Sequence[Answers]
    """In order; the hits are those of the last."""
    counted: Sequence[Stats] = ()
    """For each query, what was counted here and not by a shard."""
    found_by: int = -1
    """The pass that has found the documents."""
    expanded: Queries | None = None
    """With feedback, the queries as they were asked in the end."""
    added: Sequence[Added] = ()
    """And what joined each."""


class Origin(Source):
    """What the hits of a batch come from: the shard that owns a document explains it.

    Parameters
    ----------
    ranked : Ranked
    missing : collection of int
        Shards that have not answered: stats tell how many, and which by `missing_shard_…`.
    explain : callable
        Takes a query's place in the batch and an id.
    """

    def __init__(self, ranked: Ranked, missing: Iterable[int], explain: Callable[[int, Id], Explanation]) -> None:
        self._ranked = ranked
        self._missing = sorted(missing)
        self._explain = explain

    def explain(self, query: int, place: int, key: Id) -> Explanation:
        """See `Source.explain`."""
        return self._explain(query, key)

    def report(self, query: int) -> tuple[Stats, Plan]:
        """See `Source.report`."""
        passes = [answers[query] for answers in self._ranked.passes]
        told = {f"missing_shard_{place}": 1.0 for place in self._missing}
        if told:
            told["missing_shards"] = float(len(told))
        counted = self._ranked.counted[query] if self._ranked.counted else {}
        return {**_stats(passes), **counted, **told}, _plan(passes[self._ranked.found_by], passes[-1])

    def hits(self, query: int, tokens: int, options: RankingOptions) -> Hits:
        """Choose among what shards have found for one query, as a single index does.

        Parameters
        ----------
        query : int
        tokens : int
            Token vectors of the query, as it was given.
        options : RankingOptions
            Those of the search or rerank.
        """
        rows = best(self._ranked.passes[-1][query])
        k = options.k if isinstance(options, (SearchOptions, RerankOptions)) else None
        hits = []
        for rank, row in enumerate(
            rows[options.offset : None if k is None else options.offset + k], options.offset + 1
        ):
            score = float(np.float32(row.score) / np.float32(tokens)) if options.length_normalize else row.score
            if options.min_score is not None and score < options.min_score:
                break
            hits.append(Hit(row.id, score, rank, row.text, row.metadata, self, query))
        return Hits(hits, source=self, query=query)


def _stats(passes: Sequence[Mapping[int, Found]]) -> Stats:
    """Add up what shards tell; each one's time, and that of the slowest."""
    total: Stats = {}
    seconds: dict[int, float] = {}
    for found in passes:
        for place, one in found.items():
            seconds[place] = seconds.get(place, 0.0) + one.seconds
            for name, value in one.stats.items():
                total[name] = total.get(name, 0.0) + value
    if "queries" in total:
        total["queries"] = 1.0
    total["shards"] = float(len(seconds))
    total["slowest_shard_s"] = max(seconds.values(), default=0.0)
    return {**total, **{f"shard_{place}_s": own for place, own in sorted(seconds.items())}}


def _plan(found: Mapping[int, Found], scored: Mapping[int, Found]) -> Plan:
    """Tell how most shards have found candidates, and on what these were scored in the end.

    What shards did not have in common is left out.
    """
    plans, last = ([one.plan for one in part.values()] for part in (found, scored))
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
