"""A cluster is read as one index is: to the bit where all is scored, whatever happens to its processes."""

import asyncio
import copy
import inspect
import math
import os
import pickle
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor
from concurrent.futures import wait as futures_wait
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latewood import Feedback, Index, Stop
from latewood.cluster import ClusterManifest, ClusterWriter, Shard, ShardedIndex, create
from latewood.cluster.asking import LocalShards, MissingShardsError, RayShards
from latewood.cluster.commit import Commit
from latewood.cluster.merging import Found
from latewood.cluster.packing import packed, unpacked
from latewood.cluster.reading import ShardReader
from latewood.cluster.replica import Replica, answered, asking
from latewood.errors import (
    CorruptIndexError,
    DuplicateIdError,
    IndexReplacedError,
    InvalidInputError,
    LatewoodError,
    ServiceError,
    StoppedError,
    StorageError,
    UnknownIdError,
)
from latewood.forms.ragged import Ragged, to_ragged
from strategies import make_corpus
from support import HashEncoder, run_python
from trials.nodes import nodes as ray_nodes

CORPUS = make_corpus(7, dim=32, documents=300)
DOCUMENTS = [*CORPUS.documents, *CORPUS.documents[:60]]
"""Sixty come twice: their scores are ties."""
IDS = [f"d{number}" for number in range(len(DOCUMENTS))]
METADATA = [{"n": number % 5, "tags": ["a", "b"][: number % 3]} if number % 4 else None for number in range(len(IDS))]
NEVER = 2**62


def fill(path: Path, ids: Any = IDS, *, shards: int = 3, **settings: Any) -> tuple[Path, Index]:
    """Make a cluster and one index of the same documents, with a history."""
    root = path / "cluster"
    create(root, shards=shards, sample=CORPUS.documents[:150], dim=CORPUS.dim, **settings)
    single = Index.create(path / "single", codec_from=root / "codec", train_after=NEVER, **settings)
    half = len(ids) // 2

    def change(target: Any) -> None:
        target.add(ids[half:], vectors=DOCUMENTS[half:], metadata=METADATA[half:])
        target.upsert([ids[3], ids[70]], vectors=DOCUMENTS[3:5], metadata=[{"n": 4}, None])
        target.update_metadata([ids[9]], {"n": 0})
        target.delete([ids[5], ids[6]])

    with ClusterWriter(root) as first:
        first.add(ids[:half], vectors=DOCUMENTS[:half], metadata=METADATA[:half])
    with ClusterWriter(root) as second:
        change(second)
    single.add(ids[:half], vectors=DOCUMENTS[:half], metadata=METADATA[:half])
    with single.writer() as writer:
        change(writer)
    return root, single


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ShardedIndex, Index]]:
    root, single = fill(tmp_path_factory.mktemp("both"))
    with ShardedIndex.open(root, replicas=0) as sharded:
        yield sharded, single


SEARCHES: list[dict[str, Any]] = [
    {},
    {"k": 1},
    {"k": 500},
    {"filter": {"n": 2}},
    {"filter": {"or": [{"n": 0}, {"tags": "b"}]}},
    {"filter": {"n": "none"}},
    {"offset": 4, "k": 3},
    {"offset": 1000},
    {"min_score": 2.5},
    {"length_normalize": True},
    {"ids": IDS[:90]},
    {"ids": []},
    {"with_documents": False},
]


def assert_equal(sharded: ShardedIndex, single: Index, **options: Any) -> None:
    """Exact searches and reranks of both, with all that hits tell."""
    for query in CORPUS.queries[:4]:
        found = sharded.search(query, **{"gather": "exact", **options})
        wanted = single.search(query, **{"gather": "exact", **options})
        assert found == wanted
        assert [hit.score for hit in found] == [hit.score for hit in wanted]


@pytest.mark.parametrize("options", SEARCHES, ids=str)
def test_exact_searches_are_those_of_one_index(both: tuple[ShardedIndex, Index], options: dict[str, Any]) -> None:
    assert_equal(*both, **options)


def test_ties_go_by_the_order_of_all_documents(both: tuple[ShardedIndex, Index]) -> None:
    sharded, single = both
    hits = sharded.search(CORPUS.documents[20], 4, gather="exact")
    assert hits[0].score == hits[1].score, "there are ties to break"
    for document in CORPUS.documents[:60]:
        assert sharded.search(document, 6, gather="exact") == single.search(document, 6, gather="exact")


def test_batches_weights_and_filters_for_each(both: tuple[ShardedIndex, Index]) -> None:
    sharded, single = both
    queries = CORPUS.queries[:5]
    weights = [np.linspace(0.1, 1, len(query)) for query in queries]
    for options in ({}, {"weights": weights}, {"filter": [{"n": 1}, None, {"n": 2}, None, {"n": 3}]}):
        found = sharded.search_batch(queries, 7, gather="exact", **options)
        assert found == single.search_batch(queries, 7, gather="exact", **options)
    assert sharded.search_batch([], 3) == []
    assert sharded.search(queries[0], 3, weights=weights[0], gather="exact") == single.search(
        queries[0], 3, weights=weights[0], gather="exact"
    )


