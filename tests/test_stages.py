"""What two stages may choose for each call, what they tell of themselves, and how a batch goes through them."""

import copy
import json
import pickle
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Hit, Hits, Index, Reranker, TwoStage, reciprocal_rank_fusion, weighted_fusion
from latewood.errors import InvalidInputError, LatewoodError, UnknownIdError
from latewood.rerank.overlap import overlapped
from support import TEXTS, HashEncoder

RNG = np.random.default_rng(5)
DIM = 32
COUNT = 200


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    index = Index.create(tmp_path_factory.mktemp("stages") / "index", dim=DIM)
    metadata = [{"even": position % 2 == 0} for position in range(COUNT)]
    index.add(range(COUNT), vectors=[RNG.normal(size=(6, DIM)).astype("f4") for _ in range(COUNT)], metadata=metadata)
    return index


@pytest.fixture(scope="module")
def query(index: Index) -> np.ndarray:
    return np.asarray(index.vectors([3])[0][:4] + RNG.normal(size=(4, DIM)) * 0.5, dtype=np.float32)


@pytest.fixture(scope="module")
def first(index: Index, query: np.ndarray) -> dict[int, float]:
    """Noisy first-stage scores, the best first."""
    maxsim = {int(hit.id): hit.score for hit in index.search(query, COUNT, gather="exact")}
    noisy = {key: score + float(RNG.normal()) * 5 + 20 for key, score in maxsim.items()}
    return dict(sorted(noisy.items(), key=lambda item: -item[1])[:60])


def stage_of(first: dict[int, float]) -> Any:
    return lambda query, k: dict(list(first.items())[:k])


@pytest.mark.parametrize("prune_to", [None, 3, 20])
@pytest.mark.parametrize(("alpha", "beta"), [(0.1, None), (None, 3), (0.3, 4), (None, None)])
@pytest.mark.parametrize("fusion", [0.7, "rrf", 0.0])
def test_fusion_counts_what_was_scored(
    index: Index,
    query: np.ndarray,
    first: dict[int, float],
    fusion: Any,
    alpha: float | None,
    beta: int | None,
    prune_to: int | None,
) -> None:
    """Against fusing by hand what a rerank of one at a time has scored."""
    scored = list(first)
    to = prune_to or 5
    if alpha is not None:
        kth = sorted(first.values(), reverse=True)[to - 1]
        scored = [key for key in scored if first[key] >= kth - alpha * abs(kth)]
    every = {int(hit.id): hit.score for hit in index.rerank(query, scored)}
    if beta is not None:
        failures, reached = 0, to
        while reached < len(scored) and failures < beta:
            best = sorted((every[key] for key in scored[:reached]), reverse=True)[:to]
            failures = 0 if every[scored[reached]] > best[-1] else failures + 1
            reached += 1
        scored = scored[:reached]
    maxsim, given = [every[key] for key in scored], [first[key] for key in scored]
    if fusion == "rrf":
        fused = dict(
            reciprocal_rank_fusion(dict(zip(scored, given, strict=True)), dict(zip(scored, maxsim, strict=True)))
        )
    else:
        fused = dict(zip(scored, weighted_fusion(given, maxsim, fusion).tolist(), strict=True))
    engine = TwoStage(stage_of(first), index, alpha=alpha, beta=beta, prune_to=prune_to, fusion=fusion)
    hits = engine.search("text", 5, query_vectors=query)
    assert hits.stats["scored"] == len(scored)
    assert [hit.score for hit in hits] == pytest.approx(sorted(fused.values(), reverse=True)[:5])
    for hit in hits:
        assert hit.score == pytest.approx(fused[int(hit.id)])
        assert hit.stage_scores == {"first_stage": first[int(hit.id)], "maxsim": every[int(hit.id)]}
    rest = engine.search("text", 100, query_vectors=query, offset=2, prune_to=prune_to or 5)
    assert [hit.score for hit in rest] == pytest.approx(sorted(fused.values(), reverse=True)[2:])
    assert [hit.rank for hit in rest] == list(range(3, len(scored) + 1))


