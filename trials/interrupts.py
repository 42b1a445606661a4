"""Ctrl-C at a random moment of every long call: it has done nothing, or returns and has done all, and hears it at once.

The signal is the alarm's, which the system sends by its own clock, with the handler of Ctrl-C. What counts is when the
exception leaves the call.
"""

import functools
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import latewood
from latewood import Index, Ragged
from latewood.encode.pooling import pool_tokens
from latewood.errors import LatewoodError, WriterError
from trials.child import child_of
from trials.corpora import WordEncoder, token_vectors
from trials.counts import Attempts, Counts

HEARD = 0.2
"""Seconds within which a call must end."""
PATIENCE = 1.0
"""Seconds after a call within which an interruption must have come."""
DIM = 64


@dataclass(frozen=True, slots=True)
class Scene:
    """A call that is interrupted, and what must be so after it; `verify` gives what is wrong, if anything."""

    call: Callable[[], Any]
    verify: Callable[[bool], str | None]


class Alarm:
    """Raises KeyboardInterrupt in what is called, and notes when."""

    def __init__(self) -> None:
        self.rung: list[tuple[float, bool]] = []
        for number in (signal.SIGALRM, signal.SIGINT):
            signal.signal(number, self._ring)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        # Between the call and this file no exception is wanted: it would be nobody's.
        inside = frame is not None and frame.f_code.co_filename != __file__
        self.rung.append((time.monotonic(), inside))
        if inside:
            raise KeyboardInterrupt

    def interrupt(self, call: Callable[[], Any], delay: float) -> tuple[bool, float | None]:
        """Call with an alarm after so many seconds; whether it returned, and how late the interruption was heard.

        None if it came before or after the call, and infinity if it was never heard.
        """
        self.rung.clear()
        due = time.monotonic() + delay
        signal.setitimer(signal.ITIMER_REAL, delay)
        try:
            call()
        except KeyboardInterrupt:
            return False, time.monotonic() - due
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if not self.rung:
            return True, None
        end = time.monotonic() + PATIENCE
        # One that came inside was put off, and comes again.
        while self.rung[-1][1]:
            if time.monotonic() > end:
                return True, float("inf")
            time.sleep(0.001)
        return True, self.rung[-1][0] - due


class Stage:
    """Indexes and arrays that the scenes are played with; `scale` is 1 for calls of about half a second."""

    def __init__(self, folder: Path, scale: float) -> None:
        self.folder = folder
        self.documents = max(60, int(20_000 * scale))
        documents = token_vectors(1, self.documents, dim=DIM)
        offsets = np.cumsum([0, *map(len, documents)]).astype(np.int64)
        self.many = Ragged(np.concatenate(documents), offsets)
        self.few = documents[:50]
        self.ids = list(range(self.documents))
        self.queries = token_vectors(2, 64, dim=DIM, tokens=(200, 200))
        large = Index.create(folder / "large", dim=DIM, train_after=0)
        large.add(self.ids, vectors=self.many, texts=["a text"] * self.documents, metadata=[{"n": 1}] * self.documents)
        pieces = Index.create(folder / "pieces", dim=DIM, train_after=0)
        step = self.documents // 6
        for start in range(0, 6 * step, step):
            pieces.add(self.ids[start : start + step], vectors=documents[start : start + step], merge=False)
        pieces.delete(self.ids[:3], merge=False)
        small = Index.create(folder / "small", dim=DIM, train_after=0)
        small.add([-1, -2], vectors=token_vectors(3, 2, dim=DIM))
        Index.create(folder / "empty", dim=DIM, train_after=0)
        Index.create(folder / "texts", encoder=WordEncoder())
        self.texts = [f"word{number % 7000} and {number} more" for number in range(max(1100, int(6000 * scale)))]
        self.large = Index.open(folder / "large")

    def copy(self, name: str, **options: Any) -> Index:
        """Open a fresh copy of one of the indexes."""
        shutil.rmtree(self.folder / "copy", ignore_errors=True)
        shutil.copytree(self.folder / name, self.folder / "copy")
        return Index.open(self.folder / "copy", **options)


