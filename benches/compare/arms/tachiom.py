"""tachiom: token-aware clustering, a graph over the centroids, product quantisation."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tachiom import Tachiom

from compare.arm import FloatArray, Found, Searcher, joined
from latewood.forms.ragged import Ragged
from vectors import token_types


class Search(Searcher):
    """`search` of one query, `batch_search` of several, on an index with everything by default.

    Timed: the call, and for several queries their concatenation. `ef_search` is 1.5 times `k_centroids`, as in PyLate.
    """

    FILE = "index.bin"

    def build(self, blocks: Iterable[Ragged], folder: Path) -> None:
        documents = joined(blocks)
        types = token_types(len(documents.values))
        vectors = documents.values.astype(np.float16).view(np.uint16)
        index = Tachiom.build_from_arrays(vectors, types.astype(np.uint32), documents.lengths.astype(np.int32))
        folder.mkdir(parents=True)
        index.save(str(folder / self.FILE))

    def open(self, folder: Path, threads: int) -> None:
        self.index = Tachiom.load(str(folder / self.FILE))
        self.threads = threads

    def search(self, queries: Sequence[FloatArray], k: int, **setting: Any) -> Any:
        if "k_centroids" in setting:
            setting["ef_search"] = round(1.5 * setting["k_centroids"])
        if len(queries) == 1:
            scores, ids = self.index.search(queries[0], k, **setting)
            return scores[None], ids[None]
        offsets = np.cumsum([0, *map(len, queries)]).astype(np.uint64)
        tokens = np.concatenate(queries)
        return self.index.batch_search(tokens, len(queries), k, offsets=offsets, num_threads=self.threads, **setting)

    def found(self, answer: Any) -> list[Found]:
        # Where it finds fewer than k, the rest is filled with -inf.
        return [
            (keys[found].astype(np.int64), row[found])
            for row, keys in zip(*answer, strict=True)
            for found in [np.isfinite(row)]
        ]
