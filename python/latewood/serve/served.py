"""An index as a service has it: it follows new commits, and its writers wait for each other, in other processes too."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from latewood.cloud.store import is_url
from latewood.errors import IndexLockedError, IndexReplacedError, LatewoodError
from latewood.index.encoding import RECORDED
from latewood.index.index import Index
from latewood.index.results import Hits

PAUSE = 0.02
"""Seconds between two looks at whether another process has finished writing."""

STORE_PAUSE = 10.0
"""Seconds between two looks at what is published in object storage, which takes its time."""
R = TypeVar("R")


class ServedIndex:
    """An index that moves to the newest commit before each answer.

    Parameters
    ----------
    name : str
    index : Index or path-like
    encoder : Encoder or str, optional
        Of an index that is given by its path and has none of its own; "recorded" for the one that it was made with.
    """

    def __init__(self, name: str, index: Index | str | os.PathLike[str], encoder: Any = None) -> None:
        self.name = name
        self._encoder = index.encoder if isinstance(index, Index) else encoder
        self.index = index if isinstance(index, Index) else self._opened(index)
        self._where = str(index) if is_url(index) else self.index.path
        self._pause = STORE_PAUSE if is_url(index) else 0.0
        self._looked = 0.0

    def _opened(self, where: str | os.PathLike[str]) -> Index:
        index = Index.open(where)
        has_none = index.encoder is None and self._encoder is not None
        if has_none and (self._encoder != RECORDED or index.info()["encoder"] is not None):
            index.use_encoder(self._encoder)
        return index

    def _newest(self) -> Index:
        """Give the index at its newest commit; what was put into its place, such as one that was built anew, too."""
        now = time.monotonic()
        if now - self._looked >= self._pause:
            self._looked = now
            try:
                self.index.refresh()
            except IndexReplacedError:
                self.index = self._opened(self._where)
        return self.index

    def read(self, ask: Callable[[Index], R]) -> tuple[R, int]:
        """Ask the newest commit; the answer, and the generation that it is of."""
        index = self._newest()
        generation = index.generation
        try:
            answer = ask(index)
            if generation == index.generation:
                return answer, generation
        except LatewoodError:
            if generation == index.generation:
                raise
        # Another thread has moved the index meanwhile. What is opened here moves for nobody, so that the second answer
        # is of one commit, however fast others come.
        own = Index.open(index.path, encoder=index.encoder, check_encoder=False)
        return ask(own), own.generation

    def read_each(
        self, items: Sequence[Any], ask: Callable[[Index, Sequence[Any]], Sequence[R]]
    ) -> list[tuple[R, int] | Exception]:
        """Ask for all items at once; if that fails, for each alone, so that one's error is not another's."""
        try:
            answers, generation = self.read(lambda index: ask(index, items))
            return [(answer, generation) for answer in answers]
        except LatewoodError as error:
            if len(items) == 1:
                return [error]
            return [one for item in items for one in self.read_each([item], ask)]

    def write(self, change: Callable[[Index], R]) -> tuple[R, int]:
        """Change the index, when no other process does; what `latewood.Stop` ends, while it waits too."""
        while True:
            try:
                index = self._newest()
                return change(index), index.generation
            # Nothing was changed.
            except (IndexLockedError, IndexReplacedError):
                time.sleep(PAUSE)


def told(hits: Hits, generation: int) -> dict[str, Any]:
    """Give what an answer tells of the hits of a query."""
    return {"hits": hits.to_dicts(), "plan": hits.plan, "stats": hits.stats, "generation": generation}
