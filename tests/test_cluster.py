"""A cluster's layout and its writer: what one index holds, in the same order, and each commit whole or not at all."""

import json
import os
import shutil
import sys
import threading
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from latewood import Index, to_ragged
from latewood.cluster import ClusterManifest, ClusterWriter, Shard, ShardedIndex, create, grow, publish, recover
from latewood.cluster.manifest import KEPT, generations, name_of
from latewood.cluster.order import ORDER, order_of, without_order
from latewood.cluster.routing import SLOTS, divided, slot_of, slots_of
from latewood.errors import (
    CommitConflictError,
    CorruptIndexError,
    DimensionError,
    DuplicateIdError,
    EncoderRequiredError,
    FormatVersionError,
    IndexExistsError,
    IndexLockedError,
    IndexNotFoundError,
    InvalidInputError,
    StorageError,
    UnknownIdError,
    WriterError,
)
from latewood.index.writer import Writer
from support import HashEncoder, run_python

if TYPE_CHECKING:
    from collections.abc import Callable

DIM = 16


def documents(count: int, *, seed: int = 0) -> list[NDArray[np.float32]]:
    """Documents of which many are equal, so that scores tie."""
    generator = np.random.default_rng(7)
    distinct = [generator.standard_normal((generator.integers(1, 6), DIM)).astype(np.float32) for _ in range(8)]
    return [distinct[place] for place in np.random.default_rng(seed).integers(0, len(distinct), count)]


def new_cluster(path: Path, shards: int = 3, **settings: Any) -> Path:
    generator = np.random.default_rng(9)
    create(path, shards=shards, sample=[generator.standard_normal((4, DIM)) for _ in range(60)], dim=DIM, **settings)
    return path


def exact(path: Path, query: NDArray[np.float32]) -> list[tuple[Any, float, Any]]:
    """All hits of a cluster, put together as `order.py` says."""
    found = []
    for shard in ClusterManifest.newest(path).shards:
        with shard.open(path) as index:
            hits = index.search(query, k=10_000, gather="exact")
            found += [(-hit.score, order_of(hit.metadata), hit.id, without_order(hit.metadata)) for hit in hits]
    return [(key, -score, metadata) for score, _, key, metadata in sorted(found, key=lambda hit: hit[:2])]


def single(index: Index, query: NDArray[np.float32]) -> list[tuple[Any, float, Any]]:
    hits = index.search(query, k=10_000, gather="exact")
    return [(hit.id, hit.score, dict(hit.metadata) if hit.metadata else None) for hit in hits]


def held(path: Path) -> set[Any]:
    """The ids that readers see."""
    return {key for shard in ClusterManifest.newest(path).shards for key in np.asarray(shard.open(path).ids()).tolist()}


# ── routing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_ids_slot_is_the_hash_that_the_page_says() -> None:
    for key in ("", "a", "7", "Übung", "文"):
        assert slot_of(key) == int.from_bytes(blake2b(b"s" + key.encode(), digest_size=2).digest(), "big")
    for number in (0, 7, -1, 2**63 - 1, -(2**63)):
        data = b"i" + number.to_bytes(8, "little", signed=True)
        assert slot_of(number) == int.from_bytes(blake2b(data, digest_size=2).digest(), "big")
    assert slot_of("7") != slot_of(7)
    assert slots_of(np.array([7, 8])).tolist() == [slot_of(7), slot_of(8)]
    assert slots_of(np.array(["a", "b"])).tolist() == [slot_of("a"), slot_of("b")]
    assert slots_of([]).tolist() == []


def test_another_process_routes_in_the_same_way() -> None:
    code = (
        "import json; from latewood.cluster.routing import slots_of; print(json.dumps(slots_of(['a', 'ä']).tolist()))"
    )
    for seed in ("1", "2"):
        assert (
            run_python(code, environment={"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)})
            == slots_of(["a", "ä"]).tolist()
        )


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 1000, SLOTS])
def test_ranges_divide_all_slots_evenly(parts: int) -> None:
    sizes = np.diff([*divided(0, SLOTS, parts), SLOTS])
    assert sizes.sum() == SLOTS
    assert sizes.max() - sizes.min() <= 1


