"""Metadata of every kind, filters that ask for what is in them, and what changes them."""

from typing import Any

from hypothesis import strategies as st

WORDS = ("and", "or", "not", "$and", "$or", "$not", "$nor")
NAMES = ["a", "b", "c", "ab", "a.b", "b.c", ".", "", "é", "日本", "A", "\\", "\\a", "in", *WORDS]
# fmt: off
TEXTS = [
    "", "a", "ab", "abc", "b", "é", "e\u0301", "日本語", "日本", "🦊", "\0", "1", "true", "2024-05-01", "2024-05-17",
]
NUMBERS = [
    0, 1, -1, 2, 1.0, 0.5, -0.0, 1e-300, 2**53, 2**53 + 1, float(2**53), 2**63, 2**64 + 1, -(2**63) - 1, 2**127,
    2**128 + 1, float(2**128), 10**40, -(10**400), 1e308,
]
# fmt: on
COMMON = [None, True, 1, "a"]
SCALARS: list[Any] = [*COMMON, False, *TEXTS, *NUMBERS]

scalars = st.sampled_from([*COMMON * 8, *SCALARS])
names = st.sampled_from(NAMES[:5]) | st.sampled_from(NAMES)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)
changes = st.dictionaries(names, values, max_size=4)
"""For `update_metadata`."""
metadata = st.none() | changes
paths = st.sampled_from(["a", "b", "c", "ab", "a.b", "a.a", "b.a", "a.b.c"] * 4 + NAMES) | st.lists(
    names, min_size=1, max_size=3
).map(".".join)
bounds = scalars.filter(lambda value: value is not None and not isinstance(value, bool))
several = st.lists(scalars, max_size=4)
operators = st.one_of(
    st.tuples(st.sampled_from(["eq", "ne"]), scalars),
    st.tuples(st.just("in"), several),
    st.tuples(st.sampled_from(["gt", "gte", "lt", "lte"]), bounds),
    st.tuples(
        st.just("contains"),
        scalars.filter(lambda value: value is not None)
        | several.filter(lambda values: bool(values) and None not in values),
    ),
    st.tuples(st.just("prefix"), st.sampled_from(TEXTS) | st.text(max_size=2)),
    st.tuples(st.just("exists"), st.booleans()),
)


def written(path: str) -> str:
    """The key of a filter that asks for this path."""
    return f"\\{path}" if path in WORDS or path.startswith("\\") else path


def combined(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    listed = st.builds(
        lambda word, parts: {word: parts}, st.sampled_from(["or", "and"]), st.lists(inner, min_size=1, max_size=3)
    )
    return (
        listed | inner.map(lambda part: {"not": part}) | st.builds(lambda one, other: {**one, **other}, fields, listed)
    )


conditions = st.lists(operators, min_size=1, max_size=2).map(dict) | scalars | several
fields = st.dictionaries(paths.map(written), conditions, min_size=1, max_size=2)
filters = st.recursive(fields, combined, max_leaves=5)

# The same from so few values that most filters find some documents, and most changes meet what was there.

few_values = st.sampled_from([None, True, 1, 2, "a", "ab"])
few_fields = (
    few_values | st.lists(few_values, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), few_values, max_size=2)
)
few_changes = st.fixed_dictionaries({}, optional={"a": few_values, "b": few_fields, "c": few_fields})
few_metadata = (
    st.fixed_dictionaries({"a": few_values}, optional={"b": few_fields, "c": few_fields}) | few_changes | st.none()
)
few_paths = st.sampled_from(["a", "b", "c", "a.a", "b.a"])
few_filters = st.recursive(
    st.dictionaries(
        few_paths,
        few_values
        | st.sampled_from([{"exists": True}, {"gte": 1}, {"ne": "a"}, {"in": [2, "ab", None]}, {"prefix": "a"}]),
        min_size=1,
        max_size=2,
    ),
    combined,
    max_leaves=3,
)
