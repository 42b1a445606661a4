"""The writer of a cluster: changes go to the shards that own the ids, and become visible in all of them at once."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from latewood.cluster.locked import locked
from latewood.cluster.manifest import CODEC, ClusterManifest, root_of, shard_of
from latewood.cluster.order import ORDER, numbered, order_of, refuse_order
from latewood.cluster.routing import chosen, some
from latewood.common.signatures import shows
from latewood.common.types import Filter, Id, IdSequence, Metadata, MissingRule
from latewood.errors import DuplicateIdError, InvalidInputError, UnknownIdError, WriterError
from latewood.forms.ids import join_ids, normalise_ids, one_id, plain_ids
from latewood.forms.values import flag_of, optional
from latewood.index.additions import Additions, AddKeywords, Columns, Part
from latewood.index.index import Index
from latewood.index.interrupts import finished
from latewood.index.writer import (
    Writer,
    add_part,
    change_metadata,
    check_ids,
    metadata_changes,
    which_documents,
)

COMMITTED_TOGETHER = 8
"""Shards whose commits wait for the disk at the same time."""

_Call = Callable[[], Any]


class ClusterWriter:
    """Changes documents of a cluster; all of it becomes durable and visible in all shards at `commit`, or none.

    Used as a context manager it commits at the end, and gives everything up if an exception leaves the block. There is
    one writer at a time for each cluster, in all processes of the machines that share its folder. What a writer that
    was killed has left half done is put back when the next one begins.

    A call that raises has done nothing, or leaves a writer that takes no more changes and can commit none of them.

    Parameters
    ----------
    path : path-like
        The cluster's folder.
    encoder : Encoder, MultiVectorEncoder or str, optional
        Needed only for texts; "recorded" loads the one that the cluster names, and "latewood/nano-en" needs no asking.
    check_encoder : bool
        False accepts an encoder whose fingerprint differs from the recorded one.
    show_progress : bool, optional
        A bar on standard error while texts are encoded; None shows it on a terminal where tqdm is installed.

    Raises
    ------
    IndexLockedError
        Another writer is at work.
    IndexNotFoundError
        There is no cluster in the folder.
    InvalidInputError
        It was brought from object storage.
    CorruptIndexError, EncoderMismatchError
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        encoder: Any = None,
        check_encoder: bool = True,
        show_progress: bool | None = None,
    ) -> None:
        self._root = root_of(path)
        self._show_progress = optional(flag_of, show_progress, "show_progress")
        check_encoder = flag_of(check_encoder, "check_encoder")
        self._failed: BaseException | None = None
        self._closed = False
        self.empty = 0
        """Documents without a single token that were given to this writer, kept or skipped."""
        with ExitStack() as stack:
            self._manifest = stack.enter_context(locked(self._root))
            codec = Index.open(self._root / CODEC, encoder=encoder, check_encoder=check_encoder)
            self._encoding = codec._encoding  # noqa: SLF001  what an index has, a cluster has once
            self._shards = [Index.open(self._root / shard.folder) for shard in self._manifest.shards]
            self._writers = [stack.enter_context(closing(shard.writer())) for shard in self._shards]
            self._stack = stack.pop_all()
        self._start()

    def _start(self) -> None:
        self._kind = self._manifest.id_kind
        self._next_order = self._manifest.next_order
        self._changed = False

    @property
    def generation(self) -> int:
        """Number of the cluster's commit that the writer stands on."""
        return self._manifest.generation

    @shows(Additions)
    def add(self, ids: Iterable[Id], **documents: Unpack[AddKeywords]) -> None:
        """Add documents whose ids are new; parameters and errors as for `Writer.add`.

        Metadata cannot have the key "latewood:order", under which a cluster keeps the order of its documents.
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
        """Delete documents, and give how many; parameters and errors as for `Writer.delete`."""
        self._check_usable()
        keys, condition = which_documents(ids, filter, missing)
        if condition is not None:
            return self._apply(partial(writer.delete, filter=filter) for writer in self._writers)
        return self._apply(
            partial(self._writers[shard].delete, chosen(keys, rows), missing="skip")
            for shard, rows in self._routed(self._known(keys, missing))
        )

    def update_metadata(
        self,
        ids: Iterable[Id] | None = None,
        metadata: Metadata | Sequence[Metadata] | None = None,
        *,
        filter: Filter | None = None,  # noqa: A002
        replace: bool = False,
        missing: MissingRule = "error",
    ) -> int:
        """Change metadata of documents and nothing else; parameters and errors as for `Writer.update_metadata`.

        With `replace`, changes that are not committed yet are an error (`InvalidInputError`): the documents' places in
        the cluster's order are read from what is committed.
        """
        self._check_usable()
        keys, condition = which_documents(ids, filter, missing)
        replace = flag_of(replace, "replace")
        changes = metadata_changes(metadata, None if condition is not None else keys)
        for change in changes:
            refuse_order(json.loads(change))
        if replace:
            return self._replace_metadata(keys, filter, changes, missing)
        if condition is not None:
            return self._apply(partial(w.update_metadata, None, metadata, filter=filter) for w in self._writers)
        return self._change(self._known(keys, missing), changes, replace=False)

    def _replace_metadata(
        self, keys: IdSequence, condition: Filter | None, changes: list[str], missing: MissingRule
    ) -> int:
        if self._changed:
            message = (
                "replace=True needs the committed state, and this writer has changes that are not; commit them first"
            )
            raise InvalidInputError(message)
        if condition is not None:
            found = [index.ids(filter=condition) for index in self._shards]
            keys = join_ids(found, what="ids")
        self._known(keys, missing)
        orders: dict[Id, int] = {}
        for shard, rows in self._routed(keys):
            index, own = self._shards[shard], chosen(keys, rows)
            there = chosen(own, np.flatnonzero(index.contains(own)))
            documents = index.documents(there)
            orders.update((document.id, order_of(document.metadata)) for document in documents)
        each = plain_ids(keys)
        given = changes * len(each) if len(changes) == 1 else changes
        kept = [row for row, key in enumerate(each) if key in orders]
        numbers = [numbered(given[row], orders[each[row]]) for row in kept]
        return self._change(chosen(keys, np.array(kept, dtype=np.intp)), numbers, replace=True)

    def _change(self, keys: IdSequence, changes: list[str], *, replace: bool) -> int:
        return self._apply(
            partial(
                change_metadata,
                self._writers[shard],
                chosen(keys, rows),
                changes if len(changes) == 1 else [changes[row] for row in rows],
                replace=replace,
                missing="skip",
            )
            for shard, rows in self._routed(keys)
        )

    def commit(self) -> int:
        """Make the changes durable and visible in all shards at once; without changes nothing is written.

        Returns
        -------
        int
            The generation of the cluster that now holds.

        Raises
        ------
        StorageError
            The system refused to write to a shard, or the manifest. The last commit stands in all shards; open another
            writer. Only if the folder could not be synced after the new manifest got its name may the new one stand,
            whole.
        CommitConflictError, IndexReplacedError
            Somebody else has committed, though this writer holds the lock: locks do nothing on this file system. This
            commit is not in the cluster.
        """
        self._check_usable()
        if not self._changed:
            return self.generation
        try:
            self._manifest = self._committed()
        except BaseException as error:
            self._failed = error
            raise
        self._start()
        return self.generation

    def _committed(self) -> ClusterManifest:
        with ThreadPoolExecutor(COMMITTED_TOGETHER) as pool:
            generations = list(pool.map(Writer.commit, self._writers))
        shards = [
            shard
            if shard.generation == generation
            else shard_of(self._root, shard.folder, generation, shard.first_slot)
            for shard, generation in zip(self._manifest.shards, generations, strict=True)
        ]
        if tuple(shards) == self._manifest.shards:
            return self._manifest
        committed = self._manifest.next(id_kind=self._kind, next_order=self._next_order, shards=tuple(shards))
        committed.publish(self._root)
        return committed

    def close(self) -> None:
        """Give up what is not committed and release the lock. Closing twice is harmless."""
        self._closed = True
        finished(self._stack.close)

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Commit if no exception left the block, and close in either case."""
        try:
            if kind is None and not self._closed:
                self.commit()
        finally:
            self.close()

    def _check_usable(self) -> None:
        if self._closed:
            message = "the writer is closed; open another ClusterWriter"
            raise WriterError(message)
        if self._failed is not None:
            reason = str(self._failed) or type(self._failed).__name__
            message = f"an earlier step of this writer ended early ({reason}); close it and open another ClusterWriter"
            raise WriterError(message)

    def _store(self, additions: Additions, *, upsert: bool) -> None:
        self._check_usable()
        parts = additions.parts(
            self._encoding, partial(self._refuse_known, upsert=upsert), show_progress=self._show_progress
        )
        self._apply(call for part in parts for call in self._additions(part, upsert, additions.threads))

    def _additions(self, part: Part, upsert: bool, threads: int | None) -> Iterator[_Call]:
        """Give numbers to the documents of a part, and yield the calls that add them to their shards."""
        ids = part.columns.ids
        self.empty += part.empty
        self._refuse_known(ids, upsert=upsert)
        for entry in part.columns.metadata or ():
            # Most have no such word in them, and need not be read.
            if entry is not None and ORDER in entry:
                refuse_order(json.loads(entry))
        given = part.columns.metadata or [None] * len(ids)
        metadata: list[str | None] = [numbered(entry, self._next_order + row) for row, entry in enumerate(given)]
        self._next_order += len(ids)
        columns = Columns(ids, part.columns.texts, metadata)
        for shard, rows in self._routed(ids):
            truncated = part.truncated and [part.truncated[row] for row in rows]
            own = Part(columns.chosen(rows, with_texts=True), some(part.vectors, rows), 0, truncated)
            yield partial(add_part, self._writers[shard], own, upsert=upsert, last=False, threads=threads)
            # Ids that no shard has taken leave the kind open.
            self._kind = _kind_of(ids)

    def _routed(self, ids: IdSequence) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Give each shard that owns some of the ids, and the places of these."""
        owners = self._manifest.shards_of(ids)
        for shard in np.unique(owners).tolist():
            yield shard, np.flatnonzero(owners == shard)

    def _check_kind(self, ids: IdSequence) -> None:
        if len(ids) and self._kind not in (None, _kind_of(ids)):
            message = f"the ids of this cluster are {self._kind}, and {one_id(ids[0])!r} is not; use one kind"
            raise InvalidInputError(message)

    def _refuse_known(self, ids: IdSequence, *, upsert: bool) -> None:
        self._check_kind(ids)
        for shard, rows in self._routed(ids):
            check_ids(self._writers[shard], chosen(ids, rows), upsert=upsert)

    def _known(self, ids: IdSequence, missing: MissingRule) -> IdSequence:
        """Give the ids, or raise about the first that the cluster does not hold, before any shard has changed."""
        self._check_kind(ids)
        if missing == "error":
            for position, (key, shard) in enumerate(zip(plain_ids(ids), self._manifest.shards_of(ids), strict=True)):
                try:
                    check_ids(self._writers[shard], normalise_ids([key]), upsert=False)
                except DuplicateIdError:
                    continue
                message = (
                    f'id {key!r} is not in the cluster (position {position}); pass missing="skip" to leave such ids out'
                )
                raise UnknownIdError(message)
        return ids

    def _apply(self, calls: Iterable[_Call]) -> int:
        """Make calls that each change one shard, or nothing; the sum of what they give."""
        done, total = False, 0
        try:
            for call in calls:
                total += call() or 0
                done = self._changed = True
        except BaseException as error:
            if done:
                self._failed = error
            raise
        return total


def _kind_of(ids: IdSequence) -> Literal["str", "int"]:
    return "int" if isinstance(ids, np.ndarray) else "str"
