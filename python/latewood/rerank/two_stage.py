"""Two stages: any first stage finds candidates, the index reranks them by MaxSim."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from time import perf_counter
from typing import Any, Unpack, cast

import numpy as np

from latewood.common.signatures import shows
from latewood.common.types import MissingRule, VectorInput
from latewood.encode.protocol import encode_queries
from latewood.errors import InvalidInputError
from latewood.forms.candidates import Scored, all_scored, distinct
from latewood.forms.values import share_of
from latewood.index.index import Index
from latewood.index.results import Hits
from latewood.rerank.first_stages.function import CallableFirstStage
from latewood.rerank.first_stages.lexical import LexicalFirstStage
from latewood.rerank.first_stages.protocol import FirstStage, candidates_of, name_of, refuse_async
from latewood.rerank.fusion import Fusion
from latewood.rerank.options import HybridOptions, TwoStageKeywords, TwoStageOptions
from latewood.rerank.stages import Asked, Pool, Stages
from latewood.rerank.tuning import TwoStageTuning, cheapest, judged, measure, ndcg, rank_fully, share_of_hits

FIRST = "first_stage"
"""What the first stage's score is called among those of both."""


class TwoStage(Stages):
    """Find candidates with a first stage and rerank them with an index.

    Parameters
    ----------
    first_stage : FirstStage or callable
        Gives candidates in a form that `FirstStage` lists: ids, (id, score) pairs, hits of another index and more. Of
        an id that it gives twice for one query, the one with the best score stays, of equal ones the first.
    index : Index
        With an encoder, or pass query vectors to `search`.
    depth, alpha, beta, prune_to, fusion, missing
        What searches do unless they are asked otherwise, as `TwoStageOptions` describes it.

    Raises
    ------
    InvalidInputError
        What is no first stage, such as a model; an option that does not fit. At once.

    Notes
    -----
    Candidate pruning and early exit are those of Martinico et al., "Multivector Reranking in the Era of Strong
    First-Stage Retrievers" (ECIR 2026).
    """

    options = TwoStageOptions

    def __init__(
        self,
        first_stage: FirstStage | Callable[[str, int], Any],
        index: Index,
        *,
        depth: int = 100,
        alpha: float | None = None,
        beta: int | None = None,
        prune_to: int | None = None,
        fusion: Fusion | None = None,
        missing: MissingRule = "error",
    ) -> None:
        super().__init__(index, depth=depth, alpha=alpha, beta=beta, prune_to=prune_to, fusion=fusion, missing=missing)
        self.first_stage = as_first_stage(first_stage)
        self._depth = depth

    @classmethod
    def from_index(cls, index: Index, **options: Unpack[TwoStageKeywords]) -> "TwoStage":
        """Find candidates by BM25 of the texts that the index stores.

        The first stage is `LexicalFirstStage(index)`, which can be made by itself for other languages. `missing` is
        "skip" unless it is given: a document may be deleted between the stages.
        """
        return cls(LexicalFirstStage(index), index, **{"missing": "skip", **options})  # type: ignore[arg-type]

    @shows(TwoStageOptions)
    def search(
        self,
        query: str,
        k: int = 10,
        *,
        query_vectors: VectorInput | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[TwoStageKeywords],
    ) -> Hits:
        """Find candidates for a text and rerank them.

        Parameters
        ----------
        query : str
        k : int
        query_vectors : [tokens, dim] array, optional
            Of the query, so that the index's encoder is not asked.
        weights : array [query tokens], optional
            From 0 to a million; multiplies what each query token adds to MaxSim.
        with_documents : bool
            Whether hits carry stored text and metadata.
        **options
            `filter`, `depth`, `alpha`, `fusion` and more, which `TwoStageOptions` describes; for this call alone. A
            first stage that takes a `filter` gets it too.

        Returns
        -------
        Hits
            A list of `Hit`, best first, with the `plan` of the second stage. `stats` has what it tells of a rerank, and
            how many candidates were `found` and hits are `left`, `first_stage_s` and `second_stage_s`, which is that of
            the encoder, too. With fusion, each hit has `stage_scores`: "first_stage", if it gave scores, and "maxsim".

        Raises
        ------
        InvalidInputError
            A parameter that does not fit, before the first stage is asked but for `weights`; what it gives in no form
            that `FirstStage` lists, or without the scores that `alpha` and a weighted `fusion` need. Messages name the
            stage and the query. What the first stage itself raises passes through.
        UnknownIdError
            A candidate that the index does not hold, unless `missing` is "skip".
        """
        return self._ask_one(query, k, query_vectors, weights, with_documents, options)

    @shows(TwoStageOptions)
    def search_batch(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        query_vectors: VectorInput | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[TwoStageKeywords],
    ) -> list[Hits]:
        """Do the same for several queries.

        Many queries go through both stages in parts of 8 to 64: while the first stage, in the caller's thread, is at
        one part, the second is at the part before. Seconds in `stats` are then a part's, divided by its queries. With
        `weights`, there is one part.
        """
        return self._ask(queries, k, query_vectors, weights, with_documents, options)

    def tune(
        self,
        queries: Sequence[str] | Mapping[str, str],
        qrels: Mapping[str, Mapping[str, float]] | Sequence[Mapping[str, float]] | None = None,
        *,
        recall: float = 0.99,
        k: int = 10,
        query_vectors: VectorInput | None = None,
        threads: int | None = None,
    ) -> TwoStageTuning:
        """Measure how few candidates must be scored to give what a full rerank gives, and go by that from now on.

        Depth, `alpha` and `beta` of this engine become those that score the fewest documents and keep the target;
        `fusion`, `prune_to` and `missing` are as they were set. The full rerank has the depth that the engine was made
        with, also when it has been tuned before. The first stage is asked once for each query.

        Parameters
        ----------
        queries : sequence of str, or mapping of query id to str
            A hundred typical ones or more; with few, what is found fits them and others less well.
        qrels : mapping of query id to {document id: relevance}, or a sequence with one such for each query, optional
            With them, `recall` is the share of the full rerank's mean nDCG at k that is to be kept, over the queries
            that have judgements. Without, it is the share of its k best hits.
        recall : float
            Above 0 and at most 1.
        k : int
        query_vectors : vectors of several queries, optional
            One item for each query, if `queries` is a sequence.
        threads : int, optional

        Returns
        -------
        TwoStageTuning
            What was measured.

        Raises
        ------
        InvalidInputError
            No queries, or none for which the first stage finds anything; qrels in another form, or without a relevant
            document among the hits.
        """
        target = share_of(recall, "recall")
        texts, judgements = judged(queries, qrels)
        if query_vectors is not None and len(texts) != len(queries):
            message = "some queries have no judgements, and vectors are given; leave out such queries and their vectors"
            raise InvalidInputError(message)
        full = {**self._defaults, "depth": self._depth, "alpha": None, "beta": None, "threads": threads}
        options = TwoStageOptions.of(k=k, **full)
        asked = self._asked(texts, query_vectors, None, None)
        if not texts:
            message = "there is no query to tune by; pass some"
            raise InvalidInputError(message)
        if asked.vectors is None:
            asked = replace(asked, vectors=encode_queries(self.index.require_encoder("a text query"), texts))
        pools = list(chain.from_iterable(self._find(part, options)[1] for part in asked.parts()))
        if not any(len(pool.ids) for pool in pools):
            message = f"{name_of(self.first_stage)} finds nothing for {len(texts)} queries: there is nothing to tune by"
            raise InvalidInputError(message)
        ranked = rank_fully(self.index, asked.vectors, pools, options)
        worth = (
            share_of_hits([one.top(one.count) for one in ranked]) if judgements is None else ndcg(judgements, options.k)
        )
        measured = measure(ranked, worth, options.asked, options.k)
        chosen = cheapest(measured, target)
        # A new mapping: copies of this engine have the old one.
        self._defaults = self._defaults | {"depth": chosen.depth, "alpha": chosen.alpha, "beta": chosen.beta}
        return TwoStageTuning(options.k, target, len(texts), measured[0], chosen, tuple(measured))

    def _shown(self) -> Iterator[str]:
        yield name_of(self.first_stage).removeprefix("the first stage ")
        yield repr(self.index)

    def _find(self, asked: Asked, options: HybridOptions) -> tuple[Asked, list[Pool]]:
        start = perf_counter()
        given = candidates_of(self.first_stage, asked.texts, options.asked, condition=asked.filter, start=asked.start)
        found = [distinct(*one) for one in given]
        self._check_scores(found, cast("TwoStageOptions", options), asked.start)
        seconds = {f"{FIRST}_s": (perf_counter() - start) / max(len(found), 1)}
        return asked, [self._pool(one, seconds) for one in found]

    def _pool(self, found: Scored, seconds: dict[str, float]) -> Pool:
        ids, scores = found
        if scores is None:
            return Pool(ids, ranked={FIRST: -np.arange(len(ids), dtype=np.float64)}, seconds=seconds)
        return Pool(ids, scores, {FIRST: scores}, seconds=seconds)

    def _check_scores(self, found: list[Scored], options: TwoStageOptions, start: int) -> None:
        """Refuse ids alone where scores are needed."""
        plain = [position for position, (ids, _) in enumerate(found, start) if len(ids)]
        if all_scored(found, f"{name_of(self.first_stage)}: some candidate", start) or not plain:
            return
        if options.alpha is not None or isinstance(options.fusion, float):
            option, other = ("alpha", "beta") if options.alpha is not None else ("a weighted fusion", "fusion='rrf'")
            message = (
                f"{option} needs scores, and {name_of(self.first_stage)} gives ids only, as for query {plain[0]}; "
                f"let it give scores, or use {other}"
            )
            raise InvalidInputError(message)


def as_first_stage(given: Any) -> FirstStage:
    """Give what finds candidates for a text, or refuse what does not."""
    # A class has the methods too, and none of them can be called.
    if isinstance(given, FirstStage) and not isinstance(given, type):
        refuse_async(given.search_batch, name_of(given))
        return given
    return CallableFirstStage(given)
