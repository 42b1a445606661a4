"""Token vectors that are cheap to make and have cells, and an encoder without a model."""

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Vectors = list[NDArray[np.float32]]


def token_vectors(
    seed: int, documents: int, *, dim: int = 48, tokens: tuple[int, int] = (4, 30), clusters: int = 40
) -> Vectors:
    """Unit vectors around cluster centres, which depend on `clusters` and `dim` alone."""
    centres = np.random.default_rng(dim * 1000 + clusters).standard_normal((clusters, dim))
    generator = np.random.default_rng(seed)
    lengths = generator.integers(tokens[0], tokens[1] + 1, documents)
    chosen = centres[generator.integers(clusters, size=lengths.sum())]
    values = chosen + 0.5 * generator.standard_normal(chosen.shape)
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return np.split(values, np.cumsum(lengths)[:-1])


class WordEncoder:
    """Gives each word a fixed random unit vector."""

    name = "words"
    revision = "1"

    def __init__(self, dim: int = 32) -> None:
        self.dim = dim

    def encode_query(self, inputs: list[str], /) -> Vectors:
        """One vector for each word."""
        return self._encode(inputs)

    def encode_document(self, inputs: list[str], /) -> Vectors:
        """One vector for each word."""
        return self._encode(inputs)

    def _encode(self, texts: Sequence[str]) -> Vectors:
        return [np.stack([self._word(word) for word in text.split()]) for text in texts]

    def _word(self, word: str) -> NDArray[np.float32]:
        vector = np.random.default_rng(crc32(word.encode())).standard_normal(self.dim)
        return (vector / np.linalg.norm(vector)).astype(np.float32)
