"""Token vectors like real ones, and the sizes at which kernels and blocks have their edges."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from latewood import Ragged

UGLY_DIMS = (
    32,  # one 32-component block
    33,  # one block and a padding of 31
    48,  # a block and a half: answerai-colbert-small's kind
    64,
    96,  # odd number of blocks
    100,  # no multiple of 8
    127,  # one short of a power of two
    128,  # ColBERT's
    320,  # ColQwen's kind
)
UGLY_COUNTS = (
    1,
    2,
    7,
    8,  # the stride of the final sum
    15,
    16,  # one vector register of int32 lanes
    17,
    31,
    32,  # one group of query lanes
    33,
    65,
)


@dataclass(frozen=True, repr=False)
class Corpus:
    """Documents and queries as lists of `[tokens, dim]` arrays."""

    documents: list[NDArray[np.float32]]
    queries: list[NDArray[np.float32]]

    def __repr__(self) -> str:
        return f"Corpus({len(self.documents)} documents, {len(self.queries)} queries, dim={self.dim})"

    @property
    def dim(self) -> int:
        return int(self.queries[0].shape[1])


def token_vectors(generator: np.random.Generator, centres: NDArray[np.float64], tokens: int) -> NDArray[np.float32]:
    """Unit vectors around cluster centres that share a direction: clustered and anisotropic, with repeated tokens."""
    chosen = centres[generator.integers(len(centres), size=tokens)]
    vectors = chosen + 0.35 * generator.standard_normal(chosen.shape) / np.sqrt(chosen.shape[1])
    repeated = generator.random(tokens) < 0.1
    vectors[repeated] = chosen[repeated]
    unit: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def make_corpus(
    seed: int = 0,
    *,
    dim: int = 64,
    documents: int = 300,
    queries: int = 12,
    document_tokens: tuple[int, int] = (4, 40),
    query_tokens: tuple[int, int] = (4, 32),
    clusters: int = 60,
) -> Corpus:
    """Make a seeded corpus; queries are noisy pieces of documents, so that there is something to find."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((clusters, dim)) / np.sqrt(dim)
    centres += 0.5 * generator.standard_normal(dim) / np.sqrt(dim)
    # Few clusters are frequent and most are rare, as words are.
    frequent = centres[np.minimum((clusters * generator.random(4 * clusters) ** 2).astype(int), clusters - 1)]
    low, high = document_tokens
    made = [token_vectors(generator, frequent, int(generator.integers(low, high + 1))) for _ in range(documents)]
    asked = []
    for _ in range(queries):
        count = int(generator.integers(query_tokens[0], query_tokens[1] + 1))
        source = made[int(generator.integers(documents))]
        piece = source[generator.integers(len(source), size=count)]
        noisy = piece + 0.3 * generator.standard_normal(piece.shape) / np.sqrt(dim)
        asked.append((noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32))
    return Corpus(made, asked)


@st.composite
def ragged(draw: Any, *, dim: int | None = None, min_items: int = 1, max_items: int = 6, min_tokens: int = 1) -> Ragged:
    """Random token vectors; hypothesis draws the sizes, a seed draws the values."""
    width = dim if dim is not None else draw(st.sampled_from(UGLY_DIMS))
    lengths = draw(
        st.lists(
            st.one_of(
                st.integers(min_tokens, 12), st.sampled_from([count for count in UGLY_COUNTS if count >= min_tokens])
            ),
            min_size=min_items,
            max_size=max_items,
        )
    )
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = generator.standard_normal((sum(lengths), width)).astype(np.float32)
    if draw(st.booleans()):
        # Equal vectors make equal scores.
        values = (np.round(values * 2.0) / 2.0).astype(np.float32)
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def corpora(**fixed: Any) -> st.SearchStrategy[Corpus]:
    """Small corpora of drawn sizes."""
    sizes: dict[str, Any] = {
        "dim": st.sampled_from((32, 48, 64, 100, 128)),
        "documents": st.integers(1, 60),
        "queries": st.integers(1, 5),
        "clusters": st.integers(1, 40),
    }
    drawn = {name: st.just(fixed[name]) if name in fixed else strategy for name, strategy in sizes.items()}
    return st.builds(make_corpus, st.integers(0, 2**31 - 1), **drawn)
