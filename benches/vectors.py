"""Real token vectors for the benches: SciFact, by a multi-vector model, in a folder outside of the repository.

    python benches/vectors.py                       token outputs of MiniLM, reduced to 128 dimensions
    python benches/vectors.py --model NAME_OR_PATH  any MultiVectorEncoder

The folder is `LATEWOOD_BENCH_VECTORS`, else one in the demo's cache. It holds `values.npy` (float16 [tokens, dim]),
`lengths.npy` (int64 [documents]), `ids.json`, and the same with `query_` before it.
"""

import argparse
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from latewood.cli.demo import cache_folder, cached_vectors, default_folder
from latewood.encode import SentenceTransformersEncoder, minilm_token_outputs
from latewood.evaluate import load_beir
from latewood.forms.ragged import Ragged

DIM = 128
DOCUMENT_LENGTH = 300


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """Documents and queries with their ids; `source` says which model and collection they come from."""

    documents: Ragged
    queries: Ragged
    ids: list[str]
    query_ids: list[str]
    source: dict[str, Any]

    def cut(self, tokens: int) -> "TokenVectors":
        """Keep the first `tokens` vectors of each document."""
        lengths = np.minimum(self.documents.lengths, tokens)
        places = np.arange(len(self.documents.values)) - np.repeat(self.documents.offsets[:-1], self.documents.lengths)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        documents = Ragged(self.documents.values[places < tokens], offsets)
        return replace(self, documents=documents, source={**self.source, "cut": tokens})

    def describe(self) -> dict[str, Any]:
        """Give counts, for the record."""
        return {
            **self.source,
            "documents": len(self.documents),
            "tokens": len(self.documents.values),
            "dim": self.documents.dim,
            "queries": len(self.queries),
            "query_tokens_mean": round(len(self.queries.values) / len(self.queries), 2),
        }


def folder() -> Path:
    """Where the vectors are."""
    return Path(os.environ.get("LATEWOOD_BENCH_VECTORS") or cache_folder() / "vectors" / "bench")


def load() -> TokenVectors:
    """Load the vectors, preparing the default ones if there are none."""
    where = folder()
    if not (where / "query_ids.json").is_file():
        prepare(None)
    source = where / "source.json"
    return TokenVectors(
        _ragged(where, ""),
        _ragged(where, "query_"),
        json.loads((where / "ids.json").read_text(encoding="utf-8")),
        json.loads((where / "query_ids.json").read_text(encoding="utf-8")),
        json.loads(source.read_text(encoding="utf-8"))
        if source.is_file()
        else {"model": where.name, "collection": "scifact"},
    )


def prepare(model: str | None) -> None:
    """Encode SciFact with `model`, or with token outputs of MiniLM reduced to 128 dimensions."""
    collection = load_beir(default_folder())
    if model is None:
        documents, queries = cached_vectors(minilm_token_outputs(), collection, say=print)
        documents, queries = reduced(documents, queries, DIM)
        name = f"all-MiniLM-L6-v2 token outputs, {DIM} principal dimensions"
    else:
        encoder = SentenceTransformersEncoder(model)
        encoder.model[0].document_length = DOCUMENT_LENGTH
        encoder.model.float()
        documents, queries = cached_vectors(encoder, collection, say=print)
        name = Path(model).name
    where = folder()
    where.mkdir(parents=True, exist_ok=True)
    for prefix, ragged in (("", documents), ("query_", queries)):
        np.save(where / f"{prefix}values.npy", ragged.values.astype(np.float16))
        np.save(where / f"{prefix}lengths.npy", ragged.lengths)
    (where / "source.json").write_text(json.dumps({"model": name, "collection": "scifact"}), encoding="utf-8")
    (where / "ids.json").write_text(json.dumps(list(collection.corpus)), encoding="utf-8")
    (where / "query_ids.json").write_text(json.dumps(list(collection.queries)), encoding="utf-8")


def reduced(documents: Ragged, queries: Ragged, dim: int) -> tuple[Ragged, Ragged]:
    """Project onto the `dim` directions that hold most of the documents' energy, and scale to unit length."""
    sample = documents.values[:: max(1, len(documents.values) // 200_000)].astype(np.float64)
    _, directions = np.linalg.eigh(sample.T @ sample)
    basis = directions[:, -dim:].astype(np.float32)

    def project(ragged: Ragged) -> Ragged:
        values = ragged.values @ basis
        values /= np.linalg.norm(values, axis=1, keepdims=True).clip(1e-12)
        return Ragged(values, ragged.offsets)

    return project(documents), project(queries)


def _ragged(where: Path, prefix: str) -> Ragged:
    values = np.load(where / f"{prefix}values.npy").astype(np.float32)
    lengths = np.load(where / f"{prefix}lengths.npy")
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a MultiVectorEncoder's name or path")
    prepare(parser.parse_args().model)
    print(json.dumps(load().describe(), indent=2))
