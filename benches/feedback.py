"""What feedback does to a ranking, on SciFact: nDCG@10, Recall@100 and AP@100 with and without, and the time it takes.

    python benches/feedback.py                          documents, weightings, weights
    python benches/feedback.py --weight 0.1 --no-record  one weight for both weightings

The judgements are SciFact's 300 test claims, and no weight is tuned on other data: the best of the table flatters
itself.
Times are on one thread, of a search for 10 hits.
"""

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import milliseconds, write_record
from latewood import Feedback, Index
from latewood.cli.demo import default_folder
from latewood.evaluate import evaluate_run, load_beir
from vectors import TokenVectors, load

WEIGHTS = {"normalised": [0.1, 0.2, 0.5, 1.0], "raw": [0.1, 1.0]}
DEPTH = 100
TIMED_QUERIES = 50
MEASURES = ("nDCG@10", "R@100", "AP@100")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weight", type=float, nargs="+", help="for both weightings")
    parser.add_argument("--documents", type=int, nargs="+", default=[3])
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    qrels = load_beir(default_folder()).qrels
    vectors = load()
    print(vectors.describe(), flush=True)
    grid = [
        Feedback(documents=documents, weight=weight, weighting=weighting, mode=mode)  # type: ignore[arg-type]
        for documents in options.documents
        for mode in ("ranker", "reranker")
        for weighting, weights in WEIGHTS.items()
        for weight in options.weight or weights
    ]
    with tempfile.TemporaryDirectory() as scratch:
        index = Index.create(Path(scratch) / "index", dim=vectors.documents.dim)
        index.add(vectors.ids, vectors=vectors.documents)
        print("| documents, mode, weighting, weight | nDCG@10 |  R@100 | AP@100 | ms / query |")
        print("|----------------------------------|--------:|-------:|-------:|-----------:|")
        rows = []
        for feedback in [None, *grid]:
            rows.append(measure(index, vectors, qrels, feedback))
            print(line(rows[-1], feedback), flush=True)
    if not options.no_record:
        print(f"\nwritten: {write_record('feedback', {'vectors': vectors.describe(), 'rows': rows})}")


def measure(index: Index, vectors: TokenVectors, qrels: Any, feedback: Feedback | None) -> dict[str, Any]:
    """Rank all queries, and time some."""
    found = index.search_arrays(vectors.queries, k=DEPTH, feedback=feedback)
    values = evaluate_run(found.to_run(vectors.query_ids), qrels, MEASURES)

    def ask(position: int) -> Any:
        return index.search(vectors.queries[position], k=10, feedback=feedback, with_documents=False, threads=1)

    return {
        "feedback": asdict(feedback) if feedback is not None else None,
        **{name: round(value, 4) for name, value in values.items()},
        "ms": milliseconds(ask, min(TIMED_QUERIES, len(vectors.queries))),
    }


def line(row: dict[str, Any], feedback: Feedback | None) -> str:
    """Give the table's line."""
    name = "none"
    if feedback is not None:
        name = f"{feedback.documents}, {feedback.mode}, {feedback.weighting}, {feedback.weight:g}"
    measures = " | ".join(f"{row[name]:{width}.4f}" for name, width in zip(MEASURES, (7, 6, 6), strict=True))
    return f"| {name:<32} | {measures} | {row['ms']['median']:10.2f} |"


if __name__ == "__main__":
    main()
