"""The writer: changes to an index that become visible together."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack, get_args

from latewood.common.signatures import shows
from latewood.common.types import Filter, Id, IdSequence, Metadata, MissingRule
from latewood.errors import InvalidInputError, WriterError
from latewood.forms.ids import normalise_ids
from latewood.forms.metadata import filter_json, is_one_mapping, mapping_json
from latewood.forms.values import choice_of, flag_of, shown
from latewood.index.additions import Additions, AddKeywords, Part, one_each, one_metadata
from latewood.index.interrupts import ENDINGS, came_too_late, finished
from latewood.index.tuning import Tuning

if TYPE_CHECKING:
    from latewood import _core
    from latewood.index.encoding import Encoding


class Writer:
    """Adds and deletes documents; all of it becomes durable and visible at `commit`, or none.

    Used as a context manager it commits at the end, and gives everything up if an exception leaves the block. There is
    one writer at a time for each index, in all processes; it holds the lock until it is closed. A forked child cannot
    use it.

    A call that raises has done nothing. One that encodes many texts or reads an iterator goes part by part: what ends
    it between two parts, or an interruption (Ctrl-C) right behind its end, leaves a writer that takes no more changes,
    and none of its changes is committed. An interruption that comes when a commit is on the disk already is raised a
    moment after the call has returned; what a signal's handler of one's own raises is not kept back.
    """

    def __init__(
        self, core: "_core.Writer", encoding: "Encoding", *, show_progress: bool | None = None, one_call: bool = False
    ) -> None:
        self._core = core
        self._encoding = encoding
        self._show_progress = show_progress
        self._one_call = one_call
        self._closed = False
        self._failed: BaseException | None = None
        self.empty = 0
        """Documents without a single token that were given to this writer, kept or skipped."""

    @shows(Additions)
    def add(self, ids: Iterable[Id], **documents: Unpack[AddKeywords]) -> None:
        """Add documents whose ids are new.

        Parameters
        ----------
        ids : sequence of str, or of int
            One kind throughout an index.
        texts : sequence of str, optional
            Encoded by the index's encoder unless `vectors` are given, and stored.
        vectors : array, tensor, list of [tokens, dim] arrays, Arrow array or Ragged, optional
            Token vectors, one item for each id, in any form that `latewood.to_ragged` takes. An iterator, such as a
            generator, of documents or of batches of them is read bit by bit, some 16 MiB of vectors at a time; `ids`,
            `texts` and `metadata` may be iterators then, too.
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
        long : {"windows", "cut", "error"}, optional
            What becomes of texts with more tokens than the encoder takes (docs/long_texts.md); by default what the
            encoder is set to.
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
        self._store(Additions(ids, **documents), upsert=False)

    @shows(Additions)
    def upsert(self, ids: Iterable[Id], **documents: Unpack[AddKeywords]) -> None:
        """Add documents, replacing those whose ids exist; otherwise as `add`."""
        self._store(Additions(ids, **documents), upsert=True)

    def delete(
        self,
        ids: Iterable[Id] | None = None,
        *,
        filter: Filter | None = None,  # noqa: A002  the word that every search library uses
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
        keys, condition = which_documents(ids, filter, missing)
        with self._all_or_nothing():
            if condition is not None:
                return self._core.delete_matching(condition)
            return self._core.delete(keys, missing=missing)

    def update_metadata(
        self,
        ids: Iterable[Id] | None = None,
        metadata: Metadata | Sequence[Metadata] | None = None,
        *,
        filter: Filter | None = None,  # noqa: A002
        replace: bool = False,
        missing: MissingRule = "error",
    ) -> int:
        """Change metadata of documents and nothing else; the work goes by what changes, not by the index.

        Parameters
        ----------
        ids : sequence of str or int, optional
        metadata : mapping, or sequence of mappings
            One for all documents, or one for each id. Its fields are set; None takes a field away, and mappings
            inside are joined in the same way (JSON merge patch, RFC 7396).
        filter : mapping, optional
            Instead of `ids`: all documents whose metadata match, as in `Index.search`.
        replace : bool
            Whether `metadata` takes the place of all that a document had.
        missing : {"error", "skip"}
            What to do about an id that the index does not hold.

        Returns
        -------
        int
            How many documents were changed.

        Raises
        ------
        UnknownIdError
            An id is missing and `missing` is "error". Nothing is changed.
        InvalidInputError
            Both or none of `ids` and `filter`, a filter that cannot be understood, or metadata that JSON does not have.
        """
        self._check_usable()
        keys, condition = which_documents(ids, filter, missing)
        replace = flag_of(replace, "replace")
        changes = metadata_changes(metadata, None if condition is not None else keys)
        with self._all_or_nothing():
            if condition is not None:
                return self._core.update_metadata_matching(condition, changes[0], replace=replace)
            return self._core.update_metadata(keys, changes, replace=replace, missing=missing)

    def set_tuning(self, tuned: Tuning) -> None:
        """Store what `Index.tune` has measured, in place of what is known for as many hits."""
        self._check_usable()
        with self._all_or_nothing():
            self._core.set_tuning(tuned.to_json())

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
        KeyboardInterrupt, StoppedError
            Nothing was committed, and the writer is as it was.
        """
        self._check_usable()
        before = self._core.generation
        try:
            return self._core.commit()
        except ENDINGS as ending:
            generation = self._core.generation
            if generation is None or generation == before:
                raise
            came_too_late(ending)
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

    def _store(self, additions: Additions, *, upsert: bool) -> None:
        self._check_usable()
        refuse_known = partial(check_ids, self, upsert=upsert)
        with self._all_or_nothing():
            for part in additions.parts(self._encoding, refuse_known, show_progress=self._show_progress):
                self.empty += part.empty
                add_part(self, part, upsert=upsert, last=self._one_call and part.last, threads=additions.threads)


def add_part(writer: Writer, part: Part, *, upsert: bool, last: bool, threads: int | None) -> None:
    """Hand on one part of what is added; `last` if the commit brings no more."""
    if len(part.columns.ids):
        writer._core.add(  # noqa: SLF001  of this module
            part.columns.ids,
            part.vectors.values,
            part.vectors.offsets,
            texts=part.columns.texts,
            metadata=part.columns.metadata,
            truncated=part.truncated,
            upsert=upsert,
            last=last,
            threads=threads,
        )


def check_ids(writer: Writer, ids: IdSequence, *, upsert: bool) -> None:
    """Raise what adding documents of these ids would."""
    writer._core.check_ids(ids, upsert=upsert)  # noqa: SLF001


def which_documents(ids: Any, condition: Any, missing: Any) -> tuple[IdSequence, str | None]:
    """Read what names the documents of a change: ids, or a filter as JSON."""
    choice_of(missing, "missing", get_args(MissingRule))
    if (ids is None) == (condition is None):
        message = f"{'neither' if ids is None else 'both'} of ids and filter given; pass one of the two"
        raise InvalidInputError(message)
    if condition is None:
        return normalise_ids(ids), None
    if missing != "error":
        message = "missing= says what to do about ids, and a filter names none; leave it out"
        raise InvalidInputError(message)
    return [], filter_json(condition)


def metadata_changes(metadata: Any, ids: IdSequence | None) -> list[str]:
    """Read changes of metadata as JSON: one for all documents, or one for each of `ids`."""
    if is_one_mapping(metadata):
        return [mapping_json(metadata, "metadata", "{'lang': 'en'}")]
    if metadata is None or ids is None:
        message = f"metadata must be one mapping, or with ids a list with one for each, not {shown(metadata)}"
        raise InvalidInputError(message)
    given = one_each(metadata, len(ids), "metadata")
    return [one_metadata(entry, key) for key, entry in zip(ids, given, strict=True)]


def change_metadata(
    writer: Writer, ids: IdSequence, changes: Sequence[str], *, replace: bool, missing: MissingRule
) -> int:
    """Change metadata of documents by JSON that is checked: one for all, or one for each id."""
    return writer._core.update_metadata(ids, changes, replace=replace, missing=missing)  # noqa: SLF001
