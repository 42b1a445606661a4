"""Speed of pooling on real token vectors, beside sentence-transformers' Ward pooling through scipy; results compared.

    python benches/pooling.py

Both are handed documents that are encoded already, as float32 of unit length. sentence-transformers clusters on one
thread (scipy's linkage is the most of its time); latewood is measured on one thread and on all. Times are milliseconds
for each document, the fastest of several rounds; the rounds take turns, so that all see the same machine.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

from common import write_record
from latewood import Ragged
from latewood.encode import pool_tokens
from latewood.train import CrispPooling
from vectors import load

FACTORS = (2.0, 4.0, 8.0)
COUNTS = (8, 32)
TOLERANCE = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--cut", type=int, default=300, help="token vectors of a document at most")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    vectors = load().cut(options.cut)
    documents = unit_length(vectors.documents, options.documents)
    tensors = [torch.from_numpy(item) for item in documents]
    print(
        f"{len(documents)} documents, {documents.lengths.mean():.0f} vectors of {documents.dim} dimensions on average\n"
    )
    print("| method | size         | equal     | scipy ms | one thread ms | all threads ms | times faster |")
    print("|--------|--------------|----------:|---------:|--------------:|---------------:|-------------:|")
    rows = [ward(documents, tensors, factor, options.rounds) for factor in FACTORS]
    slowest = min(row["scipy_ms"] for row in rows)
    rows += [kmeans(documents, tensors, count, slowest, options.rounds) for count in COUNTS]
    for row in rows:
        print(
            f"| {row['method']:<6} | {row['size']:<12} | {row['equal']:9.4f} | {row['scipy_ms']:8.3f} "
            f"| {row['one_thread_ms']:13.4f} | {row['all_threads_ms']:14.4f} "
            f"| {row['times_faster_one_thread']:5.1f}, {row['times_faster']:5.1f} |",
            flush=True,
        )
    if not options.no_record:
        content = {
            "vectors": vectors.describe(),
            "pooled_documents": len(documents),
            "mean_vectors": round(float(documents.lengths.mean()), 1),
            "rows": rows,
        }
        print(f"\nwritten: {write_record('pooling', content)}")


def unit_length(documents: Ragged, count: int) -> Ragged:
    """Take the first documents, each vector scaled to length 1 as clustering by cosine expects it."""
    offsets = documents.offsets[: count + 1]
    values = documents.values[: offsets[-1]]
    return Ragged(values / np.linalg.norm(values, axis=1, keepdims=True).clip(1e-12), offsets)


def ward(documents: Ragged, tensors: list[torch.Tensor], factor: float, rounds: int) -> dict[str, Any]:
    """Compare with `HierarchicalTokenPooling` of the same factor."""
    theirs = HierarchicalTokenPooling(factor)
    expected = [pooled.numpy() for pooled in theirs.pool(tensors)]

    def ours(threads: int | None) -> Ragged:
        return pool_tokens(documents, "ward", factor=factor, protected=1, threads=threads)

    seconds = fastest([lambda: theirs.pool(tensors), lambda: ours(1), lambda: ours(None)], rounds)
    return row("ward", f"factor {factor:g}", equal(ours(None), expected), seconds, len(documents))


def kmeans(documents: Ragged, tensors: list[torch.Tensor], count: int, scipy_ms: float, rounds: int) -> dict[str, Any]:
    """Compare with `CrispPooling` in results, and with the fastest of scipy's Ward poolings in time."""
    expected = [pooled.numpy() for pooled in CrispPooling(None, count).pool(tensors)]

    def ours(threads: int | None) -> Ragged:
        return pool_tokens(documents, "kmeans", count=count, threads=threads)

    seconds = fastest([lambda: ours(1), lambda: ours(None)], rounds)
    theirs = scipy_ms * len(documents) / 1000
    return row("kmeans", f"{count} vectors", equal(ours(None), expected), [theirs, *seconds], len(documents))


def equal(ours: Ragged, expected: list[Any]) -> float:
    """Share of the documents whose pooled vectors are the same within the tolerance."""
    same = [a.shape == b.shape and np.abs(a - b).max() <= TOLERANCE for a, b in zip(ours, expected, strict=True)]
    return round(float(np.mean(same)), 4)


def fastest(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """Seconds of each call, the best of the rounds."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for place, call in enumerate(calls):
            started = time.perf_counter()
            call()
            best[place] = min(best[place], time.perf_counter() - started)
    return best


def row(method: str, size: str, same: float, seconds: list[float], documents: int) -> dict[str, Any]:
    scipy, one, every = (1000 * value / documents for value in seconds)
    return {
        "method": method,
        "size": size,
        "equal": same,
        "scipy_ms": round(scipy, 4),
        "one_thread_ms": round(one, 4),
        "all_threads_ms": round(every, 4),
        "threads": os.cpu_count(),
        "times_faster_one_thread": round(scipy / one, 1),
        "times_faster": round(scipy / every, 1),
    }


if __name__ == "__main__":
    main()
