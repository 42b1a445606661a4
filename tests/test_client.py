"""A client does as the index that the service holds: the same values to the bit, the same errors, from anywhere."""

import asyncio
import copy
import gc
import inspect
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import latewood
from latewood import AsyncClient, Client, Feedback, Index, errors
from latewood.errors import InvalidInputError, LatewoodError, ServiceError
from trials.serving import Service

pytest.importorskip("starlette")
pytest.importorskip("onnxruntime")
pytest.importorskip("httpx")

DIM = 64
IDS = ["rings", "owls", "paris", "\u6771\u4eac", "empty", "a/b?c#d"]
TEXTS = [
    "A tree grows one ring each year.",
    "Owls hunt at night.",
    "Paris is the capital of France.",
    "\u6771\u4eac is the capital of Japan \U0001f5fc",
    "",
    'A "quoted" <b>text</b> \\ with \u0000 in it.',
]
METADATA: list[dict[str, Any] | None] = [
    {"page": 1, "lang": "en", "big": 2**70},
    {"page": 2, "lang": "en", "none": None, "list": [1.5, "x", {"y": False}]},
    None,
    {"page": 3, "lang": "ja", "\u540d": "\u6771\u4eac"},
    {},
    {"page": 4, "tiny": 5e-324},
]
QUERIES = ["how old is a tree?", "capital \u6771\u4eac", "x"]
DRAWN = np.random.default_rng(0)
VECTORS = [DRAWN.standard_normal((count, DIM)).astype(np.float32) for count in (3, 1, 8)]


def filled(folder: Path) -> Index:
    index = Index.create(folder, keep_vectors="float16")
    index.add(IDS, texts=TEXTS, metadata=METADATA)
    return index


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return filled(tmp_path_factory.mktemp("client") / "news")


@pytest.fixture(scope="module")
def service(index: Index) -> Iterator[Service]:
    with Service({"news": index.path}) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Client]:
    with Client(service.url, "news") as client:
        yield client


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[tuple[Client, Index]]:
    """A client of an index of its own, and another of the same documents to compare with."""
    filled(tmp_path / "served")
    with Service({"n.e-w_s": tmp_path / "served"}) as running, Client(running.url, "n.e-w_s") as client:
        yield client, filled(tmp_path / "here")


def plain(value: Any) -> Any:
    """What can be compared to the bit, without what depends on the time."""
    if isinstance(value, latewood.Hits):
        stats = {name: count for name, count in value.stats.items() if not name.endswith("_s")}
        rows = [(hit.id, hit.score, hit.rank, hit.text, hit.metadata, hit.stage_scores) for hit in value]
        return rows, value.plan, stats
    if isinstance(value, latewood.Explanation):
        told = {name: getattr(value, name) for name in value.__dataclass_fields__ if name != "matrix"}
        return value.matrix.dtype, value.matrix.tolist(), told
    if isinstance(value, latewood.Ragged):
        return value.values.tolist(), value.offsets.tolist()
    return [plain(one) for one in value] if isinstance(value, list) else value


