"""What the page is sent: its files, fields to filter by, pictures, and nothing that lies elsewhere."""

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from latewood import Index
from latewood.errors import InvalidInputError
from latewood.serve import Settings, application
from latewood.serve.page.fields import MOST_VALUES, fields_of
from latewood.serve.page.files import page_files
from latewood.serve.page.pictures import patches, picture
from support import HashEncoder

PNG = b"\x89PNG\r\n\x1a\n and so on"
METADATA: list[dict[str, Any] | None] = [
    {"lang": "en", "year": 1990, "tags": ["a", "b"], "author": {"name": "Ann", "born": 1950.5}},
    {"lang": "de", "year": 2001, "seen": True, "mixed": "x", "none": None, "empty": []},
    {"lang": "en", "seen": False, "mixed": 3, "long": "x" * 500, "a.b": 1, "a": {"c": [{"d": 1}]}},
    None,
    {"lang": "עברית", "year": -1, "mixed": True, "": "nameless"},
]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "index", encoder=HashEncoder())
    index.add(range(len(METADATA)), texts=[f"text {n}" for n in range(len(METADATA))], metadata=METADATA)
    return index


@pytest.fixture
def client(index: Index) -> Iterator[TestClient]:
    with TestClient(application({"own": index}), base_url="http://localhost") as client:
        yield client


def test_the_files_weigh_little_and_ask_for_nothing_elsewhere(client: TestClient) -> None:
    files = page_files()
    assert sum(map(len, files.values())) <= 150_000
    asked = {"/"}
    for path in files:
        answer = client.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        text = answer.text
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path
        assert not re.search(r"\sstyle=|\son\w+=", text) or path.endswith((".js", ".css")), path
        asked |= {f"/{name}" for name in re.findall(r"[\"'](page/[\w.]+)[\"']", text)}
        asked |= {f"/page/{name}" for name in re.findall(r"from \"\./([\w.]+)\"", text)}
    # Each is asked for by another.
    assert asked == set(files)


def test_a_browser_that_has_a_file_is_not_sent_it_again(client: TestClient) -> None:
    first = client.get("/page/page.js")
    again = client.get("/page/page.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/page/page.js", headers={"if-none-match": '"other"'}).content == first.content
    assert client.head("/").status_code == 200


def test_it_lies_inside_other_applications(index: Index) -> None:
    inside = Starlette(routes=[Mount("/a/search", application({"own": index}))])
    with TestClient(inside, base_url="http://localhost") as client:
        for path in ("/a/search", "/a/search/"):
            page = client.get(path)
            assert page.status_code == 200
            # What it asks for lies beside it.
            for name in re.findall('(?:src|href)="(.*?)"', page.text):
                assert client.get(str(page.url.join(name))).status_code == 200, name
            assert client.post(str(page.url.join("page/own/hits")), json={"query": "text"}).status_code == 200


def test_files_are_those_of_the_page_alone(client: TestClient) -> None:
    for path in (
        "/page/",
        "/page/operations.py",
        "/page/../settings.py",
        "/page/%2e%2e/settings.py",
        "/page/index.html",
    ):
        assert client.get(path).status_code in (404, 405), path


def test_every_field_can_be_filtered_by(index: Index, client: TestClient) -> None:
    told = client.get("/page/own/fields").json()
    assert told["documents"] == len(METADATA)
    assert {"lang", "year", "tags", "author.name", "author.born", "seen", "mixed", "long"} <= {
        one["name"] for one in told["fields"]
    }
    for field in told["fields"]:
        for value in field["values"]:
            assert index.count(filter={field["name"]: value}) >= 1, field
    by_name = {one["name"]: one for one in told["fields"]}
    assert by_name["year"] == {
        "name": "year",
        "kinds": ["number"],
        "documents": 3,
        "values": [1990, 2001, -1],
        "least": -1,
        "most": 2001,
    }
    assert by_name["mixed"]["kinds"] == ["flag", "number", "text"]
    assert by_name["long"]["values"] == []
    assert [one["documents"] for one in told["fields"]] == sorted(
        (one["documents"] for one in told["fields"]), reverse=True
    )


