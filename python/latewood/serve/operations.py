"""What a service does: for each path a body, and the work that makes an answer of it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Literal
from uuid import uuid4

import msgspec
import numpy as np

from latewood.errors import InvalidInputError, LatewoodError
from latewood.index.explanation import Explanation
from latewood.index.index import Index
from latewood.rerank.reranker import Reranker
from latewood.serve import shapes
from latewood.serve.metrics import Metrics
from latewood.serve.problems import Problem
from latewood.serve.served import ServedIndex, told
from latewood.serve.settings import Settings
from latewood.serve.work import Desk, Work

Scope = Literal["nobody", "read", "write"]
LOOK_SECONDS = 2.0
"""That a look at whether an index can be read may take: those who ask wait little longer."""
OF_A_BATCH = 8
"""So many times the documents of one request may be all hits, or all candidates, of several queries."""


class Service:
    """Indexes, a reranker, and the desks where work for them is taken in.

    Parameters
    ----------
    indexes : mapping of str to ServedIndex
    reranker : Reranker or None
        Of texts that come with the request.
    settings : Settings
    threads : int
    """

    def __init__(
        self, indexes: Mapping[str, ServedIndex], reranker: Reranker | None, settings: Settings, threads: int
    ) -> None:
        self.indexes = indexes
        self.reranker = reranker
        self.settings = settings
        self.metrics = Metrics()
        self.reading = Desk(threads, settings.max_waiting)
        self.writing = {name: Desk(1, settings.max_waiting) for name in indexes}
        self.ready = True
        self._looks: dict[str, Future[Any]] = {}

    def without_folders(self, message: str) -> str:
        """Give a message in which indexes have the names under which they are asked for, and not their folders."""
        for name, served in sorted(self.indexes.items(), key=lambda one: -len(one[1].index.path)):
            message = message.replace(served.index.path, name)
        return message

    async def problems(self) -> dict[str, str]:
        """Tell of each index that cannot be read now why that is."""
        looks = {name: asyncio.wrap_future(self._look(name)) for name in self.indexes}
        if looks:
            await asyncio.wait(looks.values(), timeout=LOOK_SECONDS)
        found = {}
        for name, look in looks.items():
            if not look.done():
                found[name] = f"its storage has not answered for {LOOK_SECONDS:g} seconds"
            elif error := look.exception():
                if not isinstance(error, LatewoodError):
                    raise error
                found[name] = str(error)
        return found

    def _look(self, name: str) -> "Future[Any]":
        """Begin to look whether an index can be read, or give the look that has not ended.

        Not at a desk, where all may wait: who is busy is ready. A file system that hangs holds one thread, however
        often it is asked for, and one that a service which ends does not wait for.
        """
        look = self._looks.get(name)
        if look is None or look.done():
            look = self._looks[name] = Future()
            threading.Thread(target=_finish, args=[look, self.indexes[name]], daemon=True).start()
        return look

    def of(self, name: str) -> ServedIndex:
        """Give the index that a path names."""
        found = self.indexes.get(name)
        if found is None:
            known = ", ".join(sorted(self.indexes)) or "none"
            raise Problem(HTTPStatus.NOT_FOUND, f"there is no index {name[:100]!r} here; there are: {known}")
        return found

    def desk(self, scope: Scope, name: str) -> Desk:
        """Give the desk at which a request is worked at."""
        return self.writing.get(name, self.reading) if scope == "write" else self.reading

    def threads(self) -> int | None:
        """Threads for a call: all, unless others are at work."""
        return None if self.reading.running <= 1 else 1


def _finish(look: "Future[Any]", served: ServedIndex) -> None:
    try:
        look.set_result(served.read(lambda _: None))
    except Exception as error:  # noqa: BLE001  whoever asked is told
        look.set_exception(error)


Answering = Callable[[Service, str, Any], "Awaitable[Any]"]


@dataclass(frozen=True)
class Operation:
    """A path of the service, and what is done there."""

    method: str
    path: str
    scope: Scope
    summary: str
    run: Answering
    body: Any = None
    example: Any = None


def _alone(ask: Callable[[], Any]) -> Work:
    return lambda items: [ask() for _ in items]


async def read(service: Service, ask: Callable[[], Any]) -> Any:
    """Do what only reads, on a thread of the desk."""
    return await service.reading.submit(_alone(ask), None)


async def _write(service: Service, name: str, change: Callable[[Index], Any]) -> Any:
    served = service.of(name)
    if service.settings.read_only:
        raise Problem(HTTPStatus.FORBIDDEN, "this service changes nothing")
    return await service.writing[name].submit(_alone(lambda: served.write(change)), None)


def limit(count: int, most: int, what: str) -> None:
    """Refuse what is more than a request may ask for."""
    if count > most:
        message = f"{count} {what} are asked for, and at most {most} at once; divide them"
        raise InvalidInputError(message)


async def search(service: Service, name: str, body: Any) -> Any:
    """Answer one query; those that wait and ask in the same way are answered together."""
    served = service.of(name)
    options, query = shapes.options_of(body), shapes.query_of(body.query)
    limit(body.k + (body.offset or 0), service.settings.max_k, "hits")
    alike = None
    if body.ids is None and body.weights is None:
        alike = (name, isinstance(query, str), msgspec.json.encode(options))

    def find(items: list[Any]) -> list[Any]:
        asked = {**options, "threads": service.threads()}
        # One set of ids, and one of weights, is one query's.
        weights = asked.pop("weights", None)
        only = asked.pop("ids", None)
        ask = partial(_searched, options=asked, weights=weights, only=only)
        found = served.read_each(items, ask)
        service.metrics.searched(name, [one[0].stats for one in found if not isinstance(one, Exception)])
        return [one if isinstance(one, Exception) else told(*one) for one in found]

    return await service.reading.submit(find, query, alike)


def _searched(index: Index, queries: Any, options: Any, weights: Any, only: Any) -> Any:
    if len(queries) == 1:
        return [index.search(queries[0], ids=only, weights=weights, **options)]
    return index.search_batch(queries, **options)


async def search_batch(service: Service, name: str, body: Any) -> Any:
    """Answer several queries."""
    served = service.of(name)
    options = shapes.options_of(body)
    limit(len(body.queries), service.settings.max_queries, "queries")
    wanted = body.k + (body.offset or 0)
    limit(wanted, service.settings.max_k, "hits")
    limit(wanted * len(body.queries), service.settings.max_documents * OF_A_BATCH, "hits")

    def find() -> Any:
        if not body.queries:
            return {"results": [], "generation": served.read(lambda _: None)[1]}
        queries = shapes.queries_of(body.queries)
        found, generation = served.read(lambda index: index.search_batch(queries, **options, threads=service.threads()))
        service.metrics.searched(name, [hits.stats for hits in found])
        return {"results": [told(hits, generation) for hits in found], "generation": generation}

    return await read(service, find)


async def rerank(service: Service, name: str, body: Any) -> Any:
    """Order candidates by what the index holds of them."""
    served = service.of(name)
    limit(len(body.candidates), service.settings.max_documents, "candidates")

    def order() -> Any:
        options = {**shapes.options_of(body), "threads": service.threads()}
        query = shapes.query_of(body.query)
        hits, generation = served.read(lambda index: index.rerank(query, body.candidates, body.scores, **options))
        service.metrics.searched(name, [hits.stats])
        return told(hits, generation)

    return await read(service, order)


async def rerank_batch(service: Service, name: str, body: Any) -> Any:
    """Order the candidates of several queries."""
    served = service.of(name)
    limit(len(body.queries), service.settings.max_queries, "queries")
    limit(sum(map(len, body.candidates)), service.settings.max_documents * OF_A_BATCH, "candidates")

    def order() -> Any:
        if not body.queries:
            return {"results": [], "generation": served.read(lambda _: None)[1]}
        options = {**shapes.options_of(body), "threads": service.threads()}
        queries = shapes.queries_of(body.queries)
        found, generation = served.read(
            lambda index: index.rerank_batch(queries, body.candidates, body.scores, **options)
        )
        service.metrics.searched(name, [hits.stats for hits in found])
        return {"results": [told(hits, generation) for hits in found], "generation": generation}

    return await read(service, order)


def explained(explanation: Explanation, generation: int) -> dict[str, Any]:
    """Give what an answer tells of an explanation."""
    return {
        "id": explanation.id,
        "score": explanation.score,
        "rows": [
            {"query_token": query, "document_token": document, "adds": adds}
            for query, document, adds in explanation.rows()
        ],
        "query_tokens": explanation.query_tokens,
        "document_tokens": explanation.document_tokens,
        "query_text": explanation.query_text,
        "document_text": explanation.document_text,
        "query_spans": explanation.query_spans,
        "document_spans": explanation.document_spans,
        "matrix": shapes.encoded(explanation.matrix),
        "generation": generation,
    }


async def explain(service: Service, name: str, body: shapes.Explain) -> Any:
    """Show a document's score, token by token."""
    served = service.of(name)

    def ask() -> Any:
        options = shapes.options_of(body, "id")
        query = shapes.query_of(body.query)
        return explained(*served.read(lambda index: index.explain(query, body.id, **options)))

    return await read(service, ask)


