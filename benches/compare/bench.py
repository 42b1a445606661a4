"""The run: indexes built, children started, turns taken, answers checked, one row for each arm and setting."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from compare.arm import FloatArray, Spec
from compare.child import ArmError, Child, available_cores
from compare.record import Row, package_version
from compare.workload import Question, agreement

TURN = 10
"""Questions that an arm answers before the next one's turn. The first finds cold caches; medians are of the others."""


def build(specs: list[Spec], scratch: Path) -> dict[str, float | str]:
    """Build the indexes on all cores; give the seconds of each, or why there is none."""
    built: dict[str, float | str] = {}
    for spec in specs:
        if spec.index:
            child = Child(spec, scratch, len(available_cores()))
            try:
                built[spec.label] = child.ask("build")
                print(f"built: {spec.label}, {built[spec.label]:.1f} s", flush=True)
            except ArmError as error:
                built[spec.label] = str(error)
            child.close()
    return built


EXACT = 1e-3
"""Largest error of scores that are called exact in the record: rounding of float32, whichever the order of its sums."""


class Bench:
    """All arms, ready to answer with one number of threads.

    Parameters
    ----------
    specs : list of Spec
    scratch : Path
        With the documents and the indexes.
    threads : int
        One: queries one by one. More: in batches of `TURN`.
    built : dict
        Of `build`.
    """

    def __init__(self, specs: list[Spec], scratch: Path, threads: int, built: dict[str, float | str]) -> None:
        self.specs = specs
        self.threads = threads
        self.built = built
        self.children: dict[str, Child] = {}
        self.failures = {label: reason for label, reason in built.items() if isinstance(reason, str)}
        for spec in specs:
            if spec.label not in self.failures:
                self.children[spec.label] = Child(spec, scratch, threads)
                self.ask(spec, "prepare")

    def ask(self, spec: Spec, request: str, *arguments: Any) -> Any:
        """Ask an arm that still lives; one that fails is out from here on."""
        if spec.label not in self.children:
            return None
        try:
            return self.children[spec.label].ask(request, *arguments)
        except ArmError as error:
            self.failures[spec.label] = str(error)
            self.children.pop(spec.label).close()
            return None

    def measure(self, questions: list[Question]) -> list[Row]:
        """Let the arms take turns over the questions, in an order drawn anew each round."""
        request = "turn" if self.threads == 1 else "batch"
        answers: dict[str, list[tuple[float, FloatArray]]] = {spec.label: [] for spec in self.specs}
        for spec in self.specs:
            self.ask(spec, request, questions[:2])
        order = np.random.default_rng(0)
        for start in range(0, len(questions), TURN):
            for place in order.permutation(len(self.specs)):
                spec = self.specs[place]
                answers[spec.label] += self.ask(spec, request, questions[start : start + TURN]) or []
        return [self.row(spec, questions, answers[spec.label]) for spec in self.specs]

    def row(self, spec: Spec, questions: list[Question], answers: list[tuple[float, FloatArray]]) -> Row:
        """Sum up the answers of an arm."""
        version, seconds = package_version(spec.package), self.built.get(spec.label)
        row = Row(self.threads, len(questions[0].candidates), spec.label, spec.package, version)
        if isinstance(seconds, float):
            row = replace(row, build_seconds=round(seconds, 1))
        if spec.label in self.failures:
            return replace(row, note=f"not available: {self.failures[spec.label]}")
        found = agreement(questions, [scores for _, scores in answers])
        exact = found.error <= EXACT and found.answered == 1
        times = np.array([seconds for seconds, _ in answers])
        per_token = times / [question.tokens for question in questions]
        low, median, high = np.quantile(times, [0.1, 0.5, 0.9]) * 1e3
        return replace(
            row,
            kind="search" if spec.search else "exact" if exact else "approximate",
            ms=round(float(median), 4),
            ms_p10=round(float(low), 4),
            ms_p90=round(float(high), 4),
            ns_per_token=round(float(np.median(per_token)) * 1e9, 2),
            overlap_10=round(found.overlap, 4),
            spearman=round(found.spearman, 4),
            # The scores of a search are not MaxSim, or not of all tokens.
            max_error=None if spec.search else float(f"{found.error:.3g}"),
            answered=round(found.answered, 4),
        )

    def close(self) -> None:
        """End the children."""
        for child in self.children.values():
            child.close()
