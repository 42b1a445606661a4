"""The codebook grows with the collection: documents of another kind are found like those that it was trained on."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import latewood
from latewood import Index
from latewood.errors import InvalidInputError
from support import run_python

Vectors = list[NDArray[np.float32]]
DIM = 64
OTHER = 1_000_000  # the first id of the second kind


def kind(seed: int, documents: int) -> Vectors:
    """Documents of 30 tokens near 3,000 directions, which have a place of their own for each kind."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(3000, DIM)) + 1.2 * rng.normal(size=DIM)
    vectors = directions[rng.integers(0, 3000, (documents, 30))] + 0.9 * rng.normal(size=(documents, 30, DIM))
    return list((vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32))


FIRST, SECOND = kind(1, 2500), kind(2, 6000)
RNG = np.random.default_rng(3)
QUERIES = [SECOND[at][:12] + 0.06 * RNG.normal(size=(12, DIM)).astype(np.float32) for at in range(40)]


def found(index: Index, **options: Any) -> float:
    """Give the share of the exact ten best documents of the second kind that are found."""
    exact = [set(np.argsort(-scores)[:10] + OTHER) for scores in latewood.maxsim(QUERIES, SECOND)]
    hits = index.search_batch(QUERIES, k=10, **options)
    return float(np.mean([len({hit.id for hit in one} & best) / 10 for one, best in zip(hits, exact, strict=True)]))


def begun(path: Path, **options: Any) -> Index:
    index = Index.create(path, dim=DIM, **options)
    index.add(range(len(FIRST)), vectors=FIRST)
    return index


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Of both kinds at once."""
    index = Index.create(tmp_path_factory.mktemp("fresh") / "index", dim=DIM)
    ids = [*range(len(FIRST)), *range(OTHER, OTHER + len(SECOND))]
    index.add(ids, vectors=FIRST + SECOND)
    return index


def one_go(index: Index) -> None:
    index.add(range(OTHER, OTHER + len(SECOND)), vectors=SECOND)


def many_commits(index: Index) -> None:
    for at in range(0, len(SECOND), 60):
        index.add(range(OTHER + at, OTHER + at + 60), vectors=SECOND[at : at + 60])


def iterator(index: Index) -> None:
    index.add(iter(range(OTHER, OTHER + len(SECOND))), vectors=iter(SECOND))


def commits_that_merge_nothing(index: Index) -> None:
    for at in range(0, len(SECOND), 500):
        index.add(range(OTHER + at, OTHER + at + 500), vectors=SECOND[at : at + 500], merge=False)
    index.compact()


@pytest.mark.parametrize(
    ("add", "codes", "default"),
    [
        (one_go, 0.95, 0.95),
        (iterator, 0.95, 0.95),
        # What came first was encoded far from all centroids, and is estimated more coarsely than what came later.
        (many_commits, 0.95, 0.75),
        (commits_that_merge_nothing, 0.9, 0.75),
    ],
)
def test_documents_of_another_kind_are_found_as_if_all_had_come_at_once(
    tmp_path: Path, fresh: Index, add: Callable[[Index], None], codes: float, default: float
) -> None:
    index = begun(tmp_path / "index")
    before = index.info()
    stored = index.vectors(range(len(FIRST))).values
    add(index)
    after = index.info()
    assert after["codec"]["centroid_count"] > before["codec"]["centroid_count"]
    assert after["codec"]["trained_tokens"] > before["codec"]["trained_tokens"]
    assert after["drift"] < 1.25
    assert found(index) >= default * found(fresh)
    assert found(index, gather="exact") >= codes * found(fresh, gather="exact")
    # What was there is encoded as it was, to the bit.
    np.testing.assert_array_equal(index.vectors(range(len(FIRST))).values, stored)
    assert index.check() == []


def test_more_of_the_same_kind_asks_for_no_more_centroids(tmp_path: Path) -> None:
    index = begun(tmp_path / "index")
    before = index.info()["codec"]
    index.add(range(OTHER, OTHER + 5000), vectors=kind(1, 7500)[2500:])
    assert index.info()["codec"] == before
    assert 0.8 < index.info()["drift"] < 1.25


def test_a_number_of_centroids_that_was_asked_for_is_for_good(tmp_path: Path) -> None:
    index = begun(tmp_path / "index", centroids=512)
    one_go(index)
    info = index.info()
    assert info["codec"]["centroid_count"] == 512
    assert info["drift"] > 1.25


def test_who_reads_an_older_commit_goes_on(tmp_path: Path) -> None:
    index = begun(tmp_path / "index")
    old = Index.open(tmp_path / "index")
    before = [(hit.id, hit.score) for hit in old.search(QUERIES[0], k=20)]
    one_go(index)
    assert [(hit.id, hit.score) for hit in old.search(QUERIES[0], k=20)] == before
    assert old.refresh()
    assert [hit.id for hit in old.search(QUERIES[0])] == [hit.id for hit in index.search(QUERIES[0])]


def test_centroids_grow_the_same_on_every_machine(tmp_path: Path) -> None:
    """At every SIMD level and number of threads."""
    code = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[2])
import numpy as np
from latewood import Index
from test_codebook import DIM, FIRST, OTHER, SECOND
index = Index.create(sys.argv[1], dim=DIM, train_after=20_000)
index.add(range(700), vectors=FIRST[:700], threads=int(sys.argv[3]))
index.add(range(OTHER, OTHER + 700), vectors=SECOND[:700], threads=int(sys.argv[3]))
values = index.vectors(index.ids()).values
print(json.dumps([index.info()["codec"]["centroid_count"], hashlib.sha256(values.tobytes()).hexdigest()]))
"""
    tests = Path(__file__).parent
    one = run_python(code, tmp_path / "one", tests, 1, environment={"LATEWOOD_SIMD": "scalar"}, timeout=300)
    assert one == run_python(code, tmp_path / "two", tests, 2)
    assert one[0] > 1024


