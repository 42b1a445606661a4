"""Speed of pooling on real token vectors, beside sentence-transformers' Ward pooling through scipy; results compared.

    python benches/pooling.py

Both are handed documents that are encoded already, as float32 of unit length, and cluster them on one thread; latewood
shares documents out to all processors unless it is told not to, sentence-transformers does not. Times are milliseconds
of processor time for each document, the least of several rounds; the rounds take turns, so that both see one machine.
"""

import argparse
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
    print("| method | size       |  equal | scipy ms | latewood ms | times faster |")
    print("|--------|------------|-------:|---------:|------------:|-------------:|")
    rows = [ward(documents, tensors, factor, options.rounds) for factor in FACTORS]
    slowest = min(row["scipy_ms"] for row in rows)
    rows += [kmeans(documents, tensors, count, slowest, options.rounds) for count in COUNTS]
    for row in rows:
        print(
            f"| {row['method']:<6} | {row['size']:<10} | {row['equal']:6.4f} | {row['scipy_ms']:8.3f} "
            f"| {row['latewood_ms']:11.3f} | {row['times_faster']:12.1f} |",
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

    def ours() -> Ragged:
        return pool_tokens(documents, "ward", factor=factor, protected=1, threads=1)

    scipy, latewood = least([lambda: theirs.pool(tensors), ours], rounds)
    return row("ward", f"factor {factor:g}", equal(ours(), expected), scipy, latewood, len(documents))


def kmeans(documents: Ragged, tensors: list[torch.Tensor], count: int, scipy_ms: float, rounds: int) -> dict[str, Any]:
    """Compare with `CrispPooling` in results, and with the fastest of scipy's Ward poolings in time."""
    expected = [pooled.numpy() for pooled in CrispPooling(None, count).pool(tensors)]

    def ours() -> Ragged:
        return pool_tokens(documents, "kmeans", count=count, threads=1)

    (latewood,) = least([ours], rounds)
    scipy = scipy_ms * len(documents) / 1000
    return row("kmeans", f"{count} vectors", equal(ours(), expected), scipy, latewood, len(documents))


def equal(ours: Ragged, expected: list[Any]) -> float:
    """Share of the documents whose pooled vectors are the same within the tolerance."""
    same = [a.shape == b.shape and np.abs(a - b).max() <= TOLERANCE for a, b in zip(ours, expected, strict=True)]
    return round(float(np.mean(same)), 4)


def least(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """Seconds of processor time of each call, the least of the rounds."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for place, call in enumerate(calls):
            started = time.process_time()
            call()
            best[place] = min(best[place], time.process_time() - started)
    return best


def row(method: str, size: str, same: float, scipy: float, latewood: float, documents: int) -> dict[str, Any]:
    return {
        "method": method,
        "size": size,
        "equal": same,
        "scipy_ms": round(1000 * scipy / documents, 4),
        "latewood_ms": round(1000 * latewood / documents, 4),
        "times_faster": round(scipy / latewood, 1),
    }


if __name__ == "__main__":
    main()