ASKED: dict[str, Callable[[Any], Any]] = {
    "text": lambda at: at.search(QUERIES[0]),
    "vectors": lambda at: at.search(VECTORS[0]),
    "lists": lambda at: at.search(VECTORS[0].tolist()),
    "halves": lambda at: at.search(VECTORS[0].astype(np.float16)),
    "doubles": lambda at: at.search(np.asfortranarray(VECTORS[0].astype(np.float64))),
    "a batch of one": lambda at: at.search([VECTORS[0]]),
    "k": lambda at: at.search(QUERIES[0], np.int64(2)),
    "ids": lambda at: at.search(QUERIES[0], ids=np.array(["owls", "paris", "nobody"])),
    "ids of a generator": lambda at: at.search(QUERIES[0], ids=(key for key in IDS[:2])),
    "no ids": lambda at: at.search(QUERIES[0], ids=[]),
    "weights": lambda at: at.search(VECTORS[0], weights=[0.5, 0.0, 1 / 3]),
    "weights of a text": lambda at: at.search("x", weights=np.array([0.1, 0.2, 0.3])),
    "no documents": lambda at: at.search(QUERIES[0], with_documents=False),
    "a filter": lambda at: at.search(QUERIES[0], filter={"page": {"gte": np.int32(2)}, "lang": ["en", "ja"]}),
    "a filter of none": lambda at: at.search(QUERIES[0], filter={"lang": "xx"}),
    "a large number": lambda at: at.search(QUERIES[0], filter={"big": 2**70}),
    "groups": lambda at: at.search(QUERIES[0], group_by="lang"),
    "a page": lambda at: at.search(QUERIES[0], 2, offset=2),
    "min_score": lambda at: at.search(QUERIES[0], min_score=4.0),
    "length_normalize": lambda at: at.search(QUERIES[0], length_normalize=True),
    "codes": lambda at: at.search(QUERIES[0], rescore="off"),
    "kept": lambda at: at.search(QUERIES[0], rescore="float16"),
    "recall": lambda at: at.search(QUERIES[0], recall=0.5),
    "exact": lambda at: at.search(QUERIES[0], gather="exact", max_scored=3, threads=1),
    "batch of texts": lambda at: at.search_batch(tuple(QUERIES), 3),
    "batch of vectors": lambda at: at.search_batch(VECTORS, 3),
    "batch of ragged": lambda at: at.search_batch(latewood.to_ragged(VECTORS), 3),
    "batch of a generator": lambda at: at.search_batch((query for query in QUERIES), 3),
    "batch of none": lambda at: at.search_batch([]),
    "batch of none with weights": lambda at: at.search_batch([], weights=[]),
    "batch with filters": lambda at: at.search_batch(QUERIES, filter=[{"lang": "en"}, None, {"page": 3}]),
    "batch with weights": lambda at: at.search_batch(VECTORS, weights=[np.ones(3), [0.5], np.arange(8.0)]),
    "batch with flat weights": lambda at: at.search_batch(VECTORS, weights=np.arange(12.0)),
    "batch of texts with weights": lambda at: at.search_batch(["x", "x"], weights=[[1, 2, 3], [3, 2, 1]]),
    "rerank": lambda at: at.rerank(QUERIES[0], IDS),
    "rerank of an empty text": lambda at: at.rerank(QUERIES[0], ["empty"]),
    "rerank of none": lambda at: at.rerank(QUERIES[0], []),
    "rerank of pairs": lambda at: at.rerank(QUERIES[0], [("owls", 2.5), ("rings", -1e300)], k=1, alpha=0.5),
    "rerank of a mapping": lambda at: at.rerank(VECTORS[1], {"owls": 2, "rings": 1}, k=1, beta=1, prune_to=1),
    "rerank with scores": lambda at: at.rerank(QUERIES[0], ["owls", "rings"], scores=np.array([0.1, 0.7]), k=2),
    "rerank of strangers": lambda at: at.rerank(QUERIES[0], ["owls", "nobody"], missing="skip"),
    "rerank_batch": lambda at: at.rerank_batch(QUERIES, [["owls"], [], IDS]),
    "rerank_batch of flat ids": lambda at: at.rerank_batch(VECTORS, ["owls", "rings", "owls"], offsets=[0, 1, 1, 3]),
    "rerank_batch with scores": lambda at: at.rerank_batch(QUERIES[:2], [["owls"], ["rings"]], scores=[[1.0], [2.0]]),
    "explain": lambda at: at.explain(QUERIES[0], "rings"),
    "explain vectors": lambda at: at.explain(VECTORS[0], "\u6771\u4eac", weights=[1, 2, 3], length_normalize=True),
    "explain codes": lambda at: at.explain(QUERIES[1], "a/b?c#d", rescore="off"),
    "count": lambda at: at.count(),
    "count of a filter": lambda at: at.count(filter={"not": {"lang": "en"}}),
    "documents": lambda at: at.documents(["\u6771\u4eac", "rings", "rings", "empty", "paris"]),
    "documents of none": lambda at: at.documents([]),
    "stored vectors": lambda at: at.vectors(["owls", "empty"]),
    "stored vectors of none": lambda at: at.vectors([]),
    "check": lambda at: at.check(),
    "length": len,
}


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_is_the_same_to_the_bit(client: Client, index: Index, name: str) -> None:
    ask = ASKED[name]
    here, there = ask(index), ask(client)
    assert type(here) is type(there)
    assert plain(here) == plain(there)


