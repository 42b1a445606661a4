"""Clusters that are built of a collection: from every form of source, by Ray and without, and after being cut off."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from latewood import Index, to_ragged
from latewood.cluster import ClusterManifest, ClusterWriter, ShardedIndex, build, create
from latewood.cluster import building as steps
from latewood.cluster.creating import train
from latewood.cluster.order import ORDER, order_of, without_order
from latewood.cluster.sessions import Session
from latewood.encode.nano import has_nano
from latewood.errors import (
    DuplicateIdError,
    EncoderMismatchError,
    IndexExistsError,
    IndexLockedError,
    InvalidInputError,
    LatewoodError,
    StorageError,
)
from support import HashEncoder

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

WORDS = ["river", "stone", "bank", "tree", "cloud", "paper", "ink", "letter"]
DIM = 16


def texts(count: int) -> list[str]:
    generator = np.random.default_rng(3)
    return [" ".join(generator.choice(WORDS, size=5)) for _ in range(count)]


def held(path: Path) -> list[tuple[int, Any, str | None, Any]]:
    """All documents of a cluster, in its order."""
    found = []
    for shard in ClusterManifest.newest(path).shards:
        with shard.open(path) as index:
            for document in index.documents(index.ids()):
                order = order_of(document.metadata)
                found.append((order, document.id, document.text, without_order(document.metadata)))
    return sorted(found, key=lambda document: document[0])


def codes(path: Path) -> dict[Any, NDArray[np.float32]]:
    """The vectors that a cluster's codes stand for."""
    found = {}
    for shard in ClusterManifest.newest(path).shards:
        with shard.open(path) as index:
            for key in np.asarray(index.ids()).tolist():
                found[key] = index.vectors([key]).values
    return found


def test_every_form_of_source_makes_the_same_cluster(tmp_path: Path) -> None:
    given = texts(700)
    documents = [{"id": f"d{row}", "text": text, "n": row} for row, text in enumerate(given)]
    table = pyarrow.Table.from_pylist(documents)
    (tmp_path / "folder").mkdir()
    parquet.write_table(table, tmp_path / "one.parquet")
    parquet.write_table(table.slice(0, 300), tmp_path / "folder/a.parquet")
    parquet.write_table(table.slice(300), tmp_path / "folder/b.parquet")
    sources: dict[str, Any] = {
        "path": tmp_path / "one.parquet",
        "text": os.fspath(tmp_path / "folder"),
        "paths": [tmp_path / "folder/a.parquet", tmp_path / "folder/b.parquet"],
        "list": documents,
        "generator": (document for document in documents),
    }
    expected = [(row, f"d{row}", text, {"n": row}) for row, text in enumerate(given)]
    first: dict[Any, Any] = {}
    for name, source in sources.items():
        manifest = build(source, tmp_path / name, shards=3, encoder=HashEncoder(DIM), workers=0)
        assert (manifest.generation, manifest.next_order, manifest.id_kind) == (1, 700, "str")
        assert held(tmp_path / name) == expected
        made = codes(tmp_path / name)
        first = first or made
        assert all(np.array_equal(made[key], first[key]) for key in first)
        assert sorted(file.name for file in (tmp_path / name).iterdir()) == [
            "cluster-0000000001.json",
            "codec",
            "shards",
        ]


def test_texts_alone_and_vectors_alone_get_the_numbers_of_their_rows_as_ids(tmp_path: Path) -> None:
    build(iter(texts(30)), tmp_path / "t", shards=2, encoder=HashEncoder(DIM), workers=0)
    assert [(order, key, text) for order, key, text, _ in held(tmp_path / "t")] == [
        (row, row, text) for row, text in enumerate(texts(30))
    ]
    vectors = [np.random.default_rng(row).standard_normal((1 + row % 4, DIM)).astype(np.float32) for row in range(300)]
    build(iter(vectors), tmp_path / "v", shards=2, dim=DIM, workers=0, keep_vectors="float16")
    made = codes(tmp_path / "v")
    assert len(made) == 300
    assert all(np.array_equal(made[row], vectors[row].astype(np.float16)) for row in range(300))
    with ClusterWriter(tmp_path / "v") as writer:
        writer.add([300], vectors=vectors[:1])
    assert [order for order, *_ in held(tmp_path / "v")] == list(range(301))


