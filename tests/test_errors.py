"""Bad input and bad media: each a typed error that names the thing; nothing lost, no crash."""

import errno
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Index, errors
from latewood.errors import (
    CorruptIndexError,
    DimensionError,
    DuplicateIdError,
    FormatVersionError,
    IndexLockedError,
    IndexNotFoundError,
    InternalError,
    InvalidInputError,
    LatewoodError,
    StorageError,
)
from strategies import make_corpus
from support import TESTS, build_index, run_python

CORPUS = make_corpus(41, dim=32, documents=30, queries=2, document_tokens=(2, 8))
VECTORS = CORPUS.documents
QUERY = CORPUS.queries[0]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return build_index(tmp_path / "index", CORPUS)


def unchanged(index: Index) -> bool:
    return len(index) == len(VECTORS) and Index.open(index.path).check() == []


def spoiled(value: float) -> np.ndarray:
    array = VECTORS[0].copy()
    array[1, 5] = value
    return array


def test_the_tree_of_errors() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, Exception)
        assert issubclass(kind, LatewoodError)
    for kind, builtin in [
        (InvalidInputError, ValueError),
        (errors.UnknownIdError, KeyError),
        (IndexNotFoundError, FileNotFoundError),
        (errors.IndexExistsError, FileExistsError),
        (StorageError, OSError),
        (errors.MissingDependencyError, ImportError),
    ]:
        assert issubclass(kind, builtin)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e13, -3e38])
@pytest.mark.parametrize("upsert", [False, True])
def test_values_that_cannot_be_encoded(index: Index, value: float, upsert: bool) -> None:
    call = index.upsert if upsert else index.add
    with pytest.raises(InvalidInputError, match="1001"):
        call([1000, 1001], vectors=[VECTORS[0], spoiled(value)])
    assert unchanged(index)
    with pytest.raises(InvalidInputError, match="query 0"):
        index.search(spoiled(value))
    with pytest.raises(InvalidInputError, match="query 1"):
        index.search_batch([QUERY, spoiled(value)])
    with pytest.raises(InvalidInputError):
        index.rerank(spoiled(value), [1])
    with pytest.raises(InvalidInputError):
        index.explain(spoiled(value), 1)


def test_wrong_dimensions(index: Index) -> None:
    wrong = np.ones((2, 33), dtype=np.float32)
    with pytest.raises(DimensionError, match=r"33.*32|32.*33"):
        index.add([1000], vectors=[wrong])
    with pytest.raises(DimensionError, match=r"1001.*33"):
        index.add([1000, 1001], vectors=[VECTORS[0], wrong])
    for call in (index.search, lambda query: index.rerank(query, [1]), lambda query: index.explain(query, 1)):
        with pytest.raises(DimensionError, match="33"):
            call(wrong)
    assert unchanged(index)


def test_nothing_to_index_or_to_ask(index: Index) -> None:
    nothing = np.zeros((0, 32), dtype=np.float32)
    with pytest.raises(InvalidInputError, match=r"1001.*no tokens"):
        index.add([1000, 1001], vectors=[VECTORS[0], nothing], on_empty="error")
    bad: list[Any] = [nothing, np.zeros((0, 0), dtype=np.float32), []]
    for query in bad:
        with pytest.raises(InvalidInputError):
            index.search(query)
    with pytest.raises(InvalidInputError, match="position 1 has no tokens"):
        index.search_batch([QUERY, nothing])
    assert unchanged(index)


def test_repeated_ids(index: Index) -> None:
    with pytest.raises(DuplicateIdError, match="1000"):
        index.add([1000, 1000], vectors=VECTORS[:2])
    with pytest.raises(DuplicateIdError, match="1000"):
        index.upsert([1000, 1000], vectors=VECTORS[:2])
    with pytest.raises(DuplicateIdError, match="upsert"):
        index.add([1000, 3], vectors=VECTORS[:2])
    assert unchanged(index)


