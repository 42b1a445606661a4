"""What the commands read: documents and queries from JSONL files, BEIR folders and .npz files."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from latewood._typing import Id
from latewood.errors import InvalidInputError
from latewood.evaluate.beir import find_jsonl, read_jsonl
from latewood.ragged import Ragged, to_ragged


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
    "vectors".
    """
    path = find_jsonl(source, "corpus") if source.is_dir() else source
    batch = Batch()
    for entry in read_jsonl(path):
        _append(batch, entry, path)
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
    if len(batch) and has_vectors != bool(batch.vectors):
        message = f"{path}: some lines have 'vectors' and some do not, such as document {key!r}"
        raise InvalidInputError(message)
    batch.ids.append(key)
    batch.texts.append(text)
    # BEIR corpora carry an empty object in every line; it says nothing and is not stored.
    batch.metadata.append(entry.get("metadata") or None)
    if has_vectors:
        batch.vectors.append(np.asarray(entry["vectors"], dtype=np.float32))


def read_vectors(path: Path) -> tuple[list[Id], Ragged]:
    """Read ids and vectors of an .npz file: `values` [tokens, dim], `offsets` or `lengths`, and optionally `ids`."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        message = f"{path}: not an .npz file of plain arrays ({error})"
        raise InvalidInputError(message) from error
    if "values" not in arrays:
        message = f"{path}: no array 'values'; it holds {', '.join(arrays) or 'nothing'}"
        raise InvalidInputError(message)
    ragged = to_ragged(arrays["values"], offsets=arrays.get("offsets"), lengths=arrays.get("lengths"), allow_empty=True)
    ids: list[Id] = arrays["ids"].tolist() if "ids" in arrays else list(range(len(ragged)))
    if len(ids) != len(ragged):
        message = f"{path}: {len(ids)} ids for {len(ragged)} items"
        raise InvalidInputError(message)
    return ids, ragged


def read_queries(source: Path) -> tuple[list[str], list[str] | Ragged]:
    """Read query ids, and their texts or vectors: a JSONL file, a BEIR folder, or an .npz file."""
    if source.suffix == ".npz":
        ids, ragged = read_vectors(source)
        return [str(key) for key in ids], ragged
    if source.is_dir():
        from latewood.evaluate.beir import load_beir

        queries = load_beir(source).queries
        return list(queries), list(queries.values())
    keys: list[str] = []
    texts: list[str] = []
    for entry in read_jsonl(source, required=("text",)):
        key = entry.get("id", entry.get("_id"))
        keys.append(str(key if key is not None else len(keys)))
        texts.append(str(entry["text"]))
    return keys, texts
