"""The service, asked as by any program: each operation against the index, who may ask, and how work is shared."""

import asyncio
import base64
import gc
import gzip
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
import httpx
from starlette.testclient import TestClient

from latewood import Index, Reranker, errors, maxsim
from latewood.errors import InvalidInputError, StoppedError
from latewood.serve import Settings, application, shapes
from latewood.serve.access import is_loopback
from latewood.serve.operations import OPERATIONS
from latewood.serve.problems import STATUS, Problem, problem_of
from latewood.serve.process import run
from latewood.serve.served import ServedIndex
from latewood.serve.work import NICE, Desk
from onnx_models import save_bytes_model
from strategies import Corpus, make_corpus
from support import HashEncoder, build_index
from trials.serving import Service

TEXTS = {
    "rings": "a tree grows one ring each year",
    "owls": "owls hunt at night",
    "wood": "dense wood grows late in the year",
}
TOKEN = "reading-reading-reading"
WRITER = "writing-writing-writing"


@pytest.fixture
def texts(tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "texts", encoder=HashEncoder())
    index.add(list(TEXTS), texts=list(TEXTS.values()), metadata=[{"n": n} for n in range(len(TEXTS))])
    return index


def served(*, settings: Settings | None = None, **indexes: Index) -> TestClient:
    made = application(indexes, reranker=Reranker(HashEncoder()), settings=settings)
    return TestClient(made, base_url="http://localhost")


@pytest.fixture
def client(texts: Index) -> Iterator[TestClient]:
    with served(texts=texts) as client:
        yield client


def encoded(vectors: Any, dtype: str = "float32") -> dict[str, Any]:
    array = np.ascontiguousarray(vectors, np.dtype(dtype).newbyteorder("<"))
    return {"base64": base64.b64encode(array.tobytes()).decode(), "shape": list(array.shape), "dtype": dtype}


def test_searches_are_those_of_the_index(texts: Index, client: TestClient) -> None:
    query = "when does dense wood grow"
    for options in ({}, {"k": 2}, {"filter": {"n": {"gte": 1}}}, {"offset": 1}, {"length_normalize": True}):
        answer = client.post("/v1/indexes/texts/search", json={"query": query, **options}).json()
        hits = texts.search(query, **options)
        assert answer["hits"] == hits.to_dicts()
        assert answer["plan"] == json.loads(json.dumps(vars_of(hits.plan)))
        assert answer["generation"] == texts.generation
        assert answer["stats"]["scored"] == hits.stats["scored"]
    batch = client.post("/v1/indexes/texts/search_batch", json={"queries": [query, "owls"], "k": 1}).json()
    assert [one["hits"] for one in batch["results"]] == [
        one.to_dicts() for one in texts.search_batch([query, "owls"], 1)
    ]
    assert client.post("/v1/indexes/texts/search_batch", json={"queries": []}).json()["results"] == []


def vars_of(plan: Any) -> dict[str, Any]:
    return {name: getattr(plan, name) for name in plan.__dataclass_fields__}


def test_vectors_in_every_form(tmp_path: Path) -> None:
    corpus = make_corpus(3, dim=16, documents=30)
    index = build_index(tmp_path / "index", corpus)
    query = corpus.queries[0]
    wanted = index.search(query, 3).to_dicts()
    with served(index=index) as client:
        for given in (query.tolist(), encoded(query)):
            assert client.post("/v1/indexes/index/search", json={"query": given, "k": 3}).json()["hits"] == wanted
        half = query.astype(np.float16)
        found = client.post("/v1/indexes/index/search", json={"query": encoded(half, "float16"), "k": 3}).json()
        assert found["hits"] == index.search(half.astype(np.float32), 3).to_dicts()
        ids = [hit["id"] for hit in wanted]
        ranked = client.post("/v1/indexes/index/rerank", json={"query": query.tolist(), "candidates": ids[::-1]}).json()
        assert ranked["hits"] == index.rerank(query, ids[::-1]).to_dicts()
        pruned = {
            "query": query.tolist(),
            "candidates": ids,
            "scores": [3.0, 2.0, 1.0],
            "k": 1,
            "alpha": 0.5,
            "beta": 1,
        }
        assert (
            client.post("/v1/indexes/index/rerank", json=pruned).json()["hits"]
            == index.rerank(query, ids, [3.0, 2.0, 1.0], k=1, alpha=0.5, beta=1).to_dicts()
        )
        several = {"queries": [query.tolist(), encoded(corpus.queries[1])], "candidates": [ids, ids[:1]]}
        both = client.post("/v1/indexes/index/rerank_batch", json=several).json()["results"]
        assert [one["hits"] for one in both] == [
            one.to_dicts() for one in index.rerank_batch(corpus.queries[:2], [ids, ids[:1]])
        ]
        kept = client.post("/v1/indexes/index/documents/get", json={"ids": ids[:1], "vectors": True}).json()
        vectors = kept["documents"][0]["vectors"]
        decoded = np.frombuffer(base64.b64decode(vectors["base64"]), "<f4").reshape(vectors["shape"])
        np.testing.assert_array_equal(decoded, index.vectors(ids[:1])[0])
        only = client.post("/v1/indexes/index/search", json={"query": query.tolist(), "ids": ids[1:], "k": 9}).json()
        assert {hit["id"] for hit in only["hits"]} == set(ids[1:])
        weighted = {"query": query.tolist(), "weights": [0.5] * len(query), "k": 3}
        assert (
            client.post("/v1/indexes/index/search", json=weighted).json()["hits"]
            == index.search(query, 3, weights=[0.5] * len(query)).to_dicts()
        )


