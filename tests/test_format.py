"""An index of format 1 as it was written when the format was settled must open, and answer, for ever.

`python tests/test_format.py FOLDER` writes such an index anew, for the day when there is a format 2.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Index
from strategies import make_corpus

GOLDEN = Path(__file__).parent / "golden" / "format-1"
QUERIES = "queries.npz"
EXPECTED = "expected.json"


def write(folder: Path) -> None:
    """Write two segments of the residual codec with texts, metadata and deleted documents, and what they answer."""
    corpus = make_corpus(3, dim=40, documents=60, queries=4, clusters=12)
    index = Index.create(folder / "index", dim=40, bits=2, centroids=16, train_after=0)
    names = [f"document {number}" for number in range(60)]
    for part in (slice(0, 40), slice(40, 60)):
        index.add(
            names[part],
            vectors=corpus.documents[part],
            texts=[None if name.endswith("7") else f"Text of {name}: é, 年輪." for name in names[part]],
            metadata=[{"number": int(name.split()[1])} for name in names[part]],
        )
    index.delete(["document 5", "document 45"])
    np.savez_compressed(folder / QUERIES, *corpus.queries)
    expected = answers(Index.open(folder / "index"), corpus.queries)
    (folder / EXPECTED).write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def answers(index: Index, queries: list[np.ndarray]) -> dict[str, Any]:
    """Everything that an index can be asked, in JSON; floats as the shortest text that reads back to the same bits."""
    found: dict[str, Any] = {"problems": index.check(), "ids": list(index.ids())}
    for gather in ("exact", "flood", "postings"):
        hits = index.search_batch(queries, 5, gather=gather)
        found[gather] = [[[hit.id, hit.score, hit.text, hit.metadata] for hit in some] for some in hits]
    found["filtered"] = [hit.id for hit in index.search(queries[0], 60, filter={"number": {"lt": 9}})]
    found["vectors"] = index.vectors(["document 0"])[0].tolist()
    info = index.info()
    found["info"] = {
        name: info[name] for name in ("format_version", "documents", "deleted_documents", "segments", "tokens")
    }
    return found


@pytest.mark.parametrize("mmap", [True, False])
def test_format_1_answers_as_it_did(tmp_path: Path, mmap: bool) -> None:
    shutil.copytree(GOLDEN / "index", tmp_path / "index")
    with np.load(GOLDEN / QUERIES) as arrays:
        queries = list(arrays.values())
    expected = json.loads((GOLDEN / EXPECTED).read_text(encoding="utf-8"))
    assert answers(Index.open(tmp_path / "index", mmap=mmap), queries) == expected


def test_format_1_grows(tmp_path: Path) -> None:
    """What was written then takes documents now, and is merged."""
    shutil.copytree(GOLDEN / "index", tmp_path / "index")
    expected = json.loads((GOLDEN / EXPECTED).read_text(encoding="utf-8"))
    index = Index.open(tmp_path / "index")
    index.add(["new"], vectors=make_corpus(4, dim=40, documents=1, queries=1).documents)
    index.compact()
    assert index.check() == []
    assert list(index.ids()) == [*expected["ids"], "new"]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
