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
    index = latewood.Index.create(path, dim=dim, codec=codec, bits=bits, train_after=0, fde=codec == "residual")
    index.add(range(150), vectors=corpus.documents, threads=threads)
    digest = hashlib.sha256(index.vectors(range(150)).values.tobytes())
    for gather in ("exact", "flood", "postings", "fde"):
        found = index.search_arrays(corpus.queries, 20, gather=gather, max_scored=40, threads=threads)
        digest.update(np.asarray(found.ids).tobytes() + found.scores.tobytes() + found.offsets.tobytes())
    lists = [list(range(0, 150, 3))] * 8
    found = index.rerank_arrays(corpus.queries, lists, k=10, beta=3, threads=threads)
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


@pytest.mark.parametrize("first", ["latewood.simd_level", "latewood.errors", "latewood.Index", "latewood._core"])
def test_a_level_that_is_not_there_is_refused(first: str) -> None:
    """Whatever is imported first, and each time: another level would test and measure what was not meant."""
    code = """
import importlib, json, sys
package, name = sys.argv[1].split(".")
answers = []
for _ in range(2):
    try:
        getattr(importlib.import_module(package), name, None) or importlib.import_module(sys.argv[1])
        answers.append("none")
    except ValueError as error:
        answers.append([type(error).__name__, str(error)])
print(json.dumps(answers))
"""
    known = {"scalar", "avx2", "avxvnni", "avx512vnni", "amx", "neon", "i8mm"}
    for name in ("sse9", "best", "scalar,avx2", " scalar", *known.difference(latewood.simd_levels())):
        answers = run_python(code, first, environment={"LATEWOOD_SIMD": name})
        for kind, message in answers:
            assert kind == "InvalidInputError"
            assert f"LATEWOOD_SIMD={name} is not available" in message
            assert f"choose one of {', '.join(latewood.simd_levels())}" in message


@pytest.mark.parametrize("name", ["", "SCALAR", "scalar"])
def test_names_of_a_level(name: str) -> None:
    code = "import json, latewood; print(json.dumps(latewood.simd_level()))"
    used = run_python(code, environment={"LATEWOOD_SIMD": name})
    assert used == (name.lower() or latewood.simd_levels()[-1])