def test_a_life_of_documents(texts: Index, client: TestClient) -> None:
    path = "/v1/indexes/texts/documents"
    added = client.post(path, json={"documents": [{"id": "moss", "text": "moss is green", "metadata": {"n": 9}}]})
    assert added.json() == {"documents": 1, "generation": texts.generation}
    assert texts.documents(["moss"])[0].metadata == {"n": 9}
    again = client.post(path, json={"documents": [{"id": "moss", "text": "x"}]})
    assert again.status_code == HTTPStatus.CONFLICT
    assert again.json()["error"] == "DuplicateIdError"
    assert client.put(path, json={"documents": [{"id": "moss", "text": "moss is old"}]}).status_code == HTTPStatus.OK
    assert texts.documents(["moss"])[0].text == "moss is old"
    assert client.patch(path, json={"ids": ["moss"], "metadata": {"page": 3}}).json()["documents"] == 1
    assert client.post(f"{path}/count", json={"filter": {"page": 3}}).json()["count"] == 1
    got = client.post(f"{path}/get", json={"ids": ["owls", "moss"]}).json()["documents"]
    assert got == [
        {"id": "owls", "text": TEXTS["owls"], "metadata": {"n": 1}},
        {"id": "moss", "text": "moss is old", "metadata": {"page": 3}},
    ]
    assert client.post(f"{path}/delete", json={"filter": {"page": 3}}).json()["documents"] == 1
    assert client.post(f"{path}/delete", json={"ids": ["moss"]}).status_code == HTTPStatus.NOT_FOUND
    assert client.post(f"{path}/delete", json={"ids": ["moss"], "missing": "skip"}).json()["documents"] == 0
    with_vectors = {"id": "own", "vectors": encoded(np.eye(48)[:3])}
    assert client.post(path, json={"documents": [with_vectors]}).status_code == HTTPStatus.OK
    mixed = client.post(path, json={"documents": [{**with_vectors, "id": "a"}, {"id": "b", "text": "b"}]})
    assert mixed.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert texts.count() == len(TEXTS) + 1
    for action in ("check", "refresh", "compact"):
        assert client.post(f"/v1/indexes/texts/{action}", json={}).status_code == HTTPStatus.OK
    tuned = client.post("/v1/indexes/texts/tune", json={"queries": ["owls at night"], "recall": 0.9, "k": 1}).json()
    assert tuned["k"] == 1
    assert client.get("/v1/indexes").json()["indexes"][0]["documents"] == len(TEXTS) + 1
    info = client.get("/v1/indexes/texts").json()
    assert info["documents"] == len(TEXTS) + 1
    assert "path" not in info


def test_answers_follow_other_writers(texts: Index, client: TestClient) -> None:
    before = client.post("/v1/indexes/texts/refresh", json={}).json()["generation"]
    other = Index.open(texts.path, encoder=HashEncoder())
    other.add(["moss"], texts=["moss is green"])
    answer = client.post("/v1/indexes/texts/search", json={"query": "moss green", "k": 1}).json()
    assert answer["hits"][0]["id"] == "moss"
    assert answer["generation"] == other.generation > before


def test_an_answer_comes_however_fast_others_commit(texts: Index) -> None:
    """Each question takes longer than the time between two commits; the answer is of one commit all the same."""
    index = ServedIndex("texts", texts)
    other = Index.open(texts.path, encoder=HashEncoder())

    def ask(asked: Index) -> tuple[str, int]:
        before = asked.count(filter={"moved": True})
        other.update_metadata(["owls"], {"moved": before == 0})
        # Another thread's question moves the index that they share.
        texts.refresh()
        return ("steady" if asked.count(filter={"moved": True}) == before else "moved"), asked.generation

    (state, within), generation = index.read(ask)
    assert (state, within) == ("steady", generation)
    assert generation == other.generation - 1


def test_a_question_that_fails_between_two_commits_is_asked_again(texts: Index) -> None:
    index = ServedIndex("texts", texts)
    other = Index.open(texts.path, encoder=HashEncoder())

    def ask(asked: Index) -> list[Any]:
        ids = asked.ids()
        if "owls" in ids:
            other.delete(["owls"])
            # Another thread's question moves the index that they share.
            texts.refresh()
        return [one.id for one in asked.documents(ids)]

    assert index.read(ask) == (["rings", "wood"], other.generation)


@pytest.mark.parametrize("by_path", [False, True])
@pytest.mark.parametrize("how", ["written over", "removed and created", "a backup"])
def test_what_is_put_in_the_place_of_an_index_is_served(texts: Index, tmp_path: Path, how: str, by_path: bool) -> None:
    folder, backup = Path(texts.path), tmp_path / "backup"
    shutil.copytree(folder, backup)
    texts.add(["moss"], texts=["moss is green"])
    indexes = {"texts": folder if by_path else texts}
    with TestClient(application(indexes, encoder=HashEncoder()), base_url="http://localhost") as client:

        def found(query: str) -> list[Any]:
            answer = client.post("/v1/indexes/texts/search", json={"query": query, "k": 1})
            return [hit["id"] for hit in answer.json()["hits"]]

        assert found("moss is green") == ["moss"]
        if how == "written over":
            Index.create(folder, encoder=HashEncoder(), overwrite=True).add(["new"], texts=["all is new"])
        else:
            shutil.rmtree(folder)
            gone = client.post("/v1/indexes/texts/search", json={"query": "owls"})
            assert (gone.status_code, gone.json()["error"]) == (503, "IndexNotFoundError")
            if how == "a backup":
                shutil.copytree(backup, folder)
            else:
                Index.create(folder, encoder=HashEncoder()).add(["new"], texts=["all is new"])
        expected = ("owls hunt at night", "owls") if how == "a backup" else ("all is new", "new")
        assert found(expected[0]) == [expected[1]]
        added = client.post("/v1/indexes/texts/documents", json={"documents": [{"id": "fern", "text": "ferns unroll"}]})
        assert added.status_code == HTTPStatus.OK
        assert found("ferns unroll") == ["fern"]
        now = Index.open(folder)
        assert "fern" in now
        assert "moss" not in now
        assert client.get("/v1/indexes").json()["indexes"][0]["documents"] == len(now)


def test_an_index_that_is_gone_hides_no_other(texts: Index, tmp_path: Path) -> None:
    other = Index.create(tmp_path / "other", dim=8)
    with served(texts=texts, other=other) as client:
        shutil.rmtree(other.path)
        gone, here = client.get("/v1/indexes").json()["indexes"]
    assert (here["name"], here["documents"]) == ("texts", len(TEXTS))
    assert (gone["name"], set(gone)) == ("other", {"name", "problem"})
    assert str(tmp_path) not in gone["problem"]


