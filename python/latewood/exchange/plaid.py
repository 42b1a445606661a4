"""Folders that the PLAID family writes → token vectors: fast-plaid, PyLate, next-plaid and colbert-ai.

All four keep a centroid's number for each token, and of each dimension of what is left over the number of a bucket, in
1, 2, 4 or 8 bits. They differ in the files these lie in.
"""

import json
import sqlite3
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from latewood.common.types import FloatArray, OffsetArray
from latewood.errors import InvalidInputError
from latewood.exchange.parts import Part
from latewood.exchange.pickles import read_pickle, read_torch
from latewood.forms.ids import one_id
from latewood.forms.ragged import Ragged

PART_VALUES = 2**22
"""Components of token vectors (16 MiB) that are decoded at a time."""

_LARGEST_JSON = 2**30
_LARGEST_NUMBER = 2.0**15
"""float16, which most of them store, ends at its double."""

Row = tuple[int, dict[str, Any]]
"""A document's number, and its metadata."""


class Codec(Protocol):
    """Codes → vectors."""

    dim: int

    def check(self, chunk: "Chunk") -> None:
        """Refuse codes that stand for nothing."""

    def decode(self, codes: NDArray[Any], residuals: NDArray[Any]) -> FloatArray:
        """Give the vectors of some tokens."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The codes of documents that follow each other."""

    name: str
    lengths: OffsetArray
    codes: NDArray[Any]
    residuals: NDArray[Any]


