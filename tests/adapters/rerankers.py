import pytest

pytest.importorskip("rerankers")

from typing import Any

from rerankers import Reranker

from conformance import Adapter, Scored
from latewood.forms.values import count_of, optional
from latewood.integrations.rerankers import LatewoodRanker


class Top:
    """rerankers' results are cut by whoever reads them."""

    def __init__(self, ranker: LatewoodRanker, top_k: int | None) -> None:
        self.ranker = ranker
        self.top_k = optional(count_of, top_k, "top_k")

    def scored(self, results: Any) -> Scored:
        best = results.results if self.top_k is None else results.top_k(self.top_k)
        return [(result.doc_id, result.score) for result in best]


def by_text(model: Any, top_k: int | None) -> Top:
    return Top(
        Reranker(model, model_type="latewood", verbose=0) if isinstance(model, str) else LatewoodRanker(model), top_k
    )


async def arerank(pipeline: Top, query: str, ids: list[Any], texts: list[str]) -> Scored:
    return pipeline.scored(await pipeline.ranker.rank_async(query, texts, ids))


ADAPTER = Adapter(
    by_text=by_text,
    by_id=lambda index, top_k: Top(LatewoodRanker(index=index), top_k),
    rerank=lambda pipeline, query, ids, texts: pipeline.scored(pipeline.ranker.rank(query, texts, ids)),
    arerank=arerank,
    id_kinds=(str, int),
)