def test_reranks_are_those_of_one_index(both: tuple[ShardedIndex, Index]) -> None:
    sharded, single = both
    query = CORPUS.queries[0]
    candidates = [IDS[number] for number in (300, 0, 301, 1, 44, 200, 9, 3)]
    for options in ({}, {"k": 3}, {"filter": {"n": 1}}, {"offset": 2}, {"length_normalize": True}):
        assert sharded.rerank(query, candidates, **options) == single.rerank(query, candidates, **options)
    scores = list(range(len(candidates)))
    assert sharded.rerank(query, candidates, scores) == single.rerank(query, candidates, scores)
    assert sharded.rerank(query, dict(zip(candidates, scores, strict=True))) == single.rerank(query, candidates)
    lists = [candidates, [], candidates[:1]]
    assert sharded.rerank_batch(CORPUS.queries[:3], lists) == single.rerank_batch(CORPUS.queries[:3], lists)
    flat: dict[str, Any] = {"offsets": [0, 3, 3, 8], "scores": scores}
    assert sharded.rerank_batch(CORPUS.queries[:3], candidates, **flat) == single.rerank_batch(
        CORPUS.queries[:3], candidates, **flat
    )
    with pytest.raises(UnknownIdError, match="nobody"):
        sharded.rerank(query, ["nobody"])
    assert sharded.rerank(query, ["nobody", IDS[0]], missing="skip") == single.rerank(query, [IDS[0]])
    with pytest.raises(DuplicateIdError):
        sharded.rerank(query, [IDS[0], IDS[1], IDS[0]])
    assert sharded.rerank(query, []) == []


def test_the_usual_search_finds_as_much(both: tuple[ShardedIndex, Index]) -> None:
    sharded, single = both
    shares = []
    for query in CORPUS.queries:
        exact = {hit.id for hit in single.search(query, 10, gather="exact")}
        shares.append([len(exact & {hit.id for hit in found.search(query, 10)}) for found in (sharded, single)])
    ours, theirs = np.mean(shares, axis=0)
    assert ours >= theirs - 0.1


def test_documents_and_what_is_told(both: tuple[ShardedIndex, Index]) -> None:
    sharded, single = both
    assert len(sharded) == len(single) == sharded.count()
    assert sharded.count(filter={"n": 4}) == single.count(filter={"n": 4})
    some = [IDS[number] for number in (250, 3, 9, 70, 0)]
    assert sharded.documents(some) == single.documents(some)
    np.testing.assert_array_equal(sharded.vectors(some).values, single.vectors(some).values)
    assert len(sharded.vectors([])) == 0
    assert sharded.contains(["d1", "d5", "nobody"]).tolist() == [True, False, False]
    with pytest.raises(UnknownIdError):
        sharded.documents(["nobody"])
    assert sharded.check() == []
    assert sum(one["documents"] for one in sharded.info()) == len(single)
    hits = sharded.search(CORPUS.queries[0], 3)
    assert hits.stats["shards"] == 3
    assert hits.stats["slowest_shard_s"] == max(hits.stats[f"shard_{place}_s"] for place in range(3))
    why = single.explain(CORPUS.queries[0], hits[1].id)
    for explanation in (hits[1].explain(), sharded.explain(CORPUS.queries[0], hits[1].id)):
        np.testing.assert_array_equal(explanation.matrix, why.matrix)
    assert repr(sharded).endswith("shards=3)")


@pytest.mark.parametrize(
    "options",
    [{"feedback": 1}, {"group_by": 3}, {"k": 0}, {"gather": "magic"}, {"ids": [5]}, {"filter": {"n": {"zz": 1}}}],
    ids=str,
)
def test_searches_that_cannot_be(both: tuple[ShardedIndex, Index], options: dict[str, Any]) -> None:
    for index in both:
        with pytest.raises(InvalidInputError):
            index.search(CORPUS.queries[0], **options)


@pytest.mark.parametrize(
    "options",
    [{"alpha": 0.1, "k": 1}, {"beta": 2}, {"prune_to": 0}, {"alpha": -1.0, "k": 1, "scores": [3.0, 2.0, 1.0]}],
    ids=str,
)
def test_reranks_that_cannot_be(both: tuple[ShardedIndex, Index], options: dict[str, Any]) -> None:
    for index in both:
        with pytest.raises(InvalidInputError):
            index.rerank(CORPUS.queries[0], IDS[:3], **options)


@pytest.mark.parametrize("settings", [{"keep_vectors": "float16"}, {"bits": 8}], ids=str)
def test_other_codecs_and_numbers_for_ids(tmp_path: Path, settings: dict[str, Any]) -> None:
    numbers = [7 * number - 500 for number in range(len(IDS))]
    root, single = fill(tmp_path, numbers, shards=5, **settings)
    with ShardedIndex.open(root, replicas=0) as sharded:
        assert_equal(sharded, single)
        with pytest.raises(InvalidInputError):
            sharded.documents(["7"])


def test_texts_are_encoded_once(tmp_path: Path) -> None:
    encoder = HashEncoder()
    texts = [f"word{number % 17} word{number % 5} rings" for number in range(60)]
    create(tmp_path / "cluster", shards=3, sample_texts=texts, encoder=encoder)
    with ClusterWriter(tmp_path / "cluster", encoder=encoder) as writer:
        writer.add(range(60), texts=texts)
    with ShardedIndex.open(tmp_path / "cluster", replicas=0, encoder=encoder) as sharded:
        calls = encoder.calls
        hits = sharded.search("word3 rings", 5)
        assert encoder.calls == calls + 1
        assert "word3" in (hits[0].text or "")
        why = hits[0].explain()
        assert why.query_tokens == ("word3", "rings")
        assert why.document_text == hits[0].text
        assert sharded.rerank("word3", [0, 3, 20])[0].id in (3, 20)


