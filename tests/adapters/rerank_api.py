from functools import partial
from typing import Any

from conformance import Adapter, Scored
from latewood.forms.values import count_of, optional
from latewood.integrations.rerank_api import RerankClient


class Top:
    """The shape has no count of its own: each call names it."""

    def __init__(self, top_k: int | None, **source: Any) -> None:
        self.call = partial(RerankClient(**source).rerank, top_n=optional(count_of, top_k, "top_n"))


def rerank(pipeline: Top, query: str, ids: list[Any], texts: list[str]) -> Scored:
    documents = [{"id": key, "text": text} for key, text in zip(ids, texts, strict=True)]
    return [(ids[result["index"]], result["relevance_score"]) for result in pipeline.call(query, documents)["results"]]


ADAPTER = Adapter(
    by_text=lambda model, top_k: Top(top_k, model=model),
    by_id=lambda index, top_k: Top(top_k, index=index),
    rerank=rerank,
    id_kinds=(str, int),
)
