"""What adapters share: a framework's documents → ids or texts → scores → the same documents, in order."""

import inspect
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from latewood.common.types import Id, VectorInput
from latewood.encode.protocol import encode_queries
from latewood.errors import InvalidInputError
from latewood.forms.ids import plain_ids
from latewood.forms.values import count_of, optional, shown
from latewood.index.index import Index, checked_index
from latewood.index.options import RerankOptions, SearchOptions
from latewood.index.results import Hits
from latewood.rerank.reranker import Reranker

Source: TypeAlias = Index | Reranker
"""What scores documents: an index those that it holds, by their ids; a reranker any, by their texts."""

D = TypeVar("D")
M = TypeVar("M")


class Searcher(Protocol):
    """What finds documents for a query: an `Index`, a `TwoStage`, anything with their `search`."""

    @property
    def search(self) -> Callable[..., Hits]:
        """A method that takes a query, `k` and options, and gives at most k hits, best first."""


class Made(Generic[M]):
    """What is made of fields of an adapter, and made again where its user has put others in their place.

    Parameters
    ----------
    make : callable
        Fields → what is made of them.
    made
        What it made of these fields.
    *fields
    """

    def __init__(self, make: Callable[..., M], made: M, *fields: Any) -> None:
        self._make = make
        self._last = (made, fields)

    def of(self, *fields: Any) -> M:
        """Give what is made of the fields as they are now."""
        made, before = self._last
        if any(map(operator.is_not, fields, before)):
            made = self._make(*fields)
            self._last = (made, fields)
        return made


def source_of(index: Any, model: Any, options: Mapping[str, Any] | None = None) -> Source:
    """Make what scores documents of an adapter's arguments.

    Parameters
    ----------
    index : Index or path-like, optional
    model : Reranker, or what `Reranker` takes as its encoder, optional
        Not both; with neither, the encoder is the one inside the wheel.
    options : mapping, optional
        Keyword arguments of `Index.rerank`, or of `Reranker.rank`, for `ranked`; checked here.

    Raises
    ------
    InvalidInputError
        Both an index and a model, something that is neither, or an option that does not fit.
    """
    if index is not None and model is not None:
        message = "index and model are both given: an index scores what it holds, a model any text; leave out one"
        raise InvalidInputError(message)
    if index is not None:
        source: Source = index_of(index)
    else:
        source = model if isinstance(model, Reranker) else Reranker(model)
    _check_options(source, options_of(options))
    return source


def index_of(index: Any) -> Index:
    """Open an index that is given by its path."""
    return Index.open(index) if isinstance(index, (str, os.PathLike)) else checked_index(index)


def searcher_of(index: Any, options: Mapping[str, Any] | None = None) -> Searcher:
    """Make what finds documents of an adapter's arguments.

    Parameters
    ----------
    index : Index, path-like, or any object with a method `search`
    options : mapping, optional
        Keyword arguments of its `search`; those of an index are checked here.

    Raises
    ------
    InvalidInputError
        Something that cannot search, or an option that does not fit.
    """
    given = options_of(options)
    if not isinstance(index, (type, Index)) and callable(getattr(index, "search", None)):
        return index  # type: ignore[no-any-return]
    search_options_of(
        {name: value for name, value in given.items() if name not in ("ids", "weights", "with_documents")}
    )
    return index_of(index)


def options_of(options: Any) -> dict[str, Any]:
    """Check that options are a mapping of names, or None."""
    if options is None:
        return {}
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        message = f"options are {shown(options)}; pass a dict of keyword arguments"
        raise InvalidInputError(message)
    return dict(options)


def search_options_of(options: Any) -> dict[str, Any]:
    """Check that options are those that `SearchOptions` describes, or None."""
    given = options_of(options)
    _refusing(lambda: SearchOptions.of(k=1, **given))
    return given


