"""What the suite in `test_conformance.py` must know of an adapter: how it is made, asked, and made again.

An adapter has a file in `tests/adapters` with the value `ADAPTER`. A call that the framework does not have is None, and
the suite leaves out what would use it. Documents come and go as ids and texts, so that nothing here knows a framework.
"""

import pickle
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latewood import Index, Reranker

Scored = list[tuple[Any, float]]
"""(id, score) pairs as the framework gave them, best first."""


def pickled(pipeline: Any) -> Any:
    return pickle.loads(pickle.dumps(pipeline))


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """The calls of one adapter.

    Attributes
    ----------
    by_text : callable (model, top_k) → pipeline
        Orders texts. `model` is a `Reranker` or the name of an encoder; `top_k` None means all.
    by_id : callable (index, top_k) → pipeline
        Orders documents of an index. `index` is an `Index` or a path.
    rerank : callable (pipeline, query, ids, texts) → Scored
        Hands the pipeline documents with these ids and texts. One that `by_id` made must not read texts.
    retriever : callable (index, k) → pipeline
    retrieve : callable (pipeline, query) → Scored
    arerank, aretrieve : the same, awaited
    reload : callable pipeline → pipeline
        Through whatever the framework writes pipelines with.
    counts : whether a pipeline is made with its `top_k`; where it is not, the framework's own call cuts.
    shares : whether a pipeline asks the very index that it was given, and not one of its own.
    id_kinds : kinds of ids that the framework's documents carry; others travel as str.
    repeats : whether a list of documents can have one id twice.
    """

    by_text: Callable[[Reranker | str, int | None], Any] | None = None
    by_id: Callable[[Index | str | Path, int | None], Any] | None = None
    rerank: Callable[[Any, str, list[Any], list[str]], Scored] | None = None
    retriever: Callable[[Index | str | Path, int], Any] | None = None
    retrieve: Callable[[Any, str], Scored] | None = None
    arerank: Callable[[Any, str, list[Any], list[str]], Awaitable[Scored]] | None = None
    aretrieve: Callable[[Any, str], Awaitable[Scored]] | None = None
    reload: Callable[[Any], Any] | None = pickled
    counts: bool = True
    shares: bool = True
    id_kinds: tuple[type, ...] = (str,)
    repeats: bool = True

    def carried(self, key: Any) -> Any:
        """Give an id as the framework's documents have it."""
        return key if isinstance(key, self.id_kinds) else str(key)
