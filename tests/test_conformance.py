"""One suite for all adapters: they give what `Index.rerank`, `Reranker.rank` and `Index.search` give, and nothing else.

`conformance.py` says what an adapter is to the suite. A framework that is not installed is skipped.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from conformance import Adapter, Scored
from latewood import Index, Reranker
from latewood.errors import InvalidInputError, UnknownIdError
from support import HashEncoder

NAMES = sorted(path.stem for path in (Path(__file__).parent / "adapters").glob("*.py") if path.stem != "__init__")
NANO = "latewood/nano-en"

QUERY = "capital of germany"
TEXTS = [
    "berlin is the capital of germany",
    "paris is the capital of france",
    "a fox",
    "Die Hauptstadt heißt Berlin, 日本の首都は東京 🦊",
    "paris is the capital of france",
    "the quick brown fox",
    "i\u0307stanbul e\u0301tude \u05e9\u05dc\u05d5\u05dd\u200d\U0001f468\u200d\U0001f469",
    "a fox",
]
"""Two of them are there twice: their scores are equal."""
QUERIES = [QUERY, "fox", "日本の首都は東京", "paris france berlin", "e\u0301tude 🦊"]
IDS: dict[str, list[Any]] = {
    "str": ["d0", "7", "ä/ö ü", "日本", "d4", "🦊", "-1", "with space"],
    "int": [5, -3, 2**62, 0, 12, 7, 1, 99],
}


@pytest.fixture(params=NAMES)
def adapter(request: pytest.FixtureRequest) -> Adapter:
    found: Adapter = import_module(f"adapters.{request.param}").ADAPTER
    return found


@pytest.fixture(params=["str", "int"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Index]:
    with Index.create(tmp_path / request.param, encoder=HashEncoder()) as index:
        index.add(IDS[request.param], texts=TEXTS, metadata=[{"place": place} for place in range(len(TEXTS))])
        yield index


@pytest.fixture
def reranker() -> Reranker:
    return Reranker(HashEncoder())


def needs(*calls: Any) -> Any:
    """Give the calls, or skip where the framework lacks one."""
    if None in calls:
        pytest.skip("the framework has no such call")
    return calls if len(calls) > 1 else calls[0]


def names(count: int) -> list[str]:
    return [f"text-{place}" for place in range(count)]


def expected_by_text(reranker: Reranker, query: str, texts: list[str], top_k: int | None = None) -> Scored:
    ranked = reranker.rank(query, texts, top_k)
    return [(f"text-{entry['corpus_id']}", entry["score"]) for entry in ranked]


def expected_by_id(adapter: Adapter, index: Index, query: str, ids: list[Any], top_k: int | None = None) -> Scored:
    """Give what `Index.rerank` gives, ties in the order of `ids`."""
    hits = sorted(index.rerank(query, ids), key=lambda hit: (-hit.score, ids.index(hit.id)))
    return [(adapter.carried(hit.id), hit.score) for hit in hits][:top_k]


def expected_hits(adapter: Adapter, index: Index, query: str, k: int) -> Scored:
    return [(adapter.carried(hit.id), hit.score) for hit in index.search(query, k)]


def stored(adapter: Adapter, index: Index, *, backwards: bool = False) -> tuple[list[Any], list[Any]]:
    """Give the index's ids, as they are and as the framework carries them."""
    ids = list(index.ids())
    ids = [key if isinstance(key, str) else int(key) for key in (reversed(ids) if backwards else ids)]
    return ids, [adapter.carried(key) for key in ids]


# ── the same ids, order and scores ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("top_k", [None, 1, 3, 100])
@pytest.mark.parametrize("query", QUERIES)
def test_texts_are_ranked_as_by_the_reranker(
    adapter: Adapter, reranker: Reranker, query: str, top_k: int | None
) -> None:
    make, rerank = needs(adapter.by_text, adapter.rerank)
    found = rerank(make(reranker, top_k), query, names(len(TEXTS)), TEXTS)
    assert found == expected_by_text(reranker, query, TEXTS, top_k)