@pytest.mark.parametrize("name", [name for name in ASKED if name != "length"])
def test_an_awaited_answer_too(service: Service, index: Index, name: str) -> None:
    async def ask() -> Any:
        async with AsyncClient(service.url, "news") as client:
            return await ASKED[name](client)

    assert plain(asyncio.run(ask())) == plain(ASKED[name](index))


WRONG: dict[str, Callable[[Any], Any]] = {
    "k": lambda at: at.search("x", 0),
    "no query": lambda at: at.search(None),
    "a lone surrogate": lambda at: at.search("\ud800"),
    "NaN": lambda at: at.search(np.full((2, DIM), np.nan, np.float32)),
    "dimensions": lambda at: at.search(np.ones((2, DIM + 1), np.float32)),
    "integers": lambda at: at.search(np.ones((2, DIM), np.int32)),
    "no tokens": lambda at: at.search(np.ones((0, DIM), np.float32)),
    "too many tokens": lambda at: at.search(np.ones((5_000, DIM), np.float32)),
    "two queries": lambda at: at.search(["x", "y"]),
    "one text": lambda at: at.search_batch("x"),
    "an unknown option": lambda at: at.search("x", filter={"page": {"gt": "x", "nonsense": 1}}),
    "filters": lambda at: at.search_batch(["x"], filter=[{}, {}]),
    "a set": lambda at: at.search_batch({"x"}),
    "mixed ids": lambda at: at.search("x", ids=["a", 1]),
    "kinds of ids": lambda at: at.rerank("x", [1, 2]),
    "weights": lambda at: at.search(VECTORS[0], weights=[1.0]),
    "weights of a text": lambda at: at.search("x", weights=[1.0]),
    "a weight": lambda at: at.search("x", weights=["a"]),
    "negative weights": lambda at: at.search(VECTORS[1], weights=[-1.0]),
    "NaN weights": lambda at: at.search(VECTORS[0], weights=[float("nan"), 1.0, 1.0]),
    "infinite weights of a text": lambda at: at.explain("x", "owls", weights=np.full(3, np.inf)),
    "alpha": lambda at: at.rerank("x", ["owls"], k=1, alpha=0.5),
    "no k": lambda at: at.rerank("x", ["owls"], beta=1),
    "a candidate": lambda at: at.rerank("x", ["owls", "nobody"]),
    "NaN scores": lambda at: at.rerank("x", ["owls"], scores=[float("nan")]),
    "lists": lambda at: at.rerank_batch(["x"], [["owls"], ["rings"]]),
    "an id": lambda at: at.explain("x", "nobody"),
    "half an id": lambda at: at.explain("x", 1.5),
    "rescore": lambda at: at.explain("x", "owls", rescore="float64"),
    "documents": lambda at: at.documents(["nobody"]),
    "one id": lambda at: at.documents("rings"),
    "feedback": lambda at: at.search("x", feedback=Feedback()),
    "a known id": lambda at: at.add(["rings"], texts=["again"]),
    "twice": lambda at: at.add(["x", "x"], texts=["a", "b"]),
    "nothing to add": lambda at: at.add(["x"]),
    "too few texts": lambda at: at.add(["x", "y"], texts=["a"]),
    "one for all": lambda at: at.add(["x"], texts="a"),
    "metadata": lambda at: at.add(["x"], texts=["a"], metadata=[{"n": float("nan")}]),
    "bad vectors": lambda at: at.add(["x"], vectors=[np.ones((2, 3), np.float32)]),
    "empty": lambda at: at.add(["x"], texts=[""], on_empty="error"),
    "delete nothing": lambda at: at.delete(),
    "delete both": lambda at: at.delete(["rings"], filter={"page": 1}),
    "delete a stranger": lambda at: at.delete(["nobody"]),
    "delete all": lambda at: at.delete(filter={}),
    "change nothing": lambda at: at.update_metadata(["rings"]),
    "change a stranger": lambda at: at.update_metadata(["nobody"], {"n": 1}),
    "changes": lambda at: at.update_metadata(["rings"], [{"n": 1}, {"n": 2}]),
    "tune": lambda at: at.tune([]),
    "recall": lambda at: at.tune(["x"], recall=2.0),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_error_is_the_same(client: Client, index: Index, name: str) -> None:
    found = []
    for at in (index, client):
        with pytest.raises(LatewoodError) as caught:
            WRONG[name](at)
        found.append(caught)
    assert found[0].type is found[1].type
    assert len(client) == len(IDS)


def test_what_is_added_is_the_same(changing: tuple[Client, Index]) -> None:
    client, here = changing
    two = np.stack([VECTORS[0], VECTORS[0][::-1]])

    def change(at: Any) -> list[Any]:
        return [
            at.add(["a", "b"], texts=["one", "two"], metadata=({"n": 1}, None), merge=False, show_progress=False),
            at.add(np.array(["c"]), vectors=[VECTORS[2]], texts=["kept"], threads=1),
            at.add(iter(["d", "e"]), vectors=iter([VECTORS[0], VECTORS[1]])),
            at.add(["f", "g"], vectors=two, mask=[[1, 1, 0], [1, 0, 0]]),
            at.add(["h", "i"], vectors=two.reshape(-1, DIM), lengths=[2, 4], on_empty="skip"),
            at.add([], texts=[]),
            at.add(["j"], texts=["not kept"], store_texts=False),
            at.add(["k", "l"], texts=["", "x"], on_empty="skip"),
            at.add(["m"], texts=["word " * 2000], long="windows"),
            at.upsert(["a", "z"], texts=["another", "new"]),
            at.update_metadata(["b"], {"page": 9, "n": None}),
            at.update_metadata(metadata={"seen": True}, filter={"lang": "en"}),
            at.update_metadata(["c", "d"], [{"n": 1}, {"n": 2}], replace=True, missing="skip"),
            at.delete(["paris", "nobody"], missing="skip", merge=False),
            at.delete(filter={"lang": "ja"}),
            at.compact(),
        ]

    assert change(client) == change(here)
    keys = list(here.ids())
    assert len(client) == len(keys)
    assert client.documents(keys) == here.documents(keys)
    assert plain(client.vectors(keys)) == plain(here.vectors(keys))
    assert plain(client.search("x", 100)) == plain(here.search("x", 100))
    assert client.check() == []


def test_tuning_is_the_same(changing: tuple[Client, Index]) -> None:
    client, here = changing
    for at in (client, here):
        at.tune(VECTORS, recall=0.9, k=2, weights=[np.ones(len(one)) for one in VECTORS])
    assert client.tune(QUERIES, recall=0.5, k=1) == here.tune(QUERIES, recall=0.5, k=1)


def test_info_is_that_of_the_index_without_its_path(client: Client, index: Index) -> None:
    told = client.info()
    assert {name: told[name] for name in index.info() if name != "path"} == {
        name: value for name, value in index.info().items() if name != "path"
    }
    assert index.path not in str(told)


def test_refresh_tells_of_a_newer_commit(changing: tuple[Client, Index]) -> None:
    client, _ = changing
    assert not client.refresh()
    with Client(client.url, client.name) as other:
        other.upsert(["new"], texts=["owls"])
    assert client.refresh()
    assert not client.refresh()
    assert client.search("owls", filter=None, k=2)[0].id in ("new", "owls")


def test_nothing_is_added_where_nothing_is_encoded(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "vectors", dim=DIM)
    with Service({"vectors": index.path}) as service, Client(service.url, "vectors") as client:
        for at in (client, index):
            at.add([], vectors=[])
            at.upsert([], vectors=[], metadata=[])
            assert at.count() == 0


def test_refresh_tells_of_an_index_that_was_built_anew(changing: tuple[Client, Index], tmp_path: Path) -> None:
    client, _ = changing
    generation = client.info()["generation"]
    shutil.rmtree(tmp_path / "served")
    Index.create(tmp_path / "served")
    assert client.refresh()
    assert client.generation < generation
    assert not client.refresh()


def test_a_hit_explains_itself(client: Client, index: Index) -> None:
    asked: list[Callable[[Any], Any]] = [
        lambda at: at.search(QUERIES[0]),
        lambda at: at.search(VECTORS[0], weights=[0.5, 1, 2], length_normalize=True, rescore="off"),
        lambda at: at.search_batch(QUERIES)[1],
        lambda at: at.rerank_batch(VECTORS, [["owls"], ["rings"], IDS], weights=np.arange(12.0))[2],
    ]
    for ask in asked:
        here, there = ask(index), ask(client)
        for one, other in zip(here, there, strict=True):
            assert plain(one.explain()) == plain(other.explain())
        assert plain(copy.copy(there[0]).explain()) == plain(here[0].explain())
    hits = pickle.loads(pickle.dumps(there))
    assert plain(hits) == plain(there)
    with pytest.raises(LatewoodError, match=r"index\.explain"):
        hits[0].explain()


def test_a_hit_that_was_awaited_says_whom_to_ask(service: Service, index: Index) -> None:
    async def ask() -> Any:
        async with AsyncClient(service.url, "news") as client:
            hit = (await client.search("owls"))[0]
            with pytest.raises(LatewoodError, match="await its explain"):
                hit.explain()
            return await client.explain("owls", hit.id)

    assert plain(asyncio.run(ask())) == plain(index.search("owls")[0].explain())


def test_hits_that_nobody_can_explain_are_shown_as_they_are(changing: tuple[Client, Index]) -> None:
    client, here = changing
    hits = client.search("owls", 3)
    explained = hits._repr_html_()
    assert explained == here.search("owls", 3)._repr_html_()
    client.delete([hits[0].id])
    assert f'data-id="{hits[0].id}"' in hits.to_html()
    # The others can be explained still.
    assert hits.to_html().count("<svg") == len(hits) - 1

    async def ask() -> latewood.Hits:
        async with AsyncClient(client.url, client.name) as awaited:
            return await awaited.search("owls", 3)

    shown = asyncio.run(ask())._repr_html_()
    assert "<svg" not in shown
    assert shown.count("<li") == 3


def test_hits_of_a_service_that_has_gone_are_shown_as_they_are(scripted: Any) -> None:
    hit = {"id": "a", "score": 1.0, "rank": 1, "text": "a < b", "metadata": None, "stage_scores": None}
    answer = {"hits": [hit] * 5, "stats": {}, "plan": {"gather": "exact"}, "generation": 1}
    scripted.script = [(200, {}, json.dumps(answer).encode()), (500, {}, b"")]
    with Client(scripted.url, "news", retries=0) as client:
        shown = client.search("x", 5)._repr_html_()
    assert shown.count("a &lt; b") == 5
    # It was asked for the first, and then no more.
    assert len(scripted.asked) == 2


def test_texts_are_reranked_without_an_index(service: Service) -> None:
    expected = [(one["corpus_id"], float(one["score"])) for one in latewood.Reranker().rank(QUERIES[0], TEXTS[:4])]
    with Client(service.url) as client:
        assert client.rerank_texts(QUERIES[0], TEXTS[:4]) == expected
        assert client.rerank_texts(QUERIES[0], tuple(TEXTS[:4]), top_n=2) == expected[:2]
        assert client.rerank_texts(QUERIES[0], []) == []
        for documents in ("text", [5], None, [None]):
            with pytest.raises(InvalidInputError):
                client.rerank_texts("x", documents)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="names no index"):
            client.search("x")


