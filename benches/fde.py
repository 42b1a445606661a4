"""Fixed dimensional encodings on real token vectors, beside the other gatherers: bytes, milliseconds, recall.

    python benches/fde.py            prints a table and writes a record
    python benches/fde.py --no-record

One thread; the fastest of four rounds over all queries. Recall is that of `gather="exact"`, at the default and at few
documents scored; of those 8 times as many are kept by encodings and estimated by centroids.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from common import write_record
from latewood import FdeOptions, Index
from vectors import load

K = 10
SCORED = (None, 64, 16)
ROUNDS = 4
QUERIES = 200
ENCODINGS: dict[str, bool | FdeOptions] = {
    "none": False,
    "16 of 4 partitions": FdeOptions(planes=2),
    "16 of 8 partitions": FdeOptions(),
    "16 of 16 partitions": FdeOptions(planes=4),
    "20 of 32 partitions, 16 components": FdeOptions(repetitions=20, planes=5, components=16),
    "the same, not centred": FdeOptions(repetitions=20, planes=5, components=16, centred=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    vectors = load()
    print(vectors.describe())
    print("| encodings | bytes/document | build s | gather | gather ms | prune ms | score ms | recall, 64, 16 scored |")
    print("|---|---:|---:|---|---:|---:|---:|---|")
    rows = []
    for name, fde in ENCODINGS.items():
        with tempfile.TemporaryDirectory() as scratch:
            started = time.perf_counter()
            index = Index.create(Path(scratch) / "index", dim=vectors.documents.dim, fde=fde)
            index.add(vectors.ids, vectors=vectors.documents)
            seconds = time.perf_counter() - started
            told = index.info()["fde"]
            size = told["bytes_per_document"] if told else 0
            asked = [vectors.queries[i] for i in range(min(QUERIES, len(vectors.queries)))]
            for gather in ("fde",) if fde else ("flood", "postings"):
                row = {"encodings": name, "fde": told, "build_s": seconds, **measure(index, asked, gather)}
                rows.append(row)
                times = " | ".join(f"{row['ms'][stage]:.2f}" for stage in ("gather_s", "prune_s", "score_s"))
                recalls = ", ".join(f"{recall:.3f}" for recall in row["recall"].values())
                print(f"| {name} | {size} | {seconds:.1f} | {gather} | {times} | {recalls} |", flush=True)
    if not options.no_record:
        print(f"written: {write_record('fde', {'vectors': vectors.describe(), 'threads': 1, 'rows': rows})}")


def measure(index: Index, queries: list[Any], gather: Any) -> dict[str, Any]:
    """Time the stages, and tell what is found."""
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        stats = index.search_arrays(queries, K, gather=gather, threads=1).stats
        times = {name: 1000 * value / len(queries) for name, value in stats.items() if name.endswith("_s")}
        best = {name: min(value, best.get(name, value)) for name, value in times.items()}
    recall = {
        str(scored): index.measure_recall(queries, k=K, gather=gather, max_scored=scored or 512) for scored in SCORED
    }
    return {"gather": gather, "ms": best, "recall": recall}


if __name__ == "__main__":
    main()
