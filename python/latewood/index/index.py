"""The index: token vectors of documents, compressed on disk, to search and to rerank with."""

import os
import pickle
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, Unpack, get_args

import numpy as np
from numpy.typing import NDArray

from latewood import _core
from latewood.cloud.generations import CLUSTER, INDEX
from latewood.cloud.publishing import Commit, publish
from latewood.cloud.pulling import Pulled, is_pulled, refuse_pulled
from latewood.cloud.store import is_url
from latewood.common.files import at_home
from latewood.common.signatures import shows
from latewood.common.types import Dtype, Filter, Id, KeepVectors, Metadata, MissingRule, Rescore, ResultIds, VectorInput
from latewood.encode.fingerprint import dumps
from latewood.encode.nano import nano_en
from latewood.encode.protocol import Encoder, as_encoder, encode_queries
from latewood.errors import (
    EncoderError,
    IndexExistsError,
    IndexNotFoundError,
    InvalidInputError,
    LatewoodError,
    MissingDependencyError,
    UnknownIdError,
)
from latewood.forms.candidates import Candidates, many_lists, of_run, one_list
from latewood.forms.ids import normalise_ids, one_id
from latewood.forms.metadata import filter_json
from latewood.forms.ragged import Ragged
from latewood.forms.values import choice_of, count_of, flag_of, optional, path_of, share_of, threads_of
from latewood.index import tuning
from latewood.index.additions import Additions, AddKeywords
from latewood.index.arrow import record_batches
from latewood.index.codec import codec_settings
from latewood.index.encoding import Encoding
from latewood.index.explanation import Explanation
from latewood.index.fde import FdeOptions
from latewood.index.feedback import NOTHING
from latewood.index.found import Found, documents_of, explanation
from latewood.index.hub import download, upload
from latewood.index.interrupts import ENDINGS, came_too_late
from latewood.index.options import EXACT, RerankKeywords, RerankOptions, SearchKeywords, SearchOptions
from latewood.index.queries import Queries, many_queries, one_query
from latewood.index.results import Document, Hits, SearchArrays
from latewood.index.tuning import Tuning
from latewood.index.writer import Writer


