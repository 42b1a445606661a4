import pytest

pytest.importorskip("haystack")

from typing import Any

from haystack import Document, Pipeline

from conformance import Adapter, Scored
from latewood.integrations.haystack import LatewoodRanker, LatewoodRetriever


def documents(ids: list[Any], texts: list[str]) -> list[Document]:
    return [Document(id=key, content=text) for key, text in zip(ids, texts, strict=True)]


def scored(found: dict[str, list[Document]]) -> Scored:
    return [(document.id, document.score) for document in found["documents"]]


async def arerank(pipeline: LatewoodRanker, query: str, ids: list[Any], texts: list[str]) -> Scored:
    return scored(await pipeline.run_async(query=query, documents=documents(ids, texts)))


async def aretrieve(pipeline: LatewoodRetriever, query: str) -> Scored:
    return scored(await pipeline.run_async(query=query))


def reload(component: Any) -> Any:
    """By YAML, which Haystack loads of packages that it trusts alone."""
    pipeline = Pipeline()
    pipeline.add_component("it", component)
    return Pipeline.loads(pipeline.dumps()).get_component("it")


ADAPTER = Adapter(
    by_text=lambda model, top_k: LatewoodRanker(model=model, top_k=top_k),
    by_id=lambda index, top_k: LatewoodRanker(index=index, top_k=top_k),
    rerank=lambda pipeline, query, ids, texts: scored(pipeline.run(query=query, documents=documents(ids, texts))),
    retriever=LatewoodRetriever,
    retrieve=lambda pipeline, query: scored(pipeline.run(query=query)),
    arerank=arerank,
    aretrieve=aretrieve,
    reload=reload,
)
