"""A service as processes: the workers behind its socket, and their end."""

import asyncio
import gc
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors.multiprocess import SIGNALS, Multiprocess, Process

from latewood.common.processors import processors
from latewood.encode.protocol import as_encoder
from latewood.errors import InvalidInputError, LatewoodError
from latewood.forms.values import count_of, path_of
from latewood.index.encoding import RECORDED
from latewood.integrations.ranking import load
from latewood.rerank.reranker import Reranker
from latewood.serve.access import is_loopback
from latewood.serve.application import LOG, application
from latewood.serve.listening import listening, listening_at
from latewood.serve.logs import log_lines
from latewood.serve.metrics import DIRECTORY
from latewood.serve.problems import CONTENT_TYPE, Problem
from latewood.serve.settings import Settings

ASKED = "LATEWOOD_SERVE"
"""The environment variable in which workers find what they serve."""
HEADER_SECONDS = 10.0
"""For the first line and the headers of a request."""
MOST_HEAD_BYTES = 1 << 16
"""Of these, as far as they come in pieces."""
IDLE_SECONDS = 75
"""That a connection is kept open for the next request: longer than clients and proxies keep theirs, so that none is
closed while a request is on its way."""
UPGRADES = (b"\nUpgrade:", b"\nupgrade:")
"""Headers by which a client, such as Java's, asks for HTTP/2 while it begins in HTTP/1.1."""
PASSED_OVER = b"\nignored:"
"""Of the same length, since a body may follow."""
SWITCH_SECONDS = 0.0005
"""After so long another thread may go on: the one that answers must not wait for those that search."""
YOUNG_OBJECTS = 10_000
"""So many new objects make the collector look for those that hold each other. Usually it looks after a tenth of that,
which the requests under way alone have, and nearly all of them go by themselves."""


