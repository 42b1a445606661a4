"""Indexes on the Hugging Face Hub, by the real client against a stand-in of its servers."""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Index
from strategies import make_corpus
from support import build_index, run_python

pytest.importorskip("huggingface_hub")

CORPUS = make_corpus(3, documents=60, queries=4)


class Hub(ThreadingHTTPServer):
    """Repositories as lists of commits, each a mapping of file to content."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.repositories: dict[str, list[dict[str, bytes]]] = {}
        self.fetched: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_port}"

    def commit(self, name: str, revision: str) -> int:
        """Give the number of a commit by its name; "main" is the newest."""
        commits = self.repositories[name]
        number = len(commits) - 1 if revision == "main" else int(revision, 16)
        return number if number < len(commits) else int("")


class Requests(BaseHTTPRequestHandler):
    """The requests that creating, listing, uploading and downloading lead to."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for key, text in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self) -> None:
        try:
            self.get()
        except (KeyError, ValueError):
            self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET  # noqa: N815  so the class that calls it spells it

    def get(self) -> None:
        if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/revision/(\w+)(?:\?.*)?", self.path):
            number = self.server.commit(found[1], found[2])
            files = self.server.repositories[found[1]][number]
            self.answer({"id": found[1], "sha": f"{number:040x}", "siblings": [{"rfilename": name} for name in files]})
        elif found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/tree/(\w+)(?:\?.*)?", self.path):
            files = self.server.repositories[found[1]][self.server.commit(found[1], found[2])]
            self.answer(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ]
            )
        elif found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/(\w+)/(.*)", self.path):
            number = self.server.commit(found[1], found[2])
            content = self.server.repositories[found[1]][number][found[3]]
            if self.command == "GET":
                self.server.fetched.append(found[3])
            tag = hashlib.sha256(content).hexdigest()
            self.answer(content, headers={"ETag": f'"{tag}"', "X-Repo-Commit": f"{number:040x}"})
        else:
            raise KeyError(self.path)

    def do_POST(self) -> None:
        body = self.body()
        if self.headers.get("Authorization") == "Bearer wrong":
            self.answer({"error": "Invalid credentials"}, 401)
        elif self.path.startswith("/api/repos/create"):
            asked = json.loads(body)
            name = f"{asked.get('organization', 'me')}/{asked['name']}"
            known = name in self.server.repositories
            self.server.repositories.setdefault(name, [{".gitattributes": b"*.lwd binary\n", "notes.md": b"mine"}])
            self.answer({"url": f"{self.server.address}/datasets/{name}", "name": name}, 409 if known else 200)
        elif found := re.match(r"/api/datasets/([^/]+/[^/]+)/preupload/", self.path):
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            self.answer({"files": modes})
        elif found := re.match(r"/api/datasets/([^/]+/[^/]+)/commit/", self.path):
            files = dict(self.server.repositories[found[1]][-1])
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                elif entry["key"] == "deletedFile":
                    del files[entry["value"]["path"]]
            self.server.repositories[found[1]].append(files)
            number = f"{len(self.server.repositories[found[1]]) - 1:040x}"
            self.answer(
                {"commitUrl": f"{self.server.address}/datasets/{found[1]}/commit/{number}", "commitOid": number}
            )
        else:
            self.answer({"type": "regular"})


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def with_hub(hub: Hub, tmp_path: Path, code: str, *arguments: Any) -> Any:
    """Run code in a process of its own, which knows the stand-in from its start."""
    environment = {
        "HF_ENDPOINT": hub.address,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "mine",
    }
    start = "import json, sys\nimport numpy as np\nfrom latewood import Index\nfrom latewood.errors import *\n"
    return run_python(start + code, *arguments, environment=environment)


SEARCH = """
index = Index.from_hub("me/forest", revision=sys.argv[2] if len(sys.argv) > 2 else None)
hits = index.search(np.load(sys.argv[1]), k=5)
print(json.dumps([index.path, len(index), [[int(hit.id), hit.score] for hit in hits]]))
"""


