"""The asking half of an index: search, rerank, explain, and how much of the exact answer a search finds."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Unpack, overload

import numpy as np

from latewood import _core
from latewood._core import Results as CoreResults
from latewood._hits import build_hits, scaled, to_arrays
from latewood._ids import normalise_ids, one_id
from latewood._options import flags_of
from latewood._queries import Candidates, is_text_batch, many_lists, one_list
from latewood._search_options import SearchOptions, checked_rerank, checked_score, checked_search
from latewood._typing import FloatArray, Gather, Id, MissingRule, ScoreKind, VectorInput
from latewood.encode.protocol import Encoder, encode_queries
from latewood.errors import InvalidInputError
from latewood.feedback import NOTHING, Added, Feedback
from latewood.ragged import Ragged, listed, one_matrix, split_weights, to_ragged
from latewood.results import Explanation, Hit, SearchArrays

Stats = dict[str, float]


class Searcher(ABC):
    """Search and rerank on the core's snapshot. `Index` is the one implementation."""

    _encoder: Encoder | None

    @property
    @abstractmethod
    def _core(self) -> _core.Index: ...

    @property
    @abstractmethod
    def dim(self) -> int:
        """Dimensions of a token vector."""

    @abstractmethod
    def require_encoder(self, purpose: str) -> Encoder:
        """Give the encoder, or raise `EncoderRequiredError` with the remedy."""

    # ── search ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def search(
        self,
        query: str | VectorInput,
        k: int = ...,
        *,
        return_stats: Literal[False] = ...,
        **options: Unpack[SearchOptions],
    ) -> list[Hit]: ...

    @overload
    def search(
        self, query: str | VectorInput, k: int = ..., *, return_stats: Literal[True], **options: Unpack[SearchOptions]
    ) -> tuple[list[Hit], Stats]: ...

    def search(
        self,
        query: str | VectorInput,
        k: int = 10,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  the word that every search library uses
        ids: Iterable[Id] | None = None,
        weights: Any = None,
        gather: Gather | None = None,
        candidates: int | None = None,
        probes: int | None = None,
        threshold: float | None = None,
        feedback: Feedback | None = None,
        score: ScoreKind = "sum",
        with_documents: bool = True,
        return_stats: bool = False,
        threads: int | None = None,
    ) -> list[Hit] | tuple[list[Hit], Stats]:
        """Find the k documents with the highest MaxSim for one query.

        Parameters
        ----------
        query : str or [tokens, dim] array
            Text needs an encoder; vectors never do.
        k : int
            How many hits at most; fewer where fewer documents match.
        filter : mapping, optional
            Conditions on metadata, all of which must hold: `{"lang": "en"}`, `{"lang": ["en", "de"]}`,
            `{"year": {"gte": 2020, "lt": 2025}}`, `{"author.name": {"prefix": "Kn"}}`. The operators are eq, ne, in,
            gt, gte, lt, lte, contains, prefix and exists; the keys and, or and not combine filters:
            `{"or": [{"lang": "en"}, {"not": {"year": {"lt": 2020}}}]}`. Numbers compare by their exact value; values of
            different kinds are never equal and never in order; of a list in the metadata one element must match; a
            missing field is None. docs/filters.md has all rules.
        ids : sequence of str or int, optional
            Search only among these; those the index does not hold are passed over. All are of the index's kind.
        weights : array [query tokens], optional
            Not negative; multiplies what each query token adds.
        gather : {"exact", "flood", "postings"}, optional
            How candidates are found; chosen by the size of the index by default. "exact" scores every document.
        candidates : int, optional
            How many gathered documents are scored on their codes at most; scoring stops earlier where the rest
            cannot be expected among the hits.
        probes : int, optional
            Of "postings": cells visited for each query token.
        threshold : float, optional
            Of "postings": least centroid score of a visited cell.
        feedback : Feedback, optional
            Search twice, the second time with vectors of the first hits added to the query. Needs a trained residual
            codec. Filters and ids hold in both passes; scores, and `Hit.explain`, are those of the expanded query.
        score : {"sum", "mean"}
            "mean" divides by the number of query tokens, those added by feedback not counted.
        with_documents : bool
            Whether hits carry stored text and metadata.
        return_stats : bool
            Also give counts and seconds by stage; with feedback, those of both passes together.
        threads : int, optional
            As many as this process may use at once by default. The hits do not depend on it.

        Returns
        -------
        list of Hit, best first; or (hits, stats)

        Raises
        ------
        InvalidInputError
            k below 1, a query without tokens, with more than 4,096 of them or with NaN, an option that is not one;
            feedback from an index without cells. Options are checked before a text is encoded.
        DimensionError, EncoderRequiredError
        """
        options = checked_search(k, filter, ids, gather, candidates, probes, threshold, feedback, threads)
        score = checked_score(score)
        with_documents, return_stats = flags_of(with_documents=with_documents, return_stats=return_stats)
        queries = self._one_query(query)
        weights = split_weights(weights, queries)
        arrays, results = self._search(queries, weights, score, options)
        text = [query] if isinstance(query, str) else None
        added = Added.to_queries(results) if feedback is not None else None
        hits = self._hits(arrays, results, queries, text, weights, score, with_documents, added)[0]
        return (hits, results.stats) if return_stats else hits

    def search_batch(
        self,
        queries: Sequence[str] | VectorInput,
        k: int = 10,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        ids: Iterable[Id] | None = None,
        weights: Any = None,
        gather: Gather | None = None,
        candidates: int | None = None,
        probes: int | None = None,
        threshold: float | None = None,
        feedback: Feedback | None = None,
        score: ScoreKind = "sum",
        as_arrays: bool = False,
        with_documents: bool = True,
        return_stats: bool = False,
        threads: int | None = None,
    ) -> Any:
        """Search for several queries at once, over all threads.

        Parameters
        ----------
        queries : sequence of str, or vectors in any form of `latewood.ragged.to_ragged`
        as_arrays : bool
            Give `SearchArrays` instead of lists of `Hit`.
        **others
            As for `search`; `weights` is flat over all query tokens, or has one array for each query.

        Returns
        -------
        list of list of Hit, or SearchArrays; or (that, stats) with `return_stats`
        """
        options = checked_search(k, filter, ids, gather, candidates, probes, threshold, feedback, threads)
        score = checked_score(score)
        as_arrays, with_documents, return_stats = flags_of(
            as_arrays=as_arrays, with_documents=with_documents, return_stats=return_stats
        )
        vectors, texts = self._many_queries(queries)
        weights = split_weights(weights, vectors)
        arrays, results = self._search(vectors, weights, score, options)
        found: Any = arrays
        if not as_arrays:
            added = Added.to_queries(results) if feedback is not None else None
            found = self._hits(arrays, results, vectors, texts, weights, score, with_documents, added)
        return (found, results.stats) if return_stats else found

    # ── rerank ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def rerank(
        self,
        query: str | VectorInput,
        candidates: Any,
        scores: Any = None,
        *,
        k: int | None = None,
        alpha: float | None = None,
        beta: int | None = None,
        missing: MissingRule = "error",
        weights: Any = None,
        score: ScoreKind = "sum",
        with_documents: bool = True,
        return_stats: bool = False,
        threads: int | None = None,
    ) -> Any:
        """Order somebody else's candidates by MaxSim on the stored vectors.

        Parameters
        ----------
        query : str or [tokens, dim] array
        candidates : sequence of ids, mapping id → first-stage score, or sequence of (id, score)
            Or any other form that a first stage gives; `latewood.first_stage` lists them.
        scores : sequence of float, optional
            First-stage scores of the candidates, the higher the better.
        k : int, optional
            How many to give back; all of them by default.
        alpha : float, optional
            Candidate pruning: drop candidates whose first-stage score is below `s_k - alpha * |s_k|`, `s_k` being the
            k-th first-stage score; below `s_k` itself if that is infinite. Smaller prunes more. Needs `scores` and `k`.
        beta : int, optional
            Early exit: in first-stage order, stop after this many candidates in a row that do not enter the top k.
            Needs `k`.
        missing : {"error", "skip"}
            What to do about candidates that the index does not hold.
        weights, score, with_documents, return_stats, threads
            As for `search`.

        Returns
        -------
        list of Hit, best first; or (hits, stats)

        Raises
        ------
        UnknownIdError
            A candidate that the index does not hold, unless `missing` is "skip".
        InvalidInputError, DimensionError, EncoderRequiredError

        Notes
        -----
        Candidate pruning and early exit are those of "Multivector Reranking in the Era of Strong First-Stage
        Retrievers", defined for negative scores and short lists too.
        """
        options = checked_rerank(k, alpha, beta, missing, threads)
        score = checked_score(score)
        with_documents, return_stats = flags_of(with_documents=with_documents, return_stats=return_stats)
        chosen = one_list(candidates, scores)
        queries = self._one_query(query)
        weights = split_weights(weights, queries)
        arrays, results = self._rerank(queries, chosen, weights, score, options)
        text = [query] if isinstance(query, str) else None
        hits = self._hits(arrays, results, queries, text, weights, score, with_documents)[0]
        return (hits, results.stats) if return_stats else hits

    def rerank_batch(
        self,
        queries: Sequence[str] | Mapping[str, Any] | VectorInput,
        candidates: Any,
        scores: Any = None,
        *,
        offsets: Any = None,
        k: int | None = None,
        alpha: float | None = None,
        beta: int | None = None,
        missing: MissingRule = "error",
        weights: Any = None,
        score: ScoreKind = "sum",
        as_arrays: bool = False,
        with_documents: bool = True,
        return_stats: bool = False,
        threads: int | None = None,
    ) -> Any:
        """Rerank the candidates of several queries at once.

        Parameters
        ----------
        queries : sequence of str, vectors, or mapping of query id to either
        candidates : one list (or mapping, or pairs) for each query; flat ids with `offsets`; or, where `queries` is a
            mapping, a run: a mapping of query id to {document id: first-stage score}
        scores : sequence of sequences, or flat array, optional
        offsets : int64 array [queries + 1], optional
            Bounds of each query's candidates in flat `candidates`.
        as_arrays : bool
            Give `SearchArrays` instead of lists of `Hit`.
        **others
            As for `rerank`.

        Returns
        -------
        list of list of Hit, or SearchArrays, or for a run a mapping of query id to list of Hit; or (that, stats)
        """
        options = checked_rerank(k, alpha, beta, missing, threads)
        score = checked_score(score)
        as_arrays, with_documents, return_stats = flags_of(
            as_arrays=as_arrays, with_documents=with_documents, return_stats=return_stats
        )
        keys: list[str] | None = None
        if isinstance(queries, Mapping):
            if not isinstance(candidates, Mapping):
                message = (
                    f"queries are a mapping and the candidates a {type(candidates).__name__}; pass both as "
                    "mappings, or both as lists"
                )
                raise InvalidInputError(message)
            keys = [key for key in queries if key in candidates]
            if len(keys) != len(candidates):
                unknown = next(key for key in candidates if key not in queries)
                message = f"the run has candidates for query {unknown!r}, and there is no such query"
                raise InvalidInputError(message)
            queries, candidates = [queries[key] for key in keys], [candidates[key] for key in keys]
        vectors, texts = self._many_queries(queries)
        chosen = many_lists(candidates, scores, offsets, len(vectors))
        weights = split_weights(weights, vectors)
        arrays, results = self._rerank(vectors, chosen, weights, score, options)
        found: Any = arrays
        if not as_arrays:
            hits = self._hits(arrays, results, vectors, texts, weights, score, with_documents)
            found = dict(zip(keys, hits, strict=True)) if keys is not None else hits
        return (found, results.stats) if return_stats else found

    # ── explain and measure ──────────────────────────────────────────────────────────────────────────────────────────

    def explain(
        self,
        query: str | VectorInput,
        id: Id,  # noqa: A002
        *,
        weights: Any = None,
        score: ScoreKind = "sum",
    ) -> Explanation:
        """Show how a document's score comes about, token by token.

        Parameters
        ----------
        query : str or [tokens, dim] array
        id : str or int
            `UnknownIdError` if the index does not hold it.
        weights, score
            As for `search`.

        Returns
        -------
        Explanation
            Of the query as given. What feedback added to it is known to the hits alone: ask `Hit.explain`.
        """
        key, score = one_id(id), checked_score(score)
        queries = self._one_query(query)
        matrix = self._core.explain(queries.values, key, split_weights(weights, queries))
        text, _ = self._core.documents(normalise_ids([key]))[0]
        query_text = query if isinstance(query, str) else None
        return self._explanation(key, matrix, len(queries.values), query_text, text, score)

    def measure_recall(self, queries: Sequence[str] | VectorInput, k: int = 10, **options: Any) -> float:
        """Measure the share of the exact top k that a search with `options` finds, on average over the queries.

        Parameters
        ----------
        queries : sequence of str, or vectors
        k : int
        **options
            As for `search_batch`; both searches share `filter`, `ids`, `weights` and `feedback`.

        Returns
        -------
        float
            1.0 if nothing is lost. Among documents with equal scores, the exact search's choice counts.
        """
        unknown = next((name for name in options if name not in SearchOptions.__annotations__), None)
        if unknown is not None:
            message = f"measure_recall takes no {unknown}; its options are {', '.join(SearchOptions.__annotations__)}"
            raise InvalidInputError(message)
        # What both searches go through must not be used up by the first.
        for name, again in (("ids", normalise_ids), ("weights", listed)):
            if options.get(name) is not None:
                options[name] = again(options[name], name)
        of_hits = ("weights", "score", "with_documents")
        checked_search(k, **{name: value for name, value in options.items() if name not in of_hits})
        vectors, _ = self._many_queries(queries)
        common = ("filter", "ids", "weights", "feedback", "threads")
        shared = {name: options[name] for name in common if name in options}
        exact = self.search_batch(vectors, k, gather="exact", as_arrays=True, **shared)
        found = self.search_batch(vectors, k, as_arrays=True, **options)
        shares = [
            len(set(wanted) & set(got)) / len(wanted)
            for (wanted, _), (got, _) in zip(exact, found, strict=True)
            if len(wanted)
        ]
        return float(np.mean(shares)) if shares else 1.0

    # ── shared steps ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _one_query(self, query: str | VectorInput) -> Ragged:
        if isinstance(query, str):
            return encode_queries(self.require_encoder("a text query"), [query], dim=self.dim)
        matrix = one_matrix(query, self.dim)
        if matrix is not None:
            return matrix
        query = listed(query, "the query vectors")
        if is_text_batch(query):
            message = f"{len(query)} query texts are given where one is expected; use the batch form of the call"
            raise InvalidInputError(message)
        ragged = to_ragged(query, dim=self.dim, kind="query")
        if len(ragged) != 1:
            message = f"{len(ragged)} queries are given where one is expected; use the batch form of the call"
            raise InvalidInputError(message)
        return ragged

    def _many_queries(self, queries: Any) -> tuple[Ragged, list[str] | None]:
        if isinstance(queries, str):
            message = (
                "one query text is given where several are expected; pass [text], or use the single form of the call"
            )
            raise InvalidInputError(message)
        queries = listed(queries, "the query vectors")
        if is_text_batch(queries):
            texts = list(queries)
            return encode_queries(self.require_encoder("text queries"), texts, dim=self.dim), texts
        ragged = to_ragged(queries, dim=self.dim, kind="query")
        if len(ragged) == 0:
            ragged = Ragged(np.zeros((0, self.dim), dtype=np.float32), np.zeros(1, dtype=np.int64))
        return ragged, None

    def _search(
        self,
        queries: Ragged,
        weights: FloatArray | None,
        score: ScoreKind,
        options: dict[str, Any],
    ) -> tuple[SearchArrays, CoreResults]:
        results = self._core.search(queries.values, queries.offsets, weights=weights, **options)
        return to_arrays(results, queries, score), results

    def _rerank(
        self,
        queries: Ragged,
        candidates: Candidates,
        weights: FloatArray | None,
        score: ScoreKind,
        options: dict[str, Any],
    ) -> tuple[SearchArrays, CoreResults]:
        if options["alpha"] is not None and candidates.scores is None and len(candidates.ids):
            message = "alpha prunes by first-stage scores, and there are none; pass scores=, or leave alpha out"
            raise InvalidInputError(message)
        results = self._core.rerank(
            queries.values,
            queries.offsets,
            candidates.ids,
            candidates.offsets,
            scores=candidates.scores,
            weights=weights,
            **options,
        )
        return to_arrays(results, queries, score), results

    def _hits(
        self,
        arrays: SearchArrays,
        results: CoreResults,
        queries: Ragged,
        texts: list[str] | None,
        weights: FloatArray | None,
        score: ScoreKind,
        with_documents: bool,
        added: list[Added] | None = None,
    ) -> list[list[Hit]]:
        def explain(position: int, key: Id) -> Explanation:
            # What was searched explains its hits, whatever the index has become since.
            found = int(arrays.offsets[position]) + list(arrays[position][0]).index(key)
            rows = slice(int(queries.offsets[position]), int(queries.offsets[position + 1]))
            own = weights[rows] if weights is not None else None
            more = added[position] if added else NOTHING
            asked, asked_weights = more.join(queries[position], own)
            matrix = results.explain(asked, found, asked_weights)
            query_text = texts[position] if texts else None
            return self._explanation(key, matrix, rows.stop - rows.start, query_text, results.text(found), score, more)

        return build_hits(results, arrays, explain, with_documents=with_documents)

    def _explanation(
        self,
        key: Id,
        matrix: FloatArray,
        count: int,
        query_text: str | None,
        text: str | None,
        score: ScoreKind,
        added: Added = NOTHING,
    ) -> Explanation:
        query_tokens = added.label(self._tokens("query_tokens", query_text, count), count)
        document_tokens = self._tokens("document_tokens", text, matrix.shape[1])
        return Explanation(key, scaled(matrix, score, count), query_tokens, document_tokens)

    def _tokens(self, method: str, text: str | None, count: int) -> tuple[str, ...] | None:
        label = getattr(self._encoder, method, None)
        if text is None or label is None:
            return None
        tokens = tuple(label(text))
        # Vectors that came from elsewhere, or were pooled, have no one-to-one tokens: better no labels than wrong ones.
        return tokens if len(tokens) == count else None
