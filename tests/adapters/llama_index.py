import pytest

pytest.importorskip("llama_index.core")

import json
from typing import Any

from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from conformance import Adapter, Scored, pickled
from latewood.integrations.llama_index import LatewoodRerank, LatewoodRetriever


def nodes(ids: list[Any], texts: list[str]) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(id_=key, text=text)) for key, text in zip(ids, texts, strict=True)]


def scored(found: list[NodeWithScore]) -> Scored:
    return [(one.node.node_id, one.score) for one in found]


async def arerank(pipeline: LatewoodRerank, query: str, ids: list[Any], texts: list[str]) -> Scored:
    return scored(await pipeline.apostprocess_nodes(nodes(ids, texts), query_str=query))


async def aretrieve(pipeline: LatewoodRetriever, query: str) -> Scored:
    return scored(await pipeline.aretrieve(query))


def reload(pipeline: Any) -> Any:
    if isinstance(pipeline, LatewoodRerank):
        return LatewoodRerank.from_dict(json.loads(pickled(pipeline).to_json()))
    return pickled(pipeline)


ADAPTER = Adapter(
    by_text=lambda model, top_k: LatewoodRerank(model=model, top_n=top_k),
    by_id=lambda index, top_k: LatewoodRerank(index=index, top_n=top_k),
    rerank=lambda pipeline, query, ids, texts: scored(
        pipeline.postprocess_nodes(nodes(ids, texts), query_bundle=QueryBundle(query))
    ),
    retriever=LatewoodRetriever,
    retrieve=lambda pipeline, query: scored(pipeline.retrieve(query)),
    arerank=arerank,
    aretrieve=aretrieve,
    reload=reload,
)
