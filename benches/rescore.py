"""What scores on kept vectors find and cost, on real token vectors: overlap with exact float32 MaxSim, and time.

    python benches/rescore.py --cut 160

Both ways are asked in turn for each query, on one thread; each query's time is the best of several rounds.
"""

import argparse
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from common import overlap, write_record
from latewood import Index, maxsim
from latewood.common.types import Gather, Rescore
from vectors import load

WAYS: tuple[Rescore, ...] = ("off", "float16")
GATHERERS: tuple[Gather | None, ...] = (None, "exact")
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cut", type=int, default=160, help="token vectors of a document, at most")
    parser.add_argument("--bits", type=int, default=4, choices=(1, 2, 4, 8))
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    vectors = load().cut(options.cut)
    exact = np.argsort(-maxsim(vectors.queries, vectors.documents), axis=1, kind="stable")
    print(f"{vectors.describe()}\n\n| k   | gather  | rescore | overlap | ms    | scored | rescored |")
    print("|----:|---------|---------|--------:|------:|-------:|---------:|")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        bits: Any = options.bits
        index = Index.create(
            Path(scratch) / "index", dim=vectors.documents.dim, bits=bits, train_after=0, keep_vectors="float16"
        )
        index.add(range(len(vectors.documents)), vectors=vectors.documents)
        queries = [[query] for query in vectors.queries]
        for k, gather in product((10, 100), GATHERERS):
            seconds = {way: np.full(len(queries), np.inf) for way in WAYS}
            for _, (position, query), way in product(range(ROUNDS), enumerate(queries), WAYS):
                start = time.perf_counter()
                index.search_arrays(query, k, threads=1, gather=gather, rescore=way)
                seconds[way][position] = min(seconds[way][position], time.perf_counter() - start)
            for way in WAYS:
                found = index.search_arrays(vectors.queries, k, gather=gather, rescore=way)
                row = {
                    "k": k,
                    "gather": gather or "default",
                    "rescore": way,
                    "overlap": round(overlap([np.asarray(ids).tolist() for ids, _ in found], exact, k), 4),
                    "ms": round(float(np.mean(seconds[way])) * 1e3, 3),
                    **{name: round(found.stats[name] / len(queries), 1) for name in ("scored", "rescored")},
                }
                rows.append(row)
                print(
                    f"| {k:>3} | {row['gather']:<7} | {way:<7} | {row['overlap']:7.4f} | {row['ms']:5.2f} "
                    f"| {row['scored']:6.1f} | {row['rescored']:8.1f} |",
                    flush=True,
                )
        size = index.info()["bytes_per_token"]
    print(f"\n{size:.1f} bytes a token")
    if not options.no_record:
        content = {"vectors": vectors.describe(), "bits": options.bits, "bytes_per_token": size, "searches": rows}
        print(f"written: {write_record('rescore', content)}")


if __name__ == "__main__":
    main()
