"""Documents to add, in the forms that callers have → parts that the core takes one after the other."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import islice
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from latewood.common.progress import chunks, progress_bar
from latewood.common.types import Id, IdSequence, Metadata, VectorInput
from latewood.encode.protocol import OnEmpty, checked_texts, encode_texts, on_empty_of
from latewood.encode.windows import Long, long_of
from latewood.errors import DuplicateIdError, InvalidInputError
from latewood.forms.ids import normalise_ids, one_id
from latewood.forms.metadata import mapping_json
from latewood.forms.ragged import Ragged, is_batch, listed, to_ragged
from latewood.forms.values import flag_of, optional, text_of, threads_of
from latewood.index.encoding import Encoding

ENCODE_CHUNK = 1024
"""Documents that are encoded before their vectors are handed on: bounds memory, and is the step of the progress bar."""

STREAM_VALUES, STREAM_DOCUMENTS = 2**22, 2**14
"""Components of token vectors (16 MiB), and documents, that are read from an iterator before they are handed on."""


_END = object()


class AddKeywords(TypedDict, total=False):
    """Keyword arguments of all calls that add documents, described at `Writer.add`."""

    texts: Sequence[str | None] | None
    vectors: VectorInput | None
    metadata: Sequence[Metadata | None] | None
    mask: Any
    offsets: Any
    lengths: Any
    store_texts: bool
    on_empty: OnEmpty
    long: Long | None
    threads: int | None


@dataclass(frozen=True, slots=True)
class Columns:
    """What documents have beside their vectors, one entry for each."""

    ids: IdSequence
    texts: list[str | None] | None
    metadata: list[str | None] | None

    def rows(self, rows: slice) -> "Columns":
        """Give some of the documents that follow each other."""
        return Columns(self.ids[rows], self.texts and self.texts[rows], self.metadata and self.metadata[rows])

    def chosen(self, rows: NDArray[np.intp], *, with_texts: bool) -> "Columns":
        """Give some of the documents, with their texts or without."""
        texts = self.texts if with_texts else None
        if len(rows) == len(self.ids):
            return Columns(self.ids, texts, self.metadata)
        positions = rows.tolist()
        return Columns(
            self.ids[rows] if isinstance(self.ids, np.ndarray) else normalise_ids([self.ids[row] for row in positions]),
            texts and [texts[row] for row in positions],
            self.metadata and [self.metadata[row] for row in positions],
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Documents that the core takes at once."""

    columns: Columns
    vectors: Ragged
    empty: int
    """Documents without a token that were among them, kept or skipped."""
    truncated: list[bool] | None = None
    last: bool = False
    """Whether no part of the same call comes after it."""