def test_the_signatures_are_those_of_an_index() -> None:
    for name, call in vars(Client).items():
        here = getattr(Index, name, None)
        if name.startswith("__") or not callable(call) or here is None:
            continue
        ours, its = (inspect.signature(one).parameters for one in (call, here))
        assert list(ours) == list(its), name
        assert [(one.default, one.kind) for one in ours.values()] == [(one.default, one.kind) for one in its.values()]
        assert inspect.getdoc(call) == inspect.getdoc(getattr(AsyncClient, name)) or name == "close"
        assert inspect.iscoroutinefunction(getattr(AsyncClient, name)), name
        assert not inspect.iscoroutinefunction(call)


# ── from anywhere ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_many_threads_use_one_client(client: Client, index: Index) -> None:
    expected = [plain(index.search(query)) for query in QUERIES]
    wrong: list[Any] = []

    def ask() -> None:
        for _ in range(10):
            wrong.extend(
                query for query, own in zip(QUERIES, expected, strict=True) if plain(client.search(query))[0] != own[0]
            )

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_many_tasks_and_several_loops_use_one_client(service: Service, index: Index) -> None:
    client = AsyncClient(service.url, "news")

    async def ask() -> Any:
        try:
            return await asyncio.gather(*(client.search(query) for query in QUERIES * 8))
        finally:
            await client.close()

    expected = [plain(index.search(query))[0] for query in QUERIES] * 8
    for _ in range(3):
        assert [plain(hits)[0] for hits in asyncio.run(ask())] == expected


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="where the system tells of open files")
def test_event_loops_that_have_ended_hold_no_connections(service: Service) -> None:
    client = AsyncClient(service.url, "news")

    def files(client: AsyncClient) -> int:
        for _ in range(20):
            assert asyncio.run(client.count()) == len(IDS)
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    # Python tells of connections that nobody has closed.
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        before = files(client)
        assert files(client) <= before + 3
        del client
        gc.collect()


