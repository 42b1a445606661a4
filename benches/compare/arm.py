"""What every rival is brought to: documents in once, then one query and its candidates at a time."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from latewood.forms.ragged import Ragged

FloatArray = NDArray[np.float32]
IdArray = NDArray[np.int64]


class Arm(ABC):
    """One library, used as its documentation says. The id of a document is its position.

    The constructor imports the library, and takes the options of the arm's `Spec`.
    """

    def build(self, documents: Ragged, folder: Path) -> None:  # noqa: B027 - most arms have no index
        """Write an index into `folder`, which is not there yet; its time is reported as the build time."""

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


@dataclass(frozen=True, slots=True)
class Spec:
    """One arm, described without importing its library.

    Attributes
    ----------
    label : str
        Its name in tables and plots.
    package : str
        The distribution whose version is recorded.
    home : str
        Module of `compare.arms` and class in it, with a colon between.
    kind : {"exact", "approximate", "search"}
        MaxSim in floats; MaxSim on compressed codes or behind a coarser screen; a search restricted to the candidates,
        which may leave some of them out.
    options : tuple
        Arguments of the class.
    tolerance : float, optional
        The largest error of a score that an exact arm may show; beyond it the figures are void.
    index : bool
        Whether `build` writes one.
    threads : bool
        Whether it can use more than one.
    """

    label: str
    package: str
    home: str
    kind: Literal["exact", "approximate", "search"]
    options: tuple[Any, ...] = ()
    tolerance: float | None = None
    index: bool = False
    threads: bool = True

    def make(self) -> Arm:
        """Import the library and make the arm."""
        module, name = self.home.split(":")
        arm: Arm = getattr(import_module(f"compare.arms.{module}"), name)(*self.options)
        return arm


def aligned(ids: Sequence[int], scores: Sequence[float], candidates: IdArray) -> FloatArray:
    """Put scores in the order of `candidates`, -inf where there is none."""
    found = dict(zip(ids, scores, strict=True))
    return np.array([found.get(key, -np.inf) for key in candidates.tolist()], dtype=np.float32)