def test_training_waits_for_more_tokens_than_memory_holds(tmp_path: Path) -> None:
    """`train_after` beyond the writer's window (524,288 token vectors) holds for one long stream too."""
    rng = np.random.default_rng(5)

    def documents(count: int) -> Iterator[NDArray[np.float32]]:
        for _ in range(count):
            yield rng.normal(size=(2000, 8)).astype(np.float32)

    index = Index.create(tmp_path / "index", dim=8, bits=1, train_after=600_000)
    index.add(iter(range(290)), vectors=documents(290))
    assert index.info()["codec"]["kind"] == "flat"
    index.add(range(1000, 1020), vectors=list(documents(20)))
    codec = index.info()["codec"]
    assert (codec["kind"], codec["bits"]) == ("residual", 1)
    assert codec["trained_tokens"] > 500_000
    assert len(index) == 310
    assert index.check() == []


@pytest.mark.slow
@pytest.mark.parametrize("small_first", [False, True])
def test_a_stream_in_any_order_is_trained_on_all_of_it(tmp_path: Path, *, small_first: bool) -> None:
    """One kind of documents after the other, far more than the writer's window holds."""
    kinds = [np.stack(kind(seed, 4000))[:, :, :16] for seed in range(11, 19)]

    def error(name: str, documents: Iterator[NDArray[np.float32]]) -> NDArray[np.float64]:
        index = Index.create(tmp_path / name, dim=16)
        if small_first:
            index.add(range(10_000_000, 10_000_010), vectors=kinds[0][:10])
        index.add(iter(range(32_000)), vectors=documents)
        assert index.info()["codec"]["centroid_count"] == 4096
        assert index.info()["drift"] < 1.25
        assert index.check() == []
        assert len(index.ids()) == 32_000 + 10 * small_first
        firsts = [range(at * 4000, at * 4000 + 200) for at in range(8)] if name == "ordered" else None
        return np.array([squared_error(index, ids, kinds[at][:200]) for at, ids in enumerate(firsts or places)])

    order = np.random.default_rng(8).permutation(32_000)
    place = np.argsort(order)
    places = [place[at * 4000 : at * 4000 + 200] for at in range(8)]
    everything = np.concatenate(kinds)
    ordered, shuffled = error("ordered", iter(everything)), error("shuffled", iter(everything[order]))
    assert (ordered < 1.1 * shuffled).all()