def test_a_build_that_was_cut_off_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, read, filled, trained = texts(200), [], list[str](), []
    arguments: dict[str, Any] = {"shards": 4, "encoder": HashEncoder(DIM), "workers": 0}

    def source() -> Iterator[str]:
        read.append(True)
        yield from given

    fill, learn = steps.build_shard, train

    def cut_off(*job: Any) -> None:
        if len(filled) == 2:
            raise KeyboardInterrupt
        filled.append(job[2])
        fill(*job)

    def counted(*job: Any, **options: Any) -> None:
        trained.append(True)
        learn(*job, **options)

    monkeypatch.setattr(steps, "train", counted)
    with monkeypatch.context() as cut:
        cut.setattr(steps, "build_shard", cut_off)
        with pytest.raises(KeyboardInterrupt):
            build(source(), tmp_path / "c", **arguments)
    assert not list((tmp_path / "c").glob("cluster-*"))
    with pytest.raises(InvalidInputError, match="other settings"):
        build(source(), tmp_path / "c", **{**arguments, "shards": 5})

    def noted(*job: Any) -> None:
        filled.append(job[2])
        fill(*job)

    monkeypatch.setattr(steps, "build_shard", noted)
    with pytest.raises(EncoderMismatchError):
        build(source(), tmp_path / "c", **{**arguments, "encoder": HashEncoder(DIM, name="another")})
    build(source(), tmp_path / "c", **arguments)
    assert filled == [f"shards/{place:04}" for place in range(4)]
    assert (len(read), len(trained)) == (1, 1)
    build(given, tmp_path / "whole", **arguments)
    assert held(tmp_path / "c") == held(tmp_path / "whole")
    with pytest.raises(IndexExistsError):
        build(given, tmp_path / "c", **arguments)


def test_what_a_creation_left_that_was_cut_off_goes_into_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: Any) -> None:
        raise KeyboardInterrupt

    made: dict[str, Any] = {"shards": 2, "encoder": HashEncoder(DIM)}
    for path in (tmp_path / "a", tmp_path / "b"):
        with monkeypatch.context() as cut:
            cut.setattr("latewood.cluster.creating.shard_of", cut_off)
            with pytest.raises(KeyboardInterrupt):
                create(path, sample_texts=["one", "text"], **made)
    create(tmp_path / "a", sample_texts=texts(30), **made)
    build(texts(30), tmp_path / "b", workers=0, **made)
    build(texts(30), tmp_path / "c", workers=0, **made)
    assert held(tmp_path / "a") == []
    one, other = codes(tmp_path / "b"), codes(tmp_path / "c")
    assert all(np.array_equal(one[key], other[key]) for key in range(30))


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ([{"id": 1, "text": "a"}, {"id": 1, "text": "b"}], DuplicateIdError, "twice"),
        ([{"id": None, "text": "a"}], InvalidInputError, "NoneType"),
        ([{"id": 1, "text": "a", ORDER: 3}], InvalidInputError, "keeps for itself"),
        ([{"id": 1, "body": "a"}], InvalidInputError, "column text"),
        ([], InvalidInputError, "no document"),
        (5, InvalidInputError, "int"),
        ("no/such/place", InvalidInputError, "no Parquet file"),
    ],
)
def test_a_bad_source_leaves_nothing_that_the_next_build_would_take_up(
    tmp_path: Path, source: Any, error: type[Exception], words: str
) -> None:
    arguments: dict[str, Any] = {"shards": 2, "encoder": HashEncoder(DIM), "workers": 0}
    with pytest.raises(error, match=words):
        build(source, tmp_path / "c", **arguments)
    build(texts(20), tmp_path / "c", **arguments)
    assert [text for _, _, text, _ in held(tmp_path / "c")] == texts(20)


