"""Cluster commits whose writer is killed, whose shards fail midway, or whose store refuses: one generation or none."""

import errno
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from latewood.cluster import ClusterManifest, ClusterWriter, create, grow, recover
from latewood.cluster.order import without_order
from latewood.errors import CorruptIndexError, LatewoodError, StorageError
from latewood.index.writer import Writer
from trials.corpora import token_vectors
from trials.counts import Attempts, Counts
from trials.kills import DIM, Documents, change, killed, state

SHARDS = 3
LONGEST = 0.25
"""Seconds that a writer works at most."""
MOST = 40
"""Commits of a cluster before another is made."""


def work(path: str, commits: int) -> None:
    """Commit until somebody ends it, reporting each commit when it stands; now and then there are more shards."""
    print("ready", flush=True)
    for number in range(commits, commits + 10_000):
        with ClusterWriter(path) as writer:
            change(writer, number)
        print(number, flush=True)
        if number % 10 == 9:
            grow(path, SHARDS + number // 10)


def run(counts: Counts, attempts: Attempts) -> None:
    """End writers in one of three ways, each of which goes on where the one before was ended."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "cluster"
        commits = MOST + 1
        for name, choices in attempts:
            if commits > MOST:
                shutil.rmtree(path, ignore_errors=True)
                create(path, shards=SHARDS, dim=DIM, sample=token_vectors(0, 200, dim=DIM, tokens=(4, 30)))
                commits = 0
            ending = choices.choice([_killed, _failing_shard, _failing_store])
            finished = ending(path, commits, choices)
            counts.note(f"{ending.__name__.strip('_')} after commits", finished)
            found = _judge(counts, name, path, commits + finished)
            commits = MOST + 1 if found is None else found


def _killed(path: Path, commits: int, choices: random.Random) -> int:
    """Let a writer work for a moment; how many commits it reported."""
    return killed(__name__, path, commits, choices.uniform(0, LONGEST))


def _failing_shard(path: Path, commits: int, choices: random.Random) -> int:
    """Let the commit of one shard fail, before it is on the disk or after."""
    place, late, calls = choices.randrange(SHARDS), choices.random() < 0.5, iter(range(10**6))
    commit = Writer.commit

    def failing(writer: Writer) -> int:
        ours = next(calls) == place
        if ours and late:
            commit(writer)
        if ours:
            raise StorageError(errno.EIO, "the shard's machine is gone")
        return commit(writer)

    with mock.patch.object(Writer, "commit", failing):
        return _commit(path, commits)


def _failing_store(path: Path, commits: int, choices: random.Random) -> int:
    """Let the store refuse the manifest: its bytes, its name, or what makes the name last."""
    with _refused(choices.choice(["write", "link", "sync"])):
        return _commit(path, commits)


@contextmanager
def _refused(what: str) -> Iterator[None]:
    failure = OSError(errno.ENOSPC, "no space left")
    target = {"write": "os.fsync", "link": "os.link", "sync": "latewood.cluster.manifest._sync"}[what]
    with mock.patch(target, side_effect=failure):
        yield


def _commit(path: Path, commits: int) -> int:
    """Try to make one commit; how many were reported."""
    try:
        with ClusterWriter(path) as writer:
            change(writer, commits)
    except (LatewoodError, OSError):
        return 0
    return 1


def _judge(counts: Counts, name: str, path: Path, reported: int) -> int | None:
    """Compare what readers see, before and after `recover`, with what was reported."""
    seen = []
    for step in (lambda: None, lambda: recover(path)):
        try:
            step()
            seen.append(_documents(path))
        except CorruptIndexError as error:
            counts.fault("unopenable", f"{name}: {error}")
            return None
        except LatewoodError as error:
            counts.fault("untyped", f"{name}: {error!r}")
            return None
    if seen[0] != seen[1]:
        counts.fault("mixed", f"{name}: recover changed what readers see")
        return None
    for commits in (reported, reported + 1):
        if seen[0] == state(commits):
            return commits
    older = any(seen[0] == state(commits) for commits in range(reported))
    counts.fault("lost" if older else "mixed", f"{name}: {len(seen[0])} documents after {reported} commits")
    return None


def _documents(path: Path) -> Documents:
    """Read all documents as the newest manifest names them."""
    found: Documents = {}
    for shard in ClusterManifest.newest(path).shards:
        with shard.open(path) as index:
            for document in index.documents(index.ids()):
                found[int(document.id)] = (document.text, without_order(document.metadata))
    return found
