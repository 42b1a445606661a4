"""Long texts in overlapping windows against cut ones: effectiveness, vectors, time to encode, time of a query.

    python benches/long_texts.py FOLDER [FOLDER ...]      collections as BEIR lays them out

The encoder is that inside the wheel, with its own limit and with shorter ones, so that more texts are long. Hits are
those of `gather="exact"`, so that nothing but the vectors makes a difference; milliseconds are those of a plain search
with vectors that are there already.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import latewood
from common import milliseconds, write_record
from latewood import Index
from latewood.encode import Long, OnnxEncoder, encode_queries, fingerprint, nano_en
from latewood.encode.protocol import encode_texts
from latewood.evaluate import Collection, evaluate_run, load_beir

METRICS = ("nDCG@10", "RR@10", "R@100")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--lengths", type=int, nargs="+", default=[300, 128], help="tokens that the encoder takes")
    parser.add_argument("--queries", type=int, default=1000, help="of each collection at most, drawn with a fixed seed")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    rows = []
    for folder in options.folders:
        collection = drawn(load_beir(folder), options.queries)
        for length in options.lengths:
            for long in ("cut", "windows"):
                rows.append(
                    {"collection": folder.name, "length": length, "long": long, **run(collection, length, long)}
                )
                print(json.dumps(rows[-1]), flush=True)
    if not options.no_record:
        print(f"written: {write_record('long-texts', {'encoder': fingerprint(nano_en()), 'rows': rows})}")


def drawn(collection: Collection, count: int) -> Collection:
    """Keep at most `count` queries and their judgements."""
    keys = sorted(collection.queries)
    kept = random.Random(11).sample(keys, min(count, len(keys)))
    return Collection(
        collection.corpus,
        {key: collection.queries[key] for key in kept},
        {key: collection.qrels[key] for key in kept},
    )


def run(collection: Collection, length: int, long: Long) -> dict[str, Any]:
    """Encode a collection, index it, and ask its queries."""
    with tempfile.TemporaryDirectory() as name:
        encoder = OnnxEncoder(limited(Path(name) / "encoder", length), batch_tokens=1, long=long)
        encoder.encode_document(["the model is loaded before the clock runs"])
        texts = collection.texts()
        started = time.perf_counter(), time.process_time()
        encoded = encode_texts(encoder, texts)
        wall, processor = time.perf_counter() - started[0], time.process_time() - started[1]
        index = Index.create(Path(name) / "index", encoder=encoder)
        index.add(list(collection.corpus), vectors=encoded.vectors)
        queries = encode_queries(encoder, list(collection.queries.values()))
        hits = index.search_batch(queries, 100, gather="exact")
        scores = evaluate_run(
            {key: {hit.id: hit.score for hit in own} for key, own in zip(collection.queries, hits, strict=True)},
            collection.qrels,
            METRICS,
        )
        asked = [queries[position] for position in range(min(len(queries), 200))]
        return {
            "documents": len(texts),
            "long_documents": sum(many > length for many in token_counts(texts)),
            "queries": len(queries),
            "vectors": len(encoded.vectors.values),
            "encode_seconds": round(wall, 1),
            "encode_processor_seconds": round(processor, 1),
            "query_ms": milliseconds(lambda position: index.search(asked[position], 10), len(asked)),
            **{metric: round(value, 4) for metric, value in scores.items()},
        }


def limited(folder: Path, length: int) -> Path:
    """Copy the encoder inside the wheel, for documents of at most `length` tokens at once."""
    shutil.copytree(Path(latewood.__file__).parent / "encode" / "nano_en", folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "document_length": length}), encoding="utf-8")
    return folder


def token_counts(texts: list[str]) -> list[int]:
    """Tokens of each text, special ones and punctuation included."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(latewood.__file__).parent / "encode" / "nano_en" / "tokenizer.json"))
    tokenizer.no_truncation()
    return [len(encoding) for encoding in tokenizer.encode_batch_fast(texts)]


if __name__ == "__main__":
    main()
