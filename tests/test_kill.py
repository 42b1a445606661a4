"""kill -9 at random moments of a writer's work: the index opens, checks and holds whole commits."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latewood import Index
from strategies import make_corpus
from support import TESTS

WRITE = """
import sys
from latewood import Index
from strategies import make_corpus

corpus = make_corpus(3, dim=32, documents=200, document_tokens=(4, 20))
index = Index.open(sys.argv[1])
start = len(index) // 10
print("ready", flush=True)
for number in range(start, start + 10_000):
    with index.writer() as writer:
        # Each commit adds ten documents and replaces one, so that tombstones and garbage are on the way too.
        writer.add(range(number * 10, number * 10 + 10), vectors=corpus.documents[:10], texts=[str(number)] * 10)
        if number > start:
            writer.upsert([number * 10 - 5], vectors=corpus.documents[11:12])
    if number % 7 == 6:
        index.compact()
    print(number, flush=True)
"""

KILLS = int(os.environ.get("LATEWOOD_KILLS", "12"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_writers(tmp_path: Path) -> None:
    corpus = make_corpus(3, dim=32, documents=200, document_tokens=(4, 20))
    path = tmp_path / "index"
    Index.create(path, dim=32)
    moments = random.Random(5)
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    for _ in range(KILLS):
        before = len(Index.open(path))
        with subprocess.Popen(
            [sys.executable, "-c", WRITE, path],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(moments.uniform(0.0, 0.15))
            writer.send_signal(signal.SIGKILL)
            finished = len(writer.stdout.read().split())
        index = Index.open(path)
        assert index.check() == []
        # Every commit that was reported is there, and at most one more that was not reported yet.
        assert len(index) % 10 == 0
        assert before + 10 * finished <= len(index) <= before + 10 * (finished + 1)
        if len(index):
            assert len(index.search(corpus.queries[0], 10)) == 10
    index = Index.open(path)
    before = len(index)
    index.add([10_000_000], vectors=corpus.documents[:1])
    index.compact()
    assert len(Index.open(path)) == before + 1
    assert index.check() == []
