"""Hybrid search: what the index finds and what first stages find, every document scored by all."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from time import perf_counter
from typing import Any, Unpack

import numpy as np

from latewood.common.signatures import shows
from latewood.common.types import VectorInput
from latewood.encode.protocol import encode_queries
from latewood.errors import InvalidInputError
from latewood.forms.arrays import numbers
from latewood.forms.candidates import Scored, distinct, items_of
from latewood.forms.ids import plain_ids
from latewood.forms.values import shown
from latewood.forms.weights import split_weights
from latewood.index.index import Index
from latewood.index.queries import Queries
from latewood.index.results import Hits
from latewood.rerank.first_stages.lexical import LexicalFirstStage
from latewood.rerank.first_stages.protocol import FirstStage, candidates_of, name_of
from latewood.rerank.fusion import Fusion
from latewood.rerank.options import HybridKeywords, HybridOptions
from latewood.rerank.stages import MAXSIM, Asked, Pool, Stages
from latewood.rerank.two_stage import as_first_stage

LEXICAL = "bm25"
"""What BM25 of the stored texts is called among the stages."""
TAKEN = (MAXSIM, "gather", "prepare", "prune", "refine", "rescore", "score", "search", "second_stage", "top_k")
"""Names that scores and seconds of the index itself have."""


class Hybrid(Stages):
    """Search an index by MaxSim and by words at once.

    The candidates of a query are the best of the index's own search together with the best by BM25 of the stored texts;
    every one is scored by both, and the weighted sum of both scores orders them.

    Parameters
    ----------
    index : Index
        With texts. With an encoder, or pass query vectors to `search`.
    first_stages : FirstStage or callable, or mapping of name to such, optional
        Instead of BM25 of the stored texts, `{"bm25": LexicalFirstStage(index)}`: one of another language, a learned
        sparse retriever, several at once. What a stage finds and the index does not hold is passed over. A stage that
        has a method `score_batch`, as `LexicalFirstStage` has it, scores what the others have found as well; of any
        other, only what it found itself has a score, and for the rest it adds nothing.
    depth, fusion
        What searches do unless they are asked otherwise, as `HybridOptions` describes it.

    Raises
    ------
    InvalidInputError
        No index, or one of which no document has a text; what is no first stage; an option that does not fit.
    MissingDependencyError
        BM25 needs the extra `hybrid`.

    Notes
    -----
    On six collections, the mean of nDCG@10 was .874, that of the search alone .868 and that of BM25 .797: most was
    gained where BM25 alone keeps up, and some lost where it is far behind (docs/hybrid.md).
    """

    options = HybridOptions

    def __init__(
        self,
        index: Index,
        first_stages: FirstStage | Callable[[str, int], Any] | Mapping[str, Any] | None = None,
        *,
        depth: int = 100,
        fusion: Fusion | None = 0.7,
    ) -> None:
        super().__init__(index, depth=depth, fusion=fusion)
        if first_stages is None:
            first_stages = {LEXICAL: LexicalFirstStage(index)}
        elif isinstance(first_stages, LexicalFirstStage):
            first_stages = {LEXICAL: first_stages}
        elif not isinstance(first_stages, Mapping):
            first_stages = {"first_stage": first_stages}
        if not first_stages:
            message = "there is no first stage; leave first_stages out for BM25 of the stored texts"
            raise InvalidInputError(message)
        self.first_stages = {_name(name): as_first_stage(stage) for name, stage in first_stages.items()}

    @shows(HybridOptions)
    def search(
        self,
        query: str,
        k: int = 10,
        *,
        query_vectors: VectorInput | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[HybridKeywords],
    ) -> Hits:
        """Find the k best documents for a text.

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
            `filter`, `depth`, `fusion` and more, which `HybridOptions` describes; for this call alone. The filter holds
            for all stages.

        Returns
        -------
        Hits
            A list of `Hit`, best first. Each has `stage_scores`: "maxsim", and one for each first stage that scored it.
            `stats` has what it tells of the rerank of all candidates, and how many were `found` and hits are `left`;
            `search_s` for encoder and search, seconds of each first stage under its name (`bm25_s`), and
            `second_stage_s`.

        Raises
        ------
        InvalidInputError
            A parameter that does not fit, before any stage is asked but for `weights`; candidates in no form that
            `FirstStage` lists, or without the scores that a weighted `fusion` needs.
        """
        return self._ask_one(query, k, query_vectors, weights, with_documents, options)

    @shows(HybridOptions)
    def search_batch(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        query_vectors: VectorInput | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[HybridKeywords],
    ) -> list[Hits]:
        """Do the same for several queries, in parts as `TwoStage.search_batch` has them."""
        return self._ask(queries, k, query_vectors, weights, with_documents, options)

    def _shown(self) -> Iterator[str]:
        yield repr(self.index)
        yield ", ".join(f"{name}: {name_of(stage).rpartition(' ')[2]}" for name, stage in self.first_stages.items())

    def _find(self, asked: Asked, options: HybridOptions) -> tuple[Asked, list[Pool]]:
        seconds: dict[str, float] = {}
        start = perf_counter()
        vectors = asked.vectors
        if vectors is None:
            vectors = encode_queries(self.index.require_encoder("a text query"), asked.texts, dim=self.index.dim)
        queries = Queries(vectors, split_weights(asked.weights, vectors), asked.texts)
        own = self.index.search_arrays(
            queries,
            options.asked,
            filter=asked.filter,
            length_normalize=options.length_normalize,
            rescore=options.rescore,
            threads=options.threads,
        )
        found: list[list[Scored]] = [[(ids, None) for ids, _ in own]]
        seconds["search_s"] = (perf_counter() - start) / len(asked.texts)
        for name, stage in self.first_stages.items():
            start = perf_counter()
            given = candidates_of(stage, asked.texts, options.asked, condition=asked.filter, start=asked.start)
            found.append([distinct(*one) for one in given])
            seconds[f"{name}_s"] = (perf_counter() - start) / len(asked.texts)
        # Each once, in the order of the stages.
        united: list[Any] = [
            list(dict.fromkeys(chain.from_iterable(plain_ids(ids) for ids, _ in of_one)))
            for of_one in zip(*found, strict=True)
        ]
        pools = [Pool(ids, scores={}, ranked={}, seconds=seconds) for ids in united]
        for (name, stage), given in zip(self.first_stages.items(), found[1:], strict=True):
            start = perf_counter()
            self._score(name, stage, asked, pools, given, options)
            seconds[f"{name}_s"] += (perf_counter() - start) / len(asked.texts)
        return replace(asked, vectors=queries, weights=None), pools

    def _score(
        self, name: str, stage: FirstStage, asked: Asked, pools: list[Pool], found: list[Scored], options: HybridOptions
    ) -> None:
        """Give all candidates the scores of a stage."""
        score = getattr(stage, "score_batch", None)
        if score is not None:
            where = f"the scores of {name_of(stage)}"
            columns = items_of(score(asked.texts, [pool.ids for pool in pools]), where, "a list for each query")
            if [len(column) for column in columns] != [len(pool.ids) for pool in pools]:
                message = f"{where} are not one for each candidate of each query; score_batch must give as many"
                raise InvalidInputError(message)
            for pool, column in zip(pools, columns, strict=True):
                pool.scores[name] = numbers(column, where)
            return
        for row, (pool, (ids, scores)) in enumerate(zip(pools, found, strict=True), asked.start):
            if scores is None and len(ids) and isinstance(options.fusion, float):
                message = (
                    f"a weighted fusion needs scores, and {name_of(stage)} gives ids only, as for query {row}; let it "
                    "give scores, or use fusion='rrf'"
                )
                raise InvalidInputError(message)
            values = -np.arange(len(ids), dtype=np.float64) if scores is None else scores
            known = dict(zip(plain_ids(ids), values.tolist(), strict=True))
            column = np.array([known.get(key, np.nan) for key in plain_ids(pool.ids)])
            (pool.ranked if scores is None else pool.scores)[name] = column


def _name(name: Any) -> str:
    if isinstance(name, str) and name and name not in TAKEN:
        return name
    message = f"a first stage cannot be called {shown(name)}; its name is a str, and none of {', '.join(TAKEN)}"
    raise InvalidInputError(message)
