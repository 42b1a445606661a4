"""What Haystack's users meet beyond the conformance suite: pipelines, YAML, filters, token vectors."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from latewood import Index, Reranker
from latewood.errors import InvalidInputError
from support import TEXTS, HashEncoder

pytest.importorskip("haystack")

from haystack import Document, Pipeline
from haystack.utils.filters import document_matches_filter

from latewood.integrations.haystack import LatewoodRanker, LatewoodRetriever

QUERY = "capital of germany"


@pytest.fixture
def documents() -> list[Document]:
    return [Document(id=key, content=text, meta={"from": key}, score=0.25) for key, text in TEXTS.items()]


@pytest.fixture
def ranker() -> LatewoodRanker:
    return LatewoodRanker(model=Reranker(HashEncoder()), top_k=2)


def test_documents_are_copied(ranker: LatewoodRanker, documents: list[Document]) -> None:
    best = ranker.run(query=QUERY, documents=documents)["documents"]
    assert [(document.id, document.meta) for document in best] == [
        ("berlin", {"from": "berlin"}),
        ("paris", {"from": "paris"}),
    ]
    assert {document.score for document in documents} == {0.25}
    assert len(ranker.run(query=QUERY, documents=documents, top_k=4)["documents"]) == 4
    with pytest.raises(InvalidInputError, match="top_k"):
        ranker.run(query=QUERY, documents=documents, top_k=0)


def test_warming_up_loads_the_model(text_index: Index, tmp_path: Path) -> None:
    encoder = HashEncoder()
    LatewoodRanker(model=encoder).warm_up()
    assert encoder.calls == 1
    LatewoodRanker(index=text_index).warm_up()
    with Index.create(tmp_path / "vectors", dim=16) as index:
        LatewoodRanker(index=index).warm_up()


def test_a_document_without_content(ranker: LatewoodRanker) -> None:
    with pytest.raises(InvalidInputError, match="position 1 is a NoneType"):
        ranker.run([Document(content="a fox"), Document(meta={"a": 1})], "fox")


def test_token_vectors_of_the_query(text_index: Index, documents: list[Document]) -> None:
    vectors = HashEncoder().encode_query([QUERY])[0].tolist()
    stored = LatewoodRanker(index=text_index)
    assert stored.run(documents=documents, query_multivector_embedding=vectors) == stored.run(documents, QUERY)
    retriever = LatewoodRetriever(text_index)
    assert retriever.run(query_multivector_embedding=vectors) == retriever.run(QUERY)
    for call in (lambda **query: stored.run(documents, **query), retriever.run):
        with pytest.raises(InvalidInputError, match="neither is given"):
            call()
        with pytest.raises(InvalidInputError, match="both are given"):
            call(query=QUERY, query_multivector_embedding=vectors)


def test_documents_with_token_vectors_of_their_own(documents: list[Document]) -> None:
    encoder = HashEncoder()
    for document in documents:
        # A field of Haystack's documents from 3.5 on.
        document.multivector_embedding = encoder.encode_document([document.content])[0].tolist()
    vectors = encoder.encode_query([QUERY])[0].tolist()
    found = LatewoodRanker().run(documents=documents, query_multivector_embedding=vectors)["documents"]
    wanted = LatewoodRanker(model=Reranker(encoder)).run(documents=documents, query=QUERY)["documents"]
    assert [(one.id, one.score) for one in found] == [(one.id, one.score) for one in wanted]
    with pytest.raises(InvalidInputError):
        LatewoodRanker().run(documents=[Document(content="plain")], query_multivector_embedding=vectors)


def test_ids_in_meta(text_index: Index, documents: list[Document]) -> None:
    foreign = [Document(content="", meta=document.meta) for document in documents]
    found = LatewoodRanker(index=text_index, id_key="from").run(foreign, QUERY)["documents"]
    assert [one.meta["from"] for one in found] == [hit.id for hit in text_index.rerank(QUERY, list(TEXTS))]


def pipeline(index: Any) -> Pipeline:
    both = Pipeline()
    both.add_component("retriever", LatewoodRetriever(index, top_k=3, filters=AT_MOST_SIX, filter_policy="merge"))
    both.add_component("ranker", LatewoodRanker(index=index, top_k=1, options={"missing": "skip"}))
    both.connect("retriever", "ranker")
    return both


AT_MOST_SIX = {"field": "meta.words", "operator": "<=", "value": 6}


def test_a_pipeline_and_its_yaml(tmp_path: Path) -> None:
    with Index.create(tmp_path / "nano") as index:
        index.add(list(TEXTS), texts=list(TEXTS.values()), metadata=[{"words": len(t.split())} for t in TEXTS.values()])
        asked = {"retriever": {"query": QUERY}, "ranker": {"query": QUERY}}
        answer = pipeline(index).run(asked)
        assert [document.id for document in answer["ranker"]["documents"]] == ["berlin"]
        text = pipeline(index).dumps()
        assert "type: haystack_integrations.components.rankers.latewood.ranker.LatewoodRanker" in text
        again = Pipeline.loads(text)
        assert again.run(asked) == answer
        assert again.dumps() == text
        told = LatewoodRetriever(index, filters=AT_MOST_SIX).to_dict()
        assert LatewoodRetriever.from_dict(json.loads(json.dumps(told))).to_dict() == told


def test_an_asynchronous_pipeline(text_index: Index) -> None:
    both = Pipeline()
    both.add_component("retriever", LatewoodRetriever(text_index))
    both.add_component("ranker", LatewoodRanker(index=text_index, top_k=2))
    both.connect("retriever", "ranker")
    answer = asyncio.run(both.run_async({"retriever": {"query": QUERY}, "ranker": {"query": QUERY}}))
    assert [document.id for document in answer["ranker"]["documents"]] == ["berlin", "paris"]


def test_a_model_that_is_an_object_cannot_be_written(ranker: LatewoodRanker) -> None:
    with pytest.raises(InvalidInputError, match="model is a Reranker, which cannot be written down"):
        ranker.to_dict()


# ── filters ──────────────────────────────────────────────────────────────────────────────────────────────────────────

METAS: list[dict[str, Any]] = [
    {"lang": "en", "year": 1968, "author": {"name": "Knuth"}, "and": 1},
    {"lang": "en", "year": 2020, "author": {"name": "Khattab"}},
    {"lang": "de", "year": 2024},
    {"lang": None, "and": 2},
    {},
]


def where(field: str, operator: str, value: Any) -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


FILTERS: list[dict[str, Any]] = [
    where("meta.lang", "==", "en"),
    where("lang", "==", "en"),
    where("meta.lang", "==", None),
    where("meta.lang", "!=", "en"),
    where("meta.year", ">", 1968),
    where("meta.year", ">=", 2020),
    where("meta.year", "<", 2020),
    where("meta.year", "<=", 2020),
    where("meta.year", "in", [1968, 2024]),
    where("meta.year", "not in", [1968, 2024]),
    where("meta.year", "in", []),
    where("meta.author.name", "==", "Knuth"),
    where("meta.and", "==", 1),
    {"operator": "AND", "conditions": [where("meta.lang", "==", "en"), where("meta.year", ">", 2000)]},
    {"operator": "OR", "conditions": [where("meta.lang", "==", "de"), where("meta.year", "<", 2000)]},
    {"operator": "NOT", "conditions": [where("meta.lang", "==", "en"), where("meta.year", ">", 2000)]},
    {
        "operator": "AND",
        "conditions": [
            {"operator": "NOT", "conditions": [where("meta.lang", "==", "de")]},
            {"operator": "OR", "conditions": [where("meta.year", "==", 2020), where("meta.and", "!=", None)]},
        ],
    },
]


@pytest.fixture
def papers(tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "papers", encoder=HashEncoder())
    index.add([str(place) for place in range(len(METAS))], texts=["a fox"] * len(METAS), metadata=METAS)
    return index


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_filters_mean_what_they_mean_to_haystack(papers: Index, filters: dict[str, Any]) -> None:
    wanted = {
        str(place)
        for place, meta in enumerate(METAS)
        if document_matches_filter(filters, Document(id=str(place), content="a fox", meta=meta))
    }
    for found in (
        LatewoodRetriever(papers, filters=filters).run("fox"),
        LatewoodRetriever(papers).run("fox", filters=filters),
    ):
        assert {document.id for document in found["documents"]} == wanted


def test_filters_of_a_call_replace_or_join(papers: Index) -> None:
    english, late = where("meta.lang", "==", "en"), where("meta.year", ">", 2000)
    replacing = LatewoodRetriever(papers, filters=english)
    assert {one.id for one in replacing.run("fox", filters=late)["documents"]} == {"1", "2"}
    joining = LatewoodRetriever(papers, filters=english, filter_policy="merge")
    assert {one.id for one in joining.run("fox", filters=late)["documents"]} == {"1"}


def test_a_filter_among_the_options_always_holds(papers: Index) -> None:
    english = LatewoodRetriever(papers, options={"filter": {"lang": "en"}})
    assert {one.id for one in english.run("fox")["documents"]} == {"0", "1"}
    late = where("meta.year", ">", 2000)
    assert {one.id for one in english.run("fox", filters=late)["documents"]} == {"1"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"lang": "en"},
        "meta.lang == en",
        {"operator": "XOR", "conditions": []},
        {"operator": "AND"},
        where("meta.lang", "~", "en"),
        {"field": "meta.lang", "operator": "=="},
        {"operator": "AND", "conditions": [{"lang": "en"}]},
        where("meta.lang", "==", ["en"]),
        {"operator": "NOT", "conditions": [where("id", "in", ["0"])]},
        where("content", "!=", "a fox"),
        where("meta", "==", None),
    ],
    ids=str,
)
def test_filters_in_another_form_are_refused_at_once(papers: Index, wrong: Any) -> None:
    for make in (
        lambda: LatewoodRetriever(papers, filters=wrong),
        lambda: LatewoodRetriever(papers).run("fox", filters=wrong),
    ):
        with pytest.raises(InvalidInputError, match="filter"):
            make()
