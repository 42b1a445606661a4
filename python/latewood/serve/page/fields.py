"""Which fields documents have: what the page offers to filter by."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MOST_VALUES = 50
"""Values of a field that are offered, the most frequent first."""
LONGEST_VALUE = 80
"""Characters of a value that is offered."""
MOST_FIELDS = 100
OPERATORS = ("and", "or", "not")
"""Words of a filter, before which a field of that name has a backslash, as before one."""


def fields_of(metadata: Iterable[Mapping[str, Any] | None]) -> list[dict[str, Any]]:
    """Tell the fields of documents, the most frequent first.

    Parameters
    ----------
    metadata : iterable of mapping or None
        That of each document.

    Returns
    -------
    list of dict
        "name", as a filter calls it; "kinds", of "text", "number" and "flag"; "documents", how many have it;
        "values", some that it has; "least" and "most" of its numbers.
    """
    counts: dict[str, Counter[tuple[str, Any]]] = {}
    documents: Counter[str] = Counter()
    for entry in metadata:
        seen = set()
        for path, value in _leaves(entry):
            name = _called(path)
            counts.setdefault(name, Counter())[_kind(value), value] += 1
            seen.add(name)
        documents.update(seen)
    return [_field(name, number, counts[name]) for name, number in documents.most_common(MOST_FIELDS)]


def _called(path: str) -> str:
    """Name a field as a filter does, which would take it for a word of its own otherwise."""
    return f"\\{path}" if path in OPERATORS or path.startswith("\\") else path


def _leaves(value: Any, path: str | None = None) -> Iterator[tuple[str, Any]]:
    """Give each value with the path of its field; what is in a list has the path of the list, as in a filter."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, key if path is None else f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path)
    elif value is not None and path is not None:
        yield path, value


def _kind(value: Any) -> str:
    return "flag" if isinstance(value, bool) else "number" if isinstance(value, (int, float)) else "text"


def _field(name: str, documents: int, counted: Counter[tuple[str, Any]]) -> dict[str, Any]:
    numbers = [value for kind, value in counted if kind == "number"]
    values = [value for (kind, value), _ in counted.most_common() if kind != "text" or len(value) <= LONGEST_VALUE]
    return {
        "name": name,
        "kinds": sorted({kind for kind, _ in counted}),
        "documents": documents,
        "values": values[:MOST_VALUES],
        "least": min(numbers, default=None),
        "most": max(numbers, default=None),
    }
