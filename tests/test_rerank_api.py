"""The function `rerank(query, documents, top_n)`: what goes in and comes out, and who calls it."""

import json
import pickle
from typing import Any

import pytest

from latewood import Index, Reranker
from latewood.errors import InvalidInputError
from latewood.integrations.rerank_api import RerankClient, rerank
from support import TEXTS, HashEncoder

QUERY = "capital of germany"
DOCUMENTS = list(TEXTS.values())


@pytest.fixture
def client() -> RerankClient:
    return RerankClient(model=HashEncoder())


def test_the_shape(client: RerankClient) -> None:
    answer = client.rerank(QUERY, DOCUMENTS, 2)
    wanted = Reranker(HashEncoder()).rank(QUERY, DOCUMENTS, 2)
    assert answer == {
        "results": [{"index": one["corpus_id"], "relevance_score": one["score"]} for one in wanted],
    }
    assert json.loads(json.dumps(answer)) == answer
    assert client.rerank(query=QUERY, documents=DOCUMENTS, top_n=2) == answer
    assert client.rerank(QUERY, iter(DOCUMENTS), 2) == answer  # type: ignore[arg-type]
    assert client.rerank(QUERY, [{"text": text} for text in DOCUMENTS], 2) == answer
    assert client.rerank(QUERY, []) == {"results": []}


def test_documents_come_back_if_asked_for(client: RerankClient) -> None:
    given: list[Any] = [TEXTS["fox"], {"text": TEXTS["berlin"], "url": "somewhere"}]
    answer = client.rerank(QUERY, given, return_documents=True)
    assert [result["document"] for result in answer["results"]] == [given[1], {"text": TEXTS["fox"]}]


def test_a_request_names_its_model(client: RerankClient, text_index: Index) -> None:
    body: dict[str, Any] = {"model": "hash", "query": QUERY, "documents": DOCUMENTS, "top_n": 1}
    assert client.rerank(**body)["results"][0]["index"] == list(TEXTS).index("berlin")
    assert RerankClient(index=text_index).rerank(**{**body, "documents": list(TEXTS)})["results"][0]["index"] == 3
    with pytest.raises(InvalidInputError, match="model 'another' is asked for and this is 'hash'"):
        client.rerank(**{**body, "model": "another"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_n": 0}, "top_k"),
        ({"return_documents": "yes"}, "return_documents"),
        ({"documents": ["a fox", {"content": "an owl"}]}, "position 1 has no 'text' but content"),
        ({"documents": ["a fox", 3]}, "int"),
        ({"query": None}, "the query"),
        ({"documents": "a fox"}, "the documents come as one str"),
        ({"documents": None}, "the documents come as None"),
        ({"documents": {"1": "a fox"}}, "the documents come as one dict"),
        ({"documents": {"a fox"}}, "no order"),
    ],
)
def test_what_does_not_fit(client: RerankClient, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        client.rerank(**{"query": QUERY, "documents": DOCUMENTS, **arguments})


def test_stored_documents_come_by_their_ids(text_index: Index) -> None:
    client = RerankClient(index=text_index)
    wanted = [
        {"index": list(TEXTS).index(str(hit.id)), "relevance_score": hit.score}
        for hit in text_index.rerank(QUERY, list(TEXTS))
    ]
    for documents in (list(TEXTS), [{"id": key} for key in TEXTS]):
        assert client.rerank(QUERY, documents)["results"] == wanted
    with pytest.raises(InvalidInputError, match="position 0 has no 'id' but text"):
        client.rerank(QUERY, [{"text": "a fox"}])


def test_the_ready_function() -> None:
    assert rerank(QUERY, DOCUMENTS, top_n=1) == RerankClient(model="latewood/nano-en").rerank(QUERY, DOCUMENTS, 1)
    assert pickle.loads(pickle.dumps(rerank))(QUERY, DOCUMENTS, 1) == rerank(QUERY, DOCUMENTS, 1)


def test_dspy_sees_a_tool(client: RerankClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    dspy = pytest.importorskip("dspy")
    tool = dspy.Tool(client.rerank)
    assert tool.name == "rerank"
    assert "relevance" in tool.desc
    assert tool.args["query"] == {"type": "string"}
    assert tool(query=QUERY, documents=DOCUMENTS, top_n=1) == client.rerank(QUERY, DOCUMENTS, 1)


def test_txtai_asks_it_for_similarities(client: RerankClient) -> None:
    txtai = pytest.importorskip("txtai")
    from txtai.pipeline import Reranker as Second

    # Candidates by keywords: no model.
    embeddings = txtai.Embeddings(keyword=True, content=True)
    embeddings.index(list(enumerate(DOCUMENTS)))

    def similarity(query: str, texts: list[str]) -> list[tuple[int, float]]:
        return [(result["index"], result["relevance_score"]) for result in client.rerank(query, texts)["results"]]

    found = Second(embeddings, similarity)("capital berlin", limit=2)
    assert [DOCUMENTS[int(row["id"])] for row in found] == [TEXTS["berlin"], TEXTS["paris"]]
    assert found[0]["score"] == Reranker(HashEncoder()).predict(("capital berlin", TEXTS["berlin"]))
