"""What a search or a rerank gives: small values, which become JSON, pickles and copies like any others."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Protocol, SupportsIndex, overload

from latewood.common.types import FloatArray, Id, OffsetArray, ResultIds, Run, Stats
from latewood.errors import InvalidInputError, LatewoodError, ServiceError, UnknownIdError
from latewood.forms.ids import normalise_ids
from latewood.forms.ragged import listed, position_of
from latewood.forms.values import count_of
from latewood.index.explanation import Explanation
from latewood.show import html

EXPLAINED = 10
"""Hits that are explained where hits show themselves."""


@dataclass(frozen=True, slots=True)
class Document:
    """A stored document without its vectors."""

    id: Id
    text: str | None = None
    metadata: Mapping[str, Any] | None = None


class Source(Protocol):
    """What hits were found in; they keep it to explain themselves."""

    def explain(self, query: int, place: int, key: Id) -> Explanation:
        """Explain a hit of a query of the batch, by its place in the whole batch."""

    def report(self, query: int) -> "tuple[Stats, Plan]":
        """Say what a query of the batch took, and how its candidates were found."""


# Frozen, it would take four times as long to make, and reranking makes one for every candidate.
@dataclass(init=False)
class Hit:
    """One document found.

    Attributes
    ----------
    id : str or int
        The user's own.
    score : float
        MaxSim on the stored codes, or on the kept vectors where `Plan.rescore` says so (a float32 value).
    rank : int
        From 1.
    text : str or None
    metadata : mapping or None
    stage_scores : mapping of str to float, or None
        Where `score` is a fusion of several stages' scores (docs/two_stages.md): the score of each, "maxsim" being the
        index's own. A stage that gave the document none is not among them.
    """

    id: Id
    score: float
    rank: int
    text: str | None
    metadata: Mapping[str, Any] | None
    stage_scores: Mapping[str, float] | None

    # What a hit comes from is no field, so that it is in no dict, pickle or comparison.
    __slots__ = ("_place", "_query", "_source", "id", "metadata", "rank", "score", "stage_scores", "text")

    def __init__(
        self,
        id: Id,  # noqa: A002
        score: float,
        rank: int,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        source: Source | None = None,
        query: int = 0,
        place: int = 0,
        stage_scores: Mapping[str, float] | None = None,
    ) -> None:
        self.id = id
        self.score = score
        self.rank = rank
        self.text = text
        self.metadata = metadata
        self._source = source
        self._query = query
        self._place = place
        self.stage_scores = stage_scores

    @property
    def has_source(self) -> bool:
        """Whether it comes from an index, and can explain itself."""
        return self._source is not None

    def explain(self) -> Explanation:
        """Token by token, on what was searched, whatever the index holds now; after feedback, for the expanded query.

        While a hit is kept, so are the files that it was found in, even if later commits have no use for them. One that
        was unpickled or made by hand comes from no index: ask `Index.explain` then. Of a fused hit, what is explained
        is "maxsim" among its `stage_scores`.
        """
        if self._source is None:
            message = f"hit {self.id!r} does not come from an index; call index.explain(query, {self.id!r})"
            raise LatewoodError(message)
        explanation = self._source.explain(self._query, self._place, self.id)
        if self.stage_scores is None:
            return explanation
        return replace(explanation, stage_scores=self.stage_scores, fused=self.score)

    def to_dict(self) -> dict[str, Any]:
        """Give the fields by name; a score that JSON does not have, such as `-inf`, becomes None."""
        stages = self.stage_scores
        return {
            "id": self.id,
            "score": finite(self.score),
            "rank": self.rank,
            "text": self.text,
            "metadata": self.metadata,
            "stage_scores": None if stages is None else {name: finite(score) for name, score in stages.items()},
        }

    def scored(self, score: float, rank: int, stage_scores: Mapping[str, float] | None) -> "Hit":
        """Give this hit with another score and rank."""
        place = (self._source, self._query, self._place)
        return Hit(self.id, score, rank, self.text, self.metadata, *place, stage_scores)

    def __copy__(self) -> "Hit":
        """Copy the values, and what they come from."""
        return self.scored(self.score, self.rank, self.stage_scores)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Hit":
        """Do the same with metadata of its own; what was searched is shared."""
        own = copy(self)
        own.metadata, own.stage_scores = deepcopy((self.metadata, self.stage_scores), memo)
        return own

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the values; the link to the index stays behind."""
        values = (self.id, self.score, self.rank, self.text, self.metadata)
        return (Hit, (*values, None, 0, 0, self.stage_scores))


def finite(score: float) -> float | None:
    """Give a score as JSON can hold it."""
    return score if isfinite(score) else None


@dataclass(frozen=True, slots=True)
class Plan:
    """How candidates were found.

    Attributes
    ----------
    gather : {"exact", "flood", "postings", "fde", "given", "none"}
        "given": the candidates of a rerank; "none": there was nothing to search.
    probes : int or None
    threshold : float or None
    max_scored : int or None
    deviations : float or None
        As they were used; None where they have no meaning.
    expected_recall : float or None
        The share of the best documents by codes that such searches find on average: as `Index.tune` has measured it,
        else as it is usual; None with limits of one's own, which were not measured.
    tuned_documents : int or None
        How many documents the index had when that was measured; None where it was not.
    stale_tuning : bool
        Whether the index has less than half as many documents by now, or more than twice as many. What was measured
        is then not relied on: the search looks as far as is usual for that recall, or farther.
    rescore : "float16" or None
        The kept vectors that the scores are MaxSim on; None where it is the codes.
    without_effect : tuple of str
        Options that were given and could not have an effect on this index.
    """

    gather: str
    probes: int | None = None
    threshold: float | None = None
    max_scored: int | None = None
    deviations: float | None = None
    expected_recall: float | None = None
    tuned_documents: int | None = None
    stale_tuning: bool = False
    rescore: str | None = None
    without_effect: tuple[str, ...] = ()


