"""What an import costs: a fast-plaid index of the bench's vectors, imported with fewer and more bits.

    PYTHONPATH=benches benches/compare/.venv/bin/python benches/imported.py

All documents are scored, by float MaxSim on the vectors before any codes, by the vectors that fast-plaid's codes decode
to, and by those of the import.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from common import machine, record_path
from compare.arms.fast_plaid import Index as FastPlaid
from compare.workload import unit
from latewood import Index, import_index, maxsim
from latewood.forms.ragged import Ragged
from vectors import load

SETTINGS: list[dict[str, Any]] = [{"keep_vectors": "float16"}, {"bits": 8}, {"bits": 4}, {"bits": 2}]
K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1200)
    parser.add_argument("--bits", type=int, default=4, help="of fast-plaid's codes")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    vectors = load()
    documents, queries = unit(vectors.documents), unit(vectors.queries)
    count = min(options.documents, len(documents))
    documents = Ragged(documents.values[: documents.offsets[count]], documents.offsets[: count + 1])
    best = top(maxsim(queries, documents))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        FastPlaid(options.bits).build([documents], Path(name) / "source")
        source: list[set[int]] = []
        for number, settings in enumerate(SETTINGS):
            index = import_index(Path(name) / "source", Path(name) / f"{number}", **settings)
            found = top_of(index, queries)
            source = source or found
            rows.append({**settings, "of_source": shared(found, source), "of_vectors": shared(found, best)})
            print(json.dumps(rows[-1]), flush=True)
    if not options.no_record:
        told = {"machine": machine(), "vectors": vectors.describe(), "documents": count, "bits": options.bits}
        path = record_path("imported.json")
        path.write_text(json.dumps({**told, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def top(scores: Any) -> list[set[int]]:
    return [set(np.argsort(-row, kind="stable")[:K].tolist()) for row in scores]


def top_of(index: Index, queries: Ragged) -> list[set[int]]:
    hits = index.search_batch(queries, K, gather="exact", with_documents=False)
    return [{int(hit.id) for hit in found} for found in hits]


def shared(some: list[set[int]], others: list[set[int]]) -> float:
    return round(float(np.mean([len(one & other) / K for one, other in zip(some, others, strict=True)])), 4)


if __name__ == "__main__":
    main()
