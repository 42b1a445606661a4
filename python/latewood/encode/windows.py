"""A text that is longer than its model takes: overlapping windows of its tokens, a cut, or an error."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from latewood.common.types import OffsetArray
from latewood.errors import EncoderError, TextTooLongError
from latewood.forms.values import choice_of

Long: TypeAlias = Literal["windows", "cut", "error"]

OVERLAP = 8
"""Neighbouring windows share this part of a window's room for text, one over the number."""


def long_of(value: Any, what: str = "long") -> Long:
    """Check that `value` says what becomes of long texts."""
    choice_of(value, what, get_args(Long))
    return value  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Row:
    """What goes through a model as one: a text, or a window of it.

    Parameters
    ----------
    text : int
        The text's position among those that are encoded together.
    tokens : int64 array
        Positions among all tokens of the text, special ones and those of the prompt included.
    ids, types : int64 array
        Of these tokens.
    first, last : int
        `tokens[first:last]` give their vectors; the others are there as context.
    whole : bool
        It is the only row of its text.
    """

    text: int
    tokens: OffsetArray
    ids: OffsetArray
    types: OffsetArray
    first: int
    last: int
    whole: bool


def divide(
    text: int, encoding: Any, limit: int | None, long: Long, *, prompt: str = "", cut_left: bool = False
) -> list[Row]:
    """Divide the tokens of one text into what goes through a model as one.

    Of the windows of a text, each token's vector is taken from one: `tokens[first:last]` of all, one after the other,
    are all tokens of the text in order. In the overlap of two windows that is the one in which the token is farther
    from the end. Each window has the special tokens and the prompt; their vectors are taken from the first window, and
    from the last those of tokens behind the text.

    Parameters
    ----------
    text : int
        The text's position, for the rows and for an error.
    encoding : tokenizers.Encoding
        Of the prompt and the text, with special tokens. Windows need one with words and characters, as
        `Tokenizer.encode` gives it and `encode_batch_fast` does not.
    limit : int, optional
        Tokens that the model takes, special ones and the prompt's included.
    long : {"windows", "cut", "error"}
    prompt : str
    cut_left : bool
        A cut keeps the end of a text.

    Raises
    ------
    TextTooLongError
        The text is too long and `long` is "error".
    EncoderError
        The limit leaves no room for text beside special tokens and the prompt.
    """
    total = len(encoding)
    ids, types = np.array(encoding.ids, dtype=np.int64), np.array(encoding.type_ids, dtype=np.int64)
    if limit is None or total <= limit:
        return [Row(text, np.arange(total), ids, types, 0, total, True)]
    if long == "error":
        raise TextTooLongError(total, limit, text)
    head, tail = _ends(encoding)

    def with_ends(start: int, stop: int) -> OffsetArray:
        return np.concatenate([np.arange(head), np.arange(start, stop), np.arange(total - tail, total)])

    if long == "cut":
        room = max(limit - head - tail, 0)
        start = total - tail - room if cut_left else head
        kept = with_ends(start, start + room)
        return [Row(text, kept, ids[kept], types[kept], 0, len(kept), True)]
    head += _prompt_tokens(encoding, head, total - tail, prompt)
    room = limit - head - tail
    if room < 1:
        message = (
            f"the encoder takes {limit} tokens, and special ones and the prompt are {head + tail}: no room for text; "
            "raise the limit, or shorten the prompt"
        )
        raise EncoderError(message)

    def starts_word(position: int) -> bool:
        return bool(encoding.token_to_word(head + position) != encoding.token_to_word(head + position - 1))

    spans = _spans(total - head - tail, room, starts_word)
    borders = [(stop + start) // 2 for (_, stop), (start, _) in pairwise(spans)]
    rows = []
    for number, (start, stop) in enumerate(spans):
        tokens = with_ends(head + start, head + stop)
        first = 0 if number == 0 else head + borders[number - 1] - start
        last = len(tokens) if number == len(borders) else head + borders[number] - start
        rows.append(Row(text, tokens, ids[tokens], types[tokens], first, last, False))
    return rows


def _spans(count: int, room: int, starts_word: Callable[[int], bool]) -> list[tuple[int, int]]:
    """Give as few spans of at most `room` of `count` tokens as will do, of about one length: none has little context.

    They start with a word where one starts near; where they end matters less, since those vectors are not taken.
    """
    overlap = room // OVERLAP
    number = -(-(count - overlap) // (room - overlap))
    length = -(-(count + (number - 1) * overlap) // number)
    spans = [(0, length)]
    for one in range(1, number):
        even = one * (count - length) // (number - 1)
        near = range(even, even + overlap // 2 + 1)
        spans.append((next(filter(starts_word, near), even), even + length))
    return spans


def _ends(encoding: Any) -> tuple[int, int]:
    """Count the special tokens before and behind the text."""
    special = np.array(encoding.special_tokens_mask, dtype=np.bool_)
    own = np.flatnonzero(~special)
    return (int(own[0]), int(len(special) - own[-1] - 1)) if len(own) else (len(special), 0)


def _prompt_tokens(encoding: Any, start: int, stop: int, prompt: str) -> int:
    """Count the tokens from `start` on that are the prompt's alone: one that reaches into the text is the text's."""
    count = 0
    while start + count < stop and prompt:
        characters = encoding.token_to_chars(start + count)
        if characters is None or characters[1] > len(prompt):
            break
        count += 1
    return count