def test_a_call_has_its_own_options(index: Index, query: np.ndarray, first: dict[int, float]) -> None:
    engine = TwoStage(stage_of(first), index, depth=60, beta=1, alpha=0.2)
    usual = engine.search("text", 5, query_vectors=query)
    every: list[dict[str, Any]] = [
        {"depth": 10},
        {"alpha": 0.01},
        {"beta": 7},
        {"prune_to": 30},
        {"fusion": 0.5},
        {"alpha": None, "beta": None},
    ]
    for options in every:
        once = engine.search("text", 5, query_vectors=query, **options)
        made = TwoStage(stage_of(first), index, **{"depth": 60, "beta": 1, "alpha": 0.2, **options})
        assert once == made.search("text", 5, query_vectors=query)
        assert once.stats["scored"] == made.search("text", 5, query_vectors=query).stats["scored"]
    assert engine.search("text", 5, query_vectors=query) == usual, "the engine's own stay"
    assert engine.search("text", 5, query_vectors=query, alpha=None, beta=None).stats["scored"] == 60
    for bad in ({"depth": 0}, {"beta": 0}, {"fusion": True}, {"fusion": "x"}, {"alpha": -1}, {"prune_to": 0}):
        with pytest.raises(InvalidInputError, match=next(iter(bad))):
            engine.search("text", 5, query_vectors=query, **bad)
    with pytest.raises(TypeError):
        engine.search("text", 5, query_vectors=query, gamma=1)  # type: ignore[call-arg]


def test_a_rerank_gives_back_all_that_it_has_scored(index: Index, query: np.ndarray, first: dict[int, float]) -> None:
    pruned = index.rerank(query, first, alpha=0.2, prune_to=5)
    assert len(pruned) == pruned.stats["scored"]
    assert pruned[:5] == index.rerank(query, first, alpha=0.2, k=5)
    assert len(index.rerank(query, first, k=3, beta=1, prune_to=50)) == 3
    with pytest.raises(InvalidInputError, match="prune_to="):
        index.rerank(query, first, alpha=0.2)


def test_stats_tell_what_each_stage_took(index: Index, query: np.ndarray, first: dict[int, float]) -> None:
    def slow(text: str, k: int) -> Any:
        time.sleep(0.02)
        return stage_of(first)(text, k)

    for fusion in (None, 0.7):
        hits = TwoStage(slow, index, alpha=0.1, fusion=fusion).search(
            "text", 5, query_vectors=query, filter={"even": True}
        )
        stats = hits.stats
        even = [key for key in first if key % 2 == 0]
        assert stats["found"] == len(first)
        assert stats["gathered"] == len(even)
        assert stats["gathered"] == stats["pruned"] + stats["scored"]
        assert stats["left"] == len(hits) == 5
        assert stats["first_stage_s"] >= 0.02 > stats["second_stage_s"] > stats["score_s"] > 0
        assert hits.plan.gather == "given"
        again = pickle.loads(pickle.dumps(hits))
        assert (again, again.stats, again.plan) == (hits, stats, hits.plan)
    batch = TwoStage(slow, index).search_batch(["text"] * 20, 5, query_vectors=[query] * 20)
    assert all(hits.stats["first_stage_s"] >= 0.02 for hits in batch)


def test_a_fused_hit_keeps_the_scores_of_both(text_index: Index) -> None:
    def everything(query: str, k: int) -> dict[str, float]:
        return {key: 10.0 - position for position, key in enumerate(TEXTS)}

    query = "capital of germany"
    hit = TwoStage(everything, text_index, fusion=0.7).search(query)[0]
    assert hit.id == "berlin"
    alone = text_index.rerank(query, ["berlin"])[0]
    assert hit.stage_scores == {"first_stage": 7.0, "maxsim": alone.score}
    explanation = hit.explain()
    assert explanation.stage_scores == hit.stage_scores
    assert explanation.fused == hit.score
    assert explanation.score == pytest.approx(alone.score)
    text = str(explanation)
    assert f"berlin: score {hit.score:.4f}, fused of first_stage 7.0000, maxsim {alone.score:.4f}" in text
    assert str(alone.explain()).splitlines()[1:] == text.splitlines()[2:]
    for same in (copy.copy(hit), copy.deepcopy(hit), pickle.loads(pickle.dumps(hit))):
        assert same == hit
        assert same.stage_scores == hit.stage_scores
    assert json.loads(json.dumps(hit.to_dict()))["stage_scores"] == hit.stage_scores
    assert alone.stage_scores is None
    assert Hit("a", 1.0, 1) != hit
    # Without scores from the first stage there is none to keep.
    ranked = TwoStage(lambda query, k: list(TEXTS), text_index, fusion="rrf").search(query)[0]
    assert ranked.stage_scores == {"maxsim": alone.score}


