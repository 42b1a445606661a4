"""The same ids and scores, to the bit, at every SIMD level and at every number of threads."""

from pathlib import Path
from typing import Any

import pytest

import latewood
from strategies import make_corpus
from support import run_python

BUILD_AND_SEARCH = """
import hashlib, json, os, sys
import numpy as np
import latewood
from strategies import make_corpus
from support import build_index

folder, codec, dim, bits = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
corpus = make_corpus(17, dim=dim, documents=150, queries=8, query_tokens=(1, 40))
hashes = {}
for threads in (1, 2, 8):
    path = f"{folder}/{codec}-{dim}-{bits}-{os.environ['LATEWOOD_SIMD']}-{threads}"
    index = latewood.Index.create(path, dim=dim, codec=codec, bits=bits, train_after=0)
    index.add(range(150), vectors=corpus.documents, threads=threads)
    digest = hashlib.sha256(index.vectors(range(150)).values.tobytes())
    for gather in ("exact", "flood", "postings"):
        found = index.search_batch(corpus.queries, 20, gather=gather, candidates=40, as_arrays=True, threads=threads)
        digest.update(np.asarray(found.ids).tobytes() + found.scores.tobytes() + found.offsets.tobytes())
    lists = [list(range(0, 150, 3))] * 8
    found = index.rerank_batch(corpus.queries, lists, k=10, beta=3, as_arrays=True, threads=threads)
    digest.update(np.asarray(found.ids).tobytes() + found.scores.tobytes())
    hashes[threads] = digest.hexdigest()
print(json.dumps([latewood.simd_level(), hashes]))
"""


@pytest.mark.parametrize(
    ("codec", "dim", "bits"),
    [
        ("residual", 128, 4),
        ("residual", 96, 2),
        ("residual", 100, 1),
        ("residual", 48, 8),
        ("flat", 128, 4),
        ("flat", 33, 2),
        ("flat", 32, 8),
    ],
)
def test_every_level_and_thread_count_agree(tmp_path: Path, codec: str, dim: int, bits: int) -> None:
    results: dict[str, Any] = {}
    for level in latewood.simd_levels():
        used, hashes = run_python(
            BUILD_AND_SEARCH, tmp_path, codec, dim, bits, environment={"LATEWOOD_SIMD": level}, timeout=280
        )
        assert used == level
        results[level] = hashes
    assert len({digest for hashes in results.values() for digest in hashes.values()}) == 1, results


def test_exact_float_maxsim_agrees_across_threads() -> None:
    corpus = make_corpus(3, dim=100, documents=100)
    scores = [latewood.maxsim(corpus.queries, corpus.documents, threads=threads).tobytes() for threads in (1, 2, 8)]
    assert len(set(scores)) == 1


def test_a_level_that_does_not_exist() -> None:
    """The library says so, and does not quietly take another."""
    code = """
import json
try:
    import latewood
    answer = ["level", latewood.simd_level()]
except Exception as error:
    answer = ["error", str(error)]
print(json.dumps(answer))
"""
    kind, answer = run_python(code, environment={"LATEWOOD_SIMD": "sse9"})
    assert kind == "error" or answer in latewood.simd_levels()