def test_fields_of_any_name_and_at_any_place_can_be_filtered_by(tmp_path: Path) -> None:
    metadata = [
        {"and": 1, "or": {"not": 2}, "not": [3], "\\b": 4, "\\and": 5, "a.b": 6, "": {"": 7, "q": 8}},
        {"authors": [{"name": "Ann"}, {"name": "Bo", "born": [1990, [1991]]}], "\u202e": True, "__proto__": "x"},
    ]
    index = Index.create(tmp_path / "odd", dim=8)
    index.add([0, 1], vectors=[np.eye(8, dtype="float32")] * 2, metadata=metadata)
    found = {(field["name"], value) for field in fields_of(metadata) for value in field["values"]}
    assert len(found) == 14
    for name, value in found:
        assert len(index.ids(filter={name: value})) == 1, name
    assert len(index.search(np.eye(8, dtype="float32"), group_by="\\and")) == 2


def test_fields_are_bounded() -> None:
    many = [{f"field-{n}": n, "one": n} for n in range(1000)]
    found = fields_of(many)
    assert len(found) == 100
    assert found[0]["name"] == "one"
    assert len(found[0]["values"]) == MOST_VALUES
    assert (found[0]["least"], found[0]["most"]) == (0, 999)
    assert fields_of([]) == fields_of([None, {}]) == []


def test_hits_of_the_page_are_those_of_the_index(index: Index, client: TestClient) -> None:
    for options in ({}, {"k": 2}, {"filter": {"lang": "en"}}, {"offset": 1}, {"group_by": "lang"}):
        answer = client.post("/page/own/hits", json={"query": "text 1", "exact": True, **options}).json()
        hits = index.search("text 1", **options)
        assert answer["ids"] == [str(hit.id) for hit in hits]
        assert answer["query"] + answer["hits"] == hits.to_html()
        best = index.search("text 1", **options, gather="exact")
        assert answer["exact"] == {"hits": len(best), "found": len({hit.id for hit in best} & {hit.id for hit in hits})}
        assert answer["generation"] == index.generation
    assert client.post("/page/own/hits", json={"query": "text", "k": 101}).status_code == 422
    assert client.post("/page/own/hits", json={"query": "text", "nonsense": 1}).status_code == 422
    assert client.post("/page/other/hits", json={"query": "text"}).status_code == 404


