"""Two writers where the lock does nothing: what returned is there, who loses is told, and nothing else is lost.

Either somebody removes the lock's file again and again, or the system's `flock` is put out of action.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from latewood import Index
from latewood.errors import CommitConflictError, IndexLockedError, IndexReplacedError, LatewoodError
from trials.corpora import token_vectors
from trials.counts import Attempts, Counts
from trials.questions import plain

ROOT = Path(__file__).parent.parent
DIM = 32
OWN = 10**6
"""Ids of a writer: from its number times this on."""
ROUND = 10.0
"""Seconds that two writers work."""
LOSES = (CommitConflictError, IndexReplacedError, IndexLockedError)
NO_LOCK = "#include <sys/file.h>\nint flock(int fd, int operation) { (void)fd; (void)operation; return 0; }\n"


def work(path: str, writer: int, seconds: float, seed: str) -> None:
    """Change the index for so long, and say what became of each change."""
    choices = random.Random(seed)
    vectors = token_vectors(writer, 4, dim=DIM)
    index = Index.open(path)
    end = time.monotonic() + seconds
    own: list[int] = []
    number = writer * OWN
    while time.monotonic() < end:
        if choices.random() < 0.2:
            index = Index.open(path)
        kind = choices.choice(("add", "add", "add", "upsert", "delete", "compact"))
        keys = [number, number + 1]
        number += 2
        told: dict[str, Any] = {"kind": kind, "ids": keys}
        try:
            if kind == "add":
                index.add(keys, vectors=vectors[:2])
            elif kind == "upsert":
                keys = told["ids"] = [*own[-1:], *keys]
                index.upsert(keys, vectors=vectors[: len(keys)])
            elif kind == "delete":
                keys = told["ids"] = own[:1]
                index.delete(keys)
            else:
                index.compact()
        except LOSES as error:
            told["lost"] = type(error).__name__
        except Exception as error:  # noqa: BLE001  every other exception is a finding
            told["wrong"] = f"{kind}: {type(error).__name__}: {error}"
        else:
            if kind == "delete":
                own = own[1:]
            elif kind != "compact":
                own += [key for key in keys if key not in own]
        print(json.dumps(told), flush=True)
        if choices.random() < 0.3:
            time.sleep(choices.uniform(0, 0.01))


def run(counts: Counts, attempts: Attempts, *, seconds: float = ROUND) -> None:
    """Let two writers work, first with one kind of broken lock, then with the other."""
    with tempfile.TemporaryDirectory() as scratch:
        without_flock = _library(Path(scratch))
        for number, (name, _) in enumerate(attempts):
            removing = number % 2 == 0 or without_flock is None
            path = Path(scratch) / "index"
            shutil.rmtree(path, ignore_errors=True)
            Index.create(path, dim=DIM, train_after=500)
            environment = {**os.environ, **({} if removing else {"LD_PRELOAD": str(without_flock)})}
            reports = [Path(scratch) / f"report-{writer}" for writer in (1, 2)]
            writers = [_start(path, report, seconds, name, environment) for report in reports]
            what = f"{name}, {'LOCK removed' if removing else 'flock without effect'}"
            _watch(counts, what, path, writers, seconds, removing=removing)
            _judge(counts, what, path, [report.read_text(encoding="utf-8") for report in reports])


def _start(path: Path, report: Path, seconds: float, name: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    number = int(report.name[-1])
    code = f"from trials.writers import work; work({str(path)!r}, {number}, {seconds}, {f'{name}/{number}'!r})"
    # What it says goes into a file, since a pipe that nobody empties stops it.
    with report.open("wb") as file:
        return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=file, env=environment)


def _library(scratch: Path) -> Path | None:
    """Compile a library that takes `flock` out, where there is a compiler and a loader that takes it."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    source, library = scratch / "flock.c", scratch / "flock.so"
    source.write_text(NO_LOCK, encoding="utf-8")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library


def _watch(
    counts: Counts, what: str, path: Path, writers: list[subprocess.Popen[bytes]], seconds: float, *, removing: bool
) -> None:
    """Read while they write, and with `removing` take their lock away."""
    end = time.monotonic() + seconds + 60
    index = Index.open(path)
    generation = 0
    while any(process.poll() is None for process in writers) and time.monotonic() < end:
        if removing:
            (path / "LOCK").unlink(missing_ok=True)
        try:
            index.refresh()
            if len(index) != len(plain(index.ids())):
                counts.fault("mixed", f"{what}: a reader counts {len(index)} documents and sees others")
            if index.generation < generation:
                counts.fault("lost", f"{what}: a reader went from generation {generation} back to {index.generation}")
            generation = index.generation
            Index.open(path)
        except LatewoodError as error:
            counts.fault("unopenable", f"{what}: a reader: {type(error).__name__}: {error}")
        counts.note("reads")
    for process in writers:
        if process.poll() is None:
            process.kill()
            counts.fault("hangs", f"{what}: a writer did not end")


def _judge(counts: Counts, what: str, path: Path, outputs: list[str]) -> None:
    expected: set[int] = set()
    forbidden: set[int] = set()
    for output in outputs:
        for line in output.splitlines():
            told = json.loads(line)
            keys = set(told["ids"])
            if "wrong" in told:
                counts.fault("untyped", f"{what}: {told['wrong']}")
                # Whether it was done is not known.
                expected -= keys
                continue
            if "lost" in told:
                counts.note(told["lost"])
                if told["kind"] == "add":
                    forbidden |= keys
                continue
            counts.note(f"{told['kind']} returned")
            if told["kind"] == "delete":
                expected -= keys
                forbidden |= keys
            elif told["kind"] != "compact":
                expected |= keys
    try:
        index = Index.open(path)
        problems = index.check()
        found = set(plain(index.ids()))
    except LatewoodError as error:
        counts.fault("unopenable", f"{what}: {error}")
        return
    if problems:
        counts.fault("unopenable", f"{what}: check() says {problems}")
    if expected - found:
        counts.fault("lost", f"{what}: {len(expected - found)} documents, {sorted(expected - found)[:6]}")
    if forbidden & found:
        counts.fault(
            "lost", f"{what}: {sorted(forbidden & found)[:6]} are there, though the call raised or deleted them"
        )
