"""What feedback does to a ranking, on SciFact: nDCG@10 and Recall@100 with and without, and the time it takes.

    python benches/feedback.py
    python benches/feedback.py --vectors bench --beta 0.1 0.2 0.5

Vectors are the demo's (MiniLM's token outputs, 384 dimensions) or those of the other benches (`vectors.py`). The
judgements are SciFact's 300 test claims: no beta is tuned on other data, so the best of the grid flatters itself.
"""

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import milliseconds, write_record
from latewood import Feedback, Index
from latewood.demo import cached_vectors, default_folder
from latewood.encode import minilm_token_outputs
from latewood.evaluate import evaluate_run, load_beir
from vectors import TokenVectors, load

BETAS = {"normalised": [0.1, 0.2, 0.5, 1.0], "raw": [0.02, 0.05, 0.1, 0.2, 1.0]}
DEPTH = 100
TIMED_QUERIES = 50
MEASURES = ("nDCG@10", "R@100", "AP@100")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", choices=["demo", "bench"], default="demo")
    parser.add_argument("--beta", type=float, nargs="+", help="for both weightings")
    parser.add_argument("--documents", type=int, nargs="+", default=[3])
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    collection = load_beir(default_folder())
    vectors = load() if options.vectors == "bench" else demo_vectors(collection)
    print(vectors.describe(), flush=True)
    grid = [
        Feedback(documents=documents, beta=beta, weighting=weighting, mode=mode)  # type: ignore[arg-type]
        for documents in options.documents
        for mode in ("ranker", "reranker")
        for weighting, betas in BETAS.items()
        for beta in options.beta or betas
    ]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        index = Index.create(Path(scratch) / "index", dim=vectors.documents.dim)
        index.add(vectors.ids, vectors=vectors.documents)
        print("| feedback                             | nDCG@10 | Recall@100 | AP@100 | ms / query, k = 10 |")
        print("|--------------------------------------|--------:|-----------:|-------:|-------------------:|")
        for feedback in [None, *grid]:
            rows.append(measure(index, vectors, collection.qrels, feedback))
            print(line(rows[-1], feedback), flush=True)
    if not options.no_record:
        print(f"\nwritten: {write_record('feedback', {'vectors': vectors.describe(), 'rows': rows})}")


def demo_vectors(collection: Any) -> TokenVectors:
    """Give the vectors that `latewood demo` keeps."""
    documents, queries = cached_vectors(minilm_token_outputs(), collection, say=print)
    source = {"model": "all-MiniLM-L6-v2 token outputs", "collection": "scifact"}
    return TokenVectors(documents, queries, list(collection.corpus), list(collection.queries), source)


def measure(index: Index, vectors: TokenVectors, qrels: Any, feedback: Feedback | None) -> dict[str, Any]:
    """Rank all queries, and time some on one thread."""
    found = index.search_batch(vectors.queries, k=DEPTH, feedback=feedback, as_arrays=True)
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
        name = f"{feedback.mode}, {feedback.documents} documents, {feedback.weighting} {feedback.beta:g}"
    measures = " | ".join(f"{row[name]:{width}.4f}" for name, width in zip(MEASURES, (7, 10, 6), strict=True))
    return f"| {name:<36} | {measures} | {row['ms']['median']:18.2f} |"


if __name__ == "__main__":
    main()
