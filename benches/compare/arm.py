"""What every rival is brought to: documents in once, then queries, with candidates to rerank or without."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latewood.forms.ragged import Ragged

FloatArray = NDArray[np.float32]
IdArray = NDArray[np.int64]
Found = tuple[IdArray, FloatArray]
"""Ids and scores, best first."""


class Arm:
    """One library, used as its documentation says. The id of a document is its position.

    The constructor imports the library, and takes the options of the arm's `Library`.
    """

    def build(self, blocks: Iterable[Ragged], folder: Path) -> None:
        """Write an index of the documents into `folder`, which is not there yet; its time is the build time."""


class Reranker(Arm, ABC):
    """A library that scores candidates."""

    @abstractmethod
    def prepare(self, documents: Ragged, folder: Path, threads: int) -> None:
        """Open the index, or bring the documents to the form that the library likes best. Not timed."""

    @abstractmethod
    def rerank(self, query: FloatArray, candidates: IdArray) -> Any:
        """Score `candidates`, from the stored documents to whatever the library gives back. Timed."""

    def rerank_many(self, queries: Sequence[FloatArray], candidates: Sequence[IdArray]) -> list[Any]:
        """Score the candidates of several queries, by the library's own batch call if it has one. Timed."""
        return [self.rerank(query, some) for query, some in zip(queries, candidates, strict=True)]

    @abstractmethod
    def scores(self, answer: Any, query: FloatArray, candidates: IdArray) -> FloatArray:
        """Read MaxSim scores in the order of `candidates` from an answer, -inf where there is none. Not timed."""


class Searcher(Arm, ABC):
    """A library that finds candidates by itself, in the index that `build` wrote."""

    @abstractmethod
    def open(self, folder: Path, threads: int) -> None:
        """Open the index. Not timed."""

    @abstractmethod
    def search(self, queries: Sequence[FloatArray], k: int, **setting: Any) -> Any:
        """Find the best `k` for each of one or several queries, by the library's own call for so many. Timed."""

    @abstractmethod
    def found(self, answer: Any) -> list[Found]:
        """Read the hits of each query from an answer. Not timed."""


@dataclass(frozen=True, slots=True)
class Library:
    """One library in one configuration, described without importing it.

    Attributes
    ----------
    label : str
        Its name in tables and plots, and of its index.
    package : str
        The distribution whose version is recorded.
    home : str
        Module of `compare.arms` and class in it, with a colon between.
    options : tuple
        Arguments of the class.
    """

    label: str
    package: str
    home: str
    options: tuple[Any, ...] = ()

    @property
    def folder(self) -> str:
        """Name of its index's folder."""
        return "-".join(self.label.split())

    def make(self) -> Any:
        """Import the library and make the arm."""
        module, name = self.home.split(":")
        return getattr(import_module(f"compare.arms.{module}"), name)(*self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec(Library):
    """A reranker.

    Attributes
    ----------
    search : bool
        Whether it is a search restricted to the candidates, which may leave some of them out. All others give MaxSim;
        whether it was exact is measured.
    index : bool
        Whether `build` writes one.
    threads : bool
        Whether it can use more than one.
    """

    search: bool = False
    index: bool = False
    threads: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class System(Library):
    """A searcher.

    Attributes
    ----------
    lines : mapping from str to a tuple of mappings
        Ways to search the one index: the settings of each, from the quickest to the most thorough. `{}` is what the
        library does when it is told nothing.
    """

    lines: Mapping[str, Sequence[Mapping[str, Any]]]


def joined(blocks: Iterable[Ragged]) -> Ragged:
    """Put the documents into one `Ragged`, for libraries that want them all at once."""
    parts = list(blocks)
    if len(parts) == 1:
        return parts[0]
    lengths = np.concatenate([part.lengths for part in parts])
    return Ragged(np.concatenate([part.values for part in parts]), np.concatenate([[0], np.cumsum(lengths)]))


def aligned(ids: Sequence[int], scores: Sequence[float], candidates: IdArray) -> FloatArray:
    """Put scores in the order of `candidates`, -inf where there is none."""
    found = dict(zip(ids, scores, strict=True))
    return np.array([found.get(key, -np.inf) for key in candidates.tolist()], dtype=np.float32)


def pairs(answer: Sequence[Sequence[tuple[int, float]]]) -> list[Found]:
    """Turn lists of (id, score) into arrays."""
    return [
        (np.array([key for key, _ in hits], np.int64), np.array([score for _, score in hits], np.float32))
        for hits in answer
    ]