class Hits(list[Hit]):
    """Hits of one query, best first: a list of `Hit` that also tells how they were found."""

    __slots__ = ("_query", "_report", "_source", "_stages")

    def __init__(
        self,
        hits: Iterable[Hit] = (),
        *,
        report: tuple[Stats, Plan] | None = None,
        source: Source | None = None,
        query: int = 0,
        stages: Stats | None = None,
    ) -> None:
        super().__init__(hits)
        self._report = report
        self._source = source
        self._query = query
        self._stages = stages or {}

    @overload
    def __getitem__(self, position: SupportsIndex, /) -> Hit: ...

    @overload
    def __getitem__(self, position: slice, /) -> "Hits": ...

    def __getitem__(self, position: SupportsIndex | slice, /) -> "Hit | Hits":
        """Give a hit, or some of them, which tell the same of how they were found."""
        if isinstance(position, slice):
            return self.with_hits(super().__getitem__(position))
        return super().__getitem__(position)

    @property
    def stats(self) -> Stats:
        """Counts and seconds by stage; with feedback, those of both passes together.

        `TwoStage` and `Hybrid` add what came before and after the index (docs/two_stages.md).
        """
        return {**self._told()[0], **self._stages}

    @property
    def plan(self) -> Plan:
        """How candidates were found, and which options had no effect."""
        return self._told()[1]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Give each hit as `Hit.to_dict` does."""
        return [hit.to_dict() for hit in self]

    def to_html(self, *, explained: int = EXPLAINED) -> str:
        """Give a fragment of HTML: each hit with its text, which is shaded by what each part adds.

        Parameters
        ----------
        explained : int
            How many of the first hits are explained, which takes a millisecond or so for each. Hits of a service that
            cannot be explained now are shown as they are.
        """
        return "".join(self.to_html_parts(explained=explained))

    def to_html_parts(self, *, explained: int = EXPLAINED) -> tuple[str, str]:
        """Give the same in two fragments: the query's tokens, and the hits."""
        explained = count_of(explained, "explained", least=0)
        rows = []
        first: Explanation | None = None
        for place, hit in enumerate(self):
            explanation = None
            if place < explained and hit.has_source:
                try:
                    explanation = hit.explain()
                # Only a service could say more, and has lost the document, or does not answer; then nothing else of it
                # is asked for.
                except UnknownIdError:
                    pass
                except ServiceError:
                    explained = 0
            first = first or explanation
            told = None if explanation is None else explanation.to_html(with_query=False)
            rows.append({**hit.to_dict(), "explained": told})
        asked = "" if first is None or first.query_tokens is None else html.query(first.query_tokens)
        return asked, html.listed(rows)

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        return html.styled(self.to_html())

    def with_hits(self, hits: Iterable[Hit], **stages: float) -> "Hits":
        """Give other hits that were found in the same way, and what more stages took."""
        more = {**self._stages, **stages}
        return Hits(hits, report=self._report, source=self._source, query=self._query, stages=more)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the hits and what is told of them."""
        return (_hits, (list(self), (self.stats, self.plan)))

    def _told(self) -> tuple[Stats, Plan]:
        if self._report is None:
            self._report = ({}, Plan("none")) if self._source is None else self._source.report(self._query)
        return self._report


def _hits(hits: list[Hit], report: tuple[Stats, Plan]) -> Hits:
    return Hits(hits, report=report)


@dataclass(frozen=True, slots=True, eq=False)
class SearchArrays:
    """Hits of several queries as arrays; those of query i are entries `offsets[i]` to `offsets[i + 1]`, best first.

    Attributes
    ----------
    ids : int64 array or list of str [hits]
    scores : float32 array [hits]
    offsets : int64 array [queries + 1]
    stats : dict
        Counts and seconds by stage, over all queries.
    plan : Plan or None
        How candidates were found; where filters differ, for the first query that has any.
    """

    ids: ResultIds
    scores: FloatArray
    offsets: OffsetArray
    stats: Stats = field(default_factory=dict)
    plan: Plan | None = None

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"SearchArrays({len(self)} queries, {len(self.ids)} hits)"

    def __len__(self) -> int:
        """Count the queries."""
        return len(self.offsets) - 1

    def __getitem__(self, position: int) -> tuple[ResultIds, FloatArray]:
        """Give ids and scores of one query."""
        position = position_of(position, len(self), "queries")
        rows = slice(int(self.offsets[position]), int(self.offsets[position + 1]))
        return self.ids[rows], self.scores[rows]

    def __iter__(self) -> Iterator[tuple[ResultIds, FloatArray]]:
        """Give ids and scores of each query in turn."""
        return (self[position] for position in range(len(self)))

    def to_run(self, query_ids: Sequence[str]) -> Run:
        """Give a run, query id → document id → score, with all ids as strings."""
        names = list(map(str, normalise_ids(listed(query_ids, "query_ids"), "query_ids")))
        if len(names) != len(self):
            message = f"{len(names)} query ids for {len(self)} queries; give one for each"
            raise InvalidInputError(message)
        if len(set(names)) != len(names):
            twice = next(name for place, name in enumerate(names) if name in names[:place])
            message = f"query id {twice!r} is given twice; a run has each query once"
            raise InvalidInputError(message)
        return {
            name: {str(document): float(score) for document, score in zip(ids, scores, strict=True)}
            for name, (ids, scores) in zip(names, self, strict=True)
        }
