"""What a search or a rerank may choose: one value from the keyword arguments to the core, checked when it is made.

A new option is a keyword here with its check, a field of the core's `SearchOptions`, and the stage that reads it.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache, partial
from typing import Any, ClassVar, Self, TypedDict, cast, get_args

import numpy as np

from latewood import _core
from latewood.common.types import Filter, Gather, MissingRule, Rescore
from latewood.errors import InvalidInputError
from latewood.forms.candidates import Candidates
from latewood.forms.metadata import filters_json
from latewood.forms.values import choice_of, count_of, flag_of, number_of, share_of, text_of
from latewood.index.feedback import Feedback

Check = Callable[[Any, str], Any]
_NO_DEFAULT = object()


class RankingKeywords(TypedDict, total=False):
    """Keyword arguments that searches and reranks share."""

    filter: Filter | Sequence[Filter | None] | None
    group_by: str | None
    offset: int
    min_score: float | None
    length_normalize: bool
    rescore: Rescore | None
    threads: int | None


class SearchKeywords(RankingKeywords, total=False):
    """Keyword arguments of all searches, described at `SearchOptions`."""

    recall: float | None
    deviations: float | None
    gather: Gather | None
    max_scored: int | None
    probes: int | None
    threshold: float | None
    feedback: Feedback | None


EXACT: SearchKeywords = {
    "recall": None,
    "deviations": None,
    "gather": "exact",
    "max_scored": None,
    "probes": None,
    "threshold": None,
}
"""What makes a search an exact one, whatever else was asked for."""


class RerankKeywords(RankingKeywords, total=False):
    """Keyword arguments of all reranks, described at `RerankOptions`."""

    alpha: float | None
    beta: int | None
    prune_to: int | None
    missing: MissingRule


@dataclass(frozen=True, kw_only=True)
class RankingOptions:
    """What searches and reranks share; each option is its default, or what its check makes of what was given."""

    filter: Any = None
    group_by: str | None = None
    offset: int = 0
    min_score: float | None = None
    length_normalize: bool = False
    rescore: Rescore | None = None
    threads: int | None = None

    checks: ClassVar[dict[str, Check]] = {
        "filter": filters_json,
        "group_by": text_of,
        "offset": partial(count_of, least=0),
        "min_score": number_of,
        "length_normalize": flag_of,
        "rescore": partial(choice_of, known=get_args(Rescore)),
        "threads": count_of,
    }

    def __post_init__(self) -> None:
        """Check what is no default."""
        for name, value in vars(self).items():
            if value is not getattr(type(self), name, _NO_DEFAULT):
                object.__setattr__(self, name, self.checks[name](value, name))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy what was asked; what the core reads is made of it again."""
        return partial(
            type(self), **{option.name: getattr(self, option.name) for option in fields(self) if option.init}
        ), ()

    @classmethod
    def of(cls, **given: Any) -> Self:
        """Make a value, or give one that was made of the very same arguments: most programs ask in few ways."""
        # A mapping that can be looked up may change, or equal one of other kinds of values: `1` and `True`.
        if given.get("filter") is not None:
            return cls(**given)
        try:
            made: Self = _made(cast("Any", cls), **given)
        except InvalidInputError:
            raise
        except Exception:  # noqa: BLE001  what is foreign may raise anything when it is looked up
            made = cls(**given)
        return made

    def check_count(self, queries: int) -> None:
        """Refuse a list of filters that is not one for each query."""
        if isinstance(self.filter, list) and len(self.filter) != queries:
            message = f"{len(self.filter)} filters for {queries} queries; give one mapping for all, or one for each"
            raise InvalidInputError(message)


