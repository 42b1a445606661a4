"""An index of each format as it was written when the format was settled must open, and answer, for ever.

`python tests/test_format.py FOLDER` writes such an index anew, for the day when there is another format.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Index
from latewood.errors import CorruptIndexError
from strategies import make_corpus

GOLDEN = sorted((Path(__file__).parent / "golden").glob("format-*"))
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


def copied(golden: Path, to: Path) -> tuple[Path, list[np.ndarray], dict[str, Any]]:
    """Copy an index, and give it with its queries and what it answered."""
    shutil.copytree(golden / "index", to)
    with np.load(golden / QUERIES) as arrays:
        queries = list(arrays.values())
    return to, queries, json.loads((golden / EXPECTED).read_text(encoding="utf-8"))


def test_there_is_an_index_of_each_format() -> None:
    versions = [
        json.loads((golden / EXPECTED).read_text(encoding="utf-8"))["info"]["format_version"] for golden in GOLDEN
    ]
    assert versions == [1, 2]


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_it_answers_as_it_did(tmp_path: Path, golden: Path, mmap: bool) -> None:
    path, queries, expected = copied(golden, tmp_path / "index")
    assert answers(Index.open(path, mmap=mmap), queries) == expected


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_it_grows(tmp_path: Path, golden: Path) -> None:
    """What was written then takes documents now, and is merged."""
    path, queries, expected = copied(golden, tmp_path / "index")
    index = Index.open(path)
    document = make_corpus(4, dim=40, documents=1, queries=1).documents
    index.add(["new"], vectors=document, merge=False)
    assert index.check() == []
    assert index.info()["format_version"] == 2
    assert list(index.ids()) == [*expected["ids"], "new"]
    index.delete(["new"])
    for gather in ("exact", "flood", "postings"):
        assert answers(index, queries)[gather] == expected[gather]
    index.compact()
    assert index.check() == []
    assert list(index.ids()) == expected["ids"]
    assert answers(index, queries)["exact"] == expected["exact"]


def test_damage_in_an_index_of_format_1_is_not_copied(tmp_path: Path) -> None:
    """It has no checksums of blocks: what opening does not verify, a merge does before it copies."""
    path, _, _ = copied(GOLDEN[0], tmp_path / "index")
    segment = max(path.glob("segment-*"), key=lambda file: file.stat().st_size)
    content = bytearray(segment.read_bytes())
    content[-3] ^= 1
    segment.write_bytes(content)
    index = Index.open(path)
    assert len(index.check()) == 1
    with pytest.raises(CorruptIndexError, match=segment.name):
        index.compact()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
