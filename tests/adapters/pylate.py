from pathlib import Path
from typing import Any

from conformance import Adapter, Scored
from latewood import Index, Reranker
from latewood.encode.protocol import encode_documents, encode_queries
from latewood.integrations.pylate import LatewoodIndex, rerank

Cut = tuple[Reranker, int | None]


def by_text(model: Any, top_k: int | None) -> Cut:
    return (model if isinstance(model, Reranker) else Reranker(model), top_k)


def rerank_texts(pipeline: Cut, query: str, ids: list[Any], texts: list[str]) -> Scored:
    reranker, top_k = pipeline
    queries, documents = encode_queries(reranker.encoder, [query]), encode_documents(reranker.encoder, texts)
    (found,) = rerank([ids], queries, [documents])
    return [(entry["id"], entry["score"]) for entry in found][:top_k]


def retriever(index: Index | str | Path, k: int) -> tuple[LatewoodIndex, Any, int]:
    opened = index if isinstance(index, Index) else Index.open(index)
    path = Path(opened.path)
    return LatewoodIndex(path.parent, path.name), opened.encoder, k


def retrieve(pipeline: tuple[LatewoodIndex, Any, int], query: str) -> Scored:
    index, encoder, k = pipeline
    (found,) = index(encode_queries(encoder, [query]), k)
    return [(entry["id"], entry["score"]) for entry in found]


ADAPTER = Adapter(
    by_text=by_text,
    rerank=rerank_texts,
    retriever=retriever,
    retrieve=retrieve,
    counts=False,
    id_kinds=(str, int),
)
