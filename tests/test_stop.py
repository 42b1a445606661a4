"""`latewood.Stop` ends calls from another thread, or when a time is over, and what it ended has done nothing."""

import asyncio
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import latewood
from latewood import Index, maxsim
from latewood.encode import nano
from latewood.encode.onnx import OnnxEncoder
from latewood.errors import StoppedError
from strategies import Corpus, make_corpus

GENEROUS = 5.0
"""Seconds that a call of minutes may take until it has ended, on a machine that does other things too."""


@pytest.fixture(scope="module")
def long() -> tuple[np.ndarray, list[np.ndarray]]:
    """Arguments for which `maxsim` takes many seconds."""
    vectors = np.random.default_rng(0).standard_normal((4_000, 128)).astype(np.float32)
    return vectors[:512], [vectors] * 4_000


def test_it_ends_after_its_seconds(long: tuple[np.ndarray, list[np.ndarray]]) -> None:
    start = time.monotonic()
    with latewood.Stop(seconds=0.2), pytest.raises(StoppedError, match=r"0\.2 seconds .*done nothing"):
        maxsim(*long, threads=1)
    assert 0.2 <= time.monotonic() - start < GENEROUS


def test_another_thread_ends_it(long: tuple[np.ndarray, list[np.ndarray]]) -> None:
    stop = latewood.Stop()
    timer = threading.Timer(0.2, stop.set)
    start = time.monotonic()
    timer.start()
    with stop, pytest.raises(StoppedError, match=r"Stop\.set\(\)"):
        maxsim(*long)
    assert 0.2 <= time.monotonic() - start < GENEROUS
    assert stop.stopped


def test_what_is_called_afterwards_is_not_begun(index: Index, corpus: Corpus) -> None:
    stop = latewood.Stop()
    stop.set()
    stop.set()
    with stop:
        with pytest.raises(StoppedError):
            index.search(corpus.queries[0], 3)
        with pytest.raises(StoppedError):
            index.rerank(corpus.queries[0], index.ids()[:3])
    assert len(index.search(corpus.queries[0], 3)) == 3, "outside of its block all is as before"
    with latewood.Stop(seconds=0), pytest.raises(StoppedError):
        index.search(corpus.queries[0], 3)


def test_work_of_ones_own_asks_whether_to_end() -> None:
    latewood.Stop.check()
    outer, inner = latewood.Stop(), latewood.Stop()
    with outer, inner:
        latewood.Stop.check()
        outer.set()
        with pytest.raises(StoppedError, match=r"Stop\.set\(\)"):
            latewood.Stop.check()
    latewood.Stop.check()


@pytest.mark.parametrize("threads", [1, 2])
def test_it_ends_encoding(threads: int) -> None:
    """Of many texts, and of one that would take as long."""
    for package in ("onnxruntime", "tokenizers"):
        pytest.importorskip(package)
    encoder = OnnxEncoder(nano.__file__.removesuffix("nano.py") + "nano_en", threads=threads, batch_tokens=1)
    expected = encoder.encode_query(["a tree"])[0]
    for texts in (["a tree"] * 40_000, ["a tree ring " * 100_000]):
        start = time.monotonic()
        # After they have become tokens, which takes less.
        with latewood.Stop(seconds=5) as stop, pytest.raises(StoppedError):
            encoder.encode_document(texts)
        assert stop.stopped
        assert time.monotonic() - start < 5 + GENEROUS
    np.testing.assert_array_equal(encoder.encode_query(["a tree"])[0], expected)


def test_a_stop_that_is_not_set_changes_nothing(index: Index, corpus: Corpus) -> None:
    with latewood.Stop(seconds=1e9) as stop:
        hits = index.search(corpus.queries[0], 5)
    assert not stop.stopped
    assert hits == index.search(corpus.queries[0], 5)


def test_blocks_in_each_other(index: Index, corpus: Corpus) -> None:
    outer, inner = latewood.Stop(), latewood.Stop()
    with outer:
        with inner, inner:
            inner.set()
            with pytest.raises(StoppedError):
                index.search(corpus.queries[0], 3)
        index.search(corpus.queries[0], 3)
        with inner:
            pass
        outer.set()
        with latewood.Stop(), pytest.raises(StoppedError):
            index.search(corpus.queries[0], 3)
    index.search(corpus.queries[0], 3)


def test_it_leaves_other_threads_and_tasks_alone(index: Index, corpus: Corpus) -> None:
    def search() -> int:
        return len(index.search(corpus.queries[0], 3))

    async def stopped() -> str:
        stop = latewood.Stop()
        with stop:
            stop.set()
            await asyncio.sleep(0.01)
            try:
                await asyncio.to_thread(search)
            except StoppedError:
                return "stopped"
            return "not stopped"

    async def both() -> tuple[str, int]:
        task = asyncio.create_task(stopped())
        await asyncio.sleep(0)
        return await task, search()

    assert asyncio.run(both()) == ("stopped", 3)
    found: list[int] = []
    stop = latewood.Stop()
    stop.set()
    with stop:
        thread = threading.Thread(target=lambda: found.append(search()))
        thread.start()
        thread.join()
    assert found == [3]


def test_a_stopped_change_has_done_nothing(tmp_path: Path) -> None:
    corpus = make_corpus(1, dim=128, documents=400, document_tokens=(30, 60))
    ids = [f"document {number}" for number in range(len(corpus.documents))]
    index = Index.create(tmp_path / "index", dim=128, train_after=1000)
    index.add(["first"], vectors=[corpus.documents[0]])
    for seconds in (0.0, 0.001, 0.05):
        try:
            with latewood.Stop(seconds=seconds):
                index.add(ids, vectors=corpus.documents)
        except StoppedError:
            assert index.ids() == ["first"]
        else:
            index.delete(ids)
    assert Index.open(tmp_path / "index").ids() == ["first"]
    index.add(ids, vectors=corpus.documents)
    assert len(index) == 1 + len(ids), "no lock is held by what was stopped"


def test_a_writer_that_was_stopped_releases_its_lock(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", dim=8)
    stop = latewood.Stop()

    def write() -> None:
        with stop, index.writer() as writer:
            writer.add(["one"], vectors=[np.ones((2, 8))])
            stop.set()

    with pytest.raises(StoppedError):
        write()
    with index.writer() as writer:
        writer.add(["one"], vectors=[np.ones((2, 8))])
    assert index.ids() == ["one"]


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "2", True, [1], 1e300])
def test_bad_seconds(seconds: object) -> None:
    with pytest.raises(latewood.errors.InvalidInputError, match="seconds"):
        latewood.Stop(seconds)  # type: ignore[arg-type]


def test_its_repr() -> None:
    stop = latewood.Stop(seconds=60)
    assert repr(stop) == "Stop(seconds=60: running)"
    stop.set()
    assert repr(stop) == "Stop(seconds=60: stopped)"
    assert repr(latewood.Stop()) == "Stop(running)"
