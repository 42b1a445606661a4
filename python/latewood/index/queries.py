"""Queries in the forms that callers have → flat token vectors with their weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latewood.common.types import FloatArray, VectorInput
from latewood.encode.protocol import encode_queries
from latewood.errors import InvalidInputError
from latewood.forms.ragged import Ragged, is_text_batch, listed, one_matrix, to_ragged
from latewood.forms.weights import split_weights
from latewood.index.encoding import Encoding


@dataclass(frozen=True, slots=True)
class Queries:
    """Token vectors of queries, a weight for each token or None for 1, and the texts if there were any."""

    vectors: Ragged
    weights: FloatArray | None = None
    texts: Sequence[str] | None = None

    def copy(self) -> "Queries":
        """Give the same with vectors in memory of their own."""
        return Queries(self.vectors.copy(), self.weights, self.texts)


def text_or_vectors(query: str | VectorInput, dim: int | None = None) -> str | Ragged:
    """Read the query of a call that takes one, and encode nothing; `dim` is what its vectors must have."""
    if isinstance(query, str):
        return query
    matrix = one_matrix(query, dim)
    if matrix is None:
        given = listed(query, "the query vectors")
        if is_text_batch(given):
            message = "a list of texts is given where one text is expected; pass one, or use the batch form of the call"
            raise InvalidInputError(message)
        matrix = to_ragged(given, dim=dim, kind="query")
        if len(matrix) != 1:
            message = f"{len(matrix)} queries are given where one is expected; use the batch form of the call"
            raise InvalidInputError(message)
    return matrix


def texts_or_vectors(queries: Sequence[str] | VectorInput, dim: int | None = None) -> list[str] | Ragged:
    """Read the queries of a call that takes several in the same way."""
    if isinstance(queries, str):
        message = "one query text is given where several are expected; pass [text], or use the single form of the call"
        raise InvalidInputError(message)
    given = listed(queries, "the query vectors")
    return list(given) if is_text_batch(given) else to_ragged(given, dim=dim, kind="query")


def one_query(query: str | VectorInput, weights: Any, encoding: Encoding) -> Queries:
    """Read one query, and encode it if it is a text."""
    given = text_or_vectors(query, encoding.dim)
    if isinstance(given, Ragged):
        return Queries(given, split_weights(weights, given))
    vectors = encode_queries(encoding.require("a text query"), [given], dim=encoding.dim)
    return Queries(vectors, split_weights(weights, vectors), [given])


def many_queries(queries: Sequence[str] | VectorInput, weights: Any, encoding: Encoding) -> Queries:
    """Read several queries, and encode them if they are texts; those that were read before stay as they are."""
    if isinstance(queries, Queries):
        return queries
    given = texts_or_vectors(queries, encoding.dim)
    if isinstance(given, Ragged):
        if len(given) == 0:
            given = Ragged(np.zeros((0, encoding.dim), dtype=np.float32), np.zeros(1, dtype=np.int64))
        return Queries(given, split_weights(weights, given))
    vectors = encode_queries(encoding.require("text queries"), given, dim=encoding.dim)
    return Queries(vectors, split_weights(weights, vectors), given)
