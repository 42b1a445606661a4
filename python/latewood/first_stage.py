"""First stages: what finds candidates for a text, behind a protocol of two methods.

A first stage gives the candidates of a query in one of these forms:

* ids, the best first: a list, an array, anything else that can be gone through in order;
* a mapping of id to score, a tuple of ids and of scores, or (id, score) pairs;
* hits: objects or mappings with an `id` (or `doc_id`, `corpus_id` and the like) and a `score`, or rows of a structured
  array.

Scores are the higher the better. An id is never taken apart. All candidates have one form, and all or none have a
score.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from latewood._ids import plain_ids
from latewood._optional import import_optional
from latewood._options import count_of
from latewood._queries import Scored, items_of, read_candidates
from latewood._typing import Id
from latewood.errors import InvalidInputError
from latewood.fusion import number_of

FirstStageHits = tuple[Sequence[Id], Sequence[float]]
"""Ids and their scores, the best first."""


@runtime_checkable
class FirstStage(Protocol):
    """Anything that finds candidates for a text query, and gives them in a form that this module lists."""

    def search(self, query: str, k: int) -> Any:
        """Give at most k candidates."""

    def search_batch(self, queries: Sequence[str], k: int) -> Any:
        """Give the same for each query, in the order of `queries`."""


class CallableFirstStage:
    """Any function `(query, k) -> candidates`, in a form that this module lists.

    Parameters
    ----------
    function : callable
        May give more than k candidates: the k best are taken, or the first k where there are no scores. What it raises
        passes through.
    """

    def __init__(self, function: Callable[[str, int], Any]) -> None:
        if not callable(cast("object", function)):
            message = f"a first stage is a function (query, k) -> candidates, not a {type(function).__name__}"
            raise InvalidInputError(message)
        self.function = function

    def search(self, query: str, k: int) -> tuple[Sequence[Id], Sequence[float] | None]:
        """Give at most k ids and their scores, best first; None for scores where the function gives none."""
        (text,) = texts_of([query], "the query")
        depth = count_of(k, "k")
        where = f"the candidates of {name_of(self)} for query {text[:60]!r}"
        ids, scores = read_candidates(self.function(text, depth), where)
        keys = plain_ids(ids)
        if scores is None:
            return keys[:depth], None
        order = np.argsort(-scores, kind="stable")[:depth].tolist()
        return [keys[position] for position in order], scores[order].tolist()

    def search_batch(self, queries: Sequence[str], k: int) -> list[tuple[Sequence[Id], Sequence[float] | None]]:
        """One query after the other."""
        return [self.search(query, k) for query in texts_of(queries, "queries")]


def name_of(first_stage: Any) -> str:
    """How messages call a first stage: by its class, or by the function that it is."""
    inner = first_stage.function if isinstance(first_stage, CallableFirstStage) else first_stage
    return f"the first stage {getattr(inner, '__qualname__', type(inner).__name__)}"


def candidates_of(first_stage: Any, queries: Sequence[str], k: int) -> list[Scored]:
    """Ask a first stage for the candidates of each query, and read what it gives.

    Raises
    ------
    InvalidInputError
        Results in no form that this module lists, or not one for each query; the message names stage and query. What
        the stage itself raises passes through.
    """
    found = first_stage.search_batch(queries, k)
    where = f"the results of {name_of(first_stage)} for {len(queries)} queries"
    results = items_of(found, where, "a list with the candidates of each query")
    if len(results) != len(queries):
        message = f"{name_of(first_stage)} gave {len(results)} lists of candidates for {len(queries)} queries"
        raise InvalidInputError(message)
    return [
        read_candidates(result, f"the candidates of {name_of(first_stage)} for query {position} ({query[:60]!r})")
        for position, (query, result) in enumerate(zip(queries, results, strict=True))
    ]


def texts_of(texts: Any, what: str) -> list[str]:
    """Check that `texts` is a collection of str, and give it as a list."""
    items = items_of(texts, what, "a list of str")
    for position, text in enumerate(items):
        if not isinstance(text, str):
            message = f"{what}: entry {position} is a {type(text).__name__}, not a str"
            raise InvalidInputError(message)
    return list(items)


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
        self._ids = plain_ids(ids)
        indexed: Any = getattr(retriever, "scores", None)
        if not isinstance(indexed, Mapping) or "num_docs" not in indexed:
            message = f"the retriever is a {type(retriever).__name__}; pass a bm25s.BM25 that has indexed the documents"
            raise InvalidInputError(message)
        _check_count(self._ids, int(indexed["num_docs"]), "documents of the BM25 index")
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
        keys, documents = plain_ids(ids), texts_of(texts, "texts")
        _check_count(keys, len(documents), "texts")
        if not documents:
            message = "there are no texts to index by BM25"
            raise InvalidInputError(message)
        retriever = bm25s.BM25()
        retriever.index(bm25s.tokenize(documents, show_progress=False, **tokenizer_options), show_progress=False)
        return cls(retriever, keys, **tokenizer_options)

    def search(self, query: str, k: int) -> FirstStageHits:
        """See `FirstStage.search`."""
        return self.search_batch([query], k)[0]

    def search_batch(self, queries: Sequence[str], k: int) -> list[FirstStageHits]:
        """See `FirstStage.search_batch`."""
        texts, depth = texts_of(queries, "queries"), min(count_of(k, "k"), len(self._ids))
        if self._tokenize is not None:
            tokens = self._tokenize(texts)
        else:
            bm25s = import_optional("bm25s", purpose="the BM25 first stage")
            tokens = bm25s.tokenize(texts, show_progress=False, return_ids=False, **self._options)
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
        self._model = _sparse_encoder(model)
        self._ids = plain_ids(ids)
        # Vocabulary-major, so that a query touches only the terms it has.
        self._terms = _to_scipy(document_embeddings).T.tocsr()
        _check_count(self._ids, self._terms.shape[1], "document embeddings")

    @classmethod
    def from_texts(cls, model: Any, ids: Iterable[Id], texts: Sequence[str]) -> "SparseEncoderFirstStage":
        """Encode the documents first."""
        keys, documents = plain_ids(ids), texts_of(texts, "texts")
        _check_count(keys, len(documents), "texts")
        return cls(model, keys, _sparse_encoder(model).encode_document(documents, show_progress_bar=False))

    def search(self, query: str, k: int) -> FirstStageHits:
        """See `FirstStage.search`."""
        return self.search_batch([query], k)[0]

    def search_batch(self, queries: Sequence[str], k: int) -> list[FirstStageHits]:
        """See `FirstStage.search_batch`."""
        texts, depth = texts_of(queries, "queries"), count_of(k, "k")
        if not texts:
            return []
        encoded = _to_scipy(self._model.encode_query(texts, show_progress_bar=False))
        if encoded.shape != (len(texts), self._terms.shape[0]):
            message = (
                f"the model gave query embeddings of shape {encoded.shape} for {len(texts)} queries, and the documents "
                f"have a vocabulary of {self._terms.shape[0]}; queries and documents need one model"
            )
            raise InvalidInputError(message)
        found: list[FirstStageHits] = []
        for row in range(encoded.shape[0]):
            scores = np.asarray((encoded[row] @ self._terms).todense()).ravel()
            order = np.argsort(-scores, kind="stable")[:depth]
            order = order[scores[order] > 0]
            found.append(([self._ids[position] for position in order.tolist()], scores[order].astype(float).tolist()))
        return found


class SeismicFirstStage:
    """Seismic, a fast index of learned sparse vectors: the package `pyseismic-lsr`.

    Parameters
    ----------
    index : seismic.SeismicIndex
        Or one of its variants with string tokens.
    encode : callable
        List of query texts → for each a mapping of token (as the index was built with) to weight.
    ids : sequence of str or int, optional
        The documents' ids, where they are not strings: Seismic gives all ids back as strings.
    query_cut, heap_factor
        As in Seismic: tokens of a query that are looked at, and how much is pruned.

    Notes
    -----
    Seismic's batch call gives results in the order in which its threads finish; they are put in order here. Its scores
    are rounded to half precision, and it may find fewer than k documents.
    """

    def __init__(
        self,
        index: Any,
        encode: Callable[[list[str]], Sequence[Mapping[Any, float]]],
        ids: Iterable[Id] | None = None,
        *,
        query_cut: int = 10,
        heap_factor: float = 0.7,
    ) -> None:
        if not callable(getattr(index, "batch_search", None)) or not callable(encode):
            message = (
                f"a {type(index).__name__} and a {type(encode).__name__} are given; pass a Seismic index and what "
                "encodes queries"
            )
            raise InvalidInputError(message)
        self._index = index
        self._encode = encode
        self._by_name = None if ids is None else {str(key): key for key in plain_ids(ids)}
        self._options = {
            "query_cut": count_of(query_cut, "query_cut"),
            "heap_factor": number_of(heap_factor, "heap_factor", 1.0),
        }

    def search(self, query: str, k: int) -> FirstStageHits:
        """See `FirstStage.search`."""
        return self.search_batch([query], k)[0]

    def search_batch(self, queries: Sequence[str], k: int) -> list[FirstStageHits]:
        """See `FirstStage.search_batch`."""
        texts, depth = texts_of(queries, "queries"), count_of(k, "k")
        kind = import_optional("seismic", purpose="the Seismic first stage").get_seismic_string()
        encoded = [{str(token): float(weight) for token, weight in entry.items()} for entry in self._encode(texts)]
        # A query without tokens finds nothing, and Seismic is not asked.
        asked = [position for position, entry in enumerate(encoded) if entry]
        found: list[FirstStageHits] = [([], []) for _ in texts]
        if not asked:
            return found
        results = self._index.batch_search(
            queries_ids=np.array([str(position) for position in asked], dtype=kind),
            query_components=[np.array(list(encoded[position]), dtype=kind) for position in asked],
            query_values=[np.array(list(encoded[position].values()), dtype=np.float32) for position in asked],
            k=depth,
            **self._options,
        )
        for hits in filter(None, results):
            names = [str(name) for _, _, name in hits]
            keys: list[Id] = [self._by_name[name] for name in names] if self._by_name is not None else list(names)
            found[int(hits[0][0])] = (keys, [float(score) for _, score, _ in hits])
        return found


def _check_count(ids: Sequence[Id], expected: int, what: str) -> None:
    if len(ids) != expected:
        message = f"{len(ids)} ids for the {expected} {what}; give one for each"
        raise InvalidInputError(message)


def _sparse_encoder(model: Any) -> Any:
    if not all(callable(getattr(model, name, None)) for name in ("encode_query", "encode_document")):
        message = f"{type(model).__name__} is no sparse encoder: it needs encode_query and encode_document"
        raise InvalidInputError(message)
    return model


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
    if hasattr(embeddings, "detach"):
        embeddings = embeddings.detach().cpu().float().numpy()
    try:
        dense = np.asarray(embeddings, dtype=np.float32)
    except (TypeError, ValueError) as error:
        message = f"the sparse embeddings are no matrix: {error}"
        raise InvalidInputError(message) from error
    if dense.ndim != 2:
        message = f"the sparse embeddings have shape {dense.shape}; pass a matrix [texts, vocabulary]"
        raise InvalidInputError(message)
    return sparse.csr_matrix(dense)
