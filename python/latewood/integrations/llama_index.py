"""LlamaIndex: a node postprocessor and a retriever (docs/integrations/llama_index.md)."""

import asyncio
from collections.abc import Mapping
from typing import Any

from latewood.common.packages import import_optional

import_optional("llama_index.core", extra="llama-index", purpose="the adapter for LlamaIndex")

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.bridge.pydantic import PrivateAttr, field_serializer
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from latewood.errors import InvalidInputError
from latewood.forms.values import count_of, flag_of, optional, text_of
from latewood.integrations.ranking import (
    Made,
    Source,
    name_of,
    options_of,
    ranked,
    searcher_of,
    source_of,
    written,
)

dispatcher = get_dispatcher(__name__)


class LatewoodRerank(BaseNodePostprocessor):
    """Puts nodes into the order of MaxSim: by the vectors that an index keeps of them, or by their texts.

    Parameters
    ----------
    index : Index or path-like, optional
        Holds the nodes under their `node_id`.
    model : Reranker, MultiVectorEncoder, Encoder or str, optional
        Scores what nodes have to embed, their text and metadata, which is encoded at each call. The encoder inside the
        wheel by default.
    top_n : int, optional
        How many nodes to give back; all by default.
    keep_retrieval_score : bool
        Keep the score that a node came with as metadata["retrieval_score"].
    id_key : str, optional
        The metadata field that holds a node's id in the index, in the place of `node_id`.
    options : mapping, optional
        Further keyword arguments of `Index.rerank` or `Reranker.rank`, such as `{"missing": "skip"}`.

    Raises
    ------
    InvalidInputError
        Both `index` and `model`, or an option that does not fit, at once; nodes without a query, when they come.
    UnknownIdError
        A node that the index does not hold, unless the option `missing` is "skip".
    """

    index: Any = None
    model: Any = None
    top_n: int | None = None
    keep_retrieval_score: bool = False
    id_key: str | None = None
    options: dict[str, Any]
    _source: Made[Source] = PrivateAttr()

    def __init__(
        self,
        *,
        index: Any = None,
        model: Any = None,
        top_n: int | None = None,
        keep_retrieval_score: bool = False,
        id_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        # pydantic would make a ValidationError of what these raise.
        source = source_of(index, model, options)
        super().__init__(
            index=index,
            model=model,
            top_n=optional(count_of, top_n, "top_n"),
            keep_retrieval_score=flag_of(keep_retrieval_score, "keep_retrieval_score"),
            id_key=optional(text_of, id_key, "id_key"),
            options=options_of(options),
            **fields,
        )
        self._source = Made(source_of, source, index, model)

    @classmethod
    def class_name(cls) -> str:
        """Give the name that stands for this class in what is serialised."""
        return "LatewoodRerank"

    @field_serializer("index", "model")
    def _written(self, given: Any) -> str | None:
        return written(given, "index or model")

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            message = "there is no query to rerank nodes for; pass query_bundle or query_str"
            raise InvalidInputError(message)
        if not nodes:
            return []
        source = self._source.of(self.index, self.model)
        query, name = query_bundle.query_str, name_of(source)
        top_n = len(nodes) if self.top_n is None else self.top_n
        dispatcher.event(ReRankStartEvent(query=query_bundle, nodes=nodes, top_n=top_n, model_name=name))
        told = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: name,
            EventPayload.QUERY_STR: query,
            EventPayload.TOP_K: top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=told) as event:
            pairs = ranked(
                source,
                query,
                nodes,
                key=self._id,
                content=lambda scored: scored.node.get_content(metadata_mode=MetadataMode.EMBED),
                top_k=self.top_n,
                options=self.options,
            )
            found = [self._scored(scored, score) for scored, score in pairs]
            event.on_end(payload={EventPayload.NODES: found})
        dispatcher.event(ReRankEndEvent(nodes=found))
        return found

    def _id(self, scored: NodeWithScore) -> Any:
        return scored.node.node_id if self.id_key is None else scored.node.metadata.get(self.id_key)

    def _scored(self, scored: NodeWithScore, score: float) -> NodeWithScore:
        """Give a node its score in a wrapper of its own: those that were given may be in use elsewhere."""
        node = scored.node
        if self.keep_retrieval_score:
            node = node.model_copy(update={"metadata": {**node.metadata, "retrieval_score": scored.score}})
        return NodeWithScore(node=node, score=score)


class LatewoodRetriever(BaseRetriever):
    """Searches an index; nodes have their id, text, metadata and score.

    Parameters
    ----------
    index : Index, path-like, or anything with a method `search` such as TwoStage
        With an encoder. The text of a document that the index does not keep is "".
    similarity_top_k : int
        How many nodes at most.
    options : mapping, optional
        Further keyword arguments of `search`, such as `{"filter": {"lang": "en"}}`.
    **arguments
        Those of LlamaIndex's `BaseRetriever`, such as `callback_manager`.

    Raises
    ------
    InvalidInputError
        What is no index, a number that is no count, or an option that does not fit, at once.
    """

    def __init__(
        self, index: Any, similarity_top_k: int = 10, *, options: Mapping[str, Any] | None = None, **arguments: Any
    ) -> None:
        self._searcher = searcher_of(index, options)
        self.similarity_top_k = count_of(similarity_top_k, "similarity_top_k")
        self._options = options_of(options)
        super().__init__(**arguments)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self._searcher.search(query_bundle.query_str, **{"k": self.similarity_top_k, **self._options})
        return [
            NodeWithScore(
                node=TextNode(id_=str(hit.id), text=hit.text or "", metadata=dict(hit.metadata or {})), score=hit.score
            )
            for hit in hits
        ]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        # LlamaIndex's own would search in the event loop.
        return await asyncio.to_thread(self._retrieve, query_bundle)
