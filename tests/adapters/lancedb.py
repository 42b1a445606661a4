import pytest

pytest.importorskip("lancedb")

from typing import Any

import pyarrow as pa

from conformance import Adapter, Scored
from latewood.integrations.lancedb import LatewoodReranker

Cut = tuple[LatewoodReranker, int | None]


def rerank(pipeline: Cut, query: str, ids: list[Any], texts: list[str]) -> Scored:
    reranker, top_k = pipeline
    kind = pa.int64() if ids and isinstance(ids[0], int) else pa.string()
    table = pa.table({"id": pa.array(ids, kind), "text": pa.array(texts, pa.string()), "_score": [1.0] * len(ids)})
    found = reranker.rerank_fts(query, table)
    assert found.column_names == ["id", "text", "_relevance_score"]
    return list(zip(found["id"].to_pylist(), found["_relevance_score"].to_pylist(), strict=True))[:top_k]


ADAPTER = Adapter(
    by_text=lambda model, top_k: (LatewoodReranker(model=model), top_k),
    by_id=lambda index, top_k: (LatewoodReranker(index=index), top_k),
    rerank=rerank,
    counts=False,
    id_kinds=(str, int),
)
