"""Forks in the middle of everything: no child hangs, no child commits its parent's changes, and the parent goes on."""

import functools
import gc
import os
import random
import shutil
import signal
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from latewood import Index, Ragged, maxsim
from latewood.errors import IndexLockedError, InvalidInputError, LatewoodError, WriterError
from trials.child import child_of, serve
from trials.corpora import token_vectors
from trials.counts import Attempts, Counts
from trials.questions import plain

DIM = 32
LIMIT = 20.0
"""Seconds of a child: a hundred times what it needs."""
Child = Callable[[], str | None]
"""Run in the child; gives what is wrong, if anything."""
Fork = Callable[[Child], Callable[[], None]]
"""Starts a child, and gives what waits for its end."""


class Place:
    """Indexes to fork over, made once."""

    def __init__(self, folder: Path, documents: int) -> None:
        self.folder = folder
        vectors = token_vectors(1, documents, dim=DIM, tokens=(2, 3))
        self.documents = vectors[:3000]
        self.queries = token_vectors(2, 8, dim=DIM)
        offsets = np.cumsum([0, *map(len, vectors)]).astype(np.int64)
        large = Index.create(folder / "large", dim=DIM, train_after=0)
        large.add(
            range(documents),
            vectors=Ragged(np.concatenate(vectors), offsets),
            metadata=[{"number": number, "name": f"n{number % 10}"} for number in range(documents)],
        )
        self.found = self.ask(large)
        Index.create(folder / "small", dim=DIM, train_after=0).add([0, 1], vectors=self.documents[:2])

    def ask(self, index: Index) -> list[Any]:
        """Give what a filtered and a plain search find, and what needs threads."""
        some = index.search_batch(self.queries, 5, filter={"number": {"lt": 30_000}, "name": ["n1", "n2"]})
        more = index.search_batch(self.queries, 5, gather="exact")
        scores = maxsim(self.queries, self.documents[:50])
        return [[[(hit.id, hit.score) for hit in hits] for hits in (*some, *more)], float(np.sum(scores))]

    def copy(self) -> Index:
        """Open a fresh copy of the small index."""
        shutil.rmtree(self.folder / "copy", ignore_errors=True)
        shutil.copytree(self.folder / "small", self.folder / "copy")
        return Index.open(self.folder / "copy")

    def asks_again(self, index: Index) -> str | None:
        """Ask in a child."""
        return None if self.ask(index) == self.found else "the child finds other documents"


def _refused(what: str, call: Callable[[], Any], *kinds: type[LatewoodError]) -> str | None:
    try:
        call()
    except kinds:
        return None
    except Exception as error:  # noqa: BLE001  every other exception is a finding
        return f"{what} raised {type(error).__name__}: {error}"
    return f"{what} was not refused"


def _uses(writer: Any, vectors: list[Any], choices: random.Random) -> str | None:
    """Use an inherited writer in every way; each is refused."""
    uses = {
        "add": lambda: writer.add([50], vectors=vectors[:1]),
        "upsert": lambda: writer.upsert([0], vectors=vectors[:1]),
        "delete": lambda: writer.delete([0]),
        "commit": writer.commit,
    }
    for name in choices.sample(list(uses), len(uses)):
        # One that another thread of the parent uses right now is at work for ever.
        wrong = _refused(name, uses[name], WriterError, InvalidInputError)
        if wrong:
            return wrong
    return None


def _inherited_writer(place: Place, choices: random.Random, fork: Fork) -> str | None:
    """The child has a writer with changes that are not committed."""
    index = place.copy()
    writer = index.writer()
    count = choices.choice((0, 1, 500))
    if count:
        writer.add(range(10, 10 + count), vectors=place.documents[:count])
    own, waiting = choices.random() < 0.5, choices.random() < 0.5

    def child() -> str | None:
        wrong = _uses(writer, place.documents, choices)
        if waiting:
            wrong = wrong or _refused("another writer", index.writer, IndexLockedError)
        if own:
            # It may close what it cannot use, and goes on with an index of its own.
            writer.close()
            gc.collect()
        return wrong or place.asks_again(Index.open(place.folder / "large"))

    wait = fork(child)
    if waiting:
        wait()
    writer.commit()
    # The child may still be there, with a copy of the lock.
    writer.close()
    index.writer().close()
    return _holds(index, 2 + count)


