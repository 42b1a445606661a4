"""Clusters in object storage: all shards of a commit or none, whatever happens to files, publishers and caches."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from latewood import Index
from latewood.cloud import clean
from latewood.cloud.generations import numbers
from latewood.cloud.store import Store
from latewood.cluster import ClusterManifest, ClusterWriter, ShardedIndex, create, grow, publish, recover
from latewood.cluster.homes import home_of
from latewood.cluster.manifest import generations
from latewood.common.signed import signed
from latewood.errors import (
    CommitConflictError,
    CorruptIndexError,
    IndexLockedError,
    IndexNotFoundError,
    IndexReplacedError,
    InvalidInputError,
    StorageError,
)
from strategies import make_corpus
from support import HashEncoder, newest_of, store_folder
from trials.nodes import nodes as ray_nodes
from trials.s3 import Faults

pytest.importorskip("obstore")

CORPUS = make_corpus(13, dim=16, documents=120)
SHARDS = 3


def made(root: Path, count: int = 40) -> Path:
    create(root, shards=SHARDS, sample=CORPUS.documents[:60], dim=16)
    add(root, range(count))
    return root


def add(root: Path, ids: range) -> None:
    with ClusterWriter(root) as writer:
        writer.add(ids, vectors=CORPUS.documents[ids.start : ids.stop], metadata=[{"n": key} for key in ids])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made(tmp_path / "cluster")


def found(index: ShardedIndex) -> list[Any]:
    return index.search_batch(CORPUS.queries[:3], 7, gather="exact")


def same(index: ShardedIndex, root: Path) -> bool:
    with ShardedIndex.open(root, replicas=0) as wanted:
        return len(index) == len(wanted) and found(index) == found(wanted) and index.generation == wanted.generation


def opened(url: str, **options: Any) -> ShardedIndex:
    return ShardedIndex.open(url, replicas=0, **options)


def here_and_gone(url: str, root: Path) -> None:
    with opened(url) as index:
        assert same(index, root)
        assert index.check() == []


def visible(folder: str | Path) -> set[str]:
    files = (path for path in Path(folder).rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix() for path in files}


@pytest.mark.parametrize("address", ["url", "bucket"])
def test_there_and_back(root: Path, address: str, cache: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(address)
    assert publish(root, url) == ClusterManifest.newest(root).generation == publish(root, url), "twice is once"
    with opened(url) as index:
        assert same(index, root)
        assert Path(index.path).parent == cache
        assert visible(index.path) == {file.name for file in newest_of(url).files}
        assert not index.refresh()
        add(root, range(40, 60))
        with ClusterWriter(root) as writer:
            writer.delete([3])
            writer.update_metadata([4], {"n": 144})
        assert not index.refresh(), "a commit is seen when it is published"
        publish(root, url)
        assert index.refresh()
        assert same(index, root)
        assert index.count(filter={"n": 144}) == 1
        assert visible(index.path) == {file.name for file in newest_of(url).files}, "what no shard needs is removed"
        with pickle.loads(pickle.dumps(index)) as again:
            assert same(again, root)
            assert again.path == index.path
        assert repr(index) == f"ShardedIndex({url!r}, shards=3)"
    assert clean(url, keep=1, older_than=0) > 1
    shutil.rmtree(cache)
    here_and_gone(url, root)


def test_what_is_pulled_is_for_reading(root: Path, url: str, cache: Path, tmp_path: Path) -> None:
    publish(root, url)
    with opened(url) as index:
        for change in (ClusterWriter, recover, partial(grow, shards=6)):
            with pytest.raises(InvalidInputError, match="for reading"):
                change(index.path)
        publish(index.path, store_folder(url).with_name("mirror").as_uri())
        own = Path(shutil.copytree(index.path, tmp_path / "own"))
        add(own, range(40, 41))
        assert same(index, root)
    here_and_gone(url, root)


def test_texts_are_encoded_as_the_codec_says(tmp_path: Path, url: str, cache: Path) -> None:
    encoder = HashEncoder()
    create(tmp_path / "cluster", shards=2, sample_texts=["word one", "word two"], encoder=encoder)
    with ClusterWriter(tmp_path / "cluster", encoder=encoder) as writer:
        writer.add(range(9), texts=[f"word {number}" for number in range(9)])
    publish(tmp_path / "cluster", url)
    with opened(url, encoder=encoder) as index:
        wanted = index.search("word 7", 3)
        with pickle.loads(pickle.dumps(index)) as again:
            assert again.search("word 7", 3) == wanted
    assert wanted[0].text == "word 7"


def test_a_content_lies_there_once_and_only_what_is_new_goes_up(
    root: Path, url: str, cache: Path, sent: list[str]
) -> None:
    publish(root, url)
    codecs = {file.object for file in newest_of(url).files if "/codec-" in file.name}
    assert len(codecs) == 1, "all shards have one codec"
    assert len(sent) == len(set(sent)) == len({file.object for file in newest_of(url).files})
    before = set(sent)
    sent.clear()
    # One shard of three.
    key = next(key for key in range(60, 99) if ClusterManifest.newest(root).shards_of([key])[0] == 1)
    add(root, range(key, key + 1))
    publish(root, url)
    assert not before & set(sent)
    changed = {file.folder for file in newest_of(url).files if file.object in sent}
    assert changed == {"", "shards/0001"}
    publish(root, url, repair=True)
    assert {file.object for file in newest_of(url).files} <= set(sent)


def test_a_half_published_commit_is_not_seen(
    root: Path, url: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(root, url)
    before = ClusterManifest.newest(root).generation
    add(root, range(40, 60))
    upload = Store.upload

    def gone(*_: Any) -> bool:
        message = "the store is gone"
        raise StorageError(message)

    # What has gone up stays there, and so each try comes further.
    for most in (0, 1, 2, 100):
        left = [most]

        def some(self: Store, name: str, parts: Iterator[bytes], size: int, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                gone()
            upload(self, name, parts, size)

        with monkeypatch.context() as broken:
            broken.setattr(Store, "upload", some)
            broken.setattr(Store, "create", gone)
            with pytest.raises(StorageError):
                publish(root, url)
        with opened(url) as index:
            assert (index.generation, len(index)) == (before, 40)
    publish(root, url)
    here_and_gone(url, root)


def test_a_publisher_that_is_killed_and_run_again(root: Path, url: str, cache: Path) -> None:
    code = """
