"""Small values that callers give: brought to plain ones, or refused with a message that names them."""

import operator
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np

from latewood.errors import InvalidInputError

LARGEST = 2**63 - 1
"""The largest integer that the core takes."""

LARGEST_FLOAT = float(np.finfo(np.float32).max)
"""The largest number that float32 holds."""

_Checked = TypeVar("_Checked")


def shown(value: Any) -> str:
    """Write a value for a message: short, whatever its own `repr` does."""
    text = f"a {type(value).__name__}"
    # A foreign `repr` may raise anything; that of a deep list or of a huge integer does.
    with suppress(Exception):
        text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def whole(value: Any) -> int | None:
    """Give an integer of Python or numpy as an `int`, and None for all else; a bool is no number here."""
    if type(value) is int:
        return value
    # numpy counts spans of time among its integers.
    if not isinstance(value, (int, np.integer)) or isinstance(value, (bool, np.timedelta64)):
        return None
    return operator.index(value)


def count_of(value: Any, what: str, *, least: int = 1, most: int = LARGEST) -> int:
    """Check that `value` is an integer from `least` to `most`."""
    number = whole(value)
    if number is None or number < least:
        message = f"{what} must be an integer of at least {least}, not {shown(value)}"
        raise InvalidInputError(message)
    if number > most:
        message = f"{what} must be an integer of at most {most}, not {shown(value)}"
        raise InvalidInputError(message)
    return number


def number_of(value: Any, what: str, *, least: float = -LARGEST_FLOAT, most: float = LARGEST_FLOAT) -> float:
    """Check that `value` is a finite number from `least` to `most`."""
    number = None
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.timedelta64)):
        # An integer may be beyond every float.
        with suppress(OverflowError):
            number = float(value)
    if number is None or not least <= number <= most:
        limits = "" if least == -LARGEST_FLOAT else f" of at least {least:g}"
        limits += "" if most >= LARGEST_FLOAT else f" and at most {most:g}"
        message = f"{what} must be a finite number{limits}, not {shown(value)}"
        raise InvalidInputError(message)
    return number


def share_of(value: Any, what: str) -> float:
    """Check that `value` is a number above 0 and at most 1."""
    share = number_of(value, what, least=0.0, most=1.0)
    if share == 0.0:
        message = f"{what} must be above 0, not {shown(value)}"
        raise InvalidInputError(message)
    return share


def flag_of(value: Any, what: str) -> bool:
    """Check that `value` is True or False."""
    if value is True or value is False:
        return bool(value)
    if isinstance(value, np.bool_):
        return bool(value)
    message = f"{what} must be True or False, not {shown(value)}"
    raise InvalidInputError(message)


def choice_of(value: Any, what: str, known: tuple[str, ...]) -> str:
    """Check that `value` is one of the words `known`."""
    if isinstance(value, str) and value in known:
        return value
    message = f"{what} must be one of {', '.join(map(repr, known))}, not {shown(value)}"
    raise InvalidInputError(message)


def optional(check: Callable[..., _Checked], value: Any, what: str, *arguments: Any, **limits: Any) -> _Checked | None:
    """Check a value that may be None."""
    return None if value is None else check(value, what, *arguments, **limits)


def threads_of(threads: Any) -> int | None:
    """Check a number of threads; None leaves it to the core."""
    return optional(count_of, threads, "threads")


def text_of(value: Any, what: str) -> str:
    """Check that `value` is a str that UTF-8 can write."""
    if not isinstance(value, str):
        message = f"{what} is a {type(value).__name__}, not a str"
        raise InvalidInputError(message)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            message = f"{what} is not Unicode text ({error}); remove lone surrogates"
            raise InvalidInputError(message) from error
    return value


def path_of(value: Any, what: str = "path") -> str:
    """Check that `value` is a path that a file system could have."""
    try:
        path = os.fsdecode(value)
        os.fsencode(path)
    except Exception as error:  # a path's own `__fspath__` may raise anything
        message = f"{what} must be a str or a path object, not {shown(value)}: {error}"
        raise InvalidInputError(message) from error
    if not path or "\0" in path:
        message = f"{what} must name a file or folder, and {shown(value)} does not"
        raise InvalidInputError(message)
    return path
