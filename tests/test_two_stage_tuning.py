"""What tuning two stages measures is what searches with these settings do, and the cheapest of them is chosen."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Index, TwoStage
from latewood.errors import InvalidInputError
from latewood.rerank.tuning import Setting, ndcg
from support import HashEncoder

RNG = np.random.default_rng(21)
DIM = 24
DOCUMENTS, QUERIES = 300, 40


class Noisy:
    """Finds documents by MaxSim with noise, the same for a query each time."""

    def __init__(self, index: Index, vectors: list[Any], *, scored: bool = True, noise: float = 1.0) -> None:
        self.index, self.vectors, self.scored, self.noise = index, vectors, scored, noise
        self.calls = 0

    def search(self, query: str, k: int) -> Any:
        self.calls += 1
        number = int(query)
        rng = np.random.default_rng(number)
        exact = self.index.search(self.vectors[number], DOCUMENTS, gather="exact")
        found = sorted(
            ((hit.id, hit.score + 5 + float(rng.normal()) * self.noise) for hit in exact), key=lambda one: -one[1]
        )[:k]
        return found if self.scored else [key for key, _ in found]

    def search_batch(self, queries: Sequence[str], k: int) -> Any:
        return [self.search(query, k) for query in queries]


@pytest.fixture(scope="module", params=[None, "float16"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Index:
    index = Index.create(tmp_path_factory.mktemp("tuning") / "index", dim=DIM, keep_vectors=request.param)
    index.add(range(DOCUMENTS), vectors=[RNG.normal(size=(5, DIM)).astype("f4") for _ in range(DOCUMENTS)])
    return index


def mean(found: list[list[Any]], relevances: list[dict[str, float]]) -> float:
    worth = ndcg(relevances, 5)
    return float(np.mean([worth(number, top) for number, top in enumerate(found)]))


TEXTS = [str(number) for number in range(QUERIES)]
VECTORS = [RNG.normal(size=(3, DIM)).astype("f4") for _ in range(QUERIES)]


@pytest.mark.parametrize("fusion", [None, 0.6, "rrf"])
@pytest.mark.parametrize("prune_to", [None, 15])
def test_what_is_measured_is_what_searches_do(index: Index, fusion: Any, prune_to: int | None) -> None:
    engine = TwoStage(Noisy(index, VECTORS), index, depth=60, fusion=fusion, prune_to=prune_to)
    full = [[hit.id for hit in hits] for hits in engine.search_batch(TEXTS, 5, query_vectors=VECTORS)]
    tuned = engine.tune(TEXTS, recall=0.9, k=5, query_vectors=VECTORS)
    assert tuned.measured[0] == tuned.full == Setting(60, None, None, 1.0, 60.0)
    assert (tuned.k, tuned.target, tuned.queries) == (5, 0.9, QUERIES)
    for setting in [tuned.chosen, *(tuned.measured[number] for number in RNG.integers(len(tuned.measured), size=20))]:
        hits = engine.search_batch(
            TEXTS, 5, query_vectors=VECTORS, depth=setting.depth, alpha=setting.alpha, beta=setting.beta
        )
        assert np.mean([own.stats["scored"] for own in hits]) == pytest.approx(setting.scored)
        shares = [len(set(top) & {hit.id for hit in own}) / 5 for top, own in zip(full, hits, strict=True)]
        assert np.mean(shares) == pytest.approx(setting.kept)
    reached = [one for one in tuned.measured if one.kept >= 0.9]
    assert tuned.chosen in reached
    assert tuned.chosen.scored == min(one.scored for one in reached)
    assert tuned.chosen.scored < 60


def test_the_engine_goes_by_it(index: Index) -> None:
    stage = Noisy(index, VECTORS)
    engine = TwoStage(stage, index, depth=60)
    tuned = engine.tune(TEXTS, query_vectors=VECTORS, k=5)
    assert stage.calls == QUERIES
    made = TwoStage(stage, index, depth=tuned.chosen.depth, alpha=tuned.chosen.alpha, beta=tuned.chosen.beta)
    assert engine.search("3", 5, query_vectors=VECTORS[3]) == made.search("3", 5, query_vectors=VECTORS[3])
    assert repr(engine) == repr(made)
    again = engine.tune(TEXTS, query_vectors=VECTORS, k=5, recall=1.0)
    assert again.chosen.kept == 1.0
    # A first stage that is always right lets almost nothing be scored.
    right = TwoStage(Noisy(index, VECTORS, noise=0.0), index, depth=60).tune(TEXTS, query_vectors=VECTORS, k=5)
    assert right.chosen.scored < 8


def test_tuned_again_it_is_measured_by_the_depth_that_it_was_made_with(index: Index) -> None:
    engine = TwoStage(Noisy(index, VECTORS), index, depth=60)
    first = engine.tune(TEXTS, recall=0.8, k=5, query_vectors=VECTORS)
    assert first.chosen.depth < 60
    for again in (engine, copy.copy(engine)):
        assert again.tune(TEXTS, recall=0.8, k=5, query_vectors=VECTORS) == first


def test_a_copy_is_tuned_by_itself(index: Index) -> None:
    engine = TwoStage(Noisy(index, VECTORS), index, depth=60)
    for other in (copy.copy(engine), copy.deepcopy(engine)):
        before = repr(engine)
        other.tune(TEXTS, query_vectors=VECTORS, k=5)
        assert repr(engine) == before != repr(other)


def test_more_hits_than_there_are(index: Index) -> None:
    engine = TwoStage(Noisy(index, VECTORS), index, depth=60)
    qrels = [{str(number): 1.0 for number in range(DOCUMENTS)}] * QUERIES
    for judgements in (None, qrels):
        tuned = engine.tune(TEXTS, judgements, query_vectors=VECTORS, k=2**62)
        assert tuned.full.scored == DOCUMENTS == tuned.chosen.scored


def test_judgements(index: Index) -> None:
    """A document that only the full rerank would find and nobody judged relevant is not missed."""
    engine = TwoStage(Noisy(index, VECTORS, noise=2.0), index, depth=60)
    hits = engine.search_batch(TEXTS, 5, query_vectors=VECTORS)
    qrels = {text: {str(own[0].id): 2, str(own[1].id): 1} for text, own in zip(TEXTS, hits, strict=True)}
    by_hits = engine.tune(TEXTS, query_vectors=VECTORS, k=5, recall=0.95)
    engine = TwoStage(Noisy(index, VECTORS, noise=2.0), index, depth=60)
    judged = engine.tune(TEXTS, list(qrels.values()), query_vectors=VECTORS, k=5, recall=0.95)
    assert judged.chosen.kept >= 0.95
    assert judged.chosen.scored < by_hits.chosen.scored
    found = [[hit.id for hit in own] for own in engine.search_batch(TEXTS, 5, query_vectors=VECTORS)]
    top = [[hit.id for hit in own] for own in hits]
    relevances = [{key: float(value) for key, value in own.items()} for own in qrels.values()]
    assert judged.chosen.kept == pytest.approx(mean(found, relevances) / mean(top, relevances))
    as_mapping = TwoStage(Noisy(index, VECTORS, noise=2.0), index, depth=60).tune(
        dict(zip(TEXTS, TEXTS, strict=True)), qrels, query_vectors=VECTORS, k=5, recall=0.95
    )
    assert as_mapping == judged


def test_ndcg_is_that_of_the_measures() -> None:
    pytest.importorskip("ir_measures")
    from latewood.evaluate import evaluate_run

    rng = np.random.default_rng(2)
    qrels = {f"q{number}": {f"d{n}": int(rng.integers(-1, 4)) for n in range(12)} for number in range(20)}
    found = [[f"d{n}" for n in rng.permutation(20)[:8]] for _ in qrels]
    run = {query: {key: -float(rank) for rank, key in enumerate(own)} for query, own in zip(qrels, found, strict=True)}
    expected = evaluate_run(run, qrels, ["nDCG@5"])["nDCG@5"]
    relevances = [{key: float(value) for key, value in own.items()} for own in qrels.values()]
    assert mean(found, relevances) == pytest.approx(expected)


def test_ids_alone_and_queries_that_find_nothing(index: Index) -> None:
    engine = TwoStage(Noisy(index, VECTORS, scored=False), index, depth=60)
    tuned = engine.tune(TEXTS, query_vectors=VECTORS, k=5)
    assert {one.alpha for one in tuned.measured} == {None}
    noisy = Noisy(index, VECTORS)
    some = TwoStage(lambda query, k: noisy.search(query, k) if query != "7" else [], index, depth=60)
    assert some.tune(TEXTS, query_vectors=VECTORS, k=5).chosen.alpha is not None
    unknown = TwoStage(lambda query, k: [*noisy.search(query, k), (999, 100.0)], index, depth=60, missing="skip")
    assert unknown.tune(TEXTS, query_vectors=VECTORS, k=5).full.scored == pytest.approx(59.0, abs=1)


def test_with_texts(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", encoder=HashEncoder(DIM))
    words = [f"word{number}" for number in range(50)]
    index.add(range(200), texts=[" ".join(RNG.choice(words, size=6)) for _ in range(200)])
    pytest.importorskip("bm25s")
    engine = TwoStage.from_index(index, depth=50)
    tuned = engine.tune([" ".join(RNG.choice(words, size=3)) for _ in range(30)], k=3)
    assert tuned.chosen.kept >= 0.99
    assert tuned.chosen.scored <= tuned.full.scored


def test_what_is_refused(index: Index) -> None:
    stage = Noisy(index, VECTORS)
    engine = TwoStage(stage, index)
    before = repr(engine)
    calls: list[tuple[dict[str, Any], str]] = [
        ({"queries": []}, "no query"),
        ({"queries": "x"}, "queries"),
        ({"queries": [3]}, "queries"),
        ({"queries": None}, "queries"),
        ({"recall": 0}, "recall"),
        ({"recall": 1.5}, "recall"),
        ({"k": 0}, "k must"),
        ({"threads": 0}, "threads"),
        ({"qrels": {"1": {"d": 1}}}, "qrels"),
        ({"qrels": [{}]}, "1 qrels for 2"),
        ({"qrels": [{}, 5]}, "query 1 are 5"),
        ({"qrels": [{"a": "x"}, {}]}, "'a' for query 0"),
        ({"qrels": [{}, {3: float("nan")}]}, "document 3 for query 1"),
        ({"qrels": [{}, {3: float("inf")}]}, "document 3 for query 1"),
        (
            {"queries": {1: "1", 2: "2"}, "qrels": {"1": {"1": 1}}},
            "none of 2 queries has judgements: there is no 1",
        ),
        ({"qrels": [{}, {}]}, "no relevant"),
        ({"queries": {"a": "1", "b": "2"}, "qrels": [{}, {}]}, "one form"),
        ({"queries": {"a": "1", "b": "2"}, "qrels": {"a": {"1": 1}}}, "no judgements"),
        ({"query_vectors": VECTORS[:1]}, "vectors of 1 queries"),
        ({"query_vectors": None}, "encoder"),
    ]
    for options, words in calls:
        given = {"queries": ["1", "2"], "query_vectors": VECTORS[:2], **options}
        if options.get("queries") == []:
            given["query_vectors"] = []
        with pytest.raises(InvalidInputError, match=words) if words != "encoder" else pytest.raises(ValueError):  # noqa: PT011
            engine.tune(**given)
    nothing = TwoStage(lambda query, k: [], index)
    with pytest.raises(InvalidInputError, match="finds nothing for 2 queries"):
        nothing.tune(["1", "2"], query_vectors=VECTORS[:2])
    assert repr(engine) == before, "what raises changes nothing"
