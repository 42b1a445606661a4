"""maxsim-cpu: exact MaxSim of arrays by libxsmm."""

from pathlib import Path
from typing import Any

import maxsim_cpu
import numpy as np

from compare.arm import FloatArray, IdArray, Reranker
from latewood.forms.ragged import Ragged


class Variable(Reranker):
    """`maxsim_scores_variable` of the query and a list of arrays.

    Timed: picking the candidates, and the call. Its threads are rayon's, set for the process.
    """

    def prepare(self, documents: Ragged, folder: Path, threads: int) -> None:
        self.documents = list(documents)

    def rerank(self, query: FloatArray, candidates: IdArray) -> Any:
        return maxsim_cpu.maxsim_scores_variable(query, [self.documents[i] for i in candidates])

    def scores(self, answer: Any, query: FloatArray, candidates: IdArray) -> FloatArray:
        return np.asarray(answer, dtype=np.float32)