@pytest.mark.parametrize("k", [0, -1, 2.0, "3", None, True, 2**80])
def test_bad_k(index: Index, k: Any) -> None:
    with pytest.raises(InvalidInputError, match="k"):
        index.search(QUERY, k)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gather": "fde"}, "gather"),
        ({"max_scored": 0}, "max_scored"),
        ({"probes": 0}, "probes"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threads": 0}, "threads"),
        ({"threads": -1}, "threads"),
        ({"ids": ["a"]}, "id"),
    ],
)
def test_bad_options(index: Index, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        index.search(QUERY, **options)


@pytest.mark.parametrize(
    "arguments",
    [
        {"ids": [1000], "vectors": VECTORS[:2]},
        {"ids": [1000, 1001], "vectors": VECTORS[:1]},
        {"ids": [1000], "vectors": VECTORS[:1], "texts": []},
        {"ids": [1000], "vectors": VECTORS[:1], "texts": "text"},
        {"ids": [1000], "vectors": VECTORS[:1], "texts": [5]},
        {"ids": [1000], "vectors": VECTORS[:1], "texts": ["lone \ud800 surrogate"]},
        {"ids": [1000], "vectors": VECTORS[:1], "metadata": {"a": 1}},
        {"ids": [1000], "vectors": VECTORS[:1], "metadata": [[1]]},
        {"ids": [1000], "vectors": VECTORS[:1], "metadata": [{"a": float("nan")}]},
        {"ids": [1000], "vectors": VECTORS[:1], "metadata": [{"a": object()}]},
        {"ids": [1.5], "vectors": VECTORS[:1]},
        {"ids": [True], "vectors": VECTORS[:1]},
        {"ids": [None], "vectors": VECTORS[:1]},
        {"ids": [1000, "a"], "vectors": VECTORS[:2]},
        {"ids": ["a"], "vectors": VECTORS[:1]},
        {"ids": [2**63], "vectors": VECTORS[:1]},
        {"ids": 5, "vectors": VECTORS[:1]},
        {"ids": [1000], "vectors": [VECTORS[0].astype(np.int32)]},
        {"ids": [1000], "texts": ["no encoder"]},
        {"ids": [1000], "lengths": [3]},
    ],
    ids=str,
)
def test_bad_additions(index: Index, arguments: dict[str, Any]) -> None:
    with pytest.raises(LatewoodError) as caught:
        index.add(**arguments)
    assert not isinstance(caught.value, InternalError)
    assert unchanged(index)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def damaged_use(folder: Path, wanted: list[Any]) -> str:
    """Open and use a damaged index: a typed error, or the right answer. Tells which."""
    try:
        index = Index.open(folder)
        found = index.search(QUERY, 5)
        index.documents(index.ids())
        index.vectors(index.ids())
    except (CorruptIndexError, IndexNotFoundError, FormatVersionError):
        return "refused"
    assert found == wanted, "a wrong answer from a damaged file that nothing noticed"
    return "found by check" if index.check() else "harmless"


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two segments, a tombstone, texts and metadata."""
    path = tmp_path_factory.mktemp("healthy") / "index"
    index = Index.create(path, dim=32, train_after=0)
    names = [f"d{number}" for number in range(30)]
    index.add(names[:20], vectors=VECTORS[:20], texts=names[:20], metadata=[{"n": n} for n in range(20)])
    index.add(names[20:], vectors=VECTORS[20:])
    index.delete(["d3"])
    return path


@pytest.fixture
def damaged(healthy: Path, tmp_path: Path) -> tuple[Path, list[Any]]:
    wanted = Index.open(healthy).search(QUERY, 5)
    copy = tmp_path / "copy"
    shutil.copytree(healthy, copy)
    return copy, wanted


def test_flipped_bits(damaged: tuple[Path, list[Any]]) -> None:
    """A flipped bit is refused, or changes no answer: then `check` finds it, but in the note of the newest commit."""
    folder, wanted = damaged
    outcomes: dict[str, int] = {}
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        step = max(len(whole) // 40, 1)
        for position in range(0, len(whole), step):
            changed = bytearray(whole)
            changed[position] ^= 1 << (position % 8)
            path.write_bytes(changed)
            outcome = damaged_use(folder, wanted)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        path.write_bytes(whole)
    assert damaged_use(folder, wanted) == "harmless"
    assert outcomes.get("refused", 0) + outcomes.get("found by check", 0) > outcomes.get("harmless", 0)


def test_truncated_files(damaged: tuple[Path, list[Any]]) -> None:
    folder, wanted = damaged
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for length in {0, 1, 7, 8, 63, 64, 65, len(whole) // 3, len(whole) // 2, len(whole) - 1}:
            if not 0 <= length < len(whole):
                continue
            path.write_bytes(whole[:length])
            damaged_use(folder, wanted)
        path.write_bytes(whole)
    assert damaged_use(folder, wanted) == "harmless"


def test_missing_files(damaged: tuple[Path, list[Any]]) -> None:
    folder, wanted = damaged
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        path.unlink()
        with suppress(StorageError):
            damaged_use(folder, wanted)
        path.write_bytes(whole)
    assert damaged_use(folder, wanted) == "harmless"


def test_swapped_files(damaged: tuple[Path, list[Any]]) -> None:
    """Two whole, valid files under each other's names."""
    folder, wanted = damaged
    files = sorted(path for path in folder.iterdir() if path.stat().st_size)
    for one, other in pairwise(files):
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second)
        other.write_bytes(first)
        damaged_use(folder, wanted)
        one.write_bytes(first)
        other.write_bytes(second)


