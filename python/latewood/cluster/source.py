"""What a cluster is built from, in the forms that callers have → Parquet files, which every builder reads by itself."""

import filecmp
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latewood.cluster.routing import some
from latewood.common.files import at_home
from latewood.common.packages import import_optional
from latewood.errors import InvalidInputError, StorageError
from latewood.exchange.files import describe, fields_of, vector_columns
from latewood.forms.ids import normalise_ids, plain_ids
from latewood.forms.metadata import mapping_json
from latewood.forms.ragged import Ragged, to_ragged
from latewood.forms.values import shown, text_of
from latewood.index.arrow import ROWS

FILE_ROWS = 2**16
"""Documents of a file that is written here."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Some documents of the source."""

    orders: NDArray[np.int64]
    """The place of each among all."""
    ids: list[Any]
    texts: list[Any] | None
    fields: list[dict[str, Any]]
    vectors: Ragged | None

    def chosen(self, rows: NDArray[np.intp]) -> "Rows":
        """Give some of them."""
        return Rows(
            self.orders[rows],
            [self.ids[row] for row in rows],
            self.texts and [self.texts[row] for row in rows],
            [self.fields[row] for row in rows],
            self.vectors and some(self.vectors, rows),
        )


def parquet_files(source: Any, staging: Path) -> list[Path]:
    """Give the Parquet files of a source, which are written to `staging` if there are none yet.

    What can be read only once, and was written before, is not read again: a generator has nothing left to give.
    """
    if isinstance(source, (str, os.PathLike)):
        return _found([source])
    if isinstance(source, (list, tuple)) and source and all(isinstance(item, os.PathLike) for item in source):
        return _found(source)
    # Columns alone are iterables of their entries.
    is_table = hasattr(source, "__arrow_c_stream__") and hasattr(source, "columns")
    is_dataset = hasattr(source, "write_parquet")
    if staging.exists() and (isinstance(source, Iterator) or (is_dataset and not is_table)):
        return sorted(staging.iterdir())
    partial = staging.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if is_table:
        _write_table(source, partial)
    elif is_dataset:
        source.map_batches(without_tensors, batch_format="pyarrow").write_parquet(os.fspath(partial))
    else:
        _write(source, partial)
    if not staging.exists():
        partial.rename(staging)
    elif not _is_same(partial, staging):
        message = f"a build of another source was begun; give that, or remove the folder {os.fspath(staging.parent)!r}"
        raise InvalidInputError(message)
    shutil.rmtree(partial, ignore_errors=True)
    return sorted(staging.iterdir())


def _is_same(folder: Path, other: Path) -> bool:
    names, others = (sorted(file.name for file in one.iterdir()) for one in (folder, other))
    return names == others and all(filecmp.cmp(folder / name, other / name, shallow=False) for name in names)


