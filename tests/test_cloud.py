"""Commits in object storage: published whole and pulled whole, whatever the network does; also as S3 has it."""

import hashlib
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from latewood import Index
from latewood.cloud import clean
from latewood.cloud.generations import numbers
from latewood.cloud.pulling import Pulled, _remove_unused
from latewood.cloud.store import Store, is_url
from latewood.cluster import ClusterWriter, ShardedIndex, create, publish
from latewood.common.signed import signed
from latewood.errors import (
    CommitConflictError,
    CorruptIndexError,
    IndexReplacedError,
    InvalidInputError,
    StorageError,
)
from strategies import make_corpus
from support import newest_of, store_folder

pytest.importorskip("obstore")

CORPUS = make_corpus(11, dim=16, documents=60)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "index", dim=16, train_after=0)
    index.add(range(20), vectors=CORPUS.documents[:20], metadata=[{"n": n} for n in range(20)])
    return index


def same(one: Index, other: Index) -> bool:
    queries = CORPUS.queries[:3]
    return list(one.ids()) == list(other.ids()) and one.search_batch(queries, 5) == other.search_batch(queries, 5)


def test_there_and_back(index: Index, url: str, cache: Path) -> None:
    assert index.publish(url) == index.generation == index.publish(url), "twice is once"
    copy = Index.open(url)
    assert same(copy, index)
    assert copy.check() == []
    assert Path(copy.path).parent == cache
    assert not copy.refresh()
    index.add(range(20, 40), vectors=CORPUS.documents[20:40])
    index.delete([3])
    index.update_metadata([4], {"n": 44})
    assert not copy.refresh(), "a commit is seen when it is published"
    index.publish(url)
    assert copy.refresh()
    assert same(copy, index)
    assert copy.count(filter={"n": 44}) == 1
    index.compact()
    index.publish(url)
    assert copy.refresh()
    assert same(copy, index)
    names = {path.name for path in Path(copy.path).iterdir() if not path.name.startswith(".")}
    assert names == set(index._core.commit()[1]), "what no commit needs is removed"
    elsewhere = Index.open(url, cache_dir=cache.with_name("elsewhere"))
    for one in (copy, elsewhere):
        again = pickle.loads(pickle.dumps(one))
        assert same(again, index)
        assert again.path == one.path, "the cache is kept"
    with pytest.raises(InvalidInputError, match="for reading"):
        again.refresh() or again.add([99], vectors=CORPUS.documents[:1])


def test_what_is_pulled_is_for_reading(index: Index, url: str, cache: Path, tmp_path: Path) -> None:
    index.publish(url)
    copy = Index.open(url)
    for change in (
        lambda: copy.add([99], vectors=CORPUS.documents[:1]),
        lambda: copy.delete([1]),
        lambda: copy.update_metadata([1], {"n": 1}),
        copy.compact,
        copy.writer,
        lambda: copy.tune(k=1),
        # `latewood pull` names the folder.
        lambda: Index.open(copy.path).writer(),
        lambda: Index.recover(copy.path, generation=1),
        lambda: Index.create(copy.path, dim=16, overwrite=True),
    ):
        with pytest.raises(InvalidInputError, match="for reading"):
            change()
    assert same(Index.open(url), index), "what is there is followed as before"
    own = Path(shutil.copytree(copy.path, tmp_path / "own"))
    Index.open(own).delete([1])
    assert len(Index.open(own)) == 19
    assert copy.publish(url) == index.generation, "publishing what is there changes nothing"


def test_only_what_is_new_goes_up(index: Index, url: str, cache: Path, sent: list[str]) -> None:
    index.publish(url)
    sent.clear()
    before = {file.object for file in newest_of(url).files}
    index.add(range(20, 25), vectors=CORPUS.documents[20:25])
    index.publish(url)
    new = {file.object for file in newest_of(url).files} - before
    assert sorted(sent) == sorted(new)
    assert 0 < len(new) < len(newest_of(url).files)


