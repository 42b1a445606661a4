"""NumKong: a MaxSim kernel over one packed document at a time."""

from pathlib import Path
from typing import Any

import numkong
import numpy as np

from compare.arm import FloatArray, IdArray, Reranker
from latewood.forms.ragged import Ragged


class Packed(Reranker):
    """`maxsim_packed` of a packed query with each packed document.

    Timed: packing the query, and the loop over the candidates in Python. Packing the documents is not. In float32 the
    token that is best in int8 is scored again; where another one would have been best, the score is too low.
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def prepare(self, documents: Ragged, folder: Path, threads: int) -> None:
        self.documents = [self.pack(document) for document in documents]

    def rerank(self, query: FloatArray, candidates: IdArray) -> Any:
        packed = self.pack(query)
        return [numkong.maxsim_packed(packed, self.documents[i]) for i in candidates]

    def pack(self, vectors: FloatArray) -> Any:
        return numkong.maxsim_pack(numkong.Tensor(vectors).astype(self.dtype))

    def scores(self, answer: Any, query: FloatArray, candidates: IdArray) -> FloatArray:
        # It sums the smallest angular distances, 1 - cosine; the bench's vectors have unit length.
        return np.float32(len(query)) - np.array(answer, dtype=np.float32)