class _Protocol(HttpToolsProtocol):
    """Closes a connection on which the head of a request does not come, or has no end."""

    _waiting: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        # The parser would leave the body unread. In a body of JSON no line begins so.
        for name in UPGRADES:
            data = data.replace(name, PASSED_OVER)
        super().data_received(data)
        if self._waiting is not None and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                told = f"the head of the request has more than {MOST_HEAD_BYTES} bytes"
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, told)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request."""
        self._refuse(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1.1")

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.await_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.await_head()

    def on_headers_complete(self) -> None:
        self._come()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._come()
        super().connection_lost(exc)

    def await_head(self) -> None:
        """Begin to wait for a head."""
        self._come()
        self._head_bytes = 0
        self._waiting = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _come(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _refuse(self, status: HTTPStatus, told: str) -> None:
        body = msgspec.json.encode(Problem(status, told).to_dict())
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {CONTENT_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def run(
    indexes: Mapping[str, str | os.PathLike[str]] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    uds: str | os.PathLike[str] | None = None,
    workers: int = 1,
    encoder: str | None = None,
    settings: Settings | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM, and return, or until Ctrl-C; what is at work then is finished first.

    Parameters
    ----------
    indexes : mapping of str to path-like, optional
        Folders by the names that their paths have.
    host : str
        Anything but the loopback interface needs tokens.
    port : int
        0 for any that is free.
    uds : path-like, optional
        A Unix socket to serve at, and at no port: only who owns the process may connect, or, with tokens, every user
        of the machine that may enter its folder.
    workers : int
        Processes, which share the mapped files. Any of them may write; the index's lock lets one at a time.
    encoder : str, optional
        A model's name or folder: of texts to be reranked, and of indexes but for those that were made with the one
        inside the wheel, which is the default. "recorded" loads for each index the one that it was made with.
    settings : Settings, optional
    ready : callable, optional
        Is given the address when requests are taken in.

    Raises
    ------
    InvalidInputError
        An address that anybody can reach, without tokens.
    IndexNotFoundError, CorruptIndexError
        As for `Index.open`.
    EncoderError, EncoderMismatchError
        The encoder cannot be loaded, or is not the one that an index was made with.
    StorageError
        The address is taken, or is none of this machine's; or something that is no socket has its path.
    """
    chosen = settings or Settings()
    workers = count_of(workers, "workers", most=1024)
    port = count_of(port, "port", least=0, most=65_535)
    if not (chosen.has_tokens or uds is not None or is_loopback(host)):
        message = (
            f"{host} can be reached from other machines: give read or write tokens (docs/serving.md), or serve on "
            "127.0.0.1"
        )
        raise InvalidInputError(message)
    paths = {name: path_of(path) for name, path in (indexes or {}).items()}
    asked = {
        "indexes": paths,
        "encoder": encoder,
        "settings": asdict(chosen),
        "threads": max(1, processors() // workers),
    }
    # What is wrong with them is told here, and not by each worker.
    service = _application(asked).state.service
    if encoder not in (None, RECORDED):
        load(service.reranker)
    config = uvicorn.Config(
        f"{__name__}:made",
        factory=True,
        workers=workers,
        http=_Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # Nothing here asks for a client's address.
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=int(chosen.timeout) + 5,
    )
    log_lines()
    with _signals(), _counts() if workers > 1 else nullcontext() as counts:
        told = {ASKED: json.dumps({**asked, "counts": counts})} | ({} if counts is None else {DIRECTORY: counts})
        before = {variable: os.environ[variable] for variable in told if variable in os.environ}
        os.environ.update(told)
        try:
            place = listening(host, port) if uds is None else listening_at(uds, for_all=chosen.has_tokens)
            with place as (sock, address):
                if ready is not None:
                    ready(address)
                if workers > 1:
                    _Workers(config, sockets=[sock]).run()
                else:
                    uvicorn.Server(config).run(sockets=[sock])
        finally:
            for variable in told:
                del os.environ[variable]
            os.environ.update(before)


class _Workers(Multiprocess):
    """Looks after the worker processes."""

    interrupted = False

    def keep_subprocess_alive(self) -> None:
        """Put others in the place of workers that have died, and of no other.

        One that gives no sign of life may still load what it needs; if it were ended, so would be all that come after.
        """
        for place, worker in enumerate(self.processes):
            if not worker.process.is_alive():
                worker.kill()
                worker.join()
                self.processes[place] = Process(self.config, self.sockets)
                self.processes[place].start()

    def handle_int(self) -> None:
        """End the workers at Ctrl-C, of which who called is told then."""
        self.interrupted = True
        super().handle_int()

    def run(self) -> None:
        """Look after them until a signal ends it."""
        super().run()
        if self.interrupted:
            raise KeyboardInterrupt


@contextmanager
def _signals() -> Iterator[None]:
    """Leave the block at SIGTERM as at its end, so that nothing temporary stays, and who called goes on as before."""
    if threading.current_thread() is not threading.main_thread():
        # Signals are another's then.
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    except _Terminated:
        pass
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


class _Terminated(BaseException):
    pass


def _leave(*_: Any) -> None:
    raise _Terminated


def _counts() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="latewood-counts-", ignore_cleanup_errors=True)


def made() -> Starlette:
    """Make the application in a worker."""
    asked = json.loads(os.environ[ASKED])
    sys.setswitchinterval(SWITCH_SECONDS)
    threading.Thread(target=_end_with_parent, args=[asked["counts"]], daemon=True).start()
    log_lines()
    try:
        made = _application(asked)
    except LatewoodError as error:
        # The index was there when the service began, and may be there again for the next worker.
        told = {"time": time.time(), "error": f"{type(error).__name__}: {error}"}
        LOG.error(msgspec.json.encode(told).decode())
        sys.exit(1)
    # What is there by now stays, and is not looked through again and again while all threads wait.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    return made


def _application(asked: Mapping[str, Any]) -> Starlette:
    named = asked["encoder"]
    # Loaded once, for texts and for indexes.
    encoder = named if named in (None, RECORDED) else as_encoder(named)
    return application(
        asked["indexes"],
        encoder=encoder,
        reranker=Reranker(None if named == RECORDED else encoder),
        settings=Settings(**asked["settings"]),
        threads=asked["threads"],
    )


def _end_with_parent(counts: str | None) -> None:
    """End this worker when the process that looks after it is gone: it would hold the port, and nobody could end it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        # Nobody else removes them now; a file that is open can still be written.
        if counts is not None:
            shutil.rmtree(counts, ignore_errors=True)
        signal.raise_signal(signal.SIGTERM)