def test_builders_hand_on_and_commit_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(texts(900), tmp_path / "once", shards=2, encoder=HashEncoder(DIM), workers=0)
    monkeypatch.setattr(steps, "ADDED_DOCUMENTS", 50)
    monkeypatch.setattr(steps, "COMMITTED_DOCUMENTS", 100)
    manifest = build(texts(900), tmp_path / "often", shards=2, encoder=HashEncoder(DIM), workers=0)
    assert all(shard.generation > 3 for shard in manifest.shards)
    assert held(tmp_path / "often") == held(tmp_path / "once")
    one, other = codes(tmp_path / "often"), codes(tmp_path / "once")
    assert all(np.array_equal(one[key], other[key]) for key in other)


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": None},
        {"path": 5},
        *({"shards": value} for value in (0, -1, True, 2.5, "3", None, 2**16 + 1)),
        *({"sample": value} for value in (0, 1.5, None)),
        *({"workers": value} for value in (-1, "2", False)),
        {"show_progress": "yes"},
        {"bits": 3},
        {"encoder": 7},
    ],
)
def test_a_bad_argument_is_refused_before_the_source_is_read(tmp_path: Path, wrong: dict[str, Any]) -> None:
    def source() -> Iterator[str]:
        read.append(True)
        yield "a text"

    read: list[bool] = []
    arguments = {"path": tmp_path / "c", "shards": 2, "encoder": HashEncoder(DIM), "workers": 0}
    with pytest.raises(LatewoodError):
        build(source(), **{**arguments, **wrong})
    assert not read


def cut_off_build(path: Path, source: Any, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> None:
    """Begin a build, and interrupt it before its shards are made."""

    def cut_off(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(steps, "build_shard", cut_off)
        with pytest.raises(KeyboardInterrupt):
            build(source, path, **arguments)


def test_a_build_does_not_go_on_with_another_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"shards": 2, "encoder": HashEncoder(DIM), "workers": 0}
    given = texts(300)
    cut_off_build(tmp_path / "list", given, monkeypatch, **arguments)
    with pytest.raises(InvalidInputError, match="another source"):
        build([*given[:-1], "river river river river river"], tmp_path / "list", **arguments)
    with pytest.raises(InvalidInputError, match="no Parquet file"):
        build(tmp_path / "nothing", tmp_path / "list", **arguments)
    build(given, tmp_path / "list", **arguments)
    assert [text for _, _, text, _ in held(tmp_path / "list")] == given
    file = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": given}), file)
    cut_off_build(tmp_path / "file", file, monkeypatch, **arguments)
    os.utime(file, ns=(1, 1))
    with pytest.raises(InvalidInputError, match=r"files was .* and is"):
        build(file, tmp_path / "file", **arguments)


def test_one_builds_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"shards": 2, "encoder": HashEncoder(DIM)}
    fill = steps.build_shard

    def meanwhile(*job: Any) -> None:
        others: list[Callable[..., Any]] = [
            partial(build, texts(9), workers=0),
            partial(create, sample_texts=texts(9)),
        ]
        for other in others:
            with pytest.raises(IndexLockedError, match="somebody else"):
                other(path=tmp_path / "c", **arguments)
        fill(*job)

    monkeypatch.setattr(steps, "build_shard", meanwhile)
    build(texts(20), tmp_path / "c", workers=0, **arguments)
    assert len(held(tmp_path / "c")) == 20
    monkeypatch.undo()
    cut_off_build(tmp_path / "d", texts(20), monkeypatch, workers=0, **arguments)
    with pytest.raises(InvalidInputError, match="finish it"):
        create(tmp_path / "d", sample_texts=texts(9), **arguments)
    build(texts(20), tmp_path / "d", workers=0, **arguments)
    assert len(held(tmp_path / "d")) == 20


