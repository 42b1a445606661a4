"""Requests that nobody should send: each is refused with a clear 4xx, soon, and the service goes on."""

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Client, Index
from trials.serving import Service

pytest.importorskip("starlette")
pytest.importorskip("onnxruntime")
httpx: Any = pytest.importorskip("httpx")

READ, WRITE = "a-token-that-may-read", "a-token-that-may-write"
SOON = 10.0
DIM = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "news"
    Index.create(folder).add(["rings", "owls"], texts=["A tree grows rings.", "Owls hunt at night."])
    (folder.parent / "secret").write_text("nobody's business")
    return folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    tokens = {"LATEWOOD_READ_TOKENS": READ, "LATEWOOD_WRITE_TOKENS": WRITE}
    with Service({"news": folder}, "--timeout", "3", environment=tokens) as running:
        yield running
        # Whatever was asked of it.
        assert running.process.poll() is None
        with Client(running.url, "news", token=READ) as client:
            assert client.search("rings", 1)[0].id == "rings"
        assert Index.open(folder).check() == []


def post(service: Service, path: str = "/search", *, token: str = WRITE, **request: Any) -> Any:
    """Ask of the index, and see that the answer comes soon and is a problem that says something."""
    headers = {"authorization": f"Bearer {token}", **request.pop("headers", {})}
    url = path if path.startswith("http") else f"{service.url}/v1/indexes/news{path}"
    begun = time.monotonic()
    answer = httpx.request(request.pop("method", "POST"), url, headers=headers, timeout=SOON, **request)
    assert time.monotonic() - begun < SOON
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        told = answer.json()
        assert told["status"] == answer.status_code
        assert told["detail"]
        assert "Traceback" not in told["detail"]
        assert "/" not in told["detail"] or str(Path.home()) not in told["detail"]
    return answer


def encoded(array: Any, **changes: Any) -> dict[str, Any]:
    own = np.asarray(array, np.float32)
    given = {"base64": base64.b64encode(own.tobytes()).decode(), "shape": list(own.shape), "dtype": "float32"}
    return given | changes


