"""From the candidates of first stages to hits: what `TwoStage` and `Hybrid` have in common."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from time import perf_counter
from typing import Any, ClassVar, cast

import numpy as np

from latewood.common.types import IdSequence, VectorInput
from latewood.encode.protocol import checked_texts
from latewood.errors import InvalidInputError, LatewoodError
from latewood.forms.candidates import ScoreArray
from latewood.forms.ids import plain_ids
from latewood.forms.ragged import Ragged, to_ragged
from latewood.forms.values import flag_of, optional
from latewood.index.index import Index, checked_index
from latewood.index.options import RerankOptions
from latewood.index.results import Hits
from latewood.rerank.first_stages.protocol import texts_of
from latewood.rerank.fusion import Fusion, fuse
from latewood.rerank.options import HybridOptions
from latewood.rerank.overlap import overlapped

MOST_AT_ONCE = 64
LEAST_AT_ONCE = 8
PARTS = 8
"""A batch goes through the stages in so many parts, of at least and at most so many queries."""
MAXSIM = "maxsim"
"""What the index's own score is called among those of several stages."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates of one query.

    Attributes
    ----------
    ids : IdSequence
        Each once.
    order : float64 array [candidates], or None
        First-stage scores as a whole; without them the ids are in order.
    scores : mapping of stage to float64 array [candidates]
        NaN where a stage gave none.
    ranked : mapping of stage to float64 array [candidates]
        Of stages that gave an order and no scores: falling numbers.
    seconds : mapping of stage to float
        What it took to find them.
    """

    ids: IdSequence
    order: ScoreArray | None = None
    scores: dict[str, ScoreArray] = field(default_factory=dict)
    ranked: dict[str, ScoreArray] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries of one call, or some of them: `start` is the first one's place in the call."""

    texts: list[str]
    vectors: Any
    weights: Any
    filter: Any
    start: int = 0

    def parts(self) -> list["Asked"]:
        """Divide the queries. Weights that lie flat can be told apart only after all texts are encoded."""
        count = len(self.texts)
        size = max(count, 1) if self.weights is not None else min(MOST_AT_ONCE, max(LEAST_AT_ONCE, -(-count // PARTS)))
        return [self._rows(start, min(start + size, count)) for start in range(0, count, size)]

    def _rows(self, start: int, stop: int) -> "Asked":
        vectors = self.vectors
        if vectors is not None:
            bounds = vectors.offsets[start : stop + 1]
            vectors = Ragged(vectors.values[bounds[0] : bounds[-1]], bounds - bounds[0])
        own_filter = self.filter[start:stop] if isinstance(self.filter, (list, tuple)) else self.filter
        return replace(self, texts=self.texts[start:stop], vectors=vectors, filter=own_filter, start=start)


class Stages:
    """An index behind one or more first stages."""

    options: ClassVar[type[HybridOptions]]
    """What a call may choose."""

    def __init__(self, index: Index, **defaults: Any) -> None:
        self.index = checked_index(index)
        self._defaults = defaults
        self.options.of(k=1, **defaults)

    def __repr__(self) -> str:
        """Say which stages there are, and what is no default."""
        usual = self.options(k=1)
        chosen = [f"{name}={value!r}" for name, value in self._defaults.items() if value != getattr(usual, name)]
        return f"{type(self).__name__}({', '.join([*self._shown(), *chosen])})"

    def _shown(self) -> Iterator[str]:
        """Give what `repr` tells of the stages."""
        raise NotImplementedError

    def _find(self, asked: Asked, options: HybridOptions) -> tuple[Asked, list[Pool]]:
        """Ask the first stages, here and now; with queries that are encoded by now, if they are."""
        raise NotImplementedError

    def _ask_one(self, query: Any, *arguments: Any) -> Hits:
        if not isinstance(query, str):
            message = f"the query is a {type(query).__name__}; the first stage takes a str"
            raise InvalidInputError(message)
        return self._ask([query], *arguments)[0]

    def _ask(
        self,
        queries: Sequence[str],
        k: int,
        query_vectors: VectorInput | None,
        weights: Any,
        with_documents: bool,
        options: Mapping[str, Any],
    ) -> list[Hits]:
        texts, given = texts_of(queries, "queries"), {**self._defaults, **options}
        chosen = self.options.of(k=k, **given)
        chosen.check_count(len(texts))
        second = chosen.second_stage(given)
        RerankOptions.of(**second)
        second["with_documents"] = flag_of(with_documents, "with_documents")
        asked = self._asked(texts, query_vectors, weights, given.get("filter"))
        parts = overlapped(
            asked.parts(), lambda part: self._find(part, chosen), lambda found: self._rank(*found, chosen, second)
        )
        return list(chain.from_iterable(parts))

    def _asked(self, texts: list[str], query_vectors: VectorInput | None, weights: Any, condition: Any) -> Asked:
        vectors = optional(self._vectors, query_vectors, "query_vectors")
        if vectors is not None and len(vectors) != len(texts):
            message = f"vectors of {len(vectors)} queries for {len(texts)} query texts; give one item for each"
            raise InvalidInputError(message)
        if vectors is None and texts:
            self.index.require_encoder("a text query")
            checked_texts(texts, "query")
        return Asked(texts, vectors, weights, condition)

    def _vectors(self, query_vectors: VectorInput, _: str) -> Ragged:
        return to_ragged(query_vectors, dim=self.index.dim, kind="query")

    def _rank(self, asked: Asked, pools: list[Pool], options: HybridOptions, second: dict[str, Any]) -> list[Hits]:
        """Order the candidates of some queries."""
        start = perf_counter()
        orders = [pool.order for pool in pools]
        try:
            ranked = self.index.rerank_batch(
                asked.texts if asked.vectors is None else asked.vectors,
                [pool.ids for pool in pools],
                None if all(order is None for order in orders) else orders,
                weights=asked.weights,
                **{**second, "filter": asked.filter},
            )
        except LatewoodError as error:
            if asked.start:
                error.add_note(f"Queries are counted from number {asked.start} of the batch.")
            raise
        if options.fusion is not None:
            ranked = [self._fuse(hits, pool, options) for hits, pool in zip(ranked, pools, strict=True)]
        seconds = (perf_counter() - start) / max(len(ranked), 1)
        return [
            hits.with_hits(hits, found=len(pool.ids), **pool.seconds, second_stage_s=seconds, left=len(hits))
            for hits, pool in zip(ranked, pools, strict=True)
        ]

    def _fuse(self, hits: Hits, pool: Pool, options: HybridOptions) -> Hits:
        """Order what was scored by the scores of all stages."""
        place = {key: position for position, key in enumerate(plain_ids(pool.ids))}
        places = np.array([place[hit.id] for hit in hits], dtype=np.intp)
        scores = {name: column[places] for name, column in pool.scores.items()}
        maxsim = np.array([hit.score for hit in hits])
        ranked = [column[places] for column in pool.ranked.values()]
        fused = fuse([*scores.values(), *ranked], maxsim, cast("Fusion", options.fusion))
        least = -np.inf if options.min_score is None else options.min_score
        order = np.argsort(-fused, kind="stable")
        order = order[fused[order] >= least][options.offset :][: options.k]
        columns = {**scores, MAXSIM: maxsim}
        return hits.with_hits(
            hits[position].scored(
                float(fused[position]),
                rank,
                {name: float(column[position]) for name, column in columns.items() if not np.isnan(column[position])},
            )
            for rank, position in enumerate(order.tolist(), start=options.offset + 1)
        )
