import pytest

pytest.importorskip("beir")

from typing import Any

from conformance import Adapter, Scored
from latewood.integrations.beir import LatewoodRerank, LatewoodSearch

Cut = tuple[LatewoodRerank, int | None]


def rerank(pipeline: Cut, query: str, ids: list[Any], texts: list[str]) -> Scored:
    reranker, top_k = pipeline
    corpus = {key: {"text": text} for key, text in zip(ids, texts, strict=True)}
    results = {"q": {key: 1.0 / (1 + place) for place, key in enumerate(ids)}}
    found = reranker.rerank(corpus, {"q": query}, results, max(1, len(ids)))
    assert found == reranker.rerank_results
    return list(found["q"].items())[:top_k]


def retrieve(pipeline: tuple[LatewoodSearch, int], query: str) -> Scored:
    search, k = pipeline
    assert search.index is not None
    corpus = {str(key): {"title": "", "text": "nothing"} for key in search.index.ids()}
    return list(search.search(corpus, {"query": query}, k, "cos_sim")["query"].items())


ADAPTER = Adapter(
    by_text=lambda model, top_k: (LatewoodRerank(model=model), top_k),
    by_id=lambda index, top_k: (LatewoodRerank(index=index), top_k),
    rerank=rerank,
    retriever=lambda index, k: (LatewoodSearch(index=index), k),
    retrieve=retrieve,
    counts=False,
    repeats=False,
)
