"""Two stages: any first stage finds candidates, the index reranks them by MaxSim."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, cast, runtime_checkable

import numpy as np

from latewood._ids import normalise_ids
from latewood._optional import import_optional
from latewood._typing import Id, IdSequence, VectorInput
from latewood.errors import InvalidInputError
from latewood.fusion import normalise, ranks
from latewood.index import Index
from latewood.results import Hit

FirstStageHits = tuple[Sequence[Id], Sequence[float]]
"""Ids and their scores, the best first."""


@runtime_checkable
class FirstStage(Protocol):
    """Anything that finds candidates for a text query."""

    def search(self, query: str, k: int) -> FirstStageHits:
        """Give at most k ids and their scores, best first; the higher the score the better."""

    def search_batch(self, queries: Sequence[str], k: int) -> list[FirstStageHits]:
        """Give the same for each query, in the order of `queries`."""


class CallableFirstStage:
    """Any function `(query, k) -> ids and scores`, mapping id → score, or (id, score) pairs."""

    def __init__(self, function: Callable[[str, int], Any]) -> None:
        self._function = function

    def search(self, query: str, k: int) -> FirstStageHits:
        """See `FirstStage.search`; the function's order does not matter."""
        found = self._function(query, k)
        if hasattr(found, "items"):
            pairs = list(found.items())
        elif isinstance(found, tuple) and len(found) == 2 and not isinstance(found[0], tuple):
            ids, scores = found
            pairs = list(zip(list(ids), list(scores), strict=True))
        else:
            pairs = [(key, score) for key, score in found]
        pairs.sort(key=lambda pair: -float(pair[1]))
        return [key for key, _ in pairs[:k]], [float(score) for _, score in pairs[:k]]

    def search_batch(self, queries: Sequence[str], k: int) -> list[FirstStageHits]:
        """One query after the other."""
        return [self.search(query, k) for query in queries]


class Bm25FirstStage:
    """BM25 by the package `bm25s`.

    Parameters
    ----------
    retriever : bm25s.BM25
        Indexed.
    ids : sequence of str or int
        Id of each indexed document, in the order of indexing.
    tokenize : callable, optional
        List of texts → token lists or ids, as the corpus was tokenized; by default `bm25s.tokenize` with
        `tokenizer_options`.
    **tokenizer_options
        Such as `stopwords` and `stemmer`: the same as for the corpus.

    Notes
    -----
    Documents that share no term with the query score 0 and are not candidates.
    """

    def __init__(
        self,
        retriever: Any,
        ids: Iterable[Id],
        *,
        tokenize: Callable[[list[str]], Any] | None = None,
        **tokenizer_options: Any,
    ) -> None:
        self._retriever = retriever
        self._ids = _plain_ids(ids)
        documents = int(retriever.scores["num_docs"])
        if len(self._ids) != documents:
            message = f"{len(self._ids)} ids for the {documents} documents of the BM25 index; give one for each"
            raise InvalidInputError(message)
        self._tokenize = tokenize
        self._options = tokenizer_options

    @classmethod
    def from_texts(cls, ids: Iterable[Id], texts: Sequence[str], **tokenizer_options: Any) -> "Bm25FirstStage":
        """Index texts with bm25s' defaults.

        Parameters
        ----------
        ids : sequence of str or int
        texts : sequence of str
        **tokenizer_options
            Of `bm25s.tokenize`: `stopwords` ("en" by default), `stemmer`, `token_pattern`, `lower`.
        """
        bm25s = import_optional("bm25s", purpose="the BM25 first stage")
        retriever = bm25s.BM25()
        retriever.index(bm25s.tokenize(list(texts), show_progress=False, **tokenizer_options), show_progress=False)
        return cls(retriever, ids, **tokenizer_options)

    def search(self, query: str, k: int) -> FirstStageHits:
        """See `FirstStage.search`."""
        return self.search_batch([query], k)[0]

    def search_batch(self, queries: Sequence[str], k: int) -> list[FirstStageHits]:
        """See `FirstStage.search_batch`."""
        if self._tokenize is not None:
            tokens = self._tokenize(list(queries))
        else:
            bm25s = import_optional("bm25s", purpose="the BM25 first stage")
            tokens = bm25s.tokenize(list(queries), show_progress=False, return_ids=False, **self._options)
        depth = min(k, len(self._ids))
        found: list[FirstStageHits] = []
        for entry in tokens:
            if not len(entry):
                found.append(([], []))
                continue
            positions, scores = self._retriever.retrieve([entry], k=depth, show_progress=False)
            matched = np.asarray(scores[0]) > 0
            ids = [self._ids[position] for position in np.asarray(positions[0])[matched].tolist()]
            found.append((ids, np.asarray(scores[0])[matched].astype(float).tolist()))
        return found


