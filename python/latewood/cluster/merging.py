"""What shards have found → what one index would have found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latewood.cluster.order import order_of, without_order
from latewood.common.types import Id, Stats
from latewood.index.explanation import Explanation
from latewood.index.results import Hit, Hits, Plan, Source


@dataclass(frozen=True, slots=True)
class Found:
    """What a shard has found for a query: plain values, which travel between processes."""

    hits: list[tuple[Id, float, str | None, Mapping[str, Any] | None]]
    """Id, score, text and stored metadata, best first."""
    stats: Stats
    plan: Plan
    seconds: float
    """What it took, in the shard's process."""

    @classmethod
    def of(cls, hits: Hits, seconds: float) -> "Found":
        """Take them from hits of a shard."""
        return cls([(hit.id, hit.score, hit.text, hit.metadata) for hit in hits], hits.stats, hits.plan, seconds)


class Batch(list[Found]):
    """What a shard has found for a batch of queries, in columns where it is pickled: as objects that takes its time."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Give the columns."""
        hits = [hit for one in self for hit in one.hits]
        plans: dict[Plan, Plan] = {}
        return _batch, (
            [len(one.hits) for one in self],
            [hit[0] for hit in hits],
            np.array([hit[1] for hit in hits], np.float64),
            [hit[2] for hit in hits],
            [hit[3] for hit in hits],
            # One call has told all of them, by the same names.
            list(self[0].stats) if self else [],
            np.array([list(one.stats.values()) for one in self], np.float64),
            # Most queries have one plan, which is pickled once.
            [plans.setdefault(one.plan, one.plan) for one in self],
            [one.seconds for one in self],
        )


def _batch(
    counts: list[int],
    ids: list[Id],
    scores: NDArray[np.float64],
    texts: list[str | None],
    metadata: list[Mapping[str, Any] | None],
    names: list[str],
    stats: NDArray[np.float64],
    plans: list[Plan],
    seconds: list[float],
) -> Batch:
    hits = zip(ids, scores.tolist(), texts, metadata, strict=True)
    told = zip(counts, stats.tolist(), plans, seconds, strict=True)
    return Batch(
        Found(list(islice(hits, count)), dict(zip(names, values, strict=True)), plan, took)
        for count, values, plan, took in told
    )


class Origin(Source):
    """What the hits of a batch come from: the shard that owns a document explains it.

    Parameters
    ----------
    found : sequence of mappings of shard to Found
        For each query.
    missing : sequence of int
        Shards that have not answered: stats tell how many, and which by `missing_shard_…`.
    explain : callable
        Takes a query's place in the batch and an id.
    """

    def __init__(
        self,
        found: Sequence[Mapping[int, Found]],
        missing: Sequence[int],
        explain: Callable[[int, Id], Explanation],
    ) -> None:
        self._found = found
        self._missing = missing
        self._explain = explain

    def explain(self, query: int, place: int, key: Id) -> Explanation:
        """See `Source.explain`."""
        return self._explain(query, key)

    def report(self, query: int) -> tuple[Stats, Plan]:
        """See `Source.report`."""
        found = self._found[query]
        told = {f"missing_shard_{place}": 1.0 for place in self._missing}
        if told:
            told["missing_shards"] = float(len(told))
        return {**_stats(found), **told}, _plan([one.plan for one in found.values()])

    def hits(self, query: int, count: int | None, offset: int, *, with_documents: bool) -> Hits:
        """Put together what shards have found for one query.

        Hits come by falling score, those of one score in the order in which the cluster's documents were added, as in a
        single index.

        Parameters
        ----------
        query : int
        count : int or None
            Hits at most.
        offset : int
            How many of the best are left out.
        with_documents : bool
            Whether hits carry text and metadata.
        """
        rows = [
            (-score, order_of(metadata), key, text, metadata)
            for one in self._found[query].values()
            for key, score, text, metadata in one.hits
        ]
        rows.sort(key=lambda row: row[:2])
        end = None if count is None else offset + count
        hits = [
            Hit(
                key,
                -negative,
                rank,
                text if with_documents else None,
                without_order(metadata) if with_documents else None,
                self,
                query,
            )
            for rank, (negative, _, key, text, metadata) in enumerate(rows[offset:end], offset + 1)
        ]
        return Hits(hits, source=self, query=query)


def _stats(found: Mapping[int, Found]) -> Stats:
    """Add up what shards tell; each one's time, and that of the slowest."""
    total: Stats = {}
    for one in found.values():
        for name, value in one.stats.items():
            total[name] = total.get(name, 0.0) + value
    if "queries" in total:
        total["queries"] = 1.0
    total["shards"] = float(len(found))
    total["slowest_shard_s"] = max((one.seconds for one in found.values()), default=0.0)
    return {**total, **{f"shard_{place}_s": one.seconds for place, one in sorted(found.items())}}


def _plan(plans: Sequence[Plan]) -> Plan:
    """Tell how most shards have found candidates; what they did not have in common is left out."""
    if not plans:
        return Plan("none")
    busy = [plan for plan in plans if plan.gather != "none"] or list(plans)
    names = [plan.gather for plan in busy]
    first = busy[0]
    differing: dict[str, Any] = {
        name: None
        for name in Plan.__dataclass_fields__
        if name not in ("gather", "without_effect")
        and any(getattr(plan, name) != getattr(first, name) for plan in busy)
    }
    return replace(first, gather=max(set(names), key=names.count), **differing)
