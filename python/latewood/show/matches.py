"""Which parts of a text answer which tokens of a query, and how much each adds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from unicodedata import category

import numpy as np

from latewood.common.types import FloatArray

Span = tuple[int, int]
JOINER = "\N{ZERO WIDTH JOINER}"
MOST_MARKS = 30
"""Of one letter, in what Unicode calls stream-safe text (UAX 15)."""


@dataclass(slots=True)
class Part:
    """Neighbouring characters of a text that belong together.

    Attributes
    ----------
    first, last : int
        `text[first:last]`.
    tokens : list of int
        Tokens whose characters they are; none for what lies between those that answer something.
    adds : float
        What these tokens add to the score, as the best answers of `queries`.
    queries : list of int
        Query tokens that they answer best.
    """

    first: int
    last: int
    tokens: list[int] = field(default_factory=list)
    adds: float = 0.0
    queries: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Matches:
    """A document's answer to a query.

    Attributes
    ----------
    parts : list of Part
        They cover the text, in order.
    without_span : list of Part
        Of each token that stands for no characters, such as special ones, and answers something; of all tokens where
        there is no text. `first` and `last` are 0.
    adds : float array [query tokens]
        What each query token adds; `-inf` in a document without tokens.
    best : int array [query tokens]
        The document token that answers it best.
    """

    parts: list[Part]
    without_span: list[Part]
    adds: FloatArray
    best: list[int]

    @property
    def most(self) -> float:
        """The largest part of the score that one part of the text adds."""
        return max((part.adds for part in [*self.parts, *self.without_span]), default=0.0)


def matches_of(matrix: FloatArray, text: str | None, spans: Sequence[Span] | None) -> Matches:
    """Say what each part of a text adds.

    Parameters
    ----------
    matrix : float32 array [query tokens, document tokens]
    text : str or None
        Without one, no part has characters.
    spans : sequence of (first, last), one for each document token, or None
        Characters that a token stands for; those of tokens that share some become one part, and (0, 0) is none. A part
        is as long as what a reader sees as one: accents and vowel signs stay with their letter.
    """
    count = matrix.shape[1]
    best = matrix.argmax(axis=1).tolist() if count else []
    adds = matrix.max(axis=1, initial=-np.inf)
    of_token: dict[int, list[int]] = {}
    for query, token in enumerate(best):
        of_token.setdefault(token, []).append(query)
    known = spans if text is not None and spans is not None else [(0, 0)] * count
    length = len(text or "")
    parts: list[Part] = []
    without: list[Part] = []
    end = 0
    # Where there is a text, what answers nothing is only a part of it.
    for token in sorted(range(count) if text is None else of_token, key=lambda one: known[one]):
        first, last = _seen(text or "", *(min(max(edge, 0), length) for edge in known[token]))
        if first >= last:
            part = Part(0, 0)
            without.append(part)
        elif first < end:
            part = parts[-1]
            part.last = end = max(end, last)
        else:
            if first > end:
                parts.append(Part(end, first))
            part = Part(first, last)
            parts.append(part)
            end = last
        part.tokens.append(token)
        part.queries += of_token.get(token, [])
        part.adds += float(sum(adds[query] for query in of_token.get(token, [])))
    if end < length:
        parts.append(Part(end, length))
    return Matches(parts, without, adds, best)


def _seen(text: str, first: int, last: int) -> Span:
    """Widen a span that ends or begins within what a reader sees as one character."""
    if first < last:
        lowest, highest = max(first - MOST_MARKS, 0), min(last + MOST_MARKS, len(text))
        while first > lowest and _joined(text, first):
            first -= 1
        while last < highest and _joined(text, last):
            last += 1
    return first, last


def _joined(text: str, place: int) -> bool:
    """Whether the character here is drawn together with the one before it."""
    return text[place] == JOINER or text[place - 1] == JOINER or category(text[place]).startswith("M")
