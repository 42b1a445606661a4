"""Long calls release the interpreter lock; the answer does not depend on who asks."""

import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from latewood import Index, maxsim
from strategies import Corpus, make_corpus
from support import build_index, run_python


def steps_taken_during(work: threading.Thread) -> int:
    """How many steps another Python thread takes while `work` runs."""
    steps = 0
    work.start()
    while work.is_alive():
        steps += 1
        time.sleep(0)
    work.join()
    return steps


def test_the_interpreter_goes_on_during_a_build(tmp_path: Path) -> None:
    """With the lock held, this thread could not take a step until the build was over."""
    corpus = make_corpus(1, dim=128, documents=1500, document_tokens=(30, 60))
    assert steps_taken_during(threading.Thread(target=build_index, args=(tmp_path / "index", corpus))) > 100


def test_the_interpreter_goes_on_during_a_search(index: Index, corpus: Corpus) -> None:
    queries = corpus.queries * 200
    arguments = {"k": 10, "gather": "exact"}
    assert steps_taken_during(threading.Thread(target=index.search_arrays, args=(queries,), kwargs=arguments)) > 10


def test_thread_counts_agree(index: Index, corpus: Corpus) -> None:
    results = [index.search_arrays(corpus.queries, 20, threads=threads) for threads in (1, 2, 8, None)]
    for result in results[1:]:
        np.testing.assert_array_equal(result.ids, results[0].ids)
        assert result.scores.tobytes() == results[0].scores.tobytes()


def test_reading_while_writing(tmp_path: Path) -> None:
    """A reader in another thread sees whole commits only."""
    corpus = make_corpus(2, dim=32, documents=100, document_tokens=(2, 8))
    index = Index.create(tmp_path / "index", dim=32)
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        reader = Index.open(index.path)
        while not done.is_set():
            reader.refresh()
            seen.append(len(reader))
            found = reader.search(corpus.queries[0], 200, gather="exact")
            assert len(found) == seen[-1]

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for start in range(0, 100, 10):
            index.add(range(start, start + 10), vectors=corpus.documents[start : start + 10])
    finally:
        done.set()
        reader.join()
    assert all(count % 10 == 0 for count in seen)
    assert seen == sorted(seen)


MANY_THREADS = """
import json, os, sys
from latewood import Index, encode, maxsim
from strategies import make_corpus

corpus = make_corpus(7, documents=60, queries=8)
index = Index.open(sys.argv[1])
for threads in [1, 2, 3, 7, 50, 999, 15_000, 2**31, 2**63 - 1]:
    index.search_batch(corpus.queries, 5, threads=threads)
    index.rerank_batch(corpus.queries, [[0, 1, 2]] * 8, threads=threads)
    maxsim(corpus.queries, corpus.documents, threads=threads)
    encode.pool_tokens(corpus.documents, count=4, threads=threads)
    index.upsert([0], vectors=corpus.documents[:1], threads=threads)
    index.compact(threads=threads)
print(json.dumps(len(os.listdir("/proc/self/task"))))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts the threads of a process in /proc")
def test_no_number_asked_for_starts_more_threads_than_processors(tmp_path: Path, corpus: Corpus) -> None:
    build_index(tmp_path / "index", corpus)
    quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    assert run_python(MANY_THREADS, tmp_path / "index", environment=quiet) <= 1 + len(os.sched_getaffinity(0))


def test_one_thread_is_one_thread(index: Index, corpus: Corpus) -> None:
    """Several at once do not change what each finds."""
    wanted = index.search_arrays(corpus.queries, 10, threads=1)
    found: list[bool] = []

    def ask(threads: int | None) -> None:
        result = index.search_arrays(corpus.queries, 10, threads=threads)
        found.append(bool(np.array_equal(result.ids, wanted.ids)))
        maxsim(corpus.queries, corpus.documents[:50], threads=threads)

    askers = [threading.Thread(target=ask, args=(count,)) for count in (1, 2, None, 1, 2, None, 64, 64)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert found == [True] * len(askers)


def test_check_under_a_committing_writer(tmp_path: Path) -> None:
    """Commits take files of older generations away while they are read: that is no damage."""
    corpus = make_corpus(5, dim=32, documents=300, document_tokens=(2, 8))
    index = Index.create(tmp_path / "index", dim=32, train_after=0)
    index.add([-1], vectors=corpus.documents[:1])
    problems: list[str] = []
    done = threading.Event()

    def check() -> None:
        while not done.is_set():
            problems.extend(Index.open(index.path).check())

    checker = threading.Thread(target=check)
    checker.start()
    try:
        for number, vectors in enumerate(corpus.documents):
            index.upsert([number % 50], vectors=[vectors])
            if number % 20 == 19:
                index.compact()
    finally:
        done.set()
        checker.join()
    assert problems == []


def test_a_refresh_never_goes_back_behind_a_commit(tmp_path: Path) -> None:
    """What an object has added it finds, however many threads refresh it meanwhile."""
    corpus = make_corpus(6, dim=32, documents=200, document_tokens=(2, 6))
    index = Index.create(tmp_path / "index", dim=32)
    done = threading.Event()

    def refresh() -> None:
        while not done.is_set():
            index.refresh()

    refreshers = [threading.Thread(target=refresh) for _ in range(3)]
    for refresher in refreshers:
        refresher.start()
    try:
        for number, vectors in enumerate(corpus.documents):
            index.add([number], vectors=[vectors])
            assert number in index
            assert len(index) == number + 1
    finally:
        done.set()
        for refresher in refreshers:
            refresher.join()