class Index:
    """A folder of compressed token vectors; make one with `Index.create` or `Index.open`.

    Reading goes on while another process writes: an index object sees one snapshot, and moves to the newest commit with
    `refresh`, or after a commit of its own. It can be used from several threads. Pickling keeps the path, the
    generation if it was opened at one, and the encoder where that can be pickled; the files are opened again.
    """

    def __init__(
        self, core: object, *, encoder: Encoder | None = None, mmap: bool = True, generation: int | None = None
    ) -> None:
        if not isinstance(core, _core.Index):
            name = type(self).__name__
            message = (
                f"{name}(…) makes no index; use {name}.open(path), or {name}.create(path) for one that is not there"
            )
            raise InvalidInputError(message)
        self._core_or_none: _core.Index | None = core
        self._encoding = Encoding(os.fspath(core.path), core.dim, core.encoder, encoder)
        self._mmap = mmap
        self._generation = generation
        self._pulled: Pulled | None = None

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        dim: int | None = None,
        encoder: Any = None,
        codec: Literal["residual", "flat"] | None = None,
        bits: Literal[1, 2, 4, 8] | None = None,
        centroids: int | None = None,
        seed: int | None = None,
        train_after: int | None = None,
        codec_from: "Index | str | os.PathLike[str] | None" = None,
        keep_vectors: KeepVectors | None = None,
        fde: bool | FdeOptions = False,
        exist_ok: bool = False,
        overwrite: bool = False,
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
        codec : {"residual", "flat"}, optional
            "residual", the default, for search; "flat", which needs no training, for reranking only.
        bits : {4, 1, 2, 8}, optional
            Bits for each dimension; 4 by default.
        centroids : int, optional
            Of the residual codec, 65,536 at most, and for good. By default they are chosen from the amount of data, and
            some are added when the collection grows much or documents of another kind come in.
        seed : int, optional
            Of the codec's training, from 0 to 2^64 - 1: the same data and seed give the same index. 42 by default.
        train_after : int, optional
            Token vectors that the index holds before the residual codec's centroids are trained, 65,536 by default, and
            that must come in before some are added. Until the training it keeps 8-bit codes without centroids, close to
            the originals; training encodes what is there again.
        codec_from : Index or path-like, optional
            An index whose trained codec this one begins with: a document then gets the same codes in both, and the same
            score to the bit, as long as neither adds centroids. `dim`, `codec`, `bits`, `centroids` and `seed` are
            those of that index. With neither `dim` nor `encoder`, the new one is for vectors.
        keep_vectors : "float16", optional
            Keep the vectors as well, as float16, which must hold them: within ±65,504. They take 2 bytes for each
            dimension beside the codes, searches and reranks return scores on them (`rescore`), and `vectors` gives them
            back.
        fde : bool or FdeOptions
            Of the residual codec: keep a fixed dimensional encoding of each document, for `search(gather="fde")`.
            `info()["fde"]` tells whether they are safe for these token vectors (docs/fde.md).
        exist_ok : bool
            Open the index that is at `path` already, if there is one, as it is: `dim` and `encoder` must fit it where
            they are given, and the other settings are its own.
        overwrite : bool
            Put an empty index in the place of one that is at `path` already, by one commit: whoever has the old one
            open goes on reading it, and gets an `IndexReplacedError` from `refresh` and `writer`.
        mmap : bool
            As for `open`.

        Raises
        ------
        IndexExistsError
            There is an index at `path`, and neither `exist_ok` nor `overwrite` says what to do about it.
        IndexLockedError
            Somebody is writing to the index that is to be overwritten.
        InvalidInputError
            Settings that do not exist, or that an existing index does not have; both `exist_ok` and `overwrite`;
            settings that contradict `codec_from`, or an index there that has no trained codec yet.
        MissingDependencyError
            Neither `dim` nor `encoder`, and the extra `text` is not installed: vectors of one's own need `dim`.
        """
        folder, mmap = _folder(path), flag_of(mmap, "mmap")
        exist_ok, overwrite = flag_of(exist_ok, "exist_ok"), flag_of(overwrite, "overwrite")
        if exist_ok and overwrite:
            message = "exist_ok keeps the index that is there, and overwrite does not; pass one of them"
            raise InvalidInputError(message)
        optional(count_of, dim, "dim")
        source = None if codec_from is None else cls._source(codec_from)
        given = {"codec": codec, "bits": bits, "centroids": centroids, "seed": seed, "train_after": train_after}
        settings = {
            **codec_settings(given, source),
            "keep_vectors": optional(choice_of, keep_vectors, "keep_vectors", get_args(KeepVectors)),
            "fde": FdeOptions.plain(fde),
        }
        if source is not None and encoder is None and dim is None:
            dim = source.dim
        if overwrite:
            refuse_pulled(folder)
        own = as_encoder(encoder) if encoder is not None else _default_encoder() if dim is None else None
        width = _dimensions(own, dim)
        fingerprint = dumps(own, dim=width) if own is not None else None
        try:
            core = _core.Index.create(
                folder, width, **settings, codec_from=source, encoder=fingerprint, overwrite=overwrite, mmap=mmap
            )
        except IndexExistsError:
            if not exist_ok:
                raise
            index = cls.open(folder, encoder=own if encoder is not None else None, mmap=mmap)
            if dim is not None and dim != index.dim:
                message = f"the index {index.path!r} has {index.dim} dimensions, not {dim}; leave dim out"
                raise InvalidInputError(message) from None
            return index
        return cls(core, encoder=own, mmap=mmap)

    @classmethod
    def _source(cls, codec_from: "Index | str | os.PathLike[str]") -> _core.Index:
        """Give the index whose codec another is to begin with."""
        source = codec_from if isinstance(codec_from, cls) else cls.open(path_of(codec_from, "codec_from"))
        return source._core  # noqa: SLF001  of this class

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        encoder: Any = None,
        check_encoder: bool = True,
        generation: int | None = None,
        mmap: bool = True,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> "Index":
        """Open the newest commit of an index.

        Parameters
        ----------
        path : path-like
            As for `create`; or an address in object storage, such as "s3://bucket/news", where `publish` has put one:
            it is brought here and opened for reading, and `refresh` follows what is published later (docs/cloud.md).
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
        cache_dir : path-like, optional
            Where indexes from object storage are kept; by default the folder that `LATEWOOD_CACHE` names, else
            `~/.cache/latewood`.

        Raises
        ------
        StorageError, MissingDependencyError
            It cannot be brought from object storage, or that needs the extra `cloud`.
        CorruptIndexError
            A file of the commit is damaged or missing. The message names it and the newest commit that is whole, which
            `generation` reads and `recover` goes back to. With `mmap`, damage in codes, vectors, texts and metadata
            shows when they are first read: then the call that reads them raises it.
        IndexNotFoundError, FormatVersionError
        InvalidInputError
            There is no such generation.
        EncoderMismatchError
            The encoder is not the one that the index was built with.
        """
        mmap, check_encoder = flag_of(mmap, "mmap"), flag_of(check_encoder, "check_encoder")
        number = optional(count_of, generation, "generation")
        cache = optional(path_of, cache_dir, "cache_dir")
        if is_url(path):
            pulled = Pulled(str(path), INDEX, cache)
            core = pulled.pull(
                lambda: _core.Index.open(str(pulled.folder), generation=number, mmap=mmap), number, show_progress=None
            )
            index = cls(core, encoder=None, mmap=mmap, generation=number)
            index._pulled = pulled
        else:
            folder = _folder(path)
            try:
                core = _core.Index.open(folder, generation=number, mmap=mmap)
            except IndexNotFoundError as error:
                if not any(Path(folder).glob("cluster-*.json")):
                    raise
                message = f"{folder!r} holds a cluster, and no index; open it with {CLUSTER.opened_by}"
                raise IndexNotFoundError(message) from error
            index = cls(core, encoder=None, mmap=mmap, generation=number)
        if encoder is not None:
            index.use_encoder(encoder, check_encoder=check_encoder)
        return index

    @classmethod
    def from_hub(
        cls,
        repo_id: str,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_dir: str | os.PathLike[str] | None = None,
        encoder: Any = None,
        check_encoder: bool = True,
        mmap: bool = True,
    ) -> "Index":
        """Open an index of a dataset repository of the Hugging Face Hub; files that are here already are not fetched.

        Parameters
        ----------
        repo_id : str
            "owner/name".
        revision : str, optional
            A branch, tag or commit; the main branch by default.
        token, cache_dir
            As for `huggingface_hub.snapshot_download`.
        local_dir : path-like, optional
            Where the files are put, for an index of one's own. By default they lie in the Hub's cache, where other
            programs rely on them: the index is for reading, like one that was opened at a generation.
        encoder, check_encoder, mmap
            As for `open`.

        Raises
        ------
        StorageError
            The files cannot be fetched: no network, no such repository or revision, no right to it.
        InvalidInputError
            No name of a repository, or one that holds no index.
        MissingDependencyError
            huggingface_hub is not installed (extra `hub`).
        CorruptIndexError, EncoderMismatchError
            As for `open`: every checksum is verified, as with any other index.
        """
        folder = download(repo_id, revision=revision, token=token, cache_dir=cache_dir, local_dir=local_dir)
        newest = cls.open(folder, encoder=encoder, check_encoder=check_encoder, mmap=mmap)
        if local_dir is not None:
            return newest
        generation = newest.generation
        return cls.open(folder, encoder=encoder, check_encoder=check_encoder, generation=generation, mmap=mmap)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str | None = None,
        token: str | bool | None = None,
    ) -> str:
        """Upload the newest commit to a dataset repository of the Hugging Face Hub, which is made if it is not there.

        All files come in one commit there, in the place of those of an index that it had. Nobody else can write to this
        index meanwhile.

        Parameters
        ----------
        repo_id : str
            "owner/name".
        private, revision, create_pr, commit_message, token
            As for `huggingface_hub.HfApi.create_repo` and `upload_folder`.

        Returns
        -------
        str
            The address of the commit.

        Raises
        ------
        StorageError
            It cannot be uploaded: no network, no right to.
        InvalidInputError
            No name of a repository, or a setting that is none.
        IndexLockedError
            Somebody is writing to this index.
        MissingDependencyError
            huggingface_hub is not installed (extra `hub`).
        """
        settings = {"revision": revision, "commit_message": commit_message, "token": token}
        private, create_pr = optional(flag_of, private, "private"), flag_of(create_pr, "create_pr")
        with self._unchanged():
            return upload(self.path, repo_id, private=private, create_pr=create_pr, **settings)

    def publish(self, url: str, *, repair: bool = False, show_progress: bool | None = None) -> int:
        """Put the newest commit into object storage, from where `Index.open` takes it (docs/cloud.md).

        Files go up first, those that are not there yet, and the description of the commit last, where none is: readers
        see all of it or nothing, and of two who publish at once one succeeds. Nobody else can write to this index
        meanwhile.

        Parameters
        ----------
        url : str
            "s3://bucket/news", "gs://…", "az://…" or "file:///…". Keys come from the environment, such as
            `AWS_ACCESS_KEY_ID`.
        repair : bool
            Put all files up again, also those that seem to be there: for a store that has damaged some.
        show_progress : bool, optional
            By default if standard error is a terminal.

        Returns
        -------
        int
            The generation that is there now.

        Raises
        ------
        StorageError
            It cannot be uploaded; what is there stays as it was.
        CommitConflictError
            A commit is there that this one was not made from: somebody else has published first.
        InvalidInputError
            No address, or one where another index is.
        CorruptIndexError
            What is there describes no commit; or, with `repair`, a file of this index is not what was published.
        IndexLockedError
            Somebody is writing to this index.
        MissingDependencyError
            obstore is not installed (extra `cloud`).
        """
        repair, show_progress = flag_of(repair, "repair"), optional(flag_of, show_progress, "show_progress")
        with self._unchanged():
            commit = Commit(INDEX, *self._core.commit())
            return publish(Path(self.path), commit, url, repair=repair, show_progress=show_progress)

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
        refuse_pulled(folder)
        return cls(_core.Index.recover(folder, generation=number, mmap=mmap), encoder=None, mmap=mmap)

    def use_encoder(self, encoder: Any, *, check_encoder: bool = True) -> None:
        """Set the encoder for text; parameters and errors as for `open`."""
        self._encoding.use(encoder, check=flag_of(check_encoder, "check_encoder"))

    def close(self) -> None:
        """Let go of the files. Any further use is an error."""
        self._core_or_none = None
        if self._pulled is not None:
            self._pulled.close()

    def __enter__(self) -> Self:
        """Return the index itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the index."""
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path, the generation if one was asked for, and the encoder if it can be pickled."""
        encoder = self._encoding.encoder
        try:
            pickle.dumps(encoder)
        except Exception:  # noqa: BLE001  a foreign encoder may raise anything
            encoder = None
        path, cache = self.path, None
        if self._pulled is not None:
            path, cache = self._pulled.store.url, str(self._pulled.root)
        return (_reopen, (type(self), path, self._mmap, self._generation, encoder, self._encoding.checked, cache))

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
        return self._encoding.encoder

    @property
    def recorded_encoder(self) -> dict[str, Any] | None:
        """Fingerprint of the encoder that the index was built with."""
        return self._encoding.recorded

    def require_encoder(self, purpose: str) -> Encoder:
        """Give the encoder, or raise `EncoderRequiredError` with the remedy; `purpose` begins the message."""
        return self._encoding.require(purpose)

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

    def ids(self, *, filter: Filter | None = None) -> ResultIds:  # noqa: A002
        """Give the ids of all documents, or of those that `filter` lets through: an int64 array or a list of str.

        They come in the order in which the documents were added. `filter` is that of `search` (docs/filters.md); one
        that cannot be understood is an `InvalidInputError`.
        """
        return self._core.ids(filter_json(filter))

    def count(self, *, filter: Filter | None = None) -> int:  # noqa: A002
        """Count all documents, or those that `filter` lets through; `filter` and errors as for `ids`."""
        return self._core.count(filter_json(filter))

    def documents(self, ids: Iterable[Id]) -> list[Document]:
        """Give the stored text and metadata of documents; `UnknownIdError` names an id that is not there."""
        return documents_of(self._core, normalise_ids(ids))

    def vectors(self, ids: Iterable[Id]) -> Ragged:
        """Give token vectors of documents: those that the index keeps, or its codes decoded.

        Kept vectors are those that were added, rounded to float16; decoded ones are close to them.
        """
        values, offsets = self._core.vectors(normalise_ids(ids))
        return Ragged(values, offsets)

    def to_arrow(self, ids: Iterable[Id] | None = None, *, dtype: Dtype = "float32") -> Any:
        """Give documents as an Arrow table; `to_batches` gives them bit by bit.

        Parameters
        ----------
        ids : sequence of str or int, optional
            All documents by default; `UnknownIdError` names an id that is not there.
        dtype : {"float32", "float16", "float64"}
            Of the vectors. DuckDB reads no float16.

        Returns
        -------
        pyarrow.Table
            Columns `id`, `text`, `metadata` (JSON) and `vectors`, a `list<fixed_size_list<dtype>[dim]>`, as `vectors`
            of this index gives them.

        Raises
        ------
        MissingDependencyError
            pyarrow is not installed (extra `arrow`).
        """
        return self.to_batches(ids, dtype=dtype).read_all()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Hand all documents, as of `to_arrow`, to any library that knows Arrow's PyCapsule interface."""
        return self.to_batches().__arrow_c_stream__(requested_schema)

    def to_batches(self, ids: Iterable[Id] | None = None, *, dtype: Dtype = "float32") -> Any:
        """Give documents as a `pyarrow.RecordBatchReader`, 256 at a time; parameters and errors as for `to_arrow`.

        They are those of this moment, whatever is committed before the last batch is asked for.
        """
        keys, number = optional(normalise_ids, ids, "ids"), choice_of(dtype, "dtype", get_args(Dtype))
        # This object may move to another commit meanwhile.
        snapshot = Index(self._core.pinned(), encoder=None, mmap=self._mmap)
        asked = snapshot.ids() if keys is None else keys
        missing = np.flatnonzero(~snapshot.contains(asked))
        if missing.size:
            message = f"id {one_id(asked[missing[0]])!r} is not in the index"
            raise UnknownIdError(message)
        return record_batches(asked, self.dim, number, snapshot.vectors, snapshot.documents)

    def info(self) -> dict[str, Any]:
        """Give counts, sizes in bytes, codec, format and the recorded encoder.

        "codec" has the number of centroids (`centroid_count`) and of the token vectors that they were trained on
        (`trained_tokens`). "drift" says how many times more energy the centroids leave over of what is stored than of
        those; it is None without centroids, and in indexes from before it was kept. "by_segment" has documents, deleted
        documents, token vectors and bytes of each segment.
        """
        return {"path": self.path, **self._core.info(), "encoder": self.recorded_encoder}

    def check(self) -> list[str]:
        """Read all files of all commits that are there, and verify every checksum and count.

        Returns
        -------
        list of str
            The problems found, empty if there are none. What a commit that ends meanwhile removes is no problem.
        """
        return self._core.check() if self._pulled is None else self._pulled.check(self._core.check)

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
        if self._pulled is not None and self._generation is None:
            return self._pulled.follow(self._core.refresh, False)
        return self._core.refresh()

    def __repr__(self) -> str:
        """Path, dimensions and number of documents."""
        if self._core_or_none is None:
            return "Index(closed)"
        return f"Index({self.path!r}, dim={self.dim}, documents={len(self)})"

    # ── search ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @shows(SearchOptions)
    def search(
        self,
        query: str | VectorInput,
        k: int = 10,
        *,
        ids: Iterable[Id] | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[SearchKeywords],
    ) -> Hits:
        """Find the k documents with the highest MaxSim for one query.

        Parameters
        ----------
        query : str or [tokens, dim] array
            Text needs an encoder; vectors never do.
        k : int
            How many hits at most; fewer where fewer documents match.
        ids : sequence of str or int, optional
            Search only among these; those the index does not hold are passed over. All are of the index's kind.
        weights : array [query tokens], optional
            From 0 to a million; multiplies what each query token adds.
        with_documents : bool
            Whether hits carry stored text and metadata.
        **options
            `filter`, `group_by`, `offset`, `min_score` and more, which `SearchOptions` describes.

        Returns
        -------
        Hits
            A list of `Hit`, best first, with `stats` and `plan`.

        Raises
        ------
        InvalidInputError
            k below 1, a query without tokens, with more than 4,096 of them or with NaN, an option that is not one;
            feedback from an index without cells. Options are checked before a text is encoded.
        DimensionError, EncoderRequiredError
        """
        chosen, only = SearchOptions.of(k=k, **options), optional(normalise_ids, ids, "ids")
        with_documents = flag_of(with_documents, "with_documents")
        queries = one_query(query, weights, self._encoding)
        return self._search(queries, only, chosen).hits(with_documents=with_documents)[0]

    @shows(SearchOptions)
    def search_batch(
        self,
        queries: Sequence[str] | VectorInput,
        k: int = 10,
        *,
        ids: Iterable[Id] | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[SearchKeywords],
    ) -> list[Hits]:
        """Search for several queries at once, over all threads.

        Parameters
        ----------
        queries : sequence of str, or vectors in any form of `latewood.to_ragged`
        k, ids, with_documents, **options
            As for `search`; a `filter` may be a list with one for each query.
        weights : array [query tokens of all queries], or a sequence with one array for each query, optional

        Returns
        -------
        list of Hits
            One for each query.
        """
        chosen, only = SearchOptions.of(k=k, **options), optional(normalise_ids, ids, "ids")
        with_documents = flag_of(with_documents, "with_documents")
        asked = many_queries(queries, weights, self._encoding)
        return self._search(asked, only, chosen).hits(with_documents=with_documents)

    @shows(SearchOptions)
    def search_arrays(
        self,
        queries: Sequence[str] | VectorInput,
        k: int = 10,
        *,
        ids: Iterable[Id] | None = None,
        weights: Any = None,
        **options: Unpack[SearchKeywords],
    ) -> SearchArrays:
        """Do as `search_batch`, and give ids and scores as arrays: the quickest form for many hits."""
        chosen, only = SearchOptions.of(k=k, **options), optional(normalise_ids, ids, "ids")
        return self._search(many_queries(queries, weights, self._encoding), only, chosen).arrays()

    def _search(self, queries: Queries, ids: Any, options: SearchOptions) -> Found:
        vectors = queries.vectors
        options.check_count(len(vectors))
        results = self._core.search(vectors.values, vectors.offsets, queries.weights, ids, options.core)
        found = Found(results, queries, self._encoding, options)
        if options.recall is not None:
            tuning.warn_if_stale(found.plan, len(self))
        return found

    # ── rerank ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @shows(RerankOptions)
    def rerank(
        self,
        query: str | VectorInput,
        candidates: object,
        scores: object = None,
        *,
        k: int | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[RerankKeywords],
    ) -> Hits:
        """Order somebody else's candidates by MaxSim on the stored vectors.

        Parameters
        ----------
        query : str or [tokens, dim] array
        candidates : sequence of ids, mapping id → first-stage score, or sequence of (id, score)
            Or any other form that a first stage gives; `latewood.FirstStage` lists them.
        scores : sequence of float, optional
            First-stage scores of the candidates, the higher the better.
        k : int, optional
            How many to give back; all of them by default.
        weights, with_documents
            As for `search`.
        **options
            `alpha`, `beta`, `filter` and more, which `RerankOptions` describes.

        Returns
        -------
        Hits
            A list of `Hit`, best first, with `stats` and `plan`.

        Raises
        ------
        UnknownIdError
            A candidate that the index does not hold, unless `missing` is "skip".
        InvalidInputError, DimensionError, EncoderRequiredError
        """
        chosen, with_documents = RerankOptions.of(k=k, **options), flag_of(with_documents, "with_documents")
        given = one_list(candidates, scores)
        queries = one_query(query, weights, self._encoding)
        return self._rerank(queries, given, chosen).hits(with_documents=with_documents)[0]

    @shows(RerankOptions)
    def rerank_batch(
        self,
        queries: Sequence[str] | VectorInput,
        candidates: object,
        scores: object = None,
        *,
        offsets: Any = None,
        k: int | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[RerankKeywords],
    ) -> list[Hits]:
        """Rerank the candidates of several queries at once.

        Parameters
        ----------
        queries : sequence of str, or vectors in any form of `latewood.to_ragged`
        candidates : one list (or mapping, or pairs) for each query; or flat ids with `offsets`
        scores : sequence of sequences, or flat array, optional
        offsets : int64 array [queries + 1], optional
            Bounds of each query's candidates in flat `candidates`.
        k, with_documents, **options
            As for `rerank`; a `filter` may be a list with one for each query.
        weights : array [query tokens of all queries], or a sequence with one array for each query, optional

        Returns
        -------
        list of Hits
            One for each query.
        """
        chosen, with_documents = RerankOptions.of(k=k, **options), flag_of(with_documents, "with_documents")
        asked = many_queries(queries, weights, self._encoding)
        given = many_lists(candidates, scores, offsets, len(asked.vectors))
        return self._rerank(asked, given, chosen).hits(with_documents=with_documents)

    @shows(RerankOptions)
    def rerank_arrays(
        self,
        queries: Sequence[str] | VectorInput,
        candidates: object,
        scores: object = None,
        *,
        offsets: Any = None,
        k: int | None = None,
        weights: Any = None,
        **options: Unpack[RerankKeywords],
    ) -> SearchArrays:
        """Do as `rerank_batch`, and give ids and scores as arrays: the quickest form for many hits."""
        chosen = RerankOptions.of(k=k, **options)
        asked = many_queries(queries, weights, self._encoding)
        given = many_lists(candidates, scores, offsets, len(asked.vectors))
        return self._rerank(asked, given, chosen).arrays()

    @shows(RerankOptions)
    def rerank_run(
        self,
        queries: Mapping[str, str | VectorInput],
        run: Mapping[str, object],
        *,
        k: int | None = None,
        with_documents: bool = True,
        **options: Unpack[RerankKeywords],
    ) -> dict[str, Hits]:
        """Rerank a first stage's run.

        Parameters
        ----------
        queries : mapping of query id to text or [tokens, dim] array
            All of one form. Those without an entry in `run` are passed over.
        run : mapping of query id to candidates
            {document id: first-stage score}, or any other form that `rerank` takes.
        k, with_documents, **options
            As for `rerank`.

        Returns
        -------
        dict of str to Hits
            In the order of `queries`.

        Raises
        ------
        InvalidInputError
            No mappings, or candidates for a query that is not there.
        """
        keys, asked, candidates = of_run(queries, run)
        hits = self.rerank_batch(asked, candidates, k=k, with_documents=with_documents, **options)
        return dict(zip(keys, hits, strict=True))

    def _rerank(self, queries: Queries, candidates: Candidates, options: RerankOptions) -> Found:
        options.check_scores(candidates)
        vectors = queries.vectors
        options.check_count(len(vectors))
        results = self._core.rerank(
            vectors.values,
            vectors.offsets,
            queries.weights,
            candidates.ids,
            candidates.offsets,
            candidates.scores,
            options.core,
        )
        return Found(results, queries, self._encoding, options)

    # ── explain and measure ──────────────────────────────────────────────────────────────────────────────────────────

    def explain(
        self,
        query: str | VectorInput,
        id: Id,  # noqa: A002
        *,
        weights: Any = None,
        length_normalize: bool = False,
        rescore: Rescore | None = None,
    ) -> Explanation:
        """Show how a document's score comes about, token by token.

        Parameters
        ----------
        query : str or [tokens, dim] array
        id : str or int
            `UnknownIdError` if the index does not hold it.
        weights, length_normalize, rescore
            As for `search`.

        Returns
        -------
        Explanation
            Of the query as given. What feedback added to it is known to the hits alone: ask `Hit.explain`.
        """
        key, length_normalize = one_id(id), flag_of(length_normalize, "length_normalize")
        on = optional(choice_of, rescore, "rescore", get_args(Rescore))
        queries = one_query(query, weights, self._encoding)
        matrix, text = self._core.explain(queries.vectors.values, key, queries.weights, on)
        return explanation(
            key,
            matrix,
            self._encoding,
            query_text=queries.texts[0] if queries.texts else None,
            document_text=text,
            added=NOTHING,
            length_normalize=length_normalize,
        )

    @shows(SearchOptions)
    def measure_recall(
        self,
        queries: Sequence[str] | VectorInput,
        k: int = 10,
        *,
        ids: Iterable[Id] | None = None,
        weights: Any = None,
        **options: Unpack[SearchKeywords],
    ) -> float:
        """Measure the share of the exact top k that a search with `options` finds, on average over the queries.

        Parameters
        ----------
        queries, k, ids, weights, **options
            As for `search_batch`. `recall`, `deviations`, `gather`, `max_scored`, `probes` and `threshold` are what is
            measured; the others hold in both searches.

        Returns
        -------
        float
            1.0 if nothing is lost. Among documents with equal scores, the exact search's choice counts.
        """
        chosen, only = SearchOptions.of(k=k, **options), optional(normalise_ids, ids, "ids")
        asked = many_queries(queries, weights, self._encoding)
        complete: SearchKeywords = {**options, **EXACT}
        exact = self._search(asked, only, SearchOptions.of(k=k, **complete)).arrays()
        return tuning.recall(exact, self._search(asked, only, chosen).arrays())

    def tune(
        self,
        queries: Sequence[str] | VectorInput | None = None,
        *,
        recall: float = 0.99,
        k: int = 10,
        weights: Any = None,
        threads: int | None = None,
    ) -> Tuning:
        """Measure how thoroughly this index must look to find a share of the best documents, and store that with it.

        From then on searches look for that share unless they are asked otherwise, and `search(recall=)` goes by what
        was measured. What was measured for other k stays; a search goes by the nearest. What finds a share of few hits
        finds less of many: one for more than twice as many looks no less far than is usual for its recall.

        Parameters
        ----------
        queries : sequence of str, or vectors of several queries, optional
            A hundred typical ones or more; each is answered exactly once, which takes its time on a large index.
            Without them, token vectors of 128 of the index's own documents stand in, which are not what people ask.
        recall : float
            Share of the k best documents by codes, above 0 and at most 1.
        k : int
        weights, threads
            As for `search_batch`.

        Returns
        -------
        Tuning
            What was measured.

        Raises
        ------
        InvalidInputError
            No queries, or no documents to take some from; an index that was opened at a generation, before anything is
            measured.
        """
        recall = share_of(recall, "recall")
        wanted = SearchOptions.of(k=k, threads=threads)
        # Who may not write is told so before anything is measured.
        self.writer().close()
        if queries is None:
            ids = self.ids()
            drawn = np.random.default_rng(0).permutation(len(ids))[: tuning.SAMPLED_DOCUMENTS]
            asked = Queries(tuning.documents_as_queries(self.vectors([ids[place] for place in drawn])))
        else:
            asked = many_queries(queries, weights, self._encoding)
        if not len(asked.vectors):
            message = "there is no query to tune by; pass some, or add documents"
            raise InvalidInputError(message)

        def search(**options: Unpack[SearchKeywords]) -> SearchArrays:
            return self._search(asked, None, SearchOptions.of(k=wanted.k, threads=threads, **options)).arrays()

        curve = tuning.measured_curve(search(**EXACT), lambda deviations: search(deviations=deviations), recall)
        tuned = Tuning(wanted.k, recall, len(asked.vectors), len(self), curve)
        with self.writer(merge=False) as writer:
            writer.set_tuning(tuned)
        return tuned

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
        return self._writer(merge, show_progress)

    def _writer(self, merge: bool, show_progress: bool | None, *, one_call: bool = False) -> Writer:
        merge, show_progress = flag_of(merge, "merge"), optional(flag_of, show_progress, "show_progress")
        refuse_pulled(self.path)
        core = self._core.writer(merge=merge)
        return Writer(core, self._encoding, show_progress=show_progress, one_call=one_call)

    def _unchanged(self) -> AbstractContextManager[Any]:
        """Keep others from writing; nothing changes in a folder that cannot be written to, such as the Hub's cache."""
        writable = os.access(self.path, os.W_OK) and self._generation is None and not is_pulled(self.path)
        return self.writer(merge=False) if writable else nullcontext()

    @shows(Additions)
    def add(
        self,
        ids: Iterable[Id],
        *,
        merge: bool = True,
        show_progress: bool | None = None,
        **documents: Unpack[AddKeywords],
    ) -> None:
        """Add documents in a commit of their own.

        Parameters and errors are those of `Writer.add`; `merge` and `show_progress` are those of `writer`.
        """
        with self._writer(merge, show_progress, one_call=True) as writer:
            writer.add(ids, **documents)

    @shows(Additions)
    def upsert(
        self,
        ids: Iterable[Id],
        *,
        merge: bool = True,
        show_progress: bool | None = None,
        **documents: Unpack[AddKeywords],
    ) -> None:
        """Add or replace documents in a commit of their own.

        Parameters and errors are those of `Writer.add`; `merge` and `show_progress` are those of `writer`.
        """
        with self._writer(merge, show_progress, one_call=True) as writer:
            writer.upsert(ids, **documents)

    def update_metadata(
        self,
        ids: Iterable[Id] | None = None,
        metadata: Metadata | Sequence[Metadata] | None = None,
        *,
        filter: Filter | None = None,  # noqa: A002
        replace: bool = False,
        missing: MissingRule = "error",
        merge: bool = True,
    ) -> int:
        """Change metadata of documents in a commit of its own.

        Parameters, result and errors are those of `Writer.update_metadata`; `merge` is that of `writer`.
        """
        with self.writer(merge=merge) as writer:
            return writer.update_metadata(ids, metadata, filter=filter, replace=replace, missing=missing)

    def delete(
        self,
        ids: Iterable[Id] | None = None,
        *,
        filter: Filter | None = None,  # noqa: A002
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
        refuse_pulled(self.path)
        threads, before = threads_of(threads), self._core.generation
        try:
            self._core.compact(threads)
        except ENDINGS as ending:
            if self._core.generation == before:
                raise
            came_too_late(ending)


def checked_index(index: Any) -> Index:
    """Check that `index` is an open index."""
    if not isinstance(index, Index):
        message = f"index is a {type(index).__name__}, and must be an Index: Index.open gives one"
        raise InvalidInputError(message)
    return index


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
    if is_url(path):
        message = f"{path!r} is an address; make the index in a folder, and `publish` puts it into object storage"
        raise InvalidInputError(message)
    return os.fspath(at_home(path_of(path)))


def _reopen(
    kind: type[Index],
    path: str,
    mmap: bool,
    generation: int | None,
    encoder: Encoder | None,
    check_encoder: bool,
    cache_dir: str | None,
) -> Index:
    # The folder may hold another index by now, with another encoder.
    return kind.open(
        path, mmap=mmap, generation=generation, encoder=encoder, check_encoder=check_encoder, cache_dir=cache_dir
    )
