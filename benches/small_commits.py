"""Ten thousand documents added one by one: how long an add takes, how many segments are left, how fast a search is.

    python benches/small_commits.py                  10,000 commits of one document each
    python benches/small_commits.py --documents 500  fewer

The documents are halves of SciFact's, as real token vectors. One add is one commit, synced to the disk of `--folder`.
The answers are those of the same index after `compact`, to the bit.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from common import folder_size, machine, milliseconds, write_record
from latewood import Index
from latewood.forms.ragged import Ragged
from vectors import load

K = 10
QUERIES = 100
SEGMENTS = 20
"""Segments that may be left."""
P99 = 20.0
"""Milliseconds of an add, at the 99th percentile."""
SLOWER = 1.3
"""How much longer a search may take than after `compact`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--folder", help="on which disk; by default the system's folder for temporary files")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    vectors = load()
    documents = halves(vectors.documents)[: options.documents]
    queries = [vectors.queries[number] for number in range(min(QUERIES, len(vectors.queries)))]
    used = machine()
    print(f"{used['processor']}, {used['cores']} cores, level {used['simd']}")
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        index = Index.create(Path(scratch) / "index", dim=vectors.documents.dim)
        adds, segments = add_one_by_one(index, documents)
        before, found = search(index, queries)
        size = folder_size(Path(index.path))
        index.compact()
        after, again = search(index, queries)
        if found != again or len(index) != len(documents) or index.check():
            message = "the merged segments answer otherwise than the compacted one"
            raise AssertionError(message)
        tokens = index.info()["tokens"]
    result = {
        "documents": len(documents),
        "tokens": tokens,
        "add_ms": adds,
        "segments": segments,
        "bytes_per_token": round(size / tokens, 2),
        "search_ms": {"before_compact": before, "after_compact": after},
        "slower": round(before["mean"] / after["mean"], 3),
    }
    print(f"add: p50 {adds['p50']} ms, p99 {adds['p99']} ms, max {adds['max']} ms (bar: p99 {P99} ms)")
    print(f"segments: {segments['end']} at the end, {segments['most']} at most (bar: {SEGMENTS})")
    print(f"search: {before['mean']} ms before compact, {after['mean']} ms after, {result['slower']}x (bar: {SLOWER}x)")
    if not options.no_record:
        content = {"vectors": vectors.describe(), "queries": len(queries), "k": K, "threads": 1, **result}
        print(f"written: {write_record('small-commits', content)}")


def halves(documents: Ragged) -> list[Any]:
    """Cut each document into two: shorter texts, and enough of them."""
    return [half for document in documents for half in np.array_split(document, 2) if len(half)]


def add_one_by_one(index: Index, documents: list[Any]) -> tuple[dict[str, float], dict[str, int]]:
    """Time every add; give percentiles in milliseconds, and how many segments there were."""
    seconds, segments = [], []
    for number, document in enumerate(documents):
        started = time.perf_counter()
        index.add([number], vectors=[document])
        seconds.append(time.perf_counter() - started)
        segments.append(index.info()["segments"])
    percentiles = {f"p{q}": round(1000 * float(np.percentile(seconds, q)), 3) for q in (50, 90, 99)}
    times = {**percentiles, "max": round(1000 * max(seconds), 3), "mean": round(1000 * float(np.mean(seconds)), 3)}
    return times, {"end": segments[-1], "most": max(segments)}


def search(index: Index, queries: list[Any]) -> tuple[dict[str, float], list[Any]]:
    """Time the default search on one thread; give the times and the exact hits."""
    times = milliseconds(lambda number: index.search(queries[number], K, with_documents=False, threads=1), len(queries))
    exact = index.search_batch(queries, K, gather="exact", with_documents=False)
    return times, [[(hit.id, hit.score) for hit in hits] for hits in exact]


if __name__ == "__main__":
    main()