def test_a_folder_of_other_things(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(IndexNotFoundError):
        Index.open(tmp_path)
    with pytest.raises(LatewoodError):
        Index.open(tmp_path / "notes.txt")
    with pytest.raises(LatewoodError):
        Index.create(tmp_path / "notes.txt", dim=8)


def test_refusals_of_the_system_are_sentences(tmp_path: Path) -> None:
    """With the path, the cause and a remedy, and with the attributes of an `OSError`; also after pickling."""
    blocked = tmp_path / "notes.txt"
    blocked.write_text("hello")
    cases: list[tuple[type[OSError], int, Path, Any]] = [
        (StorageError, errno.ENOTDIR, blocked / "index", lambda: Index.create(blocked / "index", dim=8)),
        (IndexNotFoundError, errno.ENOENT, tmp_path / "none", lambda: Index.open(tmp_path / "none")),
        (errors.IndexExistsError, errno.EEXIST, tmp_path / "two", lambda: Index.create(tmp_path / "two", dim=8)),
    ]
    Index.create(tmp_path / "two", dim=8)
    for kind, number, path, call in cases:
        with pytest.raises(kind) as caught:
            call()
        for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
            assert error.errno == number
            assert error.filename == str(path)
            assert str(error) == error.strerror
            assert re.fullmatch(rf"(cannot create the folder )?{path}\W.*; \w.*|{path} .*[;,] .*", str(error)), str(
                error
            )


def test_remedies_fit_the_call(index: Index) -> None:
    """What a message advises to pass can be passed."""
    for call in (index.documents, index.vectors, lambda ids: index.explain(QUERY, ids[0])):
        with pytest.raises(errors.UnknownIdError, match="4040") as caught:
            call([4040])
        assert "missing=" not in str(caught.value)
    for call_with_choice in (index.delete, lambda ids: index.rerank(QUERY, ids)):
        with pytest.raises(errors.UnknownIdError, match=r'4040.*missing="skip"'):
            call_with_choice([4040])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda index: index.search(QUERY, filters={}), r"^Index.search\(\) got .*'filters'; did you mean 'filter'\?$"),
        (lambda index: index.search(QUERY, top_k=3), r"^Index.search\(\) got .*'top_k'; it takes query, k, ids,"),
        (lambda index: index.rerank(QUERY, [1], 3.0, missng="skip"), r"^Index.rerank\(\) got .*did you mean 'missing'"),
        (lambda index: index.add([1], vector=VECTORS[:1]), r"^Index.add\(\) got .*did you mean 'vectors'\?$"),
        (lambda index: index.writer().upsert([1], a=0), r"^Writer.upsert\(\) got .*'a'; it takes ids, texts, vectors,"),
    ],
)
def test_a_keyword_that_nobody_has_names_the_one_that_is_meant(
    index: Index, call: Callable[[Index], Any], words: str
) -> None:
    with pytest.raises(TypeError, match=words) as caught:
        call(index)
    assert caught.value.__context__ is None


def test_an_index_is_made_by_create_and_open_alone(index: Index) -> None:
    made: Any = Index
    for arguments in ((index.path,), (None,), (index,)):
        with pytest.raises(InvalidInputError, match=r"use Index.open\(path\), or Index.create\(path\)"):
            made(*arguments)


@pytest.mark.parametrize("queries", [["one"], ["one", "two"], np.array(["one"])])
def test_a_list_of_texts_is_no_query(index: Index, queries: Any) -> None:
    with pytest.raises(InvalidInputError, match="a list of texts is given where one text is expected"):
        index.search(queries)


