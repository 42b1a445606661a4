"""BM25 of an index's texts: the same as bm25s', whatever has happened to the index, and kept in a file."""

import json
import multiprocessing
import os
import pickle
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Bm25FirstStage, FirstStage, Index, LexicalFirstStage, TwoStage
from latewood.errors import InvalidInputError
from latewood.rerank.first_stages import words as module
from support import TEXTS, HashEncoder, run_python

bm25s = pytest.importorskip("bm25s")

VOCABULARY = [f"word{number}" for number in range(40)]
ENCODER = HashEncoder(16)


def sentence(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(VOCABULARY, size=rng.integers(1, 12)).tolist())


def same_as_bm25s(stage: LexicalFirstStage, texts: dict[Any, str], queries: Iterable[str]) -> None:
    oracle = Bm25FirstStage.from_texts(list(texts), list(texts.values()))
    for query in queries:
        expected = dict(zip(*oracle.search(query, len(texts)), strict=True))
        ids, scores = stage.search(query, 10**6)
        assert dict(zip(ids, scores, strict=True)) == pytest.approx(expected, rel=1e-5)
        assert list(scores) == sorted(scores, reverse=True)
        few, best = stage.search(query, 3)
        assert (list(few), list(best)) == (list(ids[:3]), list(scores[:3]))
        (column,) = stage.score_batch([query], [list(texts)])
        assert column.tolist() == pytest.approx([expected.get(key, 0.0) for key in texts], rel=1e-5)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is taken apart, queries too."""
    seen: list[str] = []
    call = module.Words.__call__

    def count(self: Any, texts: list[str]) -> Any:
        seen.extend(texts)
        return call(self, texts)

    monkeypatch.setattr(module.Words, "__call__", count)
    return seen


@pytest.mark.parametrize("integers", [False, True])
def test_an_index_s_life(tmp_path: Path, integers: bool) -> None:
    """Adds, upserts, deletes, metadata, compaction, other handles: always what bm25s makes of the same texts."""
    rng = np.random.default_rng(3)
    index = Index.create(tmp_path / "index", encoder=ENCODER)
    other = Index.open(tmp_path / "index", encoder=ENCODER)
    stage, elsewhere = LexicalFirstStage(index), LexicalFirstStage(other)
    assert stage.search("word1", 3) == ([], [])
    texts: dict[Any, str] = {}
    for step in range(30):
        keys: list[Any] = rng.choice(60, size=6, replace=False).tolist()
        if not integers:
            keys = [f"document {key}" for key in keys]
        kind = rng.integers(4) if texts else 0
        held = [key for key in keys if key in texts]
        if kind <= 1:
            new = {key: sentence(rng) for key in keys}
            index.upsert(list(new), texts=list(new.values()))
            texts |= new
        elif kind == 2 and held:
            index.delete(held)
            texts = {key: text for key, text in texts.items() if key not in held}
        elif held:
            index.update_metadata(held, {"step": step})
            index.compact()
        if texts:
            same_as_bm25s(stage, texts, [sentence(rng), "word1 word1 word2", "the of", ""])
    assert other.refresh()
    same_as_bm25s(elsewhere, texts, [sentence(rng)])
    same_as_bm25s(LexicalFirstStage(Index.open(tmp_path / "index")), texts, [sentence(rng)])
    assert index.check() == []


def test_words_that_are_in_no_text_any_more_are_forgotten(tmp_path: Path) -> None:
    """What is known stays as small as the texts are, however many others were there before."""
    index = Index.create(tmp_path / "index", dim=16)
    vectors = np.ones((20, 2, 16), np.float32)
    stage, sizes = LexicalFirstStage(index), []
    for commit in range(20):
        texts = {number: f"owl {' '.join(f'w{commit}x{number}x{n}' for n in range(9))}" for number in range(20)}
        index.upsert(list(texts), vectors=vectors, texts=list(texts.values()))
        same_as_bm25s(stage, texts, ["owl", f"w{commit}x3x4 w{commit}x3x5 owl", f"w{commit - 1}x3x4"])
        (file,) = tmp_path.glob("index/lexical-*")
        sizes.append(file.stat().st_size)
    assert max(sizes) < 3 * sizes[0]
    index.delete(range(20))
    assert stage.search("owl", 3) == ([], [])


def test_two_writers_elsewhere(text_index: Index) -> None:
    stage = LexicalFirstStage(text_index)
    Index.open(text_index.path, encoder=HashEncoder()).add(["new"], texts=["a walrus"])
    assert stage.search("walrus", 3)[0] == [], "the index has not moved yet"
    text_index.refresh()
    assert stage.search("walrus", 3)[0] == ["new"]
    old = Index.open(text_index.path, generation=text_index.generation - 1)
    assert LexicalFirstStage(old).search("walrus", 3)[0] == []


def test_documents_without_a_text(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", dim=16)
    vectors = [np.ones((2, 16), np.float32)] * 3
    index.add([1, 2, 3], vectors=vectors, texts=["a fox", None, ""])
    stage = LexicalFirstStage(index)
    assert stage.search("fox", 3)[0] == [1]
    (scores,) = stage.score_batch(["fox"], [[3, 2, 1, 99]])
    assert scores[0] == 0.0
    assert np.isnan(scores[[1, 3]]).all()
    assert scores[2] > 0
    same_as_bm25s(stage, {1: "a fox", 3: ""}, ["fox", "dog"])
    none = Index.create(tmp_path / "none", dim=16)
    LexicalFirstStage(none)
    none.add([1], vectors=vectors[:1])
    with pytest.raises(InvalidInputError, match=r"no document of Index.*texts="):
        LexicalFirstStage(none)


def test_filters(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    index = Index.create(tmp_path / "index", encoder=ENCODER)
    index.add(range(50), texts=[sentence(rng) for _ in range(50)], metadata=[{"n": n % 5} for n in range(50)])
    stage = LexicalFirstStage(index)
    queries = [sentence(rng) for _ in range(6)]
    filters = [{"n": 1}, None, {"n": {"gte": 3}}, {"n": 9}, {}, {"not": {"n": 0}}]
    batch = stage.search_batch(queries, 4, filter=filters)
    for query, own, found in zip(queries, filters, batch, strict=True):
        allowed = set(np.asarray(index.ids(filter=own)).tolist())
        ids, scores = stage.search(query, 50)
        expected = [(key, score) for key, score in zip(ids, scores, strict=True) if key in allowed][:4]
        assert list(zip(*found, strict=True)) == expected
        assert stage.search(query, 4, filter=own) == found
    index.update_metadata([0, 1, 2], {"n": 7})
    assert set(stage.search(" ".join(VOCABULARY), 9, filter={"n": 7})[0]) == {0, 1, 2}
    bad: list[Any] = ["x", {"n": {"near": 1}}, [{"n": 1}, {"n": 2}], 5]
    for own in bad:
        with pytest.raises(InvalidInputError):
            stage.search_batch(queries, 4, filter=own)


def test_words_are_kept_beside_the_index(text_index: Index, counted: list[str]) -> None:
    stage = LexicalFirstStage(text_index)
    expected = stage.search("capital of germany", 5)
    assert set(TEXTS.values()) <= set(counted)
    (file,) = Path(text_index.path).glob("lexical-*")
    counted.clear()
    again = LexicalFirstStage(Index.open(text_index.path))
    assert again.search("capital of germany", 5) == expected
    assert not set(counted) & set(TEXTS.values()), "nothing is taken apart twice"
    # A text that came since is taken apart by itself, and a few of them do not write the file again.
    before = file.read_bytes()
    text_index.add(range_of := [f"n{n}" for n in range(60)], texts=[f"walrus {n}" for n in range(60)])
    assert len(stage.search("walrus", 100)[0]) == len(range_of)
    assert file.read_bytes() != before
    before = file.read_bytes()
    text_index.upsert(["n3"], texts=["one walrus more"])
    assert stage.search("one", 3)[0] == ["n3"]
    assert file.read_bytes() == before
    counted.clear()
    assert LexicalFirstStage(text_index).search("one", 3)[0] == ["n3"]
    assert [text for text in counted if "walrus" in text] == ["one walrus more"]
    assert text_index.check() == []
    text_index.compact()
    assert file.exists()
    assert text_index.check() == []


def test_words_of_texts_that_are_gone_leave_the_file(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", encoder=ENCODER)
    index.add(range(40), texts=[f"walrus {number}" for number in range(39)] + ["secret heron, no walrus"])

    def kept() -> set[str]:
        stage = LexicalFirstStage(index)
        assert len(stage.search("walrus", 40)[0]) == len(index)
        (file,) = Path(index.path).glob("lexical-*")
        with np.load(file) as arrays:
            return set(json.loads(arrays["vocabulary"].tobytes()))

    assert kept() >= {"secret", "heron", "walrus"}
    index.delete(range(30, 39))
    index.upsert([39], texts=["another walrus"])
    assert kept().isdisjoint({"secret", "heron", "35"})
    assert kept() >= {"another", "walrus", "12"}
    index = Index.create(index.path, encoder=ENCODER, overwrite=True)
    index.add([1], texts=["one walrus more"])
    assert kept() == {"one", "walrus", "more"}


def test_a_copy_takes_its_words_along(text_index: Index, tmp_path: Path, counted: list[str]) -> None:
    LexicalFirstStage(text_index)
    copied = shutil.copytree(text_index.path, tmp_path / "copy")
    counted.clear()
    assert LexicalFirstStage(Index.open(copied)).search("fox", 3)[0] == ["fox"]
    assert not set(counted) & set(TEXTS.values())
    # Another index in the same folder has other texts.
    other = Index.create(copied, encoder=HashEncoder(), overwrite=True)
    other.add(["x"], texts=["an owl and a fox"])
    assert LexicalFirstStage(other).search("fox", 3)[0] == ["x"]
    assert other.check() == []


def test_a_file_that_cannot_be_used_is_made_anew(text_index: Index) -> None:
    expected = LexicalFirstStage(text_index).search("capital of germany", 5)
    (file,) = Path(text_index.path).glob("lexical-*")
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", b"PK", whole[:-30], whole[: len(whole) // 2], b"\x80\x04N.", os.urandom(500)]
    for _ in range(200):
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        damaged.append(bytes(changed))
    for content in damaged:
        file.write_bytes(content)
        assert LexicalFirstStage(text_index).search("capital of germany", 5) == expected
    with np.load(file) as arrays:
        good = dict(arrays)
    changes: list[dict[str, Any]] = [
        {"columns": good["columns"] + 1000},
        {"columns": -good["columns"] - 1},
        {"offsets": good["offsets"][::-1]},
        {"offsets": good["offsets"] + 1},
        {"offsets": np.zeros(0, np.int64)},
        {"counts": good["counts"] * 0},
        {"counts": good["counts"].astype(np.float64)},
        {"digests": good["digests"][::-1]},
        {"digests": good["digests"].reshape(1, -1)},
        {"vocabulary": np.frombuffer(b"[1, 2]", np.uint8)},
        {"vocabulary": np.frombuffer(b"[" * 10**5, np.uint8)},
        {"vocabulary": np.frombuffer(b'{"a": 1}', np.uint8)},
        {"settings": np.frombuffer(b"{}", np.uint8)},
        {"digests": np.array([{}], dtype=object)},
    ]
    for change in changes:
        with file.open("wb") as out:
            np.savez(out, **{**good, **change})
        assert LexicalFirstStage(text_index).search("capital of germany", 5) == expected, change
    file.unlink()
    file.mkdir()
    assert LexicalFirstStage(text_index).search("capital of germany", 5) == expected
    assert not list(Path(text_index.path).glob("*.new")) + list(Path(text_index.path).glob(".*"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_its_file(text_index: Index) -> None:
    """Nobody waits for what will never come."""
    expected = LexicalFirstStage(text_index).search("capital of germany", 5)
    (file,) = Path(text_index.path).glob("lexical-*")
    file.unlink()
    os.mkfifo(file)
    code = """
