"""Each arm lives in a process of its own, with its threads and cores set before a library is imported.

OpenMP, rayon and torch keep pools for a whole process and read their size once, and a library may abort its process.
The parent lets one child work at a time, so the arms still take turns on the same cores.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from compare.arm import FloatArray, Found, Library
from compare.workload import Question, load
from resampled import Source

LIMIT = 900
"""Seconds that one request may take, by default."""


class ArmError(Exception):
    """An arm cannot be made, failed or died; the message says how."""


class Child:
    """The parent's end of an arm.

    Parameters
    ----------
    library : Library
    scratch : Path
        Where `workload.save` put the documents of a rerank, and where indexes go.
    threads : int
        Threads for the library's pools, and cores that the process may run on.
    limit : float
        Seconds that one request may take.
    """

    def __init__(self, library: Library, scratch: Path, threads: int, limit: float = LIMIT) -> None:
        context = get_context("spawn")
        self.limit = limit
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, library, scratch, threads), daemon=True)
        with limited(threads):
            self.process.start()
        other.close()

    def ask(self, request: str, *arguments: Any) -> Any:
        """Send a request to `Answerer` and wait for its answer."""
        try:
            self.connection.send((request, arguments))
            if not self.connection.poll(self.limit):
                message = f"no answer to {request} in {self.limit:.0f} s"
                raise ArmError(message)
            good, answer = self.connection.recv()
        except (EOFError, OSError) as error:
            self.process.join(5)
            message = f"the process died in {request}, exit code {self.process.exitcode}"
            raise ArmError(message) from error
        if not good:
            raise ArmError(answer)
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self.connection.close()


@dataclass(frozen=True, slots=True)
class Searched:
    """Seconds of each query, the processor's seconds for a query, and the hits of each."""

    seconds: list[float]
    processor: float
    found: list[Found]


class Answerer:
    """The child's end: each method answers one kind of request."""

    def __init__(self, library: Library, scratch: Path, threads: int) -> None:
        self.scratch = scratch
        self.folder = scratch / library.folder
        self.threads = threads
        self.arm: Any = library.make()

    def build(self, source: Source | None = None) -> float:
        """Build the index of the documents in `scratch`, or of a source of blocks; give the seconds."""
        blocks = [load(self.scratch)] if source is None else source.blocks()
        started = time.perf_counter()
        self.arm.build(blocks, self.folder)
        return time.perf_counter() - started

    def prepare(self) -> None:
        """Open the index of a reranker or take the documents in."""
        self.arm.prepare(load(self.scratch), self.folder, self.threads)

    def open(self) -> None:
        """Open the index of a searcher."""
        self.arm.open(self.folder, self.threads)

    def search(self, queries: list[FloatArray], k: int, setting: dict[str, Any]) -> Searched:
        """Search for the queries, one by one on one thread, else at once."""
        groups = [[query] for query in queries] if self.threads == 1 else [queries]
        seconds, found = [], []
        processor = time.process_time()
        for group in groups:
            started = time.perf_counter()
            answer = self.arm.search(group, k, **setting)
            seconds += [(time.perf_counter() - started) / len(group)] * len(group)
            found += self.arm.found(answer)
        return Searched(seconds, (time.process_time() - processor) / len(queries), found)

    def turn(self, questions: list[Question]) -> list[tuple[float, FloatArray]]:
        """Answer questions one by one; give the seconds and scores of each."""
        timed = []
        for question in questions:
            started = time.perf_counter()
            answer = self.arm.rerank(question.query, question.candidates)
            seconds = time.perf_counter() - started
            timed.append((seconds, self.arm.scores(answer, question.query, question.candidates)))
        return timed

    def batch(self, questions: list[Question]) -> list[tuple[float, FloatArray]]:
        """Answer questions at once; give for each its share of the seconds, and the scores."""
        queries = [question.query for question in questions]
        candidates = [question.candidates for question in questions]
        started = time.perf_counter()
        answers = self.arm.rerank_many(queries, candidates)
        seconds = (time.perf_counter() - started) / len(questions)
        return [
            (seconds, self.arm.scores(answer, question.query, question.candidates))
            for answer, question in zip(answers, questions, strict=True)
        ]


def serve(connection: Connection, library: Library, scratch: Path, threads: int) -> None:
    """Answer the parent's requests until it goes away; the arm is made at the first, so that a failure is an answer."""
    answerer: Answerer | None = None
    while True:
        try:
            request, arguments = connection.recv()
        except EOFError:
            return
        try:
            answerer = answerer or Answerer(library, scratch, threads)
            connection.send((True, getattr(answerer, request)(*arguments)))
        except Exception as error:  # noqa: BLE001 - a rival may fail in any way; the others go on
            connection.send((False, f"{type(error).__name__}: {error}".splitlines()[0]))


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Let processes that start inside inherit this many threads and cores."""
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"]
    environment, cores = dict(os.environ), available_cores()
    os.environ.update(dict.fromkeys(names, str(threads)))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores[:threads])
    try:
        yield
    finally:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        os.environ.clear()
        os.environ.update(environment)


def available_cores() -> list[int]:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
