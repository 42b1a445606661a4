"""The indexes that are damaged: every codec, kind of id and format, with texts, metadata, deletions and changes."""

import json
import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from latewood import Index
from trials.corpora import Vectors, token_vectors

GOLDEN = Path(__file__).parent.parent / "tests" / "golden" / "format-1"
DOCUMENTS = 150
SPLIT = (0, 70, 130, DOCUMENTS)
"""Bounds of the commits."""


@dataclass(frozen=True, slots=True)
class Base:
    """A sound index, and with it what is asked of it."""

    folder: Path

    @property
    def name(self) -> str:
        """What kind of index it is."""
        return self.folder.name

    @property
    def index(self) -> Path:
        """Folder of the index itself."""
        return self.folder / "index"

    @property
    def format(self) -> int:
        """Version of its files; the one that a commit has brought up has files of both."""
        return 1 if self.name == "format-1" else 2

    def asked(self) -> tuple[list[Any], Vectors, Vectors]:
        """Ids that are asked for, queries, and the vectors of a document that is not in it."""
        ids = json.loads((self.folder / "ids.json").read_text(encoding="utf-8"))
        with np.load(self.folder / "queries.npz") as arrays:
            queries = list(arrays.values())
        with np.load(self.folder / "new.npz") as arrays:
            new = list(arrays.values())
        return ids, queries, new


def new_id(ids: list[Any]) -> Any:
    """Give an id of the same kind that is not among them."""
    return "not there" if isinstance(ids[0], str) else 10**9


def build(scratch: Path) -> list[Base]:
    """Build them all under `scratch`."""
    made = [
        _build(scratch / f"residual-{bits}-{kind}", kind, dim=dim, bits=bits, train_after=0)
        for bits, kind, dim in ((4, "int", 48), (2, "str", 96), (1, "int", 128), (8, "str", 33))
    ]
    made += [
        _build(scratch / f"flat-{bits}-{kind}", kind, dim=64, codec="flat", bits=bits)
        for bits, kind in ((4, "str"), (1, "int"))
    ]
    made.append(_build(scratch / "fde-int", "int", dim=48, train_after=0, fde=True))
    # The document that is added later makes the number of token vectors large enough to train centroids.
    waiting = sum(map(len, token_vectors(1, DOCUMENTS, dim=48))) - 60
    made.append(_build(scratch / "untrained-int", "int", dim=48, train_after=waiting))
    made.append(_build(scratch / "compacted-str", "str", dim=48, train_after=0, compact=True))
    made.append(_build(scratch / "kept-int", "int", dim=48, train_after=0, keep_vectors="float16"))
    made.append(_build(scratch / "kept-untrained-str", "str", dim=48, train_after=waiting, keep_vectors="float16"))
    made += [_golden(scratch / "format-1", commit=False), _golden(scratch / "format-1-and-2", commit=True)]
    return made


def _build(folder: Path, kind: str, *, dim: int, compact: bool = False, **options: Any) -> Base:
    vectors = token_vectors(1, DOCUMENTS, dim=dim)
    ids: list[Any] = [f"document {number}" if kind == "str" else 7 * number for number in range(DOCUMENTS)]
    index = Index.create(folder / "index", dim=dim, **options)
    for start, end in pairwise(SPLIT):
        index.add(
            ids[start:end],
            vectors=vectors[start:end],
            texts=[None if number % 7 == 5 else f"The text of {number}, 年輪. " * 3 for number in range(start, end)],
            metadata=[
                {"number": number, "even": number % 2 == 0, "name": f"n{number}"} for number in range(start, end)
            ],
            merge=False,
        )
    index.delete([ids[3], ids[90]], merge=False)
    index.update_metadata(ids[10:20], {"even": None, "changed": 1}, merge=False)
    index.update_metadata(metadata={"changed": 2}, filter={"number": {"gte": 15, "lt": 80}}, merge=False)
    if compact:
        index.compact()
    # A long one, which makes the untrained index outgrow its first codec.
    return _with_questions(
        folder, [ids[number] for number in (0, 1, 69, 70, 89, 129, 149)], token_vectors(2, 3, dim=dim), dim
    )


def _golden(folder: Path, *, commit: bool) -> Base:
    shutil.copytree(GOLDEN / "index", folder / "index")
    with np.load(GOLDEN / "queries.npz") as arrays:
        queries = list(arrays.values())
    if commit:
        index = Index.open(folder / "index")
        index.add(["of format 2"], vectors=token_vectors(4, 1, dim=40), texts=["written later"], merge=False)
    ids = [f"document {number}" for number in (0, 1, 7, 39, 40, 59)]
    return _with_questions(folder, ids, queries, 40)


def _with_questions(folder: Path, ids: list[Any], queries: Vectors, dim: int) -> Base:
    (folder / "ids.json").write_text(json.dumps(ids), encoding="utf-8")
    np.savez(folder / "queries.npz", *queries)
    np.savez(folder / "new.npz", *token_vectors(5, 1, dim=dim, tokens=(120, 120)))
    return Base(folder)