@dataclass(frozen=True, kw_only=True)
class SearchOptions(RankingOptions):
    """What a search may choose.

    Parameters
    ----------
    k : int
        How many hits at most, or groups with `group_by`; fewer where fewer documents match.
    filter : mapping, or a sequence with one mapping or None for each query of a batch, optional
        Conditions on metadata, all of which must hold: `{"lang": "en"}`, `{"lang": ["en", "de"]}`,
        `{"year": {"gte": 2020, "lt": 2025}}`, `{"author.name": {"prefix": "Kn"}}`. The operators are eq, ne, in,
        gt, gte, lt, lte, contains, prefix and exists; the keys and, or and not combine filters:
        `{"or": [{"lang": "en"}, {"not": {"year": {"lt": 2020}}}]}`. Numbers compare by their exact value; values of
        different kinds are never equal and never in order; of a list in the metadata one element must match; a
        missing field is None. docs/filters.md has all rules.
    group_by : str, optional
        Only the best hit of each value of this metadata field, such as the passages of one page; `a.b` looks into
        objects. A document without the field stands for itself (docs/filters.md).
    offset : int
        Leave out so many of the best: 10 for the second page of ten. Ranks go on from there.
    min_score : float, optional
        Leave out hits whose score is lower.
    length_normalize : bool
        Divide scores by the number of the query's tokens, those added by feedback not counted.
    rescore : {"float16", "off"}, optional
        The vectors that the returned scores are MaxSim on. "float16": on those that the index has kept
        (`Index.create(keep_vectors=)`), which the best by their codes are scored on once more; "off": on the codes. By
        default on the kept vectors where there are some. `Hits.plan` says which it was.
    recall : float, optional
        The share of the best k documents by codes to find on average, above 0 and at most 1; the options below follow
        it, by what `Index.tune` has measured on this index, else by what is usual. 1.0 scores every document. By
        default the target of `Index.tune`, else about .99.
    deviations : float, optional
        How many standard deviations above what its estimate promises a document may lie before it is passed over;
        4 by default. One more doubles `max_scored` and `probes`, where those are not given. Instead of `recall`.
    gather : {"exact", "flood", "postings", "fde"}, optional
        How candidates are found; chosen by the size of the index by default. "exact" scores every document, and "fde"
        needs an index that was created with `fde`.
    max_scored : int, optional
        How many gathered documents are scored on their codes at most; scoring stops earlier where the rest
        cannot be expected among the hits.
    probes : int, optional
        Of "postings": cells visited for each query token.
    threshold : float, optional
        Of "postings": least centroid score of a visited cell.
    feedback : Feedback, optional
        Search twice, the second time with vectors of the first hits added to the query. Needs a trained residual
        codec. Filters and ids hold in both passes; scores, and `Hit.explain`, are those of the expanded query.
    threads : int, optional
        As many as this process may use at once by default. The hits do not depend on it.

    Raises
    ------
    InvalidInputError
        An option that is not one, or `rescore="float16"` on an index that keeps no vectors. `Hits.plan` names those
        that are one and had no effect.
    """

    k: int
    recall: float | None = None
    deviations: float | None = None
    gather: Gather | None = None
    max_scored: int | None = None
    probes: int | None = None
    threshold: float | None = None
    feedback: Feedback | None = None

    checks: ClassVar[dict[str, Check]] = {
        **RankingOptions.checks,
        "k": count_of,
        "recall": share_of,
        "deviations": number_of,
        "gather": partial(choice_of, known=get_args(Gather)),
        "max_scored": count_of,
        "probes": count_of,
        "threshold": number_of,
        "feedback": Feedback.check,
    }

    core: _core.SearchOptions = field(init=False, repr=False, compare=False)
    """What the core reads."""

    def __post_init__(self) -> None:
        """Check what is no default, and what a filter asks."""
        super().__post_init__()
        if self.recall is not None and self.deviations is not None:
            message = "deviations follow from recall: give one of them"
            raise InvalidInputError(message)
        feedback = None if self.feedback is None else asdict(self.feedback)
        object.__setattr__(self, "core", _core.SearchOptions({**vars(self), "feedback": feedback}))


@dataclass(frozen=True, kw_only=True)
class RerankOptions(RankingOptions):
    """What a rerank may choose.

    Parameters
    ----------
    k : int, optional
        How many hits to give back, or groups with `group_by`; all of them by default.
    filter, group_by, offset, min_score, length_normalize, rescore, threads
        As for `SearchOptions`. Candidates that a filter does not let through are as if they had not been given.
    alpha : float, optional
        Candidate pruning: drop candidates whose first-stage score is below `s_k - alpha * |s_k|`, `s_k` being the
        k-th first-stage score; below `s_k` itself if that is infinite. Smaller prunes more. Needs `scores`.
    beta : int, optional
        Early exit: in first-stage order, stop after this many candidates in a row that do not enter the top k.
    prune_to : int, optional
        The k that `alpha` and `beta` work towards; by default those that are returned and left out, `offset + k`. With
        it, and without `k`, a rerank gives back all that it has scored.
    missing : {"error", "skip"}
        What to do about candidates that the index does not hold.

    Raises
    ------
    InvalidInputError
        An option that is not one, or `rescore="float16"` on an index that keeps no vectors.

    Notes
    -----
    Candidate pruning and early exit are those of "Multivector Reranking in the Era of Strong First-Stage
    Retrievers", defined for negative scores and short lists too.
    """

    k: int | None = None
    alpha: float | None = None
    beta: int | None = None
    prune_to: int | None = None
    missing: MissingRule = "error"

    checks: ClassVar[dict[str, Check]] = {
        **RankingOptions.checks,
        "k": count_of,
        "alpha": partial(number_of, least=0.0, most=float(np.finfo(np.float64).max)),
        "beta": count_of,
        "prune_to": count_of,
        "missing": partial(choice_of, known=get_args(MissingRule)),
    }

    core: _core.RerankOptions = field(init=False, repr=False, compare=False)
    """What the core reads."""

    def __post_init__(self) -> None:
        """Check what is no default, what it needs, and what a filter asks."""
        super().__post_init__()
        if self.k is None and self.prune_to is None and (self.alpha is not None or self.beta is not None):
            message = "alpha and beta work towards a top k; pass k=, or prune_to="
            raise InvalidInputError(message)
        object.__setattr__(self, "core", _core.RerankOptions(vars(self)))

    def check_scores(self, candidates: Candidates) -> None:
        """Refuse candidates without the first-stage scores that `alpha` goes by."""
        if self.alpha is not None and candidates.scores is None and len(candidates.ids):
            message = "alpha prunes by first-stage scores, and there are none; pass scores=, or leave alpha out"
            raise InvalidInputError(message)


@lru_cache(maxsize=128, typed=True)
def _made(kind: Any, **given: Any) -> Any:
    return kind(**given)
