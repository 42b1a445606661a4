"""fast-plaid: PLAID on libtorch. It does not rerank; the nearest is a search of the subset."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from fast_plaid.search import FastPlaid

from compare.arm import Arm, FloatArray, Found, IdArray, Reranker, Searcher, aligned, joined, pairs
from latewood.forms.ragged import Ragged


class Index(Arm):
    """An index with everything by default but the bits."""

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def build(self, blocks: Iterable[Ragged], folder: Path) -> None:
        index = FastPlaid(index=str(folder), device="cpu")
        index.create([torch.from_numpy(document) for document in joined(blocks)], nbits=self.bits)
        index.close()

    def open(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self.index = FastPlaid(index=str(folder), device="cpu")


class Search(Index, Searcher):
    """`search` of the whole index.

    Timed: the queries to tensors, and the call. The knobs are `n_ivf_probe` and `n_full_scores`.
    """

    def search(self, queries: Sequence[FloatArray], k: int, **setting: Any) -> Any:
        asked = [torch.from_numpy(query) for query in queries]
        return self.index.search(asked, top_k=k, show_progress=False, **setting)

    def found(self, answer: Any) -> list[Found]:
        return pairs(answer)


class Subset(Index, Reranker):
    """`search` with `subset`, as many hits asked for as there are candidates, everything else by default.

    Timed: the query to a tensor, and the call, which probes cells and scores the candidates it meets there.
    """

    def prepare(self, documents: Ragged, folder: Path, threads: int) -> None:
        self.open(folder, threads)

    def rerank(self, query: FloatArray, candidates: IdArray) -> Any:
        return self.rerank_many([query], [candidates])[0]

    def rerank_many(self, queries: Sequence[FloatArray], candidates: Sequence[IdArray]) -> list[Any]:
        found: list[Any] = self.index.search(
            [torch.from_numpy(query) for query in queries],
            top_k=max(map(len, candidates)),
            subset=[some.tolist() for some in candidates],
            show_progress=False,
        )
        return found

    def scores(self, answer: Any, query: FloatArray, candidates: IdArray) -> FloatArray:
        return aligned([key for key, _ in answer], [score for _, score in answer], candidates)
