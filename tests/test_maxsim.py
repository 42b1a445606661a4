"""Exact MaxSim against the oracle and against sentence-transformers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import latewood
from latewood import Ragged
from latewood.errors import DimensionError, InvalidInputError
from reference import maxsim as oracle
from strategies import UGLY_COUNTS, UGLY_DIMS, ragged


def expected(queries: Ragged, documents: Ragged) -> np.ndarray:
    return np.array([[oracle(query, document) for document in documents] for query in queries])


def assert_close(scores: np.ndarray, wanted: np.ndarray, queries: Ragged, documents: Ragged) -> None:
    """float32 sums of dim products: an error of dim · 2^-24 · |q| |d| for each query token, and as much for the sum."""
    norms = np.array([np.linalg.norm(query, axis=1).sum() for query in queries])
    longest = np.array([np.linalg.norm(document, axis=1).max(initial=0.0) for document in documents])
    bound = norms[:, None] * longest[None, :] * (queries.dim + 512) * 2.0**-24 + 1e-30
    finite = np.isfinite(wanted)
    assert (scores[~finite] == wanted[~finite]).all()
    assert (np.abs(scores[finite] - wanted[finite]) <= np.broadcast_to(bound, wanted.shape)[finite]).all()


@given(st.data())
def test_against_the_oracle(data: st.DataObject) -> None:
    documents = data.draw(ragged(min_tokens=0))
    queries = data.draw(ragged(dim=documents.dim, max_items=4))
    scores = latewood.maxsim(queries, documents)
    assert scores.dtype == np.float32
    assert scores.shape == (len(queries), len(documents))
    assert_close(scores, expected(queries, documents), queries, documents)


@pytest.mark.parametrize("dim", [*UGLY_DIMS, 1, 2, 31, 384, 1024])
@pytest.mark.parametrize("tokens", UGLY_COUNTS)
def test_every_ugly_size(dim: int, tokens: int) -> None:
    generator = np.random.default_rng(dim * 1000 + tokens)
    query = generator.standard_normal((tokens, dim)).astype(np.float32)
    document = generator.standard_normal((tokens + 1, dim)).astype(np.float32)
    queries, documents = Ragged(query, np.array([0, tokens])), Ragged(document, np.array([0, tokens + 1]))
    assert_close(latewood.maxsim(query, document), expected(queries, documents), queries, documents)


@given(st.data())
def test_in_bfloat16(data: st.DataObject) -> None:
    """Both sides are off by 2^-8 of themselves at most, where a CPU rounds them at all."""
    documents = data.draw(ragged(min_tokens=0))
    queries = data.draw(ragged(dim=documents.dim, max_items=4))
    scores = latewood.maxsim(queries, documents, precision="bfloat16")
    wanted = expected(queries, documents)
    norms = np.array([np.linalg.norm(query, axis=1).sum() for query in queries])
    longest = np.array([np.linalg.norm(document, axis=1).max(initial=0.0) for document in documents])
    finite = np.isfinite(wanted)
    assert (scores[~finite] == wanted[~finite]).all()
    assert (np.abs(scores[finite] - wanted[finite]) <= 0.0079 * np.outer(norms, longest)[finite] + 1e-30).all()
    pairs = latewood.maxsim_pairs(queries, [documents[0]] * len(queries), precision="bfloat16")
    np.testing.assert_array_equal(pairs, scores[:, 0])


def test_unknown_precision() -> None:
    vectors = np.ones((2, 32), dtype=np.float32)
    for call in (latewood.maxsim, latewood.maxsim_pairs):
        with pytest.raises(InvalidInputError, match="precision must be one of 'float32', 'bfloat16', not 'float8'"):
            call([vectors], [vectors], precision="float8")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="float8"):
        latewood.Reranker(precision="float8").rank(vectors, [vectors])  # type: ignore[arg-type]


def test_every_form_scores_the_same() -> None:
    """To the bit, whether arrays are read where they lie or copied first, and float16 as its values in float32."""
    generator = np.random.default_rng(6)
    for dim in (100, 128):
        query = generator.standard_normal((9, dim)).astype(np.float32)
        half = [generator.standard_normal((n, dim)).astype(np.float16) for n in (1, 0, 40, 40)]
        single = [array.astype(np.float32) for array in half]
        scores = latewood.maxsim(query, Ragged(np.concatenate(single), np.array([0, 1, 1, 41, 81])))
        strided = [np.repeat(array, 2, axis=0)[::2] for array in single]
        mixed = [single[0], half[1], *single[2:]]
        for form in (single, tuple(single), strided, mixed, [array.tolist() for array in single]):
            np.testing.assert_array_equal(latewood.maxsim(query, form), scores)
        np.testing.assert_array_equal(latewood.maxsim(query, half), scores)
        pairs = latewood.maxsim_pairs([query] * 4, half)
        np.testing.assert_array_equal(pairs, latewood.maxsim(query, half)[0])
        padded = np.stack(half[2:])
        np.testing.assert_array_equal(latewood.maxsim(query, padded), latewood.maxsim(query, half[2:]))
        np.testing.assert_array_equal(latewood.maxsim(query, half[2]), latewood.maxsim(query, half[2:3]))


def test_512_query_tokens() -> None:
    generator = np.random.default_rng(5)
    query = generator.standard_normal((512, 128)).astype(np.float32)
    documents = [generator.standard_normal((n, 128)).astype(np.float32) for n in (1, 700)]
    wanted = np.array([[oracle(query, document) for document in documents]])
    np.testing.assert_allclose(latewood.maxsim(query, documents), wanted, rtol=1e-5)


@given(st.data())
def test_pairs_are_the_diagonal(data: st.DataObject) -> None:
    documents = data.draw(ragged(min_tokens=0))
    queries = data.draw(ragged(dim=documents.dim, min_items=len(documents), max_items=len(documents)))
    pairs = latewood.maxsim_pairs(queries, documents)
    np.testing.assert_array_equal(pairs, np.diagonal(latewood.maxsim(queries, documents)))


def test_masks_and_mean() -> None:
    generator = np.random.default_rng(2)
    queries = generator.standard_normal((2, 5, 16)).astype(np.float32)
    documents = generator.standard_normal((3, 6, 16)).astype(np.float32)
    query_mask = np.array([[1, 1, 0, 0, 1], [1, 0, 0, 0, 0]])
    document_mask = np.array([[0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]])
    scores = latewood.maxsim(queries, documents, query_mask=query_mask, document_mask=document_mask)
    for i in range(2):
        for j in range(3):
            wanted = oracle(queries[i][query_mask[i] > 0], documents[j][document_mask[j] > 0])
            assert scores[i, j] == pytest.approx(wanted, rel=1e-5)
    mean = latewood.maxsim(
        queries, documents, query_mask=query_mask, document_mask=document_mask, length_normalize=True
    )
    np.testing.assert_allclose(mean, scores / np.array([[3.0], [1.0]]), rtol=1e-6)


def test_empty_sides() -> None:
    nothing = np.zeros((0, 8), dtype=np.float32)
    something = np.ones((2, 8), dtype=np.float32)
    assert latewood.maxsim([nothing], [something]).tolist() == [[0.0]]
    assert latewood.maxsim([something], [nothing, something]).tolist() == [[-np.inf, 16.0]]
    assert latewood.maxsim([something], []).shape == (1, 0)
    assert latewood.maxsim([], [something]).shape == (0, 1)
    assert latewood.maxsim_pairs([], []).shape == (0,)


def test_refusals() -> None:
    query = np.ones((2, 8), dtype=np.float32)
    with pytest.raises(DimensionError, match="8 dimensions and the documents 9"):
        latewood.maxsim(query, np.ones((2, 9), dtype=np.float32))
    with pytest.raises(InvalidInputError, match="1 queries and 2 documents"):
        latewood.maxsim_pairs([query], [query, query])
    for bad in (np.nan, np.inf, -np.inf):
        spoiled = query.copy()
        spoiled[1, 3] = bad
        with pytest.raises(InvalidInputError, match="document 1"):
            latewood.maxsim(query, [query, spoiled])
        with pytest.raises(InvalidInputError, match="query 0"):
            latewood.maxsim(spoiled, [query])
        with pytest.raises(InvalidInputError, match=r"document 2 holds .* at token 1, dimension 3"):
            latewood.maxsim(query, [array.astype(np.float16) for array in (query, query, spoiled, spoiled)])
        with pytest.raises(InvalidInputError, match="document 1"):
            latewood.maxsim_pairs([query, query], [query, spoiled])
    with pytest.raises(InvalidInputError):
        latewood.maxsim(query.astype(np.float64) * 1e300, query)


def test_against_sentence_transformers() -> None:
    util = pytest.importorskip("sentence_transformers.util")
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(3)
    queries = [generator.standard_normal((n, 96)).astype(np.float32) for n in (3, 32, 1)]
    documents = [generator.standard_normal((n, 96)).astype(np.float32) for n in (1, 50, 7, 180)]
    theirs = util.maxsim(queries, documents)
    # Where products cancel, both are off by the products' magnitude, about 60, times 1e-6 for each query token.
    tolerance = np.array([[1.8e-4], [2e-3], [6e-5]])
    assert (np.abs(latewood.maxsim(queries, documents) - theirs.numpy()) <= tolerance).all()
    mean = util.maxsim(queries, documents, length_normalize=True)
    np.testing.assert_allclose(latewood.maxsim(queries, documents, length_normalize=True), mean.numpy(), atol=6e-5)
    half = [torch.from_numpy(document).bfloat16() for document in documents]
    theirs = util.maxsim(queries, [document.float() for document in half])
    assert (np.abs(latewood.maxsim(queries, half) - theirs.numpy()) <= tolerance).all()
