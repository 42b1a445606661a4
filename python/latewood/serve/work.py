"""Work that takes time: on threads, within bounds, what is alike at once, and ended when nobody waits for it."""

import asyncio
import math
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any, NamedTuple

from latewood._core import Stop
from latewood.serve.problems import Problem

MOST_AT_ONCE = 16
"""Requests that become one batch: beyond, there is no gain."""

NICE = 5
"""So much nicer than the thread that answers are those that work."""

Work = Callable[[list[Any]], list[Any]]
"""Items → a result, or an exception, for each."""


def _give_way() -> None:
    """Let the thread that answers go first: who is turned away must not wait until those that work have had their turn.

    Only on Linux a thread has a niceness of its own.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        # A sandbox may forbid it, and nothing depends on it.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)


class _Asked(NamedTuple):
    work: Work
    item: Any
    key: Hashable


class Desk:
    """Takes in work, and does so much of it at once as there are threads.

    Requests of one key that wait are done together, in batches that are each thread's share of them. Where a thread is
    free nothing waits, so that they are never more than what came while all threads were at work.

    Parameters
    ----------
    threads : int
    waiting : int
        Requests that may wait.
    """

    def __init__(self, threads: int, waiting: int) -> None:
        self._threads = threads
        self._most = waiting
        self._pool = self._made_pool()
        self._waiting: dict[asyncio.Future[Any], _Asked] = {}
        """In the order in which they came."""
        self._running: set[asyncio.Task[None]] = set()
        self._seconds = 0.05

    def _made_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="latewood", initializer=_give_way)

    @property
    def running(self) -> int:
        """Threads that are at work."""
        return len(self._running)

    def admit(self) -> None:
        """Refuse another request when as many wait as may.

        Raises
        ------
        Problem
            So many wait that this one would wait too long.
        """
        if len(self._waiting) >= self._most:
            expected = math.ceil(self._seconds * self._most / (MOST_AT_ONCE * self._threads))
            message = f"{self._most} requests wait already; ask again in a moment"
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, message, Retry_After=str(max(1, expected)))

    def submit(self, work: Work, item: Any, key: Hashable = None) -> "asyncio.Future[Any]":
        """Take in an item, to be done with others of its key; with None, by itself.

        Cancelling the future gives the item up. When all items of a batch are given up, its work is stopped.

        Raises
        ------
        Problem
            As `admit`.
        """
        self.admit()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting[future] = _Asked(work, item, key)
        future.add_done_callback(self._given_up)
        # Not at once, so that what came at the same time is done together.
        loop.call_soon(self._begin)
        return future

    def _given_up(self, future: "asyncio.Future[Any]") -> None:
        self._waiting.pop(future, None)

    async def close(self) -> None:
        """Wait for all that was taken in, and let the threads go."""
        while self._running:
            await asyncio.wait(self._running)
        self._pool.shutdown()
        # Whoever tests a program starts its application for each test; a pool without work has no threads.
        self._pool = self._made_pool()

    def _begin(self) -> None:
        while self._waiting and len(self._running) < self._threads:
            taken = {future: asked for future, asked in self._next().items() if not future.done()}
            if taken:
                task = asyncio.create_task(self._do(taken))
                self._running.add(task)
                task.add_done_callback(self._ended)

    def _next(self) -> "dict[asyncio.Future[Any], _Asked]":
        """Take the next batch out of what waits.

        If one thread took all that is alike, the first would wait for the last, and so would what comes meanwhile.
        """
        first, asked = next(iter(self._waiting.items()))
        alike = [first]
        if asked.key is not None:
            alike = [future for future, other in self._waiting.items() if other.key == asked.key]
        share = min(math.ceil(len(alike) / self._threads), MOST_AT_ONCE)
        return {future: self._waiting.pop(future) for future in alike[:share]}

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._begin()

    async def _do(self, batch: "dict[asyncio.Future[Any], _Asked]") -> None:
        items = [asked.item for asked in batch.values()]
        first = next(iter(batch.values()))
        stop, wanted = Stop(), set(batch)

        def left(future: asyncio.Future[Any]) -> None:
            wanted.discard(future)
            if not wanted:
                stop.set()

        for future in batch:
            future.add_done_callback(left)

        def work() -> list[Any]:
            try:
                with stop:
                    return first.work(items)
            except Exception as error:  # noqa: BLE001  whoever asked is told
                return [error] * len(items)

        begun = time.perf_counter()
        results = await asyncio.get_running_loop().run_in_executor(self._pool, work)
        self._seconds += 0.1 * (time.perf_counter() - begun - self._seconds)
        for future, result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


@asynccontextmanager
async def unless(gone: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Cancel what is awaited in the block when `gone` ends: the client has left, and nobody waits for it any more."""
    task = asyncio.current_task()
    leaving = asyncio.create_task(gone)
    leaving.add_done_callback(lambda left: None if left.cancelled() or task is None else task.cancel())
    try:
        yield
    finally:
        leaving.cancel()
