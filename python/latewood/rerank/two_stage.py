"""Two stages: any first stage finds candidates, the index reranks them by MaxSim."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Unpack, cast

import numpy as np

from latewood.common.signatures import shows
from latewood.common.types import MissingRule, VectorInput
from latewood.errors import InvalidInputError
from latewood.forms.candidates import Scored, all_scored, distinct
from latewood.forms.ids import plain_ids
from latewood.forms.ragged import Ragged, to_ragged
from latewood.forms.values import count_of, flag_of, number_of, optional
from latewood.index.index import Index
from latewood.index.options import RankingKeywords, RankingOptions, RerankOptions
from latewood.index.results import Hits
from latewood.rerank.first_stages.function import CallableFirstStage
from latewood.rerank.first_stages.protocol import FirstStage, candidates_of, name_of, texts_of
from latewood.rerank.fusion import fused_ranks, weighted_fusion


class TwoStage:
    """Find candidates with a first stage and rerank them with an index.

    Parameters
    ----------
    first_stage : FirstStage or callable
        Gives candidates in a form that `FirstStage` lists: ids, (id, score) pairs, hits of another index and more. Of
        an id that it gives twice for one query, the one with the best score stays, of equal ones the first.
    index : Index
        With an encoder, or pass query vectors to `search`.
    depth : int
        How many candidates the first stage is asked for; more where a search needs more.
    alpha, beta : float and int, optional
        Candidate pruning and early exit, as `RerankOptions` has them; not together with `fusion`. `alpha` needs scores
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
        *,
        depth: int = 100,
        alpha: float | None = None,
        beta: int | None = None,
        fusion: Literal["rrf"] | float | None = None,
        missing: MissingRule = "error",
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
        self.first_stage = _as_first_stage(first_stage)
        self.index = index
        self.depth = count_of(depth, "depth")
        self.alpha = optional(number_of, alpha, "alpha", least=0.0)
        self.beta = optional(count_of, beta, "beta")
        self.fusion = fusion if fusion is None or fusion == "rrf" else number_of(fusion, "fusion", least=0.0, most=1.0)
        self.missing: MissingRule = RerankOptions(k=None, missing=missing).missing

    @shows(RankingOptions)
    def search(
        self,
        query: str,
        k: int = 10,
        *,
        query_vectors: VectorInput | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[RankingKeywords],
    ) -> Hits:
        """Find candidates for a text and rerank them.

        Parameters
        ----------
        query : str
        k : int
        query_vectors : [tokens, dim] array, optional
            Of the query, so that the index's encoder is not asked.
        weights : array [query tokens], optional
            Not negative; multiplies what each query token adds to MaxSim.
        with_documents : bool
            Whether hits carry stored text and metadata.
        **options
            `filter`, `group_by`, `offset`, `min_score`, `length_normalize` and `threads`, as `RerankOptions` describes
            them. With `fusion`, `offset` and `min_score` go by the fused scores, and there is no `group_by`.

        Returns
        -------
        Hits
            A list of `Hit`, best first, with `stats` and `plan` of the second stage.

        Raises
        ------
        InvalidInputError
            A parameter that does not fit, before the first stage is asked but for `weights`; what it gives in no form
            that `FirstStage` lists, or without the scores that `alpha` and a weighted `fusion` need. Messages name the
            stage and the query. What the first stage itself raises passes through.
        UnknownIdError
            A candidate that the index does not hold, unless `missing` is "skip".
        """
        if not isinstance(cast("object", query), str):
            message = f"the query is a {type(query).__name__}; the first stage takes a str"
            raise InvalidInputError(message)
        vectors = optional(self._vectors, query_vectors, "query_vectors")
        return self.search_batch(
            [query], k, query_vectors=vectors, weights=weights, with_documents=with_documents, **options
        )[0]

    @shows(RankingOptions)
    def search_batch(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        query_vectors: VectorInput | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[RankingKeywords],
    ) -> list[Hits]:
        """Do the same for several queries; both stages see them as one batch."""
        texts, wanted = texts_of(queries, "queries"), count_of(k, "k")
        chosen = RerankOptions(k=wanted, alpha=self.alpha, beta=self.beta, **options)
        chosen.check_count(len(texts))
        with_documents = flag_of(with_documents, "with_documents")
        if self.fusion is not None and chosen.group_by is not None:
            message = "group_by keeps the best of each value by MaxSim alone; leave out group_by, or fusion"
            raise InvalidInputError(message)
        vectors = optional(self._vectors, query_vectors, "query_vectors")
        if vectors is not None and len(vectors) != len(texts):
            message = f"vectors of {len(vectors)} queries for {len(texts)} query texts; give one item for each"
            raise InvalidInputError(message)
        if vectors is None and texts:
            self.index.require_encoder("a text query")
        if not texts:
            return []
        depth = max(self.depth, chosen.offset + wanted)
        found = [distinct(*one) for one in candidates_of(self.first_stage, texts, depth)]
        self._check_scores(found)
        everything: RankingKeywords = {**options, "offset": 0, "min_score": None}
        ranked = self.index.rerank_batch(
            texts if vectors is None else vectors,
            found,
            k=wanted if self.fusion is None else None,
            alpha=self.alpha,
            beta=self.beta,
            missing=self.missing,
            weights=weights,
            with_documents=with_documents,
            **(options if self.fusion is None else everything),
        )
        if self.fusion is None:
            return ranked
        return [self._fuse(hits, candidates, chosen) for hits, candidates in zip(ranked, found, strict=True)]

    def _vectors(self, query_vectors: VectorInput, _: str) -> Ragged:
        return to_ragged(query_vectors, dim=self.index.dim, kind="query")

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

    def _fuse(self, hits: Hits, candidates: Scored, options: RerankOptions) -> Hits:
        """Order by both stages' scores."""
        ids, scores = candidates
        # Ids alone are in order, which is all that ranks need.
        values = -np.arange(len(ids), dtype=np.float64) if scores is None else scores
        first_of = dict(zip(plain_ids(ids), values.tolist(), strict=True))
        first = np.array([first_of[hit.id] for hit in hits])
        second = np.array([hit.score for hit in hits])
        weight = self.fusion
        fused = weighted_fusion(first, second, weight) if isinstance(weight, float) else fused_ranks(first, second)
        least = -np.inf if options.min_score is None else options.min_score
        order = np.argsort(-fused, kind="stable")
        order = order[fused[order] >= least][options.offset :][: options.k]
        return hits.with_hits(
            hits[position].scored(float(fused[position]), rank)
            for rank, position in enumerate(order.tolist(), start=options.offset + 1)
        )


def _as_first_stage(given: Any) -> FirstStage:
    # A class has the methods too, and none of them can be called.
    if isinstance(given, FirstStage) and not isinstance(given, type):
        return given
    if callable(given) and not isinstance(given, type):
        return CallableFirstStage(given)
    shown = f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
    message = f"{shown} is no first stage: it needs search and search_batch, or be callable"
    raise InvalidInputError(message)
