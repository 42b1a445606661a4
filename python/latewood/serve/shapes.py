"""Bodies of requests and answers: what JSON must look like, and how it becomes arguments of an `Index`."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
import msgspec.inspect
import msgspec.structs
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from latewood.common.signatures import meant
from latewood.common.types import FloatArray, Id, Metadata, MissingRule
from latewood.encode.protocol import OnEmpty
from latewood.encode.windows import Long
from latewood.errors import InvalidInputError
from latewood.index.feedback import Feedback
from latewood.index.options import RerankKeywords, SearchKeywords

MAX_DIMENSIONS = 4096
MAX_QUERY_CHARACTERS = 65_536
"""Of a text query: one of more tokens than can be searched with is not encoded first, which takes its time."""
Count = Annotated[int, Meta(ge=1)]
_NO_VALUE = re.compile(r"Invalid enum value .* at `\$\.(\w+)`$")
_NO_FIELD = re.compile(r"unknown field `([^`]*)`$")
"""What msgspec says of a body that has what there is not."""
LONGEST_DETAIL = 500
"""Characters of it that are told again: a name or a value may be as long as a body."""


class EncodedVectors(Struct, forbid_unknown_fields=True):
    """Token vectors as the bytes of an array [tokens, dim], little-endian and row by row, in base64."""

    base64: bytes
    shape: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)]]
    dtype: Literal["float32", "float16"] = "float32"


Vectors = EncodedVectors | list[list[float]]
QueryText = Annotated[str, Meta(max_length=MAX_QUERY_CHARACTERS)]
Query = QueryText | EncodedVectors | list[list[float]]


class Timed(Struct, kw_only=True, omit_defaults=True):
    """What all requests with a body may say."""

    timeout: Annotated[float, Meta(gt=0)] | None = None


class Body(Timed, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A request that says nothing else than what it may."""


GivenFeedback: Any = msgspec.defstruct(
    "Feedback",
    [(one.name, get_type_hints(Feedback)[one.name], one.default) for one in fields(Feedback)],
    kw_only=True,
    forbid_unknown_fields=True,
)
"""`Feedback`; of a dataclass, msgspec passes over fields that it does not have."""
GivenFeedback.__doc__ = Feedback.__doc__


def _options(keywords: type) -> list[tuple[str, Any, Any]]:
    """Give the fields for a call's keyword arguments. How many threads it uses is the service's own affair."""
    hints = {name: hint for name, hint in get_type_hints(keywords).items() if name not in ("filter", "threads")}
    if "feedback" in hints:
        hints["feedback"] = GivenFeedback
    return [(name, hint if NoneType in get_args(hint) else hint | None, None) for name, hint in hints.items()]


_FILTER: tuple[str, Any, Any] = ("filter", dict[str, Any] | None, None)
_FILTERS: tuple[str, Any, Any] = ("filter", dict[str, Any] | list[dict[str, Any] | None] | None, None)


def _body(name: str, described: str, *parts: Any) -> Any:
    made = msgspec.defstruct(name, list(parts), bases=(Body,), kw_only=True, forbid_unknown_fields=True)
    made.__doc__ = described
    return made


_SEARCH = ("with_documents", bool, True), ("ids", list[Id] | None, None), ("weights", list[float] | None, None)
_RERANK = ("with_documents", bool, True), ("scores", list[float] | None, None), ("weights", list[float] | None, None)
Search = _body(
    "Search",
    "`Index.search`.",
    ("query", Query),
    ("k", Count, 10),
    *_SEARCH,
    _FILTER,
    *_options(SearchKeywords),
)
SearchBatch = _body(
    "SearchBatch",
    "`Index.search_batch`.",
    ("queries", list[Query]),
    ("k", Count, 10),
    *_SEARCH[:2],
    ("weights", list[list[float]] | None, None),
    _FILTERS,
    *_options(SearchKeywords),
)
Rerank = _body(
    "Rerank",
    "`Index.rerank`.",
    ("query", Query),
    ("candidates", list[Id]),
    ("k", Count | None, None),
    *_RERANK,
    _FILTER,
    *_options(RerankKeywords),
)
RerankBatch = _body(
    "RerankBatch",
    "`Index.rerank_batch`.",
    ("queries", list[Query]),
    ("candidates", list[list[Id]]),
    ("k", Count | None, None),
    ("with_documents", bool, True),
    ("scores", list[list[float]] | None, None),
    ("weights", list[list[float]] | None, None),
    _FILTERS,
    *_options(RerankKeywords),
)


class Explain(Body):
    """`Index.explain`."""

    query: Query
    id: Id
    weights: list[float] | None = None
    length_normalize: bool = False
    rescore: Literal["float16", "off"] | None = None


class NewDocument(Struct, forbid_unknown_fields=True):
    """A document to add: an id, a text or vectors or both, and metadata."""

    id: Id
    text: str | None = None
    vectors: Vectors | None = None
    metadata: dict[str, Any] | None = None


class Additions(Body):
    """`Index.add` and `Index.upsert`."""

    documents: list[NewDocument]
    store_texts: bool = True
    on_empty: OnEmpty = "keep"
    long: Long | None = None
    merge: bool = True


class Chosen(Body):
    """Documents by their ids or by a filter."""

    ids: list[Id] | None = None
    filter: dict[str, Any] | None = None


class Deletion(Chosen):
    """`Index.delete`."""

    missing: MissingRule = "error"
    merge: bool = True


class MetadataUpdate(Chosen, kw_only=True):
    """`Index.update_metadata`."""

    metadata: dict[str, Any] | list[dict[str, Any]]
    replace: bool = False
    missing: MissingRule = "error"
    merge: bool = True