def test_commits_become_visible_in_all_shards_at_once(tmp_path: Path) -> None:
    root, _ = fill(tmp_path)
    with ShardedIndex.open(root, replicas=0) as sharded:
        before = len(sharded)
        with ClusterWriter(root) as writer:
            writer.add([f"new{number}" for number in range(40)], vectors=DOCUMENTS[:40])
        assert len(sharded) == before, "it stays at its commit"
        assert sharded.refresh()
        assert not sharded.refresh()
        assert len(sharded) == before + 40
        assert sharded.search(DOCUMENTS[0], 1, ids=["new0"])[0].id == "new0"
        # A reader that has fallen far behind goes on at the newest.
        for number in range(20):
            with ClusterWriter(root) as writer:
                writer.add([f"more{number}"], vectors=DOCUMENTS[:1])
        assert sharded.refresh()
        assert len(sharded) == before + 60


def test_shards_without_a_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "cluster", shards=16, sample=CORPUS.documents[:50], dim=CORPUS.dim)
    opened: list[object] = []
    real = Shard.open

    def noted(shard: Shard, root: Any, **options: Any) -> Index:
        opened.append(shard)
        return real(shard, root, **options)

    monkeypatch.setattr(Shard, "open", noted)
    with ShardedIndex.open(tmp_path / "cluster", replicas=0) as empty:
        assert empty.search(CORPUS.queries[0], 3) == []
        assert empty.rerank(CORPUS.queries[0], []) == []
        assert len(empty) == 0
        assert len(opened) == 16, "each is opened once"
    with ClusterWriter(tmp_path / "cluster") as writer:
        writer.add(["one"], vectors=CORPUS.documents[:1])
    with ShardedIndex.open(tmp_path / "cluster", replicas=0) as one:
        assert [hit.id for hit in one.search(CORPUS.queries[0], 3)] == ["one"]


def test_too_many_calls_at_once(both: tuple[ShardedIndex, Index]) -> None:
    with ShardedIndex.open(both[0].path, replicas=0, max_waiting=2) as sharded:
        with sharded._room.place(), sharded._room.place():
            with pytest.raises(ServiceError) as told:
                sharded.search(CORPUS.queries[0], 3)
            assert told.value.status == 429
        assert len(sharded.search(CORPUS.queries[0], 3)) == 3


def test_a_shard_in_this_process_is_never_late(both: tuple[ShardedIndex, Index]) -> None:
    with ShardedIndex.open(both[0].path, replicas=0, timeout=0.001) as sharded:
        assert sharded.search_batch(CORPUS.queries, 3, gather="exact") == both[1].search_batch(
            CORPUS.queries, 3, gather="exact"
        )


def test_what_is_closed_answers_nothing(both: tuple[ShardedIndex, Index]) -> None:
    sharded = ShardedIndex.open(both[0].path, replicas=0)
    query = CORPUS.queries[0]
    with sharded as same:
        assert same is sharded
        hits = sharded.search(query, 3)
    sharded.close()
    calls: list[Callable[[], object]] = [
        lambda: sharded.search(query, 3),
        lambda: sharded.rerank(query, []),
        lambda: sharded.documents([]),
        lambda: sharded.explain(query, IDS[0]),
        lambda: len(sharded),
        lambda: sharded.dim,
        sharded.refresh,
        lambda: pickle.loads(pickle.dumps(sharded)),
    ]
    for call in calls:
        with pytest.raises(LatewoodError, match="closed; open it again"):
            call()
    assert hits[0].text == both[1].documents([hits[0].id])[0].text, "what was found stays"
    with ShardedIndex.open(both[0].path, replicas=0) as closing:
        ends = threading.Thread(target=closing.close)

        def ask_until_the_end() -> None:
            closing.search(query, 3)
            ends.start()
            while True:
                closing.search(query, 3)

        with pytest.raises(LatewoodError, match="closed"):
            ask_until_the_end()
        ends.join()


def test_copies_and_other_processes(tmp_path: Path) -> None:
    encoder = HashEncoder()
    create(tmp_path / "cluster", shards=3, sample_texts=["word one", "word two"], encoder=encoder)
    with ClusterWriter(tmp_path / "cluster", encoder=encoder) as writer:
        writer.add(range(9), texts=[f"word {number}" for number in range(9)])
    with ShardedIndex.open(tmp_path / "cluster", replicas=0, encoder=encoder, max_waiting=1) as sharded:
        wanted = sharded.search("word 7", 3)
        for made in (pickle.loads(pickle.dumps(sharded)), copy.deepcopy(sharded)):
            assert made.search("word 7", 3) == wanted
            made.close()
        assert sharded.search("word 7", 3) == wanted, "a copy's end is its own"
        if hasattr(os, "fork"):
            # All room is taken in the parent, which is of no account in the child.
            with sharded._room.place(), warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
                if child == 0:
                    os._exit(sharded.search("word 7", 3) != wanted)
            assert os.waitpid(child, 0)[1] == 0


