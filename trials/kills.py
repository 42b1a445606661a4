"""SIGKILL at a random moment of a writer's work: whole commits only, and every commit that was reported."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latewood import Index, Writer
from latewood.cluster import ClusterWriter
from latewood.errors import IndexNotFoundError, LatewoodError
from trials.corpora import token_vectors
from trials.counts import Attempts, Counts

ROOT = Path(__file__).parent.parent
DIM = 32
ADDED = 8
"""Documents of a commit; of those of the one before it also replaces one, deletes one, and changes the others."""
TRAIN_AFTER = 400
"""Token vectors: the third commit trains."""
COMPACTED = 6
"""Commits between two compactions."""
LONGEST = 0.12
"""Seconds that a writer works at most."""
Documents = dict[Any, tuple[str | None, Mapping[str, Any] | None]]
"""Text and metadata by id."""


def state(commits: int) -> Documents:
    """What the index holds after so many commits."""
    documents: Documents = {}
    for number in range(commits):
        first = number * ADDED
        documents.update((first + place, (f"added {number}", {"commit": number})) for place in range(ADDED))
        if number:
            documents[first - 1] = (f"replaced {number}", None)
            del documents[first - 2]
            for key in range(first - ADDED, first - 2):
                documents[key] = (f"added {number - 1}", {"commit": number - 1, "seen": number})
            documents[0] = ("added 0", {"commit": 0, "seen": 1, "last": number})
    return documents


def change(writer: Writer | ClusterWriter, number: int) -> None:
    """Make the changes of a commit that `state` tells of."""
    vectors = token_vectors(1, ADDED, dim=DIM, tokens=(4, 30))
    first = number * ADDED
    added: dict[str, Any] = {"texts": [f"added {number}"] * ADDED, "metadata": [{"commit": number}] * ADDED}
    writer.add(range(first, first + ADDED), vectors=vectors, **added)
    if number:
        writer.upsert([first - 1], vectors=vectors[:1], texts=[f"replaced {number}"])
        writer.delete([first - 2])
        writer.update_metadata(metadata={"seen": number}, filter={"commit": number - 1})
        writer.update_metadata([0], {"last": number})


def work(path: str, commits: int) -> None:
    """Create the index if it is not there, and commit until somebody ends it, reporting each commit when it stands."""
    try:
        index = Index.open(path)
    except IndexNotFoundError:
        # The writer of an index that is about to be created may be killed too.
        print("ready", flush=True)
        index = Index.create(path, dim=DIM, train_after=TRAIN_AFTER)
    else:
        print("ready", flush=True)
    for number in range(commits, commits + 10_000):
        with index.writer() as writer:
            change(writer, number)
        print(number, flush=True)
        if number % COMPACTED == COMPACTED - 1:
            index.compact()


def run(counts: Counts, attempts: Attempts) -> None:
    """Kill writers, each of which goes on where the one before was killed."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "index"
        commits = 0
        for name, choices in attempts:
            if commits > 60 or choices.random() < 0.2:
                # The first commits, and the one that trains, must have their share.
                shutil.rmtree(path, ignore_errors=True)
                commits = 0
            seconds = choices.uniform(0, choices.choice((0.01, LONGEST)))
            finished = killed(__name__, path, commits, seconds)
            counts.note("commits", finished)
            reported = commits + finished
            found = _judge(counts, name, path, reported)
            if found is None:
                shutil.rmtree(path, ignore_errors=True)
            commits = found or 0


def killed(module: str, path: Path, commits: int, seconds: float) -> int:
    """Let the `work` of a module go on for so long once it is ready; how many commits it reported."""
    command = [sys.executable, "-c", f"from {module} import work; work({str(path)!r}, {commits})"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(seconds)
        writer.send_signal(signal.SIGKILL)
        return len(writer.stdout.read().splitlines())


def _judge(counts: Counts, name: str, path: Path, reported: int) -> int | None:
    """Compare what is there with what was reported; how many commits there are, or None if that cannot be told."""
    try:
        index = Index.open(path)
    except IndexNotFoundError:
        if reported:
            counts.fault("lost", f"{name}: no index after {reported} commits")
        counts.note("killed before the index was there")
        return 0
    except LatewoodError as error:
        counts.fault("unopenable", f"{name}: {error}")
        return None
    problems = index.check()
    if problems:
        counts.fault("unopenable", f"{name}: check() says {problems}")
    ids = [int(key) for key in index.ids()]
    found: Documents = {document.id: (document.text, document.metadata) for document in index.documents(ids)}
    for commits in (reported, reported + 1):
        if found == state(commits):
            _searches(counts, name, index, found)
            return commits
    older = next((commits for commits in range(reported) if found == state(commits)), None)
    if older is None:
        counts.fault("mixed", f"{name}: {len(found)} documents are those of no number of commits near {reported}")
    else:
        counts.fault("lost", f"{name}: {older} commits of {reported} that were reported")
    return None


def _searches(counts: Counts, name: str, index: Index, found: Documents) -> None:
    try:
        hits = index.search(token_vectors(1, 1, dim=DIM)[0], 10, gather="exact")
    except LatewoodError as error:
        counts.fault("unopenable", f"{name}: search: {error}")
        return
    if len(hits) != min(10, len(found)):
        counts.fault("mixed", f"{name}: {len(hits)} hits among {len(found)} documents")
