"""Why a document has its score, token by token."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latewood.common.types import FloatArray, Id


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Why a document has its score: every weighted dot product of query and document tokens.

    Attributes
    ----------
    id : str or int
    matrix : float32 array [query tokens, document tokens]
        As the score counts them, on codes or on kept vectors. After feedback, the added vectors follow the query's
        tokens.
    query_tokens, document_tokens : tuple of str, or None
        Labels, where the text and the encoder were at hand.
    stage_scores : mapping of str to float, or None
        Of a hit whose score is a fusion of several stages' scores: that of each. The matrix is that of "maxsim".
    fused : float or None
        The score of such a hit.
    """

    id: Id
    matrix: FloatArray
    query_tokens: tuple[str, ...] | None = None
    document_tokens: tuple[str, ...] | None = None
    stage_scores: Mapping[str, float] | None = None
    fused: float | None = None

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
        """The sum of the contributions: the hit's MaxSim, which is its score unless it is fused, but for rounding."""
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
        lines = [f"{self.id}: score {total:.4f}"]
        if self.fused is not None:
            stages = ", ".join(f"{name} {score:.4f}" for name, score in (self.stage_scores or {}).items())
            lines = [f"{self.id}: score {self.fused:.4f}, fused of {stages}", "maxsim is"]
        lines.append(f"{'query':<{left}}  {'best answer':<{right}}  {'adds':>8}  share")
        for query, document, contribution in rows:
            share = f"{contribution / total:6.1%}" if total else "     -"
            lines.append(f"{query:<{left}}  {document:<{right}}  {contribution:8.4f} {share}")
        return "\n".join(lines)
