"""One shard of a cluster, as a process that answers for it has it."""

import time
from dataclasses import asdict
from itertools import accumulate, chain
from typing import Any

import numpy as np

from latewood.cluster.homes import Home
from latewood.cluster.order import order_of
from latewood.forms.candidates import Candidates
from latewood.forms.ragged import Ragged
from latewood.index import found as index_found
from latewood.index.index import Index
from latewood.index.options import RerankOptions, SearchOptions
from latewood.index.queries import Queries

KEPT = 2
"""Generations that stay open: queries that began before a commit end on what they began with."""
AT_ONCE = 4096
"""Documents whose texts and metadata are in memory together."""


class ShardReader:
    """Answers for one shard, at the commits of the cluster that it is asked for.

    Parameters
    ----------
    home : Home
        Where the cluster is read from.
    place : int
        Of the shard among those of the manifest.
    """

    def __init__(self, home: Home, place: int) -> None:
        self._home = home
        self._place = place
        self._open: dict[str, Index] = {}

    # What these take and give is plain, and flat: arrays, and what JSON has (`packing.py`). Each gives a sequence, and
    # is told the commit by its signature.

    def awake(self, commit: str) -> tuple[()]:
        """Say that somebody answers."""
        return ()

    def prepare(self, commit: str) -> tuple[int]:
        """Open the shard as a commit of the cluster has it; how many documents it holds."""
        return (len(self._at(commit)),)

    def search(
        self,
        commit: str,
        vectors: Any,
        offsets: Any,
        weights: Any,
        only: Any,
        options: dict[str, Any],
        group_by: str | None,
        with_documents: bool,
    ) -> tuple[Any, ...]:
        """Search for each query; what `merging.Found` has, in its order."""
        index, begun = self._at(commit), time.perf_counter()
        queries = Queries(Ragged(vectors, offsets), weights)
        found = index._search(queries, only, SearchOptions.of(**options))  # noqa: SLF001  as arrays
        return _columns(found, group_by, with_documents, begun)

    def rerank(
        self,
        commit: str,
        vectors: Any,
        offsets: Any,
        weights: Any,
        candidates: Any,
        bounds: Any,
        options: dict[str, Any],
        group_by: str | None,
        with_documents: bool,
    ) -> tuple[Any, ...]:
        """Score each query's candidates, which are those from `bounds[i]` to `bounds[i + 1]`; as `search`."""
        index, begun = self._at(commit), time.perf_counter()
        queries = Queries(Ragged(vectors, offsets), weights)
        found = index._rerank(queries, Candidates(candidates, bounds, None), RerankOptions.of(**options))  # noqa: SLF001
        return _columns(found, group_by, with_documents, begun)

    def orders(self, commit: str, ids: Any) -> tuple[Any]:
        """Give the places of documents among all of the cluster, int64 [ids]."""
        documents = self._at(commit).documents(ids)
        return (np.array([order_of(document.metadata) for document in documents], dtype=np.int64),)

    def ids(self, commit: str, condition: Any) -> tuple[Any, Any]:
        """Give the ids of documents, and their places among all of the cluster."""
        ids = self._at(commit).ids(filter=condition)
        parts = range(0, len(ids), AT_ONCE)
        orders = [self.orders(commit, ids[start : start + AT_ONCE])[0] for start in parts]
        return ids, np.concatenate([np.zeros(0, np.int64), *orders])

    def rotated_vectors(self, commit: str, ids: Any) -> tuple[Any, Any]:
        """Give what the codes of documents stand for, as feedback takes it: vectors and offsets."""
        return self._at(commit)._core.rotated_vectors(ids)  # noqa: SLF001

    def frequencies(self, commit: str) -> tuple[Any, int]:
        """Say how many documents have a token in each cell, and how many there are."""
        index = self._at(commit)
        return index._core.frequencies(), len(index)  # noqa: SLF001

    def explain(self, commit: str, vectors: Any, weights: Any, key: Any, rescore: Any) -> tuple[Any, str | None]:
        """Give the matrix behind a score, and the document's text."""
        return self._at(commit)._core.explain(vectors, key, weights, rescore)  # noqa: SLF001

    def documents(self, commit: str, ids: Any) -> list[tuple[str | None, str | None]]:
        """Give text and metadata of each document."""
        return self._at(commit)._core.documents(ids)  # noqa: SLF001

    def vectors(self, commit: str, ids: Any) -> list[Any]:
        """Give the stored vectors of each document."""
        return list(self._at(commit).vectors(ids))

    def count(self, commit: str, condition: Any) -> tuple[int]:
        """Count documents."""
        return (self._at(commit).count(filter=condition),)

    def contains(self, commit: str, ids: Any) -> list[bool]:
        """Say of each id whether the shard holds it."""
        told: list[bool] = self._at(commit).contains(ids).tolist()
        return told

    def info(self, commit: str) -> tuple[dict[str, Any]]:
        """Tell what the shard is and has."""
        return (self._at(commit).info(),)

    def check(self, commit: str) -> list[str]:
        """Read every byte."""
        return self._home.check(self._at(commit).check)

    def _at(self, commit: str) -> Index:
        # One that holds no document is false.
        known = self._open.get(commit)
        return self._opened(commit) if known is None else known

    def _opened(self, commit: str) -> Index:
        index = self._home.shard(commit, self._place)
        # Others read the mapping meanwhile: it is never changed. Signatures sort as generations do.
        kept = sorted({*self._open, commit})[-KEPT:]
        self._open = {name: one for name, one in {**self._open, commit: index}.items() if name in kept}
        return index


def _texts(documents: list[tuple[str | None, str | None]]) -> tuple[bytes, list[int], list[bool]]:
    """Join texts and metadata as UTF-8: the bytes, the bounds of each, and whether it is there."""
    given = list(chain.from_iterable(documents))
    parts = [b"" if text is None else text.encode() for text in given]
    return b"".join(parts), list(accumulate(map(len, parts), initial=0)), [text is not None for text in given]


def _columns(found: index_found.Found, group_by: str | None, with_documents: Any, begun: float) -> tuple[Any, ...]:
    """Take what a call has found, and its seconds, which the queries of a batch share."""
    arrays = found.arrays()
    groups = None if group_by is None else found.groups(group_by)
    documents = _texts(found.documents()) if with_documents else (None, None, None)
    told = [found.report(query) for query in range(len(arrays))]
    plans = list(dict.fromkeys(plan for _, plan in told))
    places = {plan: place for place, plan in enumerate(plans)}
    seconds = (time.perf_counter() - begun) / max(len(told), 1)
    return (
        arrays.ids,
        arrays.scores,
        arrays.offsets,
        groups,
        *documents,
        # One call has told all of them, by the same names.
        list(told[0][0]) if told else [],
        np.array([list(stats.values()) for stats, _ in told], np.float64),
        [asdict(plan) for plan in plans],
        [places[plan] for _, plan in told],
        seconds,
    )