@pytest.mark.slow
def test_a_long_stream_may_change_its_mind(tmp_path: Path) -> None:
    """Replaced and deleted documents of windows that are waiting in flat codes, and of those that are not."""
    rng = np.random.default_rng(6)

    def drawn(count: int) -> Vectors:
        vectors = rng.normal(size=(count, 20, 16))
        return list((vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32))

    index = Index.create(tmp_path / "index", dim=16)
    expected: dict[int, NDArray[np.float32]] = {}
    with index.writer(show_progress=False) as writer:
        for start in range(0, 36_000, 3000):
            new = dict(zip(range(start, start + 3000), drawn(3000), strict=True))
            writer.add(list(new), vectors=list(new.values()))
            expected |= new
            replaced = rng.choice(sorted(expected), 50, replace=False).tolist()
            vectors = drawn(50)
            writer.upsert(replaced, vectors=vectors)
            expected |= dict(zip(replaced, vectors, strict=True))
            for key in (deleted := rng.choice(sorted(expected), 70, replace=False).tolist()):
                del expected[key]
            writer.delete(deleted)
    assert sorted(index.ids()) == sorted(expected)
    assert index.info()["codec"]["centroid_count"] == 4096
    assert index.check() == []
    keys = sorted(expected)[::7]
    cosines = [(one * expected[key]).sum(axis=1).min() for key, one in zip(keys, index.vectors(keys), strict=True)]
    assert min(cosines) > 0.9


def squared_error(index: Index, ids: Iterable[int], vectors: NDArray[np.float32]) -> float:
    return float(np.mean((index.vectors(ids).values.reshape(vectors.shape) - vectors) ** 2))


def test_two_indexes_with_one_codec_give_the_same_scores(tmp_path: Path) -> None:
    whole = begun(tmp_path / "whole", bits=2, seed=7)
    shards = [
        Index.create(tmp_path / "one", codec_from=whole),
        Index.create(tmp_path / "two", codec_from=str(tmp_path / "whole"), dim=DIM, bits=2, seed=7, codec="residual"),
    ]
    for start, shard in enumerate(shards):
        assert len(shard) == 0
        shard.add(range(start, len(FIRST), 2), vectors=FIRST[start::2])
        assert shard.info()["codec"] == whole.info()["codec"]
        assert shard.check() == []
    for query in FIRST[:5]:
        scores = {hit.id: hit.score for hit in whole.search(query, k=len(FIRST), gather="exact")}
        parts = [shard.search(query, k=len(FIRST), gather="exact") for shard in shards]
        assert {hit.id: hit.score for part in parts for hit in part} == scores
    # Once trained for others, it grows like any.
    shards[0].add(range(OTHER, OTHER + len(SECOND)), vectors=SECOND)
    assert shards[0].info()["codec"]["centroid_count"] > whole.info()["codec"]["centroid_count"]


def test_a_codec_can_be_taken_where_an_index_was(tmp_path: Path) -> None:
    whole = begun(tmp_path / "whole")
    Index.create(tmp_path / "other", dim=8)
    other = Index.create(tmp_path / "other", codec_from=whole, overwrite=True)
    assert other.info()["codec"] == whole.info()["codec"]
    again = Index.create(tmp_path / "other", codec_from=whole, exist_ok=True)
    assert again.info()["codec"] == whole.info()["codec"]
    # Of itself: what is read was opened before.
    assert Index.create(tmp_path / "whole", codec_from=whole, overwrite=True).info()["codec"] == whole.info()["codec"]


def test_what_contradicts_the_other_codec_is_named(tmp_path: Path) -> None:
    whole = begun(tmp_path / "whole", bits=2)
    contrary = {"bits": 4, "codec": "flat", "seed": 1, "centroids": 4096}
    for name, value in contrary.items():
        with pytest.raises(InvalidInputError, match=rf"whole.*{name}=.*leave {name} out"):
            Index.create(tmp_path / "new", codec_from=whole, **{name: value})  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="dimension"):
        Index.create(tmp_path / "new", codec_from=whole, dim=DIM + 1)
    untrained = Index.create(tmp_path / "few", dim=DIM)
    for _ in range(2):
        with pytest.raises(InvalidInputError, match=r"few.*no trained codec.*65536 token vectors"):
            Index.create(tmp_path / "new", codec_from=untrained)
        untrained.add([untrained.info()["documents"]], vectors=FIRST[:1])
    assert not (tmp_path / "new").exists()


def test_the_command_line_takes_another_codec(tmp_path: Path) -> None:
    testing = pytest.importorskip("click.testing")
    from latewood.cli.commands import cli

    whole = begun(tmp_path / "whole", bits=2)
    made = testing.CliRunner().invoke(cli, ["create", str(tmp_path / "new"), "--codec-from", str(tmp_path / "whole")])
    assert made.exit_code == 0, made.output
    assert Index.open(tmp_path / "new").info()["codec"] == whole.info()["codec"]
