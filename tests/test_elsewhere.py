"""Folders that the real libraries have written become indexes, with the scores of their own libraries.

`golden/elsewhere/make.py` makes the folders again; beside each lies what its library decodes and finds.
"""

import json
import pickle
import shutil
import sqlite3
import zipfile
from collections import OrderedDict
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latewood import Index, import_index
from latewood.errors import DuplicateIdError, IndexExistsError, InvalidInputError, LatewoodError
from latewood.exchange import plaid
from latewood.exchange.pickles import read_pickle, read_torch
from reference import maxsim as reference_maxsim

GOLDEN = Path(__file__).parent / "golden" / "elsewhere"
FOLDERS = ["fast-plaid", "pylate", "pylate-stanford", "next-plaid", "next-plaid-binary", "colbert-ai"]
DELETED = [3, 20]
TWICE = "dök/05"
"""The document that PyLate was given twice: its index has the older vectors too, under no id of their own."""


def answer(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return found


def queries(dim: int = 32) -> list[Any]:
    """The queries that the libraries were asked: the same lines as in `make.py`."""
    generator = np.random.default_rng(2)
    centres = np.random.default_rng(0).standard_normal((24, dim))
    parts = []
    for _ in range(6):
        part = centres[generator.integers(0, 24, 5)] + 0.6 * generator.standard_normal((5, dim))
        parts.append((part / np.linalg.norm(part, axis=1, keepdims=True)).astype(np.float32))
    return parts


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("settings", [{"keep_vectors": "float16"}, {"bits": 4}, {"bits": 4, "train_after": 0}], ids=str)
def test_scores_are_those_of_the_library_that_wrote_it(tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    index = import_index(GOLDEN / name, tmp_path / "index", **settings)
    own = answer(name)
    # next-plaid decodes no signs, so that its answer names no documents.
    assert sorted(index.ids()) == sorted(own["ids"] or range(34))
    for query, found in zip(queries(index.dim), own["found"], strict=True):
        hits = index.search(query, k=50, gather="exact")
        scores = {hit.id: hit.score for hit in hits}
        # next-plaid and fast-plaid score in int8 and float16 themselves. Signs are vectors of length 5.7.
        size = 5 * (5.7 if "binary" in name else 1)
        allowed = size * (0.001 if "keep_vectors" in settings else 0.02)
        for key, score in found:
            if (name, key) != ("pylate", TWICE):
                assert scores[key] == pytest.approx(score, abs=allowed)
        if "keep_vectors" in settings and name != "pylate":
            assert [hit.id for hit in hits[:10]] == [key for key, _ in found]


@pytest.mark.parametrize("name", [name for name in FOLDERS if "binary" not in name])
def test_vectors_are_decoded_as_by_the_library(tmp_path: Path, name: str) -> None:
    index = import_index(GOLDEN / name, tmp_path / "index", keep_vectors="float16")
    with np.load(GOLDEN / f"{name}.npz") as expected:
        decoded = index.vectors(answer(name)["ids"])
        np.testing.assert_array_equal(decoded.offsets, expected["offsets"])
        # fast-plaid computes in float16.
        np.testing.assert_allclose(decoded.values, expected["values"], atol=0.001)
    np.testing.assert_allclose(np.linalg.norm(decoded.values, axis=1), 1, atol=0.001)


def test_metadata_come_along(tmp_path: Path) -> None:
    kept = [number for number in range(36) if number not in DELETED]
    index = import_index(GOLDEN / "fast-plaid", tmp_path / "fast")
    wanted = [{"lang": "en" if number % 2 else "de", "page": number, "share": number / 8} for number in kept]
    assert [document.metadata for document in index.documents(index.ids())] == wanted
    assert index.count(filter={"page": {"gte": 30}}) == 6

    index = import_index(GOLDEN / "next-plaid", tmp_path / "next", id_field="id", text_field="lang")
    assert list(index.ids()) == [f"dök/{number:02}" for number in kept]
    for number, document in zip(kept, index.documents(index.ids()), strict=True):
        # SQLite has no true and false.
        own = {"page": number, "share": number / 8, "tags": ["a", document.id], "new": 1}
        assert (document.text, document.metadata) == ("en" if number % 2 else "de", own)

    index = import_index(GOLDEN / "next-plaid", tmp_path / "without", metadata=False)
    assert {document.metadata for document in index.documents(index.ids())} == {None}


def test_pylate_knows_the_newer_of_two(tmp_path: Path) -> None:
    index = import_index(GOLDEN / "pylate", tmp_path / "index", keep_vectors="float16")
    assert len(index) == 34
    for query in queries():
        score = index.rerank(query, [TWICE])[0].score
        assert score == pytest.approx(reference_maxsim(query, index.vectors([TWICE])[0]), abs=0.01)
    inner = import_index(GOLDEN / "pylate" / "fast_plaid_index", tmp_path / "inner")
    assert (len(inner), inner.ids()[0]) == (35, 0), "without its ids it is a folder of fast-plaid, with both"


def test_parts_are_as_small_as_they_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = import_index(GOLDEN / "fast-plaid", tmp_path / "whole", keep_vectors="float16")
    monkeypatch.setattr(plaid, "PART_VALUES", 32 * 24)
    sizes = [part.vectors.values.size for part in plaid.open_plaid(GOLDEN / "fast-plaid").parts()]
    assert len(sizes) > 8
    assert max(sizes) <= 32 * 24
    parts = import_index(GOLDEN / "fast-plaid", tmp_path / "parts", keep_vectors="float16")
    np.testing.assert_array_equal(parts.vectors(parts.ids()).values, whole.vectors(whole.ids()).values)
    assert parts.documents(parts.ids()) == whole.documents(whole.ids())


def test_a_second_import_and_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(GOLDEN / "next-plaid", source)
    for path in [*source.iterdir(), source]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    before = sorted(source.iterdir())
    index = import_index(str(source), str(tmp_path / "index"))
    assert sorted(source.iterdir()) == before
    with pytest.raises(IndexExistsError):
        import_index(source, index.path)
    with pytest.raises(DuplicateIdError):
        import_index(source, index.path, exist_ok=True)
    assert len(Index.open(index.path)) == 34
    assert len(import_index(source, index.path, overwrite=True)) == 34
    other = import_index(GOLDEN / "pylate", tmp_path / "other")
    with pytest.raises(InvalidInputError):
        import_index(source, other.path, exist_ok=True)
    source.chmod(0o700)


def test_an_interrupted_import_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plaid, "PART_VALUES", 32 * 24)
    calls = []
    decode = plaid.Buckets.decode

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return decode(*arguments)

    monkeypatch.setattr(plaid.Buckets, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_index(GOLDEN / "fast-plaid", tmp_path / "index")
    assert len(Index.open(tmp_path / "index")) == 0
    assert len(import_index(GOLDEN / "fast-plaid", tmp_path / "index", exist_ok=True)) == 34


def test_progress_is_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import_index(GOLDEN / "fast-plaid", tmp_path / "shown", show_progress=True)
    assert "importing" in capfd.readouterr().err
    import_index(GOLDEN / "fast-plaid", tmp_path / "silent", show_progress=False)
    assert capfd.readouterr().err == ""


def test_what_is_asked_for_is_checked(tmp_path: Path) -> None:
    source = GOLDEN / "next-plaid"
    wrong: list[dict[str, Any]] = [
        {"metadata": 1},
        {"id_field": 5},
        {"text_field": ["id"]},
        {"id_field": "nope"},
        {"text_field": "page"},
        {"id_field": "tags"},
        {"id_field": "id", "metadata": False},
        {"dim": 31},
        {"threads": 0},
        {"show_progress": "yes"},
        {"bits": 3},
    ]
    for options in wrong:
        with pytest.raises(LatewoodError):
            import_index(source, tmp_path / "index", overwrite=True, **options)
    with pytest.raises(TypeError):
        import_index(source, tmp_path / "index", nonsense=True)
    with pytest.raises(DuplicateIdError):
        import_index(source, tmp_path / "index", overwrite=True, id_field="lang")
    with pytest.raises(InvalidInputError, match="'nope'"):
        import_index(source, tmp_path / "index", overwrite=True, id_field="nope")
    assert len(Index.open(tmp_path / "index")) == 0
    for path in (tmp_path, tmp_path / "missing", source / "metadata.json", 5, "", None):
        with pytest.raises(InvalidInputError):
            import_index(path, tmp_path / "none")  # type: ignore[arg-type]
    assert not (tmp_path / "none").exists()


def test_a_journal_that_is_not_in_the_database_yet(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(GOLDEN / "next-plaid", source)
    with closing(sqlite3.connect(source / "metadata.db")) as open_elsewhere:
        open_elsewhere.execute("UPDATE METADATA_CONTENT SET lang = 'fr'")
        open_elsewhere.commit()
        assert (source / "metadata.db-wal").stat().st_size > 0
        index = import_index(source, tmp_path / "index")
    assert index.count(filter={"lang": "fr"}) == 34


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE METADATA",
        "DELETE FROM METADATA WHERE _subset_ % 2 = 0",
        "UPDATE METADATA SET _subset_ = _subset_ + 1000",
        "ALTER TABLE METADATA DROP COLUMN _subset_",
        "UPDATE METADATA SET _subset_ = 'x' || _subset_",
        "UPDATE METADATA_CONTENT SET lang = x'00ff'",
        "UPDATE METADATA_CONTENT SET tags = '[1'",
        "ALTER TABLE METADATA RENAME TO OTHER; CREATE VIEW METADATA AS SELECT * FROM OTHER",
    ],
)
def test_databases_that_are_none(tmp_path: Path, change: str) -> None:
    source = tmp_path / "source"
    shutil.copytree(GOLDEN / "next-plaid", source)
    with closing(sqlite3.connect(source / "metadata.db")) as connection:
        connection.execute("DROP INDEX idx_metadata_subset")
        connection.executescript(change)
    if "DELETE" in change or "1000" in change or "DROP TABLE" in change or "VIEW" in change or "[1" in change:
        index = import_index(source, tmp_path / "index")
        assert len(index) == 34
        told = [document.metadata for document in index.documents(index.ids())]
        assert sum(entry is not None for entry in told) == (17 if "DELETE" in change else 34 if "[1" in change else 0)
    else:
        with pytest.raises(InvalidInputError, match=r"metadata\.db"):
            import_index(source, tmp_path / "index")
        assert len(import_index(source, tmp_path / "plain", metadata=False)) == 34


class Runs:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_pickle_is_refused(tmp_path: Path, protocol: int) -> None:
    ran = tmp_path / "ran"
    source = tmp_path / "source"
    shutil.copytree(GOLDEN / "pylate", source)
    hostile: list[Any] = [Runs(ran), {"dök/00": Runs(ran)}, {Runs(ran): 0}, [0, (1, Runs(ran))], OrderedDict(a=0)]
    for value in hostile:
        (source / "documents_ids_to_plaid_ids.pkl").write_bytes(pickle.dumps(value, protocol))
        with pytest.raises(InvalidInputError, match=r"documents_ids_to_plaid_ids\.pkl"):
            import_index(source, tmp_path / "index")
    assert not ran.exists()
    assert not (tmp_path / "index").exists()
    pickle.loads(pickle.dumps(Runs(ran), protocol))
    assert ran.exists(), "it would have run"


@pytest.mark.parametrize("file", ["centroids.pt", "buckets.pt", "0.codes.pt", "2.residuals.pt"])
def test_code_in_a_torch_file_is_refused(tmp_path: Path, file: str) -> None:
    ran = tmp_path / "ran"
    source = tmp_path / "source"
    shutil.copytree(GOLDEN / "colbert-ai", source)
    real = (source / file).read_bytes()
    with zipfile.ZipFile(source / file) as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    root = next(name for name in inside if name.endswith("data.pkl"))
    calls = [pickle.dumps(Runs(ran), protocol) for protocol in (2, 4)]
    # The honest pickle, with a call put before its end.
    calls.append(inside[root][:-1] + b"cos\nsystem\n(X\x04\x00\x00\x00truetR.")
    calls.append(inside[root].replace(b"torch._utils\n_rebuild_tensor_v2", b"os\nsystem"))
    for call in calls:
        with zipfile.ZipFile(source / file, "w") as archive:
            for name, content in {**inside, root: call}.items():
                archive.writestr(name, content)
        with pytest.raises(InvalidInputError, match=r"refused.*nothing of it was run"):
            import_index(source, tmp_path / "index")
    (source / file).write_bytes(pickle.dumps(Runs(ran)))
    with pytest.raises(InvalidInputError, match="load it with torch and save it again"):
        import_index(source, tmp_path / "index")
    assert not ran.exists()
    assert not (tmp_path / "index").exists()
    (source / file).write_bytes(real)
    assert len(import_index(source, tmp_path / "index")) == 34


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.tuples(inner, inner)
        | st.tuples(inner, inner, inner, inner)
    ),
    max_leaves=8,
)


