"""Why a document has its score, token by token."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latewood.common.types import FloatArray, Id
from latewood.errors import InvalidInputError
from latewood.forms.values import flag_of
from latewood.show import html, plots, terminal
from latewood.show.matches import Span


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
    query_text, document_text : str or None
        The texts, where they are known.
    query_spans, document_spans : tuple of (int, int), or None
        Characters that each token stands for, `text[first:last]`, where the encoder can tell; (0, 0) where there are
        none, as for special tokens and those of a prompt.
    stage_scores : mapping of str to float, or None
        Of a hit whose score is a fusion of several stages' scores: that of each. The matrix is that of "maxsim".
    fused : float or None
        The score of such a hit.
    """

    id: Id
    matrix: FloatArray
    query_tokens: tuple[str, ...] | None = None
    document_tokens: tuple[str, ...] | None = None
    query_text: str | None = None
    document_text: str | None = None
    query_spans: tuple[Span, ...] | None = None
    document_spans: tuple[Span, ...] | None = None
    stage_scores: Mapping[str, float] | None = None
    fused: float | None = None

    @property
    def best(self) -> NDArray[np.intp]:
        """Document token that answers each query token best, by position; -1 in a document without tokens."""
        if not self.matrix.shape[1]:
            return np.full(len(self.matrix), -1)
        return np.asarray(self.matrix.argmax(axis=1))

    @property
    def contributions(self) -> FloatArray:
        """What each query token adds to the score; `-inf` in a document without tokens."""
        return np.asarray(self.matrix.max(axis=1, initial=-np.inf))

    @property
    def score(self) -> float:
        """The sum of the contributions: the hit's MaxSim, which is its score unless it is fused, but for rounding."""
        return float(self.contributions.sum(dtype=np.float64))

    def to_html(self, *, with_query: bool = True) -> str:
        """Give a fragment of HTML: the text shaded by what each part adds (docs/explaining.md)."""
        with_query = flag_of(with_query, "with_query")
        return html.explained(
            self.matrix,
            text=self.document_text,
            spans=self.document_spans,
            query_tokens=self.query_tokens,
            document_tokens=self.document_tokens,
            with_query=with_query,
        )

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        return html.styled(self.to_html())

    def to_text(self, *, colour: bool = True) -> str:
        """Give the document's text, shaded for a terminal; without colours, what adds most stands in brackets."""
        if self.document_text is None:
            message = f"the text of document {self.id!r} is not stored; the table of its tokens is str(explanation)"
            raise InvalidInputError(message)
        coloured = flag_of(colour, "colour")
        return terminal.shaded(self.matrix, self.document_text, self.document_spans, colour=coloured)

    def plot(self, axes: Any = None) -> Any:
        """Draw query tokens against document tokens.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            To draw on; by default those of a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        MissingDependencyError
            matplotlib is not installed: the extra `plot` has it.
        """
        title = f"{self.id}: {self.score:.3f}"
        return plots.heat_map(self.matrix, rows=self.query_tokens, columns=self.document_tokens, title=title, axes=axes)

    def rows(self) -> Iterator[tuple[str, str, float]]:
        """Give (query token, its best document token, contribution) for each query token, in order."""
        for position, (best, contribution) in enumerate(
            zip(self.best.tolist(), self.contributions.tolist(), strict=True)
        ):
            answer = self.document_tokens[best] if self.document_tokens else f"document token {best}"
            yield (
                self.query_tokens[position] if self.query_tokens else f"query token {position}",
                answer if best >= 0 else "nothing",
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
            share = f"{contribution / total:6.1%}" if total and isfinite(total) else "     -"
            lines.append(f"{query:<{left}}  {document:<{right}}  {contribution:8.4f} {share}")
        return "\n".join(lines)
