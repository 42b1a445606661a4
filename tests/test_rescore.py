"""Kept vectors, and hits scored again on them: against MaxSim on the vectors rounded to float16."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import latewood
from latewood import Feedback, Index
from latewood.errors import CorruptIndexError, InvalidInputError
from reference import maxsim, ranking, sections
from strategies import Corpus, corpora, make_corpus
from support import build_index

KEPT: dict[str, Any] = {"keep_vectors": "float16"}


def halves(vectors: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [document.astype(np.float16) for document in vectors]


def best_first(scores: Any) -> list[tuple[int, float]]:
    """(ordinal, score) in the order of hits."""
    return [(at, float(scores[at])) for at in ranking(scores)]


def pairs(hits: Any) -> list[tuple[int, float]]:
    return [(hit.id, hit.score) for hit in hits]


@pytest.fixture(scope="module")
def kept(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """The documents of `corpus`, a field to group them by, and codes of one bit, so that scores differ much."""
    index = Index.create(tmp_path_factory.mktemp("kept") / "index", dim=corpus.dim, train_after=0, bits=1, **KEPT)
    count = len(corpus.documents)
    index.add(range(count), vectors=corpus.documents, metadata=[{"group": at // 3, "at": at} for at in range(count)])
    return index


@pytest.fixture(scope="module")
def scores(corpus: Corpus) -> np.ndarray:
    """MaxSim of each query with each document: float32 with float16 vectors, [queries, documents]."""
    return latewood.maxsim(corpus.queries, halves(corpus.documents))


# ── searches ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(corpora(), st.sampled_from([1, 2, 4, 8]), st.sampled_from(["residual", "flat"]), st.integers(1, 70))
def test_scores_are_those_of_the_vectors(corpus: Corpus, bits: int, codec: Any, k: int) -> None:
    """All of them to the bit, in their order; and all documents where all are asked for."""
    with TemporaryDirectory() as folder:
        index = build_index(Path(folder) / "index", corpus, bits=bits, codec=codec, **KEPT)
        for query, own in zip(corpus.queries, latewood.maxsim(corpus.queries, halves(corpus.documents)), strict=True):
            wanted = best_first(own)
            hits = pairs(index.search(query, k))
            assert len(hits) == min(k, len(wanted))
            assert set(hits) <= set(wanted)
            assert hits == sorted(hits, key=lambda hit: (-hit[1], hit[0]))
            assert pairs(index.search(query, len(wanted))) == wanted
            assert pairs(index.rerank(query, range(len(wanted)))) == wanted


@pytest.mark.parametrize("gather", ["exact", "flood", "postings"])
@pytest.mark.parametrize("k", [10, 100])
def test_what_the_codes_lose_is_found(kept: Index, corpus: Corpus, scores: np.ndarray, k: int, gather: Any) -> None:
    def recall(**options: Any) -> float:
        found = kept.search_arrays(corpus.queries, k, gather=gather, max_scored=400, **options)
        shares = [
            len(set(ranking(own)[:k]) & set(np.asarray(ids).tolist())) / k
            for own, (ids, _) in zip(scores, found, strict=True)
        ]
        return float(np.mean(shares))

    assert recall() >= 0.99
    assert recall(rescore="off") < 0.97


def test_few_are_scored_again(kept: Index, corpus: Corpus) -> None:
    stats = kept.search_arrays(corpus.queries, 10, gather="exact").stats
    assert 10 * len(corpus.queries) <= stats["rescored"] < stats["scored"] / 2
    assert stats["rescore_s"] > 0
    stats = kept.search_arrays(corpus.queries, 10, gather="exact", rescore="off").stats
    assert (stats["rescored"], stats["rescore_s"]) == (0, 0)


def test_weights(kept: Index, corpus: Corpus) -> None:
    query = corpus.queries[0]
    weights = np.linspace(0.0, 2.0, len(query), dtype=np.float32)
    wanted = [maxsim(query, document, weights) for document in halves(corpus.documents)]
    for hits in (kept.search(query, 400, weights=weights), kept.rerank(query, range(400), weights=weights)):
        assert [hit.id for hit in hits[:10]] == ranking(wanted)[:10]
        assert [hit.score for hit in hits] == pytest.approx([wanted[int(hit.id)] for hit in hits], rel=1e-5)
    ones = kept.search(query, 5, weights=np.ones(len(query)))
    assert ones == kept.search(query, 5)


def test_selection(kept: Index, corpus: Corpus, scores: np.ndarray) -> None:
    """Pages, thresholds and means are those of the new scores."""
    query, wanted = corpus.queries[1], best_first(scores[1])
    pages = [hit for offset in range(0, 40, 10) for hit in kept.search(query, 10, offset=offset)]
    assert [hit.id for hit in pages] == [at for at, _ in wanted[:40]]
    least = wanted[6][1]
    for hits in (kept.search(query, 20, min_score=least), kept.rerank(query, range(400), min_score=least)):
        assert pairs(hits) == [pair for pair in wanted if pair[1] >= least]
    mean = kept.search(query, 5, length_normalize=True)
    assert [hit.score for hit in mean] == [float(np.float32(score) / np.float32(len(query))) for _, score in wanted[:5]]


@pytest.mark.parametrize("k", [1, 7, 200])
def test_groups(kept: Index, corpus: Corpus, scores: np.ndarray, k: int) -> None:
    """A group's best by the new score may be another one than by its codes."""
    moved = 0
    for query, own in zip(corpus.queries, scores, strict=True):
        wanted: dict[int, tuple[int, float]] = {}
        for at, score in best_first(own):
            wanted.setdefault(at // 3, (at, score))
        assert pairs(kept.rerank(query, range(400), k=k, group_by="group")) == list(wanted.values())[:k]
        hits = kept.search(query, k, group_by="group", gather="exact")
        assert pairs(hits) == list(wanted.values())[:k]
        codes = kept.search(query, k, group_by="group", gather="exact", rescore="off")
        moved += [hit.id for hit in hits] != [hit.id for hit in codes]
    assert k == 1 or moved > 0


def test_filters_and_ids(kept: Index, corpus: Corpus, scores: np.ndarray) -> None:
    query = corpus.queries[2]
    allowed = [pair for pair in best_first(scores[2]) if pair[0] < 50]
    assert pairs(kept.search(query, 50, filter={"at": {"lt": 50}})) == allowed
    assert pairs(kept.search(query, 50, ids=range(50))) == allowed
    assert pairs(kept.rerank(query, range(400), filter={"at": {"lt": 50}})) == allowed


@pytest.mark.parametrize("gather", ["exact", "flood", "postings"])
def test_batches_and_threads(kept: Index, corpus: Corpus, gather: Any) -> None:
    single = [kept.search(query, 10, gather=gather, threads=1) for query in corpus.queries]
    for threads in (1, 2, 5):
        assert kept.search_batch(corpus.queries, 10, gather=gather, threads=threads) == single


@pytest.mark.parametrize("mode", ["ranker", "reranker"])
def test_feedback(kept: Index, corpus: Corpus, mode: Any) -> None:
    """The scores are those of the expanded query; what it was expanded by is as without a second score."""
    feedback = Feedback(mode=mode, documents=2)
    query = corpus.queries[3]
    for hits in (kept.search(query, 10, feedback=feedback), kept.search(query, 10, feedback=feedback, min_score=1.0)):
        assert len(hits) == 10
        for hit in hits:
            explanation = hit.explain()
            document = corpus.documents[int(hit.id)].astype(np.float16).astype(np.float32)
            np.testing.assert_allclose(explanation.matrix[: len(query)], query @ document.T, atol=1e-5)
            assert explanation.score == pytest.approx(hit.score, rel=1e-5)
    codes = kept.search(query, 10, feedback=feedback, rescore="off")
    assert len(codes[0].explain().matrix) == len(hits[0].explain().matrix)


# ── reranks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.permutations(range(60)), st.integers(1, 20), st.integers(1, 8), st.floats(0.0, 0.5))
def test_pruning_and_exit(
    kept: Index, corpus: Corpus, scores: np.ndarray, first: list[int], k: int, beta: int, alpha: float
) -> None:
    """They work as without it, on codes; the best of what they leave are found by the new scores."""
    query, given_scores = corpus.queries[0], np.linspace(1.0, 0.0, len(first))
    options: dict[str, Any] = {"scores": given_scores, "k": k, "alpha": alpha, "beta": beta}
    hits, codes = kept.rerank(query, first, **options), kept.rerank(query, first, rescore="off", **options)
    scored = int(codes.stats["scored"])
    assert hits.stats["scored"] == scored
    wanted = [pair for pair in best_first(scores[0]) if pair[0] in first[:scored]]
    assert set(pairs(hits)) <= set(wanted)
    assert len(hits) == min(k, scored)
    assert hits[0].score == wanted[0][1]


def test_documents_without_tokens(tmp_path: Path, corpus: Corpus) -> None:
    index = Index.create(tmp_path / "index", dim=corpus.dim, train_after=0, **KEPT)
    empty = np.empty((0, corpus.dim), dtype=np.float32)
    index.add(range(4), vectors=[empty, corpus.documents[0], empty, corpus.documents[1]])
    hits = index.rerank(corpus.queries[0], [2, 1, 0, 3])
    assert [hit.id for hit in hits][2:] == [0, 2]
    assert [hit.score for hit in hits][2:] == [-np.inf, -np.inf]
    assert len(index.search(corpus.queries[0])) == 2
    assert index.explain(corpus.queries[0], 0).matrix.shape == (len(corpus.queries[0]), 0)


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_explanations(kept: Index, corpus: Corpus) -> None:
    query = corpus.queries[0]
    weights = np.linspace(0.5, 1.5, len(query), dtype=np.float32)
    for hit in (*kept.search(query, 3, weights=weights), *kept.rerank(query, [5, 6], weights=weights)):
        document = corpus.documents[int(hit.id)].astype(np.float16).astype(np.float32)
        exact = hit.explain()
        np.testing.assert_allclose(exact.matrix, query @ document.T * weights[:, None], atol=1e-5)
        assert exact.score == pytest.approx(hit.score, rel=1e-6)
        np.testing.assert_array_equal(kept.explain(query, hit.id, weights=weights).matrix, exact.matrix)
        codes = kept.explain(query, hit.id, weights=weights, rescore="off")
        (coded,) = kept.rerank(query, [hit.id], weights=weights, rescore="off")
        np.testing.assert_array_equal(codes.matrix, coded.explain().matrix)
        assert codes.score == pytest.approx(coded.score, rel=1e-5)
        assert not np.allclose(codes.matrix, exact.matrix, atol=1e-3)


def test_the_plan_says_which(kept: Index, index: Index, corpus: Corpus) -> None:
    query = corpus.queries[0]
    for asked, told in ((None, "float16"), ("float16", "float16"), ("off", None)):
        options: Any = {"rescore": asked}
        assert kept.search(query, **options).plan.rescore == told
        assert kept.rerank(query, [1], **options).plan.rescore == told
        assert kept.search(query, feedback=Feedback(documents=1), **options).plan.rescore == told
    assert index.search(query).plan.rescore is None
    assert index.search(query, rescore="off") == index.search(query)
    assert kept.info()["keep_vectors"] == "float16"
    assert index.info()["keep_vectors"] is None


def test_an_index_of_codes_alone(index: Index, corpus: Corpus) -> None:
    query = corpus.queries[0]
    for ask in (
        lambda: index.search(query, rescore="float16"),
        lambda: index.rerank(query, [1], rescore="float16"),
        lambda: index.explain(query, 1, rescore="float16"),
        lambda: index.measure_recall([query], rescore="float16"),
    ):
        with pytest.raises(InvalidInputError, match='keep_vectors="float16"'):
            ask()


def test_before_the_first_document(tmp_path: Path, corpus: Corpus) -> None:
    index = Index.create(tmp_path / "index", dim=corpus.dim, **KEPT)
    assert index.search(corpus.queries[0], rescore="float16") == []


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────────────


def assert_keeps(index: Index, documents: dict[Any, np.ndarray]) -> None:
    assert index.check() == []
    assert len(index) == len(documents)
    for key, vectors in zip(documents, index.vectors(list(documents)), strict=True):
        np.testing.assert_array_equal(vectors, documents[key].astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("codec", ["residual", "flat"])
def test_through_an_index_s_life(tmp_path: Path, codec: Any, mmap: bool) -> None:
    """Whatever becomes of the codes, the vectors stay those that were given."""
    corpus = make_corpus(3, documents=60, queries=2)
    first, later, newer = corpus.documents[:20], corpus.documents[20:40], corpus.documents[40:]
    few = sum(map(len, first)) + 1
    path = tmp_path / "index"
    index = Index.create(path, dim=corpus.dim, codec=codec, train_after=few, mmap=mmap, **KEPT)
    documents: dict[Any, np.ndarray] = dict(enumerate(first))
    index.add(list(documents), vectors=first)
    assert_keeps(index, documents)
    # Centroids are trained, and all codes made anew.
    index.add(range(20, 40), vectors=later)
    documents |= {20 + at: vectors for at, vectors in enumerate(later)}
    assert_keeps(index, documents)
    index.upsert(range(10, 30), vectors=newer)
    documents |= {10 + at: vectors for at, vectors in enumerate(newer)}
    index.delete([0, 25, 39])
    for gone in (0, 25, 39):
        del documents[gone]
    assert_keeps(index, documents)
    before = index.search(corpus.queries[0], 60)
    index.compact()
    assert_keeps(index, documents)
    assert index.search(corpus.queries[0], 60) == before
    assert_keeps(Index.open(path, mmap=mmap), documents)
    assert_keeps(Index.recover(path, generation=None), documents)


def test_codes_are_made_anew_from_the_vectors(tmp_path: Path, corpus: Corpus) -> None:
    """The codes are those of an index that trained at once: nothing of the first ones is in them."""
    given_vectors = [vectors.astype(np.float32) for vectors in halves(corpus.documents)]
    few = sum(map(len, given_vectors[:100]))
    grown = Index.create(tmp_path / "grown", dim=corpus.dim, train_after=few + 1, **KEPT)
    grown.add(range(100), vectors=given_vectors[:100])
    grown.add(range(100, 400), vectors=given_vectors[100:])
    whole = Index.create(tmp_path / "whole", dim=corpus.dim, train_after=0, **KEPT)
    whole.add(range(400), vectors=given_vectors)
    for query in corpus.queries:
        assert grown.search(query, 50, rescore="off") == whole.search(query, 50, rescore="off")


def test_room(tmp_path: Path, corpus: Corpus) -> None:
    """Two bytes for each component, beside what the codes take, and none where nothing is kept."""
    kept = build_index(tmp_path / "kept", corpus, **KEPT).info()
    codes = build_index(tmp_path / "codes", corpus).info()
    assert kept["bytes_by_section"]["vectors"] == 2 * corpus.dim * kept["tokens"]
    assert kept["bytes_per_token"] - codes["bytes_per_token"] == pytest.approx(2 * corpus.dim, rel=0.01)
    assert "vectors" not in codes["bytes_by_section"]


def test_damage_is_told(tmp_path: Path, corpus: Corpus) -> None:
    """To whoever reads the vectors; who does not has an answer."""
    index = build_index(tmp_path / "index", corpus, **KEPT)
    codes = index.search(corpus.queries[0], rescore="off")
    (segment,) = (tmp_path / "index").glob("segment-*")
    content = bytearray(segment.read_bytes())
    content[content.index(sections(segment)[53])] ^= 1
    segment.write_bytes(content)
    index = Index.open(tmp_path / "index")
    assert index.search(corpus.queries[0], rescore="off") == codes
    with pytest.raises(CorruptIndexError, match="vectors"):
        index.vectors([0])
    with pytest.raises(CorruptIndexError, match="vectors"):
        index.search(corpus.queries[0], len(corpus.documents))
    assert any("vectors" in problem for problem in index.check())
    index.delete([7])
    with pytest.raises(CorruptIndexError, match="vectors"):
        index.compact()


@pytest.mark.parametrize("value", [65_505.0, -1e6])
def test_what_float16_has_not(tmp_path: Path, value: float) -> None:
    index = Index.create(tmp_path / "index", dim=4, **KEPT)
    vectors = np.ones((3, 4), dtype=np.float32)
    vectors[1, 2] = 65_504.0
    index.add(["largest"], vectors=[vectors])
    vectors[1, 2] = value
    with pytest.raises(InvalidInputError, match=r"document \"long\" .* dimension 2 of token 1.*±6\.5504e4; scale"):
        index.add(["long"], vectors=[vectors])
    assert index.ids() == ["largest"]
    assert index.vectors(["largest"])[0][1, 2] == 65_504.0


def test_other_words_are_refused(tmp_path: Path, index: Index, corpus: Corpus) -> None:
    options: Any = {"keep_vectors": "float8"}
    with pytest.raises(InvalidInputError, match="keep_vectors"):
        Index.create(tmp_path / "index", dim=4, **options)
    options = {"rescore": "float32"}
    with pytest.raises(InvalidInputError, match="rescore"):
        index.search(corpus.queries[0], **options)
