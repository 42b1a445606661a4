"""Long calls release the interpreter lock; the answer does not depend on who asks."""

import threading
import time
from pathlib import Path

import numpy as np

from latewood import Index
from strategies import Corpus, make_corpus
from support import build_index


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
    arguments = {"k": 10, "gather": "exact", "as_arrays": True}
    assert steps_taken_during(threading.Thread(target=index.search_batch, args=(queries,), kwargs=arguments)) > 10


def test_thread_counts_agree(index: Index, corpus: Corpus) -> None:
    results = [index.search_batch(corpus.queries, 20, as_arrays=True, threads=threads) for threads in (1, 2, 8, None)]
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