def test_threads_and_coroutines(both: tuple[ShardedIndex, Index]) -> None:
    sharded, single = both
    queries = CORPUS.queries * 5
    wanted = [single.search(query, 5, gather="exact") for query in queries]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda query: sharded.search(query, 5, gather="exact"), queries)) == wanted

    async def ask() -> list[Any]:
        return await asyncio.gather(
            *(asyncio.to_thread(sharded.search, query, 5, gather="exact") for query in queries[:30])
        )

    assert asyncio.run(ask()) == wanted[:30]


def test_many_threads_follow_somebody_who_commits(tmp_path: Path) -> None:
    root, _ = fill(tmp_path)
    failed: list[object] = []
    ended = threading.Event()
    with ShardedIndex.open(root, replicas=0) as sharded:
        least = len(sharded)

        def follow() -> None:
            seen = least
            try:
                while not ended.is_set():
                    sharded.refresh()
                    count = len(sharded)
                    assert count >= seen, "never back"
                    assert (count - least) % 9 == 0, "all of a commit or nothing"
                    seen = count
            except BaseException as error:
                failed.append(error)
                raise

        threads = [threading.Thread(target=follow) for _ in range(3)]
        for thread in threads:
            thread.start()
        with ClusterWriter(root) as writer:
            for commit in range(20):
                writer.add([f"{commit} {number}" for number in range(9)], vectors=DOCUMENTS[:9])
                writer.commit()
        ended.set()
        for thread in threads:
            thread.join()
        assert not failed
        sharded.refresh()
        assert len(sharded) == least + 180


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """Give a cluster, and queries that take it many seconds."""
    root = tmp_path_factory.mktemp("slow") / "cluster"
    generator = np.random.default_rng(0)
    vectors = [generator.standard_normal((60, 32)).astype(np.float32) for _ in range(2000)]
    create(root, shards=3, sample=vectors[:100], dim=32)
    with ClusterWriter(root) as writer:
        writer.add(range(2000), vectors=vectors)
    return root, vectors[:1500]


def assert_stops_are_heard(root: Path, queries: list[Any], *, replicas: int) -> None:
    with ShardedIndex.open(root, replicas=replicas, cpus=0.1) as sharded:
        sharded.search(queries[0])

        def is_idle() -> bool:
            begun = time.monotonic()
            sharded.search_batch(queries[:20], gather="exact")
            return time.monotonic() - begun < 2

        begun = time.monotonic()
        with Stop(seconds=0.2), pytest.raises(StoppedError):
            sharded.search_batch(queries, gather="exact")
        assert time.monotonic() - begun < 2
        assert is_idle()
        # A program that a shell has put into the background ignores Ctrl-C from its start.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        begun = time.monotonic()
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            sharded.search_batch(queries, gather="exact")
        signal.signal(signal.SIGINT, before)
        assert time.monotonic() - begun < 2
        assert is_idle()
        with pytest.raises(InvalidInputError):
            sharded.search(queries[0], filter={"n": {"no": 1}})


def test_a_stop_and_ctrl_c_are_heard_by_all_shards(slow: tuple[Path, list[Any]]) -> None:
    assert_stops_are_heard(*slow, replicas=0)


def test_hits_explain_themselves_on_what_was_searched(tmp_path: Path) -> None:
    root, _ = fill(tmp_path)
    query = CORPUS.queries[0]
    with ShardedIndex.open(root, replicas=0) as sharded:
        hits = sharded.search(query, 2)
        wanted = [hit.explain().matrix for hit in hits]
        with ClusterWriter(root) as writer:
            writer.delete([hits[0].id])
            writer.upsert([hits[1].id], vectors=DOCUMENTS[:1])
        assert sharded.refresh()
        with pytest.raises(UnknownIdError):
            sharded.explain(query, hits[0].id)
        for hit, matrix in zip(hits, wanted, strict=True):
            np.testing.assert_array_equal(hit.explain().matrix, matrix)


def test_a_refresh_between_whose_steps_others_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, _ = fill(tmp_path)
    names = iter("abcdef")

    def commit() -> None:
        with ClusterWriter(root) as writer:
            name = next(names)
            writer.upsert([f"{name}{number}" for number in range(30)], vectors=DOCUMENTS[:30])

    with ShardedIndex.open(root, replicas=0) as sharded:
        count = len(sharded)
        commit()
        prepare = LocalShards.ask

        def meanwhile(shards: LocalShards, method: str, calls: Any, **options: Any) -> dict[int, Any]:
            monkeypatch.undo()
            commit()
            commit()
            return prepare(shards, method, calls, **options)

        monkeypatch.setattr(LocalShards, "ask", meanwhile)
        assert sharded.refresh()
        assert len(sharded) == count + 90


