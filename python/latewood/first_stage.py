"""First stages: what finds candidates for a text, behind a protocol of two methods."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from latewood._ids import plain_ids
from latewood._optional import import_optional
from latewood._typing import Id
from latewood.errors import InvalidInputError

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
        self._ids = plain_ids(ids)
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
        self._ids = plain_ids(ids)
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
        self._index = index
        self._encode = encode
        self._by_name = None if ids is None else {str(key): key for key in plain_ids(ids)}
        self._options = {"query_cut": query_cut, "heap_factor": heap_factor}

    def search(self, query: str, k: int) -> FirstStageHits:
        """See `FirstStage.search`."""
        return self.search_batch([query], k)[0]

    def search_batch(self, queries: Sequence[str], k: int) -> list[FirstStageHits]:
        """See `FirstStage.search_batch`."""
        kind = import_optional("seismic", purpose="the Seismic first stage").get_seismic_string()
        encoded = [
            {str(token): float(weight) for token, weight in entry.items()} for entry in self._encode(list(queries))
        ]
        # A query without tokens finds nothing, and Seismic is not asked.
        asked = [position for position, entry in enumerate(encoded) if entry]
        found: list[FirstStageHits] = [([], []) for _ in queries]
        if not asked:
            return found
        results = self._index.batch_search(
            queries_ids=np.array([str(position) for position in asked], dtype=kind),
            query_components=[np.array(list(encoded[position]), dtype=kind) for position in asked],
            query_values=[np.array(list(encoded[position].values()), dtype=np.float32) for position in asked],
            k=k,
            **self._options,
        )
        for hits in filter(None, results):
            names = [str(name) for _, _, name in hits]
            keys: list[Id] = [self._by_name[name] for name in names] if self._by_name is not None else list(names)
            found[int(hits[0][0])] = (keys, [float(score) for _, score, _ in hits])
        return found


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
