"""What a cluster is built from, in the forms that callers have → Parquet files, which every builder reads by itself."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latewood.cluster.routing import some
from latewood.common.packages import import_optional
from latewood.errors import InvalidInputError
from latewood.exchange.files import describe
from latewood.forms.arrow import is_list_of_vectors
from latewood.forms.metadata import mapping_json
from latewood.forms.ragged import Ragged, to_ragged
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

    A source that was written before is not read again: a generator has nothing left to give.
    """
    if isinstance(source, (str, os.PathLike)):
        return _found([Path(source)])
    if isinstance(source, (list, tuple)) and source and all(isinstance(item, os.PathLike) for item in source):
        return _found([Path(path) for path in source])
    if not staging.exists():
        partial = staging.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        if hasattr(source, "write_parquet"):
            source.write_parquet(os.fspath(partial))
        else:
            _write(source, partial)
        partial.rename(staging)
    return _found([staging])


def count_rows(files: Iterable[Path]) -> int:
    """Count the documents, from the ends of the files alone."""
    parquet = import_optional("pyarrow.parquet", extra="arrow", purpose="reading .parquet files")
    return sum(int(parquet.read_metadata(file).num_rows) for file in files)


def read_rows(files: Iterable[Path]) -> Iterator[Rows]:
    """Read the documents of all files, a few at a time.

    Raises
    ------
    InvalidInputError
        A file that cannot be read, or that has neither a column `text` nor one of lists of vectors.
    """
    pyarrow = import_optional("pyarrow", extra="arrow", purpose="reading .parquet files")
    parquet = import_optional("pyarrow.parquet", extra="arrow", purpose="reading .parquet files")
    first = 0
    for path in files:
        try:
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(ROWS):
                    yield _rows(pyarrow.table(batch), first, path)
                    first += batch.num_rows
        except pyarrow.ArrowException as error:
            message = f"{path}: cannot be read ({' '.join(str(error).split())[:300]})"
            raise InvalidInputError(message) from error


def _rows(table: Any, first: int, path: Path) -> Rows:
    named = [name for name in table.column_names if is_list_of_vectors(table.schema.field(name).type)]
    if len(named) > 1 or not (named or "text" in table.column_names):
        held = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
        message = f"{path}: one column of list<fixed_size_list<float>> or a column text is expected; it has {held}"
        raise InvalidInputError(message)
    ids, texts, fields = describe(table.drop_columns(named), first, path)
    vectors = to_ragged(table.column(named[0]), names=ids, allow_empty=True) if named else None
    return Rows(first + np.arange(len(ids)), ids, texts, fields, vectors)


def _found(places: list[Path]) -> list[Path]:
    files: list[Path] = []
    for place in places:
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
    documents, first = iter(source), 0
    while group := list(islice(documents, ROWS)):
        table = _table(pyarrow, [_document(item, first + row) for row, item in enumerate(group)])
        if first % FILE_ROWS == 0:
            file = parquet.ParquetWriter(folder / f"{first // FILE_ROWS:06}.parquet", table.schema)
        file.write_table(table)
        first += len(group)
        if first % FILE_ROWS == 0 or len(group) < ROWS:
            file.close()
    if first == 0:
        message = "the source has no document; a cluster is built of some, or made empty by latewood.cluster.create"
        raise InvalidInputError(message)
    file.close()


def _document(item: Any, row: int) -> dict[str, Any]:
    """Name the parts of a document: a text alone, vectors alone, or a mapping with `text` or `vectors`."""
    if isinstance(item, Mapping):
        return {"id": row, **item}
    return {"id": row, "text": item} if isinstance(item, str) else {"id": row, "vectors": item}


def _table(pyarrow: Any, documents: list[dict[str, Any]]) -> Any:
    columns: dict[str, Any] = {"id": pyarrow.array([document["id"] for document in documents])}
    for name in ("text", "vectors"):
        given = [document.get(name) for document in documents]
        if name == "vectors" and any(item is not None for item in given):
            columns[name] = to_ragged(given, names=columns["id"].to_pylist(), allow_empty=True).to_arrow()
        elif name == "text" and any(item is not None for item in given):
            columns[name] = pyarrow.array(given, pyarrow.string())
    rest = [{key: value for key, value in document.items() if key not in ("id", *columns)} for document in documents]
    # JSON, and not columns: documents may have fields of other kinds than the first ones.
    columns["metadata"] = pyarrow.array(
        [mapping_json(fields.pop("metadata", None) or fields, "the metadata", "{'lang': 'en'}") for fields in rest],
        pyarrow.string(),
    )
    return pyarrow.table(columns)
