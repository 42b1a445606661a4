"""Hybrid search: the union of what all stages find, each document scored by all, against doing so by hand."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Bm25FirstStage, Hybrid, Index, LexicalFirstStage, weighted_fusion
from latewood.errors import EncoderRequiredError, InvalidInputError
from support import TEXTS, HashEncoder

pytest.importorskip("bm25s")

VOCABULARY = [f"word{number}" for number in range(60)]
COUNT = 120


def sentence(rng: np.random.Generator, longest: int = 9) -> str:
    return " ".join(rng.choice(VOCABULARY, size=rng.integers(1, longest)).tolist())


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    rng = np.random.default_rng(11)
    return {f"d{number}": sentence(rng) for number in range(COUNT)}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str]) -> Index:
    index = Index.create(tmp_path_factory.mktemp("hybrid") / "index", encoder=HashEncoder(24))
    metadata = [{"even": number % 2 == 0} for number in range(COUNT)]
    index.add(list(texts), texts=list(texts.values()), metadata=metadata)
    return index


QUERIES = [sentence(np.random.default_rng(seed), 6) for seed in range(30)]


def by_hand(
    index: Index, texts: dict[str, str], query: str, depth: int, fusion: Any, condition: Any = None
) -> dict[str, float]:
    """Each document of the union with its fused score."""
    allowed = set(index.ids(filter=condition))
    lexical = Bm25FirstStage.from_texts(list(texts), list(texts.values()))
    every = dict(zip(*lexical.search(query, COUNT), strict=True))
    # Equal scores are in the order of the index.
    order = sorted((key for key in every if key in allowed), key=lambda key: (-round(every[key], 4), int(str(key)[1:])))
    found = order[:depth]
    own = [str(hit.id) for hit in index.search(query, depth, filter=condition)]
    union = list(dict.fromkeys([*own, *(str(key) for key in found)]))
    maxsim = {str(hit.id): hit.score for hit in index.rerank(query, union)}
    bm25 = [every.get(key, 0.0) for key in union]
    second = [maxsim[key] for key in union]
    if fusion == "rrf":
        places = [np.argsort(np.argsort(-np.array(scores), kind="stable")) for scores in (bm25, second)]
        return {key: float(sum(1 / (61 + place[row]) for place in places)) for row, key in enumerate(union)}
    return dict(zip(union, weighted_fusion(bm25, second, fusion).tolist(), strict=True))


@pytest.mark.parametrize("fusion", [0.7, 0.2, 0.0, 1.0])
@pytest.mark.parametrize("depth", [5, 30])
def test_it_is_what_one_would_do_by_hand(index: Index, texts: dict[str, str], fusion: float, depth: int) -> None:
    hybrid = Hybrid(index, depth=depth, fusion=fusion)
    for query in QUERIES[:8]:
        for condition in (None, {"even": True}):
            expected = by_hand(index, texts, query, depth, fusion, condition)
            hits = hybrid.search(query, 5, filter=condition)
            assert [hit.score for hit in hits] == pytest.approx(sorted(expected.values(), reverse=True)[:5], abs=1e-5)
            assert {hit.id: hit.score for hit in hits} == pytest.approx(
                {hit.id: expected[str(hit.id)] for hit in hits}, abs=1e-5
            )
            assert hits.stats["found"] == hits.stats["scored"] == len(expected)
            assert hits.stats["left"] == len(hits) == 5


def test_every_hit_has_the_scores_of_both(index: Index, texts: dict[str, str]) -> None:
    lexical = Bm25FirstStage.from_texts(list(texts), list(texts.values()))
    for query in QUERIES[:5]:
        every = dict(zip(*lexical.search(query, COUNT), strict=True))
        hits = Hybrid(index).search(query, 100)
        maxsim = {hit.id: hit.score for hit in index.rerank(query, [hit.id for hit in hits])}
        assert any(hit.id not in every for hit in hits)
        for hit in hits:
            expected = {"bm25": every.get(hit.id, 0.0), "maxsim": maxsim[hit.id]}
            assert hit.stage_scores == pytest.approx(expected, rel=1e-5)
            assert list(hit.stage_scores or {}) == ["bm25", "maxsim"]
            assert hit.text == texts[str(hit.id)]
        explanation = hits[0].explain()
        assert explanation.query_tokens == tuple(query.split())
        assert explanation.fused == hits[0].score
        assert explanation.score == pytest.approx(maxsim[hits[0].id])
        assert pickle.loads(pickle.dumps(hits)) == hits
        assert {"search_s", "bm25_s", "second_stage_s", "score_s"} <= set(hits.stats)


def test_by_ranks(index: Index, texts: dict[str, str]) -> None:
    for query in QUERIES[:5]:
        hits = Hybrid(index, fusion="rrf", depth=10).search(query, 10)
        expected = by_hand(index, texts, query, 10, "rrf")
        # Where ranks are shared, one order is as good as another.
        best = sorted(expected.values(), reverse=True)[:10]
        assert hits[0].score == pytest.approx(best[0], rel=0.02)
        assert [hit.score for hit in hits] == pytest.approx(best, rel=0.05)
    alone = Hybrid(index, fusion=None).search(QUERIES[0], 5)
    assert [hit.id for hit in alone] == [hit.id for hit in index.search(QUERIES[0], 5)]
    assert alone[0].stage_scores is None


def test_a_batch_is_what_its_queries_are_alone(index: Index) -> None:
    hybrid = Hybrid(index, depth=20)
    filters = [{"even": row % 2 == 0} if row % 3 else None for row in range(len(QUERIES))]
    weights = [np.linspace(0.5, 1.5, len(query.split())) for query in QUERIES]
    vectors = HashEncoder(24).encode_query(QUERIES)
    for options in ({}, {"weights": weights}, {"query_vectors": vectors}, {"offset": 3}, {"min_score": 0.5}):
        batch = hybrid.search_batch(QUERIES, 7, filter=filters, **options)
        for row, query in enumerate(QUERIES):
            own = {
                name: value[row] if name in ("weights", "query_vectors") else value  # type: ignore[index]
                for name, value in options.items()
            }
            assert batch[row] == hybrid.search(query, 7, filter=filters[row], **own)  # type: ignore[arg-type]
            if filters[row]:
                assert {hit.metadata["even"] for hit in batch[row] if hit.metadata} <= {row % 2 == 0}
    page = [hit.id for hit in hybrid.search(QUERIES[0], 3, offset=3)]
    assert page == [hit.id for hit in hybrid.search(QUERIES[0], 6)][3:]
    assert hybrid.search_batch([]) == []
    assert hybrid.search_batch([], weights=[]) == []


def test_it_keeps_in_step(text_index: Index) -> None:
    hybrid = Hybrid(text_index)
    text_index.add(["rome"], texts=["rome is the capital of italy"])
    assert hybrid.search("italy")[0].id == "rome"
    text_index.upsert(["rome"], texts=["a walrus"])
    hits = hybrid.search("italy")
    assert {hit.id: (hit.stage_scores or {})["bm25"] for hit in hits}["rome"] == 0.0
    text_index.delete(["rome", "fox"])
    assert not {"rome", "fox"} & {hit.id for hit in hybrid.search("walrus fox")}
    other = Index.open(text_index.path, encoder=HashEncoder())
    other.add(["oslo"], texts=["oslo is the capital of norway"])
    assert "oslo" not in {hit.id for hit in hybrid.search("norway")}
    text_index.refresh()
    assert hybrid.search("norway")[0].id == "oslo"
    assert text_index.check() == []


def test_an_index_that_fills_later(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", encoder=HashEncoder(24))
    hybrid = Hybrid(index)
    assert hybrid.search("fox") == []
    index.add([1, 2], texts=["a fox", "a dog"])
    assert hybrid.search("fox")[0].id == 1
    index.add([3], vectors=HashEncoder(24).encode_document(["a fox without a text"]))
    hits = hybrid.search("fox")
    assert {hit.id for hit in hits} == {1, 2, 3}
    assert {hit.id: set(hit.stage_scores or {}) for hit in hits}[3] == {"maxsim"}
    vectors = Index.open(index.path)
    with pytest.raises(EncoderRequiredError):
        Hybrid(vectors).search("fox")
    query = HashEncoder(24).encode_query(["fox"])
    assert Hybrid(vectors).search_batch(["fox"], query_vectors=query) == [hits]


class Table:
    """A first stage of one's own: scores by a table, of what it has found or of whatever it is asked about."""

    def __init__(self, scores: dict[str, float]) -> None:
        self.scores = scores

    def search(self, query: str, k: int) -> Any:
        return sorted(self.scores.items(), key=lambda item: -item[1])[:k]

    def search_batch(self, queries: Sequence[str], k: int) -> Any:
        return [self.search(query, k) for query in queries]