@pytest.mark.parametrize("kind", [str, int])
def test_ids_are_told_as_one_index_tells_them(tmp_path: Path, kind: Any) -> None:
    own = [kind(number) for number in range(len(DOCUMENTS))]
    other = [5 if kind is str else "5"]
    unknown = kind(10**6)
    root, single = fill(tmp_path, own)
    query = CORPUS.queries[0]
    with ShardedIndex.open(root, replicas=0) as sharded:
        for ids in (own[:9], [own[0], unknown, own[5]], other, [], np.array(own[:3]), [own[0], own[0]]):
            assert sharded.contains(ids).tolist() == single.contains(ids).tolist()
        for key in (own[0], own[5], unknown, *other, None, 1.5, [own[0]], 2**70):
            assert (key in sharded) == (key in single)
        for ids in (other, [*own[:2], *other]):
            for index in (sharded, single):
                for call in (index.documents, index.vectors, lambda ids: index.search(query, ids=ids)):  # noqa: B023
                    with pytest.raises(InvalidInputError):
                        call(ids)
        places = [(0, 7), (2, 0), (1, 3)]
        for query_place, place in places:
            lists = [own[100:120] for _ in range(3)]
            lists[query_place][place] = unknown
            words = rf"{unknown}.* \(candidate {place} of query {query_place}\)"
            for index in (sharded, single):
                with pytest.raises(UnknownIdError, match=words):
                    index.rerank_batch(CORPUS.queries[:3], lists)
        assert sharded.search(query, 2**62, offset=2**62) == single.search(query, 2**62, offset=2**62) == []


def test_a_cluster_that_was_replaced_is_not_followed(tmp_path: Path) -> None:
    def made(count: int, commits: int) -> Path:
        root = tmp_path / "cluster"
        shutil.rmtree(root, ignore_errors=True)
        create(root, shards=3, sample=CORPUS.documents[:50], dim=CORPUS.dim)
        for commit in range(commits):
            with ClusterWriter(root) as writer:
                writer.add([f"{commit} {number}" for number in range(count)], vectors=DOCUMENTS[:count])
        return root

    with ShardedIndex.open(made(20, 1), replicas=0) as sharded:
        wanted = sharded.search(CORPUS.queries[0], 50)
        shutil.copytree(tmp_path / "cluster", tmp_path / "backup")
        with ClusterWriter(tmp_path / "cluster") as writer:
            writer.add(["more"], vectors=DOCUMENTS[:1])
        assert sharded.refresh()
        shutil.rmtree(tmp_path / "cluster")
        shutil.copytree(tmp_path / "backup", tmp_path / "cluster")
        with pytest.raises(IndexReplacedError, match="older state"):
            sharded.refresh()
        for commits in (1, 2, 5):
            made(7, commits)
            with pytest.raises(IndexReplacedError, match="another cluster"):
                sharded.refresh()
        assert len(sharded) == 21, "what is open stays as it was"
        assert sharded.search(CORPUS.queries[0], 50, ids=[hit.id for hit in wanted]) == wanted


def test_calls_are_those_of_an_index() -> None:
    own = {name for name, value in vars(ShardedIndex).items() if inspect.isfunction(value) and not name.startswith("_")}
    assert len(own) > 10
    for name in own:
        ours, theirs = (list(inspect.signature(getattr(kind, name)).parameters) for kind in (ShardedIndex, Index))
        assert ours == theirs, name


def as_told(value: Any) -> Any:
    """Give a value as JSON and arrays have it: tuples are lists."""
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, memoryview):
        return value.tobytes()
    if isinstance(value, dict):
        return {name: as_told(part) for name, part in value.items()}
    return [as_told(part) for part in value] if isinstance(value, (list, tuple)) else value


def test_what_shards_have_found_travels_whole(both: tuple[ShardedIndex, Index]) -> None:
    sharded, _ = both
    reader = ShardReader(sharded._home, 1)
    queries = to_ragged(CORPUS.queries[:4], dim=CORPUS.dim, kind="query")
    none = Ragged(np.zeros((0, CORPUS.dim), np.float32), np.zeros(1, np.int64))
    for asked in (queries, none):
        for options in ({"k": 9, "gather": "exact"}, {"k": 9}, {"k": 3, "filter": {"n": "none"}}):
            for told in ((None, True), ("n", False)):
                question = (sharded._manifest.signature, asked.values, asked.offsets, None, None, options, *told)
                found = reader.search(*question)
                assert len(Found(*found).planned) == len(asked)
                assert as_told(unpacked(packed(found))) == as_told(found)
                again = reader.search(*unpacked(packed(question)))
                # The last is how long it took, and stats have that too.
                assert as_told((*again[:8], *again[9:-1])) == as_told((*found[:8], *found[9:-1]))


def test_a_replica_answers_and_ends(both: tuple[ShardedIndex, Index]) -> None:
    sharded, single = both
    replica, query = Replica(sharded.path, None, 0), to_ragged(CORPUS.queries[:1])
    commit, options = sharded._manifest.signature, {"k": 3}
    arguments = (commit, query.values, query.offsets, None, None, options, None, False)
    own = [key for key in single.ids() if not sharded._manifest.shards_of([key])[0]]
    assert answered(replica.answer(asking(1, "contains", (commit, [*own, "nobody"])))) == [True] * len(own) + [False]
    # What is raised is raised where it was asked, with its words.
    with pytest.raises(UnknownIdError, match="nobody"):
        answered(replica.answer(asking(2, "documents", (commit, ["nobody"]))))
    with pytest.raises(InvalidInputError, match="k must"):
        answered(replica.answer(asking(3, "search", (*arguments[:5], {"k": 0}, None, False))))
    with pytest.raises(CorruptIndexError, match="refresh"):
        answered(replica.answer(asking(4, "count", (sharded._manifest.next().signature, None))))
    replica.end(6)
    for _ in range(2):
        with pytest.raises(StoppedError):
            answered(replica.answer(asking(6, "search", arguments)))
    # What has ended by itself may be ended, and others go on.
    assert Found(*answered(replica.answer(asking(7, "search", arguments)))).planned == [0]
    replica.end(7)
    assert Found(*answered(replica.answer(asking(8, "search", arguments)))).planned == [0]
    assert not replica._running


