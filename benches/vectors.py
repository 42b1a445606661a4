"""Real token vectors for the benches: text collections, by a multi-vector model, in a folder outside of the repository.

    python benches/vectors.py                       SciFact, token outputs of MiniLM, reduced to 128 dimensions
    python benches/vectors.py --model NAME_OR_PATH  SciFact, any MultiVectorEncoder
    python benches/vectors.py --collections F...    BEIR folders, cut into pieces, the encoder inside the wheel
    python benches/vectors.py --model NAME_OR_PATH --collections F...
                                                    BEIR folders, documents as long as the model takes them

The folder is `LATEWOOD_BENCH_VECTORS`, else one in the demo's cache. It holds `values.npy` (float16 [tokens, dim]),
`lengths.npy` (int64 [documents]), `ids.json`, the same with `query_` before it, and `types.npy` (int64 [tokens]), which
numbers the words that the documents' vectors stand for.
"""

import argparse
import json
import os
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latewood.cli.demo import cached_vectors, default_folder
from latewood.common.files import cache_folder
from latewood.encode import SentenceTransformersEncoder, minilm_token_outputs, nano_en
from latewood.evaluate import load_beir
from latewood.forms.ragged import Ragged, to_ragged

DIM = 128
DOCUMENT_LENGTH = 300
PIECE = 100
"""Words of a piece of a collection's text."""
MOST_QUERIES = 150
"""Queries of each collection."""
BLOCK = 4096
"""Documents read, or encoded, at once."""


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
    return TokenVectors(
        read(where),
        read(where, "query_"),
        json.loads((where / "ids.json").read_text(encoding="utf-8")),
        json.loads((where / "query_ids.json").read_text(encoding="utf-8")),
        read_source(where),
    )


def prepare(model: str | None) -> None:
    """Encode SciFact with `model`, or with token outputs of MiniLM reduced to 128 dimensions."""
    collection = load_beir(default_folder())
    encoder: Any = minilm_token_outputs() if model is None else SentenceTransformersEncoder(model)
    if model is None:
        documents, queries = cached_vectors(encoder, collection, say=print)
        documents, queries = reduced(documents, queries, DIM)
        name = f"all-MiniLM-L6-v2 token outputs, {DIM} principal dimensions"
    else:
        encoder.model[0].document_length = DOCUMENT_LENGTH
        encoder.model.float()
        documents, queries = cached_vectors(encoder, collection, say=print)
        name = Path(model).name
    where = folder()
    save(where, "", documents, list(collection.corpus))
    save(where, "query_", queries, list(collection.queries))
    np.save(where / "types.npy", Vocabulary().numbers(encoder, collection.texts()))
    describe_source(where, name, "scifact")


def prepare_collections(collections: list[Path], model: str | None, most: int | None) -> None:
    """Encode the texts of BEIR folders with their titles: in pieces by the encoder inside the wheel, or cut by `model`.

    Of each collection the first `most` documents, and `MOST_QUERIES` of its queries, are taken.
    """
    encoder: Any = nano_en() if model is None else SentenceTransformersEncoder(model)
    if model is not None:
        encoder.model.float()
    vocabulary, generator = Vocabulary(), np.random.default_rng(0)
    documents: dict[str, str] = {}
    queries: dict[str, str] = {}
    for root in collections:
        collection = load_beir(root)
        for key, entry in islice(collection.corpus.items(), most):
            for number, piece in enumerate(cut_into_pieces(entry["text"]) if model is None else [entry["text"]]):
                documents[f"{root.name}/{key}/{number}"] = f"{entry['title']} {piece}".strip()
        asked = list(collection.queries.items())
        for place in generator.permutation(len(asked))[:MOST_QUERIES]:
            key, query = asked[place]
            queries[f"{root.name}/{key}"] = query
    where, texts = folder(), list(documents.values())
    parts, types = [], []
    for start in range(0, len(texts), BLOCK):
        block = texts[start : start + BLOCK]
        if model is None:
            parts += [np.asarray(vectors, np.float16) for vectors in encoder.encode_document(block)]
            types.append(vocabulary.numbers(encoder, block))
        else:
            for features in encoder.run("encode_document", block, output_value=None):
                scored = features["attention_mask"].bool()
                parts.append(features["token_embeddings"][scored].numpy().astype(np.float16))
                types.append(features["input_ids"][scored].numpy())
        print(f"{start + len(block):,} of {len(texts):,} texts", flush=True)
    save(where, "", to_ragged(parts), list(documents))
    save(where, "query_", to_ragged(list(encoder.encode_query(list(queries.values())))), list(queries))
    np.save(where / "types.npy", np.concatenate(types))
    names = ", ".join(root.name for root in collections)
    pieces = f", in pieces of {PIECE} words" if model is None else ""
    describe_source(where, "latewood/nano-en" if model is None else Path(model).name, f"{names}{pieces}")


def cut_into_pieces(text: str) -> list[str]:
    """Cut a text after every `PIECE` words; a rest of a tenth of that stays with the last piece."""
    words = text.split()
    starts = range(0, max(len(words) - PIECE // 10, 1), PIECE)
    return [" ".join(words[start : None if start == starts[-1] else start + PIECE]) for start in starts]


class Vocabulary:
    """Numbers for words, in the order in which they are first met."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def numbers(self, encoder: Any, texts: list[str]) -> NDArray[np.int64]:
        """Give the number of the word that each token vector of the texts stands for."""
        words = (word for text in texts for word in encoder.document_tokens(text))
        return np.array([self.known.setdefault(word, len(self.known)) for word in words], np.int64)


def token_types(tokens: int) -> NDArray[np.int64]:
    """Give the numbers of the documents' words; all are 0 where the folder has none for so many tokens."""
    path = folder() / "types.npy"
    types: NDArray[np.int64] = np.load(path) if path.is_file() else np.zeros(0, np.int64)
    return types if len(types) == tokens else np.zeros(tokens, np.int64)


def save(where: Path, prefix: str, ragged: Ragged, ids: list[str]) -> None:
    """Write the vectors of documents, or of queries, and their ids."""
    where.mkdir(parents=True, exist_ok=True)
    np.save(where / f"{prefix}values.npy", ragged.values.astype(np.float16))
    np.save(where / f"{prefix}lengths.npy", ragged.lengths)
    (where / f"{prefix}ids.json").write_text(json.dumps(ids), encoding="utf-8")


def describe_source(where: Path, model: str, collection: str) -> None:
    """Write which model made the vectors of which collection."""
    (where / "source.json").write_text(json.dumps({"model": model, "collection": collection}), encoding="utf-8")


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


def read(where: Path, prefix: str = "") -> Ragged:
    """Read the vectors of documents, or of queries with the prefix "query_"."""
    values = np.load(where / f"{prefix}values.npy").astype(np.float32)
    lengths = np.load(where / f"{prefix}lengths.npy")
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def read_source(where: Path) -> dict[str, Any]:
    """Read which model made the vectors, of which collection."""
    path = where / "source.json"
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"model": where.name}
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a MultiVectorEncoder's name or path")
    parser.add_argument("--collections", type=Path, nargs="+", help="folders of collections in BEIR's form")
    parser.add_argument("--most", type=int, help="documents of each collection; without it, all")
    options = parser.parse_args()
    if options.collections:
        prepare_collections(options.collections, options.model, options.most)
    else:
        prepare(options.model)
    print(json.dumps(load().describe(), indent=2))


if __name__ == "__main__":
    main()
