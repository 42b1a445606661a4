"""A service as a process: how it ends, where it listens, what it logs, and heads of requests that no parser likes."""

import asyncio
import gc
import json
import os
import pickle
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from http.client import HTTPResponse
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from latewood import AsyncClient, Client, Index
from latewood.cli.commands import cli
from latewood.errors import InvalidInputError, ServiceError, StorageError
from trials.serving import Service

pytest.importorskip("starlette")
httpx: Any = pytest.importorskip("httpx")
uvicorn: Any = pytest.importorskip("uvicorn")

fcntl: Any = pytest.importorskip("fcntl")

from latewood.serve import run  # noqa: E402  where there is none, nothing of this is tested
from latewood.serve.listening import listening_at  # noqa: E402
from latewood.serve.process import ASKED, made  # noqa: E402

DIM = 16
QUERY = np.eye(DIM, dtype="float32")[:2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("process") / "news"
    Index.create(folder, dim=DIM).add(["rings", "owls"], vectors=[QUERY, np.eye(DIM, dtype="float32")[4:6]])
    return folder


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Give a folder where a service may put what is temporary."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
def test_whoever_asks_it_to_end_finds_that_it_went_well(folder: Path, temporary: Path, workers: int) -> None:
    with Service({"news": folder}, "--workers", str(workers), environment={"TMPDIR": str(temporary)}) as service:
        assert len(list(temporary.iterdir())) == (workers > 1)
        service.process.terminate()
        # Somebody may be impatient.
        service.process.terminate()
        assert service.stop() == 0
    assert not list(temporary.iterdir())


def test_nothing_temporary_stays_of_a_service_that_was_killed(folder: Path, temporary: Path) -> None:
    with Service({"news": folder}, "--workers", "2", environment={"TMPDIR": str(temporary)}) as service:
        with Client(service.url, "news") as client:
            assert client.count() == 2
        service.process.send_signal(signal.SIGKILL)
        until(lambda: not list(temporary.iterdir()))


def test_a_program_goes_on_after_its_service(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    told: list[str] = []

    def ready(address: str) -> None:
        told.append(address)
        # Before there is a server that could wait for it.
        signal.raise_signal(signal.SIGTERM)

    environment = dict(os.environ)
    run({"news": folder}, port=0, ready=ready)
    assert told
    assert signal.getsignal(signal.SIGTERM) is before
    assert dict(os.environ) == environment


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_is_as_before_after_its_workers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/of/the/program")
    before = [signal.getsignal(one) for one in signal.valid_signals()], dict(os.environ)
    # Loading takes longer than this.
    monkeypatch.setattr(uvicorn, "Config", partial(uvicorn.Config, timeout_worker_healthcheck=0.01))
    first: set[int] = set()
    seen: set[int] = set()

    def look() -> bool:
        seen.update(one.pid for one in active_children() if one.pid)
        return len(seen) >= 2

    def ready(address: str) -> None:
        def end() -> None:
            try:
                with Client(address, "news") as client:
                    until(look)
                    assert client.count() == 2
                    look()
                    first.update(seen)
                    os.kill(min(first), signal.SIGKILL)
                    until(lambda: look() and len(seen) > len(first))
            finally:
                os.kill(os.getpid(), number)

        threading.Thread(target=end).start()

    with pytest.raises(KeyboardInterrupt) if number == signal.SIGINT else nullcontext():
        run({"news": folder}, port=0, workers=2, ready=ready)
    assert len(first) == 2, "none was ended while it loaded"
    assert len(seen) == 3, "one that has died was replaced"
    assert ([signal.getsignal(one) for one in signal.valid_signals()], dict(os.environ)) == before


@pytest.mark.parametrize("host", ["127.0.0.2", "localhost", "::1"])
def test_it_is_asked_under_the_address_that_it_tells(folder: Path, host: str) -> None:
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with Service({"news": folder}, "--host", host) as service, Client(service.url, "news") as client:
        assert client.search(QUERY, 1)[0].id == "rings"


def test_why_an_address_cannot_be_served_at(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StorageError, match=f"127.0.0.1:{port} cannot be served at: Address already in use; choose"):
            run({"news": folder}, port=port)
    # The error says it, and nothing else does.
    assert capfd.readouterr() == ("", "")


def test_a_folder_whose_path_has_an_equals_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("latewood.serve.run", lambda folders, **_: asked.append(folders))
    for given in ("./day=1/news", "other=day=1/news", "s3://bucket/day=1/news"):
        assert CliRunner().invoke(cli, ["serve", given]).exit_code == 0
    assert asked == [{"news": "./day=1/news"}, {"other": "day=1/news"}, {"news": "s3://bucket/day=1/news"}]


def test_tokens_of_a_file_and_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("latewood.serve.run", lambda _, *, settings, **__: asked.append(settings))
    monkeypatch.setenv("LATEWOOD_READ_TOKENS", f" {'c' * 16}\n{'d' * 16} ")
    file = tmp_path / "tokens"
    file.write_bytes(b"\xef\xbb\xbfread %s\r\n\r\n# whose\r\n  write\t%s" % (b"a" * 16, b"b" * 16))
    assert CliRunner().invoke(cli, ["serve", "--tokens", str(file)]).exit_code == 0
    assert asked[0].read_tokens == ("c" * 16, "d" * 16, "a" * 16)
    assert asked[0].write_tokens == ("b" * 16,)


def test_a_warning_is_a_line_of_the_log_as_all_else(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "grown", dim=DIM)
    index.add(["first"], vectors=[QUERY])
    index.tune()
    index.add(["second", "third"], vectors=[QUERY, QUERY])
    log = tmp_path / "log"
    with (
        log.open("wb") as file,
        Service({"grown": index.path}, log=file) as service,
        Client(service.url, "grown") as client,
    ):
        client.search(QUERY, recall=0.9)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any("StaleTuningWarning: the recall" in line.get("message", "") for line in lines)


def test_a_worker_that_cannot_begin_says_why_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = {"indexes": {"news": str(tmp_path / "gone")}, "encoder": None, "settings": {}, "threads": 1, "counts": None}
    monkeypatch.setenv(ASKED, json.dumps(asked))
    monkeypatch.setattr(sys, "setswitchinterval", lambda _: None)
    with pytest.raises(SystemExit):
        made()
    (line,) = [record.message for record in caplog.records if record.name == "latewood.serve"]
    assert json.loads(line)["error"].startswith("IndexNotFoundError: ")


async def counted(url: str) -> int:
    async with AsyncClient(url, "news") as client:
        return await client.count()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_socket_is_its_owners_alone(folder: Path, tmp_path: Path, workers: int) -> None:
    """It goes with the service; one that a killed service has left is replaced."""
    # No part of it is read as one of an address.
    path = tmp_path / "a b%20c?#ä.sock"
    at = ("--uds", str(path), "--workers", str(workers))
    with Service({"news": folder}, *at) as service:
        assert service.url == f"unix://{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with Client(service.url, "news") as client:
            assert client.search(QUERY, 1)[0].id == "rings"
            with pickle.loads(pickle.dumps(client)) as copy:
                assert len(copy) == 2
        assert asyncio.run(counted(service.url)) == 2
        with pytest.raises(StorageError, match="Address already in use; choose another path"):
            run({"news": folder}, uds=path)
        service.kill()
    assert path.is_socket()
    with Service({"news": folder}, *at) as service, Client(service.url, "news") as client:
        assert len(client) == 2
        assert service.stop() == 0
    assert not path.exists()


# httpcore leaves a socket open that did not connect.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_socket_where_nobody_listens(tmp_path: Path) -> None:
    with Client(f"unix://{tmp_path}/none", "news", retries=0) as client:
        with pytest.raises(ServiceError, match=r"/none gave no answer: .*; see that the service runs there"):
            client.count()
        gc.collect()


def test_a_socket_may_be_anybodys_who_has_a_token(folder: Path, tmp_path: Path) -> None:
    path, token = tmp_path / "socket", "t" * 16
    with Service({"news": folder}, "--uds", str(path), environment={"LATEWOOD_READ_TOKENS": token}) as service:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        with Client(service.url, "news", token=token) as client:
            assert len(client) == 2
        with Client(service.url, "news") as client, pytest.raises(ServiceError, match="give a token"):
            len(client)


def test_a_socket_takes_nothings_place(folder: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_text("kept")
    other.symlink_to(file)
    for path in (file, other, tmp_path, tmp_path / "none" / "socket", tmp_path / ("long" * 40)):
        with pytest.raises(StorageError, match=r"cannot be served at: .*; choose another path"):
            run({"news": folder}, uds=path)
    for bad in ("", "a\0b", 5):
        with pytest.raises(InvalidInputError, match="uds"):
            run({"news": folder}, uds=bad)  # type: ignore[arg-type]
    assert file.read_text() == "kept"
    for more in (["--port", "8000"], ["--host", "127.0.0.1"]):
        result = CliRunner().invoke(cli, ["serve", str(folder), "--uds", str(tmp_path / "socket"), *more])
        assert (result.exit_code, "leave out --host and --port" in result.output) == (2, True)


def test_a_socket_of_a_later_service_stays(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with listening_at(path, for_all=False) as (first, _):
        first.close()
        path.unlink()
        # In another tick of the file system's clock.
        time.sleep(0.05)
        with socket.socket(socket.AF_UNIX) as later:
            later.bind(str(path))
    assert path.is_socket()


def test_of_services_that_start_at_once_one_has_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a killed one has left its file, too; the others are told that it is taken."""
    path, chmod = tmp_path / "socket", Path.chmod

    def slowly(own: Path, mode: int) -> None:
        # It has its file by now, and does not listen yet.
        time.sleep(0.01)
        chmod(own, mode)

    monkeypatch.setattr(Path, "chmod", slowly)
    together, ended = threading.Barrier(4), threading.Barrier(4)

    def start(_: int) -> str:
        together.wait(20)
        try:
            with listening_at(path, for_all=False) as (sock, _address):
                ended.wait(20)
                with socket.socket(socket.AF_UNIX) as asking:
                    asking.connect(str(path))
                    sock.accept()[0].close()
                return "served"
        except StorageError as error:
            ended.wait(20)
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(path))
            *refused, served = sorted(pool.map(start, range(4)))
            assert served == "served"
            assert all("Address already in use" in told for told in refused)
    assert not list(tmp_path.iterdir())


def test_a_socket_in_a_folder_that_another_program_has_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latewood.serve.listening.TURN_SECONDS", 0.1)
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    refused = pytest.raises(StorageError, match="another program has locked its folder; choose another path")
    with refused, listening_at(tmp_path / "socket", for_all=False):
        pass
    os.close(held)


def test_a_socket_of_a_service_that_has_too_much_to_do_stays_its_own(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as busy, ExitStack() as waiting:
        busy.bind(str(path))
        busy.listen(0)
        with suppress(BlockingIOError):
            while True:
                one = waiting.enter_context(socket.socket(socket.AF_UNIX))
                one.setblocking(False)
                one.connect(str(path))
        with pytest.raises(StorageError, match="Address already in use"), listening_at(path, for_all=False):
            pass
    assert path.is_socket()


@pytest.fixture(scope="module")
def service(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("log") / "log"
    with log.open("wb") as file, Service({"news": folder}, log=file) as running:
        yield running
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"time", "message"} in map(set, lines)
    assert any(line.get("path") == "/v1/rerank" for line in lines)


def talk(service: Service, raw: bytes) -> tuple[int, dict[str, str], Any]:
    """Send bytes as they are; the status of the answer, its headers, and what it tells."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        with suppress(ConnectionError):
            connection.sendall(raw)
        try:
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        except ConnectionResetError:
            return 0, {}, None
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), json.loads(body)


@pytest.mark.parametrize(
    "raw", [b"nothing\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], ids=repr
)
def test_what_is_no_request_is_a_problem_too(service: Service, raw: bytes) -> None:
    status, headers, told = talk(service, raw)
    assert (status, headers["content-type"], headers["connection"]) == (400, "application/problem+json", "close")
    assert (told["status"], told["title"]) == (400, "Bad Request")
    assert told["detail"]


def test_a_head_without_an_end_is_refused(service: Service) -> None:
    begun = time.monotonic()
    status, _, told = talk(service, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * (1 << 24))
    # Who goes on writing may not see the answer.
    assert status in (0, 431)
    assert time.monotonic() - begun < 15
    status, headers, told = talk(service, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * (1 << 16))
    assert (status, headers["content-type"]) == (431, "application/problem+json")
    assert "65536" in told["detail"]


def posted(body: bytes, *lines: str) -> bytes:
    own = ("POST /v1/rerank HTTP/1.1", "Host: localhost", "Content-Type: application/json")
    return "\r\n".join([*own, f"Content-Length: {len(body)}", *lines, "", ""]).encode() + body


def test_a_long_body_is_not_taken_for_a_head(service: Service) -> None:
    body = json.dumps({"documents": ["x" * 200_000]}).encode()
    status, _, told = talk(service, posted(body, "Connection: close"))
    assert (status, told["detail"]) == (422, "Object missing required field `query`")


@pytest.mark.parametrize("name", ["Upgrade", "upgrade"])
def test_a_client_that_asks_for_http2_first_is_answered_in_http1(service: Service, name: str) -> None:
    # As Java's does, each time that it uses a connection again.
    lines = ("Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk", f"{name}: h2c")
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        for _ in range(2):
            connection.sendall(posted(b'{"documents":\n["a"]}', *lines))
            with HTTPResponse(connection) as answer:
                answer.begin()
                assert (answer.version, answer.status) == (11, 422)
                assert b"missing required field `query`" in answer.read()


def test_a_connection_outlasts_those_of_clients(service: Service) -> None:
    """Httpx uses one again for 5 seconds: it must not be closed just then."""
    request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        for pause in (5.5, 0.0):
            connection.sendall(request)
            with HTTPResponse(connection) as answer:
                answer.begin()
                assert (answer.status, answer.read()) == (200, b'{"status":"ok"}')
            time.sleep(pause)
