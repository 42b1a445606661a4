"""What `user_program.py` is given: data of types that it cannot name without Any."""

from collections.abc import Mapping
from pathlib import Path

from latewood import Bm25FirstStage, Index, Ragged, TwoStage, export_index, import_index


class Passages:
    """A few texts with metadata."""

    ids: tuple[str, ...] = ("rings", "owls", "empty", "pores")
    texts: tuple[str, ...] = ("A tree ring.", "Owls hunt at night.", " ", "Oaks form pores in spring.")
    metadata: tuple[dict[str, object] | None, ...] = (
        {"page": 1, "lang": "en"},
        {"page": 2, "lang": "en"},
        None,
        {"page": 1, "lang": "en"},
    )


def bm25(passages: Passages) -> Bm25FirstStage:
    """BM25 over the passages; options of a foreign tokenizer are Any."""
    return Bm25FirstStage.from_texts(passages.ids, passages.texts)


def first_stage(query: str, k: int) -> list[tuple[str, float]]:
    """Candidates of any query."""
    return [("rings", 2.0), ("owls", 1.0)][:k]


def matrix(queries: Ragged) -> object:
    """The vectors of the first query."""
    return queries[0]


def run_of(run: Mapping[str, Mapping[str, float]]) -> Mapping[str, object]:
    """A first stage's run."""
    return run


def lexical(index: Index) -> TwoStage:
    """Both stages on one index; what a first stage may be is Any."""
    return TwoStage.from_index(index)


def copied(index: Index, folder: Path) -> Index:
    """An index of the exported documents of another; what a new index may be set to is Any."""
    export_index(index, folder / "news.npz", overwrite=True)
    return import_index(folder / "news.npz", folder / "copied", overwrite=True)


def rows(index: Index) -> int:
    """Rows of a table and of a stream of its parts; Arrow's types are Any."""
    parts: int = sum(batch.num_rows for batch in index.to_batches())
    table: int = index.to_arrow(["rings"]).num_rows
    return parts + table
