"""A learned sparse model as a first stage."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from latewood.common.packages import import_optional
from latewood.common.types import Id
from latewood.errors import InvalidInputError
from latewood.forms.ids import plain_ids
from latewood.forms.values import count_of
from latewood.rerank.first_stages.protocol import FirstStageHits, check_count, texts_of


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
        check_count(self._ids, self._terms.shape[1], "document embeddings")

    @classmethod
    def from_texts(cls, model: Any, ids: Iterable[Id], texts: Sequence[str]) -> "SparseEncoderFirstStage":
        """Encode the documents first."""
        keys, documents = plain_ids(ids), texts_of(texts, "texts")
        check_count(keys, len(documents), "texts")
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