@pytest.mark.parametrize(
    "name", ["shards/0000.parquet", "codec/mine.txt", "building/rows/mine.txt", "shards/0/MANIFEST"]
)
def test_what_somebody_else_has_in_the_folder_stays(tmp_path: Path, name: str) -> None:
    arguments: dict[str, Any] = {"shards": 2, "encoder": HashEncoder(DIM)}
    (tmp_path / name).parent.mkdir(parents=True)
    parquet.write_table(pyarrow.table({"text": texts(9)}), tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    makers: tuple[Callable[..., Any], ...] = (
        partial(build, (tmp_path / name).parent, workers=0),
        partial(create, sample_texts=texts(9)),
    )
    for make in makers:
        with pytest.raises(InvalidInputError, match="no part of a cluster"):
            make(path=tmp_path, **arguments)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_cluster_does_not_go_into_an_index(tmp_path: Path) -> None:
    Index.create(tmp_path, dim=DIM)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(IndexExistsError, match="there is an index"):
        build(texts(9), tmp_path, shards=2, encoder=HashEncoder(DIM), workers=0)
    with pytest.raises(IndexExistsError, match="there is an index"):
        create(tmp_path, shards=2, sample_texts=texts(9), encoder=HashEncoder(DIM))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(not has_nano(), reason="the model latewood/nano-en is not in this source tree yet")
def test_texts_need_no_encoder_to_be_named(tmp_path: Path) -> None:
    build(["a river", "a stone", "a bank"], tmp_path / "c", shards=2, workers=0)
    with ShardedIndex.open(tmp_path / "c", replicas=0) as index:
        assert index.search("rivers", 1)[0].text == "a river"


def test_tables_of_any_library_and_a_home_are_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    arguments: dict[str, Any] = {"shards": 2, "encoder": HashEncoder(DIM), "workers": 0}
    columns = {"id": [f"d{row}" for row in range(20)], "text": texts(20), "n": list(range(20))}
    expected = [(row, f"d{row}", text, {"n": row}) for row, text in enumerate(texts(20))]
    table = pyarrow.table(columns)
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    parquet.write_table(table, tmp_path / "rows.parquet")
    sources = [pandas.DataFrame(columns), table, table.to_pylist(), "~/rows.parquet", [Path("~/rows.parquet")]]
    for number, source in enumerate(sources):
        build(source, tmp_path / f"c{number}", **arguments)
        assert held(tmp_path / f"c{number}") == expected


def test_documents_keep_all_that_they_have(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"shards": 1, "dim": DIM, "workers": 0}
    vectors = [np.full((2, DIM), row % 7 + 1, np.float32) for row in range(300)]
    fields = [
        {"year": row, "metadata": {"lang": "en"} if row % 2 else '{"lang": "en"}', "no": None} for row in range(300)
    ]
    # The first ones have no texts.
    documents = [
        {"id": row, "vectors": vectors[row], "text": f"text {row}" if row >= 280 else None, **fields[row]}
        for row in range(300)
    ]
    expected = [(row, row, f"text {row}" if row >= 280 else None, {"year": row, "lang": "en"}) for row in range(300)]
    build(documents, tmp_path / "list", **arguments)
    assert held(tmp_path / "list") == expected
    column = to_ragged(vectors).to_arrow()
    (tmp_path / "files").mkdir()
    for name, rows in (("a", slice(0, 280)), ("b", slice(280, 300))):
        table = pyarrow.table(
            {"vectors": column[rows], "year": range(300)[rows], "lang": ["en"] * len(range(300)[rows])}
        )
        if name == "b":
            table = table.append_column("text", pyarrow.array([f"text {row}" for row in range(280, 300)]))
        parquet.write_table(table, tmp_path / f"files/{name}.parquet")
    build(tmp_path / "files", tmp_path / "parquet", **arguments)
    assert held(tmp_path / "parquet") == expected


VECTORS = np.ones((2, DIM), np.float32)


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ([], InvalidInputError, "no document"),
        (iter(()), InvalidInputError, "no document"),
        (["", " "], InvalidInputError, "no token"),
        (["a", None], InvalidInputError, "document 1 has no column text and no vectors"),
        ([{"id": 2**63, "text": "a"}], InvalidInputError, "at most"),
        ([{"id": 1, "text": "a"}, {"id": "b", "text": "a"}], InvalidInputError, "mixes"),
        ([{"id": "x", "text": "a"}, {"text": "a"}], InvalidInputError, "mixes"),
        ([{"id": 1, "text": b"a"}], InvalidInputError, "bytes, not a str"),
        ([{"id": 1, "text": 5}], InvalidInputError, "int, not a str"),
        ([{"id": 1, "text": "\ud800"}], InvalidInputError, "surrogates"),
        ([{"id": 1, "text": "a", "metadata": [1]}], InvalidInputError, "document 1: the column 'metadata'"),
        (({"id": row if row < 300 else "x", "text": "a"} for row in range(400)), InvalidInputError, "mixes"),
        (
            ({"id": row if row < 256 else f"{row}", "text": "a"} for row in range(400)),
            InvalidInputError,
            "one kind of ids",
        ),
        (
            ({"text": "a", "vectors": VECTORS if row < 256 else None} for row in range(400)),
            InvalidInputError,
            "number 256 on have",
        ),
    ],
    ids=str,
)
def test_a_source_that_is_none_is_told_and_leaves_nothing(
    tmp_path: Path, source: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        build(source, tmp_path / "c", shards=2, encoder=Words(DIM), workers=0)
    assert not list((tmp_path / "c").iterdir())


def test_a_table_that_cannot_be_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    not_utf8 = pyarrow.Array.from_buffers(pyarrow.string(), 1, pyarrow.array([b"\xff"]).buffers())
    cases = [
        (pyarrow.table([["a"], ["b"]], names=["text", "text"]), "several columns are called 'text'"),
        (pyarrow.table([["a"], [1], [2]], names=["text", "year", "year"]), "several columns are called 'year'"),
        (pyarrow.table({"text": not_utf8}), r"parquet: cannot be read \('utf-8' codec"),
        (pandas.DataFrame({"id": [1, "a"], "text": ["a", "b"]}), r"the DataFrame cannot be written .*column id"),
    ]
    for source, words in cases:
        with pytest.raises(InvalidInputError, match=words):
            build(source, tmp_path / "c", shards=2, encoder=HashEncoder(DIM), workers=0)
        assert not list((tmp_path / "c").iterdir())


def test_numbers_of_numpy_are_arguments_too(tmp_path: Path) -> None:
    numbers: dict[str, Any] = {"shards": 2, "sample": 50, "bits": 4, "centroids": 16, "seed": 7}
    build(texts(60), tmp_path / "c", encoder=HashEncoder(DIM), workers=0, **numbers)
    given: dict[str, Any] = {name: np.int64(value) for name, value in numbers.items()}
    build(texts(60), tmp_path / "n", encoder=HashEncoder(DIM), workers=0, **given)
    assert held(tmp_path / "n") == held(tmp_path / "c")


class Words(HashEncoder):
    """Takes texts without a word, as encoders do."""

    def _encode(self, texts: Any) -> list[NDArray[np.float32]]:
        return [np.reshape([self._word(word) for word in text.split()], (-1, self.dim)) for text in texts]


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"shards": 2, "encoder": HashEncoder(DIM), "workers": 0}
    file = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": texts(2000)}), file)
    whole = file.read_bytes()
    for damaged in (b"", b"id,text", whole[:-100], whole[:10] + b"\xff" * 20 + whole[30:]):
        file.write_bytes(damaged)
        with pytest.raises((InvalidInputError, StorageError), match=r"rows\.parquet: cannot be read"):
            build(file, tmp_path / "c", **arguments)
    parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), file)
    with pytest.raises(InvalidInputError):
        build(file, tmp_path / "c", **arguments)
    (tmp_path / "two").mkdir()
    parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "two/a.parquet")
    parquet.write_table(pyarrow.table({"vectors": to_ragged([VECTORS]).to_arrow()}), tmp_path / "two/b.parquet")
    with pytest.raises(InvalidInputError, match=r"b\.parquet: vectors, unlike the files before"):
        build(tmp_path / "two", tmp_path / "d", **arguments)


