"""A text that is longer than its model takes: overlapping windows of its tokens, a cut, or an error."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from latewood._options import choice_of
from latewood._typing import OffsetArray
from latewood.errors import EncoderError, TextTooLongError

Long: TypeAlias = Literal["windows", "cut", "error"]

OVERLAP = 4
"""Neighbouring windows share this part of a window's room for text, one over the number."""


def long_of(value: Any) -> Long:
    """Check that `value` says what becomes of long texts."""
    choice_of(value, "long", get_args(Long))
    return value  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Window:
    """The tokens that go through the model together, and those of them whose vectors are the text's.

    Parameters
    ----------
    tokens : int64 array
        Positions among all tokens of the text, special ones and those of a prompt included.
    first, last : int
        `tokens[first:last]` give their vectors; the others are there as context.
    """

    tokens: OffsetArray
    first: int
    last: int


def divide(encoding: Any, limit: int | None, long: Long, *, prompt: str = "", cut_left: bool = False) -> list[Window]:
    """Divide the tokens of one text into what goes through the model at once.

    Of the windows of a text, each token's vector is taken from one: `tokens[first:last]` of all windows, one after the
    other, are all tokens of the text in order. Each window has the special tokens and the prompt; their vectors are
    taken from the first window, or from the last for those at the end.

    Parameters
    ----------
    encoding : tokenizers.Encoding
        Of the prompt and the text, with special tokens. Windows need one with words and characters, as
        `Tokenizer.encode` gives it and `encode_batch_fast` does not.
    limit : int, optional
        Tokens that the model takes, special ones included.
    long : {"windows", "cut", "error"}
    prompt : str
    cut_left : bool
        A cut keeps the end of a text.

    Raises
    ------
    TextTooLongError
        The text is too long and `long` is "error".
    EncoderError
        The limit leaves no room for a single token beside special ones and the prompt.
    """
    total = len(encoding)
    if limit is None or total <= limit:
        return [Window(np.arange(total), 0, total)]
    if long == "error":
        raise TextTooLongError(total, limit)
    head, tail = _ends(encoding)
    if long == "cut":
        room = max(limit - head - tail, 0)
        start = total - tail - room if cut_left else head
        kept = _joined(total, head, tail, start, min(start + room, total - tail))
        return [Window(kept, 0, len(kept))]
    head += _prompt_tokens(encoding, head, total - tail, prompt)
    room = limit - head - tail
    if room < 1:
        message = f"the encoder takes {limit} tokens, and special tokens and the prompt are {head + tail}; raise its limit"
        raise EncoderError(message)

    def starts_word(position: int) -> bool:
        return bool(encoding.token_to_word(head + position) != encoding.token_to_word(head + position - 1))

    spans = _spans(total - head - tail, room, starts_word)
    borders = [(stop + start) // 2 for (_, stop), (start, _) in zip(spans, spans[1:], strict=False)]
    windows = []
    for number, (start, stop) in enumerate(spans):
        tokens = _joined(total, head, tail, head + start, head + stop)
        first = 0 if number == 0 else head + borders[number - 1] - start
        last = len(tokens) if number == len(borders) else head + borders[number] - start
        windows.append(Window(tokens, first, last))
    return windows


def _spans(count: int, room: int, starts_word: Callable[[int], bool]) -> list[tuple[int, int]]:
    """As few spans of at most `room` of `count` tokens as will do, of about one length, so that none has little context.

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


def _joined(total: int, head: int, tail: int, start: int, stop: int) -> OffsetArray:
    return np.concatenate([np.arange(head), np.arange(start, stop), np.arange(total - tail, total)])


def _ends(encoding: Any) -> tuple[int, int]:
    """Special tokens before and behind the text."""
    special = np.array(encoding.special_tokens_mask, dtype=np.bool_)
    own = np.flatnonzero(~special)
    return (int(own[0]), int(len(special) - own[-1] - 1)) if len(own) else (len(special), 0)


def _prompt_tokens(encoding: Any, start: int, stop: int, prompt: str) -> int:
    """Tokens from `start` on that are the prompt's alone: one that reaches into the text is the text's."""
    count = 0
    while start + count < stop and prompt:
        characters = encoding.token_to_chars(start + count)
        if characters is None or characters[1] > len(prompt):
            break
        count += 1
    return count
