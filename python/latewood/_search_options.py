"""What a search may choose, as a type for keyword arguments."""

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from latewood._typing import Gather, Id, ScoreKind
from latewood.feedback import Feedback


class SearchOptions(TypedDict, total=False):
    """Keyword arguments that `search` and `search_batch` share; described at `Searcher.search`."""

    filter: Mapping[str, Any] | None
    ids: Iterable[Id] | None
    weights: Any
    gather: Gather | None
    candidates: int | None
    probes: int | None
    threshold: float | None
    feedback: Feedback | None
    score: ScoreKind
    with_documents: bool
    threads: int | None