def test_a_blocking_client_works_where_an_event_loop_runs(client: Client, index: Index) -> None:
    async def ask() -> Any:
        return client.search("owls")

    assert plain(asyncio.run(ask()))[0] == plain(index.search("owls"))[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_fork_has_connections_of_its_own(client: Client, index: Index) -> None:
    expected = plain(index.search("owls"))[0]
    assert plain(client.search("owls"))[0] == expected
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            same = all(plain(client.search("owls"))[0] == expected for _ in range(20))
            client.close()
            os._exit(0 if same else 1)
        children.append(child)
    assert all(plain(client.search("owls"))[0] == expected for _ in range(20))
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert plain(client.search("owls"))[0] == expected


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_is_pickled_and_copied(kind: Any, service: Service) -> None:
    made = kind(service.url + "/", "news", token="x" * 20, timeout=5.0, retries=1)
    for other in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        assert type(other) is kind
        assert repr(other) == repr(made) == f"{kind.__name__}({service.url!r}, 'news')"
        assert other.__reduce__() == made.__reduce__()
    assert "x" * 20 not in repr(made) + str(vars(made).get("url"))


def test_a_client_that_was_closed_opens_again(service: Service) -> None:
    client = Client(service.url, "news")
    client.close()
    for _ in range(2):
        assert client.count() == len(IDS)
        client.close()
        client.close()


def test_it_is_light_to_import() -> None:
    code = "import sys, latewood; latewood.Client; assert not {'httpx', 'msgspec', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": None},
        {"url": ""},
        {"url": "localhost:8000"},
        {"url": "ftp://localhost"},
        {"url": "http://"},
        {"url": "http://user:secret@localhost"},
        {"url": "http://localhost/?a=b"},
        {"url": "http://local host"},
        {"url": "http://localhost:x"},
        {"url": "unix:///"},
        {"url": "unix://relative"},
        {"url": "unix:///run/a\0b"},
        {"name": ""},
        {"name": ".."},
        {"name": 5},
        {"name": "\ud800"},
        {"token": ""},
        {"token": "two words"},
        {"token": "line\r\nset-cookie: x"},
        {"token": "\u00e9" * 20},
        {"token": 5},
        {"timeout": 0},
        {"timeout": None},
        {"timeout": float("inf")},
        {"timeout": "5"},
        {"retries": -1},
        {"retries": 1.5},
        {"retries": None},
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_bad_settings_are_refused_when_a_client_is_made(kind: Any, arguments: dict[str, Any]) -> None:
    given = {"url": "http://localhost:8000", "name": "news", **arguments}
    with pytest.raises(InvalidInputError) as caught:
        kind(given.pop("url"), given.pop("name"), **given)
    assert "secret" not in str(caught.value)


