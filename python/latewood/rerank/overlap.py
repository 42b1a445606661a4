"""Two steps of work on several parts: the first on one part while the second is on the part before."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

_Part = TypeVar("_Part")
_Found = TypeVar("_Found")
_Result = TypeVar("_Result")


def overlapped(
    parts: Sequence[_Part], first: Callable[[_Part], _Found], second: Callable[[_Found], _Result]
) -> list[_Result]:
    """Give `second(first(part))` for each part, in order.

    `first` is called here, in the caller's own thread: what it calls may be bound to that, as a database connection is.
    Meanwhile `second` works on the part before, in another thread. Of several errors the one of the earliest part is
    raised, and nothing is at work any more by then.
    """
    if len(parts) <= 1:
        return [second(first(part)) for part in parts]
    results: list[_Result] = []
    running: Future[_Result] | None = None
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="latewood-second-stage") as thread:
        for part in parts:
            try:
                found = first(part)
            except Exception:
                if running is not None:
                    running.result()
                raise
            if running is not None:
                results.append(running.result())
            running = thread.submit(copy_context().run, second, found)
        if running is not None:
            results.append(running.result())
    return results
