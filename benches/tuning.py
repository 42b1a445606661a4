"""Whether `Index.tune` keeps its word: recall of queries that it has not seen, for each recall that was asked for.

    python benches/tuning.py FOLDER...

The folders are some of `vectors.py`; without any, it is the one that `LATEWOOD_BENCH_VECTORS` names. Half of the
queries tune, the other half is measured; then the halves change places. Each half is a small sample, and what both find
together says more.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from common import milliseconds, write_record
from latewood import Index
from vectors import TokenVectors, folder, load

RECALLS = (0.9, 0.95, 0.99)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="folders of vectors")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    collections = []
    for where in options.folders or [folder()]:
        os.environ["LATEWOOD_BENCH_VECTORS"] = str(where)
        vectors = load()
        print(json.dumps(vectors.describe()))
        with tempfile.TemporaryDirectory() as scratch:
            index = built(Path(scratch) / "index", vectors)
            rows = [
                measured(index, vectors, half, recall, options.k)
                for recall in RECALLS
                for half in (slice(0, None, 2), slice(1, None, 2))
            ]
        collections.append({"vectors": vectors.describe(), "rows": rows})
    if not options.no_record:
        print(f"written: {write_record('tuning', {'k': options.k, 'collections': collections})}")


def built(path: Path, vectors: TokenVectors) -> Index:
    index = Index.create(path, dim=vectors.documents.dim)
    index.add(range(len(vectors.documents)), vectors=vectors.documents)
    return index


def measured(index: Index, vectors: TokenVectors, half: slice, recall: float, k: int) -> dict[str, Any]:
    places = range(len(vectors.queries))
    seen = [vectors.queries[place] for place in places[half]]
    unseen = [vectors.queries[place] for place in places if place not in places[half]]
    started = time.perf_counter()
    index.tune(seen, recall=recall, k=k)
    seconds = time.perf_counter() - started
    row = {
        "asked": recall,
        "tuned_on": len(seen),
        "measured_on": len(unseen),
        "seconds": round(seconds, 2),
        "deviations": index.search(unseen[0], k).plan.deviations,
        "found": round(index.measure_recall(unseen, k), 4),
        "ms": milliseconds(lambda i: index.search(unseen[i], k, with_documents=False, threads=1), len(unseen))["mean"],
    }
    print(json.dumps(row), flush=True)
    return row


if __name__ == "__main__":
    main()
