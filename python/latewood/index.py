"""The index: token vectors of documents, compressed on disk, to search and to rerank with."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from latewood import _core
from latewood._hits import documents_of
from latewood._ids import normalise_ids, one_id
from latewood._interrupts import interrupt_later
from latewood._options import choice_of, count_of, filter_json, flag_of, optional, path_of, shown, threads_of, whole
from latewood._typing import Id, Metadata, MissingRule, ResultIds, VectorInput
from latewood.encode.fingerprint import check_fingerprint, dumps
from latewood.encode.nano import NAME, has_nano, nano_en
from latewood.encode.protocol import Encoder, as_encoder, encode_queries
from latewood.errors import (
    EncoderError,
    EncoderRequiredError,
    InvalidInputError,
    LatewoodError,
    MissingDependencyError,
)
from latewood.ragged import Ragged
from latewood.results import Document
from latewood.search import Searcher
from latewood.writer import Writer

_BITS = (1, 2, 4, 8)

RECORDED = "recorded"
"""As `encoder=`, this word asks for the encoder that the index itself names."""


class Index(Searcher):
    """A folder of compressed token vectors; make one with `Index.create` or `Index.open`.

    Reading goes on while another process writes: an index object sees one snapshot, and moves to the newest commit with
    `refresh`, or after a commit of its own. It can be used from several threads. Pickling keeps the path only, and the
    generation if it was opened at one.
    """

    def __init__(
        self, core: _core.Index, *, encoder: Encoder | None, mmap: bool, generation: int | None = None
    ) -> None:
        self._core_or_none: _core.Index | None = core
        self._encoder = encoder
        self._mmap = mmap
        self._generation = generation

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        dim: int | None = None,
        encoder: Any = None,
        codec: Literal["residual", "flat"] = "residual",
        bits: Literal[1, 2, 4, 8] = 4,
        centroids: int | None = None,
        seed: int = 42,
        train_after: int = 65_536,
        mmap: bool = True,
    ) -> "Index":
        """Create an empty index in a folder, which is made if it is not there; other files in it are left alone.

        Parameters
        ----------
        path : path-like
            `~` stands for the user's home. A relative path is the folder's that is current now, whatever is later.
        dim : int, optional
            Dimensions of a token vector, for an index that is filled with vectors; otherwise the encoder's.
        encoder : Encoder, MultiVectorEncoder or str, optional
            Turns texts into token vectors; a str is a model's name or path. The index records its fingerprint. With
            neither `dim` nor `encoder` it is "latewood/nano-en", which is inside the wheel and needs the extra `text`.
        codec : {"residual", "flat"}
            "residual" for search; "flat", which needs no training, for reranking only.
        bits : {4, 1, 2, 8}
            Bits for each dimension.
        centroids : int, optional
            Of the residual codec, 65,536 at most; by default a power of two chosen from the amount of data.
        seed : int
            Of the codec's training, from 0 to 2^64 - 1: the same data and seed give the same index.
        train_after : int
            Token vectors that the index holds before the residual codec's centroids are trained. Until then it keeps
            8-bit codes without centroids, close to the originals; training encodes what is there again.
        mmap : bool
            As for `open`.

        Raises
        ------
        IndexExistsError
            There is an index at `path`.
        InvalidInputError
            Settings that do not exist.
        MissingDependencyError
            Neither `dim` nor `encoder`, and the extra `text` is not installed: vectors of one's own need `dim`.
        """
        folder, mmap = _folder(path), flag_of(mmap, "mmap")
        optional(count_of, dim, "dim")
        if whole(bits) not in _BITS:
            message = f"bits must be 1, 2, 4 or 8, not {shown(bits)}"
            raise InvalidInputError(message)
        settings: dict[str, Any] = {
            "codec": choice_of(codec, "codec", ("residual", "flat")),
            "bits": whole(bits),
            "centroids": optional(count_of, centroids, "centroids"),
            "seed": count_of(seed, "seed", least=0, most=2**64 - 1),
            "train_after": count_of(train_after, "train_after", least=0),
        }
        own = as_encoder(encoder) if encoder is not None else _default_encoder() if dim is None else None
        width = _dimensions(own, dim)
        fingerprint = dumps(own, dim=width) if own is not None else None
        core = _core.Index.create(folder, width, **settings, encoder=fingerprint, mmap=mmap)
        return cls(core, encoder=own, mmap=mmap)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        encoder: Any = None,
        check_encoder: bool = True,
        generation: int | None = None,
        mmap: bool = True,
    ) -> "Index":
        """Open the newest commit of an index.

        Parameters
        ----------
        path : path-like
            As for `create`.
        encoder : Encoder, MultiVectorEncoder or str, optional
            Needed only for text. "recorded" loads the encoder that the index names; nothing is loaded without being
            asked but "latewood/nano-en", which is part of the library.
        check_encoder : bool
            False accepts an encoder whose fingerprint differs from the recorded one.
        generation : int, optional
            An older commit, to read it as it was: the index stays at it, and cannot be changed. A commit keeps the one
            before it; older ones are removed.
        mmap : bool
            False reads files into memory instead of mapping them, and verifies all of them when they are opened: for
            media that may fail, or folders in which somebody may shorten a file while it is open. A mapped file that is
            shortened makes the operating system end the process (SIGBUS) as soon as its lost part is read.

        Raises
        ------
        CorruptIndexError
            A file of the commit is damaged or missing. The message names it and the newest commit that is whole, which
            `generation` reads and `recover` goes back to. With `mmap`, damage in codes, texts and metadata shows when
            they are first read: then the call that reads them raises it.
        IndexNotFoundError, FormatVersionError
        InvalidInputError
            There is no such generation.
        EncoderMismatchError
            The encoder is not the one that the index was built with.
        """
        folder, mmap, check_encoder = _folder(path), flag_of(mmap, "mmap"), flag_of(check_encoder, "check_encoder")
        number = optional(count_of, generation, "generation")
        index = cls(_core.Index.open(folder, generation=number, mmap=mmap), encoder=None, mmap=mmap, generation=number)
        if encoder is not None:
            index.use_encoder(encoder, check_encoder=check_encoder)
        return index

    @classmethod
    def recover(cls, path: str | os.PathLike[str], *, generation: int | None = None, mmap: bool = True) -> "Index":
        """Go back to an older commit for good, and open it: what came after it is given up.

        The older commit is committed again as the newest. Files of the ones in between stay until the next commit,
        and `check` tells what is wrong with them until then.

        Parameters
        ----------
        path : path-like
        generation : int, optional
            The commit to go back to; by default the newest that is whole. An index whose newest commit is whole then
            stays as it is.
        mmap : bool
            As for `open`.

        Raises
        ------
        CorruptIndexError
            No commit is whole, or the one that was asked for is not.
        IndexNotFoundError, IndexLockedError, FormatVersionError
        InvalidInputError
            There is no such generation.
        """
        folder, mmap = _folder(path), flag_of(mmap, "mmap")
        number = optional(count_of, generation, "generation")
        return cls(_core.Index.recover(folder, generation=number, mmap=mmap), encoder=None, mmap=mmap)

    def use_encoder(self, encoder: Any, *, check_encoder: bool = True) -> None:
        """Set the encoder for text; parameters and errors as for `open`."""
        check_encoder = flag_of(check_encoder, "check_encoder")
        if isinstance(encoder, str) and encoder == RECORDED:
            recorded = self.recorded_encoder
            if recorded is None:
                message = f"the index {self.path!r} records no encoder; pass the one that made its vectors"
                raise EncoderError(message)
            encoder = str(recorded["name"])
        own = as_encoder(encoder)
        if check_encoder:
            check_fingerprint(self._core.encoder, own, path=self.path)
        self._encoder = own

    def close(self) -> None:
        """Let go of the files. Any further use is an error."""
        self._core_or_none = None

    def __enter__(self) -> Self:
        """Return the index itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the index."""
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path, and the generation if one was asked for."""
        return (_reopen, (self.path, self._mmap, self._generation))

    @property
    def _core(self) -> _core.Index:
        if self._core_or_none is None:
            message = "the index is closed; open it again with Index.open(path)"
            raise LatewoodError(message)
        return self._core_or_none

    # ── what it is and holds ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def path(self) -> str:
        """The folder."""
        return os.fspath(self._core.path)

    @property
    def dim(self) -> int:
        """Dimensions of a token vector."""
        return self._core.dim

    @property
    def encoder(self) -> Encoder | None:
        """What turns text into token vectors here, if anything."""
        if self._encoder is None and (self.recorded_encoder or {}).get("name") == NAME and has_nano():
            self.use_encoder(NAME)
        return self._encoder

    @property
    def recorded_encoder(self) -> dict[str, Any] | None:
        """Fingerprint of the encoder that the index was built with."""
        stored = self._core.encoder
        if stored is None:
            return None
        fingerprint: dict[str, Any] = json.loads(stored)
        return fingerprint

    def require_encoder(self, purpose: str) -> Encoder:
        """Give the encoder, or raise `EncoderRequiredError` with the remedy."""
        encoder = self.encoder
        if encoder is None:
            recorded = self.recorded_encoder
            remedy = (
                f"Index.open(path, encoder='{RECORDED}') loads {recorded['name']!r}, which it was built with"
                if recorded
                else "pass encoder= to Index.open, or vectors instead of text"
            )
            message = f"{purpose} needs an encoder, and the index {self.path!r} was opened without one; {remedy}"
            raise EncoderRequiredError(message)
        return encoder

    def __len__(self) -> int:
        """Count the documents."""
        return len(self._core)

    def __contains__(self, key: object) -> bool:
        """Whether a document with this id is in the index."""
        try:
            return bool(self.contains([one_id(key)])[0])
        except InvalidInputError:
            # What cannot be an id is not among them.
            return False

    def contains(self, ids: Iterable[Id]) -> NDArray[np.bool_]:
        """Whether each of `ids` is in the index: bool array."""
        return self._core.contains(normalise_ids(ids))

    def ids(self, *, filter: Mapping[str, Any] | None = None) -> ResultIds:  # noqa: A002
        """Give the ids of all documents, or of those that `filter` lets through: an int64 array or a list of str.

        They come in the order in which the documents were added. `filter` is that of `search` (docs/filters.md); one
        that cannot be understood is an `InvalidInputError`.
        """
        return self._core.ids(filter_json(filter))

    def count(self, *, filter: Mapping[str, Any] | None = None) -> int:  # noqa: A002
        """Count all documents, or those that `filter` lets through; `filter` and errors as for `ids`."""
        return self._core.count(filter_json(filter))

    def documents(self, ids: Iterable[Id]) -> list[Document]:
        """Give the stored text and metadata of documents; `UnknownIdError` names an id that is not there."""
        return documents_of(self._core, normalise_ids(ids))

    def vectors(self, ids: Iterable[Id]) -> Ragged:
        """Give token vectors of documents, decoded: close to those that were added, and not equal."""
        values, offsets = self._core.vectors(normalise_ids(ids))
        return Ragged(values, offsets)

    def info(self) -> dict[str, Any]:
        """Give counts, sizes in bytes, codec, format and the recorded encoder."""
        return {"path": self.path, **self._core.info(), "encoder": self.recorded_encoder}

    def check(self) -> list[str]:
        """Read all files of all commits that are there, and verify every checksum and count.

        Returns
        -------
        list of str
            The problems found, empty if there are none. What a commit that ends meanwhile removes is no problem.
        """
        return self._core.check()

    @property
    def generation(self) -> int:
        """Number of the commit that this object reads."""
        return self._core.generation

    def refresh(self) -> bool:
        """Move to the newest commit; True if there was a newer one. An index opened at a generation stays at it.

        Raises
        ------
        IndexReplacedError
            The folder holds another index than it did, or an older state of this one, such as a backup that was put
            back: open it again.
        CorruptIndexError
            The newest commit is damaged; this object stays where it is.
        """
        return self._core.refresh()

    def __repr__(self) -> str:
        """Path, dimensions and number of documents."""
        if self._core_or_none is None:
            return "Index(closed)"
        return f"Index({self.path!r}, dim={self.dim}, documents={len(self)})"

    # ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def writer(self, *, merge: bool = True, show_progress: bool | None = None) -> Writer:
        """Start a set of changes that become visible together.

        Parameters
        ----------
        merge : bool
            Whether its commits merge small segments into larger ones, which keeps searches fast after many small
            commits (docs/merging.md). False leaves all segments as they are.
        show_progress : bool, optional
            A bar on standard error while texts are encoded; None shows it on a terminal where tqdm is installed.

        Raises
        ------
        IndexLockedError
            Another writer is at work, in this process or another.
        IndexReplacedError, CorruptIndexError
            As for `refresh`.
        InvalidInputError
            This index was opened at a generation.
        """
        merge, show_progress = flag_of(merge, "merge"), optional(flag_of, show_progress, "show_progress")
        return Writer(self._core.writer(merge=merge), self, show_progress=show_progress)

    def add(
        self,
        ids: Iterable[Id],
        *,
        texts: Sequence[str | None] | None = None,
        vectors: VectorInput | None = None,
        metadata: Sequence[Metadata | None] | None = None,
        merge: bool = True,
        **options: Any,
    ) -> None:
        """Add documents in a commit of their own.

        Parameters and errors are those of `Writer.add`; `merge` is that of `writer`.
        """
        with self.writer(merge=merge) as writer:
            writer.add(ids, texts=texts, vectors=vectors, metadata=metadata, **options)

    def upsert(
        self,
        ids: Iterable[Id],
        *,
        texts: Sequence[str | None] | None = None,
        vectors: VectorInput | None = None,
        metadata: Sequence[Metadata | None] | None = None,
        merge: bool = True,
        **options: Any,
    ) -> None:
        """Add or replace documents in a commit of their own.

        Parameters and errors are those of `Writer.add`; `merge` is that of `writer`.
        """
        with self.writer(merge=merge) as writer:
            writer.upsert(ids, texts=texts, vectors=vectors, metadata=metadata, **options)

    def delete(
        self,
        ids: Iterable[Id] | None = None,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        missing: MissingRule = "error",
        merge: bool = True,
    ) -> int:
        """Delete documents in a commit of their own.

        Parameters, result and errors are those of `Writer.delete`; `merge` is that of `writer`.
        """
        with self.writer(merge=merge) as writer:
            return writer.delete(ids, filter=filter, missing=missing)

    def compact(self, *, threads: int | None = None) -> None:
        """Rewrite all segments as one, without the deleted documents: time and space grow with the index.

        Only the new commit is kept. Commits merge by themselves what is worth it (docs/merging.md).

        Parameters
        ----------
        threads : int, optional

        Raises
        ------
        CorruptIndexError
            A segment is damaged, in the words of `check`. Nothing has changed then.
        IndexLockedError, IndexReplacedError, StorageError
        """
        threads, before = threads_of(threads), self._core.generation
        try:
            self._core.compact(threads)
        except KeyboardInterrupt:
            if self._core.generation == before:
                raise
            interrupt_later()


def _default_encoder() -> Encoder:
    try:
        return nano_en()
    except (MissingDependencyError, EncoderError) as error:
        message = f"{error}; an index for vectors of your own needs no encoder, but their dimensions: pass dim="
        raise type(error)(message) from error


def _dimensions(encoder: Encoder | None, asked: int | None) -> int:
    known = optional(count_of, getattr(encoder, "dim", None), "the encoder's dim")
    if encoder is not None and asked is None and known is None:
        known = encode_queries(encoder, ["dimensions"]).dim
    if asked is not None and known is not None and asked != known:
        message = f"dim={asked} is asked for and the encoder gives {known} dimensions; leave dim out"
        raise InvalidInputError(message)
    return count_of(known if asked is None else asked, "dim")


def _folder(path: Any) -> str:
    return os.path.expanduser(path_of(path))  # noqa: PTH111  pathlib raises where the user is unknown


def _reopen(path: str, mmap: bool, generation: int | None) -> Index:
    return Index.open(path, mmap=mmap, generation=generation)