@pytest.mark.parametrize("top_k", [None, 1, 3, 100])
@pytest.mark.parametrize("query", QUERIES)
def test_stored_documents_are_ranked_as_by_the_index(
    adapter: Adapter, index: Index, query: str, top_k: int | None
) -> None:
    make, rerank = needs(adapter.by_id, adapter.rerank)
    ids, carried = stored(adapter, index)
    # Other texts than the stored ones: only the ids count.
    found = rerank(make(index, top_k), query, carried, ["nothing"] * len(ids))
    assert found == expected_by_id(adapter, index, query, ids, top_k)
    assert found == [(adapter.carried(hit.id), hit.score) for hit in index.rerank(query, ids, k=top_k)]


@pytest.mark.parametrize("k", [1, 3, 100])
@pytest.mark.parametrize("query", QUERIES)
def test_retrieval_is_the_search_of_the_index(adapter: Adapter, index: Index, query: str, k: int) -> None:
    make, retrieve = needs(adapter.retriever, adapter.retrieve)
    assert retrieve(make(index, k), query) == expected_hits(adapter, index, query, k)


@pytest.mark.parametrize("top_k", [None, 1, 2, 5])
def test_ties_keep_the_order_in_which_documents_were_given(
    adapter: Adapter, index: Index, reranker: Reranker, top_k: int | None
) -> None:
    rerank = needs(adapter.rerank)
    if adapter.by_text is not None:
        texts = ["no", "a fox", "the fox", "a fox", "fox fox"]
        found = rerank(adapter.by_text(reranker, top_k), "fox", names(5), texts)
        assert found == expected_by_text(reranker, "fox", texts, top_k)
    if adapter.by_id is not None:
        ids, carried = stored(adapter, index, backwards=True)
        found = rerank(adapter.by_id(index, top_k), "fox", carried, [""] * len(ids))
        assert found == expected_by_id(adapter, index, "fox", ids, top_k)
        assert [key for key, _ in found[:2]] == [adapter.carried(ids[0]), adapter.carried(ids[2])][:top_k]


def test_the_same_pipeline_answers_again(adapter: Adapter, index: Index, reranker: Reranker) -> None:
    if adapter.by_text is not None and adapter.rerank is not None:
        pipeline = adapter.by_text(reranker, None)
        for query in [*QUERIES, *QUERIES]:
            found = adapter.rerank(pipeline, query, names(len(TEXTS)), TEXTS)
            assert found == expected_by_text(reranker, query, TEXTS)
    if adapter.retriever is not None and adapter.retrieve is not None:
        pipeline = adapter.retriever(index, 4)
        for query in [*QUERIES, *QUERIES]:
            assert adapter.retrieve(pipeline, query) == expected_hits(adapter, index, query, 4)


def test_what_is_added_later_is_found(adapter: Adapter, index: Index) -> None:
    if not adapter.shares:
        pytest.skip("the framework's pipelines make an index of their own")
    ids, carried = stored(adapter, index)
    new = "new" if isinstance(ids[0], str) else 1000
    reranking = adapter.by_id(index, None) if adapter.by_id is not None else None
    searching = adapter.retriever(index, 3) if adapter.retriever is not None else None
    index.add([new], texts=["berlin germany"])
    if reranking is not None and adapter.rerank is not None:
        found = adapter.rerank(reranking, "germany", [*carried, adapter.carried(new)], [""] * (len(ids) + 1))
        assert found == expected_by_id(adapter, index, "germany", [*ids, new])
    if searching is not None and adapter.retrieve is not None:
        assert adapter.retrieve(searching, "germany") == expected_hits(adapter, index, "germany", 3)


def test_another_index_can_take_the_place_of_the_first(adapter: Adapter, index: Index, tmp_path: Path) -> None:
    ids, carried = stored(adapter, index)
    reranking: Any = adapter.by_id(index, None) if adapter.by_id is not None else None
    searching: Any = adapter.retriever(index, 3) if adapter.retriever is not None else None
    with Index.create(tmp_path / "other", encoder=HashEncoder()) as other:
        other.add(ids, texts=TEXTS[::-1])
        # Not all show which index they have.
        if getattr(reranking, "index", None) is index and adapter.rerank is not None:
            reranking.index = other
            found = adapter.rerank(reranking, QUERY, carried, [""] * len(ids))
            assert found == expected_by_id(adapter, other, QUERY, ids)
        if getattr(searching, "index", None) is index and adapter.retrieve is not None:
            searching.index = other
            assert adapter.retrieve(searching, QUERY) == expected_hits(adapter, other, QUERY, 3)


# ── nothing, empty texts, the same twice ─────────────────────────────────────────────────────────────────────────────


def test_no_documents(adapter: Adapter, index: Index, reranker: Reranker) -> None:
    rerank = needs(adapter.rerank)
    for top_k in (None, 3):
        if adapter.by_text is not None:
            assert rerank(adapter.by_text(reranker, top_k), QUERY, [], []) == []
        if adapter.by_id is not None:
            assert rerank(adapter.by_id(index, top_k), QUERY, [], []) == []


def test_an_index_without_documents(adapter: Adapter, tmp_path: Path) -> None:
    make, retrieve = needs(adapter.retriever, adapter.retrieve)
    with Index.create(tmp_path / "empty", encoder=HashEncoder()) as index:
        assert retrieve(make(index, 3), QUERY) == []


def test_empty_texts_come_last(adapter: Adapter, reranker: Reranker) -> None:
    make, rerank = needs(adapter.by_text, adapter.rerank)
    texts = ["", "a fox", " \n", "berlin"]
    found = rerank(make(reranker, None), "fox", names(4), texts)
    assert found == expected_by_text(reranker, "fox", texts)
    assert [key for key, _ in found[2:]] == ["text-0", "text-2"]


def test_a_document_that_is_given_twice_comes_back_twice(adapter: Adapter, index: Index, reranker: Reranker) -> None:
    rerank = needs(adapter.rerank)
    if not adapter.repeats:
        pytest.skip("the framework's documents are keyed by their ids")
    if adapter.by_text is not None:
        found = rerank(adapter.by_text(reranker, None), "fox", ["a", "b", "a"], ["a fox", "no", "a fox"])
        assert [key for key, _ in found] == ["a", "a", "b"]
    if adapter.by_id is not None:
        ids, _ = stored(adapter, index)
        given = [ids[0], ids[2], ids[0], ids[5]]
        found = rerank(adapter.by_id(index, None), "fox", [adapter.carried(key) for key in given], [""] * 4)
        score = {adapter.carried(hit.id): hit.score for hit in index.rerank("fox", given[1:])}
        assert found == [
            (adapter.carried(key), score[adapter.carried(key)]) for key in (ids[2], ids[5], ids[0], ids[0])
        ]


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "3", True])
def test_a_count_that_is_none_is_refused_when_the_pipeline_is_made(
    adapter: Adapter, index: Index, reranker: Reranker, wrong: Any
) -> None:
    if not adapter.counts:
        pytest.skip("the framework's own call says how many documents are wanted")
    makers: list[tuple[Any, Any]] = [
        (adapter.by_text, reranker),
        (adapter.by_id, index),
        (adapter.retriever, index),
    ]
    for make, source in makers:
        if make is not None:
            with pytest.raises(InvalidInputError):
                make(source, wrong)


def test_a_document_that_the_index_does_not_hold(adapter: Adapter, index: Index) -> None:
    make, rerank = needs(adapter.by_id, adapter.rerank)
    ids, carried = stored(adapter, index)
    unknown = "nobody" if isinstance(ids[0], str) else 123456
    with pytest.raises(UnknownIdError):
        rerank(make(index, None), QUERY, [carried[0], adapter.carried(unknown)], ["", ""])


# ── threads, event loops, files ──────────────────────────────────────────────────────────────────────────────────────


def test_threads_share_a_pipeline(adapter: Adapter, index: Index, reranker: Reranker) -> None:
    asked = QUERIES * 8
    ids, carried = stored(adapter, index)
    with ThreadPoolExecutor(8) as pool:
        if adapter.by_text is not None and adapter.rerank is not None:
            rerank, pipeline = adapter.rerank, adapter.by_text(reranker, 3)
            found = pool.map(lambda query: rerank(pipeline, query, names(len(TEXTS)), TEXTS), asked)
            assert list(found) == [expected_by_text(reranker, query, TEXTS, 3) for query in asked]
        if adapter.by_id is not None and adapter.rerank is not None:
            rerank, by_id = adapter.rerank, adapter.by_id(index, 3)
            found = pool.map(lambda query: rerank(by_id, query, carried, [""] * len(ids)), asked)
            assert list(found) == [expected_by_id(adapter, index, query, ids, 3) for query in asked]
        if adapter.retriever is not None and adapter.retrieve is not None:
            retrieve, retriever = adapter.retrieve, adapter.retriever(index, 3)
            hits = pool.map(lambda query: retrieve(retriever, query), asked)
            assert list(hits) == [expected_hits(adapter, index, query, 3) for query in asked]


def test_an_event_loop_asks_several_at_once(adapter: Adapter, index: Index, reranker: Reranker) -> None:
    arerank, aretrieve = adapter.arerank, adapter.aretrieve
    if arerank is None and aretrieve is None:
        pytest.skip("the framework has no asynchronous calls")
    ids, carried = stored(adapter, index)

    async def together(calls: list[Any]) -> list[Scored]:
        return list(await asyncio.gather(*calls))

    if arerank is not None and adapter.by_text is not None:
        by_text = adapter.by_text(reranker, 3)
        found = asyncio.run(together([arerank(by_text, query, names(len(TEXTS)), TEXTS) for query in QUERIES]))
        assert found == [expected_by_text(reranker, query, TEXTS, 3) for query in QUERIES]
    if arerank is not None and adapter.by_id is not None:
        by_id = adapter.by_id(index, 3)
        found = asyncio.run(together([arerank(by_id, query, carried, [""] * len(ids)) for query in QUERIES]))
        assert found == [expected_by_id(adapter, index, query, ids, 3) for query in QUERIES]
    if aretrieve is not None and adapter.retriever is not None:
        retriever = adapter.retriever(index, 3)
        found = asyncio.run(together([aretrieve(retriever, query) for query in QUERIES]))
        assert found == [expected_hits(adapter, index, query, 3) for query in QUERIES]


def test_a_pipeline_that_was_written_and_read_gives_the_same(adapter: Adapter, tmp_path: Path) -> None:
    """With an encoder that has a name: what a pipeline's file says must be enough to make it again."""
    reload = needs(adapter.reload)
    query = "What is the capital of Germany?"
    with Index.create(tmp_path / "nano") as index:
        index.add(IDS["str"], texts=TEXTS)
        ids = IDS["str"]
        for source in (index, index.path):
            if adapter.by_id is not None and adapter.rerank is not None:
                again = reload(adapter.by_id(source, 3))
                assert adapter.rerank(again, query, ids, [""] * len(ids)) == expected_by_id(
                    adapter, index, query, ids, 3
                )
            if adapter.retriever is not None and adapter.retrieve is not None:
                again = reload(adapter.retriever(source, 3))
                assert adapter.retrieve(again, query) == expected_hits(adapter, index, query, 3)
        if adapter.by_text is not None and adapter.rerank is not None:
            again = reload(adapter.by_text(NANO, 3))
            found = adapter.rerank(again, query, names(len(TEXTS)), TEXTS)
            assert found == expected_by_text(Reranker(NANO), query, TEXTS, 3)
