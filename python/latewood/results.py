"""What a search gives back: small values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latewood._ids import normalise_ids
from latewood._typing import FloatArray, Id, OffsetArray, ResultIds
from latewood.errors import InvalidInputError, LatewoodError
from latewood.ragged import listed, position_of


@dataclass(frozen=True, slots=True)
class Document:
    """A stored document without its vectors."""

    id: Id
    text: str | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Why a document has its score: every weighted dot product of query and document tokens.

    Attributes
    ----------
    id : str or int
    matrix : float32 array [query tokens, document tokens]
        As the score counts them, on the stored vectors. After feedback, the added vectors follow the query's tokens.
    query_tokens, document_tokens : tuple of str, or None
        Labels, where the text and the encoder were at hand.
    """

    id: Id
    matrix: FloatArray
    query_tokens: tuple[str, ...] | None = None
    document_tokens: tuple[str, ...] | None = None

    @property
    def best(self) -> NDArray[np.intp]:
        """Document token that answers each query token best, by position."""
        return np.asarray(self.matrix.argmax(axis=1))

    @property
    def contributions(self) -> FloatArray:
        """What each query token adds to the score."""
        return np.asarray(self.matrix.max(axis=1))

    @property
    def score(self) -> float:
        """The sum of the contributions: the score of the hit, but for rounding in float32."""
        return float(self.contributions.sum(dtype=np.float64))

    def rows(self) -> Iterator[tuple[str, str, float]]:
        """Give (query token, its best document token, contribution) for each query token, in order."""
        for position, (best, contribution) in enumerate(
            zip(self.best.tolist(), self.contributions.tolist(), strict=True)
        ):
            yield (
                self.query_tokens[position] if self.query_tokens else f"query token {position}",
                self.document_tokens[best] if self.document_tokens else f"document token {best}",
                contribution,
            )

    def __str__(self) -> str:
        """Table of the rows with each one's share of the score."""
        rows = list(self.rows())
        left = max([len(query) for query, _, _ in rows] + [5])
        right = max([len(document) for _, document, _ in rows] + [11])
        total = self.score
        lines = [f"{self.id}: score {total:.4f}", f"{'query':<{left}}  {'best answer':<{right}}  {'adds':>8}  share"]
        for query, document, contribution in rows:
            share = f"{contribution / total:6.1%}" if total else "     -"
            lines.append(f"{query:<{left}}  {document:<{right}}  {contribution:8.4f} {share}")
        return "\n".join(lines)


# Frozen, it would take four times as long to make, and reranking makes one for every candidate.
@dataclass(slots=True)
class Hit:
    """One document found.

    Attributes
    ----------
    id : str or int
        The user's own.
    score : float
        MaxSim on the stored vectors (a float32 value).
    rank : int
        From 1.
    text : str or None
    metadata : mapping or None
    """

    id: Id
    score: float
    rank: int
    text: str | None = None
    metadata: Mapping[str, Any] | None = None
    _explain: Callable[[Id], Explanation] | None = field(default=None, repr=False, compare=False, hash=False)

    def explain(self) -> Explanation:
        """Token by token, on what was searched, whatever the index holds now; after feedback, for the expanded query.

        While a hit is kept, so are the files that it was found in, even if later commits have no use for them.
        """
        if self._explain is None:
            message = f"hit {self.id!r} does not come from an index; call index.explain(query, {self.id!r})"
            raise LatewoodError(message)
        return self._explain(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the values; the link to the index stays behind."""
        return (Hit, (self.id, self.score, self.rank, self.text, self.metadata))


@dataclass(frozen=True, slots=True, eq=False)
class SearchArrays:
    """Hits of several queries as arrays; those of query i are entries `offsets[i]` to `offsets[i + 1]`, best first.

    Attributes
    ----------
    ids : int64 array or list of str [hits]
    scores : float32 array [hits]
    offsets : int64 array [queries + 1]
    """

    ids: ResultIds
    scores: FloatArray
    offsets: OffsetArray

    def __len__(self) -> int:
        """Count the queries."""
        return len(self.offsets) - 1

    def __getitem__(self, position: int) -> tuple[ResultIds, FloatArray]:
        """Give ids and scores of one query."""
        position = position_of(position, len(self), "queries")
        rows = slice(int(self.offsets[position]), int(self.offsets[position + 1]))
        return self.ids[rows], self.scores[rows]

    def __iter__(self) -> Iterator[tuple[ResultIds, FloatArray]]:
        """Give ids and scores of each query in turn."""
        return (self[position] for position in range(len(self)))

    def to_run(self, query_ids: Sequence[str]) -> dict[str, dict[str, float]]:
        """Give a run, query id → document id → score, with all ids as strings."""
        names = list(map(str, normalise_ids(listed(query_ids, "query_ids"), "query_ids")))
        if len(names) != len(self):
            message = f"{len(names)} query ids for {len(self)} queries; give one for each"
            raise InvalidInputError(message)
        return {
            name: {str(document): float(score) for document, score in zip(ids, scores, strict=True)}
            for name, (ids, scores) in zip(names, self, strict=True)
        }
