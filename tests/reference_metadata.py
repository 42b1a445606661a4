"""What becomes of metadata that change, and of hits that are grouped by them."""

from collections.abc import Iterable, Mapping
from typing import Any

from reference_filters import found, kind, scalars


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def updated(metadata: Any, change: dict[str, Any], *, replace: bool) -> dict[str, Any]:
    """A document's metadata after a change."""
    after: dict[str, Any] = change if replace else merge_patch(metadata, change)
    return after


def best_of_groups(ranking: Iterable[Any], metadata: Mapping[Any, Any], path: str) -> list[Any]:
    """Of a ranking's documents, best first, those whose group no better one is of.

    The first value that a path leads to is the group; a document without one is a group of its own.
    """
    best: dict[Any, Any] = {}
    for key in ranking:
        values = [scalar for value in found(metadata[key] or {}, path) for scalar in scalars(value)]
        first = next((value for value in values if value is not None), None)
        best.setdefault(("alone", key) if first is None else (kind(first), first), key)
    return list(best.values())
