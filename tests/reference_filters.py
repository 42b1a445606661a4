"""What a filter means, on metadata as Python has them: the oracle that the library's filters are compared with."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}


def matches(metadata: Mapping[str, Any] | None, condition: Mapping[str, Any]) -> bool:
    """Whether a document with this metadata passes."""
    return all(_holds(metadata or {}, key, asked) for key, asked in condition.items())


def _holds(metadata: Mapping[str, Any], key: str, asked: Any) -> bool:
    if key == "and":
        return all(matches(metadata, part) for part in asked)
    if key == "or":
        return any(matches(metadata, part) for part in asked)
    if key == "not":
        return not matches(metadata, asked)
    there = list(found(metadata, key.removeprefix("\\")))
    if isinstance(asked, list):
        asked = {"in": asked}
    if not isinstance(asked, dict):
        asked = {"eq": asked}
    return all(_fulfils(there, operator, operand) for operator, operand in asked.items())


def found(value: Any, path: str) -> Iterator[Any]:
    """All to which a path leads."""
    if isinstance(value, list):
        for element in value:
            yield from found(element, path)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if path == name:
                yield inner
            elif path.startswith(f"{name}."):
                yield from found(inner, path[len(name) + 1 :])


def _fulfils(there: list[Any], operator: str, operand: Any) -> bool:
    values = [scalar for value in there for scalar in scalars(value)] if there else [None]
    if operator == "exists":
        return bool(there) is operand
    if operator == "eq":
        return any(_same(value, operand) for value in values)
    if operator == "ne":
        return not any(_same(value, operand) for value in values)
    if operator == "in":
        return any(_same(value, one) for value in values for one in operand)
    if operator == "contains":
        wanted = operand if isinstance(operand, list) else [operand]
        return all(any(_same(value, one) for value in values) for one in wanted)
    if operator == "prefix":
        return any(isinstance(value, str) and value.startswith(operand) for value in values)
    return any(kind(value) == kind(operand) and ORDERS[operator](value, operand) for value in values)


def scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for element in value:
            yield from scalars(element)
    elif not isinstance(value, dict):
        yield value


def _same(one: Any, other: Any) -> bool:
    return kind(one) == kind(other) and bool(one == other)


def kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return type(value).__name__
    return "str" if isinstance(value, str) else "number"
