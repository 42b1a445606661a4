"""latewood itself: search, reranking on an index's codes, and exact MaxSim of arrays."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from compare.arm import FloatArray, Found, IdArray, Reranker, Searcher, aligned, joined
from latewood import Index, maxsim
from latewood.forms.ragged import Ragged


class Search(Searcher):
    """`Index.search_arrays`, built block by block in one commit.

    Timed: the call, from checking the queries to arrays of ids and scores.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def build(self, blocks: Iterable[Ragged], folder: Path) -> None:
        blocks = iter(blocks)
        first = next(blocks)
        with Index.create(folder, dim=first.dim, **self.settings).writer() as writer:
            count = 0
            for block in chain([first], blocks):
                writer.add(np.arange(count, count + len(block)), vectors=block)
                count += len(block)

    def open(self, folder: Path, threads: int) -> None:
        self.index = Index.open(folder)
        self.threads = threads

    def search(self, queries: Sequence[FloatArray], k: int, **setting: Any) -> Any:
        return self.index.search_arrays(queries, k, threads=self.threads, **setting)

    def found(self, answer: Any) -> list[Found]:
        return list(answer)


class Indexed(Reranker):
    """`Index.rerank_batch` with one query, arrays out.

    Timed: checking and preparing the query, finding the candidates by id, scoring all of them on their codes, sorting.
    """

    def __init__(self, codec: Any, bits: Any) -> None:
        self.codec = codec
        self.bits = bits

    def build(self, blocks: Iterable[Ragged], folder: Path) -> None:
        documents = joined(blocks)
        index = Index.create(folder, dim=documents.dim, codec=self.codec, bits=self.bits)
        index.add(np.arange(len(documents)), vectors=documents)

    def prepare(self, documents: Ragged, folder: Path, threads: int) -> None:
        self.index = Index.open(folder)
        self.threads = threads

    def rerank(self, query: FloatArray, candidates: IdArray) -> Any:
        return self.rerank_many([query], [candidates])[0]

    def rerank_many(self, queries: Sequence[FloatArray], candidates: Sequence[IdArray]) -> list[Any]:
        return list(self.index.rerank_arrays(queries, candidates, threads=self.threads))

    def scores(self, answer: Any, query: FloatArray, candidates: IdArray) -> FloatArray:
        ids, scores = answer
        return aligned(ids.tolist(), scores.tolist(), candidates)


class Exact(Reranker):
    """`latewood.maxsim` of the query and a list of arrays.

    Timed: picking the candidates, and scoring them where they lie.
    """

    def __init__(self, dtype: str, precision: Any) -> None:
        self.dtype = dtype
        self.precision = precision

    def prepare(self, documents: Ragged, folder: Path, threads: int) -> None:
        values = documents.values.astype(self.dtype)
        self.documents = np.split(values, documents.offsets[1:-1])
        self.threads = threads

    def rerank(self, query: FloatArray, candidates: IdArray) -> Any:
        chosen = [self.documents[i] for i in candidates]
        return maxsim(query, chosen, precision=self.precision, threads=self.threads)

    def scores(self, answer: Any, query: FloatArray, candidates: IdArray) -> FloatArray:
        scores: FloatArray = answer[0]
        return scores
