"""Indexes as Arrow, Parquet, Lance, safetensors and .npz, out and in again."""

import datetime as dt
import json
import os
import shutil
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Index, Ragged, export_index, import_index, to_ragged
from latewood.errors import DimensionError, InvalidInputError, LatewoodError, StorageError, UnknownIdError
from latewood.index import arrow
from strategies import make_corpus
from support import run_python

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
safetensors = pytest.importorskip("safetensors.numpy")

CORPUS = make_corpus(11, documents=30, queries=3)
TABLES = [".parquet", ".arrow", ".feather", ".lance"]
FORMS = [*TABLES, ".npz", ".safetensors"]


def filled(path: Path, *, strings: bool, **settings: Any) -> Index:
    index = Index.create(path, dim=CORPUS.dim, keep_vectors="float16", **settings)
    ids: list[Any] = [f"dök {number}" for number in range(30)] if strings else list(range(100, 130))
    vectors = [document.astype(np.float16).astype(np.float32) for document in CORPUS.documents]
    vectors[4] = vectors[4][:0]
    texts = [None if number % 3 else f"text ü {number}" for number in range(30)]
    metadata = [
        None if number % 4 else {"n": number, "id": "other", "in": {"tags": ["ä", 1.5, None]}} for number in range(30)
    ]
    index.add(ids, vectors=vectors, texts=texts, metadata=metadata)
    return index