def test_models_and_what_cannot_be_called_are_refused_when_made(text_index: Index) -> None:
    class Module:
        """Can be called, as modules of torch can."""

        def __call__(self, *inputs: Any, **options: Any) -> Any:
            raise AssertionError

        def forward(self, inputs: Any) -> Any: ...

    class Model(Module):
        def encode_query(self, inputs: list[str]) -> Any: ...

    class Lacking:
        def search(self, query: str, k: int) -> Any: ...

    bad: list[Any] = [Module(), Model(), HashEncoder(), Reranker(), Lacking(), len, lambda query: [], time]
    for stage in bad:
        with pytest.raises(InvalidInputError):
            TwoStage(stage, text_index)
    with pytest.raises(InvalidInputError, match="Reranker"):
        TwoStage(lambda query, k: [], Reranker())  # type: ignore[arg-type]
    good: list[Any] = [lambda query, k, extra=3: [], dict.fromkeys(TEXTS).get, TEXTS.get, text_index, text_index.search]
    for stage in good:
        TwoStage(stage, text_index)


def test_engines_show_what_they_are(text_index: Index) -> None:
    def lexical(query: str, k: int) -> Any: ...

    shown = repr(TwoStage(lexical, text_index, alpha=0.1, fusion="rrf", depth=100))
    assert "lexical" in shown
    assert repr(text_index) in shown
    assert "alpha=0.1, fusion='rrf')" in shown
    assert "depth" not in shown


def test_a_first_stage_that_takes_filters_gets_them(text_index: Index) -> None:
    class Filtering:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def search(self, query: str, k: int) -> Any:
            raise AssertionError

        def search_batch(self, queries: Sequence[str], k: int, *, filter: Any = None) -> Any:  # noqa: A002
            self.seen.append(filter)
            return [["fox"] for _ in queries]

    stage = Filtering()
    engine = TwoStage(stage, text_index)
    engine.search("fox")
    engine.search("fox", filter={"lang": None})
    filters = [{"n": {"ne": position}} for position in range(20)]
    engine.search_batch(["fox"] * 20, filter=filters)
    assert stage.seen[:2] == [None, {"lang": None}]
    assert [one for part in stage.seen[2:] for one in part] == filters
    # An index is asked by its own metadata.
    other = TwoStage(text_index, text_index).search("fox", filter={"lang": "none"})
    assert other == []
    assert other.stats["found"] == 0


# A batch goes through in parts.


def test_a_batch_is_what_its_queries_are_alone(index: Index, first: dict[int, float]) -> None:
    count = 150
    vectors = [RNG.normal(size=(1 + position % 4, DIM)).astype("f4") for position in range(count)]
    texts = [str(position) for position in range(count)]

    def found(text: str, k: int) -> Any:
        return dict(list(first.items())[int(text) % 7 : k])

    filters = [{"even": position % 2 == 0} if position % 3 else None for position in range(count)]
    every: list[dict[str, Any]] = [
        {},
        {"fusion": 0.7, "beta": 3},
        {"weights": [np.full(len(one), 2.0) for one in vectors]},
    ]
    for options in every:
        engine = TwoStage(found, index)
        batch = engine.search_batch(texts, 5, query_vectors=vectors, filter=filters, **options)
        assert len(batch) == count
        for position in range(count):
            own = {**options, **({"weights": options["weights"][position]} if "weights" in options else {})}
            alone = engine.search(
                texts[position],
                5,
                query_vectors=vectors[position],
                filter=filters[position],
                **own,
            )
            assert batch[position] == alone


