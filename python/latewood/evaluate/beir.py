"""Collections as BEIR lays them out: `corpus.jsonl` and `queries.jsonl`, plain or as `.gz`, and `qrels/<split>.tsv`."""

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from latewood.errors import InvalidInputError
from latewood.evaluate.trec import Qrels, read_qrels
from latewood.forms.values import path_of

_Value = TypeVar("_Value")

_KINDS: tuple[tuple[tuple[str, ...], tuple[type, ...], str], ...] = (
    (("id", "_id"), (str, int, type(None)), "a string or an integer"),
    (("text", "title"), (str, type(None)), "a string or null"),
)


@dataclass(frozen=True, slots=True)
class Collection:
    """A test collection.

    Attributes
    ----------
    corpus : mapping of document id to {"title": str, "text": str}
    queries : mapping of query id to text
        Only those with judgements, where there are judgements.
    qrels : mapping of query id to {document id: relevance}
    """

    corpus: dict[str, dict[str, str]]
    queries: dict[str, str]
    qrels: Qrels

    def __repr__(self) -> str:
        """Say how many there are."""
        judgements = sum(map(len, self.qrels.values()))
        return f"Collection({len(self.corpus)} documents, {len(self.queries)} queries, {judgements} judgements)"

    def texts(self) -> list[str]:
        """Title and text of each document, in the corpus' order: what is encoded."""
        return [f"{entry['title']} {entry['text']}".strip() for entry in self.corpus.values()]

    def empty(self) -> list[str]:
        """Ids of the documents that have neither title nor text."""
        return [key for key, text in zip(self.corpus, self.texts(), strict=True) if not text]


def load_beir(folder: str | os.PathLike[str], split: str = "test") -> Collection:
    """Load a BEIR folder.

    Parameters
    ----------
    folder : path-like
        Holds `corpus.jsonl` and `queries.jsonl`, plain or as `.gz`, and
        `qrels/<split>.tsv` unless there are no judgements.
    split : str
        "test", "dev" or "train".

    Raises
    ------
    InvalidInputError
        A missing file or a line that does not fit, with its number; an id with two texts.
    """
    root = Path(path_of(folder, "folder"))
    if not isinstance(cast("object", split), str) or not split or Path(split).name != split:
        message = f"split must be the name of one, such as 'test', not {split!r}"
        raise InvalidInputError(message)
    corpus = _by_id(
        find_jsonl(root, "corpus"),
        ("_id",),
        lambda entry: {"title": entry.get("title") or "", "text": entry.get("text") or ""},
    )
    queries: dict[str, str] = _by_id(find_jsonl(root, "queries"), ("_id", "text"), lambda entry: entry["text"] or "")
    judgements = root / "qrels" / f"{split}.tsv"
    qrels: Qrels = {}
    if (root / "qrels").is_dir():
        if not judgements.is_file():
            known = ", ".join(sorted(path.stem for path in (root / "qrels").glob("*.tsv")))
            message = f"{root} has no judgements for split {split!r}; it has: {known or 'none'}"
            raise InvalidInputError(message)
        qrels = read_qrels(judgements)
        queries = {key: text for key, text in queries.items() if key in qrels}
    return Collection(corpus, queries, qrels)


def _by_id(path: Path, required: tuple[str, ...], value_of: Callable[[dict[str, Any]], _Value]) -> dict[str, _Value]:
    found: dict[str, _Value] = {}
    for entry in read_jsonl(path, required=required):
        key, value = str(entry["_id"]), value_of(entry)
        if found.setdefault(key, value) != value:
            message = f"{path}: the id {key!r} stands twice, with different texts; leave one of them out"
            raise InvalidInputError(message)
    return found


def find_jsonl(folder: Path, name: str) -> Path:
    """Give `name.jsonl` of a folder, or `name.jsonl.gz` where only that is there."""
    packed = folder / f"{name}.jsonl.gz"
    return packed if packed.is_file() and not (folder / f"{name}.jsonl").is_file() else folder / f"{name}.jsonl"


def read_jsonl(path: str | os.PathLike[str], *, required: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """Give the JSON object on each line of a file, plain or `.gz`; empty lines are passed over.

    Ids, under "id" or "_id", are strings or integers, and "text" and "title" strings or null, where they are there.

    Raises
    ------
    InvalidInputError
        No such file, a line that is not such a JSON object, or one that lacks a required key: with the line's number.
    """
    source = Path(path_of(path))
    try:
        if source.suffix == ".gz":
            with gzip.open(source, "rt", encoding="utf-8-sig") as packed:
                yield from _objects(packed, os.fsdecode(path), required)
        else:
            with source.open(encoding="utf-8-sig") as plain:
                yield from _objects(plain, os.fsdecode(path), required)
    except UnicodeDecodeError as error:
        message = f"{os.fsdecode(path)}: not UTF-8 text ({error}); it must be a text file in UTF-8"
        raise InvalidInputError(message) from error
    except InvalidInputError:
        raise
    except (OSError, EOFError, ValueError, zlib.error) as error:
        message = f"{os.fsdecode(path)}: {getattr(error, 'strerror', None) or error}"
        raise InvalidInputError(message) from error


def _objects(lines: Iterable[str], path: str, required: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            message = f"{path}, line {number}: not JSON that can be read ({error})"
            raise InvalidInputError(message) from error
        if not isinstance(entry, dict):
            message = f"{path}, line {number}: a {type(entry).__name__}; each line is a JSON object"
            raise InvalidInputError(message)
        for key in required:
            if key not in entry:
                message = f"{path}, line {number}: the key {key!r} is missing"
                raise InvalidInputError(message)
        for keys, kinds, wanted in _KINDS:
            for key in keys:
                value = entry.get(key)
                if isinstance(value, bool) or not isinstance(value, kinds):
                    message = f"{path}, line {number}: {key!r} is a {type(value).__name__}; it must be {wanted}"
                    raise InvalidInputError(message)
        if "_id" in required and entry["_id"] is None:
            message = f"{path}, line {number}: '_id' is null; it must be a string or an integer"
            raise InvalidInputError(message)
        yield entry
