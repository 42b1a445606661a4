"""The process of a shard: questions that have come as bytes → calls of a `ShardReader` → answers as bytes."""

import os
from collections import deque

from latewood._core import Stop
from latewood.cluster.packing import packed, unpacked
from latewood.cluster.reading import ShardReader

REMEMBERED = 1024
"""Questions that are known to be needed no longer; some of them may only come to their turn later."""


class Replica:
    """Answers for one shard, and ends what nobody waits for.

    Parameters
    ----------
    root, place
        As for `ShardReader`.
    """

    def __init__(self, root: str | os.PathLike[str], place: int) -> None:
        self._reader = ShardReader(root, place)
        self._running: dict[int, Stop] = {}
        self._ended: deque[int] = deque(maxlen=REMEMBERED)

    def answer(self, question: bytes) -> bytes:
        """Call the reader: the question is a number of its own, the call's name, and the arguments."""
        number, method, *arguments = unpacked(question)
        with Stop() as stop:
            self._running[number] = stop
            try:
                if number in self._ended:
                    stop.set()
                return packed(getattr(self._reader, method)(*arguments))
            finally:
                del self._running[number]

    def end(self, number: int) -> None:
        """End the answer to a question, which raises `StoppedError`; one that is not asked yet as well."""
        self._ended.append(number)
        stop = self._running.get(number)
        if stop is not None:
            stop.set()