@dataclass(slots=True)
class Additions:
    """The arguments of `Writer.add`."""

    ids: Iterable[Id]
    _: KW_ONLY
    texts: Iterable[str | None] | None = None
    vectors: VectorInput | None = None
    metadata: Iterable[Metadata | None] | None = None
    mask: Any = None
    offsets: Any = None
    lengths: Any = None
    store_texts: bool = True
    on_empty: OnEmpty = "keep"
    long: Long | None = None
    threads: int | None = None
    _seen: set[Any] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        """Check what can be checked before any document is looked at."""
        self.store_texts = flag_of(self.store_texts, "store_texts")
        self.on_empty = on_empty_of(self.on_empty)
        self.long = optional(long_of, self.long, "long")
        self.threads = threads_of(self.threads)
        if any(part is not None for part in (self.mask, self.offsets, self.lengths)):
            if self.vectors is None:
                message = "mask, offsets and lengths describe vectors, and no vectors are given"
                raise InvalidInputError(message)
            if isinstance(self.vectors, Iterator):
                message = "mask, offsets and lengths go with one array, and the vectors are an iterator; give it arrays"
                raise InvalidInputError(message)
        if self.texts is None and self.vectors is None:
            message = "give texts or vectors to add"
            raise InvalidInputError(message)

    def parts(
        self, encoding: Encoding, refuse_known: Callable[[IdSequence], None], *, show_progress: bool | None
    ) -> Iterator[Part]:
        """Give all documents, so many at a time that memory is bounded by them and not by all.

        Parameters
        ----------
        encoding : Encoding
        refuse_known : callable
            Called with all ids before their texts are encoded, to raise what adding them would.
        show_progress : bool, optional
        """
        if isinstance(self.vectors, Iterator):
            yield from self._streamed(self.vectors, encoding.dim, show_progress)
            return
        columns = self._all_columns()
        if self.vectors is None:
            yield from self._encoded(columns, encoding, refuse_known, show_progress)
            return
        yield self._of_vectors(columns, self.vectors, encoding.dim, last=True, **self._layout)

    def whole(self) -> tuple[Columns, Ragged | None]:
        """Give all documents at once, with vectors if there are any: for somebody else who encodes and adds them."""
        columns = self._all_columns()
        if self.vectors is None:
            return columns, None
        return columns, to_ragged(self.vectors, names=columns.ids, allow_empty=self.on_empty != "error", **self._layout)

    @property
    def _layout(self) -> dict[str, Any]:
        """Give what padded or flat vectors need."""
        return {"mask": self.mask, "offsets": self.offsets, "lengths": self.lengths}

    def _encoded(
        self,
        columns: Columns,
        encoding: Encoding,
        refuse_known: Callable[[IdSequence], None],
        show_progress: bool | None,
    ) -> Iterator[Part]:
        encoder = encoding.require("adding texts")
        texts = checked_texts(columns.texts, "document", columns.ids, on_empty=self.on_empty)
        refuse_known(columns.ids)
        with progress_bar(len(texts), "encoding", show_progress=show_progress) as bar:
            for rows in chunks(len(texts), ENCODE_CHUNK):
                own = columns.rows(rows)
                encoded = encode_texts(
                    encoder, texts[rows], dim=encoding.dim, names=own.ids, long=self.long, on_empty=self.on_empty
                )
                kept = own.chosen(encoded.positions, with_texts=self.store_texts)
                yield Part(kept, encoded.vectors, len(encoded.empty), encoded.truncated)
                bar.update(len(own.ids))

    def _streamed(self, vectors: Iterator[Any], dim: int, show_progress: bool | None) -> Iterator[Part]:
        columns = {what: _entries(column, what) for what, column in self._given.items()}
        with progress_bar(0, "adding", show_progress=show_progress) as bar:
            for group in _groups(vectors, dim):
                count = len(group)
                own = self._columns(**{what: list(islice(column, count)) for what, column in columns.items()})
                yield self._of_vectors(own, group, dim)
                bar.update(count)
        _refuse_more({what: next(column, _END) for what, column in columns.items()}, "vectors")

    def _of_vectors(self, columns: Columns, vectors: Any, dim: int, *, last: bool = False, **layout: Any) -> Part:
        ragged = to_ragged(vectors, dim=dim, names=columns.ids, allow_empty=self.on_empty != "error", **layout)
        filled = np.flatnonzero(ragged.lengths)
        empty = len(ragged) - len(filled)
        if self.on_empty == "skip" and empty:
            ragged = Ragged(ragged.values, np.concatenate([ragged.offsets[:1], ragged.offsets[1:][filled]]))
        else:
            filled = np.arange(len(columns.ids))
        return Part(columns.chosen(filled, with_texts=self.store_texts), ragged, empty, last=last)

    @property
    def _given(self) -> dict[str, Any]:
        """Give the columns that there are beside the vectors, by name."""
        optional = {"texts": self.texts, "metadata": self.metadata}
        return {"ids": self.ids, **{what: column for what, column in optional.items() if column is not None}}

    def _all_columns(self) -> Columns:
        given = self._given
        if any(isinstance(column, Iterator) for column in given.values()):
            count = None
            if self.vectors is not None:
                ragged = to_ragged(self.vectors, allow_empty=True, **self._layout)
                self.vectors, self.mask, self.offsets, self.lengths = ragged, None, None, None
                count = len(ragged)
            given = _side_by_side(given, count)
        return self._columns(**given)

    def _columns(self, ids: Any, texts: Any = None, metadata: Any = None) -> Columns:
        keys = normalise_ids(listed(ids, "ids"))
        for key in keys:
            if key in self._seen:
                message = f"id {one_id(key)!r} occurs twice in one call; each id names one document"
                raise DuplicateIdError(message)
            self._seen.add(key)
        own_texts = None if texts is None else one_each(texts, len(keys), "texts")
        own_metadata = None if metadata is None else one_each(metadata, len(keys), "metadata")
        for key, text in zip(keys, own_texts or (), strict=False):
            if text is not None:
                text_of(text, f"the text of document {one_id(key)!r}")
        return Columns(keys, own_texts, own_metadata and _json(own_metadata, keys))