def settings_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Check that `Index.create` knows settings by these names; their values are its to check."""
    _refusing(lambda: inspect.signature(Index.create).bind("", **settings))
    return settings


def name_of(source: Source) -> str:
    """Give the name of what encodes, as events and requests carry it; an index without an encoder is its path."""
    encoder = source.encoder
    fallback = source.path if isinstance(source, Index) else type(encoder).__name__
    return str(getattr(encoder, "name", None) or fallback)


def load(source: Source) -> None:
    """Load what encodes queries, which the first call does otherwise."""
    if source.encoder is not None:
        encode_queries(source.encoder, ["a query"])


def written(given: Any, what: str) -> str | None:
    """Give the text that stands for an index or a model in a file: its path, or its name.

    Raises
    ------
    InvalidInputError
        An object that no text stands for.
    """
    if given is None:
        return None
    if isinstance(given, Index):
        return given.path
    if isinstance(given, (str, os.PathLike)):
        return os.fspath(given) if isinstance(given, os.PathLike) else given
    message = f"{what} is a {type(given).__name__}, which cannot be written down; pass a name or a path instead"
    raise InvalidInputError(message)


def ranked(
    source: Source,
    query: str | VectorInput,
    documents: Iterable[D],
    *,
    key: Callable[[D], Any],
    content: Callable[[D], Any],
    top_k: int | None,
    options: Mapping[str, Any],
) -> list[tuple[D, float]]:
    """Order a framework's documents for a query.

    Parameters
    ----------
    source : Index or Reranker
    query : str or [tokens, dim] array
    documents : iterable
        One that is given twice comes back twice.
    key, content : callable
        Give a document's id in the index, and its text or token vectors; one of them is called, as the source needs.
    top_k : int or None
        All by default.
    options : mapping
        Of `Index.rerank` or `Reranker.rank`.

    Returns
    -------
    list of (document, score)
        Best first; ties by the order in which they were given.

    Raises
    ------
    UnknownIdError
        A document that the index does not hold, unless the option `missing` is "skip".
    InvalidInputError
        A document without an id, or without text.
    """
    (found,) = ranked_batch(
        source,
        [query],
        [documents],
        key=key,
        content=content,
        top_k=optional(count_of, top_k, "top_k"),
        options=options,
    )
    return found


def ranked_batch(
    source: Source,
    queries: Sequence[Any],
    documents: Iterable[Iterable[D]],
    *,
    key: Callable[[D], Any],
    content: Callable[[D], Any],
    top_k: int | None,
    options: Mapping[str, Any],
    first_score: Callable[[D], float] | None = None,
) -> list[list[tuple[D, float]]]:
    """Order the documents of several queries; otherwise as `ranked`.

    Parameters
    ----------
    queries : sequence of str, or of [tokens, dim] arrays
    documents : iterable of iterables
        Those of each query.
    first_score : callable, optional
        Gives the score that a first stage gave a document, which the option `alpha` needs.
    """
    given = [list(part) for part in documents]
    if not any(given):
        return [[] for _ in given]
    if isinstance(source, Reranker):
        return [
            [
                (part[entry["corpus_id"]], entry["score"])
                for entry in source.rank(query, [content(document) for document in part], top_k, **options)
            ]
            for query, part in zip(queries, given, strict=True)
        ]
    keys = [stored_ids(source, [key(document) for document in part]) for part in given]
    candidates = [_distinct(own, part, first_score) for own, part in zip(keys, given, strict=True)]
    # The index breaks ties by its own order, so it must not cut; pruning and early exit need to know where.
    limit = top_k if options.keys() & {"alpha", "beta"} else None
    found = source.rerank_arrays(queries, candidates, k=limit, **options)
    ranked_documents = []
    for own, part, (ids, scores) in zip(keys, given, found, strict=True):
        score_of = dict(zip(plain_ids(ids), scores.tolist(), strict=True))
        scored = [(document, score_of[name]) for document, name in zip(part, own, strict=True) if name in score_of]
        ranked_documents.append(sorted(scored, key=lambda pair: -pair[1])[:top_k])
    return ranked_documents


def _distinct(keys: list[Id], documents: list[D], first_score: Callable[[D], float] | None) -> Any:
    """Give each id once, with its score if there are some; of a document that is given twice, the first counts."""
    first = dict(zip(reversed(keys), reversed(documents), strict=True))
    ids = list(dict.fromkeys(keys))
    return ids if first_score is None else {key: first_score(first[key]) for key in ids}


def stored_ids(index: Index, keys: Sequence[Any]) -> list[Id]:
    """Bring ids to the kind that the index holds: most frameworks have strings only.

    Raises
    ------
    InvalidInputError
        A document without an id.
    """
    if None in keys:
        message = (
            f"the document at position {keys.index(None)} has no id, and the index finds documents by their ids; "
            "give it the id that it has in the index, or score texts by model="
        )
        raise InvalidInputError(message)
    kind = index.info()["id_kind"]
    return [_as_number(key) if kind == "int" else str(key) if kind == "str" else key for key in keys]


def _as_number(key: Any) -> Any:
    """Read a number that was written as text; whatever is none stays, for the index to refuse."""
    if not isinstance(key, str):
        return key
    digits = key.removeprefix("-")
    return int(key) if digits.isascii() and digits.isdecimal() and str(int(key)) == key else key


def _check_options(source: Source, options: dict[str, Any]) -> None:
    if isinstance(source, Index):
        _refusing(lambda: RerankOptions.of(k=1, **options))
    else:
        # Options are checked before documents are looked at, and vectors need no encoder.
        _refusing(lambda: source.rank(np.ones((1, 1), dtype=np.float32), [], None, **options))


def _refusing(check: Callable[[], object]) -> None:
    """Make a check, of which Python itself refuses names that are unknown or taken."""
    try:
        check()
    except TypeError as error:
        message = f"options: {error}"
        raise InvalidInputError(message) from error
