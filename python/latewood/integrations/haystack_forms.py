"""Haystack's queries and filters → latewood's."""

from dataclasses import fields
from typing import Any

import numpy as np
from haystack import Document

from latewood.common.types import Filter
from latewood.errors import InvalidInputError
from latewood.forms.values import shown

_OWN = {field.name for field in fields(Document)}
"""Names by which Haystack means a document itself, and not its `meta`."""

_COMPARISONS = {
    "==": "eq",
    "!=": "ne",
    ">": "gt",
    ">=": "gte",
    "<": "lt",
    "<=": "lte",
    "in": "in",
    "not in": "in",
}


def one_query(text: Any, vectors: Any) -> Any:
    """Give what is asked, text or token vectors."""
    if (text is None) == (vectors is None):
        found = "neither is" if text is None else "both are"
        message = (
            f"a query is a text or its token vectors, and {found} given; pass query or query_multivector_embedding"
        )
        raise InvalidInputError(message)
    return text if vectors is None else np.asarray(vectors, dtype=np.float32)


def filter_of(filters: Any, where: str = "filters") -> Filter | None:
    """Translate a filter in Haystack's form: comparisons of fields, joined by AND, OR and NOT.

    Raises
    ------
    InvalidInputError
        Another form, with the place.
    """
    if not filters:
        return None
    if not isinstance(filters, dict) or "operator" not in filters:
        message = (
            f"{where} are {shown(filters)}; pass Haystack's form, such as "
            "{'field': 'meta.lang', 'operator': '==', 'value': 'en'}"
        )
        raise InvalidInputError(message)
    return _comparison(filters, where) if "field" in filters else _logic(filters, where)


def _logic(filters: dict[str, Any], where: str) -> Filter:
    operator, conditions = filters["operator"], filters.get("conditions")
    if operator not in ("AND", "OR", "NOT") or not isinstance(conditions, (list, tuple)):
        message = f"{where}: {shown(filters)} joins nothing; it needs an operator AND, OR or NOT, and conditions"
        raise InvalidInputError(message)
    parts = [filter_of(one, f"{where}.conditions[{place}]") or {} for place, one in enumerate(conditions)]
    # Of several conditions, NOT says that not all of them hold.
    return {"not": {"and": parts}} if operator == "NOT" else {operator.lower(): parts}


def _comparison(filters: dict[str, Any], where: str) -> Filter:
    operator, field = filters["operator"], filters["field"]
    if operator not in _COMPARISONS or "value" not in filters or not isinstance(field, str):
        message = f"{where}: {shown(filters)} compares nothing; it needs a field, a value and one of {[*_COMPARISONS]}"
        raise InvalidInputError(message)
    if field in _OWN:
        message = (
            f"{where}: {field!r} is a part of the document itself, and an index filters by metadata alone; for a field "
            f"of that name in the metadata write 'meta.{field}'"
        )
        raise InvalidInputError(message)
    # The backslash: the name is a field's, even if it is "and".
    compared = {f"\\{field.removeprefix('meta.')}": {_COMPARISONS[operator]: filters["value"]}}
    return {"not": compared} if operator == "not in" else compared