class Buckets:
    """A centroid and a bucket for each dimension; the sum has length 1, as all four libraries have it."""

    def __init__(self, centroids: NDArray[Any], weights: NDArray[Any], where: Path) -> None:
        bits = {2: 1, 4: 2, 16: 4, 256: 8}.get(weights.size)
        if centroids.ndim != 2 or not centroids.size or weights.ndim != 1 or bits is None:
            message = f"{where}: centroids of shape {centroids.shape} and buckets of shape {weights.shape}, not a codec"
            raise InvalidInputError(message)
        self.dim = int(centroids.shape[1])
        self._centroids = _finite(centroids, where)
        self._width = -(-self.dim * bits // 8)
        # Buckets lie in a byte one after the other from its highest bit on, the bits of each the lowest first.
        numbers = np.unpackbits(np.arange(256, dtype=np.uint8)).reshape(256, 8 // bits, bits) @ (1 << np.arange(bits))
        self._weights = _finite(weights, where)[numbers]

    def check(self, chunk: Chunk) -> None:
        """Refuse codes that stand for nothing."""
        _check_shape(chunk, self._width)
        codes = chunk.codes
        if len(codes) and not (codes.min() >= 0 and codes.max() < len(self._centroids)):
            message = f"{chunk.name}: a token of a centroid that is not among the {len(self._centroids)}; it is damaged"
            raise InvalidInputError(message)

    def decode(self, codes: NDArray[Any], residuals: NDArray[Any]) -> FloatArray:
        """Give the vectors of some tokens."""
        vectors = self._weights[residuals].reshape(len(codes), -1)[:, : self.dim]
        vectors += self._centroids[codes]
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return np.ascontiguousarray(vectors)


class Signs:
    """One bit for each dimension, next-plaid's `binary`: its scores are those of vectors of -1 and 1."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def check(self, chunk: Chunk) -> None:
        """Refuse codes that stand for nothing."""
        _check_shape(chunk, -(-self.dim // 8))

    def decode(self, codes: NDArray[Any], residuals: NDArray[Any]) -> FloatArray:
        """Give the vectors of some tokens."""
        return np.unpackbits(residuals, axis=1)[:, : self.dim].astype(np.float32) * 2 - 1


@dataclass(slots=True)
class Plaid:
    """A folder that one of these libraries has written.

    Attributes
    ----------
    kind : str
        Which layout it has.
    codec : Codec
    chunks : list of Chunk
    empty_are_deleted : bool
        Whether a document without tokens is one that was deleted.
    database : Path or None
        Of metadata.
    ids : mapping of row to id, or None
        None: a document's id is its row.
    """

    kind: str
    codec: Codec
    chunks: list[Chunk]
    empty_are_deleted: bool
    database: Path | None
    ids: Mapping[int, Any] | None = None

    def __len__(self) -> int:
        """Count the rows, those of deleted documents among them."""
        return sum(len(chunk.lengths) for chunk in self.chunks)

    def parts(self) -> Iterator[Part]:
        """Decode all documents, so many at a time that memory is bounded."""
        row = 0
        with closing(_metadata(self.database)) as metadata:
            waiting = next(metadata, None)
            for chunk in self.chunks:
                bounds = np.concatenate([[0], np.cumsum(chunk.lengths)])
                for rows in _pieces(bounds, PART_VALUES // self.codec.dim):
                    entries = []
                    for place in range(row + rows.start, row + rows.stop):
                        while waiting is not None and waiting[0] < place:
                            waiting = next(metadata, None)
                        entries.append(waiting[1] if waiting is not None and waiting[0] == place else {})
                    yield self._part(chunk, bounds, rows, row, entries)
                row += len(chunk.lengths)

    def _part(self, chunk: Chunk, bounds: OffsetArray, rows: slice, first: int, metadata: list[dict[str, Any]]) -> Part:
        tokens = slice(bounds[rows.start], bounds[rows.stop])
        values = self.codec.decode(chunk.codes[tokens], chunk.residuals[tokens])
        documents = Ragged(values, bounds[rows.start : rows.stop + 1] - tokens.start)
        kept = [
            at
            for at in range(len(documents))
            if (self.ids is None or first + rows.start + at in self.ids)
            and not (self.empty_are_deleted and documents.lengths[at] == 0)
        ]
        ids = [first + rows.start + at for at in kept]
        if len(kept) < len(documents):
            chosen = [documents[at] for at in kept]
            values = np.concatenate([np.zeros((0, documents.dim), np.float32), *chosen])
            documents = Ragged(values, np.cumsum([0, *map(len, chosen)]))
        named = ids if self.ids is None else [self.ids[row] for row in ids]
        return Part(named, documents, [metadata[at] for at in kept])


def open_plaid(folder: Path) -> Plaid:
    """Recognise a folder and check it; its vectors and metadata are read later.

    Raises
    ------
    InvalidInputError
        None of the layouts, or one that is damaged.
    """
    inner = folder / "fast_plaid_index"
    if inner.is_dir():
        found = open_plaid(inner)
        found.kind, found.ids = "PyLate (PLAID)", _pylate_ids(folder, len(found))
        return found
    if (folder / "centroids.pt").is_file():
        found = _colbert(folder)
        if (folder / _PYLATE_IDS).is_file():
            found.kind, found.ids = "PyLate (StanfordPLAID)", _pylate_ids(folder, len(found))
        return found
    if (folder / "centroids.npy").is_file():
        return _plaid(folder)
    message = (
        f"{folder}: no index that can be imported: it holds neither fast_plaid_index (PyLate), centroids.npy "
        "(fast-plaid, next-plaid) nor centroids.pt (colbert-ai)"
    )
    raise InvalidInputError(message)


def _plaid(folder: Path) -> Plaid:
    settings = _settings(folder)
    centroids = _npy(folder / "centroids.npy")
    binary = settings.get("binary") is True
    codec: Codec = Signs(int(centroids.shape[-1])) if binary else _buckets(folder, centroids)
    count = _count(settings, "num_chunks", folder)
    lengths = [_lengths(folder, number) for number in range(count)]
    if (folder / "0.codes.npy").is_file():
        chunks = [
            Chunk(
                f"{folder}, chunk {number}",
                own,
                _npy(folder / f"{number}.codes.npy"),
                _npy(folder / f"{number}.residuals.npy"),
            )
            for number, own in enumerate(lengths)
        ]
    else:
        together = np.concatenate([np.zeros(0, np.int64), *lengths])
        codes, residuals = _npy(folder / "merged_codes.npy"), _npy(folder / "merged_residuals.npy")
        # Rows behind the last token are room to read in.
        end = max(int(together.sum()), 0)
        chunks = [Chunk(str(folder), together, codes[:end], residuals[:end])]
    name = "next-plaid" if settings.get("next_plaid_compatible") is True else "fast-plaid"
    database = folder / "metadata.db"
    return _checked(
        Plaid(name + (" (binary)" if binary else ""), codec, chunks, False, database if database.is_file() else None)
    )


def _buckets(folder: Path, centroids: NDArray[Any]) -> Buckets:
    return Buckets(centroids, _npy(folder / "bucket_weights.npy"), folder)


def _colbert(folder: Path) -> Plaid:
    settings = _settings(folder)
    _, weights = _tensors(folder / "buckets.pt", 2)
    (centroids,) = _tensors(folder / "centroids.pt")
    codec = Buckets(centroids, weights, folder)
    chunks = [
        Chunk(
            f"{folder}, chunk {number}",
            _lengths(folder, number),
            *_tensors(folder / f"{number}.codes.pt"),
            *_tensors(folder / f"{number}.residuals.pt"),
        )
        for number in range(_count(settings, "num_chunks", folder))
    ]
    return _checked(Plaid("colbert-ai", codec, chunks, True, None))


def _finite(numbers: NDArray[Any], where: Path) -> FloatArray:
    if numbers.dtype.kind != "f" or not (np.abs(numbers) < _LARGEST_NUMBER).all():
        message = f"{where}: centroids or buckets that are no numbers of vectors of length 1; the folder is damaged"
        raise InvalidInputError(message)
    return numbers.astype(np.float32)


def _checked(found: Plaid) -> Plaid:
    for chunk in found.chunks:
        found.codec.check(chunk)
    return found


def _check_shape(chunk: Chunk, width: int) -> None:
    tokens = int(chunk.lengths.sum())
    integers = chunk.codes.dtype.kind in "iu" and chunk.residuals.dtype == np.uint8
    if not integers or chunk.codes.shape != (tokens,) or chunk.residuals.shape != (tokens, width):
        message = (
            f"{chunk.name}: codes of shape {chunk.codes.shape} and residuals of shape {chunk.residuals.shape}, where "
            f"the documents' lengths need {(tokens,)} and {(tokens, width)}; it is damaged, or was being written"
        )
        raise InvalidInputError(message)


def _pieces(bounds: OffsetArray, tokens: int) -> Iterator[slice]:
    """Divide documents into runs of so many tokens at most, or one document."""
    start = 0
    while start < len(bounds) - 1:
        stop = int(np.searchsorted(bounds, bounds[start] + max(tokens, 1), side="right")) - 1
        stop = min(max(stop, start + 1), len(bounds) - 1, start + PART_VALUES // 2**8)
        yield slice(start, stop)
        start = stop


def _npy(path: Path) -> NDArray[Any]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    # Damaged files lead numpy to many kinds of errors.
    except Exception as error:
        message = f"{path}: not a .npy file of plain numbers ({getattr(error, 'strerror', None) or error})"
        raise InvalidInputError(message) from error


def _tensors(path: Path, count: int = 1) -> list[NDArray[Any]]:
    found = read_torch(path)
    if len(found) != count:
        message = f"{path}: {len(found)} tensors, where colbert-ai has {count}"
        raise InvalidInputError(message)
    return found


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > _LARGEST_JSON:
            message = f"{path}: more than 1 GiB of JSON"
            raise InvalidInputError(message)
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        message = f"{path}: {getattr(error, 'strerror', None) or error}"
        raise InvalidInputError(message) from error


def _settings(folder: Path) -> dict[str, Any]:
    found = _json(folder / "metadata.json")
    if not isinstance(found, dict):
        message = f"{folder / 'metadata.json'}: a {type(found).__name__}, not an object"
        raise InvalidInputError(message)
    return found


def _count(settings: dict[str, Any], name: str, folder: Path) -> int:
    number = settings.get(name)
    if type(number) is not int or number < 0:
        message = f"{folder / 'metadata.json'}: {name!r} is {number!r}, not a number of them"
        raise InvalidInputError(message)
    return number


def _lengths(folder: Path, chunk: int) -> OffsetArray:
    path = folder / f"doclens.{chunk}.json"
    found = _json(path)
    if not isinstance(found, list) or not all(type(length) is int and 0 <= length < 2**32 for length in found):
        message = f"{path}: not a list of lengths"
        raise InvalidInputError(message)
    return np.array(found, dtype=np.int64)


_PYLATE_IDS = "documents_ids_to_plaid_ids.pkl"


def _pylate_ids(folder: Path, rows: int) -> dict[int, Any]:
    """Give the id of each row; where an id was added twice, PyLate knows the newer row alone."""
    path = folder / _PYLATE_IDS
    found = read_pickle(path)
    if not isinstance(found, dict):
        message = f"{path}: a {type(found).__name__}, not a dict of ids"
        raise InvalidInputError(message)
    ids: dict[int, Any] = {}
    for key, row in found.items():
        if type(row) is not int or not 0 <= row < rows or row in ids:
            message = f"{path}: document {key!r} has row {row!r}; the index has {rows}, each of one document"
            raise InvalidInputError(message)
        ids[row] = one_id(key)
    return ids


def _metadata(database: Path | None) -> Generator[Row, None, None]:
    """Give the rows of a database of metadata in order, each with its number."""
    if database is None:
        return
    # A journal beside it holds what is not yet in it; without one, nothing needs to be written to read it.
    journal = database.with_name(f"{database.name}-wal")
    pending = journal.is_file() and journal.stat().st_size > 0
    address = f"file:{quote(str(database.absolute()))}?mode=ro{'' if pending else '&immutable=1'}"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if "METADATA" not in tables:
                return
            source = "METADATA"
            if "METADATA_CONTENT" in tables:
                source = "METADATA LEFT JOIN METADATA_CONTENT USING (_content_id_)"
            listed = {
                name: kind
                for table in ("METADATA", "METADATA_CONTENT")
                for _, name, kind, *_ in connection.execute(f"PRAGMA table_info({table})")
            }
            found = connection.execute(f"SELECT * FROM {source} ORDER BY _subset_")  # noqa: S608  names of this file
            names = [column[0] for column in found.description]
            for row in found:
                entry = dict(zip(names, row, strict=True))
                number = entry.pop("_subset_")
                entry.pop("_content_id_", None)
                if type(number) is not int:
                    message = f"{database}: a row of the number {number!r}; it is damaged"
                    raise InvalidInputError(message)
                yield number, _entry(entry, listed, f"{database}, row {number}")
    except sqlite3.Error as error:
        message = f"{database}: not a database of metadata that can be read ({error})"
        raise InvalidInputError(message) from error


def _entry(row: dict[str, Any], kinds: dict[str, str], where: str) -> dict[str, Any]:
    """Leave out what is not there, and read lists and objects, which are kept as JSON in columns for bytes."""
    entry: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, bytes):
            message = f"{where}: {name!r} holds {len(value)} bytes, which metadata cannot; pass metadata=False"
            raise InvalidInputError(message)
        if value is None:
            continue
        entry[name] = value
        if isinstance(value, str) and kinds.get(name) == "BLOB":
            try:
                entry[name] = json.loads(value)
            except (ValueError, RecursionError):
                entry[name] = value
    return entry