class ReplicasOfRay:
    """What `RayShards` asks of Ray, by threads: two replicas of a shard, which answer after so many seconds."""

    exceptions = SimpleNamespace(RayTaskError=RuntimeError, RayError=OSError)

    def __init__(self, seconds: tuple[float, float]) -> None:
        self.seconds = seconds
        self.asked: list[tuple[int, int]] = []
        self.ended: list[tuple[int, int]] = []
        self.failing: set[int] = set()
        self._threads = ThreadPoolExecutor(8)

    def replica(self, place: int) -> Any:
        def answer(question: bytes) -> bytes:
            time.sleep(self.seconds[place])
            return packed(("StorageError", f"replica {place}") if place in self.failing else (None, place))

        def asked(question: bytes) -> Any:
            number, method, *arguments = unpacked(question)
            if method == "count":
                assert arguments[-1] == {"a": 1}
            self.asked.append((place, number))
            return self._threads.submit(answer, question)

        end = SimpleNamespace(remote=lambda number: self.ended.append((place, number)))
        return SimpleNamespace(answer=SimpleNamespace(remote=asked), end=SimpleNamespace(options=lambda **options: end))

    @staticmethod
    def wait(futures: list[Any], *, timeout: float) -> Any:
        return futures_wait(futures, timeout, return_when=FIRST_COMPLETED)

    @staticmethod
    def get(future: Any) -> Any:
        return future.result()


def asked_of_ray(seconds: tuple[float, float]) -> tuple[ReplicasOfRay, RayShards]:
    ray = ReplicasOfRay(seconds)
    shards = RayShards.__new__(RayShards)
    vars(shards).update(
        _ray=ray,
        _session=SimpleNamespace(lives=lambda: True),
        _actors=[[ray.replica(0), ray.replica(1)]],
        _numbers=iter(range(7, 99)),
        _lock=threading.Lock(),
        _seconds={},
        _resting={},
    )
    return ray, shards


def test_commits_that_come_while_a_cluster_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, _ = fill(tmp_path)
    ask, commits = LocalShards.ask, iter(range(4))

    def meanwhile(shards: LocalShards, method: str, calls: Any, **options: Any) -> dict[int, Any]:
        for number in commits:
            with ClusterWriter(root) as writer:
                writer.add([f"{number} {other}" for other in range(30)], vectors=DOCUMENTS[:30])
        return ask(shards, method, calls, **options)

    monkeypatch.setattr(LocalShards, "ask", meanwhile)
    with ShardedIndex.open(root, replicas=0) as sharded:
        assert sharded.generation == ClusterManifest.newest(root).generation
        assert "3 29" in sharded


def test_all_replicas_are_prepared_and_none_is_ended() -> None:
    ray, shards = asked_of_ray((0.0, 0.4))
    begun = time.monotonic()
    assert shards.ask("prepare", {0: ()}, timeout=5) == {0: [0]}
    assert time.monotonic() - begun < 0.4, "one of them is enough"
    assert {place for place, _ in ray.asked} <= {0, 1}
    ray, shards = asked_of_ray((0.4, 0.4))
    assert shards.ask("prepare", {0: ()}, timeout=5)[0] in ([0], [1])
    assert sorted(place for place, _ in ray.asked) == [0, 1]
    assert not ray.ended


def test_where_a_store_fails_one_replica_another_is_asked() -> None:
    ray, shards = asked_of_ray((0.0, 0.0))
    ray.failing = {0}
    for _ in range(9):
        assert shards.ask("count", {0: (3, {"a": 1})}, timeout=5) == {0: [1]}
    ray.failing = {0, 1}
    with pytest.raises(StorageError, match="replica"):
        shards.ask("count", {0: (3, {"a": 1})}, timeout=5)


def test_a_question_to_all_shards_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[object] = []

    def noted(*question: Any) -> bytes:
        written.append(question)
        return asking(*question)

    monkeypatch.setattr("latewood.cluster.asking.asking", noted)
    ray, shards = asked_of_ray((0.0, 0.0))
    shards._actors *= 3
    same = (3, {"a": 1})
    assert len(shards.ask("count", dict.fromkeys(range(3), same), timeout=5)) == 3
    assert len(written) == 1
    assert len(shards.ask("count", {0: same, 1: (3, {"a": 1}), 2: same}, timeout=5)) == 3
    assert len(written) == 3, "and one that is another by itself"
    assert len(ray.asked) == 6


@pytest.mark.parametrize(
    ("seconds", "stop", "timeout"),
    [
        ((0.0, 0.0), None, 5),
        ((0.6, 0.0), None, 5),
        ((0.0, 0.6), None, 5),
        ((0.6, 0.6), 0.1, 5),
        ((0.6, 0.6), None, 0.3),
    ],
    ids=["both at once", "the first is slow", "the second is slow", "a stop", "a timeout"],
)
def test_who_is_waited_for_no_longer_is_ended(seconds: tuple[float, float], stop: float | None, timeout: float) -> None:
    ray, shards = asked_of_ray(seconds)
    begun = time.monotonic()
    for number in range(7, 10):
        ray.asked.clear()
        ray.ended.clear()
        if stop is None and timeout > 1:
            (answer,) = shards.ask("count", {0: (3, {"a": 1})}, timeout=timeout)[0]
            assert ray.seconds[answer] == 0
            assert (answer, number) in ray.asked
            # The slow one, where it was asked first.
            assert ray.ended == [one for one in ray.asked if one[0] != answer]
        else:
            with pytest.raises(StoppedError if stop else MissingShardsError), Stop(stop):
                shards.ask("count", {0: (3, {"a": 1})}, timeout=timeout)
            assert ray.asked
            assert ray.ended == ray.asked
    assert time.monotonic() - begun < 3 * 0.6, "no slow one is waited for"