def test_an_index_without_documents_has_a_page(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", encoder=HashEncoder())
    with TestClient(application({"own": index}), base_url="http://localhost") as client:
        assert client.get("/page/own/fields").json()["fields"] == []
        answer = client.post("/page/own/hits", json={"query": "text", "exact": True}).json()
        assert (answer["ids"], answer["exact"]) == ([], {"hits": 0, "found": 0})
    with TestClient(application({}), base_url="http://localhost") as client:
        assert client.get("/").status_code == 200


def test_the_page_needs_the_tokens_that_programs_need(index: Index) -> None:
    token = "reading-reading-reading"
    made = application({"own": index}, settings=Settings(read_tokens=(token,)))
    with TestClient(made, base_url="http://localhost") as client:
        # Files hold nothing of an index, and ask the reader for a token.
        assert client.get("/").status_code == 200
        for given, status in ({}, 401), ({"authorization": f"Bearer {token}"}, 200):
            assert client.get("/page/own/fields", headers=given).status_code == status
            assert client.post("/page/own/hits", json={"query": "text"}, headers=given).status_code == status


# ── pictures ──


def test_only_pictures_in_the_folder_are_shown(tmp_path: Path) -> None:
    folder, outside = tmp_path / "images", tmp_path / "outside"
    (folder / "deep").mkdir(parents=True)
    outside.mkdir()
    for path in (folder / "one.png", folder / "deep" / "ünï.png", outside / "secret.png"):
        path.write_bytes(PNG)
    (folder / "inner.png").symlink_to(folder / "one.png")
    (folder / "escape.png").symlink_to(outside / "secret.png")
    (folder / "door").symlink_to(outside)
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "page.svg").write_text("<svg onload='alert(1)'/>")
    (folder / "page.html").write_text("<script>alert(1)</script>")
    (folder / "empty.png").touch()
    os.mkfifo(folder / "pipe.png")
    shown = ["one.png", "deep/ünï.png", "inner.png", "deep/../one.png", "./one.png", str(folder / "one.png")]
    for name in shown:
        answer = picture(folder, {"image": name})
        assert (answer["type"], base64.b64decode(answer["base64"])) == ("image/png", PNG)
    refused: list[Any] = [
        {},
        "../outside/secret.png",
        "deep/../../outside/secret.png",
        str(outside / "secret.png"),
        "escape.png",
        "door/secret.png",
        "loop.png",
        "page.svg",
        "page.html",
        "empty.png",
        "pipe.png",
        "missing.png",
        "deep",
        ".",
        "",
        "one.png\0",
        "x" * 5000,
        "~/one.png",
        "file:///etc/passwd",
        3,
        None,
        ["one.png"],
    ]
    for given in refused:
        with pytest.raises(InvalidInputError) as error:
            picture(folder, {"image": given})
        assert str(tmp_path) not in str(error.value)
    with pytest.raises(InvalidInputError, match="'image'"):
        picture(folder, None)


def test_a_service_shows_the_pictures_of_its_documents(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.jpg").write_bytes(b"\xff\xd8\xff and so on")
    index = Index.create(tmp_path / "index", encoder=HashEncoder())
    index.add([2**60 + 1, 2], texts=["owls", "ships"], metadata=[{"image": "one.jpg"}, {}])
    for images, status in ((str(tmp_path / "images"), 200), (None, 404)):
        made = application({"own": index}, settings=Settings(images=images))
        with TestClient(made, base_url="http://localhost") as client:
            # The id is one that a script's numbers cannot hold.
            answer = client.post("/page/own/picture", json={"id": str(2**60 + 1)})
            assert answer.status_code == status
            hits = client.post("/page/own/hits", json={"query": "owls"}).json()
            assert hits["pictures"] == [{"patches": None} if images else None, None]
            for wrong in ("2", "3", "x", ""):
                assert client.post("/page/own/picture", json={"id": wrong}).status_code in (404, 422), wrong


def test_images_must_be_a_folder(tmp_path: Path) -> None:
    assert Settings(images=str(tmp_path)).images == str(tmp_path)
    (tmp_path / "file").touch()
    for wrong in (str(tmp_path / "none"), str(tmp_path / "file"), "", 3):
        with pytest.raises(InvalidInputError, match="images"):
            Settings(images=wrong)  # type: ignore[arg-type]


def test_patches_are_told_by_how_near_they_are() -> None:
    matrix = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    told = patches(matrix, {"patches": [2, 4]})
    assert told is not None
    assert (told["rows"], told["columns"]) == (2, 4)
    near = np.frombuffer(base64.b64decode(told["near"]), np.uint8).reshape(3, 8)
    own = matrix[:, :8]
    assert (near.argmax(axis=1) == own.argmax(axis=1)).all()
    assert (near.max(axis=1) == 255).all()
    assert (near[own <= np.median(own, axis=1, keepdims=True)] == 0).all()
    # All alike, such as of a blank page.
    assert patches(np.ones((2, 4), np.float32), {"patches": [2, 2]}) is not None
    for wrong in (None, [2], [2, 0], [-1, 4], [3, 4], [True, 4], ["2", "4"], "24", {"rows": 2}, [2.0, 4.0]):
        assert patches(matrix, {"patches": wrong}) is None
    assert patches(matrix, None) is None