def test_a_build_that_finds_no_room_says_so_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"shards": 2, "encoder": HashEncoder(DIM), "workers": 0}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as small:
        small.setattr(Path, "rename", full)
        with pytest.raises(StorageError, match="No space left"):
            build(texts(20), tmp_path / "c", **arguments)
    build(texts(20), tmp_path / "c", **arguments)
    assert len(held(tmp_path / "c")) == 20


# ── Ray ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Deadly(HashEncoder):
    """Ends the worker that encodes one text, as often as there are files of a folder to be taken away."""

    def __init__(self, folder: str) -> None:
        super().__init__(DIM)
        self.folder = folder
        self.at_home = os.getpid()

    def encode_document(self, inputs: list[str], /) -> list[NDArray[np.float32]]:
        if os.getpid() != self.at_home and any("fatal" in text for text in inputs):
            for file in Path(self.folder).iterdir():
                file.unlink()
                os._exit(1)
        return super().encode_document(inputs)


class Lost(steps._Builder):
    """Ends its process whenever it is to build."""

    def build(self, root: Path, files: list[Path], folder: str, first: int, last: int, encoder: Any) -> None:
        os._exit(1)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        # What somebody else has begun on this machine is left alone.
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        with closing(Session("tests")) as session:
            yield session.ray


@pytest.mark.filterwarnings("ignore")
def test_a_lost_worker_costs_its_shard_alone_and_ray_hears_no_text(ray: Any, tmp_path: Path) -> None:
    documents = [{"id": f"secret{row}", "text": text} for row, text in enumerate(texts(300))]
    build(documents, tmp_path / "here", shards=3, encoder=HashEncoder(DIM), workers=0, sample=100)
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    (deaths / "one").touch()
    # Workers do not have the folder of the tests on their path.
    for module in (__name__, "support"):
        ray.cloudpickle.register_pickle_by_value(__import__(module))
    documents[5]["text"] = "fatal"
    manifest = build(documents, tmp_path / "ray", shards=3, encoder=Deadly(os.fspath(deaths)), workers=2)
    assert not list(deaths.iterdir())
    assert manifest.next_order == 300
    assert [key for _, key, _, _ in held(tmp_path / "ray")] == [key for _, key, _, _ in held(tmp_path / "here")]
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    written = b"".join(file.read_bytes() for file in logs.rglob("*") if file.is_file())
    assert written
    assert b"secret" not in written
    assert texts(1)[0].encode() not in written


