"""Stub of the extension module; `stubtest` holds it to the binary."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

__version__: str

_Ids: TypeAlias = list[str] | NDArray[np.int64]

class LatewoodError(Exception): ...
class InvalidInputError(LatewoodError, ValueError): ...
class DimensionError(InvalidInputError): ...
class DuplicateIdError(InvalidInputError): ...
class UnknownIdError(LatewoodError, KeyError): ...
class IndexNotFoundError(LatewoodError, FileNotFoundError): ...
class IndexExistsError(LatewoodError, FileExistsError): ...
class IndexLockedError(LatewoodError): ...
class CorruptIndexError(LatewoodError): ...
class IndexReplacedError(LatewoodError): ...
class FormatVersionError(LatewoodError): ...
class WriterError(LatewoodError): ...
class CommitConflictError(WriterError): ...
class StorageError(LatewoodError, OSError): ...
class StoppedError(LatewoodError): ...
class InternalError(LatewoodError): ...

@final
class Stop:
    """Ends calls of the library from outside: from another thread, or when a time is over."""

    def __new__(cls, seconds: float | None = None) -> Self: ...
    def set(self) -> None: ...
    @staticmethod
    def check() -> None: ...
    @property
    def stopped(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        _kind: type[BaseException] | None = None,
        _error: BaseException | None = None,
        _traceback: TracebackType | None = None,
    ) -> None: ...

def simd_levels() -> list[str]: ...
def simd_level() -> str: ...
def maxsim(
    query_values: NDArray[np.float32],
    query_offsets: NDArray[np.int64],
    document_values: NDArray[np.float32],
    document_offsets: NDArray[np.int64],
    pairs: bool,
    precision: str,
    threads: int | None,
) -> NDArray[np.float32]:
    """Exact MaxSim, `[queries · documents]` flat; with `pairs` of query i with document i.

    `precision`: "float32" or "bfloat16". A document without tokens scores -inf.
    """

def maxsim_arrays(
    query_values: NDArray[np.float32],
    query_offsets: NDArray[np.int64],
    documents: Sequence[object],
    pairs: bool,
    precision: str,
    threads: int | None,
) -> NDArray[np.float32] | None:
    """As `maxsim` on documents that each are an array, read where they lie.

    None unless all are contiguous arrays [tokens, dim] of float32, or all of float16, of the queries' dimensions.
    """

def pool(
    values: NDArray[np.float32],
    offsets: NDArray[np.int64],
    method: str,
    *,
    count: int | None = None,
    fraction: float | None = None,
    factor: float | None = None,
    protected: int = 0,
    normalize: bool = True,
    threads: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Fewer vectors for each item, flat with offsets; `method`: "kmeans" or "ward"; one of the three budgets."""

