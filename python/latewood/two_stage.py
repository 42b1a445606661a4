"""Two stages: any first stage finds candidates, the index reranks them by MaxSim."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np

from latewood._ids import plain_ids
from latewood._options import count_of, threads_of
from latewood._queries import Scored, all_scored, distinct
from latewood._typing import VectorInput
from latewood.errors import InvalidInputError
from latewood.first_stage import (
    Bm25FirstStage,
    CallableFirstStage,
    FirstStage,
    candidates_of,
    name_of,
    texts_of,
)
from latewood.fusion import normalise, number_of, ranks
from latewood.index import Index
from latewood.ragged import to_ragged
from latewood.results import Hit

__all__ = ["Bm25FirstStage", "CallableFirstStage", "FirstStage", "TwoStage"]


class TwoStage:
    """Find candidates with a first stage and rerank them with an index.

    Parameters
    ----------
    first_stage : FirstStage or callable
        Gives candidates in a form that `latewood.first_stage` lists: ids, (id, score) pairs, hits of another index and
        more. Of an id that it gives twice for one query, the one with the best score stays, of equal ones the first.
    index : Index
        With an encoder, or pass query vectors to `search`.
    candidates : int
        How many the first stage is asked for.
    alpha, beta : float and int, optional
        Candidate pruning and early exit, as `Index.rerank` has them; not together with `fusion`. `alpha` needs scores
        from the first stage.
    fusion : None, "rrf" or float
        None orders by MaxSim alone; "rrf" by reciprocal ranks in both stages; a number between 0 and 1 is MaxSim's
        weight in the weighted sum of both stages' normalised scores, and needs scores from the first stage. The scores
        of hits are then those of the fusion.
    missing : {"error", "skip"}
        What to do about candidates that the index does not hold.

    Raises
    ------
    InvalidInputError
        An option that does not fit, at once.
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
        if not isinstance(cast("object", index), Index):
            message = f"index is a {type(index).__name__}; pass a latewood.Index"
            raise InvalidInputError(message)
        if isinstance(cast("object", fusion), str) and fusion != "rrf":
            message = f"fusion={fusion!r}; it is None, 'rrf' or a weight between 0 and 1"
            raise InvalidInputError(message)
        if fusion is not None and (alpha is not None or beta is not None):
            message = "fusion needs the MaxSim score of every candidate; leave out alpha and beta, or fusion"
            raise InvalidInputError(message)
        if not isinstance(cast("object", missing), str) or missing not in ("error", "skip"):
            message = f"missing must be 'error' or 'skip', not {missing!r}"
            raise InvalidInputError(message)
        self.first_stage = _as_first_stage(first_stage)
        self.index = index
        self.candidates = count_of(candidates, "candidates")
        self.alpha = None if alpha is None else number_of(alpha, "alpha")
        self.beta = None if beta is None else count_of(beta, "beta")
        self.fusion = fusion if fusion is None or isinstance(fusion, str) else number_of(fusion, "fusion", 1.0)
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

        Raises
        ------
        InvalidInputError
            A parameter that does not fit, before the first stage is asked; what it gives in no form that
            `latewood.first_stage` lists, or without the scores that `alpha` and a weighted `fusion` need. Messages name
            the stage and the query. What the first stage itself raises passes through.
        UnknownIdError
            A candidate that the index does not hold, unless `missing` is "skip".
        """
        if not isinstance(cast("object", query), str):
            message = f"the query is a {type(query).__name__}; the first stage takes a str"
            raise InvalidInputError(message)
        vectors = None if query_vectors is None else to_ragged(query_vectors, dim=self.index.dim, kind="query")
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
        texts, depth, threads = texts_of(queries, "queries"), count_of(k, "k"), threads_of(threads)
        vectors = None
        if query_vectors is not None:
            vectors = to_ragged(query_vectors, dim=self.index.dim, kind="query")
            if len(vectors) != len(texts):
                message = f"vectors of {len(vectors)} queries for {len(texts)} query texts; give one item for each"
                raise InvalidInputError(message)
        elif texts:
            self.index.require_encoder("a text query")
        if not texts:
            return []
        found = [distinct(*one) for one in candidates_of(self.first_stage, texts, max(self.candidates, depth))]
        self._check_scores(found)
        ranked: list[list[Hit]] = self.index.rerank_batch(
            texts if vectors is None else vectors,
            found,
            k=depth if self.fusion is None else None,
            alpha=self.alpha,
            beta=self.beta,
            missing=self.missing,
            threads=threads,
        )
        if self.fusion is None:
            return ranked
        return [self._fuse(hits, candidates, depth) for hits, candidates in zip(ranked, found, strict=True)]

    def _check_scores(self, found: list[Scored]) -> None:
        """Refuse ids alone where scores are needed."""
        plain = [position for position, (ids, _) in enumerate(found) if len(ids)]
        if all_scored(found, f"{name_of(self.first_stage)}: some candidate") or not plain:
            return
        if self.alpha is not None or isinstance(self.fusion, float):
            option, other = ("alpha", "beta") if self.alpha is not None else ("a weighted fusion", "fusion='rrf'")
            message = (
                f"{option} needs scores, and {name_of(self.first_stage)} gives ids only, as for query {plain[0]}; "
                f"let it give scores, or use {other}"
            )
            raise InvalidInputError(message)

    def _fuse(self, hits: list[Hit], candidates: Scored, k: int) -> list[Hit]:
        if not hits:
            return []
        ids, scores = candidates
        # Ids alone are in order, which is all that ranks need.
        values = -np.arange(len(ids), dtype=np.float64) if scores is None else scores
        first_of = dict(zip(plain_ids(ids), values.tolist(), strict=True))
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


def _as_first_stage(given: Any) -> FirstStage:
    # A class has the methods too, and none of them can be called.
    if isinstance(given, FirstStage) and not isinstance(given, type):
        return given
    if callable(given) and not isinstance(given, type):
        return CallableFirstStage(given)
    shown = f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
    message = f"{shown} is no first stage: it needs search and search_batch, or be callable"
    raise InvalidInputError(message)
