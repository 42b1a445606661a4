"""latewood itself: reranking on an index's codes, and exact MaxSim of arrays."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compare.arm import Arm, FloatArray, IdArray, aligned
from latewood import Index, maxsim
from latewood.forms.ragged import Ragged


class Indexed(Arm):
    """`Index.rerank_batch` with one query, arrays out.

    Timed: checking and preparing the query, finding the candidates by id, scoring all of them on their codes, sorting.
    """

    def __init__(self, codec: Any, bits: Any) -> None:
        self.codec = codec
        self.bits = bits

    def build(self, documents: Ragged, folder: Path) -> None:
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


class Exact(Arm):
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
