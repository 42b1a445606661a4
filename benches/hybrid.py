"""Hybrid search against its parts: nDCG@10 of BM25, search, rerank and their fusions, and how much of it tuning keeps.

    python benches/hybrid.py FOLDER ...    collections as BEIR lays them out

The encoder is that inside the wheel. `TwoStage.tune` learns from every second query with its judgements, and is
measured on the others: how many documents are scored, and what nDCG@10 is lost against the full rerank.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import write_record
from latewood import Hits, Hybrid, Index, LexicalFirstStage, TwoStage
from latewood.encode import encode_queries, fingerprint, nano_en
from latewood.evaluate import Collection, evaluate_run, load_beir

METRIC = "nDCG@10"
FUSIONS: tuple[Any, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, "rrf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--queries", type=int, default=500, help="of each collection, the first ones")
    parser.add_argument("--recall", type=float, default=0.999, help="share of the full rerank's nDCG that tuning keeps")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    rows = []
    for folder in options.folders:
        collection = load_beir(folder)
        with tempfile.TemporaryDirectory() as path:
            index = Index.create(path)
            index.add(list(collection.corpus), texts=collection.texts())
            row = measure(index, collection, options.queries, options.recall)
        rows.append({"collection": Path(folder).name, "documents": len(collection.corpus), **row})
        print(json.dumps(rows[-1]), flush=True)
    if not options.no_record:
        print(f"written: {write_record('hybrid', {'encoder': fingerprint(nano_en()), 'rows': rows})}")


def measure(index: Index, collection: Collection, count: int, recall: float) -> dict[str, Any]:
    keys = [key for key in collection.queries if key in collection.qrels][:count]
    texts = [collection.queries[key] for key in keys]
    vectors = list(encode_queries(nano_en(), texts))
    judged = {key: collection.qrels[key] for key in keys}

    def ndcg(found: Sequence[Hits]) -> float:
        run = {key: {str(hit.id): hit.score for hit in hits} for key, hits in zip(keys, found, strict=True)}
        return round(evaluate_run(run, judged, [METRIC])[METRIC], 4)

    lexical = LexicalFirstStage(index)
    hybrid, engine = Hybrid(index, lexical), TwoStage(lexical, index)
    result: dict[str, Any] = {
        "queries": len(keys),
        "bm25": ndcg(TwoStage(lexical, index, fusion=0.0).search_batch(texts, query_vectors=vectors)),
        "search": ndcg(index.search_batch(vectors)),
        "bm25_rerank": ndcg(engine.search_batch(texts, query_vectors=vectors)),
    }
    for fusion in FUSIONS:
        result[f"bm25_rerank_fused_{fusion}"] = ndcg(engine.search_batch(texts, query_vectors=vectors, fusion=fusion))
        result[f"hybrid_{fusion}"] = ndcg(hybrid.search_batch(texts, query_vectors=vectors, fusion=fusion))
    result["tuned"] = [tuned(lexical, index, texts, vectors, list(judged.values()), recall, one) for one in (None, 0.7)]
    return result


def tuned(
    first: LexicalFirstStage,
    index: Index,
    texts: list[str],
    vectors: list[Any],
    qrels: list[dict[str, int]],
    recall: float,
    fusion: Any,
) -> dict[str, Any]:
    """Tune by every second query, and measure the others."""
    engine = TwoStage(first, index, fusion=fusion)
    held_out = [str(number) for number in range(1, len(texts), 2)]
    judged = dict(zip(held_out, qrels[1::2], strict=True))

    def run() -> tuple[float, float]:
        found = engine.search_batch(texts[1::2], query_vectors=vectors[1::2])
        own = {key: {str(hit.id): hit.score for hit in hits} for key, hits in zip(held_out, found, strict=True)}
        return evaluate_run(own, judged, [METRIC])[METRIC], float(np.mean([hits.stats["scored"] for hits in found]))

    full, scored = run()
    chosen = engine.tune(texts[::2], qrels[::2], recall=recall, query_vectors=vectors[::2]).chosen
    kept, fewer = run()
    return {
        "fusion": fusion,
        "depth": chosen.depth,
        "alpha": chosen.alpha,
        "beta": chosen.beta,
        "lost": round(full - kept, 4),
        "scored": round(fewer, 1),
        "fewer": round(scored / fewer, 2),
    }


if __name__ == "__main__":
    main()
