"""Clusters that are built of a collection: from every form of source, by Ray and without, and after being cut off."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from latewood.cluster import ClusterManifest, ClusterWriter, build, create
from latewood.cluster import building as steps
from latewood.cluster.creating import new_codec, train
from latewood.cluster.order import ORDER, order_of, without_order
from latewood.cluster.sessions import ray_session
from latewood.errors import (
    DuplicateIdError,
    EncoderMismatchError,
    IndexExistsError,
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
        ([{"id": None, "text": "a"}], InvalidInputError, "null"),
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


# ── Ray ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Deadly(HashEncoder):
    """Ends the process that encodes one text, as often as there are files of a folder to be taken away."""

    def __init__(self, folder: str) -> None:
        super().__init__(DIM)
        self.folder = folder

    def encode_document(self, inputs: list[str], /) -> list[NDArray[np.float32]]:
        if any("fatal" in text for text in inputs):
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
    with ray_session() as module:
        yield module


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
    # The codec is trained in this process, and must not meet the text that ends it.
    (tmp_path / "ray/building").mkdir(parents=True)
    train(new_codec(tmp_path / "ray", dim=None, encoder=Deadly("none")), sample_texts=texts(300))
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
    made = held(tmp_path / "c")
    assert [order for order, *_ in made] == list(range(60))
    assert sorted((key, text, fields["n"]) for _, key, text, fields in made) == [
        (row, text, row) for row, text in enumerate(texts(60))
    ]


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
