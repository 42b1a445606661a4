"""Qdrant Edge: the vector database's own storage and scoring, in process."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import qdrant_edge as qdrant

from compare.arm import FloatArray, IdArray, Reranker, aligned, joined
from latewood.forms.ragged import Ragged

SEGMENT_KB = 10_000_000
"""Larger than any collection of the bench, so that there is one segment."""


class Shard(Reranker):
    """An exact `query` with a filter on the candidates' ids; no HNSW graph is built.

    Timed: the query and the filter to Qdrant's objects, and the call. With `bits` it scores on TurboQuant codes without
    looking at the originals again; else on float32 originals. It has a pool of search threads.
    """

    BATCH = 500

    def __init__(self, bits: str | None = None) -> None:
        self.bits = bits

    def config(self, threads: int | None) -> Any:
        codes = None
        if self.bits is not None:
            size = getattr(qdrant.TurboQuantBitSize, self.bits)
            codes = qdrant.TurboQuantQuantizationConfig(bits=size, memory=qdrant.Memory.Pinned)
        vectors = qdrant.EdgeVectorParams(
            size=self.dim,
            distance=qdrant.Distance.Dot,
            multivector_config=qdrant.MultiVectorConfig(qdrant.MultiVectorComparator.MaxSim),
            hnsw_config=qdrant.HnswIndexConfig(m=0, ef_construct=16, full_scan_threshold=SEGMENT_KB),
            quantization_config=codes,
        )
        optimizers = qdrant.EdgeOptimizersConfig(
            default_segment_number=1, max_segment_size=SEGMENT_KB, indexing_threshold=1
        )
        return qdrant.EdgeConfig(vectors=vectors, optimizers=optimizers, max_search_threads=threads)

    def build(self, blocks: Iterable[Ragged], folder: Path) -> None:
        documents = joined(blocks)
        self.dim = documents.dim
        folder.mkdir(parents=True, exist_ok=True)
        shard = qdrant.EdgeShard.create(str(folder), self.config(None))
        for start in range(0, len(documents), self.BATCH):
            positions = range(start, min(start + self.BATCH, len(documents)))
            points = [qdrant.Point(i, lists(documents[i]), {}) for i in positions]
            shard.update(qdrant.UpdateOperation.upsert_points(points))
        shard.optimize()
        shard.flush()
        shard.close()

    def prepare(self, documents: Ragged, folder: Path, threads: int) -> None:
        self.dim = documents.dim
        self.shard = qdrant.EdgeShard.load(str(folder), self.config(threads))

    def rerank(self, query: FloatArray, candidates: IdArray) -> Any:
        return self.shard.query(self.request(query, candidates))

    def rerank_many(self, queries: Sequence[FloatArray], candidates: Sequence[IdArray]) -> list[Any]:
        requests = [self.request(query, some) for query, some in zip(queries, candidates, strict=True)]
        answers: list[Any] = self.shard.query_batch(qdrant.QueryBatchRequest(requests))
        return answers

    def request(self, query: FloatArray, candidates: IdArray) -> Any:
        codes_only = qdrant.QuantizationSearchParams(rescore=False)
        return qdrant.QueryRequest(
            limit=len(candidates),
            query=qdrant.Query.Nearest(lists(query)),
            filter=qdrant.Filter(must=[qdrant.HasIdCondition(set(candidates.tolist()))]),
            params=qdrant.SearchParams(exact=self.bits is None, quantization=codes_only if self.bits else None),
        )

    def scores(self, answer: Any, query: FloatArray, candidates: IdArray) -> FloatArray:
        return aligned([point.id for point in answer], [point.score for point in answer], candidates)


def lists(vectors: FloatArray) -> list[list[float]]:
    """Give an array as it is; Qdrant reads arrays faster than the lists that its annotations ask for."""
    return cast("list[list[float]]", vectors)