import os, sys
from latewood.cloud.store import Store
from latewood.cluster import publish
upload, left = Store.upload, [4]

def dying(self, *arguments):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), 9)
    upload(self, *arguments)

Store.upload = dying
publish(sys.argv[1], sys.argv[2])
"""
    done = subprocess.run([sys.executable, "-c", code, root, url], check=False, capture_output=True, timeout=60)
    assert done.returncode == -9, done.stderr
    with pytest.raises(InvalidInputError, match="nothing is published"):
        opened(url)
    publish(root, url)
    here_and_gone(url, root)


def test_of_many_publishers_one_wins(root: Path, url: str, tmp_path: Path, cache: Path) -> None:
    publish(root, url)
    copies = [tmp_path / f"copy{number}" for number in range(3)]
    for number, copy in enumerate(copies):
        shutil.copytree(root, copy)
        add(copy, range(60 + number, 61 + number))
    outcomes: list[Path | None] = []

    def go(copy: Path) -> None:
        try:
            publish(copy, url)
            outcomes.append(copy)
        except CommitConflictError:
            outcomes.append(None)

    threads = [threading.Thread(target=go, args=(copy,)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [outcome for outcome in outcomes if outcome is not None]
    here_and_gone(url, winner)
    # Who has lost does not win by going on.
    loser = next(copy for copy in copies if copy != winner)
    for number in range(70, 73):
        add(loser, range(number, number + 1))
        with pytest.raises(CommitConflictError, match="another history"):
            publish(loser, url)
    for number in range(80, 83):
        add(winner, range(number, number + 1))
    publish(winner, url)
    here_and_gone(url, winner)


def test_an_older_commit_is_not_published_over_a_newer_one(root: Path, url: str, tmp_path: Path, cache: Path) -> None:
    shutil.copytree(root, tmp_path / "backup")
    add(root, range(40, 50))
    publish(root, url)
    with pytest.raises(CommitConflictError, match="publish the newest commit"):
        publish(tmp_path / "backup", url)


def test_what_else_is_there_is_left_alone(root: Path, url: str, tmp_path: Path, cache: Path) -> None:
    publish(root, url)
    index = Index.create(tmp_path / "index", dim=16)
    index.add([1], vectors=CORPUS.documents[:1])
    index.publish(url + "/index")
    for stranger in (made(tmp_path / "other"), made(tmp_path / "third", 50)):
        with pytest.raises(InvalidInputError, match="another cluster"):
            publish(stranger, url)
        with pytest.raises(InvalidInputError, match="another index"):
            publish(stranger, url + "/index")
    with pytest.raises(InvalidInputError, match="another cluster"):
        index.publish(url)
    # The codec is an index, and tells a cluster from others.
    with pytest.raises(InvalidInputError, match="another cluster"):
        Index.open(root / "codec").publish(url)
    with pytest.raises(InvalidInputError, match=r"is no index; open it with ShardedIndex\.open"):
        Index.open(url)
    with pytest.raises(InvalidInputError, match=r"is no cluster; open it with Index\.open"):
        opened(url + "/index")
    here_and_gone(url, root)


def test_wrong_bytes_are_never_used(root: Path, url: str, cache: Path) -> None:
    publish(root, url)
    for file in sorted((store_folder(url) / "files").iterdir()):
        whole = file.read_bytes()
        for damage in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-1], whole + b"x", None):
            file.unlink()
            if damage is not None:
                file.write_bytes(damage)
            shutil.rmtree(cache, ignore_errors=True)
            with pytest.raises((CorruptIndexError, StorageError), match=file.name):
                opened(url)
        file.write_bytes(whole)
    here_and_gone(url, root)
    file.write_bytes(whole[:-1])
    with pytest.raises((CorruptIndexError, StorageError)):
        opened(url, cache_dir=cache / "elsewhere")
    publish(root, url, repair=True)
    with opened(url, cache_dir=cache / "elsewhere") as index:
        assert same(index, root)


def test_damage_in_the_cache_is_mended_when_it_is_found(root: Path, url: str, cache: Path) -> None:
    publish(root, url)
    here_and_gone(url, root)
    for name in sorted(file.name for file in newest_of(url).files):
        (path,) = cache.glob(f"*/{name}")
        whole = path.read_bytes()
        path.write_bytes(bytes(8) + whole[8:])
        here_and_gone(url, root)
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "name",
    [
        "../evil.lwd",
        "shards/../evil.lwd",
        "shards/0000/../../evil.lwd",
        "shards/0000/a/b.lwd",
        "/shards/0000/a.lwd",
        "shards/x/a.lwd",
        "evil.lwd",
        "codec/x.so",
        "cluster-0000000001.json",
        "",
        5,
    ],
)
def test_a_description_cannot_lead_out_of_the_folder(root: Path, url: str, cache: Path, name: Any) -> None:
    publish(root, url)
    path = store_folder(url) / newest_of(url).object
    told = json.loads(path.read_text())
    told["files"][0]["name"] = name
    del told["checksum"]
    path.write_bytes(signed(told))
    with pytest.raises(CorruptIndexError, match="describes no generation"):
        opened(url)
    assert not list(cache.rglob("evil*"))


def test_a_manifest_that_names_what_is_not_there(root: Path, url: str, cache: Path) -> None:
    """A description that leaves out a shard's files is no commit, though its checksum is right."""
    publish(root, url)
    path = store_folder(url) / newest_of(url).object
    told = json.loads(path.read_text())
    whole = told["files"]
    del told["checksum"]
    for left_out in ("shards/0001/segment", "shards/0001/MANIFEST", "shards/0002/", "codec/MANIFEST", "codec/"):
        told["files"] = [file for file in whole if not file["name"].startswith(left_out)]
        path.write_bytes(signed(told))
        shutil.rmtree(cache, ignore_errors=True)
        with pytest.raises((CorruptIndexError, IndexNotFoundError), match=left_out.partition("/")[0]):
            opened(url)
    told["files"] = whole
    path.write_bytes(signed(told))
    here_and_gone(url, root)