def test_queries_of_any_length_and_hits_without_end(index: Index) -> None:
    long = np.tile(QUERY, (4096 // len(QUERY) + 1, 1))
    assert len(index.search(long[:4096], 3)) == 3
    for call in (index.search, lambda query: index.rerank(query, [1]), lambda query: index.explain(query, 1)):
        with pytest.raises(InvalidInputError, match=r"query 0 has 4097 token vectors, and at most 4096.*pool.*split"):
            call(long[:4097])
    with pytest.raises(InvalidInputError, match="query 1 has"):
        index.search_batch([QUERY, np.tile(QUERY, (20_000 // len(QUERY), 1))])
    for gather in ("exact", "flood", "postings"):
        everything = index.search(QUERY, len(VECTORS), gather=gather, probes=10**12)
        for k in (10**12, 2**63 - 1):
            assert index.search(QUERY, k, gather=gather, probes=k, max_scored=k) == everything
            assert index.search_batch([QUERY] * 2, k, gather=gather, probes=k) == [everything] * 2
    reranked = index.rerank(QUERY, [1, 2, 3], [3.0, 2.0, 1.0])
    assert index.rerank(QUERY, [1, 2, 3], [3.0, 2.0, 1.0], k=2**63 - 1, alpha=0.5, beta=2**63 - 1) == reranked


# ── other processes, other users, full disks ─────────────────────────────────────────────────────────────────────────

HOLD = """
import sys
from latewood import Index
writer = Index.open(sys.argv[1]).writer()
print("ready", flush=True)
sys.stdin.readline()
"""


def test_a_second_writer(index: Index) -> None:
    with index.writer() as writer:
        with pytest.raises(IndexLockedError, match="writer"):
            index.writer()
        with pytest.raises(IndexLockedError):
            Index.open(index.path).writer()
        with pytest.raises(IndexLockedError):
            index.compact()
        writer.delete([0])
    assert 0 not in index
    index.writer().close()


def test_a_second_writer_in_another_process(index: Index) -> None:
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, index.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(IndexLockedError):
            index.writer()
        assert index.search(QUERY)
        holder.kill()
    # The lock is gone with the process.
    assert index.delete([0]) == 1


READ_ONLY = """
import json, os, sys
from latewood import Index
from latewood.errors import StorageError
path, query = sys.argv[1], [[1.0] * 32]
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
index = Index.open(path)
found = len(index.search(query, 3))
try:
    index.delete([0])
except StorageError as error:
    print(json.dumps([found, str(error)]))
"""


def test_a_read_only_folder(index: Index, tmp_path: Path) -> None:
    """Run as an ordinary user, since root may write anywhere: searching works, writing says what is wrong."""
    folder = Path(index.path)
    for path in [*folder.iterdir(), folder, *folder.parents]:
        if path.stat().st_uid == os.geteuid() and path not in tmp_path.parents[2:]:
            path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o555 | (0o555 if path.is_dir() else 0o444))
    try:
        found, message = run_python(READ_ONLY, index.path)
    finally:
        for path in [folder, *folder.iterdir()]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        for path in folder.parents:
            if path.stat().st_uid == os.geteuid() and path not in tmp_path.parents[2:]:
                path.chmod(0o700)
    assert found == 3
    assert folder.name in message
    assert unchanged(index)


FULL_DISK = """
import json, resource, signal, sys
import numpy as np
from latewood import Index
from latewood.errors import LatewoodError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
index = Index.open(sys.argv[1])
limit = int(sys.argv[2])
generator = np.random.default_rng(0)
vectors = [generator.standard_normal((50, 32)).astype(np.float32) for _ in range(200)]
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
outcome = "committed"
try:
    index.add(range(1000, 1200), vectors=vectors)
except LatewoodError as error:
    outcome = type(error).__name__
print(json.dumps([outcome, len(index)]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize("limit", [0, 10, 100, 1000, 10_000, 50_000, 100_000])
def test_a_full_disk(index: Index, limit: int) -> None:
    """Files cannot grow beyond a limit, which the system reports as it reports a full disk."""
    outcome, documents = run_python(FULL_DISK, index.path, limit)
    assert outcome == "StorageError"
    assert documents == len(VECTORS)
    assert unchanged(index)
    # The next writer finds its way and leaves nothing of the failed one behind.
    index.refresh()
    index.add([1000], vectors=VECTORS[:1])
    assert len(Index.open(index.path)) == len(VECTORS) + 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing bounds the memory of a process")
def test_what_does_not_fit_into_memory_is_refused(tmp_path: Path) -> None:
    code = """
import json, resource, sys
import numpy as np
import latewood
index = latewood.Index.create(sys.argv[1], dim=8, codec="flat")
index.add([1], vectors=[np.ones((1000, 8), np.float32)])
many = np.ones((60_000, 1, 2), np.float32)
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
told = []
for call in (lambda: latewood.maxsim(many, many), lambda: index.vectors([1] * 200_000)):
    try:
        call()
    except latewood.errors.InvalidInputError as error:
        told.append(str(error))
print(json.dumps(told))
"""
    scores, vectors = run_python(code, tmp_path / "index")
    assert scores == "there is no memory for 3600000000 scores (13.4 GiB); ask for fewer at once"
    assert vectors == "there is no memory for 1600000000 components of token vectors (6.0 GiB); ask for fewer at once"