def test_a_large_question_may_take_longer_before_it_is_asked_again() -> None:
    ray, shards = asked_of_ray((0.6, 0.6))
    shards.ask("search", {0: (np.zeros((32, 128), np.float32),)}, timeout=5)
    assert len(ray.asked) == 2
    ray.asked.clear()
    shards.ask("search", {0: (np.zeros((16 * 32, 128), np.float32),)}, timeout=5)
    assert len(ray.asked) == 1, "to ask twice for a long batch would make it longer"


def test_a_replica_that_hangs_leaves_another_time_to_answer() -> None:
    ray, shards = asked_of_ray((3.0, 0.0))
    # The one that hangs is asked first.
    shards._resting[0, 1] = math.inf
    begun = time.monotonic()
    assert shards.ask("search", {0: (np.zeros((4096, 128), np.float32),)}, timeout=1) == {0: [1]}
    assert time.monotonic() - begun < 1
    assert [place for place, _ in ray.asked] == [0, 1]


def test_shards_that_are_late_are_told_from_those_that_are_gone(both: tuple[ShardedIndex, Index]) -> None:
    _, shards = asked_of_ray((0.6, 0.6))
    commit = Commit(both[0]._manifest, shards, timeout=0.1, partial=False)
    with pytest.raises(ServiceError, match=r"shard 0 did not answer within 0.1 seconds; .*longer timeout") as caught:
        commit.ask("count", {0: ({"a": 1},)})
    assert caught.value.status == 504
    vars(shards).update(_session=SimpleNamespace(lives=lambda: False))
    with pytest.raises(ServiceError, match=r"no replica of shard 0 answers; see that Ray runs") as caught:
        commit.ask("count", {0: ({"a": 1},)})
    assert caught.value.status == 503


def test_what_a_replica_is_at_work_on_ends(slow: tuple[Path, list[Any]]) -> None:
    root, queries = slow
    replica, asked = Replica(root, None, 0), to_ragged(queries)
    arguments = (
        ClusterManifest.newest(root).signature,
        asked.values,
        asked.offsets,
        None,
        None,
        {"k": 3, "gather": "exact"},
        None,
        False,
    )
    raised: list[Any] = []

    def ask() -> None:
        with pytest.raises(StoppedError):
            answered(replica.answer(asking(5, "search", arguments)))
        raised.append(time.monotonic())

    thread = threading.Thread(target=ask)
    thread.start()
    while not replica._running:
        time.sleep(0.01)
    time.sleep(0.3)
    assert not raised
    ended = time.monotonic()
    replica.end(5)
    thread.join()
    assert raised[0] - ended < 1


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
arrays = st.builds(
    lambda kind, shape, step: np.arange(np.prod(shape) * step).astype(kind)[::step].reshape(shape),
    st.sampled_from(["f4", "f8", "i8", "u8", "?", "u1"]),
    st.lists(st.integers(0, 5), min_size=1, max_size=3),
    st.integers(1, 2),
)


@settings(deadline=None)
@given(st.lists(plain | arrays | st.binary(), max_size=6))
def test_plain_values_and_arrays_travel_whole(values: list[Any]) -> None:
    data = packed(values)
    assert as_told(unpacked(data)) == as_told(values)
    for one in unpacked(data):
        if isinstance(one, np.ndarray):
            assert one.flags.aligned
            assert one.flags.c_contiguous


@pytest.mark.parametrize("value", [object(), {1, 2}, np.int64(3), [b"bytes"]], ids=repr)
def test_what_is_not_plain_does_not_travel(value: Any) -> None:
    with pytest.raises(TypeError):
        packed([value])


# ── with Ray ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    pytest.importorskip("ray")
    with ray_nodes(3) as cluster:
        yield cluster


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_another_ray_on_this_machine_is_left_alone(nodes: Any, tmp_path: Path) -> None:
    root, single = fill(tmp_path)
    code = """
import json, sys, ray
from latewood.cluster import ShardedIndex
with ShardedIndex.open(sys.argv[1], replicas=1, cpus=0.1) as sharded:
    print(json.dumps([len(sharded), ray.get_runtime_context().gcs_address]))
"""
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
    told = run_python(code, root, environment=environment)
    assert told[0] == len(single)
    assert told[1] != nodes.address


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_lost_node_fails_no_query(nodes: Any, tmp_path: Path) -> None:
    root, single = fill(tmp_path)
    with ShardedIndex.open(root, replicas=2, cpus=0.5) as sharded:
        for options in SEARCHES:
            assert_equal(sharded, single, **options)
        wanted = [single.search(query, 5, gather="exact") for query in CORPUS.queries[:4]]
        wrong: list[object] = []
        slowest = [0.0]
        asked = [0]
        end = threading.Event()

        def ask() -> None:
            while not end.is_set():
                for query, hits in zip(CORPUS.queries[:4], wanted, strict=True):
                    begun = time.monotonic()
                    try:
                        found = sharded.search(query, 5, gather="exact")
                    except LatewoodError as error:
                        wrong.append(error)
                        continue
                    slowest[0] = max(slowest[0], time.monotonic() - begun)
                    asked[0] += 1
                    if found != hits:
                        wrong.append(found)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(2):
            time.sleep(1.5)
            # A crash, not a farewell.
            nodes.remove_node(nodes.worker_nodes.copy().pop(), allow_graceful=False)
            time.sleep(1.5)
            nodes.add_node(num_cpus=4)
            time.sleep(3)
        end.set()
        for thread in threads:
            thread.join()
        assert not wrong
        assert asked[0] > 50
        assert slowest[0] < 10
        assert_equal(sharded, single)


