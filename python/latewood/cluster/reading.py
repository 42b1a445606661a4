"""One shard of a cluster, as a process that answers for it has it."""

import os
import time
from itertools import islice
from pathlib import Path
from typing import Any

from latewood.cluster.manifest import LARGEST, ClusterManifest, name_of
from latewood.cluster.merging import Batch, Found, Told
from latewood.errors import CorruptIndexError
from latewood.forms.candidates import many_lists
from latewood.index import found
from latewood.index.index import Index
from latewood.index.options import RerankOptions, SearchOptions
from latewood.index.queries import Queries

KEPT = 2
"""Generations that stay open: queries that began before a commit end on what they began with."""


class ShardReader:
    """Answers for one shard, at the generations of the cluster that it is asked for.

    Parameters
    ----------
    root : str
        The cluster's folder.
    place : int
        Of the shard among those of the manifest.
    """

    def __init__(self, root: str | os.PathLike[str], place: int) -> None:
        self._root = Path(root)
        self._place = place
        self._open: dict[int, Index] = {}

    def prepare(self, generation: int) -> int:
        """Open the shard as a generation of the cluster has it; how many documents it holds."""
        return len(self._at(generation))

    def search(self, generation: int, queries: Queries, only: Any, options: dict[str, Any], told: Told) -> Batch:
        """Search for each query."""
        index, begun = self._at(generation), time.perf_counter()
        of_shard = index._search(queries, only, SearchOptions.of(**options))  # noqa: SLF001  with what hits come from
        return _found(of_shard, told, begun)

    def rerank(
        self, generation: int, queries: Queries, candidates: list[list[Any]], options: dict[str, Any], told: Told
    ) -> Batch:
        """Score each query's candidates."""
        index, begun = self._at(generation), time.perf_counter()
        lists = many_lists(candidates, None, None, len(queries.vectors))
        of_shard = index._rerank(queries, lists, RerankOptions.of(**options))  # noqa: SLF001
        return _found(of_shard, told, begun)

    def rotated_vectors(self, generation: int, ids: Any) -> Any:
        """Give what the codes of documents stand for, as feedback takes it."""
        return self._at(generation)._core.rotated_vectors(ids)  # noqa: SLF001

    def frequencies(self, generation: int) -> tuple[Any, int]:
        """Say how many documents have a token in each cell, and how many there are."""
        index = self._at(generation)
        return index._core.frequencies(), len(index)  # noqa: SLF001

    def explain(self, generation: int, query: Any, key: Any, options: dict[str, Any]) -> Any:
        """Give the matrix behind a score, and the document's text."""
        index = self._at(generation)
        explanation = index.explain(query, key, **options)
        return explanation.matrix, index.documents([key])[0].text

    def documents(self, generation: int, ids: Any) -> list[Any]:
        """Give stored documents."""
        return self._at(generation).documents(ids)

    def vectors(self, generation: int, ids: Any) -> Any:
        """Give stored vectors."""
        return list(self._at(generation).vectors(ids))

    def count(self, generation: int, condition: Any) -> int:
        """Count documents."""
        return self._at(generation).count(filter=condition)

    def contains(self, generation: int, ids: Any) -> Any:
        """Say of each id whether the shard holds it."""
        return self._at(generation).contains(ids)

    def info(self, generation: int) -> dict[str, Any]:
        """Tell what the shard is and has."""
        return self._at(generation).info()

    def check(self, generation: int) -> list[str]:
        """Read every byte."""
        return self._at(generation).check()

    def _at(self, generation: int) -> Index:
        # One that holds no document is false.
        known = self._open.get(generation)
        return self._opened(generation) if known is None else known

    def _opened(self, generation: int) -> Index:
        path = self._root / name_of(generation)
        try:
            with path.open("rb") as file:
                manifest = ClusterManifest.from_json(file.read(LARGEST), os.fspath(path))
        except FileNotFoundError as error:
            message = f"{path} is gone: newer commits have come; refresh"
            raise CorruptIndexError(message) from error
        index = manifest.shards[self._place].open(self._root)
        # Others read the mapping meanwhile: it is never changed.
        kept = sorted({*self._open, generation})[-KEPT:]
        self._open = {number: one for number, one in {**self._open, generation: index}.items() if number in kept}
        return index


def _found(of_shard: found.Found, told: Told, begun: float) -> Batch:
    """Take what a call has found, and its seconds, which the queries of a batch share."""
    # The order of all documents is in their metadata.
    batch = of_shard.hits(with_documents=True)
    groups = iter(of_shard.groups(told.group_by))
    seconds = (time.perf_counter() - begun) / max(len(batch), 1)
    return Batch(Found.of(hits, islice(groups, len(hits)), seconds, documents=told.documents) for hits in batch)
