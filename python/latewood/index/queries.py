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


def one_query(query: str | VectorInput, weights: Any, encoding: Encoding) -> Queries:
    """Read the query of a call that takes one."""
    if isinstance(query, str):
        vectors = encode_queries(encoding.require("a text query"), [query], dim=encoding.dim)
        return Queries(vectors, split_weights(weights, vectors), [query])
    matrix = one_matrix(query, encoding.dim)
    if matrix is None:
        given = listed(query, "the query vectors")
        count = len(given) if is_text_batch(given) else 1
        if count == 1:
            matrix = to_ragged(given, dim=encoding.dim, kind="query")
            count = len(matrix)
        if matrix is None or count != 1:
            message = f"{count} queries are given where one is expected; use the batch form of the call"
            raise InvalidInputError(message)
    return Queries(matrix, split_weights(weights, matrix))


def many_queries(queries: Sequence[str] | VectorInput, weights: Any, encoding: Encoding) -> Queries:
    """Read the queries of a call that takes several; those that were read before stay as they are."""
    if isinstance(queries, Queries):
        return queries
    if isinstance(queries, str):
        message = "one query text is given where several are expected; pass [text], or use the single form of the call"
        raise InvalidInputError(message)
    given = listed(queries, "the query vectors")
    texts = list(given) if is_text_batch(given) else None
    if texts is not None:
        vectors = encode_queries(encoding.require("text queries"), texts, dim=encoding.dim)
    else:
        vectors = to_ragged(given, dim=encoding.dim, kind="query")
        if len(vectors) == 0:
            vectors = Ragged(np.zeros((0, encoding.dim), dtype=np.float32), np.zeros(1, dtype=np.int64))
    return Queries(vectors, split_weights(weights, vectors), texts)