def _groups(documents: Iterator[Any], dim: int) -> Iterator[Any]:
    """Put documents together until they are enough to be handed on; a batch is handed on as it is."""
    waiting: list[Any] = []
    values = 0
    for document in documents:
        if is_batch(document):
            if waiting:
                yield waiting
                waiting, values = [], 0
            yield document
            continue
        # The iterator may fill the same memory with the next one.
        copy = getattr(document, "clone", None) or getattr(document, "copy", None)
        waiting.append(copy() if callable(copy) else document)
        values += len(document) * dim if hasattr(document, "__len__") else 0
        if values >= STREAM_VALUES or len(waiting) >= STREAM_DOCUMENTS:
            yield waiting
            waiting, values = [], 0
    if waiting:
        yield waiting


def _entries(column: Any, what: str) -> Iterator[Any]:
    """Give the entries of a column one after the other."""
    if isinstance(column, Iterator):
        return column
    return iter(normalise_ids(listed(column, what)) if what == "ids" else _list(column, what))


def _side_by_side(columns: dict[str, Any], vectors: int | None) -> dict[str, list[Any]]:
    """Read columns together, of which some are iterators and may never end; there may be so many vectors."""
    iterators = {what: _entries(column, what) for what, column in columns.items()}
    read: dict[str, list[Any]] = {what: [] for what in iterators}
    while True:
        row = {what: next(iterator, _END) for what, iterator in iterators.items()}
        ended = next((what for what, entry in row.items() if entry is _END), None)
        if ended is None and len(read["ids"]) == vectors:
            ended = "vectors"
        if ended is not None:
            _refuse_more(row, ended)
            return read
        for what, entry in row.items():
            read[what].append(entry)


def _refuse_more(row: dict[str, Any], ended: str) -> None:
    """Refuse columns that have one more entry behind the end of another."""
    more = next((what for what, entry in row.items() if entry is not _END), None)
    if more is not None:
        message = f"there are more {more} than {ended}; give one for each document"
        raise InvalidInputError(message)


def _list(items: Any, what: str) -> list[Any] | tuple[Any, ...]:
    given = listed(items, what)
    if isinstance(given, np.ndarray) and given.ndim == 1:
        # A column in which everything is missing is one of NaN.
        given = [None if isinstance(entry, float) and entry != entry else entry for entry in given.tolist()]
    if not isinstance(given, (list, tuple)):
        message = f"{what} is one {type(items).__name__}; pass a list with one entry for each id"
        raise InvalidInputError(message)
    return given


def one_each(items: Any, count: int, what: str) -> list[Any]:
    """Give the entries of a collection, which must be one for each of so many ids."""
    given = _list(items, what)
    if len(given) != count:
        message = f"{len(given)} {what} for {count} ids; give one for each"
        raise InvalidInputError(message)
    return list(given)


def one_metadata(entry: Any, key: Any) -> str:
    """Write the metadata of one document as JSON."""
    return mapping_json(entry, f"the metadata of document {one_id(key)!r}", "{'lang': 'en'}")


def _json(metadata: list[Any], keys: IdSequence) -> list[str | None]:
    return [None if entry is None else one_metadata(entry, key) for key, entry in zip(keys, metadata, strict=True)]
