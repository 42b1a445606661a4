"""First stages, and what the second makes of their candidates."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from latewood import (
    Bm25FirstStage,
    CallableFirstStage,
    FirstStage,
    Index,
    SeismicFirstStage,
    SparseEncoderFirstStage,
    TwoStage,
    reciprocal_rank_fusion,
    weighted_fusion,
)
from latewood.errors import InvalidInputError, UnknownIdError
from latewood.fusion import normalise, ranks
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
    engine = TwoStage(everything, text_index, candidates=5)
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"candidates": 0}, "candidates"),
        ({"fusion": "sum"}, "fusion"),
        ({"fusion": 1.5}, "fusion"),
        ({"fusion": "rrf", "beta": 2}, "alpha and beta"),
    ],
)
def test_bad_options(text_index: Index, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        TwoStage(everything, text_index, **options)


def test_bad_calls(text_index: Index) -> None:
    with pytest.raises(InvalidInputError, match="first stage"):
        TwoStage(object(), text_index)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="k must"):
        TwoStage(everything, text_index).search("x", k=0)


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
    with pytest.raises(InvalidInputError, match="1 first and 2 second"):
        weighted_fusion([1], [1, 2])
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        weighted_fusion([1], [1], 2.0)


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