def _adding_thread(place: Place, choices: random.Random, fork: Fork) -> str | None:
    """Another thread adds, or commits, at the moment of the fork."""
    index = place.copy()
    writer = index.writer()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            writer.add(range(10, 3010), vectors=place.documents)
            writer.commit()
        except BaseException as error:  # noqa: BLE001  told by the main thread
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(choices.uniform(0, 0.06))

    def child() -> str | None:
        return _uses(writer, place.documents, choices) or place.asks_again(Index.open(place.folder / "large"))

    fork(child)
    thread.join()
    writer.close()
    return f"the parent: {errors}" if errors else _holds(index, 3002)


def _filtering_thread(place: Place, choices: random.Random, fork: Fork) -> str | None:
    """Another thread builds a column of metadata, and searches, at the moment of the fork."""
    index = Index.open(place.folder / "large")
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(place.ask(index))) for _ in range(choices.choice((1, 3)))]
    for thread in threads:
        thread.start()
    time.sleep(choices.uniform(0, 0.12))
    fork(lambda: place.asks_again(index))
    for thread in threads:
        thread.join()
    return None if all(some == place.found for some in found) else "the parent finds other documents"


def _opening_thread(place: Place, choices: random.Random, fork: Fork) -> str | None:
    """Another thread opens, refreshes and explains at the moment of the fork; the child has hits of the parent."""
    index = Index.open(place.folder / "large")
    hits = index.search(place.queries[0], 5)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            other = Index.open(index.path, mmap=choices.random() < 0.5)
            other.refresh()
            other.vectors(list(range(200)))
            hits[0].explain()

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(choices.uniform(0, 0.03))

    def child() -> str | None:
        hits[0].explain()
        index.refresh()
        other = Index.create(place.folder / f"own-{os.getpid()}", dim=DIM)
        other.add([1], vectors=place.documents[:1])
        return place.asks_again(index)

    fork(child)
    stop.set()
    thread.join()
    return None


SCENES = (_inherited_writer, _adding_thread, _filtering_thread, _opening_thread)


def _holds(index: Index, count: int) -> str | None:
    stored = Index.open(index.path)
    if len(stored) != count or len(plain(stored.ids())) != count:
        return f"{len(stored)} documents where {count} are right"
    problems = stored.check()
    return f"check() says {problems}" if problems else None


def _fork(child: Child) -> tuple[int, int]:
    """Fork; the process and the pipe that it tells by."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    try:
        wrong = child()
    except BaseException:  # noqa: BLE001  whatever it is, the parent tells of it
        wrong = traceback.format_exc()[-600:]
    os.write(writing, (wrong or "").encode())
    os._exit(0)


def _wait(counts: Counts, what: str, children: list[tuple[int, int]]) -> None:
    while children:
        _wait_for(counts, what, *children.pop())


def _wait_for(counts: Counts, what: str, process: int, reading: int) -> None:
    end = time.monotonic() + LIMIT
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            counts.fault("hangs", f"{what}: the child did not end")
            break
        time.sleep(0.002)
    with os.fdopen(reading, "rb") as pipe:
        wrong = pipe.read().decode(errors="replace")
    if wrong:
        counts.fault("lost" if "not refused" in wrong else "untyped", f"{what}: in the child: {wrong}")


def run(counts: Counts, attempts: Attempts, *, documents: int = 60_000) -> None:
    """Fork, in a process of its own that another watches."""
    child_of(counts, attempts, "trials.forks", str(documents), limit=120.0)


def play(counts: Counts, attempts: Attempts, documents: int) -> None:
    """Play the scenes in turn."""
    # CPython warns that a child of a process with threads may hang: that is the question here.
    warnings.simplefilter("ignore", DeprecationWarning)
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), documents)
        for number, (name, choices) in enumerate(attempts):
            scene = SCENES[number % len(SCENES)]
            what = f"{name}, {scene.__name__[1:]}"
            children: list[tuple[int, int]] = []
            wait = functools.partial(_wait, counts, what, children)

            def fork(child: Child, children: list[tuple[int, int]] = children, wait: Any = wait) -> Callable[[], None]:
                children.append(_fork(child))
                return wait  # type: ignore[no-any-return]

            try:
                wrong = scene(place, choices, fork)
            except LatewoodError as error:
                wrong = f"the parent: {type(error).__name__}: {error}"
            wait()
            if wrong:
                counts.fault("lost", f"{what}: {wrong}")


if __name__ == "__main__":
    import sys

    serve(lambda counts, attempts: play(counts, attempts, int(sys.argv[2])))
