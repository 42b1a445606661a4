"""How thoroughly an index must look for a share of its best documents: measured on the index, and stored with it."""

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate

import numpy as np

from latewood.errors import StaleTuningWarning
from latewood.forms.ragged import Ragged
from latewood.index.results import Plan, SearchArrays

STEPS = tuple(float(step) for step in np.arange(-2.0, 6.25, 0.5))
"""Deviations that are tried, the least first."""
HALVINGS = 3
"""Of the step in which the target is reached."""
SAMPLED_DOCUMENTS = 128
SAMPLED_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Tuning:
    """What share of the best documents by codes a search finds, by how thoroughly it looks.

    Attributes
    ----------
    k : int
        Hits that were wanted.
    target : float
        The share that searches of this index now look for, unless they are asked otherwise.
    queries : int
        Queries that it was measured with.
    documents : int
        Documents that the index had.
    curve : tuple of (deviations, recall)
        Both rise. Empty if every document was scored, however thoroughly the index looked: of few documents, or while
        there are no centroids. Searches of an index that grows from there go by what is usual.
    """

    k: int
    target: float
    queries: int
    documents: int
    curve: tuple[tuple[float, float], ...]

    def to_json(self) -> str:
        """Write it as the core reads it."""
        points = [{"deviations": deviations, "recall": recall} for deviations, recall in self.curve]
        return json.dumps({**asdict(self), "curve": points})


def measured_curve(
    exact: SearchArrays, search: Callable[[float], SearchArrays], target: float
) -> tuple[tuple[float, float], ...]:
    """Measure the recall of `search(deviations)`, step by step until nothing is lost.

    Searches may ask for more than the target, and score everything where no step has found so much. Where
    the target is reached, it is measured more closely. Nothing is measured if all documents are scored anyway.
    """
    measured: dict[float, float] = {}
    for step in STEPS:
        found = search(step)
        if not measured and found.plan is not None and found.plan.deviations is None:
            return ()
        measured[step] = recall(exact, found)
        if measured[step] == 1.0:
            break
    for _ in range(HALVINGS):
        curve = _rising(measured)
        above = next((place for place, (_, found) in enumerate(curve) if found >= target), 0)
        if above == 0:
            break
        between = (curve[above - 1][0] + curve[above][0]) / 2
        measured[between] = recall(exact, search(between))
    return _rising(measured)


def _rising(measured: Mapping[float, float]) -> tuple[tuple[float, float], ...]:
    # What is found by luck at one step may be missed at the next: a curve that falls could not be read backwards.
    steps = sorted(measured)
    return tuple(zip(steps, accumulate((measured[step] for step in steps), max), strict=True))


def recall(exact: SearchArrays, found: SearchArrays) -> float:
    """Give the share of the exact hits that were found, on average over the queries that have any."""
    pairs = zip(exact, found, strict=True)
    shares = [len(set(best) & set(some)) / len(best) for (best, _), (some, _) in pairs if len(best)]
    return float(np.mean(shares)) if shares else 1.0


def documents_as_queries(documents: Ragged) -> Ragged:
    """Draw up to 32 token vectors of each document that has any, in their order."""
    generator = np.random.default_rng(0)
    rows = [
        start + np.sort(generator.choice(length, min(length, SAMPLED_TOKENS), replace=False))
        for start, length in zip(documents.offsets[:-1], documents.lengths, strict=True)
        if length
    ]
    offsets = np.concatenate([[0], np.cumsum([len(some) for some in rows], dtype=np.int64)]).astype(np.int64)
    return Ragged(documents.values[np.concatenate(rows)] if rows else documents.values, offsets)


def warn_if_stale(plan: Plan, documents: int) -> None:
    """Say so where a recall was asked for by a tuning of an index of another size."""
    if plan.stale_tuning:
        message = (
            f"the recall of this index was measured when it had {plan.tuned_documents} documents, and it has "
            f"{documents} now; tune it again with Index.tune"
        )
        warnings.warn(message, StaleTuningWarning, stacklevel=5)
