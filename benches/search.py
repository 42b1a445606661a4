"""Speed of the API on real token vectors: build, search and rerank, at every SIMD level, answers checked.

    python benches/search.py             every level that this machine has, each in a process of its own
    python benches/search.py --level L   one level, in this process, as JSON

Search and rerank run on one thread; the build on all. Times are the fastest of three rounds for each query, averaged.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import folder_size, milliseconds, write_record
from latewood import Index, _core
from vectors import load

GATHERERS = ["exact", "flood", "postings", "default"]
CANDIDATES = 100
K = 10
CHECKED = 10
"""Queries whose exact hits are compared; exact search is timed on these only."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--level", help="measure one level here and print JSON")
    parser.add_argument("--index", help="with --level: an index that stands")
    parser.add_argument("--cut", type=int, default=300, help="token vectors of a document at most")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--bits", type=int, default=4, choices=(1, 2, 4, 8))
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    if options.level:
        print(json.dumps(measure(options.level, Path(options.index), options.queries)))
        return
    vectors = load().cut(options.cut)
    print(vectors.describe())
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "index"
        started = time.perf_counter()
        index = Index.create(path, dim=vectors.documents.dim, bits=options.bits)
        index.add(vectors.ids, vectors=vectors.documents)
        seconds = time.perf_counter() - started
        built = {
            "seconds": round(seconds, 3),
            "tokens_per_second": round(len(vectors.documents.values) / seconds),
            "bytes_per_token": round(folder_size(path) / len(vectors.documents.values), 2),
            "info": {name: value for name, value in index.info().items() if name != "path"},
        }
        rate, size = built["tokens_per_second"], built["bytes_per_token"]
        print(f"build: {rate:,} tokens/s on {os.cpu_count()} cores, {size} bytes/token")
        print("\n| level      | exact ms | flood ms | postings ms | default ms | p95 | rerank 100 ms |")
        print("|------------|---------:|---------:|------------:|-----------:|----:|--------------:|")
        levels = []
        for level in _core.simd_levels():
            result = in_child(level, path, options.queries)
            levels.append(result)
            search = result["search_ms"]
            times = " | ".join(f"{search[gather]['mean']:.3f}" for gather in GATHERERS)
            print(
                f"| {level:<10} | {times} | {search['default']['p95']:.3f} | {result['rerank_ms']['mean']:.3f} |",
                flush=True,
            )
        if len({result["answers"] for result in levels}) != 1:
            message = f"the levels disagree: { {result['level']: result['answers'] for result in levels} }"
            raise AssertionError(message)
        print("all levels give the same hits and scores")
        if not options.no_record:
            content = {
                "vectors": vectors.describe(),
                "bits": options.bits,
                "threads": 1,
                "build": built,
                "levels": levels,
            }
            print(f"written: {write_record('search', content)}")


def in_child(level: str, path: Path, queries: int) -> dict[str, Any]:
    """Measure one level in a process of its own, since the level is chosen once."""
    command = [sys.executable, __file__, "--level", level, "--index", str(path), "--queries", str(queries)]
    environment = {**os.environ, "LATEWOOD_SIMD": level}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(level: str, path: Path, queries: int) -> dict[str, Any]:
    """Time search and rerank on one thread, and digest the answers."""
    if _core.simd_level() != level:
        message = f"LATEWOOD_SIMD={level} gave {_core.simd_level()}"
        raise AssertionError(message)
    vectors = load()
    index = Index.open(path)
    few = min(CHECKED, len(vectors.queries))
    # The scalar path is the truth that the others are held to, not a way to search: a few queries, once.
    count, rounds = (few, 1) if level == "scalar" else (min(queries, len(vectors.queries)), 3)
    asked = [vectors.queries[i] for i in range(count)]
    found = index.search_arrays(vectors.queries, k=CANDIDATES)
    candidates = [list(ids) for ids, _ in found]

    def search(i: int, gather: Any) -> list[tuple[Any, float]]:
        hits = index.search(asked[i], k=K, gather=gather, with_documents=False, threads=1)
        return [(hit.id, hit.score) for hit in hits]

    def rerank(i: int) -> list[tuple[Any, float]]:
        hits = index.rerank(asked[i], candidates[i], k=K, with_documents=False, threads=1)
        return [(hit.id, hit.score) for hit in hits]

    exact = [search(i, "exact") for i in range(few)]
    for i in range(few):
        scores = dict(exact[i])
        again = [(key, score) for key, score in rerank(i) if key in scores]
        if not again or any(scores[key] != score for key, score in again):
            message = f"query {i}: search and rerank score a document differently: {exact[i]} {again}"
            raise AssertionError(message)
    times = {
        gather: milliseconds(
            lambda i, gather=gather: search(i, None if gather == "default" else gather),  # type: ignore[misc]
            few if gather == "exact" else count,
            rounds=rounds,
        )
        for gather in GATHERERS
    }
    stats = index.search(asked[0], k=K, threads=1).stats
    return {
        "level": level,
        "queries": count,
        "search_ms": times,
        "rerank_ms": milliseconds(rerank, count, rounds=rounds),
        "stats_of_one": stats,
        "answers": _digest([exact, [(list(ids), scores.tolist()) for ids, scores in found]]),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


if __name__ == "__main__":
    main()