def test_an_index_that_is_not_there(service: Service) -> None:
    for name in ("nothing", "../news", "news/search", "a b", "\u6771\u4eac"):
        with Client(service.url, name) as client, pytest.raises(ServiceError) as caught:
            client.count()
        assert caught.value.status == 404
        assert pickle.loads(pickle.dumps(caught.value)).status == 404


# ── a service that has no time, breaks off, or is none ───────────────────────────────────────────────────────────────


class Scripted(BaseHTTPRequestHandler):
    """Answers with what a test has written down: status, headers, body; None breaks off."""

    protocol_version = "HTTP/1.1"
    script: ClassVar[list[Any]] = []
    asked: ClassVar[list[tuple[float, str, str]]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.asked.append((time.monotonic(), self.path, self.headers.get("authorization", "")))
        step = self.script.pop(0) if self.script else (200, {}, b'{"count": 7, "generation": 1}')
        if step is None:
            self.close_connection = True
            self.connection.close()
            return
        status, headers, body = step
        time.sleep(headers.pop("sleep", 0))
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_PATCH = do_GET = do_POST  # noqa: N815  the names that the server calls

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):
            self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            self.close_connection = True


@pytest.fixture
def scripted() -> Iterator[Any]:
    Scripted.script, Scripted.asked = [], []
    with ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        Scripted.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
        try:
            yield Scripted
        finally:
            server.shutdown()
            thread.join()