def test_generations(index: Index, url: str, cache: Path) -> None:
    index.publish(url)
    first = index.generation
    index.add(range(20, 25), vectors=CORPUS.documents[20:25])
    index.publish(url)
    old = Index.open(url, generation=first)
    assert len(old) == 20
    assert not old.refresh()
    assert len(Index.open(url)) == 25
    assert len(old.search(CORPUS.queries[0], 30)) == 20, "what is open stays, whatever is removed beside it"
    with pytest.raises(InvalidInputError, match="no generation 99"):
        Index.open(url, generation=99)
    assert clean(url, keep=1, older_than=1e6) == 1
    assert numbers(Store(url)) == [index.generation]
    with pytest.raises(InvalidInputError):
        Index.open(url, generation=first)
    assert Index.open(url).check() == []


def test_two_histories(index: Index, url: str, tmp_path: Path, cache: Path) -> None:
    index.publish(url)
    shutil.copytree(index.path, tmp_path / "other")
    other = Index.open(tmp_path / "other")
    other.add([50], vectors=CORPUS.documents[50:51])
    other.publish(url)
    for _ in range(3):
        index.add([51 + len(index)], vectors=CORPUS.documents[51:52])
        with pytest.raises(CommitConflictError, match="another history"):
            index.publish(url)
    assert same(Index.open(url), other)
    stranger = Index.create(tmp_path / "stranger", dim=16)
    stranger.add([1], vectors=CORPUS.documents[:1])
    with pytest.raises(InvalidInputError, match="another index"):
        stranger.publish(url)


def test_of_many_publishers_one_wins(index: Index, url: str, tmp_path: Path, cache: Path) -> None:
    index.publish(url)
    copies = []
    for number in range(4):
        shutil.copytree(index.path, tmp_path / f"copy{number}")
        copy = Index.open(tmp_path / f"copy{number}")
        copy.add([100 + number], vectors=CORPUS.documents[number : number + 1])
        copies.append(copy)
    outcomes: list[object] = []

    def publish(copy: Index) -> None:
        try:
            outcomes.append(copy.publish(url))
        except CommitConflictError:
            outcomes.append(None)

    threads = [threading.Thread(target=publish, args=(copy,)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["3", "None", "None", "None"]
    found = Index.open(url)
    assert any(same(found, copy) for copy in copies)


def test_a_half_published_commit_is_not_seen(
    index: Index, url: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.publish(url)
    index.add(range(20, 25), vectors=CORPUS.documents[20:25])

    def fail(*_: Any) -> bool:
        message = "the store is gone"
        raise StorageError(message)

    with monkeypatch.context() as broken:
        broken.setattr(Store, "create", fail)
        with pytest.raises(StorageError):
            index.publish(url)
    assert len(Index.open(url)) == 20
    index.publish(url)
    assert len(Index.open(url)) == 25


def test_wrong_bytes_are_never_used(index: Index, url: str, cache: Path) -> None:
    index.publish(url)
    files = sorted((store_folder(url) / "files").iterdir())
    for file in files:
        whole = file.read_bytes()
        for damage in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-1], whole + b"x", b""):
            file.write_bytes(damage)
            shutil.rmtree(cache, ignore_errors=True)
            with pytest.raises((CorruptIndexError, StorageError)) as told:
                Index.open(url)
            assert file.name in str(told.value)
        file.unlink()
        shutil.rmtree(cache, ignore_errors=True)
        with pytest.raises(CorruptIndexError, match="not whole"):
            Index.open(url)
        file.write_bytes(whole)
    assert same(Index.open(url), index)


@pytest.mark.parametrize(
    "name", ["../evil.lwd", "/etc/passwd", "a/b.lwd", "..lwd", "x.so", "", "MANIFEST-1", "a\0.lwd", 5]
)
def test_a_description_cannot_lead_out_of_the_folder(index: Index, url: str, cache: Path, name: Any) -> None:
    index.publish(url)
    path = store_folder(url) / newest_of(url).object
    told = json.loads(path.read_text())
    told["files"][0]["name"] = name
    del told["checksum"]
    path.write_bytes(signed(told))
    with pytest.raises(CorruptIndexError, match=r"describes no generation: (ValueError: File|TypeError)"):
        Index.open(url)
    assert not list(cache.rglob("evil*"))


@pytest.mark.parametrize(
    "written",
    [b"", b"{", b"[]", b"null", b'{"format": 1}', b'{"format": 2}', b"\xff", b'{"format":1,"files":[],"generation":2}'],
)
def test_descriptions_that_are_none(index: Index, url: str, cache: Path, written: bytes) -> None:
    index.publish(url)
    (store_folder(url) / newest_of(url).object).write_bytes(written)
    with pytest.raises((CorruptIndexError, InvalidInputError)):
        Index.open(url)


def test_a_description_that_was_signed_with_spaces(index: Index, url: str, cache: Path) -> None:
    """The first ones were."""
    index.publish(url)
    path = store_folder(url) / newest_of(url).object
    told = json.loads(path.read_text())
    del told["checksum"]
    spaced = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**told, "checksum": spaced}))
    assert same(Index.open(url), index)
    path.write_text(json.dumps({**told, "generation": 7, "checksum": spaced}))
    with pytest.raises(CorruptIndexError, match="checksum"):
        Index.open(url)


