"""What several tests share: indexes on disk, child processes, and an encoder without a model."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from latewood import Index
from latewood.cloud.generations import Generation, newest
from latewood.cloud.store import Store
from strategies import Corpus

TESTS = Path(__file__).parent
REPOSITORY = TESTS.parent


def build_index(path: Path, corpus: Corpus, **options: Any) -> Index:
    """Index a corpus under ids 0 … n-1; centroids are trained however little there is."""
    index = Index.create(path, dim=corpus.dim, **{"train_after": 0, **options})
    index.add(range(len(corpus.documents)), vectors=corpus.documents)
    return index


def run_python(code: str, *arguments: Any, environment: Mapping[str, str] | None = None, timeout: float = 120) -> Any:
    """Run code in a new interpreter and give what it prints as JSON. `arguments` are its `sys.argv[1:]`."""
    finished = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(TESTS), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout) if finished.stdout.strip() else None


class HashEncoder:
    """Gives each word a fixed random unit vector: texts that share words are similar, and no model is needed."""

    def __init__(self, dim: int = 48, *, name: str = "hash", prompts: Mapping[str, str] | None = None) -> None:
        self.dim = dim
        self.name = name
        self.prompts = dict(prompts or {})
        self.revision = "1"
        self.calls = 0

    def encode_query(self, inputs: list[str], /) -> list[NDArray[np.float32]]:
        return self._encode(inputs)

    def encode_document(self, inputs: list[str], /) -> list[NDArray[np.float32]]:
        return self._encode(inputs)

    def query_tokens(self, text: str) -> list[str]:
        return text.lower().split()

    def document_tokens(self, text: str) -> list[str]:
        return text.lower().split()

    def _encode(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        self.calls += 1
        return [np.stack([self._word(word) for word in text.lower().split()]) for text in texts]

    def _word(self, word: str) -> NDArray[np.float32]:
        vector = np.random.default_rng(crc32(word.encode())).standard_normal(self.dim).astype(np.float32)
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


TEXTS = {
    "fox": "the quick brown fox jumps over the lazy dog",
    "rings": "latewood is the dense late formed part of a tree ring",
    "paris": "paris is the capital of france",
    "berlin": "berlin is the capital of germany",
    "search": "late interaction search compares every query token with every document token",
}


def store_folder(url: str) -> Path:
    """Give the folder behind a file:// address."""
    return Path(url.removeprefix("file://"))


def newest_of(url: str) -> Generation:
    """Describe what is published at an address."""
    found = newest(Store(url))
    assert found is not None
    return found
