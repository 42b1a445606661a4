"""Fixed dimensional encodings: what they find, for whose vectors they are unsafe, and how they live in an index."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latewood
from latewood import FdeOptions, Index
from latewood.errors import InvalidInputError
from strategies import Corpus, make_corpus
from support import build_index, run_python

UNCENTRED = FdeOptions(centred=False)


def anisotropic(spread: float, *, documents: int = 4000, dim: int = 64) -> Corpus:
    """Unit vectors around one large mean, and a little of their own topic; queries are noisy pieces of documents."""
    generator = np.random.default_rng(1)
    mean = generator.standard_normal(dim) / np.sqrt(dim)
    topics = generator.standard_normal((400, dim)) / np.sqrt(dim)

    def unit(own: np.ndarray) -> np.ndarray:
        vectors = mean + spread * own
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)

    def noise(tokens: int) -> np.ndarray:
        return np.asarray(generator.standard_normal((tokens, dim)) / np.sqrt(dim))

    own = [topics[generator.choice(generator.integers(400, size=6), 24)] + 0.7 * noise(24) for _ in range(documents)]
    asked = [own[generator.integers(documents)][generator.integers(24, size=12)] + 0.5 * noise(12) for _ in range(32)]
    return Corpus([unit(one) for one in own], [unit(one) for one in asked])


@pytest.fixture(scope="module")
def encoded(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """An index with encodings; not to be changed."""
    return build_index(tmp_path_factory.mktemp("fde") / "index", corpus, fde=True)


def every_hit(index: Index, corpus: Corpus, **options: Any) -> list[list[tuple[Any, float]]]:
    found = index.search_batch(corpus.queries, 10, gather="fde", **options)
    return [[(hit.id, hit.score) for hit in hits] for hits in found]


def test_a_large_common_mean(tmp_path: Path) -> None:
    """It makes uncentred encodings useless, which `info` tells; the default finds what it should all the same."""
    corpus = anisotropic(0.2)
    recalls = {}
    for name, fde in (("centred", FdeOptions()), ("uncentred", UNCENTRED)):
        index = build_index(tmp_path / name, corpus, fde=fde, bits=8)
        # 8 times as many are estimated by centroids, of 4,000.
        recalls[name] = index.measure_recall(corpus.queries, k=10, gather="fde", max_scored=40)
        told = index.info()["fde"]
        assert told["safe"] is (name == "centred")
        assert told["anisotropy"]["mean_norm"] ** 2 > 0.9
        assert told["anisotropy"]["filled"] < 0.25 < 0.9 < told["anisotropy"]["filled_centred"]
        assert name == "centred" or "centred encodings would" in told["reason"]
        assert index.measure_recall(corpus.queries, k=10) > 0.9
    assert recalls["uncentred"] < 0.5
    assert recalls["centred"] > recalls["uncentred"] + 0.2


def test_nothing_but_a_common_mean_is_unsafe_however_it_is_encoded(tmp_path: Path) -> None:
    told = build_index(tmp_path / "index", anisotropic(0.05, documents=300), fde=True).info()["fde"]
    assert told["safe"] is False
    assert "share" in told["reason"]


def test_one_direction_is_unsafe(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    vectors = generator.standard_normal((200, 8, 32)).astype(np.float32)
    vectors[..., 5] *= 20
    index = build_index(tmp_path / "index", Corpus(list(vectors), [vectors[0]]), fde=True)
    told = index.info()["fde"]
    assert told["anisotropy"]["first_direction"] > 0.9
    assert told["safe"] is False
    assert "one direction" in told["reason"]


def test_what_info_tells(tmp_path: Path, index: Index, encoded: Index, corpus: Corpus) -> None:
    assert index.info()["fde"] is None
    told = encoded.info()["fde"]
    assert told["options"] == {"repetitions": 16, "planes": 3, "components": None, "centred": True}
    # 4 of 64 components, and that along the mean.
    assert told["bytes_per_document"] == 16 * 2**3 * (4 + 1)
    assert told["safe"] is True
    sections = encoded.info()["bytes_by_section"]
    assert sections["fdes"] == told["bytes_per_document"] * len(corpus.documents)
    assert sections["fde units"] == 4 * len(corpus.documents)
    waiting = Index.create(tmp_path / "waiting", dim=corpus.dim, fde=UNCENTRED)
    waiting.add(range(10), vectors=corpus.documents[:10])
    told = waiting.info()["fde"]
    assert (told["safe"], told["anisotropy"]) == (None, None)
    assert "no centroids" in told["reason"]


@pytest.mark.parametrize("fde", [True, UNCENTRED, FdeOptions(repetitions=3, planes=0, components=1)])
@pytest.mark.parametrize("dim", [1, 33, 48])
def test_encodings_of_every_shape_find_documents(tmp_path: Path, dim: int, fde: Any) -> None:
    corpus = make_corpus(3, dim=dim, documents=60, queries=3)
    index = build_index(tmp_path / "index", corpus, fde=fde)
    for query in corpus.queries:
        exact = index.search(query, 5, gather="exact")
        # All of them are candidates, and as many scored as there are.
        assert index.search(query, 5, gather="fde", max_scored=60) == exact


def test_an_index_without_encodings_says_so(tmp_path: Path, index: Index, corpus: Corpus) -> None:
    with pytest.raises(InvalidInputError, match="create it with fde=True"):
        index.search(corpus.queries[0], gather="fde")
    empty = Index.create(tmp_path / "empty", dim=corpus.dim)
    with pytest.raises(InvalidInputError, match="create it with fde=True"):
        empty.search(corpus.queries[0], gather="fde")


def test_where_every_document_is_scored_it_has_no_effect(tmp_path: Path, corpus: Corpus) -> None:
    """Before there are centroids, and in an index that has none."""
    for name, options in (("waiting", {"fde": True}), ("flat", {"codec": "flat"})):
        index = Index.create(tmp_path / name, dim=corpus.dim, **options)
        index.add(range(20), vectors=corpus.documents[:20])
        hits = index.search(corpus.queries[0], gather="fde")
        assert hits == index.search(corpus.queries[0], gather="exact")
        assert (hits.plan.gather, hits.plan.without_effect) == ("exact", ("gather",))


def test_it_is_never_chosen_unasked(encoded: Index, corpus: Corpus) -> None:
    assert encoded.search(corpus.queries[0], 5, max_scored=20).plan.gather == "flood"
    assert encoded.search(corpus.queries[0], 5, gather="fde", max_scored=20).plan.gather == "fde"


def test_an_index_that_grows_past_training_encodes_all_its_documents(tmp_path: Path, corpus: Corpus) -> None:
    half = len(corpus.documents) // 2
    index = Index.create(tmp_path / "index", dim=corpus.dim, train_after=sum(map(len, corpus.documents)) - 5, fde=True)
    index.add(range(half), vectors=corpus.documents[:half])
    assert "fdes" not in index.info()["bytes_by_section"]
    index.add(range(half, 2 * half), vectors=corpus.documents[half:])
    assert index.info()["bytes_by_section"]["fdes"] > 0
    assert index.measure_recall(corpus.queries, k=10, gather="fde", max_scored=100) > 0.9
    assert index.check() == []


def test_merging_compaction_deletes_and_upserts_keep_them(tmp_path: Path, corpus: Corpus) -> None:
    """A document has the same encoding in whatever segment it is: the hits of few candidates are the same."""
    index = Index.create(tmp_path / "index", dim=corpus.dim, train_after=0, fde=True)
    for start in range(0, 400, 100):
        index.add(range(start, start + 100), vectors=corpus.documents[start : start + 100], merge=False)
    index.delete(range(0, 400, 7))
    index.upsert(range(1, 400, 7), vectors=[corpus.documents[key - 1] for key in range(1, 400, 7)])
    before = every_hit(index, corpus, max_scored=12)
    deleted = set(range(0, 400, 7))
    assert not any(key in deleted for hits in before for key, _ in hits)
    exact = index.search_batch(corpus.queries, 400, gather="exact")
    for hits, own in zip(before, exact, strict=True):
        scores = {hit.id: hit.score for hit in own}
        assert all(scores[key] == score for key, score in hits)
    index.compact()
    assert index.info()["segments"] == 1
    assert index.info()["bytes_by_section"]["fdes"] == index.info()["fde"]["bytes_per_document"] * len(index)
    assert every_hit(index, corpus, max_scored=12) == before
    assert every_hit(Index.open(index.path, mmap=False), corpus, max_scored=12) == before
    assert index.check() == []


def test_only_what_is_allowed_is_looked_at(encoded: Index, corpus: Corpus) -> None:
    allowed = [*range(3, 9), 11, 13, *range(300, 400)]
    for query in corpus.queries:
        hits = encoded.search(query, 10, ids=allowed, gather="fde", max_scored=50)
        assert hits.stats["gathered"] == len(allowed)
        assert len(hits) == 10
        assert {hit.id for hit in hits} <= set(allowed)


def test_weights_hold_for_encodings_too(tmp_path: Path) -> None:
    """Weights of 0 leave tokens out, and doubled weights change no order."""
    corpus = make_corpus(11, dim=64, documents=3000, queries=8, clusters=300)
    index = build_index(tmp_path / "index", corpus, fde=True)
    for query in corpus.queries:
        few: dict[str, Any] = {"k": 5, "gather": "fde", "max_scored": 5}
        half = len(query) // 2
        muted = index.search(query, weights=np.r_[np.ones(half), np.zeros(len(query) - half)], **few)
        assert [hit.id for hit in muted] == [hit.id for hit in index.search(query[:half], **few)]
        doubled = index.search(query, weights=np.full(len(query), 2.0), **few)
        assert [hit.id for hit in doubled] == [hit.id for hit in index.search(query, **few)]


def test_documents_without_tokens_are_no_hits(tmp_path: Path, corpus: Corpus) -> None:
    index = Index.create(tmp_path / "index", dim=corpus.dim, train_after=0, fde=True)
    index.add(["empty"], vectors=[np.zeros((0, corpus.dim), dtype=np.float32)])
    index.add(["full", "void"], vectors=[corpus.documents[0], np.zeros((0, corpus.dim), dtype=np.float32)])
    for _ in range(2):
        assert [hit.id for hit in index.search(corpus.queries[0], gather="fde")] == ["full"]
        index.compact()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"fde": "yes"}, "FdeOptions"),
        ({"fde": None}, "FdeOptions"),
        ({"fde": FdeOptions}, "FdeOptions"),
        ({"fde": {"planes": 3}}, "FdeOptions"),
        ({"fde": FdeOptions(repetitions=100, planes=8, components=64)}, "65536"),
        ({"fde": FdeOptions(repetitions=2**62, planes=8)}, "65536"),
        ({"fde": True, "codec": "flat"}, "leave fde out"),
    ],
)
def test_bad_options_are_refused_before_anything_is_made(tmp_path: Path, options: Any, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        Index.create(tmp_path / "index", dim=64, **options)
    assert not (tmp_path / "index").exists()


def test_encoding_again_gives_the_same_bits(tmp_path: Path) -> None:
    """Whatever the SIMD level and the number of threads: the files of two indexes hold the same bytes."""
    code = """
import hashlib, json, os, sys
import latewood
from strategies import make_corpus

corpus = make_corpus(17, dim=100, documents=150)
digests = []
for threads in (1, 3):
    folder = f"{sys.argv[1]}/{os.environ['LATEWOOD_SIMD']}-{threads}"
    index = latewood.Index.create(folder, dim=100, train_after=0, fde=True)
    index.add(range(150), vectors=corpus.documents, threads=threads)
    for kind in ("segment", "codec"):
        files = sorted(name for name in os.listdir(folder) if name.startswith(kind))
        assert len(files) == 1, files
        digests.append([kind, hashlib.sha256(open(f"{folder}/{files[0]}", "rb").read()).hexdigest()])
print(json.dumps(digests))
"""
    made = [
        tuple(digest)
        for level in latewood.simd_levels()
        for digest in run_python(code, tmp_path, environment={"LATEWOOD_SIMD": level})
    ]
    assert len(set(made)) == 2, made
