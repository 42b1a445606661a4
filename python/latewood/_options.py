"""Options of a search as the core takes them, checked where the message can name them."""

import json
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from latewood.errors import InvalidInputError


def count_of(value: Any, what: str) -> int:
    """Check that `value` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        message = f"{what} must be an integer of at least 1, not {value!r}"
        raise InvalidInputError(message)
    return int(value)


def threads_of(threads: int | None) -> int | None:
    """Check a number of threads; None leaves it to the core."""
    return None if threads is None else count_of(threads, "threads")


def filter_json(condition: Mapping[str, Any] | None) -> str | None:
    """Write a filter as the JSON that the core reads; what its operators mean is the core's to say."""
    if condition is None:
        return None
    if not isinstance(cast("object", condition), Mapping):
        message = f"filter is a {type(condition).__name__}; pass a mapping such as {{'lang': 'en'}}"
        raise InvalidInputError(message)
    try:
        return json.dumps(dict(condition), allow_nan=False, default=_json_scalar)
    except (TypeError, ValueError) as error:
        message = f"the filter is not JSON: {error}"
        raise InvalidInputError(message) from error


def _json_scalar(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (set, frozenset, range)):
        return sorted(value)
    message = f"{type(value).__name__} is not a value of JSON"
    raise TypeError(message)