def _state(index: Index, before: int, after: int, *, returned: bool) -> str | None:
    """What is on disk must be `before` or `after`, and the object must see it too, and take another writer."""
    stored = Index.open(index.path)
    expected = after if returned else before
    if len(stored) != expected:
        return f"{len(stored)} documents on disk where {expected} are right"
    if len(index) != expected:
        return f"the object sees {len(index)} documents where {expected} are right"
    problems = stored.check()
    if problems:
        return f"check() says {problems}"
    try:
        index.writer().close()
    except LatewoodError as error:
        return f"another writer is refused: {error}"
    return None


def _reading(call: Callable[[], Any]) -> Scene:
    """A call that changes nothing, and gives the same after it was interrupted as before."""
    return Scene(call, lambda returned: None)


def _writer_add(stage: Stage) -> Scene:
    index = stage.copy("small")
    writer = index.writer()

    def verify(returned: bool) -> str | None:
        try:
            writer.commit()
        except WriterError as error:
            if returned:
                return f"the writer takes no commit: {error}"
        writer.close()
        return _state(index, 2, 2 + stage.documents, returned=returned)

    return Scene(lambda: writer.add(stage.ids, vectors=stage.many), verify)


def _writer_add_texts(stage: Stage) -> Scene:
    index = stage.copy("texts", encoder=WordEncoder())
    writer = index.writer()
    ids = range(len(stage.texts))

    def verify(returned: bool) -> str | None:
        try:
            writer.commit()
        except WriterError as error:
            if returned:
                return f"the writer takes no commit: {error}"
        writer.close()
        return _state(index, 0, len(ids), returned=returned)

    return Scene(lambda: writer.add(ids, texts=stage.texts), verify)


def _commit(stage: Stage) -> Scene:
    """Trains the codec, encodes and writes."""
    index = stage.copy("empty")
    writer = index.writer()
    writer.add(stage.ids, vectors=stage.many)

    def verify(returned: bool) -> str | None:
        if not returned:
            # It has done nothing, so that it can be done again.
            fault = None if len(Index.open(index.path)) == 0 else "documents on disk, though it raised"
            if fault is None:
                writer.commit()
            writer.close()
            return fault or _state(index, 0, stage.documents, returned=True)
        writer.close()
        return _state(index, 0, stage.documents, returned=True)

    return Scene(writer.commit, verify)


def _upsert(stage: Stage) -> Scene:
    index = stage.copy("small")

    def call() -> None:
        index.upsert(stage.ids[:50], vectors=stage.few, texts=["x"] * 50)

    return Scene(call, lambda returned: _state(index, 2, 52, returned=returned))


def _index_add(stage: Stage) -> Scene:
    index = stage.copy("empty")
    call = functools.partial(index.add, stage.ids, vectors=stage.many)
    return Scene(call, lambda returned: _state(index, 0, stage.documents, returned=returned))


def _index_add_iterator(stage: Stage) -> Scene:
    index = stage.copy("empty")

    def call() -> None:
        index.add(iter(stage.ids), vectors=iter(stage.many))

    return Scene(call, lambda returned: _state(index, 0, stage.documents, returned=returned))


def _update_metadata(stage: Stage, **which: Any) -> Scene:
    """It has changed all of them or none."""
    index = stage.copy("large")

    def verify(returned: bool) -> str | None:
        changed = Index.open(index.path).count(filter={"seen": True})
        if changed != (stage.documents if returned else 0):
            return f"{changed} documents changed by a call that {'returned' if returned else 'raised'}"
        return _state(index, stage.documents, stage.documents, returned=returned)

    return Scene(lambda: index.update_metadata(metadata={"seen": True}, **which), verify)


def _index_add_texts(stage: Stage) -> Scene:
    index = stage.copy("texts", encoder=WordEncoder())
    ids = range(len(stage.texts))
    call = functools.partial(index.add, ids, texts=stage.texts)
    return Scene(call, lambda returned: _state(index, 0, len(ids), returned=returned))


