"""next-plaid: PLAID in Rust, lent to Python by the small crate `compare/next_plaid`."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compare.arm import FloatArray, Found, Searcher, joined
from latewood.forms.ragged import Ragged


class Search(Searcher):
    """`MmapIndex::search_batch` on an index with everything by default but the bits.

    Timed: the queries to its arrays, the call, and its answer to Python. The knobs are `n_ivf_probe`, `n_full_scores`,
    and `threshold`, which says whether cells are left out that score little for every token of the query.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def build(self, blocks: Iterable[Ragged], folder: Path) -> None:
        import next_plaid_arm

        documents = joined(blocks)
        folder.mkdir(parents=True)
        next_plaid_arm.build(str(folder), documents.values, documents.offsets, self.bits)

    def open(self, folder: Path, threads: int) -> None:
        # It searches on threads of its own, and those of its BLAS, which is told when it is loaded, would come on top.
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        import next_plaid_arm

        self.index = next_plaid_arm.Index(str(folder))

    def search(self, queries: Sequence[FloatArray], k: int, **setting: Any) -> Any:
        return self.index.search(list(queries), k, **setting)

    def found(self, answer: Any) -> list[Found]:
        return [(np.array(keys, np.int64), np.array(scores, np.float32)) for keys, scores in answer]