def test_up_and_down_again(hub: Hub, tmp_path: Path) -> None:
    index = build_index(tmp_path / "index", CORPUS)
    (tmp_path / "index" / "notes.txt").write_text("of somebody else")
    np.save(tmp_path / "query.npy", CORPUS.queries[0])
    wanted = [[int(hit.id), hit.score] for hit in index.search(CORPUS.queries[0], k=5)]
    push = "print(json.dumps(Index.open(sys.argv[1]).push_to_hub('me/forest', commit_message='first')))"
    assert with_hub(hub, tmp_path, push, index.path).endswith("/commit/" + f"{1:040x}")
    own = {name for name in os.listdir(index.path) if name not in ("LOCK", "notes.txt")}  # noqa: PTH208
    assert set(hub.repositories["me/forest"][-1]) == {*own, ".gitattributes", "notes.md"}

    path, count, found = with_hub(hub, tmp_path, SEARCH, tmp_path / "query.npy")
    assert (count, found) == (60, wanted)
    assert all(file.is_symlink() for file in Path(path).iterdir()), "the Hub's cache is links"
    fetched = len(hub.fetched)
    assert with_hub(hub, tmp_path, SEARCH, tmp_path / "query.npy") == [path, 60, wanted]
    assert len(hub.fetched) == fetched, "what is there is not fetched again"

    index.delete(range(20))
    index.compact()
    with_hub(hub, tmp_path, push, index.path)
    kept = [name for name in hub.repositories["me/forest"][-1] if fnmatch(name, "*.lwd")]
    assert sorted(kept) == sorted(path.name for path in Path(index.path).glob("*.lwd")), "old files are gone"
    assert hub.repositories["me/forest"][-1]["notes.md"] == b"mine"
    assert with_hub(hub, tmp_path, SEARCH, tmp_path / "query.npy")[1] == 40
    assert with_hub(hub, tmp_path, SEARCH, tmp_path / "query.npy", f"{1:040x}")[1:] == [60, wanted]


def test_the_cache_is_for_reading(hub: Hub, tmp_path: Path) -> None:
    index = build_index(tmp_path / "index", CORPUS)
    code = """
from pathlib import Path
Index.open(sys.argv[1]).push_to_hub("me/forest", private=True)
index = Index.from_hub("me/forest")
folder = Path(index.path)
before = sorted(path.name for path in folder.iterdir())
told = []
for change in (lambda: index.delete([0]), index.compact, index.writer):
    try:
        change()
    except LatewoodError as error:
        told.append(type(error).__name__)
for path in [folder, *folder.parents[:2]]:
    path.chmod(0o500)
again = Index.from_hub("me/forest")
told.append(len(again.search(np.ones((2, again.dim), "f4"), k=3)))
told.append(again.check())
again.push_to_hub("me/copy")
told.append(before == sorted(path.name for path in folder.iterdir()))
for path in [*folder.parents[:2], folder]:
    path.chmod(0o700)
own = Index.from_hub("me/copy", local_dir=sys.argv[2])
own.delete([0])
told.append(len(own))
print(json.dumps(told))
"""
    told = with_hub(hub, tmp_path, code, index.path, tmp_path / "own")
    assert told == [*["InvalidInputError"] * 3, 3, [], True, 59]
    assert len(Index.open(tmp_path / "own")) == 59


def test_what_goes_wrong_is_told(hub: Hub, tmp_path: Path) -> None:
    index = build_index(tmp_path / "index", CORPUS)
    hub.repositories["me/empty"] = [{"notes.md": b"mine"}]
    hub.repositories["me/damaged"] = [{path.name: path.read_bytes() for path in Path(index.path).iterdir()}]
    name = next(name for name in hub.repositories["me/damaged"][0] if name.startswith("segment"))
    hub.repositories["me/damaged"][0][name] = b"not this"
    code = """
index = Index.open(sys.argv[1])
told = {}
calls = {
    "missing": lambda: Index.from_hub("me/missing"),
    "revision": lambda: Index.from_hub("me/damaged", revision="ffff"),
    "empty": lambda: Index.from_hub("me/empty"),
    "damaged": lambda: Index.from_hub("me/damaged"),
    "no name": lambda: Index.from_hub("a name"),
    "no text": lambda: Index.from_hub(5),
    "no revision": lambda: Index.from_hub("me/empty", revision=5),
    "token": lambda: index.push_to_hub("me/forest", token="wrong"),
    "push no name": lambda: index.push_to_hub("a/b/c"),
    "private": lambda: index.push_to_hub("me/forest", private="yes"),
    "create_pr": lambda: index.push_to_hub("me/forest", create_pr=None),
    "message": lambda: index.push_to_hub("me/forest", commit_message=5),
}
for name, call in calls.items():
    try:
        told[name] = str(call())
    except LatewoodError as error:
        told[name] = type(error).__name__
with index.writer():
    try:
        index.push_to_hub("me/forest")
    except LatewoodError as error:
        told["locked"] = type(error).__name__
print(json.dumps(told))
"""
    assert with_hub(hub, tmp_path, code, index.path) == {
        "missing": "StorageError",
        "revision": "StorageError",
        "empty": "InvalidInputError",
        "damaged": "CorruptIndexError",
        "no name": "InvalidInputError",
        "no text": "InvalidInputError",
        "no revision": "InvalidInputError",
        "token": "StorageError",
        "push no name": "InvalidInputError",
        "private": "InvalidInputError",
        "create_pr": "InvalidInputError",
        "message": "InvalidInputError",
        "locked": "IndexLockedError",
    }
    assert "me/forest" not in hub.repositories


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    code = """
import json, sys
sys.modules["huggingface_hub"] = None
from latewood import Index
from latewood.errors import MissingDependencyError
try:
    Index.from_hub("me/forest")
except MissingDependencyError as error:
    print(json.dumps(str(error)))
"""
    assert "'latewood[hub]'" in run_python(code)