def test_the_stages_overlap(text_index: Index) -> None:
    """The first stage is in the caller's thread; the encoder of the second sleeps beside it."""
    here = threading.get_ident()
    asleep = 0.02

    class Sleepy(HashEncoder):
        def encode_query(self, inputs: list[str], /) -> Any:
            time.sleep(asleep * len(inputs))
            return super().encode_query(inputs)

    def slow(query: str, k: int) -> list[str]:
        assert threading.get_ident() == here
        time.sleep(asleep)
        return ["fox"]

    index = Index.open(text_index.path, encoder=Sleepy())
    start = time.perf_counter()
    assert len(TwoStage(slow, index).search_batch(["a fox"] * 64)) == 64
    took = time.perf_counter() - start
    assert took < 64 * asleep * 1.5


def test_a_first_stage_that_is_bound_to_its_thread(text_index: Index, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "texts.db")
    connection.execute("CREATE TABLE texts (id, text)")
    connection.executemany("INSERT INTO texts VALUES (?, ?)", TEXTS.items())

    def like(query: str, k: int) -> Any:
        return [key for (key,) in connection.execute("SELECT id FROM texts WHERE text LIKE ?", (f"%{query}%",))]

    batch = TwoStage(like, text_index).search_batch(["fox", "capital"] * 30)
    assert [len(hits) for hits in batch] == [1, 2] * 30
    connection.close()


def test_overlapped_work_comes_in_order_and_fails_in_order() -> None:
    done: list[str] = []

    def first(part: int) -> int:
        done.append(f"first {part}")
        if part == 7:
            message = "first of 7"
            raise ValueError(message)
        return part

    def second(part: int) -> int:
        time.sleep(0.01)
        if part in broken:
            message = f"second of {part}"
            raise KeyError(message)
        done.append(f"second {part}")
        return part * 10

    broken: set[int] = set()
    assert overlapped([], first, second) == []
    assert overlapped([3], first, second) == [30]
    assert overlapped([1, 2, 3, 4], first, second) == [10, 20, 30, 40]
    assert done.index("first 2") < done.index("second 1"), "one waits for the other"
    with pytest.raises(ValueError, match="first of 7"):
        overlapped([5, 6, 7, 8], first, second)
    assert "second 6" in done
    assert "first 8" not in done
    broken = {6}
    with pytest.raises(KeyError, match="second of 6"):
        overlapped([5, 6, 7, 8], first, second)
    broken = {2}
    done.clear()
    with pytest.raises(KeyError, match="second of 2"):
        overlapped([1, 2, 3, 4, 5], first, second)
    assert "second 3" not in done
    assert "first 4" not in done
    assert threading.active_count() == len(threading.enumerate())


def test_ctrl_c_in_the_first_stage_leaves_nothing_at_work(text_index: Index) -> None:
    calls: list[str] = []

    def interrupted(query: str, k: int) -> Any:
        calls.append(query)
        if query == "17":
            raise KeyboardInterrupt
        return ["fox"]

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        TwoStage(interrupted, text_index).search_batch([str(position) for position in range(40)])
    assert calls[-1] == "17"
    assert threading.active_count() == before


def test_errors_of_later_parts_name_the_query(text_index: Index) -> None:
    queries = [f"fox {position}" for position in range(40)]

    def wrong(query: str, k: int) -> Any:
        return 5 if query == "fox 30" else ["fox"]

    with pytest.raises(InvalidInputError, match="'fox 30' come as one int"):
        TwoStage(wrong, text_index).search_batch(queries)

    def unknown(query: str, k: int) -> Any:
        return ["fox", "nobody"] if query == "fox 30" else ["fox"]

    with pytest.raises(UnknownIdError, match="query 6") as caught:
        TwoStage(unknown, text_index).search_batch(queries)
    assert caught.value.__notes__ == ["Queries are counted from number 24 of the batch."]
    with pytest.raises(InvalidInputError, match="position 33 is empty"):
        TwoStage(wrong, text_index).search_batch([*queries[:33], " "])
    assert issubclass(UnknownIdError, LatewoodError)
    assert isinstance(TwoStage(unknown, text_index, missing="skip").search_batch(queries)[30], Hits)
