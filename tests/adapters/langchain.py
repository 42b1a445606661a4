import pytest

pytest.importorskip("langchain_core")

from typing import Any

from langchain_core.documents import Document

from conformance import Adapter, Scored
from latewood.integrations.langchain import LatewoodRerank, LatewoodRetriever


def documents(ids: list[Any], texts: list[str]) -> list[Document]:
    return [Document(id=key, page_content=text) for key, text in zip(ids, texts, strict=True)]


def scored(found: Any) -> Scored:
    return [(document.id, document.metadata["relevance_score"]) for document in found]


async def arerank(pipeline: LatewoodRerank, query: str, ids: list[Any], texts: list[str]) -> Scored:
    return scored(await pipeline.acompress_documents(documents(ids, texts), query))


async def aretrieve(pipeline: LatewoodRetriever, query: str) -> Scored:
    return scored(await pipeline.ainvoke(query))


ADAPTER = Adapter(
    by_text=lambda model, top_k: LatewoodRerank(model=model, top_n=top_k),
    by_id=lambda index, top_k: LatewoodRerank(index=index, top_n=top_k),
    rerank=lambda pipeline, query, ids, texts: scored(pipeline.compress_documents(documents(ids, texts), query)),
    retriever=lambda index, k: LatewoodRetriever(index=index, k=k),
    retrieve=lambda pipeline, query: scored(pipeline.invoke(query)),
    arerank=arerank,
    aretrieve=aretrieve,
)
