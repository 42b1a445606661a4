"""What compression and candidate search lose, on real token vectors: overlap with exact float32 MaxSim, and nDCG@10.

    python benches/accuracy.py

For each codec: the share of the exact top 10 that a search over all codes keeps, the change of nDCG@10, and the bytes a
token takes on disk. For the default codec also: the share of the codes' own top 10 that each way of gathering finds.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from common import folder_size, overlap, write_record
from latewood import Index, maxsim
from latewood.cli.demo import default_folder
from latewood.common.types import Gather
from latewood.evaluate import evaluate_run, load_beir
from latewood.index.results import SearchArrays
from vectors import TokenVectors, load

CODECS: list[tuple[str, int]] = [
    ("residual", 8),
    ("residual", 4),
    ("residual", 2),
    ("residual", 1),
    ("flat", 8),
    ("flat", 4),
    ("flat", 2),
]
GATHERERS: list[Gather | None] = ["flood", "postings", None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    vectors = load()
    qrels = load_beir(default_folder()).qrels
    scores = maxsim(vectors.queries, vectors.documents)
    exact = np.argsort(-scores, axis=1, kind="stable")[:, :100]
    reference = evaluate_run(
        {
            query: {vectors.ids[column]: float(scores[position, column]) for column in exact[position]}
            for position, query in enumerate(vectors.query_ids)
        },
        qrels,
        ("nDCG@10",),
    )["nDCG@10"]
    print(f"{vectors.describe()}\nexact float32 MaxSim: nDCG@10 {reference:.4f}\n")
    print("| codec          | overlap@10 | nDCG@10 | change  | bytes / token |")
    print("|----------------|-----------:|--------:|--------:|--------------:|")
    rows: list[dict[str, Any]] = []
    gathered: list[dict[str, Any]] = []
    for codec, bits in CODECS:
        with tempfile.TemporaryDirectory() as scratch:
            index = build(Path(scratch) / "index", vectors, codec, bits)
            found = index.search_arrays(vectors.queries, k=10, gather="exact")
            ndcg = evaluate_run(found.to_run(vectors.query_ids), qrels, ("nDCG@10",))["nDCG@10"]
            row = {
                "codec": codec,
                "bits": bits,
                "overlap_10": round(overlap(positions(found, vectors), exact, 10), 4),
                "ndcg_10": round(ndcg, 4),
                "ndcg_10_change": round(ndcg - reference, 4),
                "bytes_per_token": round(folder_size(Path(scratch)) / len(vectors.documents.values), 2),
            }
            rows.append(row)
            print(
                f"| {codec + ' ' + str(bits) + '-bit':<14} | {row['overlap_10']:10.4f} | {ndcg:7.4f} "
                f"| {row['ndcg_10_change']:+7.4f} | {row['bytes_per_token']:13.2f} |",
                flush=True,
            )
            if codec == "residual" and bits in (4, 2):
                gathered += [
                    {
                        "bits": bits,
                        "gather": gather or "default",
                        "recall_10": round(index.measure_recall(vectors.queries, k=10, gather=gather), 4),
                    }
                    for gather in GATHERERS
                ]
    print("\nShare of the codes' own top 10 that is found:")
    for entry in gathered:
        print(f"  residual {entry['bits']}-bit, {entry['gather']:<9} {entry['recall_10']:.4f}")
    if not options.no_record:
        content = {
            "vectors": vectors.describe(),
            "exact_ndcg_10": round(reference, 4),
            "codecs": rows,
            "gather": gathered,
        }
        print(f"\nwritten: {write_record('accuracy', content)}")


def build(path: Path, vectors: TokenVectors, codec: Any, bits: Any) -> Index:
    """Build an index of all documents, whose ids are their positions."""
    index = Index.create(path, dim=vectors.documents.dim, codec=codec, bits=bits)
    index.add(vectors.ids, vectors=vectors.documents)
    return index


def positions(found: SearchArrays, vectors: TokenVectors) -> list[list[int]]:
    """Hits as positions in the collection."""
    place = {key: position for position, key in enumerate(vectors.ids)}
    return [[place[str(key)] for key in ids] for ids, _ in found]


if __name__ == "__main__":
    main()
