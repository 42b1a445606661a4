"""A service under load: writes, searches, refreshes, compaction.

No answer may be of half a commit, or of an older one than was acknowledged before it was asked for; no acknowledged
write may be missing; neither memory nor descriptors may grow. `trials/outages.py` kills it meanwhile.
"""

import os
import random
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from latewood import Client, Index
from latewood.errors import LatewoodError, ServiceError
from trials.corpora import token_vectors
from trials.counts import Attempts, Counts
from trials.serving import Service

DIM = 32
NAME = "news"
TOGETHER = 8
"""Documents that every commit writes again; their metadata tell which commit it was."""
KEPT = 400
"""Documents at most, so that the index does not grow with the time."""
WORKERS = 2
ROUND = 1.0
"""Seconds of an attempt."""
WARM = 8
"""Attempts after which nothing may grow."""
GROWTH = 1.15, 48 << 20
"""How many times as much memory there may be at most later, and how many bytes more whatever the start was."""


class Ledger:
    """What is known of the index from what was acknowledged."""

    def __init__(self) -> None:
        self.present: set[str] = set()
        self.unsure: set[str] = set()
        """Documents whose last change has no answer."""
        self.commit = 0
        """The last one that was acknowledged."""
        self.tried = 0


def run(counts: Counts, attempts: Attempts) -> None:
    """Load a service that nobody kills."""
    load(counts, attempts, kills=False)


