"""Metadata and filters → JSON."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date
from typing import Any

import numpy as np

from latewood.errors import InvalidInputError
from latewood.forms.arrow import is_plain_column
from latewood.forms.values import text_of


class WrittenFilter(str):
    """A filter as the JSON that the core reads: what a caller gives is a mapping, and never this."""

    __slots__ = ()


def filter_json(condition: Any, what: str = "filter") -> WrittenFilter | None:
    """Write a filter, unless that was done before; what its operators mean is the core's to say."""
    if condition is None or isinstance(condition, WrittenFilter):
        return condition
    return WrittenFilter(mapping_json(condition, what, "{'lang': 'en'}"))


def filters_json(given: Any, what: str = "filter") -> WrittenFilter | list[WrittenFilter] | None:
    """Write one filter for all queries, or a sequence with one for each, of which None lets everything through."""
    if hasattr(given, "keys") or not isinstance(given, (list, tuple)):
        return filter_json(given, what)
    everything = WrittenFilter("{}")
    return [filter_json(entry, f"{what} of query {position}") or everything for position, entry in enumerate(given)]


def is_one_mapping(given: Any) -> bool:
    """Whether `given` is one mapping for all documents; a column of pandas with one for each has keys too."""
    return isinstance(given, Mapping) or (hasattr(given, "keys") and not is_plain_column(given))


def mapping_json(value: Any, what: str, example: str) -> str:
    """Write a mapping as JSON."""
    if not hasattr(value, "keys"):
        message = f"{what} is a {type(value).__name__}; pass a mapping such as {example}"
        raise InvalidInputError(message)
    try:
        plain = dict(value)
        text, twice = _written(plain), _named_twice(plain)
    except RecursionError as error:
        message = f"{what} is nested too deeply to be written as JSON; make it flatter"
        raise InvalidInputError(message) from error
    except Exception as error:  # a foreign mapping may raise anything
        path, found = _culprit(value)
        place = f" in field {'.'.join(path)[:200]!r}" if path else ""
        infinite = isinstance(found, (float, np.floating)) and not np.isfinite(found)
        reason = f"{found} is no number there; write None for what is missing" if infinite else error
        message = f"{what} is not JSON{place}: {reason}"
        raise InvalidInputError(message) from error
    if twice is not None:
        message = f"{what} has two keys that are {twice!r} as JSON, of which one would be lost; give names as strings"
        raise InvalidInputError(message)
    return text_of(text, what)


def _named_twice(value: Any) -> str | None:
    """Find a name that several keys of one mapping become, as 1 and "1" do."""
    parts: Iterable[Any]
    if isinstance(value, Mapping):
        names = [key if isinstance(key, str) else json.dumps(key) for key in value]
        if len(set(names)) < len(names):
            return next(name for place, name in enumerate(names) if name in names[:place])
        parts = value.values()
    elif isinstance(value, (list, tuple)):
        parts = value
    else:
        return None
    return next((name for name in map(_named_twice, parts) if name is not None), None)


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_json_value)


def _culprit(value: Any) -> tuple[list[str], Any]:
    """Give the path to the innermost field that cannot be written, and what it holds."""
    with suppress(Exception):  # as above
        for key, inner in dict(value).items():
            try:
                _written(inner)
            except Exception:  # noqa: BLE001  as above
                path, found = _culprit(inner)
                return [str(key), *path], found
    return [], value


def _json_value(value: Any) -> Any:
    # numpy would give nanoseconds as an integer.
    if isinstance(value, (date, np.datetime64)):
        message = f"{type(value).__name__} is not a value of JSON; write dates as strings, as `isoformat` does"
        raise TypeError(message)
    # That of a long double is a long double again.
    if isinstance(value, np.generic) and not isinstance(value.item(), np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset, range)):
        return sorted(value)
    message = f"{type(value).__name__} is not a value of JSON"
    raise TypeError(message)
