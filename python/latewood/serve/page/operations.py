"""What the page asks that programs do not: hits with their texts shaded, fields to filter by, pictures."""

import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from latewood.common.types import Id
from latewood.index.index import Index
from latewood.index.options import EXACT
from latewood.index.results import Hit
from latewood.serve import shapes
from latewood.serve.operations import Operation, Service, limit, read
from latewood.serve.page.fields import fields_of
from latewood.serve.page.pictures import FIELD, patches, picture
from latewood.serve.problems import Problem

MOST_HITS = 100
"""Hits that are shown, each of which is explained."""
SAMPLE = 1000
"""Documents whose metadata are looked at for fields, spread evenly over the index."""


async def _ask(service: Service, name: str, ask: Callable[[Index], dict[str, Any]]) -> Any:
    served = service.of(name)
    answer, generation = await read(service, lambda: served.read(ask))
    return {**answer, "generation": generation}


async def hits(service: Service, name: str, body: Any) -> Any:
    """Answer one query, and explain each hit."""
    limit(body.k, min(service.settings.max_k, MOST_HITS), "hits of the page")
    given = shapes.options_of(body, "exact")
    query = shapes.query_of(body.query)
    with_pictures = service.settings.images is not None

    def find(index: Index) -> dict[str, Any]:
        options = {**given, "threads": service.threads()}
        begun = time.perf_counter()
        found = index.search(query, **options)
        searched = time.perf_counter()
        service.metrics.searched(name, [found.stats])
        asked, listed = found.to_html_parts(explained=MOST_HITS)
        explained = time.perf_counter()
        # As texts: a script has no integers beyond 2^53.
        ids = [str(hit.id) for hit in found]
        answer = {
            "query": asked,
            "hits": listed,
            "ids": ids,
            "pictures": [_pictured(hit) if with_pictures else None for hit in found],
            "plan": found.plan,
            "stats": found.stats,
            "seconds": {"search": searched - begun, "explain": explained - searched},
        }
        if body.exact:
            best = index.search(query, **{**options, **EXACT}, with_documents=False)
            answer["exact"] = {"hits": len(best), "found": len({str(hit.id) for hit in best} & set(ids))}
        return answer

    return await _ask(service, name, find)


def _pictured(hit: Hit) -> dict[str, Any] | None:
    """Say that a hit has a picture, and how near its patches are to the query, where that can be told."""
    if FIELD not in (hit.metadata or {}):
        return None
    return {"patches": patches(hit.explain().matrix, hit.metadata)}


async def fields(service: Service, name: str, _: Any) -> Any:
    """Tell which fields there are to filter by, as far as a sample of the documents shows."""

    def look(index: Index) -> dict[str, Any]:
        ids = index.ids()
        sample = ids[:: max(1, len(ids) // SAMPLE)]
        return {"fields": fields_of(one.metadata for one in index.documents(sample)), "documents": len(sample)}

    return await _ask(service, name, look)


async def show_picture(service: Service, name: str, body: shapes.PagePicture) -> Any:
    """Give the picture of a document."""
    folder = service.settings.images
    if folder is None:
        raise Problem(HTTPStatus.NOT_FOUND, "this service shows no pictures; start it with --images FOLDER")

    def look(index: Index) -> dict[str, Any]:
        (document,) = index.documents([_id_of(body.id, index.info()["id_kind"])])
        return dict(picture(Path(folder), document.metadata))

    return await _ask(service, name, look)


def _id_of(text: str, kind: str) -> Id:
    """Give an id as the index has it; what is no number is none of an index with numbers, which says so."""
    with suppress(ValueError):
        return int(text) if kind == "int" else text
    return text


PAGE_OPERATIONS: tuple[Operation, ...] = (
    Operation("POST", "/page/{name}/hits", "read", "Hits, explained.", hits, shapes.PageSearch),
    Operation("GET", "/page/{name}/fields", "read", "Fields of metadata.", fields),
    Operation("POST", "/page/{name}/picture", "read", "The picture of a document.", show_picture, shapes.PagePicture),
)
"""They may change with the page: programs ask those of docs/serving.md."""
