"""What the commands read: documents and queries from JSONL files, BEIR folders and .npz files, and ids."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from latewood.common.types import Id
from latewood.errors import InvalidInputError
from latewood.evaluate.beir import find_jsonl, load_beir, read_jsonl
from latewood.evaluate.metrics import queries_are_documents
from latewood.exchange.files import ARCHIVES, read_vectors
from latewood.forms.ragged import Ragged
from latewood.index.index import Index


@dataclass(slots=True)
class Batch:
    """Documents to add together."""

    ids: list[Id] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)
    metadata: list[dict[str, Any] | None] = field(default_factory=list)
    vectors: list[Any] = field(default_factory=list)

    def __len__(self) -> int:
        """Count the documents."""
        return len(self.ids)

    def arguments(self) -> dict[str, Any]:
        """Give the keyword arguments of `Writer.add`."""
        arguments: dict[str, Any] = {"ids": self.ids}
        if any(text is not None for text in self.texts):
            arguments["texts"] = self.texts
        if any(entry is not None for entry in self.metadata):
            arguments["metadata"] = self.metadata
        if self.vectors:
            arguments["vectors"] = self.vectors
        return arguments


def document_batches(source: Path, size: int) -> Iterator[Batch]:
    """Read the documents of a JSONL file or a BEIR folder, `size` at a time.

    A line of a JSONL file has "id" (or "_id"), "text" (a "title" goes before it), and optionally "metadata" and
    "vectors". No two lines have one id, however far apart they stand.
    """
    path = find_jsonl(source, "corpus") if source.is_dir() else source
    batch = Batch()
    seen: set[Id] = set()
    for entry in read_jsonl(path):
        _append(batch, entry, path)
        key = batch.ids[-1]
        if key in seen:
            message = f"{path}: two documents have the id {key!r}; each needs one of its own"
            raise InvalidInputError(message)
        seen.add(key)
        if len(batch) == size:
            yield batch
            batch = Batch()
    if len(batch):
        yield batch


def _append(batch: Batch, entry: dict[str, Any], path: Path) -> None:
    key = entry.get("id", entry.get("_id"))
    if key is None:
        message = f"{path}: a line has neither 'id' nor '_id': {json.dumps(entry)[:80]}"
        raise InvalidInputError(message)
    text = entry.get("text")
    if entry.get("title"):
        text = f"{entry['title']} {text or ''}".strip()
    has_vectors = "vectors" in entry
    if not has_vectors:
        # null is an empty text; a line without the key is more likely a mistake.
        if text is None and "text" not in entry:
            message = f"{path}: document {key!r} has neither 'text' nor 'vectors', but {', '.join(map(repr, entry))}"
            raise InvalidInputError(message)
        text = text or ""
    if len(batch) and has_vectors != bool(batch.vectors):
        message = f"{path}: some lines have 'vectors' and some do not, such as document {key!r}"
        raise InvalidInputError(message)
    batch.ids.append(key)
    batch.texts.append(text)
    metadata = entry.get("metadata")
    # BEIR corpora carry an empty object in every line; it says nothing and is not stored.
    batch.metadata.append(None if metadata == {} else metadata)
    if has_vectors:
        batch.vectors.append(_vectors(entry["vectors"], f"{path}: the vectors of document {key!r}"))


def _vectors(listed: Any, where: str) -> Any:
    """Make an array of lists of numbers; JSON does not tell whole ones from others."""
    try:
        array = np.asarray(listed)
    except (ValueError, TypeError, OverflowError) as error:
        message = f"{where} are no matrix: {error}"
        raise InvalidInputError(message) from error
    if array.dtype.kind not in "fiu":
        message = f"{where} are no matrix of numbers; pass a list of vectors of one length"
        raise InvalidInputError(message)
    return array.astype(np.float32)


@dataclass(slots=True)
class Queries:
    """Queries to ask; `are_documents` of a BEIR folder's, where BEIR leaves out what has the query's own id."""

    ids: list[str]
    asked: list[str] | Ragged
    are_documents: bool = False


def read_queries(source: Path) -> Queries:
    """Read query ids, and their texts or vectors: a JSONL file, a BEIR folder, or an archive."""
    keys: list[str]
    asked: list[str] | Ragged
    are_documents = False
    if source.suffix in ARCHIVES:
        ids, asked = read_vectors(source)
        keys = [str(key) for key in ids]
    elif source.is_dir():
        collection = load_beir(source)
        keys, asked = list(collection.queries), list(collection.queries.values())
        are_documents = queries_are_documents(collection.qrels)
    else:
        keys, asked = [], []
        for entry in read_jsonl(source, required=("text",)):
            key = entry.get("id", entry.get("_id"))
            keys.append(str(key if key is not None else len(keys)))
            asked.append(entry["text"] or "")
    twice = next((key for key, count in Counter(keys).items() if count > 1), None)
    if twice is not None:
        message = f"{source}: two queries have the id {twice!r}; each needs one of its own"
        raise InvalidInputError(message)
    return Queries(keys, asked, are_documents)


def ids_of_index(index: Index, ids: Iterable[str]) -> list[Id]:
    """Ids from a text file or command line, as the index has them: integers where its ids are integers."""
    keys = list(ids)
    if index.info()["id_kind"] != "int":
        return list(keys)
    wrong = next((key for key in keys if not re.fullmatch("-?[0-9]{1,19}", key)), None)
    if wrong is not None:
        message = f"this index has integer ids of 64 bits, and {wrong!r} is none"
        raise InvalidInputError(message)
    return [int(key) for key in keys]