def test_a_service_is_ready_while_each_index_can_be_read(texts: Index, tmp_path: Path) -> None:
    """It becomes ready again when the index is back."""
    other = Index.create(tmp_path / "other", dim=8)
    away = tmp_path / "away"
    with served(texts=texts, other=other) as client:
        # Who is busy is ready, and so is who has no thread free for it.
        client.app.state.service.reading._most = 0  # type: ignore[attr-defined]
        assert client.get("/readyz").json() == {"status": "ready"}
        Path(other.path).rename(away)
        answer = client.get("/readyz")
        assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["detail"].startswith("other cannot be read: ")
        assert str(tmp_path) not in answer.text
        # It lives, and is not to be killed for what lies on a disk.
        assert client.get("/healthz").status_code == HTTPStatus.OK
        away.rename(other.path)
        assert client.get("/readyz").status_code == HTTPStatus.OK


def test_an_application_may_be_started_again(texts: Index) -> None:
    made = application({"texts": texts}, settings=Settings(timeout=2))
    for _ in range(2):
        with TestClient(made, base_url="http://localhost") as client:
            assert client.get("/readyz").status_code == HTTPStatus.OK
            answer = client.post("/v1/indexes/texts/search", json={"query": "owls", "k": 1})
            assert answer.json()["hits"][0]["id"] == "owls"


