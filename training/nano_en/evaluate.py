"""What the card says: exact MaxSim, alone and with BM25, whole and pooled, beside BM25; and the time encoding takes."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import latewood
from latewood.encode import pool_tokens
from latewood.evaluate import Collection, evaluate_run, load_beir
from latewood.rerank.first_stages.bm25 import Bm25FirstStage
from latewood.rerank.fusion import reciprocal_rank_fusion, weighted_fusion
from training.nano_en.encode import Forward, Vectors, encode
from training.nano_en.log import say
from training.nano_en.settings import Settings

METRICS = {"scifact": "nDCG@10", "squad-dev": "RR@10"}
Run = dict[str, dict[str, float]]
DEPTH = 100
POOLINGS: dict[str, dict[str, Any]] = {
    "pooled by 2": {"factor": 2},
    "pooled by 4": {"factor": 4},
    "32 vectors": {"count": 32},
}


def ranked(scores: npt.NDArray[np.float32], queries: list[str], ids: list[str]) -> Run:
    """Return each query's best hundred documents."""
    run: Run = {}
    for query, row in zip(queries, scores, strict=True):
        best = np.argsort(-row, kind="stable")[:DEPTH]
        run[query] = {ids[i]: float(row[i]) for i in best}
    return run


def dense_run(collection: Collection, queries: Vectors, documents: Vectors, threads: int) -> Run:
    """Score every document for every query, some queries at a time."""
    found: Run = {}
    names, ids = list(collection.queries), list(collection.corpus)
    for start in range(0, len(names), 256):
        scores = latewood.maxsim(queries[start : start + 256], documents, threads=threads)
        found |= ranked(scores, names[start : start + 256], ids)
    return found


def bm25_run(collection: Collection) -> Run:
    """Rank by bm25s with its defaults: Lucene's formula, English stop words."""
    stage = Bm25FirstStage.from_texts(list(collection.corpus), collection.texts())
    hits = stage.search_batch(list(collection.queries.values()), DEPTH)
    return {
        query: dict(zip(map(str, ids), scores, strict=True))
        for query, (ids, scores) in zip(collection.queries, hits, strict=True)
    }


def fused(first: Run, second: Run) -> Run:
    """Return reciprocal rank fusion of two runs."""
    return {q: {str(i): s for i, s in reciprocal_rank_fusion(list(first[q]), list(second.get(q, {})))} for q in first}


def reranked(collection: Collection, first: Run, queries: Vectors, documents: Vectors, weight: float) -> Run:
    """Reorder the first stage's documents by `weight` of MaxSim and the rest of its own score."""
    place = {key: i for i, key in enumerate(collection.corpus)}
    run: Run = {}
    for query, vectors in zip(collection.queries, queries, strict=True):
        ids = list(first[query])
        if not ids:
            run[query] = {}
            continue
        scores = latewood.maxsim([vectors], [documents[place[i]] for i in ids], threads=1)[0]
        both = weighted_fusion(list(first[query].values()), scores, weight)
        run[query] = dict(zip(ids, both.tolist(), strict=True))
    return run


def load(settings: Settings, name: str, every: int) -> Collection:
    """Return a test collection with every n-th of its queries."""
    collection = load_beir(settings.sets / name)
    kept = list(collection.queries)[::every]
    return Collection(
        collection.corpus,
        {key: collection.queries[key] for key in kept},
        {key: collection.qrels[key] for key in kept},
    )


def measure(
    settings: Settings, forward: Forward, name: str, *, every: int = 1, thorough: bool = False, threads: int = 1
) -> dict[str, float]:
    """Measure an encoder on one collection.

    Parameters
    ----------
    settings : Settings
    forward : callable
    name : str
        "scifact" or "squad-dev".
    every : int
        Use each n-th query only.
    thorough : bool
        Also with BM25, and pooled.
    threads : int

    Returns
    -------
    dict of str to float
        The collection's metric by arm.
    """
    collection = load(settings, name, every)
    metric = METRICS[name]

    def value(run: Mapping[str, Mapping[str, float]]) -> float:
        return round(evaluate_run(run, collection.qrels, [metric])[metric], 4)

    documents = encode(forward, collection.texts(), settings.document_length, document=True)
    queries = encode(forward, list(collection.queries.values()), settings.query_length, document=False)
    dense = dense_run(collection, queries, documents, threads)
    found = {"maxsim": value(dense), "vectors a document": round(sum(map(len, documents)) / len(documents), 1)}
    if thorough:
        first = bm25_run(collection)
        found |= {
            "bm25": value(first),
            "bm25 + nano (reciprocal ranks)": value(fused(first, dense)),
            "bm25 -> nano": value(reranked(collection, first, queries, documents, 1.0)),
            "bm25 -> nano, half of each score": value(reranked(collection, first, queries, documents, 0.5)),
        }
        for label, options in POOLINGS.items():
            # The first vector, of [CLS], is kept as sentence-transformers keeps it.
            pooled = pool_tokens(documents, "ward", protected=1, **options)
            found[label] = value(dense_run(collection, queries, list(pooled), threads))
    return found


def speed(settings: Settings, forward: Forward) -> dict[str, float]:
    """Time the encoding of SciFact's queries, one by one, and of some of its documents.

    Processor time is measured, too: where other programs take their share of the machine, it alone can be compared.

    Parameters
    ----------
    settings : Settings
    forward : callable

    Returns
    -------
    dict of str to float
        Milliseconds a query, its tokenisation included (median and the slowest of a hundred); tokens a second; tokens
        a second of processor time.
    """
    collection = load(settings, "scifact", every=2)
    texts = collection.texts()[:128]
    clocks: tuple[Callable[[], float], ...] = (time.perf_counter, time.process_time)
    encode(forward, texts[:8], settings.document_length, document=True)
    before = [clock() for clock in clocks]
    tokens = sum(map(len, encode(forward, texts, settings.document_length, document=False)))
    taken = [clock() - start for clock, start in zip(clocks, before, strict=True)]
    waits = []
    for query in collection.queries.values():
        start = time.perf_counter()
        encode(forward, [query], settings.query_length, document=False)
        waits.append(1000 * (time.perf_counter() - start))
    return {
        "query_ms": round(float(np.median(waits)), 2),
        "query_ms_p99": round(float(np.quantile(waits, 0.99)), 2),
        "document_tokens_per_second": round(tokens / taken[0]),
        "document_tokens_per_processor_second": round(tokens / taken[1]),
    }


def report(settings: Settings, forward: Forward, path: Path, *, threads: int = 1) -> dict[str, dict[str, float]]:
    """Measure an encoder on both collections and write the figures down."""
    figures: dict[str, dict[str, float]] = {}
    for name in METRICS:
        if (settings.sets / name).is_dir():
            figures[name] = measure(settings, forward, name, thorough=True, threads=threads)
            say(settings, collection=name, **figures[name])
    if "scifact" in figures:
        figures["speed"] = speed(settings, forward)
        say(settings, **figures["speed"])
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures
