"""LanceDB itself: vector, full-text and hybrid searches with the adapter's reranker."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lancedb")

import lancedb
import pyarrow as pa
from lancedb.index import FTS

from latewood import Index, Reranker
from latewood.errors import InvalidInputError, UnknownIdError
from latewood.integrations.lancedb import LatewoodReranker
from support import TEXTS, HashEncoder

QUERY = "capital france tree fox"
TOKENS = pa.list_(pa.list_(pa.float32(), 48))


def pooled(text: str) -> Any:
    """Give the mean of a text's token vectors: a first stage."""
    return HashEncoder().encode_document([text])[0].mean(axis=0)


def rows() -> pa.Table:
    texts = list(TEXTS.values())
    vectors = pa.array([pooled(text).tolist() for text in texts], pa.list_(pa.float32(), 48))
    tokens = pa.array([HashEncoder().encode_document([text])[0].tolist() for text in texts], TOKENS)
    return pa.table({"id": list(TEXTS), "text": texts, "vector": vectors, "tokens": tokens})


@pytest.fixture
def table(tmp_path: Path) -> Any:
    table = lancedb.connect(tmp_path / "database").create_table("documents", rows())
    table.create_index("text", config=FTS())
    return table


def by_vector(table: Any, text: str = QUERY) -> Any:
    return table.search(pooled(text), vector_column_name="vector")


def by_text(table: Any, text: str = QUERY) -> Any:
    return table.search(text, query_type="fts")


def hybrid(table: Any, text: str = QUERY) -> Any:
    return table.search(query_type="hybrid", vector_column_name="vector").vector(pooled(QUERY)).text(text)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "index", encoder=HashEncoder())
    index.add(list(TEXTS), texts=list(TEXTS.values()))
    return index


@pytest.fixture(params=["texts", "tokens", "index"])
def reranker(request: pytest.FixtureRequest, index: Index) -> LatewoodReranker:
    if request.param == "index":
        return LatewoodReranker(index=index)
    return LatewoodReranker(model=HashEncoder(), column="text" if request.param == "texts" else "tokens")


def expected(reranker: LatewoodReranker, names: list[str]) -> list[tuple[str, float]]:
    if isinstance(reranker.source, Index):
        return [(str(hit.id), hit.score) for hit in reranker.source.rerank(QUERY, names)]
    ranked = Reranker(HashEncoder()).rank(QUERY, [TEXTS[name] for name in names])
    return [(names[one["corpus_id"]], one["score"]) for one in ranked]


def pairs(found: pa.Table) -> list[tuple[str, float]]:
    assert found["_relevance_score"].type == pa.float32()
    return list(zip(found["id"].to_pylist(), found["_relevance_score"].to_pylist(), strict=True))


def test_a_vector_search(table: Any, reranker: LatewoodReranker) -> None:
    first = by_vector(table).limit(4).to_arrow()["id"].to_pylist()
    found = by_vector(table).limit(4).rerank(reranker, query_string=QUERY).to_arrow()
    assert pairs(found) == expected(reranker, first)
    assert found.column_names == ["id", "text", "vector", "tokens", "_relevance_score"]


def test_a_full_text_search(table: Any, reranker: LatewoodReranker) -> None:
    first = by_text(table).limit(4).to_arrow()["id"].to_pylist()
    assert len(first) == 4
    found = by_text(table).limit(4).rerank(reranker).to_arrow()
    assert pairs(found) == expected(reranker, first)
    assert "_score" not in found.column_names


@pytest.mark.parametrize("normalize", ["score", "rank"])
def test_a_hybrid_search(table: Any, reranker: LatewoodReranker, normalize: str) -> None:
    first = by_vector(table).limit(2).to_arrow()["id"].to_pylist()
    second = by_text(table).limit(2).to_arrow()["id"].to_pylist()
    found = hybrid(table).limit(2).rerank(reranker, normalize=normalize).to_arrow()
    assert pairs(found) == expected(reranker, list(dict.fromkeys(first + second)))[:2]
    assert not {"_score", "_distance", "_rowid"} & set(found.column_names)


def test_all_scores_are_kept_if_asked_for(table: Any, index: Index) -> None:
    reranker = LatewoodReranker(index=index, return_score="all")
    distances = {row["id"]: row["_distance"] for row in by_vector(table).limit(3).to_arrow().to_pylist()}
    scores = {row["id"]: row["_score"] for row in by_text(table, "germany token").limit(3).to_arrow().to_pylist()}
    assert distances.keys() != scores.keys()
    both = hybrid(table, "germany token").limit(3).rerank(reranker).to_arrow()
    assert len(both) == 3
    for row in both.to_pylist():
        assert row["_distance"] == distances.get(row["id"])
        assert row["_score"] == scores.get(row["id"])
    assert both.schema.field("tokens").type == TOKENS
    vector = by_vector(table).limit(3).rerank(reranker, query_string=QUERY).to_arrow()
    assert {row["id"]: row["_distance"] for row in vector.to_pylist()} == distances
    text = by_text(table, "germany token").limit(3).rerank(reranker).to_arrow()
    assert {row["id"]: row["_score"] for row in text.to_pylist()} == scores


def test_searches_that_find_nothing(table: Any, reranker: LatewoodReranker) -> None:
    nothing = "id = 'nobody'"
    vector = by_vector(table).where(nothing).rerank(reranker, query_string=QUERY).to_arrow()
    text = by_text(table, "nonsense").rerank(reranker).to_arrow()
    both = hybrid(table, "nonsense").where(nothing).rerank(reranker)
    for found in (vector, text, both.to_arrow()):
        assert pairs(found) == []
    # One of both finds something.
    query = hybrid(table, "nonsense").limit(3)
    names = by_vector(table).limit(3).to_arrow()["id"].to_pylist()
    assert {name for name, _ in pairs(query.rerank(reranker).to_arrow())} == set(names)
    for score in ("relevance", "all"):
        every = LatewoodReranker(model=HashEncoder(), return_score=score)
        assert len(query.rerank(every).to_arrow()) == 3
        for empty in (pa.table({"id": pa.array([], pa.string())}), rows()[:0]):
            assert every.rerank_hybrid(QUERY, empty, empty)["_relevance_score"].to_pylist() == []
            assert every.rerank_vector(QUERY, empty)["_relevance_score"].to_pylist() == []


def test_an_asynchronous_connection(table: Any, index: Index, tmp_path: Path) -> None:
    async def ask() -> tuple[Any, Any, Any]:
        opened = await (await lancedb.connect_async(tmp_path / "database")).open_table("documents")
        reranker = LatewoodReranker(index=index)
        vector = (
            await opened.query().nearest_to(pooled(QUERY)).column("vector").limit(3).rerank(reranker, QUERY).to_arrow()
        )
        text = await opened.query().nearest_to_text(QUERY).limit(3).rerank(reranker).to_arrow()
        both = (
            opened.query().nearest_to(pooled(QUERY)).column("vector").nearest_to_text(QUERY).limit(3).rerank(reranker)
        )
        return vector, text, await both.to_arrow()

    vector, text, both = asyncio.run(ask())
    reranker = LatewoodReranker(index=index)
    assert pairs(vector) == pairs(by_vector(table).limit(3).rerank(reranker, query_string=QUERY).to_arrow())
    assert pairs(text) == pairs(by_text(table).limit(3).rerank(reranker).to_arrow())
    own = hybrid(table).limit(3).rerank(reranker).to_arrow()
    assert pairs(both) == pairs(own)


def test_several_vector_searches(table: Any, reranker: LatewoodReranker) -> None:
    found = [by_vector(table, text).limit(2).with_row_id(True).to_arrow() for text in (QUERY, TEXTS["fox"])]
    names = list(dict.fromkeys(name for one in found for name in one["id"].to_pylist()))
    merged = reranker.rerank_multivector(found, QUERY, deduplicate=True)
    assert dict(pairs(merged)) == dict(expected(reranker, names))


def test_columns_that_do_not_fit(table: Any, index: Index) -> None:
    with pytest.raises(InvalidInputError, match="'body'"):
        by_text(table).rerank(LatewoodReranker(column="body")).to_arrow()
    with pytest.raises(InvalidInputError, match="'id'"):
        by_text(table).select(["text"]).rerank(LatewoodReranker(index=index)).to_arrow()
    index.delete(["paris"])
    with pytest.raises(UnknownIdError, match="paris"):
        by_text(table).rerank(LatewoodReranker(index=index)).to_arrow()
    skipping = LatewoodReranker(index=index, options={"missing": "skip"})
    assert "paris" not in dict(pairs(by_text(table).rerank(skipping).to_arrow()))
    for wrong in ({"return_score": "some"}, {"column": 3}, {"index": index, "model": "x"}, {"options": {"alpha": 1}}):
        with pytest.raises(InvalidInputError):
            LatewoodReranker(**wrong)


def test_texts_that_are_null_come_last() -> None:
    table = pa.table({"id": [1, 2, 3], "text": [None, "a fox", ""], "_relevance_score": [3.0, 2.0, 1.0]})
    found = LatewoodReranker(model=HashEncoder()).rerank_fts("fox", table)
    assert found["id"].to_pylist() == [2, 1, 3]
    assert found.column_names == ["id", "text", "_relevance_score"]
    assert str(LatewoodReranker(model=HashEncoder())).startswith("LatewoodReranker(")