NAN = np.full((2, DIM), np.nan)
INFINITE = np.full((2, DIM), np.inf)
FAIR = np.ones((2, DIM))


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/search", {}, "query"),
        ("/search", {"query": None}, "query"),
        ("/search", {"query": 5}, "query"),
        ("/search", {"query": []}, "query"),
        ("/search", {"query": [[]]}, "query"),
        ("/search", {"query": [[0.1], [0.1, 0.2]]}, "query"),
        ("/search", {"query": [[0.1] * (DIM + 1)]}, "dimensions"),
        ("/search", {"query": [["x"] * DIM]}, "query"),
        ("/search", {"query": "x", "k": 0}, "k"),
        ("/search", {"query": "x", "k": 2**70}, "k"),
        ("/search", {"query": "x", "k": 10**9}, "hits"),
        ("/search", {"query": "x", "k": 1.5}, "k"),
        ("/search", {"query": "x", "k": True}, "k"),
        ("/search", {"query": "x", "kk": 3}, "kk"),
        ("/search", {"query": "x", "threads": 10**6}, "threads"),
        ("/search", {"query": "x", "ids": ["a", 1]}, "ids"),
        ("/search", {"query": "x", "filter": []}, "filter"),
        ("/search", {"query": "x", "filter": {"page": {"no_such": 1}}}, "no_such"),
        ("/search", {"query": "x", "recall": 7}, "recall"),
        ("/search", {"query": "x", "weights": [1.0]}, "weights"),
        ("/search", {"query": "x", "weights": [1e300] * 3}, "weight"),
        ("/search", {"query": "x", "timeout": -1}, "timeout"),
        ("/search", {"query": "x", "feedback": {"documents": 10**12}}, "feedback"),
        ("/search", {"query": encoded(NAN)}, "NaN"),
        ("/search", {"query": encoded(INFINITE)}, "inf"),
        ("/search", {"query": encoded(FAIR, shape=[3, DIM])}, "bytes"),
        ("/search", {"query": encoded(FAIR, shape=[2**40, DIM])}, "bytes"),
        ("/search", {"query": encoded(FAIR, shape=[-2, -DIM])}, "shape"),
        ("/search", {"query": encoded(FAIR, shape=[0, DIM], base64="")}, "token"),
        ("/search", {"query": encoded(FAIR, dtype="object")}, "dtype"),
        ("/search", {"query": encoded(FAIR, base64="!!!")}, "base64"),
        ("/search", {"query": encoded(FAIR, base64="AAA")}, "base64"),
        ("/search", {"query": encoded(np.ones((5_000, DIM)))}, "token"),
        ("/search_batch", {"queries": ["x"] * 100_000}, "queries"),
        ("/search_batch", {"queries": ["x", [[0.1] * DIM]]}, "texts"),
        ("/search_batch", {"queries": "x"}, "queries"),
        ("/rerank", {"query": "x", "candidates": ["rings"] * 100_000}, "candidates"),
        ("/rerank", {"query": "x", "candidates": ["rings"], "scores": []}, "scores"),
        ("/rerank", {"query": "x", "candidates": ["rings"], "alpha": 1.0}, "alpha"),
        ("/explain", {"query": "x", "id": 2**80}, "id"),
        ("/explain", {"query": "x", "id": "../../secret"}, "secret"),
        ("/documents", {"documents": [{"id": "x"}]}, "texts or vectors"),
        ("/documents", {"documents": [{"id": "x", "text": "y"}, {"id": "x", "text": "y"}]}, "twice"),
        ("/documents", {"documents": [{"id": "x", "vectors": encoded(NAN)}]}, "NaN"),
        ("/documents", {"documents": [{"id": "x", "text": "y", "metadata": []}]}, "metadata"),
        ("/documents", {"documents": [{"id": "x", "text": "y"}] * 100_000}, "documents"),
        ("/documents/delete", {}, "ids"),
        ("/documents/delete", {"filter": {}}, "filter"),
        ("/documents/get", {"ids": ["x"]}, "x"),
        ("/tune", {"queries": []}, "query"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_body_that_makes_no_sense(service: Service, path: str, body: Any, told: str) -> None:
    answer = post(service, path, json=body)
    assert 400 <= answer.status_code < 500
    assert told in answer.json()["detail"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing",
        b'{"query": "x"',
        b'{"query": NaN}',
        b'{"query": [[NaN]]}',
        b'{"query": [[1e999]]}',
        b'{"query": [[Infinity]]}',
        b'{"query": "\xff"}',
        b'{"query": "\\ud800"}',
        b'["query"]',
        b'{"query": "x", "filter": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
        b'{"query": ' + b"[" * 1_000_000,
        b'{"query": "x", "k": ' + b"9" * 100_000 + b"}",
        b"\0" * 1000,
    ],
    ids=lambda content: repr(content)[:30],
)
def test_a_body_that_is_no_json(service: Service, content: bytes) -> None:
    answer = post(service, content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_body_of_another_kind(service: Service, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    assert post(service, content=b'{"query": "x"}', headers=headers).status_code == 415


@pytest.mark.parametrize(
    "token", ["x", READ[:-1], READ + "x", READ.upper(), WRITE[::-1], "\u00e9".encode().decode("latin-1")]
)
def test_a_wrong_token(service: Service, token: str) -> None:
    # Bytes, since a header may have any.
    headers = {"authorization": f"Bearer {token}".encode("latin-1")}
    answer = httpx.post(f"{service.url}/v1/indexes/news/search", json={"query": "x"}, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_token_that_may_only_read(service: Service) -> None:
    for method, path, body in (
        ("POST", "/documents", {"documents": [{"id": "x", "text": "y"}]}),
        ("PUT", "/documents", {"documents": [{"id": "x", "text": "y"}]}),
        ("PATCH", "/documents", {"ids": ["rings"], "metadata": {}}),
        ("POST", "/documents/delete", {"ids": ["rings"]}),
        ("POST", "/compact", {}),
        ("POST", "/tune", {}),
    ):
        assert post(service, path, token=READ, method=method, json=body).status_code == 403
    assert post(service, token=READ, json={"query": "x"}).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "%2e%2e",
        "..%2fsecret",
        "..%2f..%2fetc%2fpasswd",
        "news%00",
        "news%2f",
        "%ff",
        "n" * 5_000,
        "news%20",
        "\u00e9",
        "NEWS",
    ],
)
def test_a_name_that_is_a_path(service: Service, name: str) -> None:
    for method, end in (("GET", ""), ("POST", "/search"), ("POST", "/check")):
        raw = f"{method} /v1/indexes/{name}{end} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {WRITE}\r\n"
        raw += 'content-type: application/json\r\ncontent-length: 13\r\nconnection: close\r\n\r\n{"query":"x"}'
        status, text = talk(service, raw.encode())
        assert 400 <= status < 500
        assert "nobody's business" not in text
        assert "root:" not in text


def talk(service: Service, raw: bytes, *, pieces: int = 1, pause: float = 0.0) -> tuple[int, str]:
    """Send bytes as they are, in pieces, and give the status and the text of the answer; 0 if there was none."""
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", service.port), timeout=SOON * 2) as connection:
        size = max(1, -(-len(raw) // pieces))
        try:
            for start in range(0, len(raw), size):
                connection.sendall(raw[start : start + size])
                time.sleep(pause)
            parts = b"".join(iter(lambda: connection.recv(65_536), b""))
        except ConnectionError:
            parts = b""
    assert time.monotonic() - begun < SOON * 2
    status = int(parts.split()[1]) if parts.startswith(b"HTTP/") else 0
    return status, parts.decode("utf-8", "replace")


def head(*lines: str, path: str = "/v1/indexes/news/search") -> bytes:
    own = (f"POST {path} HTTP/1.1", "host: x", f"authorization: Bearer {WRITE}", "content-type: application/json")
    return ("\r\n".join([*own, *lines]) + "\r\n\r\n").encode()


def test_a_body_that_is_too_large(service: Service) -> None:
    answer = post(service, content=b" " * (33 << 20), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    # It is refused before it comes where its length is told, and where it is not as soon as it is too long.
    status, _ = talk(service, head(f"content-length: {2**62}", "connection: close"))
    assert status == 413

    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * (1 << 20)

    answer = post(service, content=endless(), headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_a_body_in_chunks(service: Service) -> None:
    answer = post(
        service, content=iter([b'{"que', b'ry": "rings"', b', "k": 1}']), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200
    for chunks in (b"zz\r\n", b"ffffffffffffffffff\r\n{}", b"-5\r\n{}", b"2\r\n{}x"):
        status, _ = talk(service, head("transfer-encoding: chunked", "connection: close") + chunks)
        assert status in (0, 400, 408)


def test_both_kinds_of_lengths(service: Service) -> None:
    raw = head("transfer-encoding: chunked", "content-length: 4") + b"0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    status, text = talk(service, raw + b"")
    assert status in (0, 400, 422)
    assert text.count("HTTP/1.1 200") == 0


def test_slow_clients_are_not_waited_for(service: Service) -> None:
    begun = time.monotonic()
    # The body never comes; then the head comes a letter at a time; then nothing at all.
    status, _ = talk(service, head("content-length: 1000") + b"{")
    assert status == 408
    assert time.monotonic() - begun < 6
    for raw in (b"POST /v1", b""):
        status, _ = talk(service, raw)
        assert status in (0, 400, 408)


def test_clients_that_wait_do_not_keep_others_from_being_answered(service: Service) -> None:
    held = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(200)]
    try:
        for connection in held:
            connection.sendall(head("content-length: 1000"))
        begun = time.monotonic()
        assert post(service, json={"query": "rings"}).status_code == 200
        assert time.monotonic() - begun < 2
    finally:
        for connection in held:
            connection.close()


def test_queries_of_100_000_tokens(service: Service) -> None:
    answer = post(service, json={"query": "owl " * 100_000})
    assert answer.status_code == 422
    assert "length" in answer.json()["detail"]
    matrix = encoded(np.ones((100_000, DIM)))
    assert post(service, json={"query": matrix}).status_code in (413, 422)


def test_texts_are_answered_as_texts(service: Service) -> None:
    for query in ("<script>alert(1)</script>", "\u202e\u0000\u0001", "\U0001f4a9" * 10, "' OR 1=1 --", "{{7*7}}"):
        answer = post(service, json={"query": query})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"


def test_a_wrong_path_or_method(service: Service) -> None:
    for method, path in (
        ("GET", "/nothing"),
        ("GET", "/v1/rerank"),
        ("DELETE", "/v1/indexes/news"),
        ("POST", "/metrics"),
        ("TRACE", "/"),
    ):
        answer = post(service, f"{service.url}{path}", method=method)
        assert answer.status_code in (404, 405)


def test_whoever_goes_away_is_not_worked_for(service: Service) -> None:
    body = json.dumps({"queries": ["owls and rings " * 20] * 200, "gather": "exact"}).encode()
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(head(f"content-length: {len(body)}", path="/v1/indexes/news/search_batch") + body)
    begun = time.monotonic()
    assert post(service, json={"query": "rings"}).status_code == 200
    assert time.monotonic() - begun < 5


def test_a_name_of_another_site_is_not_answered(folder: Path) -> None:
    """A page of another site whose name leads to this machine must reach nothing."""
    with Service({"news": folder}) as running:
        for host in (
            "evil.example",
            "evil.example:80",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "[::1]evil",
        ):
            raw = f"GET /v1/indexes HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
            status, text = talk(running, raw.encode())
            assert status in (400, 421), host
            assert "rings" not in text
        answer = httpx.options(f"{running.url}/v1/rerank", headers={"origin": "https://evil.example"})
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_many_at_once_are_answered_or_turned_away_soon(service: Service) -> None:
    statuses: list[int] = []

    def ask() -> None:
        with httpx.Client(headers={"authorization": f"Bearer {READ}"}, timeout=SOON) as client:
            statuses.extend(
                client.post(f"{service.url}/v1/indexes/news/search", json={"query": "rings"}).status_code
                for _ in range(5)
            )

    threads = [threading.Thread(target=ask) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 150
    assert set(statuses) <= {200, 429}
