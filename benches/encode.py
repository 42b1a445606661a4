"""Speed of the encoder inside the wheel on SciFact: one query at a time, documents, and the way to the first query.

    python benches/encode.py
    python benches/encode.py --encoder FOLDER   another ONNX model

Processor seconds stand beside the times: on a machine that does other things meanwhile, they are what holds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from common import milliseconds, write_record
from latewood.cli.demo import default_folder
from latewood.encode import OnnxEncoder, fingerprint
from latewood.encode.nano import NAME
from latewood.encode.protocol import as_encoder
from latewood.evaluate import load_beir

FIRST_QUERY = """
import json, sys, time
started = time.perf_counter(), time.process_time()
import latewood, onnxruntime, tokenizers
from latewood.encode import as_encoder
imported = time.perf_counter(), time.process_time()
as_encoder(sys.argv[1]).encode_query(["tree rings"])
ready = time.perf_counter(), time.process_time()
print(json.dumps([[1000 * (b - a) for a, b in zip(started, end)] for end in (imported, ready)]))
"""
STARTS = 9
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default=NAME, help="a folder with an ONNX model; the one in the wheel by default")
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    encoder = as_encoder(options.encoder)
    if not isinstance(encoder, OnnxEncoder):
        parser.error(f"{options.encoder} is no ONNX model")
    collection = load_beir(default_folder())
    content = {
        "encoder": fingerprint(encoder),
        "start_ms": starts(options.encoder),
        "query": queries(encoder, list(collection.queries.values())),
        "documents": documents(encoder, collection.texts()[: options.documents]),
    }
    print(json.dumps(content, indent=2))
    if not options.no_record:
        print(f"written: {write_record('encode', content)}")


def starts(encoder: str) -> dict[str, dict[str, float]]:
    """Milliseconds from a new interpreter to imported packages, and to the first encoded query; the median start."""
    command = [sys.executable, "-c", FIRST_QUERY, encoder]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(STARTS)]
    return {
        name: {
            clock: round(statistics.median(run[stage][column] for run in runs), 1)
            for column, clock in enumerate(("wall", "processor"))
        }
        for stage, name in enumerate(("import", "first_query"))
    }


def queries(encoder: OnnxEncoder, texts: list[str]) -> dict[str, Any]:
    """Encode queries one by one."""
    vectors = encoder.encode_query(texts)
    started = time.process_time()
    for text in texts:
        encoder.encode_query([text])
    processor = time.process_time() - started
    return {
        "queries": len(texts),
        "tokens_mean": round(statistics.fmean(map(len, vectors)), 2),
        "ms": milliseconds(lambda i: encoder.encode_query([texts[i]]), len(texts), rounds=ROUNDS),
        "processor_ms_mean": round(1000 * processor / len(texts), 4),
    }


def documents(encoder: OnnxEncoder, texts: list[str]) -> dict[str, Any]:
    """Encode documents together, cut, on all processors; the fastest round."""
    encoder.encode_document(texts[:50])
    rounds = []
    tokens = 0
    for _ in range(ROUNDS):
        wall, processor = time.perf_counter(), time.process_time()
        vectors = encoder.encode_document(texts, long="cut")
        rounds.append((time.perf_counter() - wall, time.process_time() - processor))
        tokens = sum(map(len, vectors))
    wall, processor = min(rounds)
    return {
        "documents": len(texts),
        "tokens": tokens,
        "tokens_per_second": round(tokens / wall),
        "tokens_per_processor_second": round(tokens / processor),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


if __name__ == "__main__":
    main()
