import pytest

pytest.importorskip("pyterrier")

from functools import lru_cache
from typing import Any

import pandas as pd

from conformance import Adapter, Scored
from latewood.integrations.pyterrier import Retriever, Scorer


@lru_cache(64)
def frame(query: str, ids: tuple[Any, ...], texts: tuple[str, ...]) -> pd.DataFrame:
    """Make what another transformer gives; a second call finds it as it was, or the first one has changed it."""
    return pd.DataFrame({"qid": ["q"] * len(ids), "query": [query] * len(ids), "docno": ids, "text": texts})


def rerank(pipeline: Scorer, query: str, ids: list[Any], texts: list[str]) -> Scored:
    return scored(pipeline(frame(query, tuple(ids), tuple(texts))))


def scored(found: pd.DataFrame) -> Scored:
    assert found["rank"].tolist() == list(range(len(found)))
    return list(zip(found["docno"], found["score"], strict=True))


ADAPTER = Adapter(
    by_text=lambda model, top_k: Scorer(model=model, num_results=top_k),
    by_id=lambda index, top_k: Scorer(index, num_results=top_k),
    rerank=rerank,
    retriever=Retriever,
    retrieve=lambda pipeline, query: scored(pipeline.search(query)),
)