class Scoring(Table):
    def score_batch(self, queries: Sequence[str], candidates: Sequence[Sequence[str]]) -> Any:
        return [[self.scores.get(key, -1.0) for key in own] for own in candidates]


def test_several_first_stages(text_index: Index) -> None:
    table = {"fox": 3.0, "rings": 2.0, "nobody": 9.0}
    lexical = LexicalFirstStage(text_index)
    query = "capital of germany"
    for stage in (Table(table), Scoring(table)):
        hybrid = Hybrid(text_index, {"table": stage, "words": lexical}, fusion=0.6)
        hits = hybrid.search(query, 10)
        assert {hit.id for hit in hits} == set(TEXTS), "what the index does not hold is passed over"
        assert "table_s" in hits.stats
        ids = [str(hit.id) for hit in hits]
        scores = {str(hit.id): hit.stage_scores or {} for hit in hits}
        first = np.array([scores[key].get("table", np.nan) for key in ids])
        if isinstance(stage, Scoring):
            assert first.tolist() == [table.get(key, -1.0) for key in ids]
        else:
            assert {key for key in ids if "table" in scores[key]} == {"fox", "rings"}
        known = np.where(np.isnan(first), 0.0, (first - np.nanmin(first)) / (np.nanmax(first) - np.nanmin(first)))
        rest = weighted_fusion([scores[key]["words"] for key in ids], [scores[key]["maxsim"] for key in ids], 0.75)
        assert [hit.score for hit in hits] == pytest.approx((0.2 * known + 0.8 * rest).tolist())
    single = Hybrid(text_index, lambda query, k: {"fox": 1.0}).search(query, 3)
    assert set(single[0].stage_scores or {}) <= {"first_stage", "maxsim"}
    other = Hybrid(text_index, LexicalFirstStage(text_index, stopwords=None)).search(query, 3)
    assert set(other[0].stage_scores or {}) == {"bm25", "maxsim"}


