"""Clients of other rerank services, as they come from their packages, ask `/v1/rerank`."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from latewood import Reranker
from trials.serving import Service

pytest.importorskip("starlette")
pytest.importorskip("onnxruntime")
# They leave closing their connections to the end of the process.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

QUERY = "how old is a tree?"
TEXTS = ["Owls hunt at night.", "A tree grows one ring each year.", "", "Paris lies in France.", "Owls hunt at night."]
MODEL = "latewood/nano-en"
TOKEN = "a-token-for-the-tests"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service(environment={"LATEWOOD_READ_TOKENS": TOKEN}) as running:
        yield running


@pytest.fixture(scope="module")
def expected() -> list[tuple[int, float]]:
    return [(one["corpus_id"], float(one["score"])) for one in Reranker().rank(QUERY, TEXTS)]


def found(results: Any) -> list[tuple[int, float]]:
    return [(one.index, one.relevance_score) for one in results]


def finite(expected: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """What JSON can hold: an empty text has the lowest score there is."""
    return [(place, max(score, float(np.finfo(np.float32).min))) for place, score in expected]


def test_the_sdk_of_cohere(service: Service, expected: list[tuple[int, float]]) -> None:
    cohere = pytest.importorskip("cohere")
    for kind in (cohere.Client, cohere.ClientV2):
        client = kind(TOKEN, base_url=service.url)
        answer = client.rerank(model=MODEL, query=QUERY, documents=TEXTS)
        assert found(answer.results) == finite(expected)
        answer = client.rerank(model=MODEL, query=QUERY, documents=TEXTS, top_n=2)
        assert found(answer.results) == expected[:2]
    answer = cohere.Client(TOKEN, base_url=service.url).rerank(
        model=MODEL,
        query=QUERY,
        documents=[{"text": text} for text in TEXTS],
        return_documents=True,
        rank_fields=["text"],
        max_chunks_per_doc=10,
    )
    assert [one.document.text for one in answer.results] == [TEXTS[place] for place, _ in expected]


def test_the_asynchronous_sdk_of_cohere(service: Service, expected: list[tuple[int, float]]) -> None:
    cohere = pytest.importorskip("cohere")

    async def ask() -> Any:
        async with cohere.AsyncClientV2(TOKEN, base_url=service.url) as client:
            asked = (client.rerank(model=MODEL, query=QUERY, documents=TEXTS, top_n=3) for _ in range(8))
            return await asyncio.gather(*asked)

    assert [found(answer.results) for answer in asyncio.run(ask())] == [expected[:3]] * 8


def test_what_the_sdk_of_cohere_makes_of_a_refusal(service: Service) -> None:
    cohere = pytest.importorskip("cohere")
    with pytest.raises(cohere.UnauthorizedError):
        cohere.ClientV2("another-token-altogether", base_url=service.url).rerank(
            model=MODEL, query="x", documents=["y"]
        )
    with pytest.raises(cohere.NotFoundError, match="no model 'rerank-v9'"):
        cohere.ClientV2(TOKEN, base_url=service.url).rerank(model="rerank-v9", query="x", documents=["y"])


def test_the_compressor_of_langchain_cohere(service: Service, expected: list[tuple[int, float]]) -> None:
    langchain_cohere = pytest.importorskip("langchain_cohere")
    documents = pytest.importorskip("langchain_core.documents")
    compressor = langchain_cohere.CohereRerank(cohere_api_key=TOKEN, base_url=service.url, model=MODEL, top_n=3)
    given = [documents.Document(text, metadata={"place": place}) for place, text in enumerate(TEXTS)]
    ranked = compressor.compress_documents(given, QUERY)
    told = [(one.metadata["place"], one.metadata["relevance_score"], one.page_content) for one in ranked]
    assert told == [(place, score, TEXTS[place]) for place, score in expected[:3]]


def test_the_postprocessor_of_llama_index_for_jina(service: Service, expected: list[tuple[int, float]]) -> None:
    jina = pytest.importorskip("llama_index.postprocessor.jinaai_rerank")
    schema = pytest.importorskip("llama_index.core.schema")
    reranker = jina.JinaRerank(api_key=TOKEN, base_url=f"{service.url}/v1", model=MODEL, top_n=3)
    nodes = [schema.NodeWithScore(node=schema.TextNode(text=text, id_=str(at))) for at, text in enumerate(TEXTS)]
    ranked = reranker.postprocess_nodes(nodes, query_str=QUERY)
    assert [(int(one.node.node_id), one.score) for one in ranked] == expected[:3]


def test_the_request_of_open_webui(service: Service, expected: list[tuple[int, float]]) -> None:
    """Its external reranker posts with `requests` to whatever address it is given, and reads scores by their places."""
    httpx = pytest.importorskip("httpx")
    asked = {"model": MODEL, "query": QUERY, "documents": TEXTS, "top_n": len(TEXTS)}
    for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
        answer = httpx.post(f"{service.url}{path}", json=asked, headers={"authorization": f"Bearer {TOKEN}"})
        answer.raise_for_status()
        results = sorted(answer.json()["results"], key=lambda one: one["index"])
        assert [one["relevance_score"] for one in results] == [score for _, score in sorted(finite(expected))]