async def add(service: Service, name: str, body: shapes.Additions, *, upsert: bool) -> Any:
    """Add documents, or replace them, in one commit."""
    limit(len(body.documents), service.settings.max_documents, "documents")

    def change(index: Index) -> int:
        columns = shapes.additions_of(body)
        (index.upsert if upsert else index.add)(columns.pop("ids"), **columns, show_progress=False)
        return len(body.documents)

    count, generation = await _write(service, name, change)
    return {"documents": count, "generation": generation}


async def delete(service: Service, name: str, body: shapes.Deletion) -> Any:
    """Delete documents by ids or by a filter, in one commit."""
    count, generation = await _write(
        service, name, lambda index: index.delete(body.ids, filter=body.filter, missing=body.missing, merge=body.merge)
    )
    return {"documents": count, "generation": generation}


async def update_metadata(service: Service, name: str, body: shapes.MetadataUpdate) -> Any:
    """Change metadata by ids or by a filter, in one commit."""
    count, generation = await _write(
        service,
        name,
        lambda index: index.update_metadata(
            body.ids,
            shapes.metadata_of(body.metadata),
            filter=body.filter,
            replace=body.replace,
            missing=body.missing,
            merge=body.merge,
        ),
    )
    return {"documents": count, "generation": generation}


async def get(service: Service, name: str, body: shapes.Get) -> Any:
    """Give stored documents."""
    served = service.of(name)
    limit(len(body.ids), service.settings.max_documents, "documents")

    def ask(index: Index) -> Any:
        rows: list[dict[str, Any]] = [
            {"id": one.id, "text": one.text, "metadata": one.metadata} for one in index.documents(body.ids)
        ]
        if body.vectors:
            kept = index.vectors(body.ids)
            for row, vectors in zip(rows, kept, strict=True):
                row["vectors"] = shapes.encoded(np.asarray(vectors))
        return rows

    rows, generation = await read(service, lambda: served.read(ask))
    return {"documents": rows, "dim": served.index.dim, "generation": generation}