def test_a_cluster_that_has_grown(root: Path, url: str, cache: Path) -> None:
    publish(root, url)
    with opened(url) as index:
        before = found(index)
        grow(root, 6)
        publish(root, url)
        with pytest.raises(InvalidInputError, match="6 shards now, and had 3; open it again"):
            index.refresh()
        assert found(index) == before, "what is open stays"
        with opened(url) as again:
            assert found(again) == before
            assert len(again.info()) == 6
            add(root, range(40, 60))
            publish(root, url)
            assert again.refresh()
            assert same(again, root)


def test_another_cluster_at_the_address(root: Path, url: str, tmp_path: Path, cache: Path) -> None:
    """What was pulled from there earlier is not taken for it, at whatever generation."""
    publish(root, url)
    with opened(url) as index:
        before = found(index)
        for number, commits in enumerate((1, 0, 3)):
            shutil.rmtree(tmp_path / "store")
            other = made(tmp_path / f"other{number}", 20)
            for commit in range(commits):
                add(other, range(60 + commit, 61 + commit))
            publish(other, url)
            here_and_gone(url, other)
            with pytest.raises(IndexReplacedError):
                index.refresh()
            assert found(index) == before, "what is open stays"


def test_a_list_that_is_late(root: Path, url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = publish(root, url)
    add(root, range(40, 50))
    publish(root, url)
    with opened(url) as index:
        with monkeypatch.context() as late:
            late.setattr("latewood.cloud.generations.numbers", lambda _: [first])
            assert not index.refresh()
        assert same(index, root)
        assert not index.refresh()


def test_a_cache_that_is_too_small(root: Path, url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        publish(root, f"{url}/{name}")
    held, let_go = opened(f"{url}/a"), opened(f"{url}/b")
    let_go.close()
    path = cache / let_go.path
    monkeypatch.setenv("LATEWOOD_CACHE_BYTES", "1000")
    with opened(f"{url}/c") as third:
        assert same(third, root)
        assert same(held, root)
    assert not path.exists(), "nobody used it"
    add(root, range(40, 50))
    publish(root, f"{url}/a")
    assert held.refresh()
    assert same(held, root)
    held.close()


def test_a_writer_is_waited_for_and_no_half_commit_is_published(root: Path, url: str, cache: Path) -> None:
    with ClusterWriter(root) as writer:
        writer.add([99], vectors=CORPUS.documents[:1])
        with pytest.raises(IndexLockedError):
            publish(root, url)
    # A shard has committed, and the cluster has not: as whoever died between the two left it.
    Index.open(root / "shards/0000").add([10**6], vectors=CORPUS.documents[:1])
    publish(root, url)
    with opened(url) as index:
        assert 10**6 not in index
        assert len(index) == 41
    here_and_gone(url, root)


def test_a_folder_that_cannot_be_written_to(root: Path, url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    # Root may write everywhere; who locks would.
    monkeypatch.delattr("latewood.cluster.publishing.locked")
    publish(root, url)
    here_and_gone(url, root)


@pytest.mark.parametrize("bad", ["s3://", "s3://b?secret=1", "nowhere://x/y", "", 5, None])
def test_bad_input(root: Path, bad: Any, cache: Path) -> None:
    with pytest.raises(InvalidInputError):
        publish(root, bad)
    with pytest.raises((InvalidInputError, IndexNotFoundError)):
        opened(bad)
    with pytest.raises(IndexNotFoundError):
        publish(root / "nothing", "file:///nowhere")


def test_a_shard_brings_its_own_files_alone_and_forgets_older_ones(
    root: Path, url: str, tmp_path: Path, cache: Path
) -> None:
    publish(root, url)
    first = ClusterManifest.newest(root)
    places = [home_of(url, tmp_path / "a machine") for _ in range(2)]
    shards = [home.shard(first.signature, 2 * place) for place, home in enumerate(places)]
    known = visible(places[0].root)
    assert {name.rpartition("/")[0] for name in known} == {"", "shards/0000", "shards/0002"}
    counts = [len(shard) for shard in shards]
    add(root, range(40, 60))
    publish(root, url)
    second = ClusterManifest.newest(root)
    newer = places[0].shard(second.signature, 0)
    assert generations(places[0].root) == [second.generation]
    assert len(newer) > counts[0]
    assert [len(shard) for shard in shards] == counts
    # Somebody is still at the commit before, and its process was lost: it comes again, beside the newer one.
    late = home_of(url, tmp_path / "a machine")
    assert len(late.shard(first.signature, 2)) == counts[1]
    assert generations(late.root) == [second.generation, first.generation]
    assert visible(late.root) > {name for name in visible(late.root) if name.startswith("shards/0000")}
    clean(url, keep=1, older_than=0)
    gone = home_of(url, tmp_path / "another machine")
    with pytest.raises(CorruptIndexError, match="is gone: newer commits have come; refresh"):
        gone.shard(first.signature, 2)
    with pytest.raises(CorruptIndexError, match="another cluster's"):
        gone.shard(f"{second.generation:020}-{'0' * 64}", 2)
    for home in (*places, late, gone):
        home.close()


def test_the_commands(root: Path, url: str, cache: Path) -> None:
    testing = pytest.importorskip("click.testing")
    from latewood.cli.commands import cli

    runner = testing.CliRunner()
    generation = ClusterManifest.newest(root).generation
    told = runner.invoke(cli, ["publish", str(root), url, "--json"])
    assert json.loads(told.output) == {"url": url, "generation": generation}
    told = runner.invoke(cli, ["pull", url, "--json"])
    pulled = json.loads(told.output)
    assert (pulled["generation"], pulled["documents"]) == (generation, 40)
    with ShardedIndex.open(pulled["path"], replicas=0) as index:
        assert same(index, root)
    told = runner.invoke(cli, ["pull", url, "--generation", "1"])
    assert told.exit_code == 1
    assert "leave out --generation" in told.output
    add(root, range(40, 41))
    publish(root, url)
    told = runner.invoke(cli, ["clean", url, "--keep", "1", "--older-than", "0", "--json"])
    assert json.loads(told.output)["removed"] > 1
    assert numbers(Store(url)) == [generation + 1]
    here_and_gone(url, root)


def test_a_line_that_fails(root: Path, bucket: str, s3: tuple[str, Faults], cache: Path) -> None:
    """Whatever a line does to requests: what is read is whole, and in the end all is there."""
    _, faults = s3
    faults.rate = 0.15
    generation = 0
    try:
        for number in range(4):
            add(root, range(40 + number, 41 + number))
            for _ in range(9):
                try:
                    generation = publish(root, bucket)
                    break
                except StorageError:
                    pass
            for _ in range(9):
                try:
                    with opened(bucket) as index:
                        assert index.generation <= generation
                        assert len(index) == 38 + index.generation
                    break
                except (StorageError, CorruptIndexError, InvalidInputError):
                    pass
    finally:
        faults.rate = 0.0
    publish(root, bucket)
    here_and_gone(bucket, root)


# ── replicas ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[Path]]]:
    """Give three nodes, each of which has a cache of its own."""
    pytest.importorskip("ray")
    caches = [tmp_path_factory.mktemp("cache") for _ in range(3)]
    with ray_nodes(0) as cluster:
        for cache in caches:
            cluster.add_node(num_cpus=4, env_vars={"LATEWOOD_CACHE": str(cache)})
        cluster.wait_for_nodes()
        yield cluster, caches


def shards_in(cache: Path) -> set[str]:
    names = set[str]()
    for folder in cache.iterdir():
        names |= {name.rpartition("/")[0] for name in visible(folder)}
    return names - {""}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_each_node_brings_the_shards_that_it_answers_for(
    nodes: tuple[Any, list[Path]], root: Path, url: str, cache: Path
) -> None:
    cluster, caches = nodes
    publish(root, url)
    with ShardedIndex.open(url, replicas=2, cpus=0.2) as index:
        assert same(index, root)
        assert shards_in(cache) == {"codec"}, "where it is asked, no shard is needed"
        for _ in range(20):
            assert same(index, root)
        held = [shards_in(one) for one in caches]
        assert sorted(shard for one in held for shard in one) == sorted(2 * [f"shards/{n:04}" for n in range(SHARDS)])
        add(root, range(40, 60))
        publish(root, url)
        assert index.refresh()
        assert same(index, root)
        # What a node has is lost with it, and comes again where the replica does.
        cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
        assert same(index, root)
        cluster.add_node(num_cpus=4, env_vars={"LATEWOOD_CACHE": str(cache.with_name("fourth"))})
        for _ in range(10):
            assert same(index, root)
        assert index.check() == []
