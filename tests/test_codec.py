"""What the codec keeps: decoded vectors near the originals, and scores that are those of the decoded vectors."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latewood import Index
from reference import decode, int8_tolerance, maxsim, sections
from strategies import UGLY_DIMS, Corpus, corpora, make_corpus
from support import build_index

# Largest share of a vector's energy that may be lost: the best levels for a Gaussian lose .36, .12, .0095 and under
# .0001 of it, and the steps of gains and centroids come on top.
LOST_ENERGY = {("flat", 1): 0.42, ("flat", 2): 0.15, ("flat", 4): 0.02, ("flat", 8): 0.002}


def lost_energy(decoded: np.ndarray, original: np.ndarray) -> float:
    return float(((decoded - original) ** 2).sum() / (original**2).sum())


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("codec", ["residual", "flat"])
def test_decoded_vectors_are_near(tmp_path: Path, codec: str, bits: int) -> None:
    corpus = make_corpus(11, dim=128, documents=200)
    original = np.concatenate(corpus.documents)
    index = build_index(tmp_path / "index", corpus, codec=codec, bits=bits)
    decoded = index.vectors(range(len(corpus.documents)))
    np.testing.assert_array_equal(decoded.lengths, [len(document) for document in corpus.documents])
    assert lost_energy(decoded.values, original) <= LOST_ENERGY["flat", bits]


@pytest.mark.parametrize("dim", UGLY_DIMS)
def test_every_dimension(tmp_path: Path, dim: int) -> None:
    corpus = make_corpus(dim, dim=dim, documents=40)
    index = build_index(tmp_path / "index", corpus)
    decoded = index.vectors(range(40))
    assert decoded.values.shape[1] == dim
    assert lost_energy(decoded.values, np.concatenate(corpus.documents)) <= LOST_ENERGY["flat", 4]


@pytest.mark.parametrize("dim", [32, 100, 128])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("codec", ["residual", "flat"])
def test_files_say_what_the_format_says(tmp_path: Path, codec: str, bits: int, dim: int) -> None:
    """Read the files by `docs/format.md` alone and decode them with the oracle."""
    corpus = make_corpus(19, dim=dim, documents=50)
    index = build_index(tmp_path / "index", corpus, codec=codec, bits=bits)
    trained = sections(next(tmp_path.glob("index/codec-*")))
    segment = sections(next(tmp_path.glob("index/segment-*")))
    parameters = json.loads(trained[16])
    depth = -(-dim // 32) * 32
    assert (parameters["dim"], parameters["depth"], parameters["bits"]) == (dim, depth, bits)
    rotation = np.frombuffer(trained[17], "<f4").reshape(dim, depth)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(dim), atol=1e-5)
    offsets = np.frombuffer(segment[33], "<u8").astype(np.int64)
    codes = np.frombuffer(segment[34], np.uint8).reshape(-1, depth * bits // 8)
    gains = (np.frombuffer(segment[35], "<u2").astype(np.uint32) << 16).view(np.float32)
    rows = None
    if codec == "residual":
        centroids = np.frombuffer(trained[18], np.int8).reshape(-1, depth)
        rows = centroids[np.frombuffer(segment[36], "<u2")]
    wanted = decode(codes, gains, rotation, bits, rows, parameters["centroid_unit"])
    stored = index.vectors(range(50))
    np.testing.assert_array_equal(offsets, stored.offsets)
    np.testing.assert_allclose(stored.values, wanted, atol=1e-5)


def test_vectors_of_any_length(tmp_path: Path) -> None:
    """Vectors need not have unit length, and the codec's training sample may not have shown their scale."""
    corpus = make_corpus(5, documents=60)
    scales = np.geomspace(1e-4, 1e4, 60).astype(np.float32)
    scaled = Corpus([vectors * scale for vectors, scale in zip(corpus.documents, scales, strict=True)], corpus.queries)
    index = build_index(tmp_path / "index", scaled, codec="flat")
    for position, vectors in enumerate(scaled.documents):
        assert lost_energy(index.vectors([position]).values, vectors) <= LOST_ENERGY["flat", 4]


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 0.1, 20.0, 1e9])
def test_centroids_are_as_long_as_the_vectors(tmp_path: Path, scale: float) -> None:
    """One scale for a whole collection changes what scores are, and nothing of how well they are kept."""
    corpus = make_corpus(5, documents=60)
    documents = [(vectors * scale).astype(np.float32) for vectors in corpus.documents]
    scaled = build_index(tmp_path / "scaled", Corpus(documents[:40], corpus.queries))
    scaled.add(range(40, 60), vectors=documents[40:])
    scaled = Index.open(scaled.path)
    assert scaled.info()["codec"]["centroid_count"] > 0
    assert lost_energy(scaled.vectors(range(60)).values / scale, np.concatenate(documents) / scale) <= 0.02
    for query in corpus.queries:
        exact = np.array([maxsim(query, document) for document in documents])
        found = scaled.search(query, 60, gather="exact")
        scores = np.array([hit.score for hit in found])
        assert np.abs(scores - exact[[int(hit.id) for hit in found]]).max() < 0.1 * np.abs(exact).max()


