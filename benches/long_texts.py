"""Long texts in overlapping windows against cut ones: effectiveness, vectors, time to encode, time of a query.

    python benches/long_texts.py FOLDER [FOLDER:5 ...]    collections as BEIR lays them out

A number behind a folder's name joins so many documents that follow each other under one title into one. The encoder is
that inside the wheel, with its own limit and with a shorter one, so that more texts are long. Hits are those of
`gather="exact"`, so that nothing but the vectors makes a difference; milliseconds are those of a plain search with
vectors that are there already.
"""

import argparse
import json
import random
import shutil
import statistics
import tempfile
import time
from itertools import groupby
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
    parser.add_argument("folders", nargs="+", metavar="FOLDER[:JOINED]")
    parser.add_argument("--lengths", type=int, nargs="+", default=[300, 128], help="tokens that the encoder takes")
    parser.add_argument("--queries", type=int, default=1000, help="of each collection at most, drawn with a fixed seed")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    rows = []
    for named in options.folders:
        folder, _, count = named.partition(":")
        collection = joined(drawn(load_beir(folder), options.queries), int(count or 1))
        for length in options.lengths:
            cut, cut_scores = run(collection, length, "cut")
            windows, scores = run(collection, length, "windows")
            gains = [scores[key] - cut_scores[key] for key in scores]
            windows["gain"] = round(statistics.fmean(gains), 4)
            windows["gain_standard_error"] = round(statistics.stdev(gains) / len(gains) ** 0.5, 4)
            for row in (cut, windows):
                rows.append({"collection": Path(folder).name, "joined": int(count or 1), "length": length, **row})
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


def joined(collection: Collection, count: int) -> Collection:
    """Make one document of up to `count` that follow each other under one title."""
    corpus: dict[str, dict[str, str]] = {}
    home: dict[str, str] = {}
    for _, group in groupby(collection.corpus.items(), key=lambda item: item[1]["title"] or item[0]):
        entries = list(group)
        for parts in (entries[start : start + count] for start in range(0, len(entries), count)):
            first = parts[0][0]
            corpus[first] = {**parts[0][1], "text": " ".join(entry["text"] for _, entry in parts)}
            home |= {key: first for key, _ in parts}
    qrels = {
        query: {home[key]: relevance for key, relevance in judged.items()} for query, judged in collection.qrels.items()
    }
    return Collection(corpus, collection.queries, qrels)


def run(collection: Collection, length: int, long: Long) -> tuple[dict[str, Any], dict[str, float]]:
    """Encode a collection, index it, and ask its queries: what came of it, and the first measure of each query."""
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
        found = {
            key: {str(hit.id): hit.score for hit in own} for key, own in zip(collection.queries, hits, strict=True)
        }
        scores = evaluate_run(found, collection.qrels, METRICS)
        single = {
            key: evaluate_run({key: own}, {key: collection.qrels[key]}, METRICS[:1])[METRICS[0]]
            for key, own in found.items()
        }
        asked = [queries[position] for position in range(min(len(queries), 200))]
        row = {
            "long": long,
            "documents": len(texts),
            "long_documents": sum(many > length for many in token_counts(texts)),
            "queries": len(queries),
            "vectors": len(encoded.vectors.values),
            "encode_seconds": round(wall, 1),
            "encode_processor_seconds": round(processor, 1),
            "query_ms": milliseconds(lambda position: index.search(asked[position], 10), len(asked)),
            **{metric: round(value, 4) for metric, value in scores.items()},
        }
        return row, single


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