def count_rows(files: Iterable[Path]) -> int:
    """Count the documents, from the ends of the files alone; none is an error."""
    parquet = import_optional("pyarrow.parquet", extra="arrow", purpose="reading .parquet files")
    rows = 0
    for path in files:
        with _reading(path):
            rows += int(parquet.read_metadata(path).num_rows)
    if not rows:
        message = "the source has no document; a cluster is built of some, or made empty by latewood.cluster.create"
        raise InvalidInputError(message)
    return rows


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tell what pyarrow and the system say of a file as the library tells it."""
    pyarrow = import_optional("pyarrow", extra="arrow", purpose="reading .parquet files")
    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        message = f"{path}: cannot be read ({' '.join(str(error).split())[:300]})"
        # A file that cannot be reached now may be whole.
        raise (StorageError if isinstance(error, OSError) else InvalidInputError)(message) from error


def read_rows(files: Iterable[Path]) -> Iterator[Rows]:
    """Read the documents of all files, a few at a time.

    Raises
    ------
    InvalidInputError
        A file that is none, or that has neither a column `text` nor one of lists of vectors, or vectors where others
        have none.
    StorageError
        A file that cannot be read.
    """
    pyarrow = import_optional("pyarrow", extra="arrow", purpose="reading .parquet files")
    parquet = import_optional("pyarrow.parquet", extra="arrow", purpose="reading .parquet files")
    first, has_vectors = 0, None
    for path in files:
        with _reading(path), parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS):
                rows = _rows(pyarrow.table(batch), first, path)
                if has_vectors not in (None, rows.vectors is not None):
                    message = (
                        f"{path}: {'no ' if has_vectors else ''}vectors, unlike the files before; give all of one kind"
                    )
                    raise InvalidInputError(message)
                has_vectors = rows.vectors is not None
                yield rows
                first += batch.num_rows


def _rows(table: Any, first: int, path: Path) -> Rows:
    named = vector_columns(table, path)
    if len(named) > 1 or not (named or "text" in table.column_names):
        held = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
        message = f"{path}: one column of list<fixed_size_list<float>> or a column text is expected; it has {held}"
        raise InvalidInputError(message)
    ids, texts, fields = describe(table.drop_columns(named), first, path)
    vectors = to_ragged(table.column(named[0]), names=ids, allow_empty=True) if named else None
    return Rows(first + np.arange(len(ids)), ids, texts, fields, vectors)


def _found(places: Iterable[str | os.PathLike[str]]) -> list[Path]:
    files: list[Path] = []
    for place in map(at_home, places):
        found = sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
        missing = not found or not all(file.is_file() for file in found)
        if missing:
            message = f"no Parquet file at {os.fspath(place)!r}; give a file that is one, or a folder of them"
            raise InvalidInputError(message)
        files += [file.absolute() for file in found]
    return files


def _write(source: Any, folder: Path) -> None:
    """Write an iterable of documents as files of bounded size."""
    if isinstance(source, (bytes, Mapping)) or not hasattr(source, "__iter__"):
        message = f"a source is a path, a Ray Dataset or an iterable of documents, not {type(source).__name__}"
        raise InvalidInputError(message)
    pyarrow = import_optional("pyarrow", extra="arrow", purpose="building a cluster")
    parquet = import_optional("pyarrow.parquet", extra="arrow", purpose="building a cluster")
    documents, first, schema = iter(source), 0, None
    with ExitStack() as opened:
        while group := list(islice(documents, ROWS)):
            table = _table(pyarrow, [_document(item, first + row) for row, item in enumerate(group)])
            if schema not in (None, table.schema):
                message = (
                    f"the documents from number {first} on have {_columns(table.schema)}, and those before them "
                    f"{_columns(schema)}; give one kind of ids, and vectors of one size to all or to none"
                )
                raise InvalidInputError(message)
            if first % FILE_ROWS == 0:
                opened.close()
                path = folder / f"{first // FILE_ROWS:06}.parquet"
                file = opened.enter_context(parquet.ParquetWriter(path, table.schema))
            file.write_table(table)
            first, schema = first + len(group), table.schema


def _columns(schema: Any) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _write_table(source: Any, folder: Path) -> None:
    pyarrow = import_optional("pyarrow", extra="arrow", purpose="building a cluster")
    parquet = import_optional("pyarrow.parquet", extra="arrow", purpose="building a cluster")
    try:
        with (
            pyarrow.RecordBatchReader.from_stream(source) as batches,
            parquet.ParquetWriter(folder / "000000.parquet", batches.schema) as file,
        ):
            for batch in batches:
                file.write_batch(batch)
    except pyarrow.ArrowException as error:
        told = " ".join(str(error).split())[:300]
        message = f"the {type(source).__name__} cannot be written as Parquet ({told}); give columns of one kind each"
        raise InvalidInputError(message) from error


def without_tensors(table: Any) -> Any:
    """Write the tensors that Ray makes of arrays [tokens, dim] as lists of vectors."""
    pyarrow = import_optional("pyarrow", extra="arrow", purpose="building a cluster")
    for place, field in enumerate(table.schema):
        if isinstance(field.type, pyarrow.BaseExtensionType):
            chunks = table.column(place).chunks
            arrays = [np.asarray(item) for chunk in chunks for item in chunk.to_numpy(zero_copy_only=False)]
            if all(array.ndim == 2 for array in arrays):
                table = table.set_column(place, field.name, to_ragged(arrays, allow_empty=True).to_arrow())
    return table


def _document(item: Any, row: int) -> dict[str, Any]:
    """Name the parts of a document: a text alone, vectors alone, or a mapping with `text` or `vectors`."""
    if not isinstance(item, Mapping):
        item = {"text": item} if isinstance(item, str) else {"vectors": item}
    if item.get("text") is None and item.get("vectors") is None:
        message = f"document {row} has no column text and no vectors"
        raise InvalidInputError(message)
    return {"id": row, **item}


def _table(pyarrow: Any, documents: list[dict[str, Any]]) -> Any:
    ids = normalise_ids([document.pop("id") for document in documents])
    texts, vectors = ([document.pop(name, None) for document in documents] for name in ("text", "vectors"))
    names = [f"document {shown(key)}" for key in plain_ids(ids)]
    for name, text in zip(names, texts, strict=True):
        if text is not None:
            text_of(text, f"the text of {name}")
    # JSON, and not columns: documents may have fields of other kinds than the first ones.
    metadata = [
        mapping_json(fields_of(fields, name), f"the metadata of {name}", "{'lang': 'en'}")
        for name, fields in zip(names, documents, strict=True)
    ]
    columns = {
        "id": pyarrow.array(ids),
        "text": pyarrow.array(texts, pyarrow.string()),
        "metadata": pyarrow.array(metadata, pyarrow.string()),
    }
    if any(item is not None for item in vectors):
        columns["vectors"] = to_ragged(vectors, names=plain_ids(ids), allow_empty=True).to_arrow()
    return pyarrow.table(columns)
