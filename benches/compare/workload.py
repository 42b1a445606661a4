"""The questions: real query vectors, random candidates, and exact MaxSim in numpy for the answers to be held to."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compare.arm import FloatArray, IdArray
from latewood.forms.ragged import Ragged

TOP = 10


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A query, the candidates to rerank, their exact scores and their number of tokens."""

    query: FloatArray
    candidates: IdArray
    exact: FloatArray
    tokens: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far answers agree with exact MaxSim, on average over the questions.

    Attributes
    ----------
    overlap : float
        Share of the exact top 10 among the answer's top 10.
    spearman : float
        Rank correlation over all candidates.
    error : float
        Largest difference of a score.
    answered : float
        Share of the candidates that have a score at all.
    """

    overlap: float
    spearman: float
    error: float
    answered: float


def unit(ragged: Ragged) -> Ragged:
    """Scale to unit length in float32: float16 on disk left it a little off, and NumKong scores angles."""
    return Ragged(ragged.values / np.linalg.norm(ragged.values, axis=1, keepdims=True).clip(1e-12), ragged.offsets)


def save(documents: Ragged, scratch: Path) -> None:
    """Write the documents for the child processes."""
    np.save(scratch / "values.npy", documents.values)
    np.save(scratch / "offsets.npy", documents.offsets)


def load(scratch: Path) -> Ragged:
    """Read what `save` wrote, into memory of one's own."""
    return Ragged(np.load(scratch / "values.npy"), np.load(scratch / "offsets.npy"))


def draw(documents: Ragged, queries: Ragged, count: int, candidates: int, seed: int) -> list[Question]:
    """Draw questions: queries in turn, candidates at random without repetition."""
    generator = np.random.default_rng([seed, candidates])
    questions = []
    for number in range(count):
        query = np.ascontiguousarray(queries[number % len(queries)])
        chosen = generator.choice(len(documents), size=min(candidates, len(documents)), replace=False)
        gathered = [documents[i] for i in chosen]
        questions.append(Question(query, chosen, exact(query, gathered), sum(map(len, gathered))))
    return questions


def exact(query: FloatArray, documents: list[FloatArray]) -> FloatArray:
    """Score documents that are not empty: products in float32, their sum in float64."""
    starts = np.cumsum([0, *map(len, documents[:-1])])
    best = np.maximum.reduceat(np.concatenate(documents) @ query.T, starts, axis=0)
    scores: FloatArray = best.sum(axis=1, dtype=np.float64).astype(np.float32)
    return scores


def agreement(questions: Iterable[Question], answers: Iterable[FloatArray]) -> Agreement:
    """Compare scores, aligned with the candidates, with the exact ones."""
    rows = []
    for question, scores in zip(questions, answers, strict=True):
        there = np.isfinite(scores)
        order, best = np.argsort(-scores, kind="stable"), np.argsort(-question.exact, kind="stable")
        rows.append(
            (
                len(np.intersect1d(order[:TOP], best[:TOP])) / min(TOP, len(order)),
                np.corrcoef(np.argsort(order), np.argsort(best))[0, 1],
                np.abs(scores - question.exact)[there].max(initial=0),
                there.mean(),
            )
        )
    overlap, spearman, error, answered = np.array(rows).T
    return Agreement(float(overlap.mean()), float(spearman.mean()), float(error.max()), float(answered.mean()))
