"""A service against `search_batch` in a process, on the same queries and cores; its waits at 70 % of that; overload.

    python benches/serve.py FOLDER           a collection as BEIR lays it out; data/scifact by default

Texts and vectors are asked separately, each single query in a request of its own, by another process on loopback that
keeps so many requests under way. Its own work is counted as the service's, for both share the cores: the figure
is what one machine gives, clients included.
"""

import argparse
import asyncio
import base64
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from common import write_record
from latewood import Index
from latewood.encode import encode_queries, nano_en
from latewood.evaluate import load_beir
from trials.serving import Service

UNDER_WAY = 64
"""Requests that are asked at once where throughput is measured."""
LOAD, FLOOD = 0.7, 3.0
"""Of the throughput, where waits are measured, and where the service has too much to do."""


def main() -> None:
    if sys.argv[1:2] == ["--asks"]:
        print(json.dumps(asyncio.run(asks(json.loads(sys.stdin.read())))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=str(Path(__file__).parent.parent / "data/scifact"))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--documents", type=int, default=10**9, help="of the collection, the first ones")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    collection = load_beir(options.folder)
    texts = list(collection.queries.values())[:300]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "index"
        index = Index.create(path)
        index.add(list(collection.corpus)[: options.documents], texts=collection.texts()[: options.documents])
        vectors = list(encode_queries(nano_en(), texts))
        rows = []
        with Service({"index": path}, "--workers", str(options.workers)) as service:
            for kind, queries in (("texts", texts), ("vectors", vectors)):
                rows.append(measure(index, service, kind, queries, options.seconds))
                print(json.dumps(rows[-1]), flush=True)
    if not options.no_record:
        print(f"written: {write_record('serve', {'workers': options.workers, 'rows': rows})}")


def measure(index: Index, service: Service, kind: str, queries: Any, seconds: float) -> dict[str, Any]:
    """Ask in a process, then the service as fast as it goes, at a part of that, and at more than it can do."""
    expected = index.search_batch(queries)
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        index.search_batch(queries, with_documents=True)
        done += len(queries)
    alone = done / (time.perf_counter() - begun)
    bodies = [json.dumps({"query": query if isinstance(query, str) else encoded(query)}) for query in queries]
    told = {
        "url": service.url,
        "bodies": bodies,
        "seconds": seconds,
        "answers": [[hit.id for hit in hits] for hits in expected],
    }
    asked(told | {"under_way": UNDER_WAY, "seconds": 1.0})
    fast = asked(told | {"under_way": UNDER_WAY})
    calm = asked(told | {"rate": LOAD * fast["per_second"]})
    flood = asked(told | {"rate": FLOOD * fast["per_second"], "seconds": min(seconds, 5.0)})
    after = asked(told | {"under_way": 1, "seconds": 1.0})
    return {
        "queries": kind,
        "in_a_process_per_second": round(alone, 1),
        "service_per_second": fast["per_second"],
        "share": round(fast["per_second"] / alone, 3),
        "at_70_percent": calm,
        "p99_over_p50": round(calm["p99_ms"] / calm["p50_ms"], 2),
        "overload": flood,
        "after_overload": after,
    }


def encoded(matrix: Any) -> dict[str, Any]:
    plain = np.ascontiguousarray(matrix, "<f4")
    return {"base64": base64.b64encode(plain.tobytes()).decode(), "shape": plain.shape, "dtype": "float32"}


def asked(told: dict[str, Any]) -> dict[str, Any]:
    """Ask from a process of its own."""
    command = [sys.executable, __file__, "--asks"]
    run = subprocess.run(command, input=json.dumps(told), capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


class Asker:
    """A connection that sends the least that HTTP needs, so that the cores are the service's."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self._streams: Any = None

    async def ask(self, body: str) -> tuple[int, bytes]:
        """Give the status and the body of an answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        reader, writer = self._streams
        data = body.encode()
        writer.write(
            b"POST /v1/indexes/index/search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(data) + data
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        return int(head.split()[1]), await reader.readexactly(length)

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()


async def asks(told: dict[str, Any]) -> dict[str, Any]:
    """Ask with so many requests under way, or so many a second; the answers must be those of the index."""
    end = time.perf_counter() + told["seconds"]
    waits: dict[int, list[float]] = {}
    bodies, answers = told["bodies"], told["answers"]
    number = 0

    async def one(asker: Asker, begun: float) -> None:
        nonlocal number
        place = number % len(bodies)
        number += 1
        sent = time.perf_counter()
        status, content = await asker.ask(bodies[place])
        # How soon a request is turned away is the service's doing alone, however late it was sent.
        waits.setdefault(status, []).append(time.perf_counter() - (begun if status == 200 else sent))
        if status == 200 and place % 16 == 0 and [hit["id"] for hit in json.loads(content)["hits"]] != answers[place]:
            message = f"query {place} has other hits than in a process"
            raise ValueError(message)

    async def over_and_over() -> None:
        asker = Asker(told["url"])
        while time.perf_counter() < end:
            await one(asker, time.perf_counter())
        asker.close()

    async def at_a_rate() -> None:
        # A request's wait begins when it is due, however late the loop is.
        free: list[Asker] = []
        under_way: set[asyncio.Task[None]] = set()
        arrivals = np.random.default_rng(0)
        due = time.perf_counter()

        async def once(due: float) -> None:
            asker = free.pop() if free else Asker(told["url"])
            await one(asker, due)
            free.append(asker)

        while due < end:
            due += arrivals.exponential(1 / told["rate"])
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(once(due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
        for asker in free:
            asker.close()

    begun = time.perf_counter()
    if "rate" in told:
        await at_a_rate()
    else:
        await asyncio.gather(*(over_and_over() for _ in range(told["under_way"])))
    seconds = time.perf_counter() - begun
    good = sorted(waits.get(200, [0.0]))
    result: dict[str, Any] = {
        "per_second": round(len(good) / seconds, 1),
        "p50_ms": milliseconds(good, 0.5),
        "p99_ms": milliseconds(good, 0.99),
        "statuses": {status: len(times) for status, times in waits.items()},
    }
    if 429 in waits:
        result |= {
            "p50_429_ms": milliseconds(sorted(waits[429]), 0.5),
            "p99_429_ms": milliseconds(sorted(waits[429]), 0.99),
        }
    return result


def milliseconds(ordered: list[float], share: float) -> float:
    return round(1000 * statistics.quantiles(ordered, n=1000)[int(share * 1000) - 1], 2) if len(ordered) > 1 else 0.0


if __name__ == "__main__":
    main()
