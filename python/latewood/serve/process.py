"""A service as processes: the socket, the workers behind it, and their end."""

import asyncio
import ipaddress
import json
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from latewood.errors import InvalidInputError, StorageError
from latewood.forms.values import count_of, path_of
from latewood.integrations.ranking import load
from latewood.rerank.reranker import Reranker
from latewood.serve.application import LOG, application, processors
from latewood.serve.metrics import DIRECTORY
from latewood.serve.settings import Settings

ASKED = "LATEWOOD_SERVE"
"""The environment variable in which workers find what they serve."""
HEADER_SECONDS = 10.0
"""For the first line and the headers of a request."""
SWITCH_SECONDS = 0.0005
"""After so long another thread may go on: the one that answers must not wait for those that search."""


class _Protocol(HttpToolsProtocol):
    """Closes a connection on which the head of a request does not come."""

    _waiting: asyncio.TimerHandle | None = None

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
        self._waiting = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _come(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


def run(
    indexes: Mapping[str, str | os.PathLike[str]] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    encoder: str | None = None,
    settings: Settings | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; what is at work then is finished first.

    Parameters
    ----------
    indexes : mapping of str to path-like, optional
        Folders by the names that their paths have.
    host : str
        Anything but the loopback interface needs tokens.
    port : int
        0 for any that is free.
    workers : int
        Processes, which share the mapped files. Any of them may write; the index's lock lets one at a time.
    encoder : str, optional
        Of texts to be reranked: a model's name or folder; by default the one inside the wheel.
    settings : Settings, optional
    ready : callable, optional
        Is given the address when requests are taken in.

    Raises
    ------
    InvalidInputError
        An address that anybody can reach, without tokens.
    IndexNotFoundError, CorruptIndexError
        As for `Index.open`.
    StorageError
        The address is taken, or is none of this machine's.
    """
    chosen = settings or Settings()
    workers = count_of(workers, "workers", most=1024)
    if not (chosen.has_tokens or is_loopback(host)):
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
    reranker = _reranker(encoder)
    application(paths, reranker=reranker, settings=chosen)
    if reranker is not None:
        load(reranker)
    config = uvicorn.Config(
        f"{__name__}:made",
        factory=True,
        host=host,
        port=count_of(port, "port", least=0, most=65_535),
        workers=workers,
        http=_Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # Nothing here asks for a client's address.
        proxy_headers=False,
        timeout_graceful_shutdown=int(chosen.timeout) + 5,
    )
    counts = tempfile.mkdtemp(prefix="latewood-counts-") if workers > 1 else None
    os.environ[ASKED] = json.dumps(asked)
    if counts is not None:
        os.environ[DIRECTORY] = counts
    try:
        sock = _socket(config, host, port)
        name = f"[{host}]" if ":" in host else host
        if ready is not None:
            ready(f"http://{name}:{sock.getsockname()[1]}")
        if workers > 1:
            Multiprocess(config, sockets=[sock]).run()
        else:
            uvicorn.Server(config).run(sockets=[sock])
        sock.close()
    finally:
        os.environ.pop(ASKED, None)
        if counts is not None:
            os.environ.pop(DIRECTORY, None)
            shutil.rmtree(counts, ignore_errors=True)


def made() -> Starlette:
    """Make the application in a worker."""
    asked = json.loads(os.environ[ASKED])
    sys.setswitchinterval(SWITCH_SECONDS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if not LOG.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        LOG.addHandler(handler)
        LOG.setLevel(logging.INFO)
        LOG.propagate = False
    return application(
        asked["indexes"],
        reranker=_reranker(asked["encoder"]),
        settings=Settings(**asked["settings"]),
        threads=asked["threads"],
    )


def _end_with_parent() -> None:
    """End this worker when the process that looks after it is gone: it would hold the port, and nobody could end it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        signal.raise_signal(signal.SIGTERM)


def _reranker(encoder: str | None) -> Reranker | None:
    return None if encoder is None else Reranker(encoder)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _socket(config: uvicorn.Config, host: str, port: int) -> Any:
    try:
        bound = config.bind_socket()
        # Who is told the address may connect at once.
        bound.listen(config.backlog)
    # uvicorn says why on its log, and ends the process.
    except (SystemExit, OSError) as error:
        message = f"{host}:{port} cannot be served at: it is taken, or is no address of this machine"
        raise StorageError(message) from error
    return bound
