"""Effectiveness, computed by ir-measures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from latewood._optional import import_optional
from latewood._typing import Run
from latewood.errors import InvalidInputError
from latewood.evaluate.trec import Qrels
from latewood.results import Hit

DEFAULT_METRICS = ("nDCG@10", "R@100", "RR@10", "AP")


def evaluate_run(
    run: Mapping[str, Mapping[str, float]] | Mapping[str, Sequence[Hit]],
    qrels: Qrels,
    metrics: Iterable[str] = DEFAULT_METRICS,
) -> dict[str, float]:
    """Average metrics of a run over the judged queries.

    Parameters
    ----------
    run : mapping of query id to {document id: score}, or to hits
        A judged query that the run lacks counts as having found nothing.
    qrels : mapping of query id to {document id: relevance}
    metrics : iterable of str
        As ir-measures names them: "nDCG@10", "R@100", "RR@10", "AP".

    Returns
    -------
    dict of str to float
        In the order of `metrics`.

    Raises
    ------
    MissingDependencyError
        ir-measures is not installed (extra `eval`).
    InvalidInputError
        A metric that does not exist, or no judgements.
    """
    if not qrels:
        message = "there are no judgements to evaluate with"
        raise InvalidInputError(message)
    ir_measures: Any = import_optional("ir_measures", extra="eval", purpose="evaluation")
    parsed = []
    for name in metrics:
        try:
            parsed.append(ir_measures.parse_measure(name))
        except (ValueError, NameError, SyntaxError) as error:
            message = f"ir-measures knows no metric {name!r}: {error}"
            raise InvalidInputError(message) from error
    values = ir_measures.calc_aggregate(parsed, qrels, _finite(run))
    return {str(measure): float(values[measure]) for measure in parsed}


def _finite(run: Any) -> Run:
    """Replace scores by ranks in the given order, so that ties are not broken in another way."""
    result: Run = {}
    for query, hits in run.items():
        if isinstance(hits, Mapping):
            ordered = sorted(hits.items(), key=lambda item: -item[1])
        else:
            ordered = [(str(hit.id), hit.score) for hit in hits]
        result[query] = {str(document): float(-rank) for rank, (document, _) in enumerate(ordered)}
    return result
