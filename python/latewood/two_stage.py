"""Two stages: any first stage finds candidates, the index reranks them by MaxSim."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np

from latewood._ids import plain_ids
from latewood._typing import Id, VectorInput
from latewood.errors import InvalidInputError
from latewood.first_stage import Bm25FirstStage, CallableFirstStage, FirstStage
from latewood.fusion import normalise, ranks
from latewood.index import Index
from latewood.results import Hit

__all__ = ["Bm25FirstStage", "CallableFirstStage", "FirstStage", "TwoStage"]


class TwoStage:
    """Find candidates with a first stage and rerank them with an index.

    Parameters
    ----------
    first_stage : FirstStage or callable
    index : Index
        With an encoder, or pass query vectors to `search`.
    candidates : int
        How many the first stage is asked for.
    alpha, beta : float and int, optional
        Candidate pruning and early exit, as `Index.rerank` has them; not together with `fusion`.
    fusion : None, "rrf" or float
        None orders by MaxSim alone; "rrf" by reciprocal ranks in both stages; a number between 0 and 1 is MaxSim's
        weight
        in the weighted sum of both stages' normalised scores. The scores of hits are then those of the fusion.
    missing : {"error", "skip"}
        What to do about candidates that the index does not hold.
    """

    def __init__(
        self,
        first_stage: FirstStage | Callable[[str, int], Any],
        index: Index,
        candidates: int = 100,
        alpha: float | None = None,
        beta: int | None = None,
        fusion: Literal["rrf"] | float | None = None,
        *,
        missing: Literal["error", "skip"] = "error",
    ) -> None:
        if not isinstance(cast("object", first_stage), FirstStage):
            if not callable(first_stage):
                message = (
                    f"{type(first_stage).__name__} is no first stage: it needs search and search_batch, or be callable"
                )
                raise InvalidInputError(message)
            first_stage = CallableFirstStage(first_stage)
        if fusion not in (None, "rrf") and not (isinstance(fusion, (int, float)) and 0.0 <= fusion <= 1.0):
            message = f"fusion={fusion!r}; it is None, 'rrf' or a weight between 0 and 1"
            raise InvalidInputError(message)
        if fusion is not None and (alpha is not None or beta is not None):
            message = "fusion needs the MaxSim score of every candidate; leave out alpha and beta, or fusion"
            raise InvalidInputError(message)
        if candidates < 1:
            message = f"candidates must be at least 1, not {candidates}"
            raise InvalidInputError(message)
        self.first_stage = cast("FirstStage", first_stage)
        self.index = index
        self.candidates = candidates
        self.alpha = alpha
        self.beta = beta
        self.fusion = fusion
        self.missing = missing

    def search(
        self, query: str, k: int = 10, *, query_vectors: VectorInput | None = None, threads: int | None = None
    ) -> list[Hit]:
        """Find candidates for a text and rerank them.

        Parameters
        ----------
        query : str
        k : int
        query_vectors : [tokens, dim] array, optional
            Of the query, so that the index's encoder is not asked.
        threads : int, optional

        Returns
        -------
        list of Hit, best first
        """
        vectors = None if query_vectors is None else [query_vectors]
        return self.search_batch([query], k, query_vectors=vectors, threads=threads)[0]

    def search_batch(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        query_vectors: VectorInput | None = None,
        threads: int | None = None,
    ) -> list[list[Hit]]:
        """Do the same for several queries; both stages see them as one batch."""
        if k < 1:
            message = f"k must be at least 1, not {k}"
            raise InvalidInputError(message)
        queries = list(queries)
        found = self.first_stage.search_batch(queries, max(self.candidates, k))
        if len(found) != len(queries):
            message = f"the first stage gave {len(found)} result lists for {len(queries)} queries"
            raise InvalidInputError(message)
        ranked: list[list[Hit]] = self.index.rerank_batch(
            queries if query_vectors is None else query_vectors,
            [list(ids) for ids, _ in found],
            [list(scores) for _, scores in found],
            k=k if self.fusion is None else None,
            alpha=self.alpha,
            beta=self.beta,
            missing=self.missing,
            threads=threads,
        )
        if self.fusion is None:
            return ranked
        return [self._fuse(hits, ids, scores, k) for hits, (ids, scores) in zip(ranked, found, strict=True)]

    def _fuse(self, hits: list[Hit], ids: Sequence[Id], scores: Sequence[float], k: int) -> list[Hit]:
        if not hits:
            return []
        first_of = dict(zip(plain_ids(ids), [float(score) for score in scores], strict=True))
        first = np.array([first_of[hit.id] for hit in hits])
        second = np.array([hit.score for hit in hits])
        if self.fusion == "rrf":
            fused = 1.0 / (60.0 + ranks(first)) + 1.0 / (60.0 + ranks(second))
        else:
            weight = float(self.fusion or 0.0)
            fused = (1.0 - weight) * normalise(first) + weight * normalise(second)
        order = np.argsort(-fused, kind="stable")[:k].tolist()
        return [
            replace(hits[position], score=float(fused[position]), rank=rank)
            for rank, position in enumerate(order, start=1)
        ]