async def count(service: Service, name: str, body: shapes.Counting) -> Any:
    """Count documents."""
    served = service.of(name)
    number, generation = await read(service, lambda: served.read(lambda index: index.count(filter=body.filter)))
    return {"count": number, "generation": generation}


async def info(service: Service, name: str, _: Any) -> Any:
    """Tell what an index is and has."""
    served = service.of(name)

    def ask(index: Index) -> Any:
        # Where it lies is nobody's business.
        return {key: value for key, value in index.info().items() if key != "path"}

    told, generation = await read(service, lambda: served.read(ask))
    return {"name": name, **told, "generation": generation}


async def check(service: Service, name: str, _: Any) -> Any:
    """Read every byte of an index."""
    served = service.of(name)
    problems, generation = await read(service, lambda: served.read(lambda index: index.check()))
    return {"problems": list(map(service.without_folders, problems)), "generation": generation}


async def refresh(service: Service, name: str, _: Any) -> Any:
    """Move to the newest commit, which every answer does by itself."""
    served = service.of(name)
    _, generation = await read(service, lambda: served.read(lambda _: None))
    return {"generation": generation}


async def compact(service: Service, name: str, _: Any) -> Any:
    """Rewrite all segments as one."""
    _, generation = await _write(service, name, lambda index: index.compact())
    return {"generation": generation}


