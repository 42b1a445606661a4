"""Work that takes time: on threads, within bounds, what is alike at once, and ended when nobody waits for it."""

import asyncio
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from latewood._core import Stop
from latewood.serve.problems import Problem

MOST_AT_ONCE = 16
"""Requests that become one batch: beyond, the first waits for the last and other threads for work, without gain."""

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


class _Batch:
    def __init__(self, work: Work) -> None:
        self.work = work
        self.items: list[tuple[Any, asyncio.Future[Any]]] = []
        self.wanted = 0
        self.begun = False
        self.stop = Stop()


class Desk:
    """Takes in work, and does so much of it at once as there are threads.

    Requests of one key that wait are done together, as one batch. Where a thread is free nothing waits, so that a batch
    is never longer than what came while all threads were at work.

    Parameters
    ----------
    threads : int
    waiting : int
        Requests that may wait.
    """

    def __init__(self, threads: int, waiting: int) -> None:
        self._threads = threads
        self._most = waiting
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="latewood", initializer=_give_way)
        self._queue: deque[tuple[Hashable, _Batch]] = deque()
        self._open: dict[Hashable, _Batch] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._seconds = 0.05

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
        if self._waiting >= self._most:
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
        batch = self._open.get(key) if key is not None else None
        if batch is None or len(batch.items) >= MOST_AT_ONCE:
            batch = _Batch(work)
            self._queue.append((key, batch))
            if key is not None:
                self._open[key] = batch
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        future.add_done_callback(partial(self._left, batch))
        batch.items.append((item, future))
        batch.wanted += 1
        self._waiting += 1
        # Not at once, so that what came at the same time is done together.
        loop.call_soon(self._begin)
        return future

    def _left(self, batch: _Batch, _: Any) -> None:
        batch.wanted -= 1
        if not batch.begun:
            self._waiting -= 1
        elif not batch.wanted:
            batch.stop.set()

    async def close(self) -> None:
        """Wait for all that was taken in."""
        while self._running:
            await asyncio.wait(self._running)
        self._pool.shutdown()

    def _begin(self) -> None:
        while self._queue and len(self._running) < self._threads:
            key, batch = self._queue.popleft()
            if self._open.get(key) is batch:
                del self._open[key]
            batch.items = [(item, future) for item, future in batch.items if not future.done()]
            batch.begun = True
            self._waiting -= batch.wanted
            if batch.items:
                task = asyncio.create_task(self._do(batch))
                self._running.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._begin()

    async def _do(self, batch: _Batch) -> None:
        items = [item for item, _ in batch.items]

        def work() -> list[Any]:
            with batch.stop:
                return batch.work(items)

        begun = time.perf_counter()
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except Exception as error:  # noqa: BLE001  whoever asked is told
            results = [error] * len(items)
        self._seconds += 0.1 * (time.perf_counter() - begun - self._seconds)
        for (_, future), result in zip(batch.items, results, strict=True):
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
