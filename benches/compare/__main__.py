"""Reranking by latewood and by everybody else, on real token vectors, side by side.

    make bench-compare

An arm answers ten queries, each with its own random candidates, then it is the next arm's turn, for several rounds; the
median is reported. On one thread queries come one by one; on two, in batches. What is timed is said at each arm in
`benches/compare/arms`. Every timed answer is compared with exact MaxSim, and what is exact is said as this run measured
it: how bfloat16 is summed differs between processors.
"""

import argparse
import tempfile
from pathlib import Path

from common import machine, record_path
from compare import plot, record
from compare.arms import SPECS
from compare.bench import TURN, Bench, build
from compare.child import available_cores
from compare.record import Row
from compare.workload import draw, save, unit
from vectors import load

CANDIDATES = [100, 1000]
THREADS = [1, 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cut", type=int, default=200, help="token vectors of a document at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--arms", nargs="+", default=[""], help="only those whose label contains one of these words")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    vectors = load().cut(options.cut)
    documents, queries = unit(vectors.documents), unit(vectors.queries)
    specs = [spec for spec in SPECS if any(word in spec.label for word in options.arms)]
    versions = {spec.package: record.package_version(spec.package) for spec in specs}
    head = {"machine": machine(), "vectors": vectors.describe(), "versions": versions}
    for key, value in head.items():
        print(f"{key}: {value}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        save(documents, scratch)
        built = build(specs, scratch)
        for threads in THREADS:
            if threads > len(available_cores()):
                print(f"there is no core number {threads}: that part is left out")
                continue
            bench = Bench([spec for spec in specs if threads == 1 or spec.threads], scratch, threads, built)
            for candidates in CANDIDATES:
                questions = draw(documents, queries, options.rounds * TURN, candidates, options.seed)
                found = bench.measure(questions)
                print(f"\n{candidates} candidates of {documents.lengths.mean():.0f} tokens, threads: {threads}")
                table(found)
                rows += found
            bench.close()
    if not options.no_record:
        path = record_path("compare.csv")
        record.write(path, rows, head)
        plot.draw(path.with_suffix(".png"), rows, head)
        print(f"\nwritten: {path} and the picture beside it")


def table(rows: list[Row]) -> None:
    columns = ["ms / query", "    p10", "    p90", "ns / token", "overlap@10", "Spearman", "  error", "       kind"]
    print(f"| {'arm':<30} | {' | '.join(columns)} |")
    print(f"|{'-' * 32}|{'|'.join('-' * (len(column) + 1) + ':' for column in columns)}|")
    for row in rows:
        if row.ms is None:
            print(f"| {row.arm:<30} | {row.note} |")
            continue
        error = "-" if row.max_error is None else f"{row.max_error:.1e}"
        print(
            f"| {row.arm:<30} | {row.ms:10.3f} | {row.ms_p10:7.2f} | {row.ms_p90:7.2f} | {row.ns_per_token:10.1f} "
            f"| {row.overlap_10:10.3f} | {row.spearman:8.4f} | {error:>7} | {row.kind:>11} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
