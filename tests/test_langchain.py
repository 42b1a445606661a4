"""What LangChain's users meet beyond the conformance suite: metadata, copies, chains."""

import asyncio
import pickle
from pathlib import Path
from typing import Any

import pytest

from latewood import CallableFirstStage, Index, Reranker, TwoStage
from latewood.errors import InvalidInputError, UnknownIdError
from support import TEXTS, HashEncoder

pytest.importorskip("langchain_core")

from langchain_core.documents import Document
from langchain_core.runnables import ConfigurableField, RunnableParallel, RunnablePassthrough

from latewood.integrations.langchain import LatewoodRerank, LatewoodRetriever

QUERY = "capital of germany"


@pytest.fixture
def documents() -> list[Document]:
    return [Document(text, id=key, metadata={"from": key}) for key, text in TEXTS.items()]


@pytest.fixture
def compressor() -> LatewoodRerank:
    return LatewoodRerank(model=Reranker(HashEncoder()), top_n=2)


def test_documents_are_copied_with_their_score(compressor: LatewoodRerank, documents: list[Document]) -> None:
    before = [document.model_copy(deep=True) for document in documents]
    best = compressor.compress_documents(documents, QUERY)
    assert documents == before
    assert best[0].id == "berlin"
    assert best[0].metadata["from"] == "berlin"
    assert best[0].metadata["relevance_score"] == Reranker(HashEncoder()).predict((QUERY, TEXTS["berlin"]))
    assert compressor.compress_documents(tuple(documents), QUERY) == best
    # A document that was reranked before gets its new score.
    again = compressor.compress_documents(best, "france")
    assert again[0].id == "paris"
    assert again[0].metadata["relevance_score"] == pytest.approx(1.0, rel=1e-5)


def test_ids_in_metadata(text_index: Index, documents: list[Document]) -> None:
    foreign = [document.model_copy(update={"id": f"chunk-{place}"}) for place, document in enumerate(documents)]
    stored = LatewoodRerank(index=text_index, id_key="from")
    assert [document.metadata["from"] for document in stored.compress_documents(foreign, QUERY)] == [
        hit.id for hit in text_index.rerank(QUERY, list(TEXTS))
    ]
    with pytest.raises(InvalidInputError, match="position 1 has no id"):
        stored.compress_documents([foreign[0], Document("no metadata")], QUERY)
    with pytest.raises(InvalidInputError, match="position 0 has no id"):
        LatewoodRerank(index=text_index).compress_documents([Document("no id")], QUERY)