def test_zero_vectors_stay_zero(tmp_path: Path) -> None:
    corpus = make_corpus(5, documents=60)
    corpus.documents[3][:] = 0.0
    index = build_index(tmp_path / "index", corpus, codec="flat")
    assert not index.vectors([3]).values.any()
    assert index.explain(corpus.queries[0], 3).score == 0.0


@given(corpora(), st.sampled_from(["residual", "flat"]), st.sampled_from([1, 2, 4, 8]))
def test_scores_are_those_of_the_decoded_vectors(corpus: Corpus, codec: str, bits: int) -> None:
    with TemporaryDirectory() as folder:
        index = build_index(Path(folder) / "index", corpus, codec=codec, bits=bits)
        decoded = list(index.vectors(range(len(corpus.documents))))
        for query in corpus.queries:
            for hit in index.search(query, k=len(decoded), gather="exact"):
                document = decoded[int(hit.id)]
                assert hit.score == pytest.approx(maxsim(query, document), abs=int8_tolerance(query, document))


def test_int8_queries_lose_little(tmp_path: Path) -> None:
    """The bound above is for the worst rounding; the usual error is a hundredth of a query token's."""
    corpus = make_corpus(23, dim=128, documents=200)
    index = build_index(tmp_path / "index", corpus)
    decoded = list(index.vectors(range(200)))
    for query in corpus.queries:
        errors = [
            abs(hit.score - maxsim(query, decoded[int(hit.id)])) / len(query)
            for hit in index.search(query, k=200, gather="exact")
        ]
        assert np.sqrt(np.mean(np.square(errors))) < 0.002


def test_the_same_data_and_seed_give_the_same_vectors(tmp_path: Path) -> None:
    corpus = make_corpus(3)
    first = build_index(tmp_path / "one", corpus, seed=5).vectors(range(50))
    again = build_index(tmp_path / "two", corpus, seed=5).vectors(range(50))
    other = build_index(tmp_path / "three", corpus, seed=6).vectors(range(50))
    np.testing.assert_array_equal(first.values, again.values)
    assert (first.values != other.values).any()


def test_training_waits_for_enough_vectors(tmp_path: Path) -> None:
    """Below `train_after` tokens vectors come back nearly as they were; above, as the residual codec keeps them."""
    corpus = make_corpus(13, dim=64, documents=120)
    original = np.concatenate(corpus.documents)
    tokens = [sum(map(len, corpus.documents[:half])) for half in (60, 120)]
    index = Index.create(tmp_path / "index", dim=64, bits=2, train_after=tokens[0] + 1)
    index.add(range(60), vectors=corpus.documents[:60])
    before = index.vectors(range(60))
    assert lost_energy(before.values, original[: tokens[0]]) <= LOST_ENERGY["flat", 8]
    index.add(range(60, 120), vectors=corpus.documents[60:])
    after = index.vectors(range(120))
    assert lost_energy(after.values, original) <= LOST_ENERGY["flat", 2] + LOST_ENERGY["flat", 8]
    assert lost_energy(after.values[: tokens[0]], original[: tokens[0]]) > LOST_ENERGY["flat", 8]
    assert index.check() == []
    reopened = Index.open(index.path)
    assert [hit.id for hit in reopened.search(corpus.queries[0])] == [hit.id for hit in index.search(corpus.queries[0])]


def test_size_on_disk(tmp_path: Path) -> None:
    """Bytes for each token at 128 dimensions grow with the bits, and the flat codec stores no centroids."""
    corpus = make_corpus(3, dim=128, documents=600, document_tokens=(40, 60))
    tokens = sum(map(len, corpus.documents))
    code_bytes = {1: 16, 2: 32, 4: 64, 8: 128}
    for bits, row in code_bytes.items():
        folder = tmp_path / f"flat{bits}"
        build_index(folder, corpus, codec="flat", bits=bits)
        size = sum(file.stat().st_size for file in folder.iterdir())
        # The rotation takes 64 KiB; a gain takes one or two bytes.
        assert row * tokens < size < (row + 4) * tokens + 128 * 1024
