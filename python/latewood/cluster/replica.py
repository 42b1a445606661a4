"""The process of a shard: questions that have come as bytes → calls of a `ShardReader` → answers as bytes."""

import os
from collections import deque
from collections.abc import Sequence
from typing import Any

from latewood import errors
from latewood._core import Stop
from latewood.cluster.homes import home_of
from latewood.cluster.packing import packed, unpacked
from latewood.cluster.reading import ShardReader
from latewood.errors import LatewoodError

REMEMBERED = 1024
"""Questions that are known to be needed no longer; some of them may only come to their turn later."""


def asking(number: int, method: str, arguments: Sequence[Any]) -> bytes:
    """Write a question: its number, by which it can be ended, and a call of a `ShardReader`."""
    return packed((number, method, *arguments))


def answered(answer: bytes) -> list[Any]:
    """Read an answer: what the call gives. What it raises is raised here."""
    error, *values = unpacked(answer)
    if error is not None:
        kind: type[LatewoodError] = getattr(errors, error)
        raise kind(*values)
    return values


class Replica:
    """Answers for one shard, and ends what nobody waits for.

    Parameters
    ----------
    path, cache
        As for `home_of`.
    place : int
        As for `ShardReader`.
    """

    def __init__(self, path: str | os.PathLike[str], cache: str | None, place: int) -> None:
        self._reader = ShardReader(home_of(path, cache), place)
        self._running: dict[int, Stop] = {}
        self._ended: deque[int] = deque(maxlen=REMEMBERED)

    def answer(self, question: bytes) -> bytes:
        """Call the reader; `asking` asks, and `answered` reads what this gives."""
        number, method, *arguments = unpacked(question)
        with Stop() as stop:
            self._running[number] = stop
            try:
                if number in self._ended:
                    stop.set()
                return packed((None, *getattr(self._reader, method)(*arguments)))
            except LatewoodError as error:
                # Ray writes what a call raises to its logs when nobody asks for it, and a message may name an id.
                return packed((type(error).__name__, str(error.args[0])))
            finally:
                del self._running[number]

    def end(self, number: int) -> None:
        """End the answer to a question, whether it is asked already or comes later."""
        self._ended.append(number)
        stop = self._running.get(number)
        if stop is not None:
            stop.set()