@pytest.mark.slow
def test_a_session_of_ray_ends_with_its_last_user_and_nobody_begins_another(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    root, _ = fill(tmp_path)
    code = """
import os, pickle, sys
import numpy, ray
from latewood.cluster import ShardedIndex
from latewood.errors import ServiceError

query = numpy.ones((2, 32), "float32")
one, other = (ShardedIndex.open(sys.argv[1], replicas=1, cpus=0.1) for _ in range(2))
wanted = one.search(query, 3)
with pickle.loads(pickle.dumps(one)) as copy:
    assert copy.search(query, 3) == wanted
child = os.fork()
if child == 0:
    try:
        one.search(query, 3)
    except ServiceError:
        os._exit(0)
    os._exit(1)
assert os.waitpid(child, 0)[1] == 0
one.close()
assert other.search(query, 3) == wanted
other.close()
assert not ray.is_initialized()
last = ShardedIndex.open(sys.argv[1], replicas=1, cpus=0.1)
ray.shutdown()
for _ in range(2):
    try:
        last.search(query, 3)
    except ServiceError as error:
        assert "Ray" in str(error)
    assert not ray.is_initialized()
last.close()
"""
    run_python(code, root, environment={"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"})


def lose(sharded: ShardedIndex, place: int) -> None:
    """Kill the only replica of a shard for good, and wait until that is done: until then it may answer."""
    import ray

    actor = sharded._shards._actors[place][0]  # type: ignore[attr-defined]
    ray.kill(actor, no_restart=True)
    end = time.monotonic() + 60
    with suppress(ray.exceptions.RayActorError):
        while ray.get(actor.__ray_ready__.remote()):
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_lost_shard_is_told(nodes: Any, tmp_path: Path) -> None:
    root, _single = fill(tmp_path)
    with ShardedIndex.open(root, replicas=1, cpus=0.5, allow_partial=True) as sharded:
        whole = sharded.search(CORPUS.queries[0], 1000, gather="exact")
        assert not sharded.missing
        sharded._timeout = 3
        lose(sharded, 1)
        found = sharded.search(CORPUS.queries[0], 1000, gather="exact")
        assert sharded.missing == [1]
        owners = sharded._manifest.shards_of([hit.id for hit in whole]).tolist()
        assert [hit.id for hit in found] == [hit.id for hit, own in zip(whole, owners, strict=True) if own != 1]
        assert found.stats["missing_shards"] == found.stats["missing_shard_1"] == 1
        lost = next(hit.id for hit in whole if hit.id not in {one.id for one in found})
        for call in (
            lambda: sharded.documents([lost]),
            lambda: sharded.vectors([lost]),
            lambda: sharded.contains([lost]),
            lambda: sharded.explain(CORPUS.queries[0], lost),
            sharded.count,
            sharded.check,
            sharded.info,
        ):
            with pytest.raises(ServiceError, match="shard 1"):
                call()
        sharded._partial = False
        with pytest.raises(ServiceError, match="shard 1"):
            sharded.search(CORPUS.queries[0], 3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_takes_several_questions(nodes: Any, tmp_path: Path) -> None:
    root, single = fill(tmp_path)
    query, scores = CORPUS.queries[0], [float(number % 7) for number in range(60)]
    searches: list[dict[str, Any]] = [
        {"feedback": Feedback()},
        {"feedback": Feedback(mode="reranker", rescored=40), "group_by": "n", "filter": {"n": {"gte": 1}}},
        {"group_by": "n", "length_normalize": True},
    ]
    with ShardedIndex.open(root, replicas=1, cpus=0.5, allow_partial=True) as sharded:
        for options in searches:
            assert_equal(sharded, single, **options)
        for more in ({"alpha": 0.4, "k": 4}, {"beta": 5, "k": 3, "group_by": "n"}):
            found, wanted = (one.rerank(query, IDS[10:70], scores, **more) for one in (sharded, single))
            assert found == wanted
        sharded._timeout = 3
        lose(sharded, 1)
        for options in searches:
            hits = sharded.search(query, 5, gather="exact", **options)
            assert hits
            assert sharded.missing == [1]
            assert hits.stats["missing_shards"] == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stop_and_ctrl_c_are_heard_by_replicas(
    nodes: Any, slow: tuple[Path, list[Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    assert_stops_are_heard(*slow, replicas=2)
    assert "".join(capfd.readouterr()) == "", "Ray writes nothing of it"