@pytest.mark.filterwarnings("ignore")
def test_a_dataset_of_ray_is_a_source(ray: Any, tmp_path: Path) -> None:
    data = pytest.importorskip("ray.data")
    dataset = data.from_items([{"id": row, "text": text, "n": row} for row, text in enumerate(texts(60))])
    build(dataset, tmp_path / "c", shards=2, encoder=HashEncoder(DIM), workers=0)
    for kind, lengths in (("even", [2] * 20), ("ragged", [1 + row % 3 for row in range(20)])):
        vectors = [np.full((length, DIM), row + 1, np.float32) for row, length in enumerate(lengths)]
        dataset = data.from_items([{"id": row, "vectors": vector} for row, vector in enumerate(vectors)])
        build(dataset, tmp_path / kind, shards=2, dim=DIM, workers=0, keep_vectors="float16")
        kept = codes(tmp_path / kind)
        assert all(np.array_equal(kept[row], vector) for row, vector in enumerate(vectors))
    made = held(tmp_path / "c")
    assert [order for order, *_ in made] == list(range(60))
    assert sorted((key, text, fields["n"]) for _, key, text, fields in made) == [
        (row, text, row) for row, text in enumerate(texts(60))
    ]


class Unsendable(HashEncoder):
    def __getstate__(self) -> None:
        message = "it holds a lock"
        raise TypeError(message)


class ForeignError(Exception):
    """Cannot be made again from what it keeps."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


class Failing(HashEncoder):
    def __init__(self) -> None:
        super().__init__(DIM)
        self.at_home = os.getpid()

    def encode_document(self, inputs: list[str], /) -> list[NDArray[np.float32]]:
        if os.getpid() != self.at_home:
            words = ("the model ", "broke")
            raise ForeignError(*words)
        return super().encode_document(inputs)


@pytest.mark.filterwarnings("ignore")
def test_an_encoder_that_workers_cannot_get_or_that_fails_there(ray: Any, tmp_path: Path) -> None:
    for module in (__name__, "support"):
        ray.cloudpickle.register_pickle_by_value(__import__(module))
    with pytest.raises(InvalidInputError, match="it holds a lock"):
        build(texts(20), tmp_path / "c", shards=2, encoder=Unsendable(DIM))
    assert not (tmp_path / "c").exists()
    with pytest.raises(StorageError, match="worker failed"):
        build(texts(20), tmp_path / "c", shards=2, encoder=Failing())
    build(texts(20), tmp_path / "c", shards=2, encoder=HashEncoder(DIM), workers=0)
    assert len(held(tmp_path / "c")) == 20


@pytest.mark.filterwarnings("ignore")
def test_an_error_of_a_worker_is_the_librarys_own(ray: Any, tmp_path: Path) -> None:
    vectors = [{"id": key, "vectors": np.ones((2, DIM), np.float32) * key} for key in (1, 2, 2)]
    with pytest.raises(DuplicateIdError, match="id 2"):
        build(vectors, tmp_path / "c", shards=2, dim=DIM, workers=1)
    assert not list((tmp_path / "c").iterdir())


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_is_lost_again_and_again_is_an_error(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Workers do not have the folder of the tests on their path.
    for module in (__name__, "support"):
        ray.cloudpickle.register_pickle_by_value(__import__(module))
    monkeypatch.setattr(steps, "TRIES", 2)
    with monkeypatch.context() as broken:
        broken.setattr(steps, "_Builder", Lost)
        with pytest.raises(StorageError, match="lost 2 times"):
            build([np.ones((2, DIM), np.float32)] * 3, tmp_path / "c", shards=1, dim=DIM)
    build([np.ones((2, DIM), np.float32)] * 3, tmp_path / "c", shards=1, dim=DIM, workers=0)
    assert json.loads((tmp_path / "c/cluster-0000000001.json").read_text())["next_order"] == 3
