"""Files of token vectors ↔ documents: Parquet, Arrow and Lance tables, and safetensors and .npz archives."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import numpy as np

from latewood.common.packages import import_optional
from latewood.common.progress import chunks
from latewood.common.types import IdSequence
from latewood.errors import InvalidInputError
from latewood.exchange.parts import Part
from latewood.forms.arrays import AnyArray
from latewood.forms.arrow import is_list_of_vectors
from latewood.forms.ids import plain_ids
from latewood.forms.ragged import Ragged, to_ragged
from latewood.forms.values import text_of
from latewood.index.arrow import ROWS
from latewood.index.index import Index

TABLES = (".parquet", ".arrow", ".feather", ".lance")
ARCHIVES = (".npz", ".safetensors")
MOST_CHARACTERS = 2**28
"""Of ids in an .npz file, four bytes each."""


def ending_of(path: Path) -> str:
    """Give the ending that says what a file is."""
    return path.suffix.lower()


def is_file(path: Path) -> bool:
    """Whether the name of a file, or of a folder of Lance, is that of a file of token vectors."""
    return ending_of(path) in (*TABLES, *ARCHIVES)


def read_parts(path: Path) -> Iterator[Part]:
    """Read the documents of a file; tables are read 256 rows at a time, archives of tensors as a whole.

    Of a table, the one column of lists of vectors are the vectors, `id` and `text` are these, `metadata` may hold a
    JSON object or a struct, and all other columns are fields of the metadata: dates and times as `isoformat` writes
    them, decimals as floats. Of an archive `values` [tokens, dim] are
    the vectors, with `offsets` or `lengths`, and `ids`.

    Raises
    ------
    InvalidInputError
        A file that cannot be read, or that holds no vectors.
    MissingDependencyError
        pyarrow, pylance or safetensors is not installed.
    """
    return _archive(path) if ending_of(path) in ARCHIVES else _table(path)


def write_table(reader: Any, path: Path) -> None:
    """Write batches of Arrow as they come."""
    pyarrow = import_optional("pyarrow", extra="arrow", purpose=f"writing {ending_of(path)} files")
    if ending_of(path) == ".lance":
        lance = import_optional("lance", extra="lance", purpose="writing Lance tables")
        lance.write_dataset(reader, _address(path))
        return
    make = pyarrow.ipc.new_file
    if ending_of(path) == ".parquet":
        parquet = import_optional("pyarrow.parquet", extra="arrow", purpose="writing .parquet files")
        make = parquet.ParquetWriter
    with path.open("wb") as file, make(file, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def write_archive(index: Index, ids: IdSequence, path: Path, dtype: str) -> None:
    """Write `values`, `offsets` and `ids`; texts and metadata have no place in it."""
    vectors = index.vectors(ids)
    arrays = {"values": vectors.values.astype(dtype, copy=False), "offsets": vectors.offsets}
    if ending_of(path) == ".npz":
        np.savez(path, values=arrays["values"], offsets=arrays["offsets"], ids=_id_array(ids))
        return
    package: Any = import_optional("safetensors", extra="text", purpose="writing .safetensors files")
    numpy: Any = import_optional("safetensors.numpy", extra="text", purpose="writing .safetensors files")
    named = None
    if isinstance(ids, np.ndarray):
        arrays["ids"] = ids
    else:
        named = {"ids": json.dumps(ids)}
    try:
        numpy.save_file(arrays, str(path), metadata=named)
    except package.SafetensorError as error:
        # What the system refuses is none of its errors there.
        raise OSError(error) from error


def _address(path: Path) -> str:
    """Write the path of a Lance table, which may be an address too, so that it is none."""
    return text_of(str(path.absolute()), "the path of a Lance table")


def _id_array(ids: IdSequence) -> AnyArray:
    """Give ids as one array: in it, each string has the room of the longest, and ends before the NULs at its end."""
    if isinstance(ids, np.ndarray):
        return ids
    names = cast("Sequence[str]", ids)
    longest = max(map(len, names), default=0)
    if any(name.endswith("\0") for name in names) or longest * len(ids) > MOST_CHARACTERS:
        message = (
            f"an .npz file cannot hold {len(ids)} ids of which one ends in NUL, or is so long ({longest} characters) "
            "that all take too much room; end the file's name in .safetensors, .parquet or .arrow"
        )
        raise InvalidInputError(message)
    return np.asarray(ids, dtype=np.str_)


def _table(path: Path) -> Iterator[Part]:
    pyarrow = import_optional("pyarrow", extra="arrow", purpose=f"reading {ending_of(path)} files")
    row = 0
    try:
        with closing(_batches(path)) as batches:
            for batch in batches:
                yield _rows(pyarrow.table(batch), row, path)
                row += batch.num_rows
    except InvalidInputError:
        raise
    # Damaged files lead each library to errors of its own.
    except (pyarrow.ArrowException, OSError, ValueError, RuntimeError) as error:
        message = f"{path}: cannot be read ({' '.join(str(error).split())[:300]})"
        raise InvalidInputError(message) from error


def _batches(path: Path) -> Any:
    """Give a table without rows, which tells the columns and dimensions, and then the rows."""
    if ending_of(path) == ".parquet":
        parquet = import_optional("pyarrow.parquet", extra="arrow", purpose="reading .parquet files")
        with path.open("rb") as file, parquet.ParquetFile(file) as table:
            yield table.schema_arrow.empty_table()
            yield from table.iter_batches(ROWS)
    elif ending_of(path) == ".lance":
        lance = import_optional("lance", extra="lance", purpose="reading Lance tables")
        dataset = lance.dataset(_address(path))
        yield dataset.schema.empty_table()
        yield from dataset.to_batches(batch_size=ROWS)
    else:
        ipc: Any = import_optional("pyarrow.ipc", extra="arrow", purpose=f"reading {ending_of(path)} files")
        with path.open("rb") as file, ipc.open_file(file) as table:
            yield table.schema.empty_table()
            for number in range(table.num_record_batches):
                batch = table.get_batch(number)
                yield from (batch.slice(rows.start, rows.stop - rows.start) for rows in chunks(batch.num_rows, ROWS))


def _rows(table: Any, first: int, path: Path) -> Part:
    named = vector_columns(table, path)
    if len(named) != 1:
        held = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
        message = f"{path}: {len(named)} columns of list<fixed_size_list<float>>, one is expected; it has {held}"
        raise InvalidInputError(message)
    ids, texts, fields = describe(table.drop_columns(named), first, path)
    vectors = to_ragged(table.column(named[0]), names=ids, allow_empty=True)
    return Part(ids, vectors, fields, texts)


def vector_columns(table: Any, path: Path) -> list[str]:
    """Name the columns of a table that hold lists of vectors; no two columns may have one name."""
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        message = f"{path}: several columns are called {twice[0]!r}; give each a name of its own"
        raise InvalidInputError(message)
    return [name for name in table.column_names if is_list_of_vectors(table.schema.field(name).type)]


def describe(table: Any, first: int, path: Path) -> tuple[list[Any], list[Any] | None, list[dict[str, Any]]]:
    """Give ids, texts and metadata of the rows of a table without vectors; `first` is the number of its first row."""
    columns = {name: table.column(name).to_pylist() for name in ("id", "text") if name in table.column_names}
    ids = columns.get("id") or list(range(first, first + table.num_rows))
    if None in ids:
        message = f"{path}: the id of row {first + ids.index(None)} is null; fill the column, or give it another name"
        raise InvalidInputError(message)
    fields = [fields_of(row, str(path)) for row in table.drop_columns([*columns]).to_pylist()]
    return ids, columns.get("text"), fields or [{} for _ in ids]


def fields_of(row: dict[str, Any], where: str) -> dict[str, Any]:
    """Give the fields of a row that have a value, those inside of `metadata` among them."""
    fields = {name: _in_json(value) for name, value in row.items() if value is not None}
    inner = fields.pop("metadata", None)
    if isinstance(inner, str):
        try:
            inner = json.loads(inner)
        except (ValueError, RecursionError) as error:
            message = f"{where}: the column 'metadata' holds no JSON: {error}"
            raise InvalidInputError(message) from error
    if inner is not None and not isinstance(inner, Mapping):
        message = f"{where}: the column 'metadata' holds a {type(inner).__name__}, not an object"
        raise InvalidInputError(message)
    return {**(inner or {}), **fields}


def _in_json(value: Any) -> Any:
    """Write what tables have and JSON has not, inside of lists and structs too."""
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {key: _in_json(inner) for key, inner in value.items()}
    return [_in_json(inner) for inner in value] if isinstance(value, list) else value


def _archive(path: Path) -> Iterator[Part]:
    ids, vectors = read_vectors(path)
    yield Part(ids, vectors, [{} for _ in ids])


def read_vectors(path: Path) -> tuple[list[Any], Ragged]:
    """Read ids and vectors of an archive: `values` [tokens, dim], `offsets` or `lengths`, and optionally `ids`.

    Raises
    ------
    InvalidInputError
        A file that cannot be read, or arrays that do not fit.
    """
    arrays = _safetensors(path) if ending_of(path) == ".safetensors" else _npz(path)
    if "values" not in arrays:
        message = f"{path}: no array 'values'; it holds {', '.join(arrays) or 'nothing'}"
        raise InvalidInputError(message)
    layout = {name: arrays.get(name) for name in ("offsets", "lengths")}
    try:
        ragged = to_ragged(arrays["values"], **layout, kind="item", allow_empty=True)
        ids = list(plain_ids(arrays["ids"])) if "ids" in arrays else list(range(len(ragged)))
    except InvalidInputError as error:
        message = f"{path}: {error}"
        raise type(error)(message) from error
    if len(ids) != len(ragged):
        message = f"{path}: {len(ids)} ids for {len(ragged)} items"
        raise InvalidInputError(message)
    return ids, ragged


def _npz(path: Path) -> dict[str, Any]:
    try:
        # Opened here: numpy leaves open what it does not know.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    # Damaged archives lead numpy and zipfile to a dozen kinds of errors, and their words are about numpy's options.
    except Exception as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        message = f"{path}: not an .npz file of plain arrays ({reason}); numpy.savez writes one"
        raise InvalidInputError(message) from error


def _safetensors(path: Path) -> dict[str, Any]:
    package: Any = import_optional("safetensors", extra="text", purpose="reading .safetensors files")
    try:
        with package.safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
            named = (file.metadata() or {}).get("ids")
            return arrays if named is None else {**arrays, "ids": json.loads(named)}
    # Its errors are of its own kind, of numpy's and of the system's.
    except Exception as error:
        message = f"{path}: not a .safetensors file that can be read ({error})"
        raise InvalidInputError(message) from error