class SparseEncoderFirstStage:
    """A learned sparse retriever: sentence-transformers' `SparseEncoder` over document vectors held in memory.

    Parameters
    ----------
    model : SparseEncoder
    ids : sequence of str or int
    document_embeddings : scipy sparse matrix or torch sparse tensor [documents, vocabulary]
        As `model.encode_document` gives them.
    """

    def __init__(self, model: Any, ids: Iterable[Id], document_embeddings: Any) -> None:
        self._model = model
        self._ids = _plain_ids(ids)
        # Vocabulary-major, so that a query touches only the terms it has.
        self._terms = _to_scipy(document_embeddings).T.tocsr()
        if self._terms.shape[1] != len(self._ids):
            message = f"{len(self._ids)} ids for {self._terms.shape[1]} document embeddings; give one for each"
            raise InvalidInputError(message)

    @classmethod
    def from_texts(cls, model: Any, ids: Iterable[Id], texts: Sequence[str]) -> "SparseEncoderFirstStage":
        """Encode the documents first."""
        return cls(model, ids, model.encode_document(list(texts), show_progress_bar=False))

    def search(self, query: str, k: int) -> FirstStageHits:
        """See `FirstStage.search`."""
        return self.search_batch([query], k)[0]

    def search_batch(self, queries: Sequence[str], k: int) -> list[FirstStageHits]:
        """See `FirstStage.search_batch`."""
        encoded = _to_scipy(self._model.encode_query(list(queries), show_progress_bar=False))
        found: list[FirstStageHits] = []
        for row in range(encoded.shape[0]):
            scores = np.asarray((encoded[row] @ self._terms).todense()).ravel()
            order = np.argsort(-scores, kind="stable")[:k]
            order = order[scores[order] > 0]
            found.append(([self._ids[position] for position in order.tolist()], scores[order].astype(float).tolist()))
        return found


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
        first_of = dict(zip(_plain_ids(ids), [float(score) for score in scores], strict=True))
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


def _plain_ids(ids: Iterable[Id]) -> Sequence[Id]:
    keys: IdSequence = normalise_ids(ids)
    return keys.tolist() if isinstance(keys, np.ndarray) else keys


def _to_scipy(embeddings: Any) -> Any:
    """Make a scipy CSR matrix of a scipy matrix, a torch tensor (sparse or dense) or a dense array."""
    sparse = import_optional("scipy.sparse", purpose="the sparse first stage")
    if sparse.issparse(embeddings):
        return embeddings.tocsr()
    if hasattr(embeddings, "is_sparse_csr") and embeddings.is_sparse_csr:
        embeddings = embeddings.to_sparse_coo()
    if getattr(embeddings, "is_sparse", False):
        tensor = embeddings.detach().coalesce().cpu()
        indices, values = tensor.indices().numpy(), tensor.values().float().numpy()
        return sparse.csr_matrix((values, (indices[0], indices[1])), shape=tuple(tensor.shape))
    dense = embeddings.detach().cpu().float().numpy() if hasattr(embeddings, "detach") else np.asarray(embeddings)
    return sparse.csr_matrix(dense)
