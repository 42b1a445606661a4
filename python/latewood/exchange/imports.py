"""Folders of other libraries → an index."""

import os
from pathlib import Path
from typing import Any

from latewood.common.progress import progress_bar
from latewood.errors import InvalidInputError
from latewood.exchange.plaid import Part, open_plaid
from latewood.forms.values import flag_of, optional, path_of, text_of
from latewood.index.index import Index


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
    """Make an index of one that fast-plaid 1.x, PyLate, next-plaid or colbert-ai has written.

    The token vectors are decoded from the folder's codes as its own library decodes them, and encoded again. Nothing is
    unpickled, and none of those libraries, nor torch, is needed. The folder is only read, a part at a time.

    Parameters
    ----------
    source : path-like
        A folder of fast-plaid or next-plaid (`centroids.npy`), of PyLate (`fast_plaid_index`, or `StanfordPLAID`'s), or
        of colbert-ai (`centroids.pt`).
    path : path-like
        Where the index is made.
    metadata : bool
        Whether to take over the rows of `metadata.db`, which fast-plaid and next-plaid may have.
    id_field, text_field : str, optional
        Fields of the metadata that are the documents' ids and texts. Without `id_field` an id is what the library gives
        in its hits: PyLate's own, or the number of the document.
    threads : int, optional
    show_progress : bool, optional
        A bar on standard error; None shows it on a terminal where tqdm is installed.
    **settings
        `encoder` (the model that made the vectors), `bits`, `codec`, `keep_vectors`, `exist_ok` and the others of
        `Index.create`. `keep_vectors="float16"` loses nothing but the rounding to float16.

    Returns
    -------
    Index
        With all documents, in the order of the folder. They come in one commit: an import that fails or is interrupted
        leaves an index without them, which `exist_ok` or `overwrite` takes when it is tried again.

    Raises
    ------
    InvalidInputError
        No such folder, one that is damaged, a `.pt` or `.pkl` file that holds more than plain data, a document without
        the field that is to be its id.
    DuplicateIdError, IndexExistsError
    """
    folder = Path(path_of(source, "source")).expanduser()
    names = {"id": optional(text_of, id_field, "id_field"), "text": optional(text_of, text_field, "text_field")}
    metadata = flag_of(metadata, "metadata")
    if not metadata and any(name is not None for name in names.values()):
        message = "id_field and text_field are fields of the metadata, and metadata=False leaves these out"
        raise InvalidInputError(message)
    found = open_plaid(folder)
    if not metadata:
        found.database = None
    index = Index.create(path, **{"dim": found.codec.dim, **settings})
    with (
        index.writer(show_progress=False) as writer,
        progress_bar(len(found), "importing", show_progress=show_progress) as bar,
    ):
        for rows, part in found.parts():
            writer.add(threads=threads, **_columns(part, names))
            bar.update(rows)
    return index


def _columns(part: Part, names: dict[str, str | None]) -> dict[str, Any]:
    """Give the keyword arguments of `Writer.add`."""
    ids, texts = part.ids, [None] * len(part.ids)
    if names["id"] is not None:
        missing = next((key for key, entry in zip(ids, part.metadata, strict=True) if names["id"] not in entry), None)
        if missing is not None:
            message = f"document {missing!r} has no field {names['id']!r} to be its id; leave id_field out"
            raise InvalidInputError(message)
        ids = [entry.pop(names["id"]) for entry in part.metadata]
    if names["text"] is not None:
        texts = [entry.pop(names["text"], None) for entry in part.metadata]
    columns = {"ids": ids, "vectors": part.vectors, "metadata": [entry or None for entry in part.metadata]}
    return columns if names["text"] is None else {**columns, "texts": texts}