def test_options_reach_the_index(text_index: Index, documents: list[Document]) -> None:
    strangers = [*documents, Document("nobody", id="nobody")]
    with pytest.raises(UnknownIdError):
        LatewoodRerank(index=text_index).compress_documents(strangers, QUERY)
    skipping = LatewoodRerank(index=text_index, options={"missing": "skip", "filter": {"words": {"lt": 7}}})
    assert {document.id for document in skipping.compress_documents(strangers, QUERY)} == {"paris", "berlin"}
    early = LatewoodRerank(index=text_index, top_n=1, options={"beta": 1})
    best = text_index.rerank(QUERY, list(TEXTS), k=1, beta=1)
    assert [document.id for document in early.compress_documents(documents, QUERY)] == [hit.id for hit in best]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"index": "somewhere", "model": "latewood/nano-en"}, "both given"),
        ({"index": 3}, "index is a int"),
        ({"options": {"top": 3}}, "options"),
        ({"options": {"threads": 0}}, "threads"),
        ({"options": {"top_k": 3}}, "top_k"),
        ({"options": ["missing"]}, "options"),
        ({"id_key": 3}, "id_key"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        LatewoodRerank(**arguments)


def test_options_of_an_index_are_checked_at_once(text_index: Index) -> None:
    for options, message in (({"missing": "drop"}, "missing"), ({"top": 3}, "top"), ({"beta": 0}, "beta")):
        with pytest.raises(InvalidInputError, match=message):
            LatewoodRerank(index=text_index, options=options)
    with pytest.raises(InvalidInputError, match="index is a list"):
        LatewoodRetriever(index=[])
    for options, message in (({"recall": 2}, "recall"), ({"top": 3}, "top"), ({"k": 3}, "k")):
        with pytest.raises(InvalidInputError, match=message):
            LatewoodRetriever(index=text_index, options=options)
    everything = {"ids": ["fox", "paris"], "with_documents": False}
    (best, _) = LatewoodRetriever(index=text_index, options=everything).invoke("fox")
    assert (best.id, best.page_content) == ("fox", "")


def test_a_retriever_gives_what_is_stored(text_index: Index) -> None:
    retriever = LatewoodRetriever(index=text_index, k=2, options={"filter": {"words": {"lt": 7}}})
    (first, second) = retriever.invoke(QUERY)
    assert (first.id, first.page_content) == ("berlin", TEXTS["berlin"])
    assert first.metadata == {"words": 6, "relevance_score": text_index.search(QUERY)[0].score}
    assert second.id == "paris"
    # Options of one call win.
    assert [document.id for document in retriever.invoke("fox", k=1, filter=None)] == ["fox"]
    assert asyncio.run(retriever.ainvoke("fox", k=1, filter=None)) == retriever.invoke("fox", k=1, filter=None)
    assert [[document.id for document in found] for found in retriever.batch([QUERY, "france"])] == [
        ["berlin", "paris"],
        ["paris", "berlin"],
    ]
    field = retriever.configurable_fields(k=ConfigurableField(id="k"))
    assert len(field.with_config(configurable={"k": 1}).invoke(QUERY)) == 1


def test_an_index_without_texts_gives_documents_without(tmp_path: Path) -> None:
    encoder = HashEncoder()
    with Index.create(tmp_path / "vectors", encoder=encoder) as index:
        index.add([1, 2], vectors=encoder.encode_document(["a fox", "an owl"]))
        (best, _) = LatewoodRetriever(index=index).invoke("fox")
        assert (best.id, best.page_content) == ("1", "")


def test_two_stages_are_a_retriever(text_index: Index) -> None:
    stages = TwoStage(CallableFirstStage(lambda query, k: ["rings", "paris"][:k]), text_index)
    assert [document.id for document in LatewoodRetriever(index=stages).invoke(QUERY)] == ["paris", "rings"]


def test_a_contextual_compression_retriever(text_index: Index, compressor: LatewoodRerank) -> None:
    classic = pytest.importorskip("langchain_classic.retrievers")
    both = classic.ContextualCompressionRetriever(
        base_compressor=compressor, base_retriever=LatewoodRetriever(index=text_index)
    )
    assert [document.id for document in both.invoke(QUERY)] == ["berlin", "paris"]
    assert asyncio.run(both.ainvoke(QUERY)) == both.invoke(QUERY)


def test_a_chain(text_index: Index, compressor: LatewoodRerank) -> None:
    retriever = LatewoodRetriever(index=text_index)
    chain = RunnableParallel(query=RunnablePassthrough(), documents=retriever) | compressor.as_runnable()
    assert [document.id for document in chain.invoke(QUERY)] == ["berlin", "paris"]
    assert asyncio.run(chain.ainvoke(QUERY)) == chain.invoke(QUERY)
    assert chain.batch([QUERY, "fox"])[1][0].id == "fox"
    assert next(iter(chain.stream(QUERY)))[0].id == "berlin"
    part = pickle.loads(pickle.dumps(compressor.as_runnable()))
    documents = retriever.invoke(QUERY)
    assert part.invoke({"query": QUERY, "documents": documents}) == chain.invoke(QUERY)
    with pytest.raises(InvalidInputError, match="'query' and 'documents'"):
        part.invoke(documents)


def test_a_compressor_can_be_changed_and_copied(compressor: LatewoodRerank, documents: list[Document]) -> None:
    compressor.top_n = 1
    assert len(compressor.compress_documents(documents, QUERY)) == 1
    for copy in (compressor.model_copy(deep=True), pickle.loads(pickle.dumps(compressor))):
        assert copy.compress_documents(documents, QUERY) == compressor.compress_documents(documents, QUERY)
    compressor.top_n = 0
    with pytest.raises(InvalidInputError, match="top_k"):
        compressor.compress_documents(documents, QUERY)
