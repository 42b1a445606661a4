import pytest

pytest.importorskip("mteb")

from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from datasets import Dataset

from conformance import Adapter, Scored
from latewood import Index
from latewood.integrations.mteb import LatewoodSearch

Cut = tuple[LatewoodSearch, int]
TASK: dict[str, Any] = {
    "task_metadata": SimpleNamespace(name="task", modalities=["text"], revision="1"),
    "hf_split": "test",
    "hf_subset": "default",
    "encode_kwargs": {},
    "num_proc": None,
}


def by_id(index: Index | str | Path, top_k: int | None) -> Cut:
    """MTEB's models make indexes of their own: one with the texts and the encoder of `index`."""
    opened = index if isinstance(index, Index) else Index.open(index)
    documents = opened.documents(opened.ids())
    corpus = Dataset.from_dict({"id": [str(one.id) for one in documents], "text": [one.text for one in documents]})
    model = LatewoodSearch(opened.encoder)
    model.index(corpus, **TASK)
    if documents:
        # Threads may ask it as soon as all is encoded.
        model.search(Dataset.from_dict({"id": ["q"], "text": [documents[0].text]}), top_k=1, **TASK)
    return model, len(corpus) if top_k is None else top_k


@lru_cache(64)
def asked(query: str) -> Dataset:
    """Make a dataset of it, which takes longer than a search, and is the caller's affair."""
    return Dataset.from_dict({"id": ["q"], "text": [query]})


def search(pipeline: Cut, query: str, ids: list[Any] | None = None, texts: list[str] | None = None) -> Scored:
    model, top_k = pipeline
    found = model.search(asked(query), top_k=max(1, top_k), top_ranked=None if ids is None else {"q": ids}, **TASK)
    return list(found["q"].items())


ADAPTER = Adapter(
    by_id=by_id,
    rerank=search,
    retriever=by_id,
    retrieve=search,
    reload=None,
    counts=False,
    shares=False,
    repeats=False,
)
