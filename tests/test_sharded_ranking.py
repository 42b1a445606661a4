"""What looks at all shards together gives what one index gives: feedback, groups, candidate pruning, early exit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latewood import Feedback, Hits, Index, SearchArrays
from latewood.cluster import ClusterWriter, ShardedIndex, create
from latewood.cluster.asking import MissingShardsError
from latewood.cluster.homes import Home
from latewood.cluster.replica import Replica, answered, asking
from latewood.errors import InvalidInputError, LatewoodError, ServiceError, UnknownIdError
from latewood.forms.ids import plain_ids
from strategies import make_corpus
from support import HashEncoder

CORPUS = make_corpus(41, dim=32, documents=240, queries=6, document_tokens=(1, 14))
EMPTY = np.zeros((0, CORPUS.dim), dtype=np.float32)
DOCUMENTS = [*CORPUS.documents, *CORPUS.documents[:80], EMPTY, EMPTY]
"""Eighty come twice: their scores are ties. Two have no token."""
IDS = [f"d{number}" for number in range(len(DOCUMENTS))]
# Equal numbers are one group however they are written; a text, a flag, and what has no value are others.
PAGES = [7, 7.0, "7", True, 0.5, None, [], ["x", 7], [None, "x"], {"a": 7}, 10**30, 1e30, -0.0, 0, "é", 'a"b']
FIELDS = ["page", "site.name", "few", "nowhere"]
EXACT: dict[str, Any] = {"gather": "exact"}


def metadata(number: int) -> dict[str, Any] | None:
    """Metadata of a document, of which each sixth has none."""
    if number % 6 == 5:
        return None
    site = [{"name": number % 9}, [{"name": "z"}, {"name": 3}], {"other": 1}][number % 3]
    return {"page": PAGES[number * 7 % len(PAGES)], "site": site, "few": number % 2, "site.name": number % 4}


class InBytes:
    """Shards in this process that are asked in bytes, as those in other processes are."""

    def __init__(self, home: Home, count: int) -> None:
        self._replicas = [Replica(*home.told(), place) for place in range(count)]

    def ask(self, method: str, calls: Any, *, timeout: float) -> dict[int, Any]:
        asked = {place: asking(7, method, arguments) for place, arguments in calls.items()}
        return {place: answered(self._replicas[place].answer(question)) for place, question in asked.items()}

    def close(self) -> None:
        """Nothing is to let go of."""


@pytest.fixture(
    scope="module",
    params=[(3, {}, False), (5, {"bits": 2}, True), (3, {"keep_vectors": "float16"}, False)],
    ids=["three shards", "five shards of few bits, asked in bytes", "kept vectors"],
)
def both(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ShardedIndex, Index]]:
    shards, codec, in_bytes = request.param
    path = tmp_path_factory.mktemp("both")
    create(path / "cluster", shards=shards, sample=CORPUS.documents[:150], dim=CORPUS.dim, **codec)
    single = Index.create(path / "single", codec_from=path / "cluster" / "codec", train_after=2**62, **codec)
    told = [metadata(number) for number in range(len(IDS))]
    half = len(IDS) // 2
    with ClusterWriter(path / "cluster") as first:
        first.add(IDS[:half], vectors=DOCUMENTS[:half], metadata=told[:half])
    single.add(IDS[:half], vectors=DOCUMENTS[:half], metadata=told[:half])
    with ClusterWriter(path / "cluster") as second, single.writer() as writer:
        for target in (second, writer):
            target.add(IDS[half:], vectors=DOCUMENTS[half:], metadata=told[half:])
            target.upsert(IDS[3:5], vectors=DOCUMENTS[5:7], metadata=[{"few": 0}, None])
            target.update_metadata(IDS[20:23], {"page": "moved"})
            target.delete(IDS[8:30:4])
    with ShardedIndex.open(path / "cluster", replicas=0) as sharded:
        if in_bytes:
            sharded._shards_or_none = InBytes(sharded._home, shards)
        yield sharded, single


def assert_same(found: Hits, wanted: Hits) -> None:
    assert found == wanted
    assert [str(hit.score) for hit in found] == [str(hit.score) for hit in wanted]
    assert found.plan == wanted.plan
    for place in {0, len(found) - 1} if found else set():
        why, because = found[place].explain(), wanted[place].explain()
        np.testing.assert_array_equal(why.matrix, because.matrix)
        assert why.query_tokens == because.query_tokens


def assert_same_arrays(found: SearchArrays, wanted: SearchArrays) -> None:
    assert type(found.ids) is type(wanted.ids)
    assert list(found.ids) == list(wanted.ids)
    assert found.scores.dtype == wanted.scores.dtype
    assert found.scores.tobytes() == wanted.scores.tobytes()
    assert found.offsets.dtype == wanted.offsets.dtype
    assert found.offsets.tolist() == wanted.offsets.tolist()
    assert found.plan == wanted.plan
    assert found.stats["queries"] == wanted.stats["queries"]


FILTERS = [None, {"few": 1}, {"page": "x"}, {"or": [{"few": 0}, {"page": {"exists": False}}]}, {"few": 9}]
feedbacks = st.builds(
    lambda clusters, vectors, **others: Feedback(clusters=clusters, vectors=min(vectors, clusters), **others),
    documents=st.integers(1, 6),
    clusters=st.integers(1, 40),
    vectors=st.integers(1, 30),
    weight=st.sampled_from([0.0, 0.2, 3.0]),
    weighting=st.sampled_from(["normalised", "raw"]),
    mode=st.sampled_from(["ranker", "reranker"]),
    rescored=st.integers(1, 80),
)
rankings: dict[str, st.SearchStrategy[Any]] = {
    "filter": st.sampled_from(FILTERS),
    "group_by": st.one_of(st.none(), st.sampled_from(FIELDS)),
    "offset": st.sampled_from([0, 0, 3]),
    "min_score": st.sampled_from([None, None, 0.5, 3.0]),
    "length_normalize": st.booleans(),
    "rescore": st.sampled_from([None, None, "off"]),
}
searches = st.fixed_dictionaries(
    {
        **rankings,
        "k": st.integers(1, 60),
        "feedback": st.one_of(st.none(), feedbacks),
        "ids": st.one_of(st.none(), st.lists(st.sampled_from([*IDS, "nobody"]), max_size=60)),
    }
)
reranks = st.fixed_dictionaries(
    {
        **rankings,
        "k": st.one_of(st.none(), st.integers(1, 30)),
        "alpha": st.sampled_from([None, 0.0, 0.05, 0.5]),
        "beta": st.one_of(st.none(), st.integers(1, 9)),
        "prune_to": st.one_of(st.none(), st.integers(1, 30)),
    }
)
PROPERTIES = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


WEIGHTS = st.sampled_from([None, (0.0, 1.5), (0.0, 0.0)])
"""Of the first and the last token of a query; without any weight all scores are ties."""


def weights_of(query: Any, ends: tuple[float, float] | None) -> Any:
    return None if ends is None else np.linspace(*ends, len(query), dtype=np.float32)


@PROPERTIES
@given(options=searches, number=st.integers(0, 5), ends=WEIGHTS)
def test_searches(
    both: tuple[ShardedIndex, Index], options: dict[str, Any], number: int, ends: tuple[float, float] | None
) -> None:
    query = CORPUS.queries[number]
    found, wanted = (index.search(query, weights=weights_of(query, ends), **EXACT, **options) for index in both)
    assert_same(found, wanted)
    weights = None if ends is None else [weights_of(query, ends)]
    assert_same_arrays(*(index.search_arrays([query], weights=weights, **EXACT, **options) for index in both))
    if options["feedback"] is not None:
        assert found.stats["feedback_vectors"] == wanted.stats["feedback_vectors"]


@PROPERTIES
@given(options=reranks, number=st.integers(0, 5), ends=WEIGHTS, data=st.data())
def test_reranks(
    both: tuple[ShardedIndex, Index], options: dict[str, Any], number: int, ends: tuple[float, float] | None, data: Any
) -> None:
    query, live = CORPUS.queries[number], both[1].ids()
    candidates = data.draw(st.lists(st.sampled_from([*live, "nobody"]), unique=True, max_size=60))
    scores = data.draw(
        st.one_of(
            st.none(),
            st.lists(
                st.sampled_from([5.0, 4.9, 4.0, 0.0, -0.0, -2.0, 1e308, float("inf"), float("-inf")]),
                min_size=len(candidates),
                max_size=len(candidates),
            ),
        )
    )
    options = {**options, "missing": data.draw(st.sampled_from(["skip", "error"]))}

    def answer(index: Any) -> Any:
        try:
            return index.rerank(query, candidates, scores, weights=weights_of(query, ends), **options)
        except LatewoodError as error:
            return type(error)

    found, wanted = map(answer, both)
    if isinstance(wanted, Hits):
        assert_same(found, wanted)
    else:
        assert found is wanted


MODES = [Feedback(mode="ranker"), Feedback(mode="reranker", rescored=30, weighting="raw", weight=0.5)]


@pytest.mark.parametrize("feedback", [None, *MODES], ids=str)
@pytest.mark.parametrize("group_by", [None, "page"])
def test_batches(both: tuple[ShardedIndex, Index], feedback: Feedback | None, group_by: str | None) -> None:
    queries = [query.copy() for query in CORPUS.queries]
    options: dict[str, Any] = {"feedback": feedback, "group_by": group_by, "length_normalize": True, **EXACT}
    further: list[dict[str, Any]] = [
        {},
        {"filter": [{"few": 1}, None, {"page": "x"}, None, {"few": 9}, {}]},
        {"weights": [np.linspace(0, 1, len(query)) for query in queries]},
    ]
    for more in further:
        found, wanted = (index.search_batch(queries, 7, ids=iter(IDS[:250]), **options, **more) for index in both)
        for own, theirs in zip(found, wanted, strict=True):
            assert_same(own, theirs)
        assert_same_arrays(*(index.search_arrays(queries, 7, ids=IDS[:250], **options, **more) for index in both))
    why = found[0][0].explain().matrix.copy()
    queries[0][:] = 0
    np.testing.assert_array_equal(found[0][0].explain().matrix, why)
    assert both[0].search_batch([], 3, **options) == []
    nothing = both[0].search_arrays([], 3, **options)
    assert (len(nothing), list(nothing.ids), nothing.offsets.tolist(), nothing.stats["queries"]) == (0, [], [0], 0)


@pytest.mark.parametrize("options", [{"alpha": 0.2, "k": 4}, {"beta": 3, "k": 2}, {"group_by": "few", "k": 2}], ids=str)
def test_batches_of_reranks(both: tuple[ShardedIndex, Index], options: dict[str, Any]) -> None:
    live = list(both[1].ids())
    lists = [live[:40], [], live[100:180], live[:1], live[::-3], live[5:9]]
    scores = [np.linspace(9, 1, len(own)) for own in lists]
    further: list[dict[str, Any]] = [{}, {"filter": [{"few": 1}, None, None, {"few": 9}, {"page": "x"}, None]}]
    for more in further:
        found, wanted = (index.rerank_batch(CORPUS.queries, lists, scores, **options, **more) for index in both)
        for own, theirs in zip(found, wanted, strict=True):
            assert_same(own, theirs)
        assert_same_arrays(*(index.rerank_arrays(CORPUS.queries, lists, scores, **options, **more) for index in both))
    flat, bounds = [key for own in lists for key in own], np.cumsum([0, *map(len, lists)])
    assert_same_arrays(
        *(
            index.rerank_arrays(iter(CORPUS.queries), flat, np.concatenate(scores), offsets=bounds, **options)
            for index in both
        )
    )


def test_runs(both: tuple[ShardedIndex, Index]) -> None:
    queries = {f"q{number}": query for number, query in enumerate(CORPUS.queries)}
    live = list(both[1].ids())
    run: dict[str, object] = {
        "q3": {key: float(-place) for place, key in enumerate(live[:30])},
        "q1": [(key, 1.0) for key in live[9:12]],
        "q0": {},
    }
    options: dict[str, Any] = {"k": 5, "alpha": 0.3, "filter": {"few": 1}}
    found, wanted = (index.rerank_run(queries, run, **options) for index in both)
    assert list(found) == list(wanted) == ["q0", "q1", "q3"]
    for key in found:
        assert_same(found[key], wanted[key])
    assert both[0].rerank_run(queries, {}) == {}
    with pytest.raises(InvalidInputError, match="'q9'"):
        both[0].rerank_run(queries, {"q9": live[:2]})
    with pytest.raises(InvalidInputError, match="rerank_batch"):
        both[0].rerank_run(CORPUS.queries, run)  # type: ignore[arg-type]


@pytest.mark.parametrize("condition", FILTERS)
def test_ids_are_in_the_order_of_one_index(both: tuple[ShardedIndex, Index], condition: Any) -> None:
    found, wanted = (index.ids(filter=condition) for index in both)
    assert type(found) is type(wanted)
    assert list(found) == list(wanted)
    assert both[0].count(filter=condition) == len(found)
    with pytest.raises(InvalidInputError):
        both[0].ids(filter={"few": {"no": 1}})
    with pytest.raises(InvalidInputError):
        both[0].ids(filter="few")  # type: ignore[arg-type]


def test_recall_is_measured_as_in_one_index(both: tuple[ShardedIndex, Index]) -> None:
    sharded, single = both
    asked = CORPUS.queries
    assert sharded.measure_recall(iter(asked), 5) == 1.0, "so few documents are all scored"
    best = single.search_batch(asked, 5, gather="exact", ids=IDS[:200])
    found = sharded.search_batch(asked, 5, gather="postings", probes=1, max_scored=3, ids=IDS[:200])
    wanted = np.mean(
        [len({hit.id for hit in one} & {hit.id for hit in own}) / 5 for one, own in zip(best, found, strict=True)]
    )
    told = sharded.measure_recall(asked, 5, ids=iter(IDS[:200]), gather="postings", probes=1, max_scored=3)
    assert told == pytest.approx(wanted)


def test_what_is_stored_is_that_of_one_index(both: tuple[ShardedIndex, Index]) -> None:
    sharded, single = both
    live = list(single.ids())
    for asked in (live, live[::-7], ["d3", "d3"], []):
        assert sharded.documents(iter(asked)) == single.documents(asked)
        found, wanted = sharded.vectors(iter(asked)), single.vectors(asked)
        np.testing.assert_array_equal(found.values, wanted.values)
        assert found.values.dtype == wanted.values.dtype
        assert found.offsets.tolist() == wanted.offsets.tolist()
    assert sharded.contains(["d3", "nobody", "d3"]).tolist() == [True, False, True]
    for call in (sharded.documents, sharded.vectors):
        with pytest.raises(UnknownIdError, match="nobody"):
            call(["d3", "nobody"])
    assert sharded.check() == []


def test_only_where_scores_are_equal_are_shards_asked_for_the_order(
    both: tuple[ShardedIndex, Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    sharded, single = both
    real, asked = sharded._shards.ask, []

    def ask(method: str, calls: Any, *, timeout: float) -> Any:
        asked.append((method, {place: arguments[1] for place, arguments in calls.items()}))
        return real(method, calls, timeout=timeout)

    monkeypatch.setattr(sharded._shards, "ask", ask)
    # The documents of the first eighty come twice, the others once.
    query, others = CORPUS.queries[0], IDS[90:200]
    assert sharded.rerank(query, others) == single.rerank(query, others)
    assert [method for method, _ in asked] == ["rerank"]
    asked.clear()
    pairs = [key for number in range(30, 60) for key in (IDS[240 + number], IDS[number])]
    assert sharded.rerank(query, pairs) == single.rerank(query, pairs)
    assert [method for method, _ in asked] == ["rerank", "orders"]
    # Twins in one shard are in order there.
    ordered = {key for own in asked[1][1].values() for key in own}
    owners = dict(zip(pairs, sharded._manifest.shards_of(pairs).tolist(), strict=True))
    assert ordered == {
        key
        for twins in zip(pairs[::2], pairs[1::2], strict=True)
        if len({*map(owners.get, twins)}) > 1
        for key in twins
    }


def test_pruning_prunes_and_early_exit_exits(both: tuple[ShardedIndex, Index]) -> None:
    """The properties above could not fail if these did nothing."""
    sharded, live = both[0], list(both[1].ids())
    query, scores = CORPUS.queries[0], np.linspace(9, 1, len(live))
    whole = sharded.rerank(query, live, scores, k=5)
    assert sharded.rerank(query, live, scores, k=5, alpha=0.01) != whole
    assert sharded.rerank(query, live, scores, k=5, beta=1) != whole
    assert len(sharded.rerank(query, live, scores, prune_to=5, alpha=0.01)) < len(live)
    hits = sharded.search(query, 50, group_by="few", **EXACT)
    assert [hit.metadata["few"] for hit in hits if hit.metadata and "few" in hit.metadata] in ([0, 1], [1, 0])


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"beta": 1}], ids=str)
def test_pruning_and_early_exit_work_towards_groups(both: tuple[ShardedIndex, Index], options: dict[str, Any]) -> None:
    single = both[1]
    live = single.documents(single.ids())
    few = [[one.id for one in live if one.metadata and one.metadata.get("few") == value][:8] for value in (0, 1)]
    candidates, scores = [*few[0], *few[1]], np.linspace(9, 1, 16)
    for query in CORPUS.queries:
        found, wanted = (index.rerank(query, candidates, scores, k=2, group_by="few", **options) for index in both)
        assert_same(found, wanted)
        assert len(found) == 2, "the first eight are one group"


def test_feedback_looks_for_as_much_as_one_index_does(both: tuple[ShardedIndex, Index]) -> None:
    for feedback in MODES:
        for query in CORPUS.queries:
            found, wanted = (index.search(query, 10, feedback=feedback) for index in both)
            assert len({hit.id for hit in found} & {hit.id for hit in wanted}) >= 8
            assert found.stats["feedback_vectors"] == wanted.stats["feedback_vectors"] == 10
            assert found.stats["feedback_s"] > 0
            assert found.stats["scored"] > 0
            assert "max_scored" not in (*found.plan.without_effect, *wanted.plan.without_effect)


def test_what_feedback_refuses(tmp_path: Path) -> None:
    long = make_corpus(3, dim=32, documents=150, queries=1, document_tokens=(40, 40))
    create(tmp_path / "cluster", shards=3, sample=long.documents, dim=32)
    single = Index.create(tmp_path / "single", codec_from=tmp_path / "cluster" / "codec", train_after=2**62)
    feedback = Feedback(documents=150, clusters=6000)
    with ShardedIndex.open(tmp_path / "cluster", replicas=0) as empty:
        for index in (empty, single):
            assert index.search(long.queries[0], 3, feedback=feedback, group_by="a") == []
    single.add(range(150), vectors=long.documents)
    with ClusterWriter(tmp_path / "cluster") as writer:
        writer.add(range(150), vectors=long.documents)
    told = []
    with ShardedIndex.open(tmp_path / "cluster", replicas=0) as sharded:
        for found in (sharded, single):
            with pytest.raises(InvalidInputError) as error:
                found.search(long.queries[0], 3, feedback=feedback, **EXACT)
            told.append(str(error.value))
            with pytest.raises(InvalidInputError, match="keep_vectors"):
                found.search(long.queries[0], 3, feedback=Feedback(), rescore="float16")
    assert told[0] == told[1]
    assert "reasonable time" in told[0]


def test_texts_explain_what_feedback_added(tmp_path: Path) -> None:
    encoder = HashEncoder(dim=32)
    texts = [f"word{number % 17} word{number % 5} rings" for number in range(60)]
    create(tmp_path / "cluster", shards=3, sample_texts=texts, encoder=encoder)
    with ClusterWriter(tmp_path / "cluster", encoder=encoder) as writer:
        writer.add(range(60), texts=texts)
    with ShardedIndex.open(tmp_path / "cluster", replicas=0, encoder=encoder) as sharded:
        hit = sharded.search("word3 rings", 5, feedback=Feedback(vectors=2), **EXACT)[0]
        why = hit.explain()
        assert why.query_tokens == ("word3", "rings", "feedback vector 0", "feedback vector 1")
        assert why.score == pytest.approx(hit.score, rel=1e-5)
        assert why.query_text == "word3 rings"
        assert sharded.search("word3 rings", 3, group_by="nothing").plan.without_effect == ("group_by",)


MANY = [Feedback(documents=12), Feedback(documents=12, mode="reranker", rescored=30)]
CALLS: dict[str, Any] = {
    "feedback": lambda index: index.search(CORPUS.queries[0], 9, feedback=MANY[0], **EXACT),
    "feedback on the first hits": lambda index: index.search(CORPUS.queries[0], 9, feedback=MANY[1], **EXACT),
    "early exit": lambda index: index.rerank(CORPUS.queries[0], IDS[30:], k=4, beta=200),
    "equal scores": lambda index: index.rerank(CORPUS.queries[0], [*IDS[32:60], *IDS[272:300]], with_documents=False),
}
QUESTIONS = {
    "feedback": ["frequencies", "search", "rotated_vectors"],
    "feedback on the first hits": ["frequencies", "search", "rotated_vectors", "rerank"],
    "early exit": ["rerank"],
    "equal scores": ["rerank", "orders"],
}
"""What each asks the shards."""


@pytest.mark.parametrize("commits", [1, 4], ids=["one that shards have open", "one that is gone"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_reads_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any, commits: int) -> None:
    """Commits that come between two questions to the shards are not seen, or seen from the beginning."""
    create(tmp_path / "cluster", shards=3, sample=CORPUS.documents[:150], dim=CORPUS.dim)
    with ClusterWriter(tmp_path / "cluster") as writer:
        writer.add(IDS, vectors=DOCUMENTS)
    with ShardedIndex.open(tmp_path / "cluster", replicas=0) as sharded:
        before, real, asked = call(sharded), sharded._shards.ask, []

        def ask(method: str, calls: Any, *, timeout: float) -> Any:
            answers = real(method, calls, timeout=timeout)
            if method in ("search", "rerank"):
                asked.append(method)
                for _ in range(commits if len(asked) == 1 else 0):
                    with ClusterWriter(tmp_path / "cluster") as other:
                        other.upsert([before[0].id, "d31"], vectors=[DOCUMENTS[1], CORPUS.queries[0]])
                    sharded.refresh()
            return answers

        monkeypatch.setattr(sharded._shards, "ask", ask)
        found = call(sharded)
        after = call(sharded)
        assert before != after
        assert found == (before if commits == 1 else after)


def test_a_shard_that_is_lost_before_it_tells_the_order(
    both: tuple[ShardedIndex, Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    sharded, real = both[0], both[0]._shards.ask
    pairs = [key for number in range(30, 60) for key in (IDS[240 + number], IDS[number])]
    whole = sharded.rerank(CORPUS.queries[0], pairs)

    def ask(method: str, calls: Any, *, timeout: float) -> Any:
        answers = real(method, calls, timeout=timeout)
        if method == "orders" and answers.pop(1, None) is not None:
            raise MissingShardsError([1], answers)
        return answers

    monkeypatch.setattr(sharded._shards, "ask", ask)
    with pytest.raises(ServiceError, match="shard 1"):
        sharded.rerank(CORPUS.queries[0], pairs)
    monkeypatch.setattr(sharded, "_partial", True)
    hits = sharded.rerank(CORPUS.queries[0], pairs)
    assert sharded.missing == [1]
    assert 0 < len(hits) < len(whole)
    owners = sharded._manifest.shards_of([hit.id for hit in whole]).tolist()
    assert [hit.id for hit in hits] == [hit.id for hit, own in zip(whole, owners, strict=True) if own != 1]


@pytest.mark.parametrize("lost", ["frequencies", "search", "rotated_vectors", "rerank", "orders"])
def test_a_shard_that_is_lost_on_the_way(
    both: tuple[ShardedIndex, Index], monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    sharded, real = both[0], both[0]._shards.ask

    def ask(method: str, calls: Any, *, timeout: float) -> Any:
        answers = real(method, calls, timeout=timeout)
        if method == lost and answers.pop(1, None) is not None:
            raise MissingShardsError([1], answers)
        return answers

    monkeypatch.setattr(sharded._shards, "ask", ask)
    monkeypatch.setattr(sharded, "_known_rarity", None)
    affected = [call for name, call in CALLS.items() if lost in QUESTIONS[name]]
    for call in affected:
        monkeypatch.setattr(sharded, "_partial", False)
        with pytest.raises(ServiceError, match="shard 1"):
            call(sharded)
        monkeypatch.setattr(sharded, "_partial", True)
        hits = call(sharded)
        assert hits
        assert sharded.missing == [1]
        assert 1 not in sharded._manifest.shards_of([hit.id for hit in hits]), "what it had told counts no more"
        assert hits.stats["missing_shards"] == hits.stats["missing_shard_1"] == 1
    monkeypatch.setattr(sharded, "_partial", False)
    monkeypatch.setattr(sharded._shards, "ask", real)
    for call in affected:
        assert call(sharded) == call(both[1]), "what was known without a shard is not kept"


def test_a_candidate_that_no_shard_has_is_told_though_another_shard_is_lost(
    both: tuple[ShardedIndex, Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    sharded, real = both[0], both[0]._shards.ask
    unknown = next(f"u{number}" for number in range(99) if sharded._manifest.shards_of([f"u{number}"])[0] == 0)

    def ask(method: str, calls: Any, *, timeout: float) -> Any:
        answers = real(method, {place: own for place, own in calls.items() if place != 1}, timeout=timeout)
        if 1 in calls:
            raise MissingShardsError([1], answers)
        return answers

    monkeypatch.setattr(sharded._shards, "ask", ask)
    monkeypatch.setattr(sharded, "_partial", True)
    candidates = [*plain_ids(both[1].ids())[:60], unknown]
    with pytest.raises(UnknownIdError, match=rf"'{unknown}' is not in the cluster \(candidate 60 of query 0\)"):
        sharded.rerank(CORPUS.queries[0], candidates)
    assert sharded.rerank(CORPUS.queries[0], candidates, missing="skip")
    assert sharded.missing == [1]
    with pytest.raises(ServiceError, match=r"with more replicas$"):
        sharded.count()
