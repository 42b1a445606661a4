"""Folders and files of other libraries ↔ an index."""

import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from latewood.common.files import at_home, replacing
from latewood.common.progress import progress_bar
from latewood.common.types import Dtype, Id
from latewood.errors import InvalidInputError, StorageError
from latewood.exchange.files import TABLES, ending_of, is_file, read_parts, write_archive, write_table
from latewood.exchange.parts import Part
from latewood.exchange.plaid import open_plaid
from latewood.forms.ids import normalise_ids
from latewood.forms.values import choice_of, flag_of, optional, path_of, text_of, threads_of
from latewood.index.index import Index, checked_index


def import_index(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    metadata: bool = True,
    id_field: str | None = None,
    text_field: str | None = None,
    threads: int | None = None,
    show_progress: bool | None = None,
    **settings: Any,
) -> Index:
    """Make an index of one that fast-plaid 1.x, PyLate, next-plaid or colbert-ai has written, or of a file of vectors.

    The token vectors are decoded from the folder's codes as its own library decodes them, and encoded again. Nothing is
    unpickled, and none of those libraries, nor torch, is needed. The source is only read, a part at a time.

    Parameters
    ----------
    source : path-like
        A folder of fast-plaid or next-plaid (`centroids.npy`), of PyLate (`fast_plaid_index`, or `StanfordPLAID`'s), or
        of colbert-ai (`centroids.pt`). Or a table with a column `list<fixed_size_list<float>>` (`.parquet`, `.arrow`,
        `.feather`, a folder `.lance`), or an archive of `values` [tokens, dim], `offsets` and `ids` (`.npz`,
        `.safetensors`, which are read as a whole).
    path : path-like
        Where the index is made.
    metadata : bool
        Whether to take over metadata: the rows of `metadata.db`, which fast-plaid and next-plaid may have, or the other
        columns of a table.
    id_field, text_field : str, optional
        Fields of the metadata that are the documents' ids and texts. Without them a table's columns `id` and `text` are
        these, if it has them; else an id is what the library gives in its hits, PyLate's own or the document's number.
    threads : int, optional
    show_progress : bool, optional
        A bar on standard error; None shows it on a terminal where tqdm is installed.
    **settings
        `encoder` (the model that made the vectors), `bits`, `codec`, `keep_vectors`, `exist_ok` and the others of
        `Index.create`. `keep_vectors="float16"` loses nothing but the rounding to float16.

    Returns
    -------
    Index
        With all documents, in the order of the source. They come in one commit: an import that fails or is interrupted
        leaves an index without them, which `exist_ok` or `overwrite` takes when it is tried again.

    Raises
    ------
    InvalidInputError
        No such folder or file, one that is damaged, a `.pt` or `.pkl` file that holds more than plain data, a document
        without the field that is to be its id.
    DuplicateIdError, IndexExistsError, MissingDependencyError
    """
    origin = at_home(path_of(source, "source"))
    names = {"id": optional(text_of, id_field, "id_field"), "text": optional(text_of, text_field, "text_field")}
    if ending_of(origin) in TABLES:
        # Its columns of these names are no metadata in the first place.
        names = {kind: None if name == kind else name for kind, name in names.items()}
    metadata, threads = flag_of(metadata, "metadata"), threads_of(threads)
    show_progress = optional(flag_of, show_progress, "show_progress")
    if not metadata and any(name is not None for name in names.values()):
        message = "id_field and text_field are fields of the metadata, and metadata=False leaves these out"
        raise InvalidInputError(message)
    parts, count = _opened(origin, metadata=metadata)
    first, dim = _first_with_dimensions(parts)
    if not first:
        message = f"{origin}: there is no document in it"
        raise InvalidInputError(message)
    if not dim and "dim" not in settings:
        message = f"{origin}: no document has a vector, which would tell the dimensions; pass dim="
        raise InvalidInputError(message)
    index = Index.create(path, **{"dim": dim, **settings})
    with (
        index.writer(show_progress=False) as writer,
        progress_bar(count, "importing", show_progress=show_progress) as bar,
    ):
        for part in chain(first, parts):
            writer.add(threads=threads, **_columns(part, names, metadata=metadata))
            bar.update(len(part.ids))
    return index