@given(plain, st.integers(2, pickle.HIGHEST_PROTOCOL))
def test_plain_data_are_read_as_pickle_reads_them(
    tmp_path_factory: pytest.TempPathFactory, value: Any, protocol: int
) -> None:
    path = tmp_path_factory.mktemp("pickle") / "plain.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    assert read_pickle(path) == value


@given(
    st.binary(max_size=60) | st.lists(st.sampled_from(list(b"\x80\x04}q\x00(h\x00Ks]tau.RcQ")), max_size=40).map(bytes)
)
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("pickle") / "some.pkl"
    path.write_bytes(content)
    with suppress(InvalidInputError):
        read_pickle(path)


def test_tensors_are_those_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "tensor.pt"
    base = torch.arange(60, dtype=torch.float32).reshape(5, 12)
    tensors = [base, base[1:3], base.T, base[:, 3:5], base.half(), base.double(), base.to(torch.uint8)]
    tensors += [base.to(kind) for kind in (torch.int8, torch.int16, torch.int32, torch.int64)]
    tensors += [torch.zeros(0, 4), torch.tensor(3.5), torch.nn.Parameter(base).detach()]
    for tensor in tensors:
        torch.save(tensor, path)
        (found,) = read_torch(path)
        np.testing.assert_array_equal(found, tensor.numpy())
        assert found.dtype == tensor.numpy().dtype
        assert not found.flags.writeable or not found.size
    torch.save((base, base[2]), path)
    for found, tensor in zip(read_torch(path), (base, base[2]), strict=True):
        np.testing.assert_array_equal(found, tensor.numpy())
    refused = [
        base.to(torch.bfloat16),
        torch.nn.Parameter(base),
        base.to_sparse(),
        {"a": base},
        5,
        torch.nn.Linear(2, 2),
    ]
    for value in refused:
        torch.save(value, path)
        with pytest.raises(InvalidInputError, match=r"tensor\.pt"):
            read_torch(path)
    torch.save(base, path, _use_new_zipfile_serialization=False)
    with pytest.raises(InvalidInputError, match=r"since torch 1\.6"):
        read_torch(path)


