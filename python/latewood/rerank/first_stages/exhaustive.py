"""First stages that score all their documents for each query, and choose among them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latewood.common.types import Id
from latewood.errors import InvalidInputError
from latewood.forms.candidates import ScoreArray
from latewood.forms.ids import plain_ids
from latewood.forms.values import count_of
from latewood.rerank.first_stages.protocol import FirstStageHits, texts_of


class Exhaustive(ABC):
    """A first stage of documents that do not change.

    Parameters
    ----------
    ids : sequence of str or int
        Each once, in the order of the scores.
    """

    def __init__(self, ids: Sequence[Id]) -> None:
        self._ids = ids

    def search(self, query: str, k: int) -> FirstStageHits:
        """See `FirstStage.search`."""
        return self.search_batch([query], k)[0]

    def search_batch(self, queries: Sequence[str], k: int) -> list[FirstStageHits]:
        """See `FirstStage.search_batch`."""
        texts, depth = texts_of(queries, "queries"), count_of(k, "k")
        return [best_of(scores, self._ids, depth) for scores in self._scores(texts)]

    def score_batch(self, queries: Sequence[str], candidates: Sequence[Iterable[Id]]) -> list[ScoreArray]:
        """See `LexicalFirstStage.score_batch`; NaN is for an id that the stage does not have."""
        return scores_of(texts_of(queries, "queries"), candidates, self._places, self._scores)

    @cached_property
    def _places(self) -> dict[Id, int]:
        return {key: place for place, key in enumerate(self._ids)}

    @abstractmethod
    def _scores(self, texts: list[str]) -> Iterator[Any]:
        """Score all documents for each query."""


def scores_of(
    texts: list[str],
    candidates: Sequence[Iterable[Id]],
    places: Mapping[Id, int],
    all_scores: Callable[[list[str]], Iterable[NDArray[np.floating[Any]]]],
) -> list[ScoreArray]:
    """Score each query's candidates, by a stage that scores all its documents.

    Parameters
    ----------
    texts : list of str
        Queries.
    candidates : sequence of sequences of ids
        One for each query.
    places : mapping of id to int
        Where the score of a document stands.
    all_scores : callable
        Queries → for each, the scores of all documents.

    Returns
    -------
    list of float64 arrays [candidates]
        NaN for an id that has no place.
    """
    if len(candidates) != len(texts):
        message = f"candidates of {len(candidates)} queries for {len(texts)} queries; give one list for each"
        raise InvalidInputError(message)
    result: list[ScoreArray] = []
    for scores, ids in zip(all_scores(texts), candidates, strict=True):
        own = np.array([places.get(key, -1) for key in plain_ids(ids)], dtype=np.int64)
        result.append(np.append(scores.astype(np.float64), np.nan)[own])
    return result


def best_of(scores: NDArray[np.floating[Any]], ids: Sequence[Id], k: int) -> FirstStageHits:
    """Give the k documents of the highest scores above 0, ties by position."""
    places = np.flatnonzero(scores > 0)
    if len(places) > k:
        least = np.partition(scores[places], len(places) - k)[len(places) - k]
        places = places[scores[places] >= least]
    order = places[np.argsort(-scores[places], kind="stable")[:k]]
    return [ids[position] for position in order.tolist()], scores[order].astype(float).tolist()
