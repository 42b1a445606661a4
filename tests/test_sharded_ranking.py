"""What looks at all shards together gives what one index gives: feedback, groups, candidate pruning, early exit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latewood import Feedback, Hits, Index
from latewood.cluster import ClusterWriter, ShardedIndex, create
from latewood.errors import InvalidInputError, LatewoodError, UnknownIdError
from strategies import make_corpus

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


@pytest.fixture(
    scope="module",
    params=[(3, {}), (5, {"bits": 2}), (3, {"keep_vectors": "float16"})],
    ids=["three shards", "five shards of few bits", "kept vectors"],
)
def both(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ShardedIndex, Index]]:
    shards, codec = request.param
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
        yield sharded, single


def assert_same(found: Hits, wanted: Hits) -> None:
    assert found == wanted
    assert [str(hit.score) for hit in found] == [str(hit.score) for hit in wanted]
    assert found.plan == wanted.plan
    for place in {0, len(found) - 1} if found else set():
        why, because = found[place].explain(), wanted[place].explain()
        np.testing.assert_array_equal(why.matrix, because.matrix)
        assert why.query_tokens == because.query_tokens


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


def weights_of(query: Any, weighted: bool) -> Any:
    return np.linspace(0.0, 1.5, len(query), dtype=np.float32) if weighted else None


@PROPERTIES
@given(options=searches, number=st.integers(0, 5), weighted=st.booleans())
def test_searches(both: tuple[ShardedIndex, Index], options: dict[str, Any], number: int, weighted: bool) -> None:
    query = CORPUS.queries[number]
    found, wanted = (
        index.search(query, weights=weights_of(query, weighted), **EXACT, **options) for index in both
    )
    assert_same(found, wanted)
    if options["feedback"] is not None:
        assert found.stats["feedback_vectors"] == wanted.stats["feedback_vectors"]


@PROPERTIES
@given(options=reranks, number=st.integers(0, 5), weighted=st.booleans(), data=st.data())
def test_reranks(
    both: tuple[ShardedIndex, Index], options: dict[str, Any], number: int, weighted: bool, data: Any
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
            return index.rerank(query, candidates, scores, weights=weights_of(query, weighted), **options)
        except LatewoodError as error:
            return type(error)

    found, wanted = map(answer, both)
    if isinstance(wanted, Hits):
        assert_same(found, wanted)
    else:
        assert found is wanted