import json, sys
import latewood
print(json.dumps(latewood.LexicalFirstStage(latewood.Index.open(sys.argv[1])).search("capital of germany", 5)))
"""
    found = run_python(code, text_index.path, timeout=60)
    assert found == [list(part) for part in expected]
    assert file.is_file(), "it was replaced"


def test_a_folder_that_cannot_be_written_to(text_index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        message = "read-only file system"
        raise OSError(message)

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    assert LexicalFirstStage(text_index).search("fox", 3)[0] == ["fox"]
    assert not list(Path(text_index.path).glob("lexical-*"))


def test_other_words_have_a_file_of_their_own(text_index: Index) -> None:
    folder = Path(text_index.path)
    assert LexicalFirstStage(text_index).search("the", 3)[0] == []
    every = LexicalFirstStage(text_index, stopwords=None)
    assert every.search("the", 5)[0]
    german = LexicalFirstStage(text_index, stopwords="german")
    assert german.search("the", 5) == every.search("the", 5)
    assert len(list(folder.glob("lexical-*"))) == 3
    # Nobody could tell whether these are the same next time.
    stems = LexicalFirstStage(text_index, stemmer=lambda words: [word[:4] for word in words])
    assert stems.search("jumping", 3)[0] == ["fox"]
    letters = LexicalFirstStage(text_index, tokenize=lambda texts: [text.split("a") for text in texts])
    assert letters.search("paris", 3)[0] == ["paris"]
    assert len(list(folder.glob("lexical-*"))) == 3
    again = pickle.loads(pickle.dumps(german))
    assert again.search("the capital", 5) == german.search("the capital", 5)
    assert isinstance(again, FirstStage)
    assert repr(text_index) in repr(again)


def test_scripts_without_spaces(tmp_path: Path) -> None:
    texts = {
        "zh": "年轮是树木的生长记录。",
        "ja": "晩材は年輪の中で密度が高い部分です。",
        "th": "วงปีของต้นไม้",
        "lo": "ວົງປີຂອງຕົ້ນໄມ້",
        "km": "រង្វង់ឆ្នាំរបស់ដើមឈើ។ ទឹក",
        "my": "သစ်ပင်၏ နှစ်ကွင်း",
        "en": "Latewood is dense. 年",
    }
    index = Index.create(tmp_path / "index", encoder=ENCODER)
    index.add(list(texts), texts=list(texts.values()))
    stage = LexicalFirstStage(index)
    assert stage.search("树木", 5)[0] == ["zh"]
    assert stage.search("年輪", 5)[0] == ["ja"]
    assert stage.search("ต้นไม้", 5)[0] == ["th"]
    assert stage.search("ไม้", 5)[0] == ["th"]
    assert stage.search("ຕົ້ນ", 5)[0] == ["lo"]
    assert stage.search("ទឹក", 5)[0] == ["km"]
    assert stage.search("သစ်ပင်", 5)[0] == ["my"]
    assert stage.search("dense latewood", 5)[0] == ["en"]


def test_vowels_that_are_marks_belong_to_their_words(tmp_path: Path) -> None:
    texts = {"hi": "नदी का पानी।", "hi, too": "नदी में दिन", "ta": "ஆற்றின் நீர்"}
    index = Index.create(tmp_path / "index", encoder=ENCODER)
    index.add(list(texts), texts=list(texts.values()))
    stage = LexicalFirstStage(index)
    assert stage.search("पानी", 5)[0] == ["hi"]
    assert stage.search("दिन", 5)[0] == ["hi, too"]
    assert set(stage.search("नदी", 5)[0]) == {"hi", "hi, too"}
    assert stage.search("நீர்", 5)[0] == ["ta"]


def test_what_is_refused(text_index: Index) -> None:
    index: Any
    for index in (None, text_index.path, Index):
        with pytest.raises(InvalidInputError, match="index is a"):
            LexicalFirstStage(index)
    bad: list[dict[str, Any]] = [
        {"stopwords": "klingon"},
        {"stopwords": 5},
        {"token_pattern": "("},
        {"nonsense": 1},
        {"stemmer": 5},
        {"tokenize": "words"},
        {"tokenize": lambda texts: texts},
        {"tokenize": lambda texts: None},
        {"tokenize": lambda texts: [[1, 2]]},
        {"tokenize": lambda texts: [], "lower": True},
        {"tokenize": lambda texts: [["a"], ["b"]]},
    ]
    for options in bad:
        with pytest.raises(InvalidInputError, match=r"tokenize"):
            LexicalFirstStage(text_index, **options)
    stage = LexicalFirstStage(text_index)
    calls: list[Any] = [
        lambda: stage.search("x", 0),
        lambda: stage.search(None, 1),  # type: ignore[arg-type]
        lambda: stage.search_batch("x", 1),
        lambda: stage.score_batch(["x"], [["fox"], ["fox"]]),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError):
            call()


def test_without_the_package(text_index: Index) -> None:
    code = """