def counted(scripted: Any, **settings: Any) -> int:
    with Client(scripted.url, "news", **settings) as client:
        return client.count()


BUSY = b'{"status": 429, "title": "Too Many Requests", "detail": "256 requests wait already"}'


def test_it_asks_again_when_the_service_has_time(scripted: Any) -> None:
    scripted.script = [(429, {"retry-after": "1"}, BUSY), (503, {"retry-after": "0"}, BUSY), (429, {}, BUSY)]
    assert counted(scripted, token="the-token") == 7
    times = [at for at, _, _ in scripted.asked]
    assert len(times) == 4
    assert 1.0 <= times[1] - times[0] < 2.0
    assert {token for _, _, token in scripted.asked} == {"Bearer the-token"}


def test_it_waits_without_holding_up_an_event_loop(scripted: Any) -> None:
    scripted.script = [(429, {"retry-after": "1"}, BUSY)]

    async def ask() -> tuple[int, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        async with AsyncClient(scripted.url, "news") as client:
            ticking = asyncio.create_task(tick())
            count = await client.count()
            ticking.cancel()
        return count, ticks

    count, ticks = asyncio.run(ask())
    assert count == 7
    assert ticks > 20


@pytest.mark.parametrize(
    ("settings", "script", "tries"),
    [
        ({"retries": 2}, [(429, {"retry-after": "0"}, BUSY)] * 9, 3),
        ({"retries": 0}, [(429, {"retry-after": "0"}, BUSY)] * 9, 1),
        # Who is asked to wait longer than he would for an answer is told so at once.
        ({"timeout": 2.0}, [(429, {"retry-after": "3600"}, BUSY)] * 9, 1),
        ({"timeout": 2.0}, [(503, {"retry-after": "Fri, 31 Dec 2100 23:59:59 GMT"}, BUSY)] * 9, 1),
    ],
)
def test_it_gives_up(scripted: Any, settings: dict[str, Any], script: Any, tries: int) -> None:
    scripted.script = script
    with pytest.raises(ServiceError, match="256 requests wait already") as caught:
        counted(scripted, **settings)
    assert caught.value.status in (429, 503)
    assert len(scripted.asked) == tries


def test_a_date_is_waited_for_too(scripted: Any) -> None:
    scripted.script = [(429, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, BUSY)]
    assert counted(scripted) == 7


def test_what_breaks_off_is_asked_again_unless_it_may_have_been_done(scripted: Any) -> None:
    scripted.script = [None, None]
    assert counted(scripted) == 7
    assert len(scripted.asked) == 3
    changes: list[Callable[[Client], Any]] = [
        lambda client: client.add(["x"], texts=["y"]),
        lambda client: client.delete(["x"]),
        lambda client: client.update_metadata(["x"], {}),
        lambda client: client.compact(),
    ]
    for change in changes:
        scripted.asked.clear()
        scripted.script = [None]
        with Client(scripted.url, "news") as client, pytest.raises(ServiceError, match="gave no answer"):
            change(client)
        assert len(scripted.asked) == 1
    # Done twice, it is the same.
    scripted.asked.clear()
    scripted.script = [None]
    with Client(scripted.url, "news") as client:
        client.upsert(["x"], texts=["y"])
    assert len(scripted.asked) == 2


def test_a_timeout(scripted: Any) -> None:
    scripted.script = [(200, {"sleep": 1.0}, b"{}")]
    begun = time.monotonic()
    with pytest.raises(ServiceError, match="gave no answer") as caught:
        counted(scripted, timeout=0.2)
    assert time.monotonic() - begun < 0.9
    assert caught.value.status is None
    assert len(scripted.asked) == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ALL_PROXY", "ftp://proxy"), ("ALL_PROXY", "::::"), ("SSL_CERT_FILE", "/nowhere/at/all")],
)
def test_an_environment_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ServiceError, match="localhost:9 cannot be asked"):
        Client("http://localhost:9", "news").count()
    with pytest.raises(ServiceError, match="see the proxies and certificates"):
        asyncio.run(AsyncClient("http://localhost:9", "news").count())