def load(counts: Counts, attempts: Attempts, *, kills: bool) -> None:
    """Load a service for a round at each attempt, in which something may be killed, and compare."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / NAME
        index = Index.create(path, dim=DIM, train_after=2_000)
        index.add(["base"], vectors=token_vectors(0, 1, dim=DIM))
        ledger = Ledger()
        service = Service({NAME: path}, "--workers", str(WORKERS))
        sizes: list[tuple[int, int]] = []
        try:
            for name, choices in attempts:
                killed = choices.choice(("worker", "service", None)) if kills else None
                service = _round(counts, name, service, path, ledger, choices, killed)
                _compare(counts, name, path, ledger)
                if not kills:
                    sizes.append(_size(service.process.pid))
        finally:
            service.stop()
        if service.process.returncode != 0:
            counts.fault("panics", f"the service ended with {service.process.returncode}")
        problems = Index.open(path).check()
        if problems:
            counts.fault("unopenable", f"check() says {problems}")
        _judge_growth(counts, sizes)


def _round(
    counts: Counts,
    name: str,
    service: Service,
    path: Path,
    ledger: Ledger,
    choices: random.Random,
    killed: str | None,
) -> Service:
    end = time.monotonic() + ROUND
    jobs = [
        threading.Thread(target=job, args=(counts, name, service.url, ledger, end, random.Random(choices.random())))
        for job in (_write, _read, _read)
    ]
    for job in jobs:
        job.start()
    if killed is not None:
        time.sleep(ROUND * choices.uniform(0.1, 0.9))
        counts.note(f"kills of a {killed}")
    if killed == "worker":
        os.kill(choices.choice(_children(service.process.pid)), signal.SIGKILL)
    if killed == "service":
        service.kill()
    for job in jobs:
        job.join()
    if killed == "service":
        service.stop()
        service = Service({NAME: path}, "--workers", str(WORKERS))
    return service


def _write(counts: Counts, name: str, url: str, ledger: Ledger, end: float, choices: random.Random) -> None:
    """Commit over and over: documents that tell the commit, a new one, and an old one that is deleted."""
    vectors = token_vectors(1, TOGETHER + 1, dim=DIM)
    with Client(url, NAME, timeout=20.0) as client:
        while time.monotonic() < end:
            ledger.tried += 1
            number = ledger.tried
            new = f"new {number}"
            ids = [*(f"together {place}" for place in range(TOGETHER)), new]
            try:
                ledger.unsure.add(new)
                client.upsert(ids, vectors=vectors, metadata=[{"commit": number}] * len(ids))
                ledger.unsure.discard(new)
                ledger.present.add(new)
                ledger.commit = number
                counts.note("commits")
                if len(ledger.present) > KEPT:
                    old = choices.choice(sorted(ledger.present))
                    ledger.present.discard(old)
                    ledger.unsure.add(old)
                    client.delete([old])
                    ledger.unsure.discard(old)
                if choices.random() < 0.02:
                    client.compact()
                    counts.note("compactions")
                if choices.random() < 0.1:
                    client.refresh()
            except ServiceError as error:
                # Nobody answered, or had no time.
                counts.note("writes without an answer")
                if error.status is not None and error.status < 500 and error.status != 429:
                    counts.fault("untyped", f"{name}: a write was answered {error.status}: {error}")
            except LatewoodError as error:
                counts.fault("untyped", f"{name}: a write raised {type(error).__name__}: {error}")


def _read(counts: Counts, name: str, url: str, ledger: Ledger, end: float, choices: random.Random) -> None:
    """Search over and over, and look whether an answer is of one commit, and of none before the last acknowledged."""
    query = np.asarray(token_vectors(2, 1, dim=DIM)[0])
    ids = [f"together {place}" for place in range(TOGETHER)]
    with Client(url, NAME, timeout=20.0) as client:
        while time.monotonic() < end:
            known = ledger.commit
            asked = choices.choice(("ids", "filter", "rerank"))
            try:
                if asked == "rerank":
                    hits = client.rerank(query, ids, missing="skip")
                elif asked == "ids":
                    hits = client.search(query, TOGETHER, ids=ids)
                else:
                    hits = client.search(query, 10 * KEPT, filter={"commit": {"gte": known}}, gather="exact")
            except ServiceError:
                counts.note("searches without an answer")
                continue
            except LatewoodError as error:
                counts.fault("untyped", f"{name}: a search raised {type(error).__name__}: {error}")
                continue
            counts.note("searches")
            commits = {(hit.metadata or {})["commit"] for hit in hits if hit.id in ids}
            if len(commits) > 1:
                counts.fault("mixed", f"{name}: one answer is of the commits {sorted(commits)}")
            if known > min(commits, default=0):
                counts.fault("silent", f"{name}: an answer of commit {commits} after {known} was acknowledged")


def _compare(counts: Counts, name: str, path: Path, ledger: Ledger) -> None:
    """Look whether the index has what was acknowledged; what had no answer is there or not, and known from now on."""
    found = {str(key) for key in Index.open(path).ids() if str(key).startswith("new ")}
    lost = ledger.present - found
    if lost:
        counts.fault("lost", f"{name}: {sorted(lost)[:5]} of {len(ledger.present)} were acknowledged")
    more = found - ledger.present - ledger.unsure
    if more:
        counts.fault("lost", f"{name}: {sorted(more)[:5]} were deleted, or never added")
    ledger.present, ledger.unsure = found, set()


def _children(process: int) -> list[int]:
    """The workers of a service: its children that serve."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    # One of them keeps count of what the others share, and ends with them.
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def _size(process: int) -> tuple[int, int]:
    """Bytes of memory that are no file's, and descriptors, of a service and its workers."""
    memory = descriptors = 0
    for one in (process, *_children(process)):
        status = Path(f"/proc/{one}/status").read_text(encoding="ascii")
        memory += 1024 * int(status.split("RssAnon:")[1].split()[0])
        descriptors += len(os.listdir(f"/proc/{one}/fd"))  # noqa: PTH208  names alone
    return memory, descriptors


def _judge_growth(counts: Counts, sizes: list[tuple[int, int]]) -> None:
    if len(sizes) <= WARM:
        return
    warm, last = sizes[WARM - 1], sizes[-1]
    counts.note("MB after warm-up", warm[0] >> 20)
    counts.note("MB at the end", last[0] >> 20)
    factor, more = GROWTH
    if last[0] > max(factor * warm[0], warm[0] + more):
        counts.fault("memory", f"{warm[0] >> 20} MB after warm-up, {last[0] >> 20} MB after {len(sizes)} rounds")
    if last[1] > max(one for _, one in sizes[:WARM]) + 16:
        counts.fault("memory", f"{warm[1]} descriptors after warm-up, {last[1]} after {len(sizes)} rounds")
