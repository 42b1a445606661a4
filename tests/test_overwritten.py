"""Files that somebody writes over while they are open: whatever is answered then, nothing panics."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from latewood import Index
from latewood.errors import CorruptIndexError, UnknownIdError
from strategies import Corpus

if TYPE_CHECKING:
    from collections.abc import Callable

HEADER = 64


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("byte", [0x00, 0x7F, 0xFF])
def test_a_file_that_is_written_over_in_place(corpus: Corpus, tmp_path: Path, byte: int, mmap: bool) -> None:
    ids = list(range(100))
    index = Index.create(tmp_path / "index", dim=corpus.dim, train_after=0, mmap=mmap)
    index.add(ids, vectors=corpus.documents[:100], texts=["text"] * 100, metadata=[{"n": n} for n in ids])
    index.delete([7], merge=False)
    questions: list[Callable[[], Any]] = [
        lambda: index.search(corpus.queries[0], 5),
        lambda: index.search(corpus.queries[0], 5, gather="postings"),
        lambda: index.search(corpus.queries[0], 5, gather="exact", filter={"n": {"lt": 50}}),
        lambda: index.rerank(corpus.queries[0], [1, 2, 3]),
        lambda: float(index.vectors([1, 2, 3]).values.sum()),
        lambda: index.documents([1, 2, 3]),
        lambda: index.explain(corpus.queries[0], 1).score,
    ]
    before = [ask() for ask in questions]
    for path in (tmp_path / "index").glob("*.lwd"):
        with path.open("r+b") as file:
            file.seek(HEADER)
            file.write(bytes([byte]) * (path.stat().st_size - HEADER))
    if not mmap:
        # What is in memory nobody writes over.
        assert [ask() for ask in questions] == before
    for ask in questions:
        with suppress(CorruptIndexError, UnknownIdError):
            ask()
    assert index.check() != []
    if mmap:
        with pytest.raises(CorruptIndexError):
            index.compact()