import json, sys
sys.modules["bm25s"] = None
import latewood
try:
    latewood.Hybrid(latewood.Index.open(sys.argv[1]))
except latewood.errors.MissingDependencyError as error:
    print(json.dumps(str(error)))
"""
    assert "pip install 'latewood[hybrid]'" in run_python(code, text_index.path)


def test_threads_search_while_documents_come(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    index = Index.create(tmp_path / "index", encoder=ENCODER)
    index.add(range(20), texts=[sentence(rng) for _ in range(20)])
    stage = LexicalFirstStage(index)
    problems: list[BaseException] = []
    ended = threading.Event()

    def search() -> None:
        own = np.random.default_rng(threading.get_ident())
        try:
            while not ended.is_set():
                ids, scores = stage.search(sentence(own), 10)
                assert len(ids) == len(scores)
                stage.score_batch(["word1"], [ids])
        except BaseException as error:  # noqa: BLE001  told below
            problems.append(error)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    texts = {}
    for step in range(15):
        texts[step] = sentence(rng)
        index.upsert([step], texts=[texts[step]])
        if step % 4 == 3:
            index.delete([step])
    ended.set()
    for thread in threads:
        thread.join()
    assert problems == []
    held = {one.id: one.text or "" for one in index.documents(index.ids())}
    same_as_bm25s(stage, held, [sentence(rng) for _ in range(3)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_finds_no_lock_held(text_index: Index) -> None:
    stage = LexicalFirstStage(text_index)
    with stage._lock[1]:
        text_index.add(["new"], texts=["a walrus"])
        context = multiprocessing.get_context("fork")
        results = context.SimpleQueue()
        child = context.Process(target=lambda: results.put(stage.search("walrus", 3)[0]))
        child.start()
        child.join(30)
        assert child.exitcode == 0
        assert results.get() == ["new"]


def test_an_engine_of_an_index_alone(text_index: Index) -> None:
    engine = TwoStage.from_index(text_index)
    hits = engine.search("capital of germany")
    assert {hit.id for hit in hits} == {"berlin", "paris"}
    assert hits == text_index.rerank("capital of germany", ["berlin", "paris"])
    text_index.add(["rome"], texts=["rome is the capital of italy"])
    assert {hit.id for hit in engine.search("capital")} == {"berlin", "paris", "rome"}
    assert engine.search("capital", filter={"lang": "none"}).stats["found"] == 0
    fused = TwoStage.from_index(text_index, fusion=0.7, depth=2).search("capital of germany", 2)
    assert len(fused) == 2
    assert set(fused[0].stage_scores or {}) == {"first_stage", "maxsim"}
    with pytest.raises(InvalidInputError, match="depth"):
        TwoStage.from_index(text_index, depth=0)