def test_nobody_is_there() -> None:
    begun = time.monotonic()
    with Client("http://127.0.0.1:9", "news") as client, pytest.raises(ServiceError, match="gave no answer"):
        client.count()
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "answer",
    [
        (200, {}, b""),
        (200, {}, b"<html>"),
        (200, {}, b"null"),
        (200, {}, b"[]"),
        (200, {}, b'{"count": "many"}'),
        (200, {}, b"{}"),
        (200, {}, b"[" * 100_000),
        (200, {}, b"\xff\xfe"),
        (302, {"location": "http://127.0.0.1:9/"}, b""),
        (404, {"content-type": "text/html"}, b"<html>nothing</html>"),
        (500, {}, b""),
        (500, {}, b'{"detail": 5, "error": ["x"]}'),
        (422, {}, b'{"detail": "no", "error": "KeyboardInterrupt"}'),
        (502, {}, b'{"error": "ServiceError"}'),
    ],
    ids=lambda value: f"{value[0]} {value[2][:20]!r}",
)
def test_an_answer_of_something_else_is_an_error(scripted: Any, answer: Any) -> None:
    scripted.script = [answer]
    with pytest.raises((ServiceError, InvalidInputError)):
        counted(scripted)


def test_where_an_answer_leads_is_told(scripted: Any) -> None:
    # Who is not asked at that address is not given the token.
    scripted.script = [(308, {"location": "https://search.example/"}, b"")]
    with pytest.raises(ServiceError, match=r"status 308, and leads to https://search\.example/"):
        counted(scripted)


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_comes_back_as_what_it_was(scripted: Any, name: str) -> None:
    scripted.script = [(400, {}, b'{"detail": "what was said", "error": "%s"}' % name.encode())]
    kind = getattr(errors, name)
    expected = InvalidInputError if issubclass(kind, errors.TextTooLongError) else kind
    with pytest.raises(LatewoodError, match="what was said") as caught:
        counted(scripted)
    assert caught.type is expected
