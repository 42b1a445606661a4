"""Runs side by side, and how likely it is that chance alone made their difference."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from latewood.errors import InvalidInputError
from latewood.evaluate.metrics import DEFAULT_METRICS, Evaluated, evaluated
from latewood.evaluate.trec import Qrels
from latewood.forms.values import count_of
from latewood.index.results import Hit

PERMUTATIONS = 10_000
_AT_ONCE = 2**22
"""Signs that are drawn at a time."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How one run differs from the first, by one metric.

    Attributes
    ----------
    mean : float
        Of the differences over all judged queries; above 0 where the run is better.
    p : float
        The two-sided p-value of the paired randomisation test: how often differences as large come about where it is
        chance which of the two runs has which value of a query. Each is of one comparison, and not corrected for how
        many are made.
    better, equal, worse : int
        Queries by which of the two has the higher value.
    """

    mean: float
    p: float
    better: int
    equal: int
    worse: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several runs on the same judged queries; the first is the one that the others are compared with.

    Attributes
    ----------
    means : dict of run to {metric: float}
    per_query : dict of run to {metric: {query: float}}
    differences : dict of run to {metric: Difference}
        Of all runs but the first.
    """

    means: dict[str, dict[str, float]]
    per_query: dict[str, dict[str, dict[str, float]]] = field(repr=False)
    differences: dict[str, dict[str, Difference]]

    def __str__(self) -> str:
        """Write a table: a line for each run and metric."""
        names = [*self.means]
        width = max(map(len, names))
        column = max(len(metric) for values in self.means.values() for metric in values)
        lines = [f"{'':<{width}}  {'':<{column}}    mean  difference       p  better  equal  worse"]
        for name in names:
            for metric, mean in self.means[name].items():
                line = f"{name:<{width}}  {metric:<{column}}  {mean:6.4f}"
                if name in self.differences:
                    told = self.differences[name][metric]
                    counts = f"{told.better:>6}  {told.equal:>5}  {told.worse:>5}"
                    line += f"  {told.mean:+10.4f}  {told.p:6.4f}  {counts}"
                lines.append(line)
        return "\n".join(lines)


def compare_runs(
    runs: Mapping[str, Mapping[str, Mapping[str, float]] | Mapping[str, Sequence[Hit]]],
    qrels: Qrels,
    metrics: Iterable[str] = DEFAULT_METRICS,
    *,
    ignore_identical_ids: bool | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Comparison:
    """Compare runs by a paired randomisation test (Smucker, Allan and Carterette, CIKM 2007).

    Parameters
    ----------
    runs : mapping of name to run
        As `evaluate_run` takes them. The others are compared with the first.
    qrels, metrics, ignore_identical_ids
        As for `evaluate_run`.
    permutations : int
        How many ways to exchange the runs' values are drawn; where there are no more than that, all are tried.
    seed : int
        The same seed gives the same p-values.

    Raises
    ------
    InvalidInputError
        Fewer than two runs, and what `evaluate_run` raises, with the name of the run.
    """
    if not isinstance(cast("object", runs), Mapping) or len(runs) < 2:
        message = "comparing takes a mapping of at least two runs, {'name': run, …}; evaluate_run takes one"
        raise InvalidInputError(message)
    permutations, seed = count_of(permutations, "permutations"), count_of(seed, "seed", least=0)
    # An iterator would be empty for the second run; `evaluated` tells what else is wrong with it.
    asked = list(metrics) if isinstance(metrics, Iterator) else metrics
    found: dict[str, Evaluated] = {}
    for name, run in runs.items():
        try:
            found[str(name)] = evaluated(run, qrels, asked, ignore_identical_ids)
        except InvalidInputError as error:
            message = f"run {name!r}: {error}"
            raise InvalidInputError(message) from error
    first, *others = found
    return Comparison(
        {name: values.means for name, values in found.items()},
        {name: values.per_query for name, values in found.items()},
        {
            name: {
                metric: _difference(found[first].per_query[metric], values, permutations, seed)
                for metric, values in found[name].per_query.items()
            }
            for name in others
        },
    )


def _difference(first: dict[str, float], other: dict[str, float], permutations: int, seed: int) -> Difference:
    differences = np.array([other[query] - value for query, value in first.items()])
    return Difference(
        float(differences.mean()),
        _p_value(differences, permutations, seed),
        int((differences > 0).sum()),
        int((differences == 0).sum()),
        int((differences < 0).sum()),
    )


def _p_value(differences: NDArray[np.float64], permutations: int, seed: int) -> float:
    """Count how often a sum of the differences with other signs is as far from 0 as theirs."""
    moving = differences[differences != 0]
    # Sums of the same numbers in another order differ by rounding.
    observed = abs(moving.sum()) * (1 - 1e-9)
    if 2.0 ** len(moving) <= permutations:
        ways = np.arange(2 ** len(moving))[:, None] >> np.arange(len(moving)) & 1
        return float((np.abs((1 - 2 * ways) @ moving) >= observed).mean())
    generator = np.random.default_rng(seed)
    step = max(_AT_ONCE // len(moving), 1)
    extreme = 0
    for start in range(0, permutations, step):
        ways = generator.integers(0, 2, (min(step, permutations - start), len(moving)), dtype=np.int8)
        extreme += int((np.abs((1 - 2 * ways) @ moving) >= observed).sum())
    # The order that was observed is one of those that chance may give.
    return (extreme + 1) / (permutations + 1)


def rows_of(per_query: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[dict[str, Any]]:
    """Give a row for each query and metric, with the value of each run."""
    first = next(iter(per_query.values()))
    return [
        {"query": query, "metric": metric, **{name: values[metric][query] for name, values in per_query.items()}}
        for metric, queries in first.items()
        for query in queries
    ]