@final
class Index:
    @staticmethod
    def create(
        path: str,
        dim: int,
        *,
        codec: str,
        bits: int,
        centroids: int | None,
        seed: int,
        train_after: int,
        codec_from: Index | None,
        keep_vectors: str | None,
        fde: dict[str, Any] | None,
        encoder: str | None,
        overwrite: bool,
        mmap: bool,
    ) -> Index:
        """`encoder` is a JSON object (the fingerprint), kept as data and never run; `codec_from` has a codec."""

    @staticmethod
    def open(path: str, *, generation: int | None = None, mmap: bool = True) -> Index: ...
    @staticmethod
    def recover(path: str, *, generation: int | None = None, mmap: bool = True) -> Index: ...
    def pinned(self) -> Index:
        """The commit that is read, as an index that stays at it."""

    @property
    def path(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def generation(self) -> int:
        """Number of the commit that is read."""

    @property
    def encoder(self) -> str | None: ...
    def __len__(self) -> int:
        """Number of live documents."""

    def writer(self, *, merge: bool = True) -> Writer: ...
    def refresh(self) -> bool:
        """Take up the newest commit; True if there was a newer one."""

    def commit(self) -> tuple[int, list[str], list[str], str | None]:
        """Generation, names of its files, its signature and those of its ancestors, and the index's identity."""

    def info(self) -> dict[str, Any]: ...
    def check(self) -> list[str]:
        """Verify every checksum and count; the problems found, empty if none."""

    def compact(self, threads: int | None = None) -> int:
        """The new generation."""

    def contains(self, ids: Sequence[str] | Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]: ...
    def ids(self, filter: str | None = None) -> _Ids: ...
    def count(self, filter: str | None = None) -> int: ...
    def documents(self, ids: Sequence[str] | Sequence[int] | NDArray[np.int64]) -> list[tuple[str | None, str | None]]:
        """(text, metadata as JSON) of each id."""

    def vectors(
        self, ids: Sequence[str] | Sequence[int] | NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Token vectors, flat with offsets: the kept ones, or those that the codes stand for."""

    def rotated_vectors(
        self, ids: Sequence[str] | Sequence[int] | NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """What codes stand for before the rotation is undone, `[tokens, depth]`, and offsets: what `expand` takes."""

    def frequencies(self) -> NDArray[np.uint64]:
        """How many live documents have a token in each cell."""

    def expand(
        self,
        query_values: NDArray[np.float32],
        weights: NDArray[np.float32] | None,
        feedback: dict[str, Any],
        *,
        points: NDArray[np.float32],
        hits: int,
        documents: int,
        frequencies: NDArray[np.uint64],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What joins one query, vectors `[n, dim]` and weights `[n]`: from `rotated_vectors` of its first `hits`, of
        `documents` that are in other indexes of this codec, and from the sum of the `frequencies` of these."""

    def search(
        self,
        query_values: NDArray[np.float32],
        query_offsets: NDArray[np.int64],
        weights: NDArray[np.float32] | None,
        ids: Sequence[str] | Sequence[int] | NDArray[np.int64] | None,
        options: SearchOptions,
    ) -> Results:
        """`ids`: search only among these."""

    def rerank(
        self,
        query_values: NDArray[np.float32],
        query_offsets: NDArray[np.int64],
        weights: NDArray[np.float32] | None,
        candidate_ids: Sequence[str] | Sequence[int] | NDArray[np.int64],
        candidate_offsets: NDArray[np.int64],
        candidate_scores: NDArray[np.float64] | None,
        options: RerankOptions,
    ) -> Results:
        """Each query's candidates, best first."""

    def explain(
        self,
        query_values: NDArray[np.float32],
        id: str | int,
        weights: NDArray[np.float32] | None = None,
        rescore: str | None = None,
    ) -> tuple[NDArray[np.float32], str | None]:
        """Weighted dot products as the score counts them, `[query tokens, document tokens]`, and the text."""

@final
class SearchOptions:
    """Checked options of a search."""

    def __new__(cls, values: dict[str, Any]) -> SearchOptions: ...

@final
class RerankOptions:
    """Checked options of a rerank."""

    def __new__(cls, values: dict[str, Any]) -> RerankOptions: ...
    def choose(
        self,
        scores: NDArray[np.float32],
        given: NDArray[np.int64],
        *,
        first: NDArray[np.float64] | None,
        groups: list[str | None] | None,
    ) -> list[int]:
        """Places in `scores`, on codes and in document order, of those candidates of one query that a rerank of all
        would score: `given` has them in the order of the first stage, and `first` its scores in that order."""

@final
class Results:
    """CSR: hits of query i are rows `offsets[i]` to `offsets[i + 1]`, best first."""

    @property
    def ids(self) -> _Ids: ...
    @property
    def scores(self) -> NDArray[np.float32]: ...
    @property
    def offsets(self) -> NDArray[np.int64]: ...
    def rows(self, with_documents: bool) -> tuple[list[tuple[Any, float, str | None, str | None]], list[int]]:
        """(id, score, text, metadata as JSON) of each hit, as of the search; and the offsets."""

    def groups(self, field: str) -> list[str | None]:
        """Of each hit, by a field of its metadata, the same text for the same value; None for one that is its own."""

    def text(self, hit: int) -> str | None:
        """Text of one hit, by its row."""

    def explain(
        self, query_values: NDArray[np.float32], hit: int, weights: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Weighted dot products `[query tokens, document tokens]` of a hit, by its row, as it was when it was found."""

    def stats(self, query: int | None = None) -> dict[str, float]:
        """Of one query, or of all: counts (`queries`, `gathered`, `pruned`, `refined`, `scored`, `scored_tokens`,
        `rescored`, `feedback_vectors`) and seconds by stage."""

    def plan(self, query: int | None = None) -> dict[str, Any]:
        """How candidates were found, for one query or for the first that has any: `gather`, `probes`, `threshold`,
        `max_scored`, `deviations`, `expected_recall`, `tuned_documents`, `stale_tuning`, `rescore`, and
        `without_effect`, a list."""

    @property
    def added(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """What feedback added to the queries: vectors `[n, dim]`, weights `[n]`, offsets `[queries + 1]`."""

@final
class Writer:
    """One commit, all or nothing; holds the index's writer lock until closed."""

    def add(
        self,
        ids: Sequence[str] | Sequence[int] | NDArray[np.int64],
        values: NDArray[np.float32],
        offsets: NDArray[np.int64],
        *,
        texts: Sequence[str | None] | None = None,
        metadata: Sequence[str | None] | None = None,
        truncated: Sequence[bool] | None = None,
        upsert: bool = False,
        last: bool = False,
        threads: int | None = None,
    ) -> None:
        """`metadata`: a JSON object for each document; `truncated`: whether its encoder cut its text; `last`: whether
        nothing more comes before the commit."""

    def check_ids(self, ids: Sequence[str] | Sequence[int] | NDArray[np.int64], *, upsert: bool = False) -> None:
        """Check that documents of these ids can be added, before their vectors are there."""

    def delete(self, ids: Sequence[str] | Sequence[int] | NDArray[np.int64], *, missing: str) -> int: ...
    def delete_matching(self, filter: str) -> int:
        """Delete the documents that a filter, as JSON, lets through; it must ask for a field."""

    def update_metadata(
        self,
        ids: Sequence[str] | Sequence[int] | NDArray[np.int64],
        metadata: Sequence[str],
        *,
        replace: bool,
        missing: str,
    ) -> int:
        """Change metadata of documents; how many there were.

        `metadata`: a JSON object for each id, or one for all: the new metadata with `replace`, else a merge patch.
        """

    def update_metadata_matching(self, filter: str, metadata: str, *, replace: bool) -> int:
        """As `update_metadata`, of the documents that a filter, as JSON, lets through; it must ask for a field."""

    def set_tuning(self, tuning: str) -> None:
        """Store what was measured of the recall of searches: a tuning as JSON."""

    def commit(self) -> int:
        """Make the changes durable and visible; the new generation."""

    @property
    def generation(self) -> int | None:
        """Number of the commit that it stands on, its own included; None once closed."""

    @property
    def changes(self) -> int:
        """How many calls have changed something so far."""

    def check_usable(self) -> None:
        """Raise the error that any further use would."""

    def close(self) -> None:
        """Give up uncommitted changes and release the lock."""