async def tune(service: Service, name: str, body: shapes.Tune) -> Any:
    """Measure how thoroughly the index must look, and store that with it."""
    limit(len(body.queries or ()), service.settings.max_queries, "queries")

    def change(index: Index) -> Any:
        queries = None if body.queries is None else shapes.queries_of(body.queries)
        return index.tune(queries, recall=body.recall, k=body.k, weights=body.weights)

    tuning, generation = await _write(service, name, change)
    return {**msgspec.to_builtins(tuning), "generation": generation}


async def names(service: Service, _: str, __: Any) -> Any:
    """Tell which indexes there are."""

    def ask(name: str, served: ServedIndex) -> dict[str, Any]:
        try:
            documents, generation = served.read(len)
        # One that cannot be read must not hide the others.
        except LatewoodError as error:
            return {"name": name, "problem": service.without_folders(str(error))}
        return {"name": name, "documents": documents, "dim": served.index.dim, "generation": generation}

    return {"indexes": await read(service, lambda: [ask(*one) for one in sorted(service.indexes.items())])}


async def rerank_texts(service: Service, _: str, body: shapes.RerankTexts) -> Any:
    """Order texts, or stored documents, in the shape that rerank services share."""
    if body.index is not None:
        if body.ids is None or body.documents is not None:
            message = "with an index, give the ids of its documents, and no documents"
            raise InvalidInputError(message)
        served, count = service.of(body.index), len(body.ids)
    elif body.documents is None:
        message = "give documents; or the name of an index, and ids"
        raise InvalidInputError(message)
    else:
        served, count = None, len(body.documents)
    limit(count, service.settings.max_documents, "documents")
    if body.rank_fields not in (None, [], ["text"]):
        message = "documents are ordered by their 'text' alone; put what counts into it, and leave rank_fields out"
        raise InvalidInputError(message)
    model = model_of(service, served)
    if body.model is not None and body.model not in ("", model):
        message = f"there is no model {body.model[:100]!r} here; this service has {model!r}"
        raise Problem(HTTPStatus.NOT_FOUND, message)
    order = partial(_ordered, service, served, body)
    results = await read(service, order)
    return {"id": str(uuid4()), "model": model, "results": results, "meta": {"api_version": {"version": "1"}}}


def model_of(service: Service, served: ServedIndex | None) -> str | None:
    """Name the encoder that answers."""
    encoder = service.reranker and service.reranker.encoder if served is None else served.index.encoder
    return None if encoder is None else str(getattr(encoder, "name", None) or type(encoder).__name__)


def _ordered(service: Service, served: ServedIndex | None, body: shapes.RerankTexts) -> list[dict[str, Any]]:
    if served is not None and body.ids is not None:
        ids = body.ids
        hits, _ = served.read(lambda index: index.rerank(body.query, ids, threads=service.threads()))
        places = {key: place for place, key in enumerate(ids)}
        pairs = [(places[hit.id], hit.score) for hit in hits]
        texts: list[str | None] = [None] * len(ids)
        for hit in hits:
            texts[places[hit.id]] = hit.text
    else:
        if service.reranker is None:
            raise Problem(HTTPStatus.NOT_IMPLEMENTED, "this service has no encoder for texts; start it with one")
        texts = [one if isinstance(one, str) else one.text for one in body.documents or ()]
        ranked = service.reranker.rank(body.query, [text or "" for text in texts], threads=service.threads())
        pairs = [(one["corpus_id"], float(one["score"])) for one in ranked]
    # Ties by position.
    pairs.sort(key=lambda pair: (-pair[1], pair[0]))
    results: list[dict[str, Any]] = []
    scores = shapes.finite(score for _, score in pairs[: body.top_n])
    for (place, _), score in zip(pairs, scores, strict=False):
        result: dict[str, Any] = {"index": place, "relevance_score": score}
        if body.return_documents:
            result["document"] = {"text": texts[place]}
        results.append(result)
    return results


