"""What `user_program.py` is given: data of types that it cannot name without Any."""

from collections.abc import Mapping

from latewood import Bm25FirstStage, Ragged


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