def test_ids_alone(text_index: Index) -> None:
    hybrid = Hybrid(text_index, lambda query, k: ["fox", "paris"])
    with pytest.raises(InvalidInputError, match="ids only"):
        hybrid.search("capital of germany")
    hits = {hit.id: hit for hit in hybrid.search("capital of germany", fusion="rrf")}
    own = [hit.id for hit in text_index.search("capital of germany", 5)]
    assert hits["fox"].score == pytest.approx(1 / 61 + 1 / (61 + own.index("fox")))
    assert hits["rings"].score == pytest.approx(1 / (61 + own.index("rings")))
    assert set(hits["fox"].stage_scores or {}) == {"maxsim"}


def test_what_is_refused(text_index: Index) -> None:
    bad: list[Any] = [
        lambda: Hybrid(None),  # type: ignore[arg-type]
        lambda: Hybrid(text_index, {}),
        lambda: Hybrid(text_index, {"maxsim": Table({})}),
        lambda: Hybrid(text_index, {"": Table({})}),
        lambda: Hybrid(text_index, {3: Table({})}),  # type: ignore[dict-item]
        lambda: Hybrid(text_index, [Table({})]),  # type: ignore[arg-type]
        lambda: Hybrid(text_index, HashEncoder()),  # type: ignore[arg-type]
        *(lambda value=value: Hybrid(text_index, fusion=value) for value in (True, 2, "x", -0.1, [0.5])),
        *(lambda value=value: Hybrid(text_index, depth=value) for value in (0, None, 1.5, True)),
        lambda: Hybrid(text_index).search("fox", 0),
        lambda: Hybrid(text_index).search(["fox"]),  # type: ignore[arg-type]
        lambda: Hybrid(text_index).search(" "),
        lambda: Hybrid(text_index).search("fox", group_by="words"),
        lambda: Hybrid(text_index).search("fox", filter={"a": {"near": 1}}),
        lambda: Hybrid(text_index).search_batch(["fox"], filter=[None, None]),
        lambda: Hybrid(text_index, {"bad": lambda query, k: None}).search("fox"),
        lambda: Hybrid(text_index, {"bad": lambda query, k: [7]}).search("fox", fusion="rrf"),
    ]
    for call in bad:
        with pytest.raises(InvalidInputError):
            call()
    with pytest.raises(TypeError):
        Hybrid(text_index).search("fox", alpha=0.1)  # type: ignore[call-arg]


def test_scores_of_another_number(text_index: Index) -> None:
    wrong: list[Any] = [[], [[1.0]], [[1.0] * 5] * 2, None, [["x"] * 5]]
    for given in wrong:

        class Wrong(Table):
            def score_batch(self, queries: Any, candidates: Any, given: Any = given) -> Any:
                return given

        with pytest.raises(InvalidInputError, match="Wrong"):
            Hybrid(text_index, Wrong({"fox": 1.0})).search("fox")


def test_it_can_be_pickled(text_index: Index) -> None:
    hybrid = Hybrid(text_index, fusion=0.4)
    again = pickle.loads(pickle.dumps(hybrid))
    assert again.search("capital of germany") == hybrid.search("capital of germany")
    assert repr(again) == repr(hybrid)


def test_it_shows_what_it_is(text_index: Index) -> None:
    shown = repr(Hybrid(text_index, fusion=0.5))
    assert repr(text_index) in shown
    assert "bm25: LexicalFirstStage" in shown
    assert shown.endswith("fusion=0.5)")