_OF = "/v1/indexes/{name}"
_DOCUMENT = {"id": "rings", "text": "A tree grows one ring each year.", "metadata": {"lang": "en"}}
OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/v1/indexes", "read", "Which indexes there are.", names),
    Operation("GET", _OF, "read", "What an index is and has.", info),
    Operation(
        "POST",
        f"{_OF}/search",
        "read",
        "The best documents for a query.",
        search,
        shapes.Search,
        {"query": "how old is a tree?", "k": 3},
    ),
    Operation(
        "POST",
        f"{_OF}/search_batch",
        "read",
        "The best documents for each of several queries.",
        search_batch,
        shapes.SearchBatch,
        {"queries": ["how old is a tree?", "owls"], "k": 3},
    ),
    Operation(
        "POST",
        f"{_OF}/rerank",
        "read",
        "Candidates in the order of MaxSim on what the index holds.",
        rerank,
        shapes.Rerank,
        {"query": "how old is a tree?", "candidates": ["rings", "owls"]},
    ),
    Operation(
        "POST",
        f"{_OF}/rerank_batch",
        "read",
        "The candidates of several queries in the order of MaxSim.",
        rerank_batch,
        shapes.RerankBatch,
        {"queries": ["how old is a tree?"], "candidates": [["rings", "owls"]]},
    ),
    Operation(
        "POST",
        f"{_OF}/explain",
        "read",
        "A document's score, token by token.",
        explain,
        shapes.Explain,
        {"query": "how old is a tree?", "id": "rings"},
    ),
    Operation(
        "POST",
        f"{_OF}/documents",
        "write",
        "Add documents; an id that is there is an error.",
        partial(add, upsert=False),
        shapes.Additions,
        {"documents": [_DOCUMENT]},
    ),
    Operation(
        "PUT",
        f"{_OF}/documents",
        "write",
        "Add or replace documents.",
        partial(add, upsert=True),
        shapes.Additions,
        {"documents": [_DOCUMENT]},
    ),
    Operation(
        "PATCH",
        f"{_OF}/documents",
        "write",
        "Change metadata.",
        update_metadata,
        shapes.MetadataUpdate,
        {"ids": ["rings"], "metadata": {"page": 1}},
    ),
    Operation(
        "POST",
        f"{_OF}/documents/delete",
        "write",
        "Delete documents by ids or by a filter.",
        delete,
        shapes.Deletion,
        {"ids": ["rings"], "missing": "skip"},
    ),
    Operation(
        "POST",
        f"{_OF}/documents/get",
        "read",
        "Stored documents by their ids.",
        get,
        shapes.Get,
        {"ids": ["rings"]},
    ),
    Operation(
        "POST",
        f"{_OF}/documents/count",
        "read",
        "How many documents there are, or match a filter.",
        count,
        shapes.Counting,
        {"filter": {"lang": "en"}},
    ),
    Operation("POST", f"{_OF}/check", "read", "Read every byte, and list what is wrong.", check, shapes.Nothing, {}),
    Operation("POST", f"{_OF}/refresh", "read", "Move to the newest commit.", refresh, shapes.Nothing, {}),
    Operation("POST", f"{_OF}/compact", "write", "Rewrite all segments as one.", compact, shapes.Nothing, {}),
    Operation(
        "POST", f"{_OF}/tune", "write", "Measure a recall, and look for that much.", tune, shapes.Tune, {"recall": 0.95}
    ),
    *(
        Operation(
            "POST",
            path,
            "read",
            "Texts, or stored documents, in the order of their relevance.",
            rerank_texts,
            shapes.RerankTexts,
            {"query": "how old is a tree?", "documents": ["Trees have rings.", "Owls hunt at night."], "top_n": 1},
        )
        for path in ("/v1/rerank", "/v2/rerank", "/rerank")
    ),
)
"""Everything that is asked with JSON."""
