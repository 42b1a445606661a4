"""An index of a gigabyte in object storage: how long publishing and the first opening take, and how many bytes go over.

    python benches/cloud.py                 1 GB, moto's server on loopback
    python benches/cloud.py --gigabytes .1  less

The documents are SciFact's as real token vectors, again and again under other ids, with the vectors kept. The server is
one Python process on the same cores: `server_s` is how long it takes to send the same bytes to somebody who drops them.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).parent.parent))

from common import folder_size, machine, write_record
from latewood import Index
from latewood.cloud.generations import File, newest
from latewood.cloud.store import Store
from trials.s3 import server
from vectors import load

R = TypeVar("R")
URL = "s3://bucket/bench"
MORE = 100
"""Documents of the second commit."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    vectors = load()
    used = machine()
    print(f"{used['processor']}, {used['cores']} cores, level {used['simd']}")
    with tempfile.TemporaryDirectory() as scratch, server() as port:
        os.environ.update(
            AWS_ACCESS_KEY_ID="key",
            AWS_SECRET_ACCESS_KEY="secret",
            AWS_REGION="us-east-1",
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
            LATEWOOD_CACHE=str(Path(scratch, "cache")),
        )
        documents = [vectors.documents[number] for number in range(len(vectors.documents))]
        index = Index.create(Path(scratch) / "index", dim=vectors.documents.dim, keep_vectors="float16")
        turn = 0
        while not turn or folder_size(Path(index.path)) * (turn + 0.5) / turn < options.gigabytes * 1e9:
            index.add([f"{turn} {number}" for number in range(len(documents))], vectors=documents)
            index.compact()
            turn += 1
        query = vectors.queries[0]

        publish_s, _ = timed(lambda: index.publish(URL))
        publish_to_folder_s, _ = timed(lambda: index.publish(Path(scratch, "store").as_uri()))
        generation = newest(Store(URL))
        assert generation is not None
        size = sum(file.bytes for file in generation.files)
        server_s, _ = timed(lambda: drop(generation.files))
        cold_s, copy = timed(lambda: Index.open(URL))
        first_ms, hits = timed(lambda: copy.search(query, 10))
        warm_s, again = timed(lambda: Index.open(URL))
        check_s, problems = timed(copy.check)
        if problems or hits != index.search(query, 10) or again.generation != index.generation:
            message = "what was pulled is not what was published"
            raise AssertionError(message)
        names = {file.name for file in generation.files}
        index.add([f"more {number}" for number in range(MORE)], vectors=documents[:MORE])
        again_s, _ = timed(lambda: index.publish(URL))
        refresh_s, moved = timed(copy.refresh)
        after = newest(Store(URL))
        assert after is not None
        assert moved
        new = sum(file.bytes for file in after.files if file.name not in names)
        result = {
            "documents": turn * len(documents),
            "bytes": size,
            "publish_s": round(publish_s, 2),
            "publish_to_folder_s": round(publish_to_folder_s, 2),
            "server_s": round(server_s, 2),
            "cold_open_s": round(cold_s, 2),
            "first_search_ms": round(1000 * first_ms, 1),
            "warm_open_s": round(warm_s, 3),
            "check_s": round(check_s, 2),
            "a_hundred_more": {"bytes": new, "publish_s": round(again_s, 3), "refresh_s": round(refresh_s, 3)},
        }
    print(result)
    if not options.no_record:
        print(write_record("cloud", {"vectors": vectors.describe(), **result}))


def timed(call: Callable[[], R]) -> tuple[float, R]:
    started = time.perf_counter()
    made = call()
    return time.perf_counter() - started, made


def drop(files: Iterable[File]) -> None:
    store = Store(URL)
    for file in files:
        for _ in store.parts(file.object, 0):
            pass


if __name__ == "__main__":
    main()
