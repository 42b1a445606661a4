"""Effectiveness, computed by ir-measures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latewood.common.packages import import_optional
from latewood.errors import InvalidInputError
from latewood.evaluate.trec import Qrels, rankings, text_id
from latewood.forms.candidates import items_of
from latewood.forms.values import flag_of, optional, whole
from latewood.index.results import Hit

if TYPE_CHECKING:
    from latewood.common.types import Run

DEFAULT_METRICS = ("nDCG@10", "R@100", "RR@10", "AP")

MOST_RELEVANT = 1_000_000
"""Judgements beyond it, of either sign, are refused: trec_eval counts every level of relevance up to the highest."""


def evaluate_run(
    run: Mapping[str, Mapping[str, float]] | Mapping[str, Sequence[Hit]],
    qrels: Qrels,
    metrics: Iterable[str] = DEFAULT_METRICS,
    *,
    ignore_identical_ids: bool | None = None,
) -> dict[str, float]:
    """Average metrics of a run over the judged queries.

    Parameters
    ----------
    run : mapping of query id to {document id: score}, or to hits in order
        A judged query that the run lacks counts as having found nothing.
    qrels : mapping of query id to {document id: relevance}
    metrics : iterable of str
        As ir-measures names them: "nDCG@10", "R@100", "RR@10", "AP".
    ignore_identical_ids : bool, optional
        True leaves out of the run what has the query's own id, judged or not, as BEIR does by default and MTEB for the
        tasks that need it: in ArguAna and Quora the queries are documents of the corpus, and would all find themselves
        first. Judgements are not changed. None, the default, does so too, unless a document is judged relevant to the
        query of its own id: then equal ids are chance, and False is right.

    Returns
    -------
    dict of str to float
        In the order of `metrics`.

    Raises
    ------
    MissingDependencyError
        ir-measures is not installed (extra `eval`).
    InvalidInputError
        A metric that does not exist, no judgements; an id given twice, a score that is NaN, a relevance that is no
        integer.
    """
    return evaluated(run, qrels, metrics, ignore_identical_ids).means


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A run's values by metric: their means, and those of each judged query."""

    means: dict[str, float]
    per_query: dict[str, dict[str, float]]


def evaluated(run: Any, qrels: Any, metrics: Any, ignore_identical_ids: Any) -> Evaluated:
    """Do as `evaluate_run`, and keep the values of each query."""
    asked = optional(flag_of, ignore_identical_ids, "ignore_identical_ids")
    judgements = _judgements(qrels)
    left_out = queries_are_documents(judgements) if asked is None else asked
    ranked = rankings(run)
    ir_measures: Any = import_optional("ir_measures", extra="eval", purpose="evaluation")
    parsed = _parsed(ir_measures, metrics)
    # Numbers in place of ids, since some metrics are computed by programs that read nothing else, and ranks in place of
    # scores, so that ties are not broken in another way.
    queries = {str(number): query for number, query in enumerate(judgements, start=1)}
    judged: Qrels = {}
    ranks: Run = {}
    for number, query in queries.items():
        kept = [document for document in ranked.get(query, ()) if not (left_out and document == query)]
        names = {document: str(place) for place, document in enumerate([*judgements[query], *kept])}
        judged[number] = {names[document]: relevance for document, relevance in judgements[query].items()}
        if query in ranked:
            ranks[number] = {names[document]: float(-rank) for rank, document in enumerate(kept)}
    try:
        values, rows = ir_measures.calc(parsed, judged, ranks)
    # ir-measures and what it calls raise whatever they come to.
    except Exception as error:
        message = f"ir-measures cannot compute {', '.join(map(str, parsed))}: {error}"
        raise InvalidInputError(message) from error
    # A judged query that the run lacks has found nothing, whether the metric's author gives it a row or not.
    per_query = {str(measure): dict.fromkeys(judgements, 0.0) for measure in parsed}
    for row in rows:
        per_query[str(row.measure)][queries[row.query_id]] = float(row.value)
    return Evaluated({str(measure): float(values[measure]) for measure in parsed}, per_query)


def queries_are_documents(qrels: Qrels) -> bool:
    """Whether a query and a document of one id are the same text: unless one is judged relevant to the other."""
    return not any(entry.get(query, 0) > 0 for query, entry in qrels.items())


def without_identical_id(query: str, hits: Sequence[Hit]) -> list[Hit]:
    """Leave out the hit that has the query's own id; `evaluate_run` tells why."""
    kept = [hit for hit in hits if str(hit.id) != query]
    for rank, hit in enumerate(kept, start=1):
        hit.rank = rank
    return kept


def _judgements(qrels: Any) -> Qrels:
    if not isinstance(qrels, Mapping) or not all(isinstance(entry, Mapping) for entry in qrels.values()):
        message = "the judgements are no mapping of query id to {document id: relevance}"
        raise InvalidInputError(message)
    if not qrels:
        message = "there are no judgements to evaluate with"
        raise InvalidInputError(message)
    result: Qrels = {}
    for key, entry in qrels.items():
        query = text_id(key, "query id")
        result[query] = {}
        for document, relevance in entry.items():
            number = whole(relevance)
            if number is None or not -MOST_RELEVANT <= number <= MOST_RELEVANT:
                message = (
                    f"the relevance of document {document!r} for query {query!r} is {relevance!r}; "
                    f"it must be an integer from {-MOST_RELEVANT} to {MOST_RELEVANT}"
                )
                raise InvalidInputError(message)
            result[query][text_id(document, "document id")] = number
    return result


def _parsed(ir_measures: Any, metrics: Any) -> list[Any]:
    names = items_of(metrics, "the metrics", "a list of str, such as ['nDCG@10']")
    if not len(names):
        message = "no metric is asked for; pass a list of them, such as ['nDCG@10']"
        raise InvalidInputError(message)
    parsed = []
    for name in names:
        try:
            measure = ir_measures.parse_measure(name)
        # So does its parser, which is Python's.
        except Exception as error:
            message = f"ir-measures knows no metric {name!r}: {error}"
            raise InvalidInputError(message) from error
        # trec_eval ends the process at a cutoff of 0.
        if any(type(value) is int and not 1 <= value < 2**31 for value in measure.params.values()):
            message = f"metric {name!r}: its numbers must be at least 1 and below 2^31"
            raise InvalidInputError(message)
        parsed.append(measure)
    return parsed
