"""What the clients of vector databases give are candidates as they are, and so are ids of the kinds that these have."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Index, TwoStage
from latewood.errors import DuplicateIdError, InvalidInputError, UnknownIdError
from support import TEXTS, HashEncoder

QUERY = "capital of germany"
UUIDS: list[Any] = [uuid.uuid5(uuid.NAMESPACE_URL, name) for name in TEXTS]
VECTORS = [tokens.mean(axis=0).tolist() for tokens in HashEncoder().encode_document(list(TEXTS.values()))]
ASKED = HashEncoder().encode_query([QUERY])[0].mean(axis=0).tolist()

Search = Callable[[int], Any]
"""Asks a database for so many points, and gives what its client gave."""


def nearest(k: int) -> list[int]:
    """Give the rows whose vectors have the largest cosines with the query's."""
    matrix = np.array(VECTORS)
    cosines = matrix @ np.array(ASKED) / np.linalg.norm(matrix, axis=1)
    return np.argsort(-cosines)[:k].tolist()  # type: ignore[no-any-return]


def qdrant_client(ids: list[Any], folder: Path) -> Iterator[Search]:
    client_module = pytest.importorskip("qdrant_client")
    client, models = client_module.QdrantClient(path=str(folder)), client_module.models
    size = models.VectorParams(size=48, distance=models.Distance.COSINE)
    client.create_collection("notes", vectors_config=size)
    points = [
        models.PointStruct(id=key if isinstance(key, int) else str(key), vector=vector)
        for key, vector in zip(ids, VECTORS, strict=True)
    ]
    client.upsert("notes", points)
    yield lambda k: client.query_points("notes", query=ASKED, limit=k).points
    client.close()


def qdrant_edge(ids: list[Any], folder: Path) -> Iterator[Search]:
    edge = pytest.importorskip("qdrant_edge")
    size = edge.EdgeVectorParams(size=48, distance=edge.Distance.Cosine)
    shard = edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors=size))
    points = [edge.Point(key, vector, {}) for key, vector in zip(ids, VECTORS, strict=True)]
    shard.update(edge.UpdateOperation.upsert_points(points))
    yield lambda k: shard.query(edge.QueryRequest(query=edge.Query.Nearest(ASKED), limit=k))
    shard.close()


def pgvector(ids: list[Any], _: Path) -> Iterator[Search]:
    psycopg = pytest.importorskip("psycopg")
    kind = "bigint" if isinstance(ids[0], int) else "uuid"
    with psycopg.connect(autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(f"CREATE TEMPORARY TABLE points (id {kind} PRIMARY KEY, embedding vector(48))")
        for key, vector in zip(ids, VECTORS, strict=True):
            connection.execute("INSERT INTO points VALUES (%s, %s)", (key, str(vector)))
        query = "SELECT id, 1 - (embedding <=> %(q)s) FROM points ORDER BY embedding <=> %(q)s::vector LIMIT %(k)s"
        yield lambda k: connection.execute(query, {"q": str(ASKED), "k": k}).fetchall()


@pytest.fixture(params=[qdrant_client, qdrant_edge, pgvector], ids=lambda store: store.__name__)
def store(request: pytest.FixtureRequest) -> Any:
    if request.param is pgvector:
        request.getfixturevalue("postgres")
    return request.param


@pytest.mark.parametrize("ids", [UUIDS, [3, 0, 2**40, 7, 1]], ids=["uuid", "int"])
def test_points_are_reranked(store: Any, ids: list[Any], tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", encoder=HashEncoder())
    index.add(ids, texts=list(TEXTS.values()))
    names = [key if isinstance(key, int) else str(key) for key in ids]
    for search in store(ids, tmp_path / "store"):
        for k in (1, 3, 5):
            found = search(k)
            rows = nearest(k)
            hits = index.rerank(QUERY, found)
            assert [(hit.id, hit.score) for hit in hits] == [
                (hit.id, hit.score) for hit in index.rerank(QUERY, [names[row] for row in rows])
            ]
            # They come with their scores: these say what is pruned.
            pruned = index.rerank(QUERY, found, k=1, alpha=0.0)
            assert [hit.id for hit in pruned] == [names[rows[0]]]

        def first(_: str, k: int, ask: Search = search) -> Any:
            return ask(k)

        engine = TwoStage(first, index, fusion=0.5, missing="skip")
        assert engine.search(QUERY, 1)[0].text == TEXTS["berlin"]
        index.delete([ids[list(TEXTS).index("berlin")]])
        assert engine.search(QUERY, 1)[0].text == TEXTS["paris"]
        with pytest.raises(UnknownIdError):
            index.rerank(QUERY, search(5))


def test_a_uuid_is_its_string(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", encoder=HashEncoder())
    index.add(UUIDS, texts=list(TEXTS.values()))
    names = [str(key) for key in UUIDS]
    assert list(index.ids()) == names
    assert UUIDS[0] in index
    assert names[0] in index
    assert uuid.uuid4() not in index
    wanted = [(hit.id, hit.score) for hit in index.rerank(QUERY, names)]
    scores = [float(place) for place in range(len(UUIDS))]
    for given in (
        UUIDS,
        iter(UUIDS),
        np.array(UUIDS, dtype=object),
        [str(key) if place % 2 else key for place, key in enumerate(UUIDS)],
        dict(zip(UUIDS, scores, strict=True)),
        list(zip(UUIDS, scores, strict=True)),
        (UUIDS, scores),
        [{"id": key, "score": score} for key, score in zip(UUIDS, scores, strict=True)],
    ):
        assert [(hit.id, hit.score) for hit in index.rerank(QUERY, given)] == wanted
    assert [hit.id for hit in index.search(QUERY, ids=UUIDS[:2])] == [
        hit.id for hit in index.search(QUERY, ids=names[:2])
    ]
    assert index.explain(QUERY, UUIDS[1]).id == names[1]
    with pytest.raises(DuplicateIdError):
        index.rerank(QUERY, [UUIDS[0], names[0]])
    index.delete(UUIDS[:2])
    assert len(index) == len(UUIDS) - 2
    with pytest.raises(InvalidInputError):
        index.rerank(QUERY, [UUIDS[2], 3])
