"""First stages, and what the second makes of their candidates."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from latewood import (
    Bm25FirstStage,
    CallableFirstStage,
    FirstStage,
    Hit,
    Index,
    SeismicFirstStage,
    SparseEncoderFirstStage,
    TwoStage,
    reciprocal_rank_fusion,
    weighted_fusion,
)
from latewood.errors import EncoderRequiredError, InvalidInputError, UnknownIdError
from latewood.rerank.fusion import normalise, ranks
from support import TEXTS, HashEncoder


def everything(query: str, k: int) -> dict[str, float]:
    """Find all texts, the first the best."""
    del query
    return {key: float(len(TEXTS) - position) for position, key in enumerate(TEXTS)}


def test_callables_in_every_form() -> None:
    wanted = (["a", "b"], [2.0, 1.0])
    for found in ({"b": 1.0, "a": 2.0, "c": 0.5}, [("b", 1.0), ("a", 2.0)], (["a", "b"], np.array([2.0, 1.0]))):
        stage = CallableFirstStage(lambda query, k, found=found: found)  # type: ignore[misc]
        assert isinstance(stage, FirstStage)
        assert stage.search("x", 2) == wanted
        assert stage.search_batch(["x", "y"], 2) == [wanted, wanted]


def test_two_stages(text_index: Index) -> None:
    engine = TwoStage(everything, text_index, depth=5)
    hits = engine.search("capital of germany", k=2)
    assert [hit.id for hit in hits] == [hit.id for hit in text_index.search("capital of germany", 2)]
    assert hits[0].text == TEXTS["berlin"]
    batch = engine.search_batch(["capital of germany", "lazy dog"], k=2)
    assert batch[0] == hits
    assert batch[1][0].id == "fox"
    vectors = HashEncoder().encode_query(["lazy dog"])[0]
    assert engine.search("ignored", k=2, query_vectors=vectors) == batch[1]


def test_only_candidates_are_returned(text_index: Index) -> None:
    engine = TwoStage(lambda query, k: {"paris": 1.0, "fox": 0.5}, text_index)
    assert {hit.id for hit in engine.search("capital of germany")} == {"paris", "fox"}
    assert TwoStage(lambda query, k: {}, text_index).search("anything") == []


def test_pruning_and_exit_reach_the_index(text_index: Index) -> None:
    engine = TwoStage(lambda query, k: {"fox": 10.0, "berlin": 1.0}, text_index, alpha=0.1)
    assert [hit.id for hit in engine.search("capital of germany", k=1)] == ["fox"]
    engine = TwoStage(everything, text_index, beta=1)
    assert engine.search("quick fox", k=1)[0].id == "fox"


def test_candidates_that_the_index_lacks(text_index: Index) -> None:
    def stage(query: str, k: int) -> dict[str, float]:
        return {"gone": 2.0, "fox": 1.0}

    assert [hit.id for hit in TwoStage(stage, text_index, missing="skip").search("fox")] == ["fox"]
    with pytest.raises(UnknownIdError, match="gone"):
        TwoStage(stage, text_index).search("fox")


class Asked:
    """A first stage that must not be asked."""

    def search(self, query: str, k: int) -> Any:
        raise AssertionError

    def search_batch(self, queries: Sequence[str], k: int) -> Any:
        raise AssertionError


NAN, INF = float("nan"), float("inf")
BAD_NUMBERS: list[Any] = [0, -1, 1.5, "3", True, NAN, [1], b"1"]
BAD_ALPHAS: list[Any] = [-0.1, NAN, INF, "0.1", True, [0.1], 10**400, 1j]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *(({"depth": value}, "depth") for value in [*BAD_NUMBERS, None]),
        *(({"beta": value}, "beta") for value in BAD_NUMBERS),
        *(({"alpha": value}, "alpha") for value in BAD_ALPHAS),
        *(({"fusion": value}, "fusion") for value in [*BAD_ALPHAS, 2, "sum", "", b"rrf"]),
        *(({"missing": value}, "missing") for value in ["x", None, 1, ["skip"]]),
        *(({"prune_to": value}, "prune_to") for value in BAD_NUMBERS),
    ],
)
def test_bad_options(text_index: Index, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        TwoStage(everything, text_index, **options)


def test_what_is_no_stage_and_no_index(text_index: Index) -> None:
    bad: list[Any] = [object(), None, "bm25", CallableFirstStage, dict, [everything]]
    for stage in bad:
        with pytest.raises(InvalidInputError, match="no first stage"):
            TwoStage(stage, text_index)
    for index in (None, text_index.path, Index):
        with pytest.raises(InvalidInputError, match="index is a"):
            TwoStage(everything, index)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="function"):
        CallableFirstStage(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "options", "words"),
    [
        *(("search", {"query": "x", "k": value}, "k must") for value in [*BAD_NUMBERS, None]),
        *(("search", {"query": "x", "threads": value}, "threads") for value in BAD_NUMBERS),
        *(("search", {"query": value}, "query is a") for value in [None, 3, b"x", ["x"], np.ones((2, 48))]),
        *(
            ("search_batch", {"queries": value}, "queries")
            for value in [None, "x", b"x", 3, ["x", 3], {"x"}, {"a": "x"}]
        ),
        (
            "search_batch",
            {"queries": ["x"], "query_vectors": [np.ones((1, 48), np.float32)] * 2},
            "vectors of 2 queries",
        ),
        ("search_batch", {"queries": ["x"], "query_vectors": [np.ones((1, 7), np.float32)]}, "dimensions"),
        ("search", {"query": "x", "query_vectors": "x"}, "vectors"),
        ("search", {"query": "x", "with_documents": 1}, "with_documents"),
        ("search", {"query": "x", "filter": {"a": {"near": 1}}}, "near"),
        ("search_batch", {"queries": ["x"], "filter": [None, None]}, "2 filters for 1 queries"),
    ],
)
def test_bad_calls(text_index: Index, call: str, options: dict[str, Any], words: str) -> None:
    """Refused before the first stage does any work."""
    with pytest.raises(InvalidInputError, match=words):
        getattr(TwoStage(Asked(), text_index), call)(**options)


def test_an_index_without_an_encoder_is_told_before_the_first_stage(text_index: Index) -> None:
    with pytest.raises(EncoderRequiredError):
        TwoStage(Asked(), Index.open(text_index.path)).search("x")
    assert TwoStage(Asked(), text_index).search_batch([]) == []


def test_ids_alone(text_index: Index) -> None:
    """An id of two characters is an id."""
    text_index.add(["x1", "x"], texts=["quick dog", "capital"])
    for found in (["x1"], ("x1", "fox"), ["x1", "fox", "x"], np.array(["x1", "x"])):
        hits = TwoStage(lambda query, k, found=found: found, text_index).search("capital")  # type: ignore[misc]
        assert {hit.id for hit in hits} == set(found)
        assert hits == text_index.rerank("capital", list(found))


def test_hits_of_another_search(text_index: Index) -> None:
    wanted = text_index.search("capital of germany", 3)
    assert TwoStage(text_index, text_index, depth=3).search("capital of germany", 3) == wanted
    assert TwoStage(text_index.search, text_index).search("capital of germany", 3) == wanted

    class Arrays:
        def search(self, query: str, k: int) -> Any:
            return self.search_batch([query], k)[0]

        def search_batch(self, queries: Any, k: int) -> Any:
            return text_index.search_arrays(queries, k)

    queries = ["capital of germany", "lazy dog"]
    assert TwoStage(Arrays(), text_index).search_batch(queries, 3) == text_index.search_batch(queries, 3)


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ([("paris", 2.0), ("fox", 1.5), ("paris", 1.0)], ["paris", "fox"]),
        ([("paris", 1.0), ("fox", 1.5), ("paris", 2.0)], ["paris", "fox"]),
        (["fox", "paris", "fox"], ["fox", "paris"]),
    ],
)
def test_an_id_given_twice_counts_once(text_index: Index, found: Any, kept: list[str]) -> None:
    """The best scored of several, or the first of ids alone; the batch goes on."""
    hits = TwoStage(lambda query, k: found, text_index, fusion="rrf").search_batch(["capital", "dog"])
    assert [sorted(hit.id for hit in own) for own in hits] == [sorted(kept)] * 2
    first_only = [hit.id for hit in hits[0]]
    once = TwoStage(lambda query, k: kept, text_index, fusion="rrf").search("capital")
    assert first_only == [hit.id for hit in once]


def test_an_integer_id_given_twice(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", encoder=HashEncoder())
    index.add(range(5), texts=list(TEXTS.values()))
    engine = TwoStage(lambda query, k: np.array([3, 0, 3]), index)
    assert [hit.id for hit in engine.search("capital of germany")] == [3, 0]


def test_errors_name_stage_and_query(text_index: Index) -> None:
    def picky(query: str, k: int) -> Any:
        return None if query == "lazy dog" else ["fox"]

    with pytest.raises(InvalidInputError, match=r"picky.*'lazy dog'.*None"):
        TwoStage(picky, text_index).search_batch(["fox", "lazy dog"])

    class Stage:
        result: Any = None

        def search(self, query: str, k: int) -> Any: ...

        def search_batch(self, queries: Any, k: int) -> Any:
            return self.result

    stage = Stage()
    bad: list[Any] = [None, "ab", 3, {"a": ["fox"], "b": ["fox"]}, {("fox",), ("paris",)}, [["fox"]], [["fox"]] * 3, []]
    for result in bad:
        stage.result = result
        with pytest.raises(InvalidInputError, match=r"Stage.*2 queries"):
            TwoStage(stage, text_index).search_batch(["a", "b"])
    worse: list[Any] = [
        None,
        "ab",
        [("fox", NAN)],
        [("fox", 1.0), "paris"],
        (["fox"], [1.0, 2.0]),
        5,
        [1.5],
        ["fox", 1],
    ]
    for result in worse:
        stage.result = [["fox"], result]
        with pytest.raises(InvalidInputError, match="Stage for query 1 \\('owls'\\)"):
            TwoStage(stage, text_index).search_batch(["a", "owls"])
    stage.result = [["fox"], {"fox": 1.0}]
    with pytest.raises(InvalidInputError, match="Stage: some candidate lists have scores and some do not"):
        TwoStage(stage, text_index).search_batch(["a", "b"])
    stage.result = iter([iter(["fox"]), []])
    assert [len(hits) for hits in TwoStage(stage, text_index).search_batch(["a", "b"])] == [1, 0]


def test_what_the_stage_raises_passes_through(text_index: Index) -> None:
    own_error = TypeError("its own")

    def broken(query: str, k: int) -> Any:
        raise own_error

    def late(query: str, k: int) -> Any:
        yield "fox"
        raise own_error

    for stage in (broken, late):
        with pytest.raises(TypeError, match="its own"):
            TwoStage(stage, text_index).search("x")


def test_ids_alone_where_scores_are_needed(text_index: Index) -> None:
    def plain(query: str, k: int) -> Any:
        return ["fox", "paris"] if query else []

    for options, words in (({"alpha": 0.1}, "alpha.*plain.*beta"), ({"fusion": 0.5}, "fusion.*plain.*rrf")):
        with pytest.raises(InvalidInputError, match=words):
            TwoStage(plain, text_index, **options).search("capital", k=1)  # type: ignore[arg-type]
        empty = TwoStage(lambda query, k: [], text_index, **options)  # type: ignore[arg-type]
        assert empty.search("capital", k=1) == []
    fused = TwoStage(plain, text_index, fusion="rrf").search("capital")
    assert {hit.id: hit.score for hit in fused} == pytest.approx({"paris": 1 / 62 + 1 / 61, "fox": 1 / 61 + 1 / 62})


def test_callables_that_give_too_many(text_index: Index) -> None:
    assert CallableFirstStage(lambda query, k: ["a", "b", "c"]).search("x", 2) == (["a", "b"], None)
    assert CallableFirstStage(lambda query, k: []).search("x", 2) == ([], None)
    bad: list[tuple[Any, Any]] = [("x", 0), ("x", "3"), (None, 1), (3, 1)]
    for query, k in bad:
        with pytest.raises(InvalidInputError):
            CallableFirstStage(everything).search(query, k)


def test_fusion(text_index: Index) -> None:
    query = "capital of germany"
    first_only = TwoStage(everything, text_index, fusion=0.0).search(query, k=5)
    assert [hit.id for hit in first_only] == list(TEXTS)
    second_only = TwoStage(everything, text_index, fusion=1.0).search(query, k=5)
    assert [hit.id for hit in second_only] == [hit.id for hit in text_index.search(query, 5)]
    fused = TwoStage(everything, text_index, fusion="rrf").search(query, k=5)
    assert [hit.rank for hit in fused] == [1, 2, 3, 4, 5]
    maxsim_ranks = {hit.id: hit.rank for hit in second_only}
    for hit in fused:
        first_rank = list(TEXTS).index(str(hit.id)) + 1
        assert hit.score == pytest.approx(1 / (60 + first_rank) + 1 / (60 + maxsim_ranks[hit.id]))
    assert fused[0].explain().id == fused[0].id


def test_fusion_functions() -> None:
    assert normalise([1.0, 3.0, 2.0, -np.inf]).tolist() == [0.0, 1.0, 0.5, 0.0]
    assert normalise([2.0, 2.0]).tolist() == [1.0, 1.0]
    assert normalise([]).tolist() == []
    assert normalise([-np.inf]).tolist() == [0.0]
    assert ranks([0.5, 2.0, 2.0, 1.0]).tolist() == [4, 1, 2, 3]
    assert weighted_fusion([0, 1], [1, 0], 0.25).tolist() == [0.25, 0.75]
    fused = reciprocal_rank_fusion(["a", "b"], {"b": 5.0, "c": 9.0})
    assert [key for key, _ in fused] == ["b", "a", "c"]
    assert dict(fused)["a"] == pytest.approx(1 / 61)
    assert normalise([INF, 1.0, 0.0, -INF]).tolist() == [1.0, 1.0, 0.0, 0.0]
    assert normalise([1.7e308, 0.0, -1.7e308]).tolist() == [1.0, 0.5, 0.0]
    assert normalise([5e-324, 0.0]).tolist() == [1.0, 0.0]
    assert normalise([INF]).tolist() == [1.0]
    repeated = reciprocal_rank_fusion([("a", 1.0), ("b", 2.0), ("a", 3.0)])
    assert repeated == [("a", 1 / 61), ("b", 1 / 62)]
    assert reciprocal_rank_fusion([Hit("a", 1.0, 1)], constant=0) == [("a", 1.0)]
    with pytest.raises(InvalidInputError, match="1 first and 2 second"):
        weighted_fusion([1], [1, 2])


def test_bad_fusions() -> None:
    bad: list[Any] = [None, "ab", 3, ["a"], [None], [NAN], [[1.0]], [True], {1: 2.0}, {1.0}, [10**400], [1j]]
    for scores in bad:
        for call in (normalise, ranks, lambda scores: weighted_fusion(scores, [1.0])):
            with pytest.raises(InvalidInputError):
                call(scores)
    for value in [*BAD_ALPHAS, 2]:
        with pytest.raises(InvalidInputError, match="weight"):
            weighted_fusion([1], [1], value)
    for value in BAD_ALPHAS:
        with pytest.raises(InvalidInputError, match="constant"):
            reciprocal_rank_fusion(["a"], constant=value)
    runs: list[Any] = [None, "ab", 3, [1.5], {"a": NAN}, {"a": "x"}, ["a", 1], {"a", "b"}]
    for run in runs:
        with pytest.raises(InvalidInputError, match="run 1"):
            reciprocal_rank_fusion(["a"], run)


def test_bad_arguments_of_the_ready_made_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bm25s")
    pytest.importorskip("scipy")
    monkeypatch.setitem(sys.modules, "seismic", SimpleNamespace(get_seismic_string=lambda: "U100"))
    keys, texts = list(TEXTS), list(TEXTS.values())
    stages: list[Any] = [
        Bm25FirstStage.from_texts(keys, texts),
        SparseEncoderFirstStage.from_texts(FakeSparseEncoder(), keys, texts),
        SeismicFirstStage(FakeSeismic(), count_words),
    ]
    for stage in stages:
        for k in BAD_NUMBERS:
            with pytest.raises(InvalidInputError, match="k must"):
                stage.search("fox", k)
        queries: list[Any] = [None, "fox", [3], 5]
        for query in queries:
            with pytest.raises(InvalidInputError, match="queries"):
                stage.search_batch(query, 3)
        assert stage.search_batch([], 3) == []
    makers: list[Any] = [
        lambda: Bm25FirstStage(None, keys),
        lambda: Bm25FirstStage.from_texts(keys, "text"),
        lambda: Bm25FirstStage.from_texts(keys, texts[:2]),
        lambda: Bm25FirstStage.from_texts([], []),
        lambda: Bm25FirstStage.from_texts(keys, [None] * 5),  # type: ignore[list-item]
        lambda: SparseEncoderFirstStage(None, keys, np.ones((5, 3))),
        lambda: SparseEncoderFirstStage(FakeSparseEncoder(), keys, "x"),
        lambda: SparseEncoderFirstStage(FakeSparseEncoder(), keys, np.ones(5)),
        lambda: SparseEncoderFirstStage(FakeSparseEncoder(), keys, np.ones((5, 3))).search("fox", 3),
        lambda: SparseEncoderFirstStage.from_texts(None, keys, texts),
        lambda: SeismicFirstStage(None, count_words),
        lambda: SeismicFirstStage(FakeSeismic(), None),
        lambda: SeismicFirstStage(FakeSeismic(), count_words, query_cut=0),
        lambda: SeismicFirstStage(FakeSeismic(), count_words, heap_factor=NAN),
    ]
    for make in makers:
        with pytest.raises(InvalidInputError):
            make()


def test_bm25(text_index: Index) -> None:
    pytest.importorskip("bm25s")
    stage = Bm25FirstStage.from_texts(list(TEXTS), list(TEXTS.values()))
    assert isinstance(stage, FirstStage)
    ids, scores = stage.search("capital of germany", 10)
    assert list(ids) == ["berlin", "paris"]
    assert scores[0] > scores[1] > 0
    found = stage.search_batch(["quick dog", "zzz unknown", ""], 3)
    assert list(found[0][0]) == ["fox"]
    assert found[1] == ([], [])
    assert found[2] == ([], [])
    assert TwoStage(stage, text_index).search("germany capital")[0].id == "berlin"
    assert TwoStage(stage, text_index).search("zzz") == []
    with pytest.raises(InvalidInputError, match="1 ids for the 5"):
        Bm25FirstStage(stage._retriever, ["a"])


def test_bm25_with_integer_ids_and_own_tokens(tmp_path: Path) -> None:
    bm25s = pytest.importorskip("bm25s")
    texts = list(TEXTS.values())
    retriever = bm25s.BM25()
    retriever.index([text.split() for text in texts], show_progress=False)
    stage = Bm25FirstStage(retriever, range(5), tokenize=lambda queries: [query.split() for query in queries])
    index = Index.create(tmp_path / "index", encoder=HashEncoder())
    index.add(range(5), texts=texts)
    assert TwoStage(stage, index).search("germany")[0].id == 3


class FakeSparseEncoder:
    """Counts words, as a sparse torch tensor: the shape that `SparseEncoder` gives."""

    vocabulary = sorted({word for text in TEXTS.values() for word in text.split()})

    def encode_query(self, inputs: list[str], **options: Any) -> Any:
        torch = pytest.importorskip("torch")
        dense = [[float(text.split().count(word)) for word in self.vocabulary] for text in inputs]
        return torch.tensor(dense).to_sparse()

    encode_document = encode_query


def test_sparse_encoder(text_index: Index) -> None:
    pytest.importorskip("scipy")
    stage = SparseEncoderFirstStage.from_texts(FakeSparseEncoder(), list(TEXTS), list(TEXTS.values()))
    ids, scores = stage.search("capital of germany", 3)
    assert ids[0] == "berlin"
    assert scores[0] == 3.0
    assert stage.search("nothing", 3) == ([], [])
    assert TwoStage(stage, text_index).search("lazy dog")[0].id == "fox"
    with pytest.raises(InvalidInputError, match="1 ids"):
        SparseEncoderFirstStage(FakeSparseEncoder(), ["a"], FakeSparseEncoder().encode_query(["x", "y"]))


def count_words(texts: list[str]) -> list[dict[str, float]]:
    return [{word: float(text.split().count(word)) for word in text.split()} for text in texts]


class FakeSeismic:
    """Scores by hand, and gives results in the wrong order and leaves out empty ones, as Seismic does."""

    def batch_search(
        self, *, queries_ids: Any, query_components: Any, query_values: Any, k: int, **options: Any
    ) -> Any:
        assert options == {"query_cut": 10, "heap_factor": 0.7}
        results = []
        for query, words, values in zip(queries_ids, query_components, query_values, strict=True):
            weights = dict(zip(words.tolist(), values.tolist(), strict=True))
            scores = [
                (str(query), sum(weights.get(word, 0.0) for word in text.split()), str(position))
                for position, text in enumerate(TEXTS.values())
            ]
            results.append(sorted([hit for hit in scores if hit[1] > 0], key=lambda hit: -hit[1])[:k])
        return results[::-1]


def test_seismic_results_are_put_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(get_seismic_string=lambda: "U100")
    monkeypatch.setitem(sys.modules, "seismic", module)
    stage = SeismicFirstStage(FakeSeismic(), count_words, range(5))
    found = stage.search_batch(["capital of germany", "", "zzz", "lazy dog"], 2)
    assert [ids for ids, _ in found] == [[3, 2], [], [], [0]]
    assert found[0][1] == [3.0, 2.0]
    assert SeismicFirstStage(FakeSeismic(), count_words).search("lazy", 1)[0] == ["0"]


def test_seismic(text_index: Index) -> None:
    seismic = pytest.importorskip("seismic")
    kind = seismic.get_seismic_string()
    data = seismic.SeismicDataset()
    for key, weights in zip(TEXTS, count_words(list(TEXTS.values())), strict=True):
        data.add_document(key, np.array(list(weights), dtype=kind), np.array(list(weights.values()), dtype=np.float32))
    built = seismic.SeismicIndex.build_from_dataset(data, n_postings=100)
    stage = SeismicFirstStage(built, count_words)
    assert isinstance(stage, FirstStage)
    queries = ["capital of germany", "lazy dog", "quick fox", ""]
    found = stage.search_batch(queries, 3)
    assert [list(ids)[:1] for ids, _ in found] == [["berlin"], ["fox"], ["fox"], []]
    assert TwoStage(stage, text_index).search("capital of germany")[0].id == "berlin"
