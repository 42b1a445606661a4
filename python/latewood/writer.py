"""The writer: changes to an index that become visible together."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, get_args

import numpy as np

from latewood._ids import normalise_ids, one_id
from latewood._interrupts import finished, interrupt_later
from latewood._optional import chunks, progress_bar
from latewood._options import choice_of, filter_json, flag_of, mapping_json, text_of, threads_of
from latewood._typing import Id, IdSequence, Metadata, MissingRule, OffsetArray, VectorInput
from latewood.encode.protocol import OnEmpty, checked_texts, encode_texts, on_empty_of
from latewood.errors import DuplicateIdError, InvalidInputError, WriterError
from latewood.ragged import Ragged, listed, to_ragged

if TYPE_CHECKING:
    from latewood import _core
    from latewood.index import Index

ENCODE_CHUNK = 1024
"""Documents that are encoded before their vectors are handed on: bounds memory, and is the step of the progress bar."""


class Writer:
    """Adds and deletes documents; all of it becomes durable and visible at `commit`, or none.

    Used as a context manager it commits at the end, and gives everything up if an exception leaves the block. There is
    one writer at a time for each index, in all processes; it holds the lock until it is closed. A forked child cannot
    use it.

    A call that raises has done nothing. An interruption (Ctrl-C) that comes between the parts of one call that encodes
    many texts, or right behind its end, leaves a writer that takes no more changes, and none of its changes is
    committed. One that comes when a commit is on the disk already is raised a moment after the call has returned.
    """

    def __init__(self, core: "_core.Writer", index: "Index", *, show_progress: bool | None = None) -> None:
        self._core = core
        self._index = index
        self._show_progress = show_progress
        self._closed = False
        self._failed: BaseException | None = None
        self.empty = 0
        """Documents without a single token that were given to this writer, kept or skipped."""

    def add(
        self,
        ids: Iterable[Id],
        *,
        texts: Sequence[str | None] | None = None,
        vectors: VectorInput | None = None,
        metadata: Sequence[Metadata | None] | None = None,
        mask: Any = None,
        offsets: Any = None,
        lengths: Any = None,
        store_texts: bool = True,
        on_empty: OnEmpty = "keep",
        threads: int | None = None,
    ) -> None:
        """Add documents whose ids are new.

        Parameters
        ----------
        ids : sequence of str, or of int
            One kind throughout an index.
        texts : sequence of str, optional
            Encoded by the index's encoder unless `vectors` are given, and stored.
        vectors : array, tensor, list of [tokens, dim] arrays, Arrow array or Ragged, optional
            Token vectors, one item for each id, in any form that `latewood.ragged.to_ragged` takes.
        metadata : sequence of mappings, optional
            What JSON can hold; filters look at it (docs/filters.md).
        mask, offsets, lengths : array, optional
            What padded or flat `vectors` need.
        store_texts : bool
            False encodes the texts without keeping them.
        on_empty : {"keep", "skip", "error"}
            What becomes of documents without a single token, such as empty texts. "keep" adds them: no search finds
            them, and a rerank puts them last with `-inf`. "skip" leaves them out; an upsert then leaves what was
            there. The writer's `empty` counts both.
        threads : int, optional
            As many as this process may use at once by default; the codes do not depend on it.

        Raises
        ------
        DuplicateIdError
            An id occurs twice, or is in the index already.
        DimensionError, InvalidInputError
            Vectors or metadata that do not fit, with the document's id. Nothing of this call is added.
        EncoderRequiredError
            Texts without vectors, and no encoder.
        """
        self._add(ids, texts, vectors, metadata, (mask, offsets, lengths), store_texts, on_empty, threads, upsert=False)

    def upsert(
        self,
        ids: Iterable[Id],
        *,
        texts: Sequence[str | None] | None = None,
        vectors: VectorInput | None = None,
        metadata: Sequence[Metadata | None] | None = None,
        mask: Any = None,
        offsets: Any = None,
        lengths: Any = None,
        store_texts: bool = True,
        on_empty: OnEmpty = "keep",
        threads: int | None = None,
    ) -> None:
        """Add documents, replacing those whose ids exist; otherwise as `add`."""
        self._add(ids, texts, vectors, metadata, (mask, offsets, lengths), store_texts, on_empty, threads, upsert=True)

    def delete(
        self,
        ids: Iterable[Id] | None = None,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  the word that every search library uses
        missing: MissingRule = "error",
    ) -> int:
        """Delete documents, those of this writer that are not committed yet among them.

        Parameters
        ----------
        ids : sequence of str or int, optional
        filter : mapping, optional
            Instead of `ids`: delete all documents whose metadata match, as in `Index.search`. A filter without any
            condition is refused; `index.ids()` are the ids of all.
        missing : {"error", "skip"}
            What to do about an id that the index does not hold.

        Returns
        -------
        int
            How many were deleted.

        Raises
        ------
        UnknownIdError
            An id is missing and `missing` is "error". Nothing is deleted.
        InvalidInputError
            Both or none of `ids` and `filter`, or a filter that cannot be understood. Nothing is deleted.
        """
        self._check_usable()
        choice_of(missing, "missing", get_args(MissingRule))
        condition = filter_json(filter)
        if ids is not None and condition is None:
            keys = normalise_ids(ids)
            with self._all_or_nothing():
                return self._core.delete(keys, missing=missing)
        if condition is None or ids is not None:
            message = f"{'neither' if ids is None else 'both'} of ids and filter given; pass one of the two"
            raise InvalidInputError(message)
        if missing != "error":
            message = "missing= says what to do about ids, and a filter names none; leave it out"
            raise InvalidInputError(message)
        with self._all_or_nothing():
            return self._core.delete_matching(condition)

    def commit(self) -> int:
        """Make the changes durable and visible; without changes nothing is written.

        Returns
        -------
        int
            The generation of the index that now holds.

        Raises
        ------
        StorageError
            The system refused to write, for want of room perhaps. The last commit stands; open another writer.
        CommitConflictError, IndexReplacedError
            Somebody else has committed, or put another folder in this one's place, though this writer holds the lock:
            its file was removed, or locks do nothing on this file system. This commit is not in the index.
        KeyboardInterrupt
            Nothing was committed, and the writer is as it was.
        """
        self._check_usable()
        before = self._core.generation
        try:
            return self._core.commit()
        except KeyboardInterrupt:
            generation = self._core.generation
            if generation is None or generation == before:
                raise
            interrupt_later()
            return generation

    def close(self) -> None:
        """Give up what is not committed and release the lock. Closing twice is harmless."""
        self._core.close()
        self._closed = True

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Commit if no exception left the block, and close in either case."""
        if kind is None and not self._closed:
            try:
                self.commit()
            except BaseException:
                self.close()
                raise
        finished(self.close)

    def _check_usable(self) -> None:
        if self._closed:
            message = "the writer is closed; open another one with index.writer()"
            raise WriterError(message)
        if self._failed is not None:
            reason = str(self._failed) or type(self._failed).__name__
            message = (
                f"an earlier step of this writer ended early ({reason}); close it and start again with index.writer()"
            )
            raise WriterError(message)
        self._core.check_usable()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Let a call that raises after it has changed something leave a writer that can commit nothing of it."""
        before = self._core.changes
        try:
            yield
        except BaseException as error:
            if self._core.changes != before:
                self._failed = error
            raise

    def _add(
        self,
        ids: Iterable[Id],
        texts: Sequence[str | None] | None,
        vectors: VectorInput | None,
        metadata: Sequence[Metadata | None] | None,
        layout: tuple[Any, Any, Any],
        store_texts: bool,
        on_empty: OnEmpty,
        threads: int | None,
        *,
        upsert: bool,
    ) -> None:
        self._check_usable()
        keys = normalise_ids(listed(ids, "ids"))
        _check_duplicates(keys)
        text_list = _texts(_aligned(texts, len(keys), "texts"), keys)
        json_list = _metadata_json(_aligned(metadata, len(keys), "metadata"), keys)
        stored = text_list if flag_of(store_texts, "store_texts") else None
        on_empty_of(on_empty)
        options: dict[str, Any] = {"upsert": upsert, "threads": threads_of(threads)}
        if vectors is not None:
            mask, offsets, lengths = layout
            ragged = to_ragged(
                vectors,
                mask=mask,
                offsets=offsets,
                lengths=lengths,
                dim=self._index.dim,
                names=keys,
                allow_empty=on_empty != "error",
            )
            filled = np.flatnonzero(ragged.lengths)
            rows = np.arange(len(keys))
            if on_empty == "skip":
                rows = filled
                ragged = Ragged(ragged.values, np.concatenate([ragged.offsets[:1], ragged.offsets[1:][rows]]))
            with self._all_or_nothing():
                self._send(_chosen(keys, rows), ragged, _chosen(stored, rows), _chosen(json_list, rows), options)
            self.empty += len(keys) - len(filled)
            return
        if any(part is not None for part in layout):
            message = "mask, offsets and lengths describe vectors, and no vectors are given"
            raise InvalidInputError(message)
        if text_list is None:
            message = "give texts or vectors to add"
            raise InvalidInputError(message)
        encoder = self._index.require_encoder("adding texts")
        documents = checked_texts(text_list, "document", keys, on_empty=on_empty)
        self._core.check_ids(keys, upsert=upsert)
        with (
            self._all_or_nothing(),
            progress_bar(len(keys), "encoding", show_progress=self._show_progress) as bar,
        ):
            for chunk in chunks(len(keys), ENCODE_CHUNK):
                encoded = encode_texts(
                    encoder, documents[chunk], dim=self._index.dim, names=keys[chunk], on_empty=on_empty
                )
                rows = encoded.positions + chunk.start
                self._send(
                    _chosen(keys, rows),
                    encoded.vectors,
                    _chosen(stored, rows),
                    _chosen(json_list, rows),
                    {**options, "truncated": encoded.truncated},
                )
                self.empty += len(encoded.empty)
                bar.update(chunk.stop - chunk.start)

    def _send(
        self,
        keys: IdSequence,
        ragged: Ragged,
        texts: list[Any] | None,
        metadata: list[str | None] | None,
        options: dict[str, Any],
    ) -> None:
        if len(keys) == 0:
            return
        self._core.add(keys, ragged.values, ragged.offsets, texts=texts, metadata=metadata, **options)


def _chosen(items: Any, rows: OffsetArray) -> Any:
    if items is None or len(rows) == len(items):
        return items
    return items[rows] if isinstance(items, np.ndarray) else [items[row] for row in rows.tolist()]


def _check_duplicates(keys: IdSequence) -> None:
    seen: set[Any] = set()
    for key in keys:
        if key in seen:
            message = f"id {one_id(key)!r} occurs twice in one call; each id names one document"
            raise DuplicateIdError(message)
        seen.add(key)


def _aligned(items: Any, count: int, what: str) -> list[Any] | None:
    if items is None:
        return None
    given = listed(items, what)
    if not isinstance(given, (list, tuple)):
        message = f"{what} is one {type(items).__name__}; pass a list with one entry for each id"
        raise InvalidInputError(message)
    if len(given) != count:
        message = f"{len(given)} {what} for {count} ids; give one for each"
        raise InvalidInputError(message)
    return list(given)


def _texts(texts: list[Any] | None, keys: IdSequence) -> list[str | None] | None:
    for key, text in zip(keys, texts or (), strict=False):
        if text is not None:
            text_of(text, f"the text of document {one_id(key)!r}")
    return texts


def _metadata_json(metadata: list[Any] | None, keys: IdSequence) -> list[str | None] | None:
    if metadata is None:
        return None
    return [
        None if entry is None else mapping_json(entry, f"the metadata of document {one_id(key)!r}", "{'lang': 'en'}")
        for key, entry in zip(keys, metadata, strict=True)
    ]
