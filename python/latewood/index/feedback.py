"""Pseudo-relevance feedback: a second search with a query that its own first hits have expanded."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from latewood._core import Results
from latewood.common.types import FloatArray
from latewood.errors import InvalidInputError
from latewood.forms.values import choice_of, count_of, number_of

Weighting: TypeAlias = Literal["normalised", "raw"]
Mode: TypeAlias = Literal["ranker", "reranker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """How to expand a query with vectors of its own first hits, for `search` and `search_batch`.

    The token vectors of the first `documents` hits are put into `clusters` by k-means. A cluster's mean is as rare as
    its cell: idf = ln((N + 1) / (df + 1)) of the N documents of the index and the df with a token in the cell of the
    mean's nearest centroid. The `vectors` rarest means join the query, weighted by idf, and the query is asked again.

    Parameters
    ----------
    documents : int
        First hits to learn from.
    clusters : int
        Clusters of their token vectors; fewer where there are fewer different vectors. A search refuses what
        would take more than a second or two: token vectors times clusters above 2^24.
    vectors : int
        Vectors to add at most, no more than `clusters`; a query never becomes longer than 4,096.
    weight : float
        Of what is added, from 0, which leaves every score as it was, to a million. On SciFact no weight gained nDCG@10
        beyond chance: measure on judgements of your own (docs/feedback.md).
    weighting : {"normalised", "raw"}
        "normalised": the weights of the added vectors sum to `weight` times the sum of the query tokens' weights,
        which is their number unless `weights` are given. "raw": `weight` times idf, as in the paper; in a large index
        ten such vectors outweigh the query.
    mode : {"ranker", "reranker"}
        "ranker" searches the index again; "reranker" scores the best documents of the first pass again.
    rescored : int
        Of "reranker": how many those are; k, if k is larger.

    Raises
    ------
    InvalidInputError
        A count below 1, more vectors than clusters, a `weight` beyond its bounds, an unknown word.

    Notes
    -----
    ColBERT-PRF: Wang, Macdonald, Tonellotto and Ounis, "Pseudo-Relevance Feedback for Multiple Representation Dense
    Retrieval" (ICTIR 2021), whose 3 documents, 24 clusters and 10 vectors are the defaults. The paper tells rare means
    by the token ids of their nearest token vectors; cells do without ids. It needs a trained residual codec. The result
    is the same for any number of threads and on any processor.
    """

    documents: int = 3
    clusters: int = 24
    vectors: int = 10
    weight: float = 0.1
    weighting: Weighting = "normalised"
    mode: Mode = "ranker"
    rescored: int = 1000

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("documents", "clusters", "vectors", "rescored"):
            object.__setattr__(self, name, count_of(getattr(self, name), f"{name} of feedback"))
        if self.vectors > self.clusters:
            message = (
                f"feedback cannot add {self.vectors} vectors from {self.clusters} clusters; "
                "ask for more clusters or fewer vectors"
            )
            raise InvalidInputError(message)
        object.__setattr__(self, "weight", number_of(self.weight, "weight of feedback", least=0.0, most=1e6))
        for name, known in (("weighting", get_args(Weighting)), ("mode", get_args(Mode))):
            choice_of(getattr(self, name), f"{name} of feedback", known)

    @classmethod
    def check(cls, feedback: Any, what: str) -> "Feedback":
        """Check the type, so that the message can say what is expected."""
        if not isinstance(feedback, cls):
            message = f"{what} is a {type(feedback).__name__}; pass latewood.Feedback(), or None for no feedback"
            raise InvalidInputError(message)
        return feedback


@dataclass(frozen=True, slots=True, eq=False)
class Added:
    """What feedback added to one query: vectors [n, dim] and weights [n], both float32."""

    vectors: FloatArray
    weights: FloatArray

    @classmethod
    def to_query(cls, results: Results, query: int) -> "Added":
        """Give what was added to one query of a batch, which is nothing without feedback."""
        vectors, weights, offsets = results.added
        rows = slice(int(offsets[query]), int(offsets[query + 1]))
        return cls(vectors[rows], weights[rows])

    def join(self, query: FloatArray, weights: FloatArray | None) -> tuple[FloatArray, FloatArray | None]:
        """Append this to a query [tokens, dim] and its weights [tokens]."""
        if not len(self.weights):
            return query, weights
        own = weights if weights is not None else np.ones(len(query), dtype=np.float32)
        return np.concatenate([query, self.vectors]), np.concatenate([own, self.weights])

    def label(self, query_tokens: tuple[str, ...] | None, count: int) -> tuple[str, ...] | None:
        """Append labels to those of a query of `count` tokens."""
        if not len(self.weights):
            return query_tokens
        own = query_tokens or tuple(f"query token {position}" for position in range(count))
        return (*own, *(f"feedback vector {position}" for position in range(len(self.weights))))

    def span(self, query_spans: tuple[tuple[int, int], ...] | None) -> tuple[tuple[int, int], ...] | None:
        """Append to the characters of a query's tokens those of the added vectors, which have none."""
        return query_spans and (*query_spans, *((0, 0) for _ in self.weights))


NOTHING = Added(np.zeros((0, 0), dtype=np.float32), np.zeros(0, dtype=np.float32))