class Get(Body):
    """`Index.documents`, and `Index.vectors` if `vectors` is true."""

    ids: list[Id]
    vectors: bool = False


class Counting(Body):
    """`Index.count`."""

    filter: dict[str, Any] | None = None


class Tune(Body):
    """`Index.tune`."""

    queries: list[Query] | None = None
    weights: list[list[float]] | None = None
    recall: float = 0.99
    k: Count = 10


PageSearch = _body(
    "PageSearch",
    "What the page asks when something is typed or chosen.",
    ("query", Query),
    ("k", Count, 10),
    ("exact", bool, False),
    _FILTER,
    *_options(SearchKeywords),
)


class PagePicture(Body, kw_only=True):
    """The document whose picture the page shows, by its id as text."""

    id: str


class Nothing(Body):
    """Nothing needs to be said."""


class RerankText(Struct):
    """A document of `/v1/rerank`."""

    text: str


class RerankTexts(Timed, kw_only=True):
    """What rerank services are asked. Fields that others know and this one has no use for are passed over."""

    query: QueryText
    documents: list[str | RerankText] | None = None
    model: str | None = None
    top_n: Count | None = None
    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    index: str | None = None
    ids: list[Id] | None = None


def remedied(message: str, body: type) -> str:
    """Add to what msgspec says of a field, or of its value, that there is not: which there are."""
    if len(message) > LONGEST_DETAIL:
        return f"{message[:LONGEST_DETAIL]}…"
    told: Any = msgspec.inspect.type_info(body)
    fields = {field.encode_name: field.type for field in told.fields}
    if (field := _NO_FIELD.search(message)) is not None:
        return f"{message}; {meant(field[1], [*fields])}"
    if (value := _NO_VALUE.search(message)) is not None:
        kinds = getattr(fields[value[1]], "types", [fields[value[1]]])
        values = [repr(one) for kind in kinds for one in getattr(kind, "values", ())]
        return f"{message}; it is one of {', '.join(values)}"
    return message


def vectors_of(given: Vectors, what: str) -> NDArray[Any]:
    """Make an array [tokens, dim] of what a request gives."""
    if isinstance(given, list):
        if len({len(row) for row in given}) != 1 or not all(given):
            message = f"{what} must have token vectors, all of the same dimensions"
            raise InvalidInputError(message)
        # What float32 cannot hold becomes infinite, and is told by name later.
        with np.errstate(over="ignore"):
            return np.array(given, dtype=np.float32).reshape(len(given), -1)
    kind = np.dtype(given.dtype).newbyteorder("<")
    data = given.base64
    tokens, dim = given.shape
    if len(data) != tokens * dim * kind.itemsize:
        message = f"{what}: {len(data)} bytes are no {given.dtype} array of shape [{tokens}, {dim}]"
        raise InvalidInputError(message)
    return np.frombuffer(data, dtype=kind).reshape(tokens, dim)


def encoded(vectors: FloatArray) -> EncodedVectors:
    """Give an array [tokens, dim] as a request or answer has it."""
    data = np.ascontiguousarray(vectors, dtype="<f4")
    return EncodedVectors(base64=data.tobytes(), shape=data.shape)


def query_of(given: Query) -> Any:
    """Give text or vectors as an index takes them."""
    return given if isinstance(given, str) else vectors_of(given, "the query")


def queries_of(given: Sequence[Query]) -> Any:
    """Give all texts or all vectors as an index takes them."""
    if len({isinstance(query, str) for query in given}) > 1:
        message = "some queries are texts and others vectors; ask for either in a request of its own"
        raise InvalidInputError(message)
    return [
        query if isinstance(query, str) else vectors_of(query, f"query {place}") for place, query in enumerate(given)
    ]


def options_of(body: Any, *but: str) -> dict[str, Any]:
    """Give the keyword arguments that a body gives."""
    own = {"timeout", "query", "queries", "candidates", "scores", *but}
    given = {name: getattr(body, name) for name in body.__struct_fields__ if name not in own}
    if given.get("feedback") is not None:
        given["feedback"] = Feedback(**msgspec.structs.asdict(given["feedback"]))
    return {name: value for name, value in given.items() if value is not None}


def additions_of(body: Additions) -> dict[str, Any]:
    """Give the arguments of `Index.add`."""
    documents = body.documents
    columns: dict[str, Any] = {
        "ids": [one.id for one in documents],
        "texts": [one.text for one in documents],
        "metadata": [one.metadata for one in documents],
        "store_texts": body.store_texts,
        "on_empty": body.on_empty,
        "long": body.long,
        "merge": body.merge,
    }
    with_vectors = [one.vectors is not None for one in documents]
    # Nothing is no text that an encoder would have to read.
    if any(with_vectors) or not documents:
        if not all(with_vectors):
            message = f"document {documents[with_vectors.index(False)].id!r} has no vectors, and others have; give all"
            raise InvalidInputError(message)
        columns["vectors"] = [
            vectors_of(one.vectors, f"document {one.id!r}") for one in documents if one.vectors is not None
        ]
    for name in ("texts", "metadata"):
        if all(value is None for value in columns[name]):
            columns[name] = None
    return columns


def finite(scores: Iterable[float]) -> list[float]:
    """Give scores as rerank services do, in a JSON that has no infinity: the lowest float32 instead."""
    lowest = float(np.finfo(np.float32).min)
    return [max(score, lowest) for score in scores]


def metadata_of(given: dict[str, Any] | list[dict[str, Any]]) -> Metadata | list[Metadata]:
    """Give metadata as an index takes them."""
    return given if isinstance(given, dict) else list(given)