def test_every_id_has_one_owner_and_owners_have_equal_parts() -> None:
    shards = tuple(Shard(f"shards/{place:04}", 1, "", first) for place, first in enumerate(divided(0, SLOTS, 5)))
    counts = np.bincount(ClusterManifest(1, "int", 0, shards).shards_of(range(20_000)), minlength=5)
    assert counts.sum() == 20_000
    assert counts.min() > 3_700


# ── the manifest ─────────────────────────────────────────────────────────────────────────────────────────────────────


def manifest_of(generation: int) -> ClusterManifest:
    shards = (Shard("shards/0000", 3, "ab", 0), Shard("shards/0001", 4, "cd", 30_000))
    return ClusterManifest(generation, "str", 17, shards)


def test_the_newest_manifest_is_what_was_published(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFoundError, match="no cluster"):
        ClusterManifest.newest(tmp_path)
    for generation in (1, 2, 10):
        manifest_of(generation).publish(tmp_path)
        assert ClusterManifest.newest(tmp_path) == manifest_of(generation)
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_of_many_who_publish_one_generation_one_wins(tmp_path: Path) -> None:
    outcomes: list[str] = []
    start = threading.Barrier(8)

    def publish(order: int) -> None:
        mine = ClusterManifest(5, "int", order, manifest_of(5).shards)
        start.wait()
        try:
            mine.publish(tmp_path)
            outcomes.append("won")
            assert ClusterManifest.newest(tmp_path) == mine
        except CommitConflictError:
            outcomes.append("lost")

    threads = [threading.Thread(target=publish, args=(order,)) for order in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["lost"] * 7 + ["won"]


def test_who_comes_after_many_commits_does_not_win_a_name_that_was_cleared_away(tmp_path: Path) -> None:
    for generation in range(1, KEPT + 5):
        manifest_of(generation).publish(tmp_path)
    assert len(generations(tmp_path)) == KEPT
    with pytest.raises(CommitConflictError):
        manifest_of(2).publish(tmp_path)
    assert ClusterManifest.newest(tmp_path).generation == KEPT + 4


def test_a_changed_byte_of_a_manifest_is_an_error(tmp_path: Path) -> None:
    manifest_of(1).publish(tmp_path)
    path = tmp_path / name_of(1)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        # Space between two values is the one thing that says nothing.
        with suppress(CorruptIndexError):
            assert ClusterManifest.newest(tmp_path) == manifest_of(1)
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(CorruptIndexError):
            ClusterManifest.newest(tmp_path)


@pytest.mark.parametrize(
    "shards",
    [
        (),
        (Shard("../../etc", 1, "", 0),),
        (Shard("/etc", 1, "", 0),),
        (Shard("shards/0000", 1, "", 5),),
        (Shard("shards/0000", 1, "", 0), Shard("shards/0000", 1, "", 9)),
        (Shard("shards/0000", 1, "", 0), Shard("shards/0001", 1, "", 0)),
        (Shard("shards/0000", 1, "", 0), Shard("shards/0001", 1, "", SLOTS)),
        (Shard("shards/0000", -1, "", 0),),
    ],
)
def test_a_manifest_that_cannot_be_is_refused_though_its_checksum_is_right(
    tmp_path: Path, shards: tuple[Shard, ...]
) -> None:
    ClusterManifest(1, None, 0, shards).publish(tmp_path)
    with pytest.raises(CorruptIndexError, match="cannot be"):
        ClusterManifest.newest(tmp_path)


def test_a_manifest_of_a_later_version_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        later.setattr("latewood.cluster.manifest.FORMAT", 2)
        manifest_of(1).publish(tmp_path)
    with pytest.raises(FormatVersionError, match="upgrade"):
        ClusterManifest.newest(tmp_path)


# ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [int, str])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_cluster_ranks_as_one_index_to_the_bit_whatever_was_done_to_it(tmp_path: Path, kind: Any, seed: int) -> None:
    path = new_cluster(tmp_path / "cluster", shards=2 + seed)
    index = Index.create(tmp_path / "single", codec_from=path / "codec", train_after=2**62)
    generator = np.random.default_rng(seed)
    known: set[Any] = set()
    for step in range(8):
        fresh = [kind(1000 * step + place) for place in range(12)]
        old = sorted(known)
        some = [old[place] for place in generator.permutation(len(old))[:5]]
        vectors = documents(12, seed=step)
        metadata = [None if place % 3 == 0 else {"n": place, "step": step} for place in range(12)]
        with ClusterWriter(path) as cluster, index.writer() as one:
            if some:
                for writer in (cluster, one):
                    assert writer.update_metadata(some, {"replaced": step}, replace=True) == 5
            for writer in (cluster, one):
                writer.add(fresh, vectors=iter(vectors), metadata=metadata)
                assert writer.delete(fresh[:1]) == 1
                if some:
                    writer.upsert(some[:2], vectors=vectors[:2], metadata=[{"upserted": step}] * 2)
                    assert writer.update_metadata(some, {"seen": step}) == 5
                    writer.delete(some[4:])
            assert cluster.update_metadata(filter={"n": 4}, metadata={"four": True}) == one.update_metadata(
                filter={"n": 4}, metadata={"four": True}
            )
            assert cluster.delete(filter={"n": 7, "step": step}) == one.delete(filter={"n": 7, "step": step})
        known = set(np.asarray(index.ids()).tolist())
        if step == 4:
            grow(path, 5)
        query = documents(1, seed=step + 50)[0]
        assert exact(path, query) == single(index, query)
        assert held(path) == known
    assert len({score for _, score, _ in single(index, query)}) < len(known) / 2


def test_texts_are_encoded_and_kept(tmp_path: Path) -> None:
    encoder = HashEncoder(DIM)
    create(tmp_path / "c", shards=2, sample_texts=["some words", "and others"] * 20, encoder=encoder)
    with ClusterWriter(tmp_path / "c", encoder=encoder) as writer:
        writer.add(["a", "b", "c"], texts=["one text", "", "another"], metadata=[{}, None, {"x": 1}])
        assert writer.empty == 1
    stored = [
        document
        for shard in ClusterManifest.newest(tmp_path / "c").shards
        for document in shard.open(tmp_path / "c").documents(shard.open(tmp_path / "c").ids())
    ]
    assert {(d.id, d.text, json.dumps(without_order(d.metadata))) for d in stored} == {
        ("a", "one text", "null"),
        ("b", "", "null"),
        ("c", "another", '{"x": 1}'),
    }
    remedy = r'encoder="recorded" loads .* give encoder= where it is opened'
    with ClusterWriter(tmp_path / "c") as writer, pytest.raises(EncoderRequiredError, match=remedy):
        writer.add(["d"], texts=["more"])
    with ShardedIndex.open(tmp_path / "c", replicas=0) as index, pytest.raises(EncoderRequiredError, match=remedy):
        index.search("more")


def test_nothing_is_written_without_changes(tmp_path: Path) -> None:
    path = new_cluster(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.name != "LOCK" and file.is_file()}
    with ClusterWriter(path) as writer:
        writer.add([], vectors=[])
        assert writer.delete([]) == 0
        assert writer.commit() == 1
    assert before == {file: file.stat().st_mtime_ns for file in before}
    assert generations(path) == [1]


def test_a_writer_commits_again_and_again(tmp_path: Path) -> None:
    path = new_cluster(tmp_path)
    with ClusterWriter(path) as writer:
        for number in range(1, 6):
            writer.add([number], vectors=documents(1))
            assert writer.commit() == number + 1 == writer.generation
            assert held(path) == set(range(1, number + 1))
    with pytest.raises(WriterError, match="closed"):
        writer.add([9], vectors=documents(1))
    writer.close()


def test_a_block_that_raises_leaves_nothing(tmp_path: Path) -> None:
    path = new_cluster(tmp_path)

    def fill() -> None:
        with ClusterWriter(path) as writer:
            writer.add(range(20), vectors=documents(20))
            writer.add([3], vectors=documents(1))

    with pytest.raises(DuplicateIdError):
        fill()
    assert held(path) == set()
    with ClusterWriter(path) as writer:
        writer.add(range(20), vectors=documents(20))
    assert held(path) == set(range(20))


def test_bad_input_changes_nothing(tmp_path: Path) -> None:
    path = new_cluster(tmp_path)
    with ClusterWriter(path) as writer:
        writer.add(range(20), vectors=documents(20))
    bad: list[tuple[type[Exception], Callable[[ClusterWriter], Any]]] = [
        (DuplicateIdError, lambda writer: writer.add([100, 19], vectors=documents(2))),
        (DuplicateIdError, lambda writer: writer.add([100, 100], vectors=documents(2))),
        (InvalidInputError, lambda writer: writer.add(["a"], vectors=documents(1))),
        (InvalidInputError, lambda writer: writer.add([100], vectors=documents(1), metadata=[{ORDER: 1}])),
        (InvalidInputError, lambda writer: writer.add([100, 101], vectors=documents(1))),
        (UnknownIdError, lambda writer: writer.delete([*range(20), 99])),
        (UnknownIdError, lambda writer: writer.update_metadata([*range(20), 99], {"x": 1})),
        (UnknownIdError, lambda writer: writer.update_metadata([1, 99], {"x": 1}, replace=True)),
        (InvalidInputError, lambda writer: writer.update_metadata([1], {ORDER: 1})),
        (InvalidInputError, lambda writer: writer.update_metadata([1], None)),
        (InvalidInputError, lambda writer: writer.update_metadata([1, 2], [{}])),
        (InvalidInputError, lambda writer: writer.delete()),
        (InvalidInputError, lambda writer: writer.delete([1], filter={"n": 1})),
        (InvalidInputError, lambda writer: writer.delete(filter={})),
        (InvalidInputError, lambda writer: writer.delete(["a"])),
    ]
    with ClusterWriter(path) as writer:
        for error, call in bad:
            with pytest.raises(error):
                call(writer)
        assert writer.commit() == 2
        assert writer.delete([1, 99], missing="skip") == 1
        assert writer.update_metadata([2, 99], {"x": 1}, missing="skip") == 1
        with pytest.raises(InvalidInputError, match="commit"):
            writer.update_metadata([2], {"x": 1}, replace=True)
        writer.commit()
        assert writer.update_metadata([2, 99], {"y": 1}, replace=True, missing="skip") == 1
    assert held(path) == set(range(20)) - {1}


def test_ids_that_were_refused_leave_the_kind_of_ids_open(tmp_path: Path) -> None:
    path = new_cluster(tmp_path)
    not_finite = np.full((2, DIM), np.nan, np.float32)
    with ClusterWriter(path) as writer:
        with pytest.raises(InvalidInputError, match="NaN"):
            writer.add(["a"], vectors=[not_finite])
        writer.add([1], vectors=documents(1))
        with pytest.raises(InvalidInputError, match="ids of this cluster are int"):
            writer.add(["a"], vectors=documents(1))
    assert ClusterManifest.newest(path).id_kind == "int"


def test_what_fails_between_two_shards_leaves_a_writer_that_commits_nothing(tmp_path: Path) -> None:
    path = new_cluster(tmp_path)

    def given() -> Any:
        yield from documents(20_000)
        message = "the source is gone"
        raise OSError(message)

    with ClusterWriter(path) as writer:
        with pytest.raises(OSError, match="gone"):
            writer.add(range(20_001), vectors=given())
        for call in (writer.commit, lambda: writer.delete([1])):
            with pytest.raises(WriterError, match="ended early"):
                call()
        writer.close()
    assert held(path) == set()


def test_a_second_writer_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    path = new_cluster(tmp_path)
    with ClusterWriter(path) as writer:
        writer.add([1], vectors=documents(1))
        for call in (lambda: ClusterWriter(path), lambda: grow(path, 5), lambda: recover(path)):
            with pytest.raises(IndexLockedError, match="another writer"):
                call()
    grow(path, 5)
    assert held(path) == {1}


# ── what fails midway ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("late", [False, True])
def test_a_shard_that_fails_midway_leaves_the_commit_before_in_all_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    path = new_cluster(tmp_path)
    with ClusterWriter(path) as writer:
        writer.add(range(20), vectors=documents(20))
    commit, calls = Writer.commit, iter(range(100))

    def failing(writer: Writer) -> int:
        second = next(calls) == 1
        if not second or late:
            generation = commit(writer)
        if second:
            message = "the disk is full"
            raise StorageError(message)
        return generation

    with monkeypatch.context() as broken:
        broken.setattr(Writer, "commit", failing)
        with pytest.raises(StorageError, match="full"), ClusterWriter(path) as writer:
            writer.upsert(range(10, 40), vectors=documents(30, seed=4))
    before = exact(path, documents(1)[0])
    assert held(path) == set(range(20))
    restored = recover(path)
    assert restored.generation == 3
    assert recover(path) == restored
    assert exact(path, documents(1)[0]) == before
    for number in range(3):
        with ClusterWriter(path) as writer:
            writer.add([100 + number], vectors=documents(1))
    assert held(path) == {*range(20), 100, 101, 102}


def test_a_reader_keeps_its_generation_while_others_are_committed(tmp_path: Path) -> None:
    path = new_cluster(tmp_path)
    with ClusterWriter(path) as writer:
        writer.add(range(20), vectors=documents(20))
    opened = [shard.open(path) for shard in ClusterManifest.newest(path).shards]
    for number in range(5):
        with ClusterWriter(path) as writer:
            writer.delete([number])
    grow(path, 6)
    assert sorted(key for index in opened for key in np.asarray(index.ids()).tolist()) == list(range(20))


def test_a_shard_that_was_changed_by_itself_is_told_or_put_back(tmp_path: Path) -> None:
    path = new_cluster(tmp_path, shards=1)
    with ClusterWriter(path) as writer:
        writer.add(range(5), vectors=documents(5))
    Index.open(path / "shards/0000").delete([1])
    assert held(path) == set(range(5))
    recover(path)
    assert held(path) == set(range(5))
    index = Index.open(path / "shards/0000")
    index.delete([1])
    index.compact()
    with pytest.raises(CorruptIndexError, match="MANIFEST"):
        held(path)


def test_a_folder_that_is_not_the_one_that_was_committed_is_an_error(tmp_path: Path) -> None:
    one, other = new_cluster(tmp_path / "one", shards=1), new_cluster(tmp_path / "other", shards=1)
    (one / "shards/0000").rename(tmp_path / "moved")
    (other / "shards/0000").rename(one / "shards/0000")
    with pytest.raises(CorruptIndexError, match="not the one"):
        held(one)
    shutil.rmtree(one / "shards/0000")
    with pytest.raises(CorruptIndexError, match=r"No such file or directory; open .* or restore the folder"):
        held(one)


# ── growing, creating, moving ────────────────────────────────────────────────────────────────────────────────────────


def test_shards_grow_evenly_and_encode_nothing_again(tmp_path: Path) -> None:
    path = new_cluster(tmp_path, shards=2)
    with ClusterWriter(path) as writer:
        writer.add(range(2_000), vectors=documents(2_000))
    before = exact(path, documents(1)[0])
    with pytest.raises(InvalidInputError, match="fewer"):
        grow(path, 1)
    assert grow(path, 2).generation == 2
    grown = grow(path, 8)
    assert grown.generation == 3
    sizes = [len(shard.open(path)) for shard in grown.shards]
    assert sum(sizes) == 2_000
    assert min(sizes) > 180
    assert exact(path, documents(1)[0]) == before
    assert grow(path, 11).shards[-1].first_slot < SLOTS
    assert exact(path, documents(1)[0]) == before


def test_growing_that_fails_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = new_cluster(tmp_path, shards=2)
    with ClusterWriter(path) as writer:
        writer.add(range(50), vectors=documents(50))
    with monkeypatch.context() as broken:
        broken.setattr(Index, "compact", lambda _: (_ for _ in ()).throw(OSError(28, "no space left")))
        with pytest.raises(StorageError, match="no space"):
            grow(path, 4)
    assert held(path) == set(range(50))
    recover(path)
    assert sorted(folder.name for folder in (path / "shards").iterdir()) == ["0000", "0001"]
    grow(path, 4)
    assert held(path) == set(range(50))


def test_a_cluster_is_created_once(tmp_path: Path) -> None:
    path = new_cluster(tmp_path / "c")
    with pytest.raises(IndexExistsError, match="ClusterWriter"):
        new_cluster(path)
    for arguments in (
        {"shards": 0, "sample": documents(5)},
        {"shards": SLOTS + 1, "sample": documents(5)},
        {"shards": 2},
        {"shards": 2, "sample": documents(5), "sample_texts": ["a"]},
    ):
        with pytest.raises(InvalidInputError):
            create(tmp_path / "other", dim=DIM, **arguments)
    for sample in ([], [np.zeros((0, DIM))], [np.full((2, DIM), np.nan)], [np.ones((2, DIM + 1))]):
        with pytest.raises((InvalidInputError, DimensionError)):
            create(tmp_path / "other", dim=DIM, shards=2, sample=sample)
        assert not list((tmp_path / "other").iterdir())
    with pytest.raises(IndexNotFoundError):
        ClusterWriter(tmp_path / "nothing")
    with pytest.raises(IndexNotFoundError, match=r"holds a cluster, and no index; open it with ShardedIndex\.open"):
        Index.open(path)
    assert not (tmp_path / "nothing").exists()


def test_a_sample_comes_in_every_form_of_vectors(tmp_path: Path) -> None:
    given = documents(60)
    flat = np.concatenate(given)
    trained = []
    for number, sample in enumerate((given, iter(given), to_ragged(given), flat)):
        create(tmp_path / f"c{number}", shards=1, sample=sample, dim=DIM)
        trained.append(Index.open(tmp_path / f"c{number}/codec").info()["codec"]["trained_tokens"])
    assert trained == [len(flat)] * 4


def test_a_cluster_can_be_moved_and_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = new_cluster(tmp_path / "c")
    with ClusterWriter(path) as writer:
        writer.add(range(9), vectors=documents(9))
    path.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    with ClusterWriter(Path("moved")) as writer:
        writer.delete([1])
    assert held(Path("moved")) == set(range(9)) - {1}


def test_kept_vectors_are_kept_in_every_shard(tmp_path: Path) -> None:
    path = new_cluster(tmp_path, keep_vectors="float16")
    vectors = documents(9)
    with ClusterWriter(path) as writer:
        writer.add(range(9), vectors=vectors)
    for shard in ClusterManifest.newest(path).shards:
        index = shard.open(path)
        for key in np.asarray(index.ids()).tolist():
            np.testing.assert_array_equal(index.vectors([key]).values, vectors[key].astype(np.float16))


# ── paths ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_paths_in_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    new_cluster(Path("~/home/"))
    (tmp_path / "link").symlink_to(tmp_path / "home")
    for path in ("home", "home/", "./home", "~/home", b"home", "link", Path("home"), tmp_path / "home"):
        manifest = ClusterManifest.newest(path)  # type: ignore[arg-type]
        assert len(manifest.shards[0].open(path)) == 0  # type: ignore[arg-type]
        ClusterWriter(path).close()  # type: ignore[arg-type]
        assert recover(path) == manifest  # type: ignore[arg-type]
        assert grow(path, 3) == manifest  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["s3://bucket/news", "gs://bucket/news", "file:///folder/news"])
def test_an_address_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (
        lambda: new_cluster(address),  # type: ignore[arg-type]
        lambda: ClusterWriter(address),
        lambda: grow(address, 3),
        lambda: recover(address),
        lambda: ClusterManifest.newest(address),
        lambda: publish(address, "file:///folder/elsewhere"),
    ):
        with pytest.raises(InvalidInputError, match="address"):
            call()
    assert not list(tmp_path.iterdir())


def test_what_the_system_does_not_give_is_told(tmp_path: Path) -> None:
    path = new_cluster(tmp_path / "c")
    shutil.rmtree(path / "shards")
    for call in (lambda: ClusterWriter(path), lambda: recover(path), lambda: held(path)):
        with pytest.raises(CorruptIndexError, match="shards"):
            call()
    (path / name_of(2)).mkdir()
    for call in (lambda: ClusterWriter(path), lambda: recover(path), lambda: held(path)):
        with pytest.raises(StorageError, match="cannot read the cluster manifest"):
            call()