def export_index(
    index: Index,
    path: str | os.PathLike[str],
    *,
    ids: Iterable[Id] | None = None,
    dtype: Dtype = "float32",
    overwrite: bool = False,
) -> None:
    """Write documents of an index to a file; `import_index` makes an index of it again.

    Parameters
    ----------
    index : Index
    path : path-like
        Its ending says what it is: `.parquet`, `.arrow` or `.feather` and `.lance` have the columns id, text, metadata
        (JSON) and vectors (`list<fixed_size_list<dtype>[dim]>`), and are written bit by bit. `.npz` and `.safetensors`
        have `values` [tokens, dim], `offsets` [documents + 1] and `ids`, without texts and metadata, and hold all
        vectors in memory while they are written. Ids of str stand in the header of `.safetensors`, as JSON under "ids".
    ids : sequence of str or int, optional
        All documents by default; `UnknownIdError` names an id that is not there.
    dtype : {"float32", "float16", "float64"}
        Of the vectors, which are those that the index keeps, or its codes decoded.
    overwrite : bool
        Whether to replace a file that is there. A folder is never replaced.

    Raises
    ------
    InvalidInputError
        Another ending, or a file that is there.
    StorageError
        It cannot be written; what was there is as it was.
    MissingDependencyError
        pyarrow (extra `arrow`), pylance (extra `lance`) or safetensors is not installed.
    """
    checked_index(index)
    target = at_home(path_of(path))
    keys, number = optional(normalise_ids, ids, "ids"), choice_of(dtype, "dtype", get_args(Dtype))
    _check_ending(target)
    if target.exists() and (target.is_dir() or not flag_of(overwrite, "overwrite")):
        message = f"{target} is there already; pass another path{'' if target.is_dir() else ', or overwrite=True'}"
        raise InvalidInputError(message)
    try:
        with replacing(target) as scratch:
            if ending_of(target) in TABLES:
                write_table(index.to_batches(keys, dtype=dtype), scratch)
            else:
                write_archive(index, index.ids() if keys is None else keys, scratch, number)
    except OSError as error:
        message = f"{target} cannot be written: {error.strerror or error}"
        raise StorageError(message) from error


def _opened(origin: Path, *, metadata: bool) -> tuple[Iterator[Part], int]:
    """Give the parts of a source, and how many documents they have where that is known."""
    if not origin.exists():
        message = f"{origin}: there is no such file or folder"
        raise InvalidInputError(message)
    if is_file(origin):
        return read_parts(origin), 0
    if origin.is_file():
        _check_ending(origin)
    found = open_plaid(origin)
    if not metadata:
        found.database = None
    return found.parts(), len(found)


def _first_with_dimensions(parts: Iterator[Part]) -> tuple[list[Part], int]:
    """Give the first parts, to the one that tells the dimensions: lists of any length that are empty do not."""
    first: list[Part] = []
    for part in parts:
        first.append(part)
        if part.vectors.dim:
            return first, part.vectors.dim
    return first, 0


def _check_ending(path: Path) -> None:
    if not is_file(path):
        message = f"{path}: no ending that is known; end it in .parquet, .arrow, .lance, .npz or .safetensors"
        raise InvalidInputError(message)


def _columns(part: Part, names: dict[str, str | None], *, metadata: bool) -> dict[str, Any]:
    """Give the keyword arguments of `Writer.add`."""
    ids, texts, entries = part.ids, part.texts, part.metadata
    if names["id"] is not None:
        missing = next((key for key, entry in zip(ids, entries, strict=True) if names["id"] not in entry), None)
        if missing is not None:
            message = f"document {missing!r} has no field {names['id']!r} to be its id; name another by id_field"
            raise InvalidInputError(message)
        ids = [entry.pop(names["id"]) for entry in entries]
    if names["text"] is not None:
        texts = [entry.pop(names["text"], None) for entry in entries]
    columns: dict[str, Any] = {"ids": ids, "vectors": part.vectors}
    if texts is not None:
        columns["texts"] = texts
    if metadata:
        columns["metadata"] = [entry or None for entry in entries]
    return columns