def test_storage_that_does_not_answer_is_waited_for_no_longer_than_is_said(
    texts: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time the answer names the index; one look waits, not one for each that asked."""
    monkeypatch.setattr("latewood.serve.operations.LOOK_SECONDS", 0.1)
    other = Index.create(tmp_path / "other", dim=8)
    hangs, looks = threading.Event(), []

    def hang() -> bool:
        looks.append(threading.current_thread())
        return hangs.wait(60)

    monkeypatch.setattr(other, "refresh", hang)
    with served(texts=texts, other=other) as client:
        for _ in range(3):
            begun = time.monotonic()
            answer = client.get("/readyz")
            assert time.monotonic() - begun < 5
            assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
            assert answer.json()["detail"] == "other cannot be read: its storage has not answered for 0.1 seconds"
        (look,) = looks
        assert look.daemon
        hangs.set()
        look.join(10)
        assert client.get("/readyz").status_code == HTTPStatus.OK


def test_what_fails_in_a_look_is_a_fault(texts: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(texts, "refresh", fail)
    with served(texts=texts) as client:
        assert client.get("/readyz").status_code == HTTPStatus.INTERNAL_SERVER_ERROR


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/indexes/texts/documents", {"POST", "PUT", "PATCH"}),
        ("/v1/indexes/texts", {"GET", "HEAD"}),
        ("/v1/indexes/texts/search", {"POST"}),
        ("/healthz", {"GET", "HEAD"}),
    ],
)
def test_another_method_is_told_all_that_there_are(client: TestClient, path: str, methods: set[str]) -> None:
    for method in ("OPTIONS", "DELETE", "TRACE", "NONSENSE"):
        answer = client.request(method, path)
        assert answer.status_code == HTTPStatus.METHOD_NOT_ALLOWED
        assert set(answer.headers["allow"].split(", ")) == methods
    if "HEAD" in methods:
        heads = client.head(path)
        assert (heads.status_code, heads.content) == (HTTPStatus.OK, b"")


@pytest.mark.parametrize("named", [True, False])
def test_texts_are_encoded_by_the_encoder_of_their_index(tmp_path: Path, named: bool) -> None:
    for package in ("onnx", "onnxruntime", "tokenizers"):
        pytest.importorskip(package)
    # A name that is a folder can be loaded again by what the index has recorded.
    model = save_bytes_model(tmp_path / "model", name=str(tmp_path / "model"))
    own = Index.create(tmp_path / "own", encoder=str(model))
    own.add(["rings", "owls"], texts=["trees grow rings", "owls hunt"])
    inside = Index.create(tmp_path / "inside")
    inside.add(["rings", "owls"], texts=["trees grow rings", "owls hunt"])
    Index.create(tmp_path / "vectors", dim=8)
    folders = {name: tmp_path / name for name in ("own", "inside", "vectors")}
    with TestClient(
        application(folders, encoder=str(model) if named else "recorded"), base_url="http://localhost"
    ) as client:
        for index in (own, inside):
            asked = {"query": "owls", "k": 2}
            answer = client.post(f"/v1/indexes/{Path(index.path).name}/search", json=asked).json()
            assert answer["hits"] == index.search("owls", 2).to_dicts()
        told = client.post("/v1/rerank", json={"query": "owls", "index": "own", "ids": ["owls"]}).json()
        assert told["model"] == str(model)
        unrecorded = client.post("/v1/indexes/vectors/search", json={"query": "owls"})
        assert unrecorded.status_code == (HTTPStatus.OK if named else HTTPStatus.UNPROCESSABLE_ENTITY)


def test_a_list_of_indexes_is_of_the_newest_commits(texts: Index, client: TestClient) -> None:
    other = Index.open(texts.path, encoder=HashEncoder())
    other.delete(["owls"])
    (told,) = client.get("/v1/indexes").json()["indexes"]
    assert told == {"name": "texts", "documents": 2, "dim": texts.dim, "generation": other.generation}


def test_problems_name_indexes_and_no_folders(texts: Index) -> None:
    with TestClient(application({"news": texts.path}), base_url="http://localhost") as client:
        answer = client.post("/v1/indexes/news/search", json={"query": "owls"})
        assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
        assert "'news'" in answer.json()["detail"]
        assert str(Path(texts.path).parent) not in answer.text


def test_workers_end_with_the_process_that_looks_after_them(texts: Index) -> None:
    with Service({"texts": texts.path}, "--workers", "2") as service:
        # The process alone, as the system does that runs out of memory; its workers see to themselves.
        service.process.kill()
        service.process.wait()
        latest = time.monotonic() + 20
        while time.monotonic() < latest:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", service.port)) != 0:
                    break
            time.sleep(0.05)
        else:
            service.kill()
            pytest.fail("workers still answer")
        with Service({"texts": texts.path}, port=service.port) as again:
            assert again.port == service.port


def test_worker_processes_count_together(texts: Index) -> None:
    """Whichever of them is asked, it tells what all of them have done."""
    with Service({"texts": texts.path}, "--workers", "2") as service:
        for _ in range(40):
            with httpx.Client() as client:
                assert client.get(f"{service.url}/v1/indexes/texts").status_code == HTTPStatus.OK
        counted = {httpx.get(f"{service.url}/metrics").text for _ in range(10)}
    (told,) = {text[text.index("latewood_requests_total{") :].splitlines()[0] for text in counted}
    assert told == 'latewood_requests_total{path="/v1/indexes/{name}",status="200"} 40.0'


def test_what_fails_beside_the_operations_is_a_problem_too(
    texts: Index, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Any) -> bytes:
        raise OSError(28, "No space left on device", "/secret/counts")

    monkeypatch.setattr("latewood.serve.metrics.Metrics.text", fail)
    with served(texts=texts) as client:
        answer = client.get("/metrics")
    assert answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    (record,) = [record for record in caplog.records if record.name == "latewood.serve"]
    assert json.loads(record.message)["path"] == "/metrics"
    assert "No space left" in str(record.exc_info)


def test_who_is_turned_away_is_not_read_to_the_end(texts: Index) -> None:
    """Neither its type nor its words are looked at."""
    with served(texts=texts, settings=Settings(max_waiting=1)) as client:
        desk = client.app.state.service.reading  # type: ignore[attr-defined]
        desk._most = 0
        refused = client.post("/v1/indexes/texts/search", content=b"{no JSON", headers={"content-type": "text/html"})
        assert refused.status_code == HTTPStatus.TOO_MANY_REQUESTS
        desk._most = 1
        assert client.post("/v1/indexes/texts/search", json={"query": "owls"}).status_code == HTTPStatus.OK


def test_an_index_in_object_storage(texts: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    monkeypatch.setenv("LATEWOOD_CACHE", str(tmp_path / "cache"))
    url = (tmp_path / "store").as_uri()
    texts.publish(url)
    with TestClient(application({"texts": url}), base_url="http://localhost") as client:
        asked = {"query": [[0.1] * 48] * 3, "k": 3}
        first = client.post("/v1/indexes/texts/search", json=asked).json()
        assert first["hits"] == texts.search(np.full((3, 48), 0.1, np.float32), 3).to_dicts()
        refused = client.post("/v1/indexes/texts/documents/delete", json={"ids": ["owls"]})
        assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
        assert "for reading" in refused.json()["detail"]
        texts.delete(["owls"])
        texts.publish(url)
        # The store is not asked for each answer.
        assert client.post("/v1/indexes/texts/search", json=asked).json()["generation"] == first["generation"]
        monkeypatch.setattr("latewood.serve.served.time.monotonic", lambda: 1e9)
        assert client.post("/v1/indexes/texts/search", json=asked).json()["generation"] == texts.generation


def test_a_write_waits_for_another_process_to_end(texts: Index, client: TestClient) -> None:
    other = Index.open(texts.path, encoder=HashEncoder())
    writer = other.writer()
    ended: list[float] = []

    def end() -> None:
        ended.append(time.monotonic())
        writer.close()

    timer = threading.Timer(0.4, end)
    timer.start()
    added = client.post("/v1/indexes/texts/documents", json={"documents": [{"id": "moss", "text": "moss"}]})
    assert added.status_code == HTTPStatus.OK
    assert time.monotonic() > ended[0]
    with other.writer():
        late = client.post(
            "/v1/indexes/texts/documents", json={"documents": [{"id": "late", "text": "late"}], "timeout": 0.2}
        )
        assert late.status_code == HTTPStatus.GATEWAY_TIMEOUT
        assert "look before you repeat it" in late.json()["detail"]
    time.sleep(0.3)
    assert "late" not in other.ids()


def test_explanations(texts: Index, client: TestClient) -> None:
    answer = client.post("/v1/indexes/texts/explain", json={"query": "dense wood", "id": "wood"}).json()
    why = texts.explain("dense wood", "wood")
    assert [(row["query_token"], row["document_token"], row["adds"]) for row in answer["rows"]] == list(why.rows())
    matrix = np.frombuffer(base64.b64decode(answer["matrix"]["base64"]), "<f4").reshape(answer["matrix"]["shape"])
    np.testing.assert_array_equal(matrix, why.matrix)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_reranking_texts(client: TestClient, path: str) -> None:
    texts = ["owls", "dense wood", {"text": "a ring"}, "", "dense wood"]
    asked = {"query": "dense wood", "documents": texts, "top_n": 3, "return_documents": True, "max_chunks_per_doc": 10}
    answer = client.post(path, json=asked).json()
    assert [one["index"] for one in answer["results"]][:2] == [1, 4], "ties go by position"
    assert len(answer["results"]) == 3
    assert answer["results"][0]["document"] == {"text": "dense wood"}
    every = client.post(path, json={"query": "dense wood", "documents": texts}).json()["results"]
    assert len(every) == len(texts)
    assert every[-1] == {"index": 3, "relevance_score": float(np.finfo(np.float32).min)}, "no token, no infinity"
    assert "document" not in every[0]
    stored = {"query": "dense wood", "index": "texts", "ids": ["owls", "wood"], "return_documents": True}
    ranked = client.post(path, json=stored).json()["results"]
    assert [one["index"] for one in ranked] == [1, 0]
    assert ranked[0]["document"]["text"] == TEXTS["wood"]
    assert client.post(path, json={"query": "x", "documents": []}).json()["results"] == []
    # What several services name so, and clients send empty.
    more = {"rank_fields": ["text"], "return_documents": None, "model": None, "max_tokens_per_doc": 512, "priority": 1}
    assert client.post(path, json={"query": "dense wood", "documents": texts, **more}).json()["results"] == every
    for bad in (
        {"query": "x"},
        {"query": "x", "index": "texts"},
        {"query": "x", "index": "texts", "ids": ["owls"], "documents": ["a"]},
        {"query": "x", "documents": ["a"], "top_n": 0},
        {"query": 5, "documents": ["a"]},
        {"query": "x", "documents": [{"title": "a"}]},
        {"query": "x", "documents": [{"text": "a", "title": "b"}], "rank_fields": ["title"]},
        {"query": "x", "documents": ["a"], "timeout": 0},
    ):
        assert client.post(path, json=bad).status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    late = client.post(path, json={"query": "x", "documents": ["a"], "timeout": 1e-9})
    assert late.status_code == HTTPStatus.GATEWAY_TIMEOUT
    assert (
        client.post(path, json={"query": "x", "documents": ["a"], "model": "other"}).status_code == HTTPStatus.NOT_FOUND
    )


def test_every_example_of_the_description_is_answered(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    for one in OPERATIONS:
        assert one.method.lower() in described["paths"][one.path]
        if one.example is not None:
            body = json.loads(json.dumps(one.example).replace('"ids": ["rings"]', '"ids": ["owls"]'))
            status = client.request(one.method, one.path.replace("{name}", "texts"), json=body).status_code
            assert status in (HTTPStatus.OK, HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND), one


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/indexes/nobody/search", {"query": "x"}, 404),
        ("/v1/indexes/..%2f..%2fetc/search", {"query": "x"}, 404),
        ("/v1/indexes/texts/search", {"query": "x", "k": 0}, 422),
        ("/v1/indexes/texts/search", {"query": "x", "k": 2**70}, 422),
        ("/v1/indexes/texts/search", {"query": "x", "unknown": 1}, 422),
        ("/v1/indexes/texts/search", {"query": "x", "threads": 64}, 422),
        ("/v1/indexes/texts/search", {"query": "x", "gather": "magic"}, 422),
        ("/v1/indexes/texts/search", {"query": "x", "filter": {"a": {"zz": 1}}}, 422),
        ("/v1/indexes/texts/search", {"query": "x", "timeout": -1}, 422),
        ("/v1/indexes/texts/search", {"query": [[1.0, 2.0]]}, 422),
        ("/v1/indexes/texts/search", {"query": [[1.0], [1.0, 2.0]]}, 422),
        ("/v1/indexes/texts/search", {"query": [[]]}, 422),
        ("/v1/indexes/texts/search", {"query": []}, 422),
        ("/v1/indexes/texts/search", {"query": {"base64": "!!", "shape": [1, 48]}}, 422),
        ("/v1/indexes/texts/search", {"query": {"base64": "AAAA", "shape": [1, 48]}}, 422),
        ("/v1/indexes/texts/search", {"query": {"base64": "", "shape": [10**18, 48]}}, 422),
        ("/v1/indexes/texts/search", {"query": [[1e300] * 48]}, 422),
        ("/v1/indexes/texts/search", {"query": [[0.1] * 48] * 5000}, 422),
        ("/v1/indexes/texts/search_batch", {"queries": ["x"] * 2000}, 422),
        ("/v1/indexes/texts/search_batch", {"queries": ["x", [[1.0] * 48]]}, 422),
        ("/v1/indexes/texts/rerank", {"query": "x", "candidates": ["nobody"]}, 404),
        ("/v1/indexes/texts/rerank", {"query": "x", "candidates": [5]}, 422),
        ("/v1/indexes/texts/rerank", {"query": "x", "candidates": ["owls", "owls"]}, 409),
        ("/v1/indexes/texts/explain", {"query": "x", "id": "nobody"}, 404),
        ("/v1/indexes/texts/documents", {"documents": [{"id": "a"}]}, 422),
        ("/v1/indexes/texts/documents", {"documents": [{"id": 5, "text": "a"}]}, 422),
        ("/v1/indexes/texts/documents/delete", {}, 422),
    ],
)
def test_what_cannot_be_answered_is_a_problem(client: TestClient, path: str, body: Any, status: int) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["detail"]
    # Whatever was asked, the service goes on.
    assert client.post("/v1/indexes/texts/search", json={"query": "owls", "k": 1}).json()["hits"][0]["id"] == "owls"


@pytest.mark.parametrize(
    ("path", "wrong", "remedy"),
    [
        ("indexes/texts/search", {"gather": "magic"}, "`$.gather`; it is one of 'exact', 'fde', 'flood', 'postings'"),
        ("indexes/texts/search", {"filters": {"a": 1}}, "unknown field `filters`; did you mean 'filter'?"),
        ("indexes/texts/search", {"feedback": {"weigth": 1}}, "unknown field `weigth` - at `$.feedback`"),
        ("indexes/texts/documents/count", {"xyz": 1}, "unknown field `xyz`; it takes filter, timeout"),
        ("indexes/texts/documents/delete", {"missing": "no"}, "`$.missing`; it is one of 'error', 'skip'"),
    ],
)
def test_a_problem_says_what_there_is(client: TestClient, path: str, wrong: dict[str, Any], remedy: str) -> None:
    needed = {"query": "x"} if path.endswith("search") else {}
    answer = client.post(f"/v1/{path}", json={**needed, **wrong})
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert answer.json()["detail"].endswith(remedy), answer.text


@pytest.mark.parametrize("wrong", [{"a" * 10**7: 1}, {"gather": "a" * 10**7}], ids=["field", "value"])
def test_what_is_too_long_to_be_meant_is_refused_at_once(client: TestClient, wrong: dict[str, Any]) -> None:
    begun = time.monotonic()
    answer = client.post("/v1/indexes/texts/search", json={"query": "x", **wrong})
    assert time.monotonic() - begun < 2
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert len(answer.content) < 2000


def test_bodies_that_are_none(client: TestClient) -> None:
    path, kind = "/v1/indexes/texts/search", {"content-type": "application/json"}
    for content, status in (
        (b"{", 400),
        (b"", 400),
        (b"\xff", 400),
        (b'{"query": NaN}', 400),
        (b"[]", 422),
        (b"null", 422),
    ):
        assert client.post(path, content=content, headers=kind).status_code == status, content
    deep = b'{"query": "x", "filter": ' + b'{"not":' * 100_000 + b"1" + b"}" * 100_000 + b"}"
    assert client.post(path, content=deep, headers=kind).status_code in (400, 422)
    form = client.post(path, content=b'{"query": "x"}', headers={"content-type": "text/plain"})
    assert form.status_code == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    packed = client.post(path, content=gzip.compress(b'{"query": "x"}'), headers={**kind, "content-encoding": "gzip"})
    assert packed.status_code == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    assert "gzip" in packed.json()["detail"]
    assert client.post(path, json={"query": "x"}, headers={"content-encoding": "identity"}).status_code == HTTPStatus.OK
    assert client.get(path).status_code == HTTPStatus.METHOD_NOT_ALLOWED
    assert client.get("/nothing/here").status_code == HTTPStatus.NOT_FOUND
    assert client.get("/nothing/here").headers["content-type"] == "application/problem+json"


def test_bodies_in_utf_8_alone(client: TestClient) -> None:
    def post(content: bytes, kind: str = "application/json") -> tuple[int, str]:
        answer = client.post("/v1/indexes/texts/search", content=content, headers={"content-type": kind})
        return answer.status_code, answer.json().get("detail", "")

    text = '{"query": "\u00e9 owls"}'
    for kind in ("application/json", 'Application/JSON ; charset="UTF-8"', "application/json;charset=utf8; x=y"):
        assert post(text.encode(), kind)[0] == HTTPStatus.OK
        assert post(text.encode("utf-8-sig"), kind)[0] == HTTPStatus.OK
    for name in ("utf-16", "latin-1"):
        assert post(text.encode(name), f"application/json; charset={name}") == (
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"JSON comes as UTF-8, and not as {name}",
        )
        assert post(text.encode(name))[0] == HTTPStatus.BAD_REQUEST
    assert post(text.encode("latin-1")) == (HTTPStatus.BAD_REQUEST, "the body is no UTF-8")


def test_a_name_that_comes_twice_counts_once(client: TestClient) -> None:
    twice = b'{"query": "owls", "k": 3, "k": 1}'
    answer = client.post("/v1/indexes/texts/search", content=twice, headers={"content-type": "application/json"})
    assert len(answer.json()["hits"]) == 1


def test_a_request_for_two_hosts_is_for_none(client: TestClient) -> None:
    for hosts in (["localhost", "evil.example"], ["evil.example", "localhost"], ["localhost", "localhost"]):
        answer = client.get("/healthz", headers=[("host", host) for host in hosts])
        assert answer.status_code == HTTPStatus.BAD_REQUEST
        assert "one host" in answer.json()["detail"]


def test_a_path_has_one_spelling(texts: Index) -> None:
    """As it comes, which clients would tidy up."""
    with Service({"texts": texts.path}) as service:

        def status(path: str) -> int:
            with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
                return int(connection.recv(100).split()[1])

        for path in (
            "/v1/indexes/texts",
            "/v1/indexes/%74exts",
            "/v1/indexes/texts?x=y",
            "http://localhost/v1/indexes",
        ):
            assert status(path) == HTTPStatus.OK, path
        for path in (
            *("//v1/indexes/texts", "/v1//indexes/texts", "/v1/indexes/texts/", "/v1/indexes//texts", "/V1/indexes"),
            *("/v1/indexes/./texts", "/v1/x/../indexes", "/v1/indexes/texts%2f", "/v1/indexes/%2ftexts", "*"),
            *("/v1/indexes/texts%00", "/v1/indexes/texts;x", "/v1/indexes/te%2578ts"),
        ):
            assert status(path) == HTTPStatus.NOT_FOUND, path


def test_ids_may_be_anything_that_is_text(texts: Index, client: TestClient) -> None:
    ids = ["a/b", "a?b#c", "../x", "x y", "%2f", "\u05e9\u05dc\u05d5\u05dd", "\u0000"]
    added = {"documents": [{"id": key, "text": f"moss {place}"} for place, key in enumerate(ids)]}
    assert client.post("/v1/indexes/texts/documents", json=added).status_code == HTTPStatus.OK
    got = client.post("/v1/indexes/texts/documents/get", json={"ids": ids}).json()["documents"]
    assert [one["id"] for one in got] == ids
    asked = {"query": "moss 3", "index": "texts", "ids": ids}
    assert {one["index"] for one in client.post("/v1/rerank", json=asked).json()["results"]} == set(range(len(ids)))
    deleted = client.post("/v1/indexes/texts/documents/delete", json={"ids": ids})
    assert deleted.json()["documents"] == len(ids)


def test_a_refused_request_leaves_nothing_behind(client: TestClient) -> None:
    """Its body may be large, and the collector of what holds itself comes when it likes."""
    gc.collect()
    gc.disable()
    try:
        for path, body, status in (
            ("/v1/indexes/nobody/search", {"query": [[0.5] * 48]}, 404),
            ("/v1/indexes/texts/search", {"query": [[0.5] * 40]}, 422),
            ("/v1/indexes/texts/rerank", {"query": [[0.5] * 48], "candidates": ["nobody"]}, 404),
        ):
            assert client.post(path, json=body).status_code == status
            # The thread that worked may let go of it only after the answer.
            end = time.monotonic() + 10
            # Some objects of torch warn when `isinstance` asks for their class.
            while held := sum(issubclass(type(one), shapes.Body) for one in gc.get_objects()):
                assert time.monotonic() < end, f"{path}: {held}"
                time.sleep(0.05)
    finally:
        gc.enable()


def test_limits(texts: Index) -> None:
    settings = Settings(max_body_bytes=500, max_queries=4, max_documents=2, max_k=5)
    with served(texts=texts, settings=settings) as client:
        path = "/v1/indexes/texts"
        large = client.post(f"{path}/search", json={"query": "x" * 1000})
        assert large.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE

        def parts() -> Iterator[bytes]:
            yield b'{"query": "'
            for _ in range(100):
                yield b"x" * 100

        streamed = client.post(f"{path}/search", content=parts(), headers={"content-type": "application/json"})
        assert streamed.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        for action, body in (
            ("search_batch", {"queries": ["x"] * 5}),
            ("search_batch", {"queries": ["x"] * 4, "k": 5}),
            ("search_batch", {"queries": ["x"] * 4, "k": 4, "offset": 1}),
            ("rerank_batch", {"queries": ["x"] * 4, "candidates": [["a"] * 5] * 4}),
            ("search", {"query": "x", "k": 6}),
            ("search", {"query": "x", "k": 5, "offset": 1}),
            ("rerank", {"query": "x", "candidates": ["a", "b", "c"]}),
            ("documents", {"documents": [{"id": str(n), "text": "x"} for n in range(3)]}),
        ):
            answer = client.post(f"{path}/{action}", json=body)
            assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
            assert "at most" in answer.json()["detail"]
        assert client.post(f"{path}/search", json={"query": "x", "k": 5}).status_code == HTTPStatus.OK
        batch = {"queries": ["x"] * 4, "k": 4}
        assert client.post(f"{path}/search_batch", json=batch).status_code == HTTPStatus.OK


def test_tokens(texts: Index) -> None:
    settings = Settings(read_tokens=(TOKEN,), write_tokens=(WRITER,))
    with served(texts=texts, settings=settings) as client:
        search, change = "/v1/indexes/texts/search", "/v1/indexes/texts/documents/delete"
        asked, changed = {"query": "owls"}, {"ids": ["owls"]}
        for header in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": f"Basic {TOKEN}"},
            {"authorization": TOKEN},
        ):
            assert client.post(search, json=asked, headers=header).status_code == HTTPStatus.UNAUTHORIZED
            assert client.get("/metrics", headers=header).status_code == HTTPStatus.UNAUTHORIZED
        reading, writing = {"authorization": f"Bearer {TOKEN}"}, {"authorization": f"bearer {WRITER}"}
        assert client.post(search, json=asked, headers=reading).status_code == HTTPStatus.OK
        assert client.post(change, json=changed, headers=reading).status_code == HTTPStatus.FORBIDDEN
        assert client.post(change, json=changed, headers=writing).status_code == HTTPStatus.OK
        assert client.post(search, json=asked, headers=writing).status_code == HTTPStatus.OK
        assert client.get("/healthz").status_code == HTTPStatus.OK
        # A name says nothing where a token does.
        assert (
            client.post(search, json=asked, headers={**reading, "host": "search.example"}).status_code == HTTPStatus.OK
        )
        assert client.get("/openapi.json").json()["components"]["securitySchemes"]


def test_reading_only(texts: Index) -> None:
    with served(texts=texts, settings=Settings(read_only=True)) as client:
        for one in OPERATIONS:
            if one.scope == "write":
                path = one.path.replace("{name}", "texts")
                assert client.request(one.method, path, json=one.example).status_code == HTTPStatus.FORBIDDEN
        assert texts.count() == len(TEXTS)


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example", "", "[::2]:80"]
)
def test_another_name_is_refused(client: TestClient, texts: Index, host: str) -> None:
    for path in ("/", "/healthz", "/v1/indexes"):
        assert client.get(path, headers={"host": host}).status_code == HTTPStatus.MISDIRECTED_REQUEST
    for own in ("localhost:1234", "127.0.0.1", "LOCALHOST", "[::1]:80"):
        assert client.get("/healthz", headers={"host": own}).status_code == HTTPStatus.OK
    with served(texts=texts, settings=Settings(hosts=("Search.Example", "[2001:DB8::1]"))) as named:
        assert named.get("/healthz", headers={"host": "[2001:db8::1]:80"}).status_code == HTTPStatus.OK
        assert named.get("/healthz", headers={"host": "search.example:80"}).status_code == HTTPStatus.OK
        # What looks after it on its own machine, and who asks at its socket, need no other name than before.
        assert named.get("/healthz", headers={"host": "localhost"}).status_code == HTTPStatus.OK
        assert named.get("/healthz", headers={"host": host}).status_code == HTTPStatus.MISDIRECTED_REQUEST


def test_what_is_counted(client: TestClient) -> None:
    client.post("/v1/indexes/texts/search", json={"query": "owls"})
    client.post("/v1/indexes/texts/search", json={"query": "owls", "k": 0})
    told = client.get("/metrics").text
    assert 'latewood_requests_total{path="/v1/indexes/{name}/search",status="200"} 1.0' in told
    assert 'latewood_requests_total{path="/v1/indexes/{name}/search",status="422"} 1.0' in told
    assert 'latewood_queries_total{index="texts"} 1.0' in told
    assert 'latewood_stage_seconds_total{index="texts",stage="score"}' in told


@pytest.mark.parametrize("aloud", [False, True])
def test_the_log(texts: Index, caplog: pytest.LogCaptureFixture, aloud: bool) -> None:
    caplog.set_level("INFO", "latewood.serve")
    with served(texts=texts, settings=Settings(log_queries=aloud)) as client:
        client.post("/v1/indexes/texts/search", json={"query": "secret owls"})
    (line,) = [record.message for record in caplog.records if record.name == "latewood.serve"]
    told = json.loads(line)
    assert told["status"] == HTTPStatus.OK
    assert told["index"] == "texts"
    assert ("secret owls" in line) is aloud


def test_bad_settings_and_names(texts: Index) -> None:
    for bad in (
        {"timeout": 0},
        {"max_k": 0},
        {"read_tokens": ("short",)},
        {"write_tokens": ("with a space in it",)},
        {"read_tokens": "not a list"},
        {"hosts": [5]},
        {"hosts": ["search.example:8000"]},
        {"read_only": "yes"},
    ):
        with pytest.raises(InvalidInputError):
            Settings(**bad)
    for name in ("", "..", "a/b", "a b", "ä"):
        with pytest.raises(InvalidInputError):
            application({name: texts})
    for threads in (0, -1, 1.5, "2"):
        with pytest.raises(InvalidInputError, match="threads"):
            application({"texts": texts}, threads=threads)  # type: ignore[arg-type]
    with pytest.raises(errors.IndexNotFoundError):
        application({"news": "/nowhere/at/all"})


def test_other_machines_need_tokens() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(InvalidInputError, match="tokens"):
            run(host=host)
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))


def test_every_error_has_a_status() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        if issubclass(kind, Warning) or name in ("TextTooLongError", "ServiceError"):
            continue
        problem = problem_of(kind("why"))
        assert problem.to_dict()["error"] == name
        assert problem.status in {status for _, status in STATUS}
    unknown = problem_of(ValueError("a secret of the machine"))
    assert unknown.status == HTTPStatus.INTERNAL_SERVER_ERROR
    assert "secret" not in str(unknown)


# ── the desk ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_waits_is_done_together() -> None:
    seen: list[list[int]] = []
    go = threading.Event()

    def work(items: list[Any]) -> list[Any]:
        seen.append(items)
        go.wait(5)
        return [10 * item for item in items]

    async def ask() -> list[int]:
        desk = Desk(1, 100)
        first = desk.submit(work, 0, "a")
        await asyncio.sleep(0.05)
        others = [desk.submit(work, item, "a" if item % 2 else "b") for item in range(1, 7)]
        go.set()
        results = await asyncio.gather(first, *others)
        await desk.close()
        return results

    assert asyncio.run(ask()) == [0, 10, 20, 30, 40, 50, 60]
    assert seen == [[0], [1, 3, 5], [2, 4, 6]]


def test_what_waits_is_shared_out_to_all_threads() -> None:
    """The first of them need not wait until one thread has done all of them, nor need those that come later."""
    seen: list[list[Any]] = []
    go, later = threading.Event(), threading.Event()

    def busy(items: list[Any]) -> list[Any]:
        (until,) = items
        until.wait(10)
        return items

    def work(items: list[Any]) -> list[Any]:
        seen.append(items)
        return items

    async def ask() -> None:
        desk = Desk(2, 100)
        held = [desk.submit(busy, go), desk.submit(busy, later)]
        await asyncio.sleep(0.05)
        asked = [desk.submit(work, item, "a") for item in range(7)]
        other = desk.submit(work, "other", "b")
        many = [desk.submit(work, item, "many") for item in range(100, 140)]
        go.set()
        await asyncio.gather(*asked, other, *many)
        later.set()
        await asyncio.gather(*held)
        await desk.close()

    asyncio.run(ask())
    # Half of those that are alike each time, beginning with who has waited longest.
    assert seen[:5] == [[0, 1, 2, 3], [4, 5], [6], ["other"], [*range(100, 116)]]
    assert [len(batch) for batch in seen[4:]] == [16, 12, 6, 3, 2, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness of their own")
def test_who_works_gives_way_to_who_answers() -> None:
    def niceness(items: list[Any]) -> list[int]:
        return [os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) for _ in items]

    async def run() -> int:
        desk = Desk(1, waiting=1)
        at_work: int = await desk.submit(niceness, None)
        await desk.close()
        return at_work

    (own,) = niceness([None])
    assert asyncio.run(run()) == min(own + NICE, 19)
    assert niceness([None]) == [own]


def test_too_many_are_told_at_once() -> None:
    go = threading.Event()

    async def ask() -> tuple[float, Problem]:
        desk = Desk(1, 2)
        waiting = [desk.submit(lambda items: [go.wait(5)] * len(items), 0) for _ in range(1)]
        await asyncio.sleep(0.05)
        waiting += [desk.submit(lambda items: items, 0) for _ in range(2)]
        begun = time.perf_counter()
        with pytest.raises(Problem) as refused:
            desk.submit(lambda items: items, 0)
        seconds = time.perf_counter() - begun
        go.set()
        await asyncio.gather(*waiting)
        assert await desk.submit(lambda items: items, 7) == 7, "it goes on at once"
        await desk.close()
        return seconds, refused.value

    seconds, problem = asyncio.run(ask())
    assert problem.status == HTTPStatus.TOO_MANY_REQUESTS
    assert int(problem.headers["Retry-After"]) >= 1
    assert seconds < 1


def test_who_joins_those_that_gave_up_is_answered() -> None:
    go = threading.Event()

    def work(items: list[Any]) -> list[Any]:
        maxsim(np.eye(4, dtype=np.float32), [np.eye(4, dtype=np.float32)])
        return items

    async def ask() -> Any:
        desk = Desk(1, 2)
        first = desk.submit(lambda items: [go.wait(5)] * len(items), 0)
        await asyncio.sleep(0.05)
        for _ in range(5):
            gave_up = desk.submit(work, 1, "alike")
            gave_up.cancel()
            await asyncio.sleep(0)
        joined = [desk.submit(work, item, "alike") for item in (2, 3)]
        with pytest.raises(Problem):
            desk.submit(work, 4, "alike")
        go.set()
        await first
        answers = await asyncio.gather(*joined)
        await desk.close()
        return answers

    assert asyncio.run(ask()) == [2, 3]


def test_what_nobody_waits_for_is_stopped() -> None:
    ended: list[str] = []
    begun = threading.Event()

    def long(items: list[Any]) -> list[Any]:
        begun.set()
        rng = np.random.default_rng(0).standard_normal((2000, 128)).astype(np.float32)
        try:
            maxsim(rng, [rng] * 3000, threads=1)
        except StoppedError:
            ended.append("stopped")
            raise
        return items

    def done(items: list[Any]) -> list[Any]:
        ended.append("done")
        return items

    async def ask() -> None:
        desk = Desk(1, 10)
        given_up = [desk.submit(long, item, "a") for item in range(2)]
        await asyncio.to_thread(begun.wait, 10)
        never = desk.submit(done, 0, "b")
        never.cancel()
        given_up[0].cancel()
        await asyncio.sleep(0.2)
        assert not ended, "one of them still waits"
        given_up[1].cancel()
        await desk.close()

    begin = time.monotonic()
    asyncio.run(ask())
    assert ended == ["stopped"]
    assert time.monotonic() - begin < 20


def test_one_bad_query_does_not_spoil_its_batch(tmp_path: Path) -> None:
    corpus: Corpus = make_corpus(5, dim=16, documents=20)
    index = build_index(tmp_path / "index", corpus)
    good, bad = corpus.queries[0], np.ones((2, 7), np.float32)
    made = application({"index": index}, threads=1)
    with TestClient(made, base_url="http://localhost") as client:
        answers: list[int] = []

        def ask(query: Any) -> None:
            answers.append(client.post("/v1/indexes/index/search", json={"query": query.tolist()}).status_code)

        threads = [threading.Thread(target=ask, args=(query,)) for query in [good, bad] * 10]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(answers) == [200] * 10 + [422] * 10


def test_work_that_is_given_up_ends_while_texts_are_encoded(texts: Index) -> None:
    """It would hold its thread for minutes, and two such requests all threads of a small machine."""
    for package in ("onnxruntime", "tokenizers"):
        pytest.importorskip(package)
    made = application({"texts": texts}, threads=1, settings=Settings(timeout=5.0))
    with TestClient(made, base_url="http://localhost") as client:
        asked = {"query": "a tree", "documents": ["a tree"]}
        assert client.post("/v1/rerank", json=asked).status_code == HTTPStatus.OK
        long = {"query": "a tree", "documents": ["a tree ring"] * 16_000 + ["a tree ring " * 50_000]}
        assert client.post("/v1/rerank", json=long).status_code == HTTPStatus.GATEWAY_TIMEOUT
        begun = time.monotonic()
        assert client.post("/v1/rerank", json=asked).status_code == HTTPStatus.OK
        assert time.monotonic() - begun < 5
