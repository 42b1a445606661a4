"""What LlamaIndex's users meet beyond the conformance suite: events, scores of zero, metadata."""

from typing import Any

import pytest

from latewood import Index, Reranker
from latewood.errors import InvalidInputError
from support import TEXTS, HashEncoder

pytest.importorskip("llama_index.core")

from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from latewood.integrations.llama_index import LatewoodRerank, LatewoodRetriever

QUERY = "capital of germany"


@pytest.fixture
def nodes() -> list[NodeWithScore]:
    return [
        NodeWithScore(node=TextNode(id_=key, text=text, metadata={"from": key}), score=0.25)
        for key, text in TEXTS.items()
    ]


@pytest.fixture
def postprocessor() -> LatewoodRerank:
    return LatewoodRerank(model=Reranker(HashEncoder()), top_n=2)


def test_nodes_are_left_alone(postprocessor: LatewoodRerank, nodes: list[NodeWithScore]) -> None:
    best = postprocessor.postprocess_nodes(nodes, query_str=QUERY)
    assert [one.node_id for one in best] == ["berlin", "paris"]
    assert {one.score for one in nodes} == {0.25}
    assert best[0].node is nodes[list(TEXTS).index("berlin")].node
    keeping = LatewoodRerank(model=Reranker(HashEncoder()), keep_retrieval_score=True)
    assert keeping.postprocess_nodes(nodes, query_str=QUERY)[0].metadata == {"from": "berlin", "retrieval_score": 0.25}
    assert all(set(one.metadata) == {"from"} for one in nodes)


def test_what_a_node_has_to_embed_is_scored(postprocessor: LatewoodRerank) -> None:
    node = TextNode(id_="a", text="nothing", metadata={"town": "berlin", "secret": "fox"})
    node.excluded_embed_metadata_keys = ["secret"]
    (one,) = postprocessor.postprocess_nodes([NodeWithScore(node=node)], query_str="berlin fox")
    text = node.get_content(metadata_mode=MetadataMode.EMBED)
    assert one.score == Reranker(HashEncoder()).predict(("berlin fox", text))


class Fixed:
    """Gives each text one number as its only vector, so that scores are what they are made to be."""

    dim = 16

    def encode_query(self, inputs: list[str], /) -> Any:
        return [[[1.0] + [0.0] * 15] for _ in inputs]

    def encode_document(self, inputs: list[str], /) -> Any:
        return [[[float(text)] + [0.0] * 15] for text in inputs]


def test_scores_of_zero_and_less_have_their_place() -> None:
    given = ["-1", "0", "2", "-3", "0", "1"]
    nodes = [NodeWithScore(node=TextNode(id_=str(place), text=text)) for place, text in enumerate(given)]
    found = LatewoodRerank(model=Fixed()).postprocess_nodes(nodes, query_str="any")
    assert [one.score for one in found] == [2.0, 1.0, 0.0, 0.0, -1.0, -3.0]
    assert [one.node_id for one in found] == ["2", "5", "1", "4", "0", "3"]


def test_a_query_is_needed(postprocessor: LatewoodRerank, nodes: list[NodeWithScore]) -> None:
    with pytest.raises(InvalidInputError, match="no query"):
        postprocessor.postprocess_nodes(nodes)
    with pytest.raises(InvalidInputError, match="keep_retrieval_score"):
        LatewoodRerank(keep_retrieval_score=1)  # type: ignore[arg-type]


class Listener(BaseEventHandler):  # type: ignore[misc]
    events: list[Any] = []  # noqa: RUF012  pydantic copies it

    @classmethod
    def class_name(cls) -> str:
        return "Listener"

    def handle(self, event: Any, **_: Any) -> None:
        self.events.append(event)


def test_events(nodes: list[NodeWithScore], text_index: Index) -> None:
    debug, listener, root = LlamaDebugHandler(print_trace_on_end=False), Listener(), get_dispatcher()
    postprocessor = LatewoodRerank(index=text_index, top_n=3, callback_manager=CallbackManager([debug]))
    root.add_event_handler(listener)
    try:
        found = postprocessor.postprocess_nodes(nodes, query_str=QUERY)
    finally:
        root.event_handlers.remove(listener)
    (start,) = [event for event in listener.events if isinstance(event, ReRankStartEvent)]
    assert (start.top_n, start.model_name, len(start.nodes)) == (3, "hash", len(nodes))
    (end,) = [event for event in listener.events if isinstance(event, ReRankEndEvent)]
    assert [one.node_id for one in end.nodes] == [one.node_id for one in found]
    ((begun, ended),) = debug.get_event_pairs(CBEventType.RERANKING)
    assert begun.payload["query_str"] == QUERY
    assert len(ended.payload["nodes"]) == 3


def test_ids_in_metadata(text_index: Index, nodes: list[NodeWithScore]) -> None:
    foreign = [NodeWithScore(node=TextNode(text="", metadata={"from": one.node_id}), score=one.score) for one in nodes]
    found = LatewoodRerank(index=text_index, id_key="from").postprocess_nodes(foreign, query_str=QUERY)
    assert [one.metadata["from"] for one in found] == [hit.id for hit in text_index.rerank(QUERY, list(TEXTS))]


def test_what_is_serialised(text_index: Index) -> None:
    options = {"missing": "skip"}
    told = LatewoodRerank(index=text_index, top_n=4, options=options).to_dict()
    assert told["index"] == text_index.path
    assert told["top_n"] == 4
    assert told["options"] == options
    assert told["class_name"] == "LatewoodRerank"
    with pytest.raises(Exception, match="cannot be written down"):
        LatewoodRerank(model=Reranker(HashEncoder())).to_dict()


def test_a_retriever_in_a_query_engine(text_index: Index, postprocessor: LatewoodRerank) -> None:
    from llama_index.core.llms.mock import MockLLM
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.response_synthesizers.no_text import NoText

    retriever = LatewoodRetriever(text_index, options={"filter": {"words": {"lt": 7}}})
    found = retriever.retrieve(QUERY)
    assert found[0].metadata == {"words": 6}
    assert found[0].text == TEXTS["berlin"]
    assert found[0].score == text_index.search(QUERY)[0].score
    engine = RetrieverQueryEngine(
        retriever=LatewoodRetriever(text_index),
        node_postprocessors=[postprocessor],
        response_synthesizer=NoText(llm=MockLLM()),
    )
    assert [one.node_id for one in engine.query(QUERY).source_nodes] == ["berlin", "paris"]