@pytest.fixture(params=[True, False], ids=["str", "int"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Index:
    return filled(tmp_path / "index", strings=request.param)


def assert_same(one: Index, other: Index, *, documents: bool = True) -> None:
    assert list(one.ids()) == list(other.ids())
    for mine, theirs in zip(one.vectors(one.ids()), other.vectors(other.ids()), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    if documents:
        assert one.documents(one.ids()) == other.documents(other.ids())


@pytest.mark.parametrize("ending", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_out_and_in_again(
    index: Index, tmp_path: Path, ending: str, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ending == ".lance":
        pytest.importorskip("lance")
    monkeypatch.setattr(arrow, "ROWS", 7)
    path = tmp_path / f"documents{ending}"
    export_index(index, path, dtype=dtype)
    again = import_index(path, tmp_path / "again", keep_vectors="float16")
    assert_same(index, again, documents=ending in TABLES)
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(InvalidInputError, match="there already"):
        export_index(index, path)
    if ending != ".lance":
        export_index(index, path, ids=index.ids()[3:5], overwrite=True)
        assert list(import_index(path, tmp_path / "two").ids()) == list(index.ids()[3:5])
    with pytest.raises(UnknownIdError):
        export_index(index, tmp_path / f"other{ending}", ids=["nope"] if isinstance(index.ids(), list) else [5])
    assert not (tmp_path / f"other{ending}").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("ending", FORMS)
def test_an_empty_index(tmp_path: Path, ending: str) -> None:
    if ending == ".lance":
        pytest.importorskip("lance")
    path = tmp_path / f"documents{ending}"
    export_index(Index.create(tmp_path / "index", dim=9), path)
    empty = import_index(path, tmp_path / "again")
    assert (len(empty), empty.dim) == (0, 9)


@pytest.mark.parametrize("ending", FORMS)
@pytest.mark.parametrize("ids", [["a", "a\0"], ["\0", "", "\0\0"], ["x" * 10_000_000, *map(str, range(30))]])
def test_ids_are_as_they_were_or_refused(tmp_path: Path, ending: str, ids: list[str]) -> None:
    if ending == ".lance":
        pytest.importorskip("lance")
    path = tmp_path / f"documents{ending}"
    index = Index.create(tmp_path / "index", dim=4)
    index.add(ids, vectors=[np.ones((1, 4), dtype=np.float32)] * len(ids))
    if ending == ".npz":
        with pytest.raises(InvalidInputError, match="in \\.safetensors, \\.parquet"):
            export_index(index, path)
        assert not path.exists()
        return
    export_index(index, path)
    assert import_index(path, tmp_path / "again").ids() == ids


def test_an_arrow_table(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "ROWS", 7)
    table = index.to_arrow()
    assert table.column_names == ["id", "text", "metadata", "vectors"]
    assert table.column("id").to_pylist() == list(index.ids())
    kind = pyarrow.list_(pyarrow.list_(pyarrow.float32(), index.dim))
    assert table.schema.field("vectors").type == kind
    stored = index.documents(index.ids())
    assert table.column("text").to_pylist() == [document.text for document in stored]
    metadata = [json.loads(entry) if entry else None for entry in table.column("metadata").to_pylist()]
    assert metadata == [document.metadata for document in stored]
    vectors = to_ragged(table.column("vectors"), allow_empty=True)
    np.testing.assert_array_equal(vectors.values, index.vectors(index.ids()).values)
    ids: Any = index.ids()
    some = [ids[at] for at in (5, 2, 2)]
    assert index.to_arrow(some).column("id").to_pylist() == list(some)
    assert index.to_arrow([]).num_rows == 0
    for wrong in ({"dtype": "bfloat16"}, {"dtype": None}, {"ids": 5}, {"ids": "x"}, {"ids": [1.5]}):
        with pytest.raises(LatewoodError):
            index.to_arrow(**wrong)


def test_other_libraries_read_it(tmp_path: Path) -> None:
    index = filled(tmp_path / "index", strings=True)
    read = pyarrow.RecordBatchReader.from_stream(index).read_all()
    assert read.equals(index.to_arrow())
    assert pyarrow.table(index).equals(read)
    ragged = index.vectors(index.ids())
    assert pyarrow.array(ragged).equals(ragged.to_arrow())
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(index)
    assert frame["id"].to_list() == list(index.ids())
    np.testing.assert_array_equal(to_ragged(frame["vectors"], allow_empty=True).values, ragged.values)
    duckdb = pytest.importorskip("duckdb")
    arrow_table = index.to_arrow()
    # MaxSim in SQL is MaxSim.
    query = CORPUS.queries[0][:2].astype(np.float32)
    asked = "[" + ", ".join(f"{row.tolist()}::FLOAT[{index.dim}]" for row in query) + "]"
    scored = (
        "list_sum(list_transform({}, lambda q: list_max(list_transform(vectors, lambda d: array_inner_product(q, d)))))"
    )
    rows = duckdb.sql(f"SELECT id, {scored.format(asked)} FROM arrow_table").fetchall()
    hits = {hit.id: hit.score for hit in index.search(query, k=30, gather="exact")}
    assert len(hits) == 29
    for key, score in rows:
        assert score is None if key == "dök 4" else score == pytest.approx(hits[key], rel=1e-3, abs=1e-3)
    assert arrow_table.num_rows == 30


def test_a_reader_sees_the_moment_it_was_made(index: Index) -> None:
    before = index.to_arrow()
    reader = index.to_batches()
    index.delete(index.ids()[:20])
    index.compact()
    assert reader.read_all().equals(before)
    assert index.to_arrow().num_rows == 10


def test_a_reader_whose_commit_has_left_the_folder(index: Index, tmp_path: Path) -> None:
    reader, ids = Index.open(index.path), list(index.ids())
    before = reader.to_arrow()
    for key in ids[:4]:
        index.delete([key])
    assert reader.to_arrow().equals(before)
    shutil.rmtree(index.path)
    other = Index.create(index.path, dim=CORPUS.dim)
    other.add(ids, vectors=[np.ones((1, CORPUS.dim), dtype=np.float32)] * len(ids))
    assert reader.generation == other.generation
    assert reader.to_arrow().equals(before)
    export_index(reader, tmp_path / "documents.parquet")
    assert_same(import_index(tmp_path / "documents.parquet", tmp_path / "again", keep_vectors="float16"), reader)


def test_ragged_to_arrow() -> None:
    flat = np.arange(24, dtype=np.float32).reshape(6, 4)
    ragged = Ragged(flat, np.array([0, 2, 2, 6]))
    column = ragged.to_arrow()
    assert column.to_pylist() == [flat[:2].tolist(), [], flat[2:].tolist()]
    values, _ = column.flatten().flatten().buffers()[1], None
    assert values.address == flat.ctypes.data, "float32 is not copied"
    assert to_ragged(ragged.to_arrow(dtype="float16"), allow_empty=True).values.tolist() == flat.tolist()
    with pytest.raises(InvalidInputError, match="dtype"):
        ragged.to_arrow(dtype="int8")  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [pyarrow.float16(), pyarrow.float32(), pyarrow.float64()])
@pytest.mark.parametrize("outer", [pyarrow.list_, pyarrow.large_list])
def test_vectors_that_are_lists_of_any_size(number: Any, outer: Any) -> None:
    given = [[[1.0, 2.0], [3.0, 4.0]], [], [[5.0, 6.0]]]
    column = pyarrow.array(given, outer(outer(number)))
    for form in (column, pyarrow.chunked_array([column[:2], column[1:2], column[2:]]), column[1:]):
        assert to_ragged(form, allow_empty=True).values.shape[1] == 2
        assert [part.tolist() for part in to_ragged(form, allow_empty=True) if len(part)] == [
            part for part in form.to_pylist() if part
        ]
    wider = pyarrow.array([[[1.0, 2.0, 3.0]]], outer(outer(number)))
    with pytest.raises(DimensionError):
        to_ragged(pyarrow.chunked_array([column, wider]))
    with pytest.raises(DimensionError):
        to_ragged(pyarrow.array([[[1.0, 2.0], [3.0]]], outer(outer(number))))
    with pytest.raises(InvalidInputError, match="nulls"):
        to_ragged(pyarrow.array([[[1.0, None]]], outer(outer(number))))
    with pytest.raises(InvalidInputError, match="Arrow type"):
        to_ragged(pyarrow.array([[[1, 2]]], outer(outer(pyarrow.int32()))))


def test_tables_of_others(tmp_path: Path) -> None:
    vectors = pyarrow.array([[[1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]], pyarrow.list_(pyarrow.list_(pyarrow.float64())))
    table = pyarrow.table({"doc": ["a", "b"], "body": ["one", None], "year": [2001, None], "embedding": vectors})
    parquet.write_table(table, tmp_path / "table.parquet")
    index = import_index(tmp_path / "table.parquet", tmp_path / "index", id_field="doc", text_field="body")
    assert [(document.id, document.text, document.metadata) for document in index.documents(index.ids())] == [
        ("a", "one", {"year": 2001}),
        ("b", None, None),
    ]
    index = import_index(tmp_path / "table.parquet", tmp_path / "numbered", metadata=False)
    assert list(index.ids()) == [0, 1]
    structs = pyarrow.array([{"lang": "en"}, None])
    parquet.write_table(table.append_column("metadata", structs), tmp_path / "struct.parquet")
    index = import_index(tmp_path / "struct.parquet", tmp_path / "struct", id_field="doc", text_field="body")
    assert [document.metadata for document in index.documents(["a", "b"])] == [{"lang": "en", "year": 2001}, None]
    polars = pytest.importorskip("polars")
    polars.DataFrame(table).rename({"doc": "id", "body": "text"}).write_parquet(tmp_path / "polars.parquet")
    named: dict[str, Any] = {"id_field": "id", "text_field": "text"}
    options: dict[str, Any]
    for number, options in enumerate(({}, named)):
        index = import_index(tmp_path / "polars.parquet", tmp_path / f"polars{number}", **options)
        assert [document.text for document in index.documents(["a", "b"])] == ["one", None]


def test_what_tables_have_and_json_has_not(tmp_path: Path) -> None:
    vectors = pyarrow.array([[[1.0, 0.0]]], pyarrow.list_(pyarrow.list_(pyarrow.float32(), 2)))
    day, moment = dt.date(2021, 3, 4), dt.datetime(2021, 3, 4, 5, 6, tzinfo=dt.UTC)
    columns = {
        "day": [day],
        "moment": [moment],
        "clock": [dt.time(5, 6)],
        "price": [Decimal("1.50")],
        "deep": [{"days": [day, None], "price": Decimal(2)}],
    }
    parquet.write_table(pyarrow.table({"id": ["a"], **columns, "v": vectors}), tmp_path / "table.parquet")
    index = import_index(tmp_path / "table.parquet", tmp_path / "index")
    assert index.documents(["a"])[0].metadata == {
        "day": "2021-03-04",
        "moment": "2021-03-04T05:06:00+00:00",
        "clock": "05:06:00",
        "price": 1.5,
        "deep": {"days": ["2021-03-04", None], "price": 2.0},
    }
    assert index.count(filter={"day": {"gte": "2021-01-01", "lt": "2022"}}) == 1


@pytest.mark.parametrize("empty", [range(300), range(256, 300), [299], range(4, 298)])
def test_tables_of_lists_that_are_empty(tmp_path: Path, empty: Any) -> None:
    """A batch of nothing but empty lists of any length does not tell how many dimensions the others have."""
    vectors = [[] if number in empty else [[1.0, float(number)]] for number in range(300)]
    kind = pyarrow.list_(pyarrow.list_(pyarrow.float32()))
    parquet.write_table(pyarrow.table({"vectors": pyarrow.array(vectors, kind)}), tmp_path / "table.parquet")
    if len(empty) == 300:
        with pytest.raises(InvalidInputError, match="no document has a vector"):
            import_index(tmp_path / "table.parquet", tmp_path / "index")
    settings: dict[str, Any] = {"dim": 2} if len(empty) == 300 else {}
    index = import_index(tmp_path / "table.parquet", tmp_path / "index", **settings)
    assert index.dim == 2
    assert index.vectors(index.ids()).lengths.tolist() == [len(one) for one in vectors]
    index.add([300, 301], vectors=pyarrow.array([[], []], kind))
    assert len(index) == 302
    with pytest.raises(DimensionError):
        index.add([302], vectors=pyarrow.array([[]], pyarrow.list_(pyarrow.list_(pyarrow.float32(), 3))))


@pytest.mark.parametrize("ending", FORMS)
def test_an_ending_in_capitals(index: Index, tmp_path: Path, ending: str) -> None:
    if ending == ".lance":
        pytest.importorskip("lance")
    target = tmp_path / f"Forest{ending.upper()}"
    export_index(index, target)
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(("Forest", "."))] == [target.name]
    assert list(import_index(target, tmp_path / "again").ids()) == list(index.ids())


def test_a_table_of_lancedb(index: Index, tmp_path: Path) -> None:
    pytest.importorskip("lance")
    lancedb = pytest.importorskip("lancedb")
    lancedb.connect(tmp_path / "db").create_table("forest", data=index.to_arrow())
    assert_same(index, import_index(tmp_path / "db" / "forest.lance", tmp_path / "again", keep_vectors="float16"))


def test_files_that_are_none(tmp_path: Path) -> None:
    vectors = pyarrow.array([[[1.0, 0.0]]], pyarrow.list_(pyarrow.list_(pyarrow.float32(), 2)))
    tables = {
        "no vectors": {"id": ["a"]},
        "two": {"one": vectors, "two": vectors},
        "null id": {"id": pyarrow.array([None], pyarrow.string()), "v": vectors},
        "no JSON": {"metadata": ["{"], "v": vectors},
        "no object": {"metadata": ["[1]"], "v": vectors},
        "bytes": {"blob": [b"x"], "v": vectors},
        "nulls": {"v": pyarrow.array([None], vectors.type)},
        "far infinity": {"distance": [float("inf")], "v": vectors},
        "no number": {"id": ["a"], "at": [{"price": [float("nan")]}], "v": vectors},
    }
    told = {
        "far infinity": "document 0 is not JSON in field 'distance'",
        "no number": "'a' is not JSON in field 'at.price'",
    }
    for name, columns in tables.items():
        parquet.write_table(pyarrow.table(columns), tmp_path / f"{name}.parquet")
        with pytest.raises(InvalidInputError, match=told.get(name)):
            import_index(tmp_path / f"{name}.parquet", tmp_path / "index", overwrite=True)
    doubled = pyarrow.Table.from_arrays([vectors, pyarrow.array([1]), pyarrow.array([2])], ["v", "id", "id"])
    parquet.write_table(doubled, tmp_path / "doubled.parquet")
    sources = {"doubled.parquet": "several columns", "nowhere": "no such file or folder", "table.csv": "ending"}
    (tmp_path / "table.csv").write_text("id\n")
    for source, words in sources.items():
        with pytest.raises(InvalidInputError, match=words):
            import_index(tmp_path / source, tmp_path / "index", overwrite=True)
    for ending in FORMS:
        for content in (b"", b"PAR1", b"ARROW1\0\0", bytes(range(256)) * 9, (2**63 - 1).to_bytes(8, "little")):
            (tmp_path / f"bad{ending}").write_bytes(content)
            with pytest.raises(InvalidInputError, match="bad"):
                import_index(tmp_path / f"bad{ending}", tmp_path / "index", overwrite=True)
        with pytest.raises(InvalidInputError, match="missing"):
            import_index(tmp_path / f"missing{ending}", tmp_path / "index", overwrite=True)
    safetensors.save_file({"other": np.zeros((2, 2), np.float32)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(InvalidInputError, match="'values'"):
        import_index(tmp_path / "other.safetensors", tmp_path / "index", overwrite=True)
    index = Index.create(tmp_path / "empty", dim=2)
    for path, error in (
        (tmp_path / "x.csv", InvalidInputError),
        (tmp_path, InvalidInputError),
        ("", InvalidInputError),
        (None, InvalidInputError),
        (tmp_path / "missing" / "x.npz", StorageError),
        (tmp_path / "missing" / "x.parquet", StorageError),
    ):
        with pytest.raises(error):
            export_index(index, path)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="must be an Index"):
        export_index("index", tmp_path / "x.npz")  # type: ignore[arg-type]


def test_what_is_written_is_whole_or_not_there(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "documents.parquet"
    export_index(index, path)
    before = path.read_bytes()

    def fails(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Ragged, "to_arrow", fails)
    with pytest.raises(KeyboardInterrupt):
        export_index(index, path, overwrite=True)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


FULL_DISK = """
import json, resource, sys
import latewood
from latewood.errors import LatewoodError

index = latewood.Index.open(sys.argv[1])
outcomes = []
for path in sys.argv[2:]:
    # What is loaded on first use may write files of its own.
    latewood.export_index(index, path, ids=index.ids()[:1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
for path in sys.argv[2:]:
    try:
        latewood.export_index(index, path.replace("small", "large"))
    except LatewoodError as error:
        outcomes.append([type(error).__name__, str(error)])
print(json.dumps(outcomes))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_full_disk(index: Index, tmp_path: Path) -> None:
    """Files cannot grow beyond a limit, which the system reports as it reports a full disk."""
    outcomes = run_python(FULL_DISK, index.path, *(tmp_path / f"small{ending}" for ending in FORMS))
    for ending, (kind, message) in zip(FORMS, outcomes, strict=True):
        assert kind == "StorageError", ending
        assert str(tmp_path / f"large{ending}") in message
    assert not list(tmp_path.glob("large*"))
    assert not list(tmp_path.glob(".*"))


def test_a_name_as_long_as_names_can_be(index: Index, tmp_path: Path) -> None:
    path = tmp_path / f"{'n' * 251}.npz"
    for overwrite in (False, True):
        export_index(index, path, overwrite=overwrite)
    assert len(import_index(path, tmp_path / "again")) == len(index)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@pytest.mark.parametrize("ending", FORMS)
def test_names_that_are_no_addresses_homes_or_unicode(tmp_path: Path, ending: str, monkeypatch: Any) -> None:
    """What a library takes for the address of a store is the name of a file here."""
    index = Index.create(tmp_path / "index", dim=CORPUS.dim)
    index.add(["a", "b"], vectors=CORPUS.documents[:2])
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(["file:", "s3:", "~nobody-is-called-this", os.fsdecode(b"bad\xff")]):
        Path(name).mkdir()
        for path in (f"{name}{ending}", f"{name}/x{ending}"):
            if ending == ".lance" and not name.isascii():
                with pytest.raises(InvalidInputError, match="the path of a Lance table"):
                    export_index(index, f"{name}/x{ending}")
                continue
            export_index(index, path)
            assert_same(import_index(path, f"{number}", overwrite=True), index, documents=False)


def test_the_commands(index: Index, tmp_path: Path) -> None:
    testing = pytest.importorskip("click.testing")
    from latewood.cli.commands import cli

    def run(*words: Any) -> Any:
        result = testing.CliRunner().invoke(cli, [*map(str, words)])
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    told = run("export", index.path, tmp_path / "some.parquet", "--filter", '{"n": {"gte": 8}}', "--json")
    assert told == {"path": str(tmp_path / "some.parquet"), "documents": 6}
    assert run("import", tmp_path / "some.parquet", tmp_path / "some", "--json")["documents"] == 6
    run("export", index.path, tmp_path / "all.safetensors", "--json")
    Index.create(tmp_path / "added", dim=index.dim)
    assert run("add", tmp_path / "added", tmp_path / "all.safetensors", "--json")["documents"] == 30
    np.savez(tmp_path / "queries.npz", values=CORPUS.queries[0], lengths=[len(CORPUS.queries[0])])
    assert len(run("search", tmp_path / "added", "--queries", tmp_path / "queries.npz", "--json")["hits"]) == 10
