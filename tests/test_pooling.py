"""Fewer vectors for a text: the core against a slow reference, scipy through sentence-transformers, and torch."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from latewood.encode import pool_tokens
from latewood.errors import InvalidInputError


def texts(seed: int, lengths: list[int], dim: int = 32) -> list[NDArray[np.float32]]:
    """Unit vectors around a few directions, as tokens of a text are."""
    random = np.random.default_rng(seed)
    topics = random.standard_normal((12, dim))
    made = []
    for length in lengths:
        vectors = topics[random.integers(0, 12, length)] + 0.7 * random.standard_normal((length, dim))
        made.append((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
    return made


def kmeans(vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Spherical k-means as the contract has it, in the plainest way."""
    tokens = len(vectors)
    if tokens <= count:
        return vectors
    exact = vectors.astype(np.float64)
    directions = np.rint(exact * (4000 / np.linalg.norm(exact, axis=1))[:, None])
    starts = [int((directions @ directions.sum(0)).argmax())]
    while len(starts) < count:
        nearest = (directions @ directions[starts].T).max(1)
        nearest[starts] = np.inf
        starts.append(int(nearest.argmin()))
    sums = directions[starts]
    labels = np.full(tokens, -1)
    for _ in range(10):
        scores = directions @ sums.T / np.linalg.norm(sums, axis=1).clip(1e-9)
        new = scores.argmax(1)
        own = scores.max(1)
        for cluster in range(count):
            if not (new == cluster).any():
                spare = np.bincount(new, minlength=count)[new] > 1
                taken = int(np.where(spare, own, np.inf).argmin())
                new[taken], own[taken] = cluster, np.inf
        if (new == labels).all():
            break
        labels = new
        sums = np.stack([directions[labels == cluster].sum(0) for cluster in range(count)])
    order = list(dict.fromkeys(labels.tolist()))
    return np.stack([vectors[labels == cluster].mean(0) for cluster in order])


@given(seed=st.integers(0, 10**6), tokens=st.integers(1, 90), count=st.integers(1, 40))
def test_kmeans_is_the_reference(seed: int, tokens: int, count: int) -> None:
    (vectors,) = texts(seed, [tokens])
    pooled = pool_tokens([vectors], count=count, normalize=False)
    np.testing.assert_allclose(pooled[0], kmeans(vectors, count), atol=1e-5)


@pytest.mark.parametrize("method", ["kmeans", "ward"])
def test_a_text_depends_on_itself_alone(method: Any) -> None:
    items = texts(3, [70, 1, 33, 8, 120])
    together = pool_tokens(items, method, fraction=0.25, threads=2)
    assert list(together.lengths) == [17, 1, 8, 2, 30]
    for item, pooled in zip(items, together, strict=True):
        np.testing.assert_array_equal(pool_tokens(item, method, fraction=0.25, threads=1)[0], pooled)
        np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-6)


def test_forms_of_input() -> None:
    items = texts(4, [40, 12, 5])
    padded = np.zeros((3, 40, 32), dtype=np.float32)
    mask = np.zeros((3, 40), dtype=bool)
    for place, item in enumerate(items):
        padded[place, : len(item)] = item
        mask[place, : len(item)] = True
    expected = pool_tokens(items, count=6)
    np.testing.assert_array_equal(pool_tokens(padded, count=6, mask=mask).values, expected.values)
    assert list(expected.lengths) == [6, 6, 5]
    assert len(pool_tokens([], count=6)) == 0
    assert list(pool_tokens([items[0], items[0][:0]], count=6).lengths) == [6, 0]


def test_budgets() -> None:
    (vectors,) = texts(5, [41])
    assert pool_tokens(vectors, count=7).lengths[0] == 7
    assert pool_tokens(vectors, fraction=0.5).lengths[0] == 20
    assert pool_tokens(vectors, "ward", factor=4, protected=1).lengths[0] == 11
    kept = pool_tokens(vectors, count=7, protected=2)
    assert kept.lengths[0] == 7
    np.testing.assert_allclose(kept[0][:2], vectors[:2], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "exactly one"),
        ({"count": 3, "factor": 2.0}, "exactly one"),
        ({"count": 0}, "count must be"),
        ({"fraction": 1.5}, "fraction"),
        ({"factor": 0.5}, "factor"),
        ({"count": 3, "protected": -1}, "protected"),
        ({"count": 3, "method": "mean"}, "'kmeans', 'ward'"),
        ({"count": 3, "threads": 0}, "threads"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        pool_tokens(texts(6, [9]), **options)


def test_too_long_a_text_is_named() -> None:
    long = np.ones((8200, 2), dtype=np.float32)
    with pytest.raises(InvalidInputError, match=r"item 1 has 8200 .*split"):
        pool_tokens([long[:3], long], count=4)


@pytest.mark.parametrize("factor", [1.0, 1.5, 2.0, 4.0, 8.0])
@pytest.mark.parametrize(("protected", "normalize"), [(1, True), (0, False)])
def test_ward_is_that_of_sentence_transformers(factor: float, protected: int, normalize: bool) -> None:
    torch = pytest.importorskip("torch")
    modules = pytest.importorskip("sentence_transformers.multi_vector_encoder.modules")
    items = texts(7, [1, 2, 3, 17, 64, 150, 260])
    theirs = modules.HierarchicalTokenPooling(
        factor, num_protected_tokens=protected, normalize_embeddings=normalize
    ).pool([torch.from_numpy(item) for item in items])
    ours = pool_tokens(items, "ward", factor=factor, protected=protected, normalize=normalize)
    for mine, yours in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, yours.numpy(), atol=1e-5)
