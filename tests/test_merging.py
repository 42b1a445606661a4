"""Commits merge segments by themselves, and nothing that a reader sees changes by it."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from latewood import Index
from latewood.errors import InvalidInputError
from strategies import make_corpus

GATHERERS: tuple[Literal["exact", "flood", "postings"], ...] = ("exact", "flood", "postings")
CORPUS = make_corpus(47, dim=32, documents=150, queries=4, document_tokens=(2, 8))


def segments(index: Index) -> int:
    return int(index.info()["segments"])


@pytest.mark.parametrize("train_after", [0, 300, 65_536])
@pytest.mark.parametrize("codec", ["residual", "flat"])
def test_many_small_commits_leave_few_segments(tmp_path: Path, codec: Any, train_after: int) -> None:
    # A number of centroids that was asked for stays: merging alone must change nothing.
    options: dict[str, Any] = {"dim": 32, "train_after": train_after, "codec": codec}
    if codec == "residual":
        options["centroids"] = 64
    merged, plain = (Index.create(tmp_path / name, **options) for name in ("merged", "plain"))
    for index, merge in ((merged, True), (plain, False)):
        for number, vectors in enumerate(CORPUS.documents):
            index.add(
                [f"d{number}"],
                vectors=[vectors],
                texts=[f"text {number}"] if number % 3 else None,
                metadata=[{"n": number}] if number % 2 else None,
                merge=merge,
            )
            if number % 10 == 9:
                index.upsert([f"d{number - 5}"], vectors=[vectors], merge=merge)
                index.delete([f"d{number - 3}"], merge=merge)
    assert segments(merged) <= 8 < segments(plain)
    assert merged.ids() == plain.ids()
    assert merged.check() == plain.check() == []
    for query in CORPUS.queries:
        for gather in GATHERERS:
            assert merged.search(query, 20, gather=gather) == plain.search(query, 20, gather=gather)
    assert merged.search(CORPUS.queries[0], 99, filter={"n": {"lt": 40}}) == plain.search(
        CORPUS.queries[0], 99, filter={"n": {"lt": 40}}
    )
    np.testing.assert_array_equal(merged.vectors(merged.ids()).values, plain.vectors(plain.ids()).values)
    plain.compact()
    assert segments(plain) == 1


def test_what_each_segment_holds_adds_up(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "x", dim=32)
    assert index.info()["by_segment"] == []
    for start, end in ((0, 30), (30, 100), (100, 104)):
        metadata = [{"n": number} for number in range(start, end)]
        index.add(range(start, end), vectors=CORPUS.documents[start:end], metadata=metadata, merge=False)
    index.delete([0, 1, 50], merge=False)
    index.update_metadata([2], {"n": 7}, merge=False)
    info = index.info()
    held = info["by_segment"]
    assert [(one["documents"], one["deleted_documents"]) for one in held] == [(28, 2), (69, 1), (4, 0)]
    lengths = [len(document) for document in CORPUS.documents]
    assert [one["tokens"] for one in held] == [sum(lengths[:30]), sum(lengths[30:100]), sum(lengths[100:104])]
    codec = info["bytes_by_section"]["codec"]
    assert sum(one["bytes"] for one in held) == info["bytes"] - codec


def test_deleted_documents_are_left_out_once_they_are_half(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "x", dim=32)
    index.add(range(100), vectors=CORPUS.documents[:100])
    size = index.info()["bytes"]
    index.delete(range(40))
    assert index.info()["deleted_documents"] == 40
    index.delete(range(40, 60))
    assert index.info()["deleted_documents"] == 0
    assert index.info()["bytes"] < size
    assert list(index.ids()) == list(range(60, 100))
    index.delete(range(60, 100))
    assert (len(index), segments(index), index.check()) == (0, 0, [])


def test_readers_keep_what_they_have_open_through_merges(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "x", dim=32)
    index.add([0], vectors=CORPUS.documents[:1])
    reader = Index.open(tmp_path / "x")
    hits = reader.search(CORPUS.documents[0], 1)
    for number in range(1, 40):
        index.add([number], vectors=CORPUS.documents[number : number + 1])
    assert list(reader.ids()) == [0]
    assert reader.search(CORPUS.documents[0], 1) == hits
    assert hits[0].explain().score == pytest.approx(hits[0].score, rel=1e-6)
    assert reader.refresh()
    assert len(reader) == 40


def test_merge_is_a_flag(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "x", dim=32)
    with pytest.raises(InvalidInputError, match="merge must be True or False"):
        index.writer(merge=1)  # type: ignore[arg-type]
