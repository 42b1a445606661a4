"""A server that speaks as S3 does, behind a line that fails when it is told to."""

import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KINDS = ("503", "500", "429", "cut", "empty", "flip", "reset", "lost", "slow", "hang", "late")
"""
`cut` and `empty` end a body early, `flip` changes a bit of an object, `reset` ends a connection before the server hears
of the request, `lost` after it, `hang` gives no answer in time, and `late` lists what was there earlier.
"""
OF_READING = ("cut", "empty", "flip", "late")
WAITS = {"slow": 0.1, "hang": 1.2}
"""Seconds."""


class Faults:
    """What the line does to requests: each fails with the chance `rate`, and the first `sure` that can, for certain."""

    def __init__(self) -> None:
        self.choices = random.Random("line")
        self.rate = 0.0
        self.sure = 0
        self.done: list[str] = []
        self._lists: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def draw(self, method: str, path: str) -> str | None:
        """Give what happens to a request, if something does."""
        with self._lock:
            if self.sure <= 0 and self.choices.random() >= self.rate:
                return None
            listing = "list-type" in path
            possible = [
                kind
                for kind in KINDS
                if (kind not in OF_READING or method == "GET")
                and (kind != "late" or (listing and path in self._lists))
                # Nothing tells that a list is wrong; what it names, does.
                and (kind != "flip" or not listing)
            ]
            self.sure -= 1
            self.done.append(self.choices.choice(possible))
            return self.done[-1]

    def list_of(self, path: str, content: bytes, *, late: bool) -> bytes:
        """Give a list as it is, or as it was."""
        with self._lock:
            if late:
                return self._lists[path]
            # Some stay old for long.
            if path not in self._lists or self.choices.random() < 0.3:
                self._lists[path] = content
            return content


@contextmanager
def server() -> Iterator[int]:
    """Run moto's server with an empty bucket named `bucket`; give its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_bucket(port)
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def server_behind_faults() -> Iterator[tuple[str, Faults]]:
    """Run the server; give the address of the line to it, and the line's faults."""
    with server() as port:
        faults = Faults()
        line = ThreadingHTTPServer(("127.0.0.1", 0), type("Line", (_Line,), {"port": port, "faults": faults}))
        line.daemon_threads = True
        threading.Thread(target=line.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{line.server_address[1]}", faults
        finally:
            line.shutdown()
            line.server_close()


def _wait_for_bucket(port: int, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("PUT", "/bucket")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    message = f"moto's server did not answer within {seconds} s"
    raise TimeoutError(message)


class _Line(BaseHTTPRequestHandler):
    """Hands requests on to the server at a port, and fails."""

    port: int
    faults: Faults
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        kind = self.faults.draw(self.command, self.path)
        if kind in ("503", "500", "429"):
            self.answer(int(kind), {}, b"")
            return
        if kind == "reset":
            self.break_off()
            return
        time.sleep(WAITS.get(kind or "", 0.0))
        status, headers, content = self.asked(body)
        if kind == "lost":
            self.break_off()
            return
        length = int(headers.pop("content-length", len(content))) if self.command == "HEAD" else len(content)
        content = self.damaged(content, kind)
        self.close_connection = self.close_connection or kind in ("cut", "empty")
        self.answer(status, headers, content, length)

    def asked(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(self.command, self.path, body, {**headers, "Host": self.headers["host"]})
            answer = connection.getresponse()
            content = answer.read()
        drop = ("transfer-encoding", "connection", "server", "date")
        kept = {name.lower(): value for name, value in answer.getheaders() if name.lower() not in drop}
        return answer.status, kept, content

    def damaged(self, content: bytes, kind: str | None) -> bytes:
        if "list-type" in self.path:
            content = self.faults.list_of(self.path, content, late=kind == "late")
        if kind == "flip" and content:
            at = self.faults.choices.randrange(len(content))
            return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]
        return content[: {"cut": len(content) // 2, "empty": 0}.get(kind or "", len(content))]

    def answer(self, status: int, headers: dict[str, str], content: bytes, length: int = 0) -> None:
        try:
            self.send_response(status)
            for name, value in headers.items():
                if name != "content-length":
                    self.send_header(name, value)
            self.send_header("content-length", str(length))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            # Who asked waits no longer.
            self.close_connection = True

    def break_off(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = pass_on  # noqa: N815  names of http.server
