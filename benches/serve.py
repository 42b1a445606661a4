"""A service against `search_batch` in a process, on the same queries and cores; its waits at 70 % of that; overload.

    python benches/serve.py FOLDER           a collection as BEIR lays it out; data/scifact by default

Texts and vectors are asked separately, each single query in a request of its own, by another process on loopback that
keeps so many requests under way. Its own work is counted as the service's, for both share the cores: the figure
is what one machine gives, clients included.
"""

import argparse
import base64
import json
import selectors
import socket
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
        print(json.dumps(asks(json.loads(sys.stdin.read()))))
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


class Connection:
    """A connection that does the least that HTTP needs, so that the cores are the service's."""

    def __init__(self, url: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.place, self.due, self.sent = 0, 0.0, 0.0
        self._parts: list[bytes] = []
        self._missing = 0

    def send(self, request: bytes, place: int, due: float) -> None:
        """Send a request."""
        self.place, self.due, self.sent = place, due, time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> tuple[int, bytes] | None:
        """Read what there is; the status and the body of an answer that is whole."""
        part = self.socket.recv(1 << 20)
        if not self._parts:
            head, _, _ = part.partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            self._missing = len(head) + 4 + length
        self._parts.append(part)
        self._missing -= len(part)
        if self._missing:
            return None
        head, _, body = b"".join(self._parts).partition(b"\r\n\r\n")
        self._parts = []
        return int(head.split()[1]), body


def asks(told: dict[str, Any]) -> dict[str, Any]:
    """Ask with so many requests under way, or so many a second; the answers must be those of the index."""
    requests = [
        b"POST /v1/indexes/index/search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body.encode())
        for body in told["bodies"]
    ]
    answers, rate = told["answers"], told.get("rate")
    waits: dict[int, list[float]] = {}
    arrivals = np.random.default_rng(0)
    selector = selectors.DefaultSelector()
    free: list[Connection] = []
    begun = due = time.perf_counter()
    end = begun + told["seconds"]
    number = under_way = 0
    while True:
        now = time.perf_counter()
        # A request's wait begins when it is due, however late this loop is.
        while (due <= now if rate else under_way < told["under_way"]) and (due if rate else now) < end:
            if not free:
                free.append(Connection(told["url"]))
                selector.register(free[-1].socket, selectors.EVENT_READ, free[-1])
            place = number % len(requests)
            free.pop().send(requests[place], place, due if rate else now)
            number, under_way = number + 1, under_way + 1
            if rate:
                due += arrivals.exponential(1 / rate)
        if not under_way and now >= end:
            break
        for key, _ in selector.select(max(0.0, min(due, end) - now) if rate and now < end else None):
            connection: Connection = key.data
            answer = connection.receive()
            if answer is None:
                continue
            status, body = answer
            # How soon a request is turned away is the service's doing alone, however late it was sent.
            since = connection.due if status == 200 else connection.sent
            waits.setdefault(status, []).append(time.perf_counter() - since)
            place = connection.place
            if status == 200 and place % 16 == 0 and [hit["id"] for hit in json.loads(body)["hits"]] != answers[place]:
                message = f"query {place} has other hits than in a process"
                raise ValueError(message)
            under_way -= 1
            free.append(connection)
    seconds = time.perf_counter() - begun
    good = sorted(waits.get(200, [0.0]))
    result: dict[str, Any] = {
        "per_second": round(len(good) / seconds, 1),
        "p50_ms": milliseconds(good, 0.5),
        "p99_ms": milliseconds(good, 0.99),
        "statuses": {status: len(times) for status, times in waits.items()},
        "own_ms": round(1000 * time.process_time() / max(1, number), 3),
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