def test_tensors_that_reach_beyond_their_numbers(tmp_path: Path) -> None:
    with zipfile.ZipFile(GOLDEN / "colbert-ai" / "centroids.pt") as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    root = next(name for name in inside if name.endswith("data.pkl"))
    # 128 rows become 255, and the numbers are packed, too few, or not there.
    assert inside[root].count(b"K\x80K ") == 1
    cases: list[dict[str, bytes]] = [
        {root: inside[root].replace(b"K\x80K ", b"K\xffK ")},
        {root.replace("data.pkl", "data/0"): b""},
        {root.replace("data.pkl", "byteorder"): b"big"},
        {root: b"\x80\x02" + b"N0" * 2**20 + b"N."},
    ]
    for case in cases:
        path = tmp_path / "centroids.pt"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in {**inside, **case}.items():
                archive.writestr(name, content)
        with pytest.raises(InvalidInputError, match=r"centroids\.pt"):
            read_torch(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in inside.items():
            archive.writestr(name, content)
    with pytest.raises(InvalidInputError, match="packed"):
        read_torch(path)


@pytest.mark.parametrize("name", FOLDERS)
def test_damage_is_an_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    random = np.random.default_rng(0)
    source = tmp_path / "source"
    shutil.copytree(GOLDEN / name, source)

    def decoded() -> int:
        try:
            vectors = [part.vectors.values for part in plaid.open_plaid(source).parts()]
        except InvalidInputError as error:
            assert str(source) in str(error)  # noqa: PT017  some damage goes unseen
            return 0
        assert all(np.isfinite(values).all() for values in vectors)
        return sum(map(len, vectors))

    whole = decoded()
    assert whole > 200
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        content = path.read_bytes()
        changes = [b"", content[: len(content) // 2], b"[]", b"5", b"{}", b"[-1]", b"[1.5]", b"[" * 10**5]
        flipped = [
            content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :]
            for place in random.integers(0, len(content), 8).tolist()
        ]
        for change in [*changes, *flipped]:
            path.write_bytes(change)
            decoded()
        path.unlink()
        decoded()
        path.write_bytes(content)
    assert decoded() == whole