def _delete(stage: Stage) -> Scene:
    index = stage.copy("pieces")
    before = len(index)
    gone = [int(key) for key in index.ids()][: before // 2]
    call = functools.partial(index.delete, gone)
    return Scene(call, lambda returned: _state(index, before, before - len(gone), returned=returned))


def _compact(stage: Stage) -> Scene:
    index = stage.copy("pieces")
    before = len(index)

    def verify(returned: bool) -> str | None:
        segments = Index.open(index.path).info()["segments"]
        if (segments == 1) != returned:
            return f"{segments} segments after a compaction that {'returned' if returned else 'raised'}"
        return _state(index, before, before, returned=returned)

    return Scene(index.compact, verify)


def _open(stage: Stage) -> Scene:
    return _reading(lambda: Index.open(stage.folder / "large", mmap=False))


SCENES: dict[str, Callable[[Stage], Scene]] = {
    "Writer.add of vectors": _writer_add,
    "Writer.add of texts": _writer_add_texts,
    "Writer.commit": _commit,
    "Index.add of vectors": _index_add,
    "Index.add of texts": _index_add_texts,
    "Index.add of an iterator": _index_add_iterator,
    "Index.upsert of a few": _upsert,
    "Index.update_metadata by ids": lambda stage: _update_metadata(stage, ids=stage.ids),
    "Index.update_metadata by a filter": lambda stage: _update_metadata(stage, filter={"n": 1}),
    "Index.delete": _delete,
    "Index.compact": _compact,
    "Index.check": lambda stage: _reading(stage.large.check),
    "Index.open into memory": _open,
    "exact search": lambda stage: _reading(lambda: stage.large.search(stage.queries[0], 10, gather="exact")),
    "search": lambda stage: _reading(lambda: stage.large.search(np.concatenate(stage.queries[:16]), 10)),
    "search_batch": lambda stage: _reading(lambda: stage.large.search_batch(stage.queries, 10)),
    "search on one thread": lambda stage: _reading(
        lambda: stage.large.search_batch(stage.queries[:4], 10, gather="exact", threads=1)
    ),
    "rerank": lambda stage: _reading(lambda: stage.large.rerank(stage.queries[0], stage.ids)),
    "Index.vectors": lambda stage: _reading(lambda: stage.large.vectors(stage.ids)),
    "Index.documents": lambda stage: _reading(lambda: stage.large.documents(stage.ids)),
    "maxsim": lambda stage: _reading(lambda: latewood.maxsim(stage.queries[:4], stage.many)),
    "pool_tokens": lambda stage: _reading(lambda: pool_tokens(stage.many, factor=2)),
}


def run(counts: Counts, attempts: Attempts, *, scale: float = 1.0) -> None:
    """Interrupt every call in turn, in a child process whose signals are its own."""
    child_of(counts, attempts, "trials.interrupts", str(scale), limit=120.0)


def play(counts: Counts, attempts: Attempts, scale: float) -> None:
    """Interrupt every call in turn."""
    with tempfile.TemporaryDirectory() as folder:
        stage, alarm = Stage(Path(folder), scale), Alarm()
        seconds: dict[str, float] = {}
        names = list(SCENES)
        for number, (name, choices) in enumerate(attempts):
            what = names[number % len(names)]
            if what not in seconds:
                scene = SCENES[what](stage)
                start = time.monotonic()
                scene.call()
                seconds[what] = time.monotonic() - start
                scene.verify(True)
            _attempt(counts, f"{name}, {what}", SCENES[what](stage), alarm, choices.uniform(0, 1.05 * seconds[what]))


def _attempt(counts: Counts, what: str, scene: Scene, alarm: Alarm, delay: float) -> None:
    try:
        returned, late = alarm.interrupt(scene.call, delay)
    except Exception as error:  # noqa: BLE001  whatever comes instead of the interruption is the finding
        counts.fault("untyped", f"{what}, after {delay:.3f} s: {type(error).__name__}: {error}")
        return
    counts.note("returned" if returned else "raised")
    if late is not None and late > HEARD:
        counts.fault("deaf", f"{what}, after {delay:.3f} s: heard {late:.3f} s late")
    wrong = scene.verify(returned)
    if wrong is not None:
        counts.fault("lost", f"{what}, after {delay:.3f} s, {'returned' if returned else 'raised'}: {wrong}")


if __name__ == "__main__":
    from trials.child import serve

    serve(lambda counts, attempts: play(counts, attempts, float(sys.argv[2])))