def test_what_came_in_part_goes_on(index: Index, url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index.publish(url)
    largest = max(newest_of(url).files, key=lambda file: file.bytes)
    asked: list[int] = []
    parts = Store.parts

    def broken(self: Store, name: str, start: int) -> Iterator[bytes]:
        if name == largest.object:
            asked.append(start)
            yield next(iter(parts(self, name, start)))[: largest.bytes // 3]
            message = "the line is dead"
            raise StorageError(message)
        yield from parts(self, name, start)

    with monkeypatch.context() as dying:
        dying.setattr(Store, "parts", broken)
        with pytest.raises(StorageError):
            Index.open(url)
    third = largest.bytes // 3
    assert asked == [0, third, 2 * third]
    asked.clear()

    def noted(self: Store, name: str, start: int) -> Iterator[bytes]:
        asked.append(start)
        return parts(self, name, start)

    monkeypatch.setattr(Store, "parts", noted)
    assert same(Index.open(url), index)
    assert 3 * third in asked or not largest.bytes - 3 * third


def test_the_cache_has_a_bound(index: Index, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [(tmp_path / "store").as_uri() + f"/{name}" for name in "abc"]
    for one in urls:
        index.publish(one)
    held = Index.open(urls[0])
    let_go = Index.open(urls[1])
    path = let_go.path
    let_go.close()
    monkeypatch.setenv("LATEWOOD_CACHE_BYTES", "1000")
    third = Index.open(urls[2])
    assert not Path(path).exists(), "nobody used it"
    assert Path(held.path).exists(), "it is open"
    assert same(held, index)
    assert same(third, index)
    monkeypatch.setenv("LATEWOOD_CACHE_BYTES", "much")
    shutil.rmtree(cache)
    with pytest.raises(InvalidInputError, match="LATEWOOD_CACHE_BYTES"):
        Index.open(urls[0])


def test_a_cache_that_cannot_be_written_to(index: Index, url: str, tmp_path: Path) -> None:
    index.publish(url)
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with pytest.raises(StorageError, match="LATEWOOD_CACHE"):
        Index.open(url, cache_dir=blocked / "cache")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows homes in another way")
def test_a_user_without_a_home(index: Index, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that is run by a number that no user has."""
    import pwd

    def nobody(number: int) -> Any:
        raise KeyError(number)

    index.publish(url)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "LATEWOOD_CACHE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StorageError, match="set LATEWOOD_CACHE to a folder"):
        Index.open(url)


@pytest.mark.parametrize(
    "bad", ["s3://", "s3://b?secret=1", "s3://key@b", "S3://key:secret@b", "file://", "nowhere://x/y", "", 5, None]
)
def test_bad_addresses(index: Index, bad: Any, cache: Path) -> None:
    with pytest.raises(InvalidInputError) as raised:
        index.publish(bad)
    assert "secret" not in str(raised.value)
    assert not is_url(Path("s3:/b"))
    assert not is_url("news")
    assert not is_url("C://news")


def test_an_address_that_no_store_has_is_told(cache: Path) -> None:
    for address in ("S3://bucket/news", "https://host/news"):
        for opened in (Index.open, ShardedIndex.open):
            with pytest.raises(InvalidInputError, match=r"no address in object storage; they begin with s3://"):
                opened(address)


def test_nothing_is_there(url: str, cache: Path) -> None:
    with pytest.raises(InvalidInputError, match="nothing is published"):
        Index.open(url)


def test_pulls_at_the_same_time(index: Index, url: str, cache: Path) -> None:
    index.publish(url)
    code = "import sys, latewood; print(len(latewood.Index.open(sys.argv[1])))"
    pulls = [
        subprocess.Popen([sys.executable, "-c", code, url], env={**os.environ}, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [one.communicate(timeout=60)[0].strip() for one in pulls] == ["20"] * 4


def test_the_commands(index: Index, url: str, cache: Path) -> None:
    testing = pytest.importorskip("click.testing")
    from latewood.cli.commands import cli

    runner = testing.CliRunner()
    assert runner.invoke(cli, ["publish", index.path, url]).exit_code == 0
    told = runner.invoke(cli, ["pull", url, "--json"])
    assert json.loads(told.output)["documents"] == 20
    assert json.loads(runner.invoke(cli, ["info", url, "--json"]).output)["documents"] == 20
    assert runner.invoke(cli, ["check", url]).exit_code == 0
    assert runner.invoke(cli, ["pull", url + "/nothing"]).exit_code == 1
    index.add([20], vectors=CORPUS.documents[20:21])
    index.publish(url)
    told = runner.invoke(cli, ["clean", url, "--keep", "1", "--older-than", "0", "--json"])
    assert json.loads(told.output) == {"url": url, "removed": 2}
    assert json.loads(runner.invoke(cli, ["info", url, "--json"]).output)["documents"] == 21


def test_another_index_at_the_address(index: Index, url: str, tmp_path: Path, cache: Path) -> None:
    """What was pulled from there earlier is not taken for it, neither at the same generation nor at an older one."""
    index.publish(url)
    copy = Index.open(url)
    for number, commits in enumerate((3, 3, 1, 1)):
        shutil.rmtree(tmp_path / "store")
        other = Index.create(tmp_path / f"other{number}", dim=16, train_after=0)
        for commit in range(commits):
            other.add([100 + commit], vectors=CORPUS.documents[30 + number + commit : 31 + number + commit])
        other.publish(url)
        assert same(Index.open(url), other)
        with pytest.raises(IndexReplacedError):
            copy.refresh()
        assert same(copy, index), "what is open stays"


def test_a_list_that_is_late(index: Index, url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index.publish(url)
    first = index.generation
    index.add(range(20, 25), vectors=CORPUS.documents[20:25])
    index.publish(url)
    copy = Index.open(url)
    with monkeypatch.context() as late:
        late.setattr("latewood.cloud.generations.numbers", lambda _: [first])
        assert not copy.refresh()
        assert len(Index.open(url)) == 20
        assert not copy.refresh()
        assert same(copy, index)
    assert not copy.refresh()
    index.add([30], vectors=CORPUS.documents[30:31])
    index.publish(url)
    assert copy.refresh()
    assert same(copy, index)


def test_a_description_that_is_cleaned_away_meanwhile(
    index: Index, url: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.publish(url)
    lists = iter([[1], [1], numbers(Store(url))])
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr("latewood.cloud.generations.numbers", lambda _: next(lists))
        assert same(Index.open(url), index)
    monkeypatch.setattr("latewood.cloud.generations.numbers", lambda _: [1])
    with pytest.raises(StorageError, match="lists generation 1"):
        Index.open(url)


def test_a_changed_description(index: Index, url: str, cache: Path) -> None:
    index.publish(url)
    path = store_folder(url) / newest_of(url).object
    told = json.loads(path.read_text())
    told["lineage"][0] = told["lineage"][0][::-1]
    path.write_text(json.dumps(told))
    with pytest.raises(CorruptIndexError, match="checksum"):
        Index.open(url)


def test_publishing_again_repairs(index: Index, url: str, cache: Path) -> None:
    index.publish(url)
    for file in (store_folder(url) / "files").iterdir():
        for damage in (file.unlink, lambda file=file: file.write_bytes(b"half")):
            damage()
            assert index.publish(url) == index.generation
            shutil.rmtree(cache, ignore_errors=True)
            assert same(Index.open(url), index)


def test_a_store_that_has_damaged_a_file_is_repaired(index: Index, url: str, cache: Path) -> None:
    testing = pytest.importorskip("click.testing")
    from latewood.cli.commands import cli

    index.publish(url)
    index.add([20], vectors=CORPUS.documents[20:21])
    index.publish(url)
    commands: list[Callable[[], object]] = [
        lambda: index.publish(url, repair=True),
        lambda: testing.CliRunner().invoke(cli, ["publish", index.path, url, "--repair"]).exit_code,
    ]
    for file in sorted((store_folder(url) / "files").iterdir()):
        if file.stem not in {one.sha256 for one in newest_of(url).files}:
            continue
        for repair in commands:
            whole = bytearray(file.read_bytes())
            whole[-1] ^= 1
            file.write_bytes(whole)
            shutil.rmtree(cache, ignore_errors=True)
            with pytest.raises(CorruptIndexError, match="repair"):
                Index.open(url)
            repair()
            assert same(Index.open(url), index)
    largest = max(Path(index.path).glob("*.lwd"), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptIndexError, match="not the file that was published"):
        Index.open(index.path).publish(url, repair=True)
    assert same(Index.open(url, cache_dir=cache.with_name("another")), Index.open(url)), "nothing damaged went up"


def test_what_somebody_else_has_beside_it_stays(index: Index, url: str, cache: Path) -> None:
    theirs = [store_folder(url) / name for name in ("files/mine.txt", "generations/mine.txt", "files/more/x", "x")]
    for file in theirs:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("precious")
        os.utime(file, (1, 1))
    assert clean(url, keep=1, older_than=0) == 0
    index.publish(url)
    index.add([20], vectors=CORPUS.documents[20:21])
    index.publish(url)
    assert clean(url, keep=1, older_than=0) == 2
    assert all(file.read_text() == "precious" for file in theirs)
    assert same(Index.open(url), index)


def test_what_another_pull_is_removing_is_not_missing(
    index: Index, url: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.publish(url)
    create(cluster := Path(index.path).with_name("cluster"), shards=2, sample=CORPUS.documents, dim=16)
    with ClusterWriter(cluster) as writer:
        writer.add(range(20), vectors=CORPUS.documents[:20])
    publish(cluster, f"{url}-cluster")
    real, hidden = Pulled._locked, list[Path]()

    @contextmanager
    def ended(pulled: Pulled) -> Iterator[None]:
        with real(pulled):
            while hidden:
                hidden[-1].with_suffix(".away").rename(hidden.pop())
            yield

    one, several = Index.open(url), ShardedIndex.open(f"{url}-cluster", replicas=0)
    for copy, folder in ((one, Path(one.path)), (several, Path(several.path, "shards/0001"))):
        manifest, file = next(folder.glob("MANIFEST-*")), next(folder.glob("*.lwd"))
        with monkeypatch.context() as other:
            other.setattr(Pulled, "_locked", ended)
            for path in (manifest, file):
                path.rename(path.with_suffix(".away"))
                hidden.append(path)
                assert copy.check() == []
        file.rename(file.with_suffix(".away"))
        assert len(copy.check()) == 1, "nobody is pulling"


def test_a_file_in_the_cache_that_was_changed(index: Index, url: str, cache: Path) -> None:
    """It is fetched again when opening finds that it is damaged, which `mmap=False` does for all of it."""
    index.publish(url)
    with Index.open(url) as copy:
        folder = Path(copy.path)
    for name in (file.name for file in newest_of(url).files):
        whole = (folder / name).read_bytes()
        for place in (9, len(whole) // 2):
            damaged = bytearray(whole)
            damaged[place] ^= 1
            # A reader's mapping stays as it is: the file is replaced, not written to.
            (folder / "damaged").write_bytes(damaged)
            (folder / "damaged").rename(folder / name)
            assert same(Index.open(url, mmap=False), index)
            assert (folder / name).read_bytes() == whole
        (folder / name).unlink()
        assert same(Index.open(url), index)


def test_a_cache_that_is_named_relatively_or_removed(
    index: Index, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.publish(url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATEWOOD_CACHE_BYTES", "")
    monkeypatch.setenv("LATEWOOD_CACHE", "relative")
    copies = [Index.open(url), Index.open(url, cache_dir="given")]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    index.add([20], vectors=CORPUS.documents[20:21])
    index.publish(url)
    for copy in copies:
        assert copy.refresh()
        assert same(pickle.loads(pickle.dumps(copy)), index)
    assert not list((tmp_path / "elsewhere").iterdir())
    shutil.rmtree(tmp_path / "relative")
    assert same(copies[0], index), "what is open stays"
    with pytest.raises(StorageError, match="open the index again"):
        copies[0].refresh()
    monkeypatch.chdir(tmp_path)
    assert same(Index.open(url), index)


def test_an_index_is_not_made_at_an_address(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    makers: list[Callable[[], object]] = [
        lambda: Index.create(url, dim=4),
        lambda: Index.recover(url),
        lambda: Index.create("s3://b/x", dim=4),
        # No store has these, and no folder is meant by them.
        lambda: Index.create("S3://b/x", dim=4),
        lambda: Index.create("https://host/x", dim=4),
    ]
    for make in makers:
        with pytest.raises(InvalidInputError, match="publish"):
            make()
    assert not list(tmp_path.iterdir())


def test_an_older_commit_is_not_published_over_a_newer_one(index: Index, url: str, cache: Path) -> None:
    older = index.generation
    index.add([20], vectors=CORPUS.documents[20:21])
    index.publish(url)
    with pytest.raises(CommitConflictError, match=f"has generation {index.generation}, and this is {older}"):
        Index.open(index.path, generation=older).publish(url)


@pytest.mark.parametrize("when", ["generations", "files"])
def test_a_commit_whose_files_are_gone_is_not_published(
    index: Index, url: str, cache: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Nobody is kept from writing while an older commit is published: it may be gone at first, or half way up."""
    older, names = Index.open(index.path, generation=index.generation), Store.names

    def look(store: Store, folder: str) -> Any:
        if folder == when:
            index.add([20], vectors=CORPUS.documents[20:21])
            index.compact()
        return names(store, folder)

    monkeypatch.setattr(Store, "names", look)
    with pytest.raises(StorageError, match=r"cannot be read.*publish that"):
        older.publish(url)
    monkeypatch.undo()
    assert numbers(Store(url)) == []


def test_what_an_interrupted_upload_left(
    index: Index, url: str, cache: Path, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken while it is young; what `clean` may be about to remove goes up again."""
    create = Store.create
    monkeypatch.setattr(Store, "create", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        index.publish(url)
    monkeypatch.setattr(Store, "create", create)
    sent.clear()
    left = sorted((store_folder(url) / "files").iterdir())
    assert len(left) > 2
    old = left[0].stat().st_mtime - 100_000
    for file in left[1:]:
        os.utime(file, (old, old))
    os.utime(left[0])
    index.publish(url)
    manifest = newest_of(url).files[-1].object
    assert sorted(sent) == sorted({manifest, *(f"files/{file.name}" for file in left[1:])})
    assert clean(url) == 0
    assert same(Index.open(url), index)


def test_a_content_that_a_publisher_may_need_stays(index: Index, url: str, cache: Path) -> None:
    index.publish(url)
    files = store_folder(url) / "files"
    old, young = files / ("a" * 64), files / ("b" * 64)
    now = max(file.stat().st_mtime for file in files.iterdir())
    for file, age in ((old, 90_000), (young, 80_000)):
        file.write_bytes(b"nobody's")
        os.utime(file, (now - age, now - age))
    assert clean(url) == 1
    assert not old.exists()
    assert young.exists()
    assert Index.open(url).check() == []


def test_a_folder_of_the_cache_that_is_removed_while_somebody_waits_for_it(
    index: Index, url: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    index.publish(url)
    first = Index.open(url)
    folder = Path(first.path)
    first.close()
    flock = fcntl.flock
    removed: list[bool] = []

    def meanwhile(lease: Any, how: int) -> None:
        if how == fcntl.LOCK_SH and not removed:
            removed.append(_remove_unused(folder))
        flock(lease, how)

    monkeypatch.setattr(fcntl, "flock", meanwhile)
    second = Index.open(url)
    assert removed == [True]
    assert same(second, index)
    assert not _remove_unused(Path(second.path))


def test_a_process_that_was_forked(index: Index, url: str, cache: Path) -> None:
    index.publish(url)
    code = """
import os, sys, latewood
index = latewood.Index.open(sys.argv[1])
child = os.fork()
if child == 0:
    assert len(index) == 20
    for call in (index.refresh, lambda: latewood.Index.open(sys.argv[1])):
        try:
            call()
        except latewood.errors.StorageError as error:
            assert "fork" in str(error)
        else:
            os._exit(1)
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1] or index.refresh())
"""
    done = subprocess.run([sys.executable, "-c", code, url], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"])
def test_a_pull_that_is_killed_or_finds_no_room(index: Index, url: str, cache: Path, end: str) -> None:
    """What came is kept, nothing of it is used, and the next one goes on from there."""
    pytest.importorskip("resource")
    index.publish(url)
    code = f"""
import os, resource, sys, latewood
from latewood.cloud.store import Store
parts = Store.parts

def broken(self, name, start):
    whole = b"".join(parts(self, name, start))
    yield whole[:2000]
    if len(whole) > 8000:
        {end}
    yield whole[2000:]

Store.parts = broken
try:
    latewood.Index.open(sys.argv[1])
except latewood.errors.StorageError as error:
    sys.exit(0 if "cannot be written to" in str(error) else 1)
"""
    done = subprocess.run([sys.executable, "-c", code, url], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == (-9 if "kill" in end else 0), done.stderr
    assert list(cache.rglob(".*.part"))
    assert same(Index.open(url), index)
    assert not list(cache.rglob(".*.part"))


def test_many_processes_in_a_cache_that_is_too_small(
    index: Index, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [(tmp_path / "store").as_uri() + f"/{name}" for name in "abc"]
    for one in urls:
        index.publish(one)
    monkeypatch.setenv("LATEWOOD_CACHE_BYTES", "1")
    code = """
import random, sys, latewood
choices = random.Random(sys.argv[1])
for _ in range(40):
    index = latewood.Index.open(choices.choice(sys.argv[2:]))
    assert len(index) == 20 and index.check() == []
    if choices.random() < 0.5:
        index.refresh()
    index.close()
"""
    users = [
        subprocess.Popen([sys.executable, "-c", code, str(seed), *urls], stderr=subprocess.PIPE, text=True)
        for seed in range(4)
    ]
    told = [one.communicate(timeout=120)[1] for one in users]
    assert [one.returncode for one in users] == [0] * 4, told


# ── a server that speaks as S3 does, behind a line that fails ────────────────────────────────────────────────────────


def test_the_server_puts_where_nothing_is(bucket: str) -> None:
    store = Store(bucket)
    assert store.create("one", b"first")
    assert not store.create("one", b"second")
    assert store.read("one", 100) == b"first"
    assert store.read("two", 100) is None
    store.delete(["one", "two"])
    assert store.read("one", 100) is None


def test_s3_there_and_back(index: Index, bucket: str, cache: Path) -> None:
    index.publish(bucket)
    copy = Index.open(bucket)
    assert same(copy, index)
    index.add(range(20, 40), vectors=CORPUS.documents[20:40])
    index.publish(bucket)
    assert copy.refresh()
    assert same(copy, index)
    assert clean(bucket, keep=1, older_than=0) >= 2
    shutil.rmtree(cache)
    assert same(Index.open(bucket), index)


def test_no_secret_is_told(index: Index, bucket: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("latewood.cloud.store.RETRIES", 0)
    with pytest.raises(StorageError) as told:
        index.publish(bucket)
    assert "very-secret" not in str(told.value)
    assert bucket in str(told.value)
    assert "\n" not in str(told.value)


def test_what_s3_says_and_that_there_are_no_keys(
    index: Index, bucket: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for call in (index.publish, Index.open, clean):
        with pytest.raises(StorageError, match="NoSuchBucket"):
            call("s3://nobody-has-it/news")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("latewood.cloud.store.METADATA", "127.0.0.1:9")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="no keys are in the environment"):
        Index.open(bucket)


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give a server that takes requests and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_ENDPOINT_URL", "localhost:9000"), ("AWS_ACCESS_KEY_ID", "key\n"), ("AWS_REGION", "mars\n")],
)
def test_settings_that_are_none(monkeypatch: pytest.MonkeyPatch, cache: Path, name: str, value: str) -> None:
    usual = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_ENDPOINT_URL": "http://localhost:1",
    }
    for setting, given in {**usual, name: value}.items():
        monkeypatch.setenv(setting, given)
    with pytest.raises(StorageError, match=r"keys, region or endpoint are none .* begins with http://"):
        Index.open("s3://bucket/news")


@pytest.mark.parametrize("work", ["latewood.Index.open('s3://bucket/news')", "index.publish('s3://bucket/news')"])
def test_ctrl_c_is_heard_while_a_store_is_silent(
    index: Index, bucket: str, silence: None, cache: Path, work: str
) -> None:
    code = f"""
import os, signal, sys, threading, time, latewood
# A shell that puts the tests into the background has them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
index = latewood.Index.open(sys.argv[1])
begun = time.monotonic()
threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    {work}
except KeyboardInterrupt:
    sys.exit(time.monotonic() - begun > 3)
sys.exit(2)
"""
    done = subprocess.run([sys.executable, "-c", code, index.path], check=False, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_an_upload_that_is_interrupted_leaves_nothing(bucket: str, url: str) -> None:
    for address in (bucket, url):
        store = Store(address)

        def parts() -> Iterator[bytes]:
            yield bytes(6 << 20)
            yield bytes(6 << 20)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.upload("files/one", parts(), 20 << 20)
        assert store.names("files") == {}


def test_large_objects_go_in_parts(bucket: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bytes(range(256)) * (80 << 10)
    for address in (bucket, url):
        store = Store(address)
        store.upload("files/large", iter([whole[:5], whole[5 : 9 << 20], whole[9 << 20 :]]), len(whole))
        assert b"".join(store.parts("files/large", 0)) == whole
        assert b"".join(store.parts("files/large", 7 << 20)) == whole[7 << 20 :]
