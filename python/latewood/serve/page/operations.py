"""What the page asks that programs do not: hits with their texts shaded, fields to filter by, pictures."""

import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from latewood.index.index import Index
from latewood.index.results import Hit
from latewood.serve import shapes
from latewood.serve.operations import Operation, Service
from latewood.serve.page.fields import fields_of
from latewood.serve.page.pictures import FIELD, patches, picture
from latewood.serve.problems import Problem
from latewood.serve.shapes import Body

MOST_HITS = 100
"""Hits that are explained at once."""
SAMPLE = 1000
"""Documents whose metadata are looked at for fields, spread evenly over the index."""


async def _ask(service: Service, name: str, ask: Callable[[Index], Any]) -> Any:
    served = service.of(name)
    answer, generation = await service.reading.submit(lambda items: [served.read(ask) for _ in items], None)
    return {**answer, "generation": generation}


async def hits(service: Service, name: str, body: Any) -> Any:
    """Answer one query, and explain each hit."""
    if body.k > MOST_HITS:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"the page shows {MOST_HITS} hits at most, not {body.k}")
    options = shapes.options_of(body)
    with_pictures = service.settings.images is not None

    def find(index: Index) -> Any:
        begun = time.perf_counter()
        found = index.search(shapes.query_of(body.query), **options, threads=service.threads())
        searched = time.perf_counter()
        service.metrics.searched(name, [found.stats])
        return {
            "html": found.to_html(explained=MOST_HITS),
            # As texts: a script has no integers beyond 2^53.
            "ids": [str(hit.id) for hit in found],
            "pictures": [_pictured(hit) if with_pictures else None for hit in found],
            "plan": found.plan,
            "stats": found.stats,
            "seconds": {"search": searched - begun, "explain": time.perf_counter() - searched},
        }

    return await _ask(service, name, find)


def _pictured(hit: Hit) -> dict[str, Any] | None:
    """Say that a hit has a picture, and how near its patches are to the query, where that can be told."""
    if FIELD not in (hit.metadata or {}):
        return None
    return {"patches": patches(hit.explain().matrix, hit.metadata)}


async def fields(service: Service, name: str, _: Any) -> Any:
    """Tell which fields there are to filter by, as far as a sample of the documents shows."""

    def look(index: Index) -> Any:
        ids = index.ids()
        sample = ids[:: max(1, len(ids) // SAMPLE)]
        return {"fields": fields_of(one.metadata for one in index.documents(sample)), "documents": len(sample)}

    return await _ask(service, name, look)


class Pictured(Body):
    """The document whose picture is asked for."""

    id: str


async def show_picture(service: Service, name: str, body: Pictured) -> Any:
    """Give the picture of a document."""
    folder = service.settings.images
    if folder is None:
        raise Problem(HTTPStatus.NOT_FOUND, "this service shows no pictures; start it with --images FOLDER")

    def look(index: Index) -> Any:
        key = int(body.id) if index.info()["id_kind"] == "int" else body.id
        (document,) = index.documents([key])
        return picture(Path(folder), document.metadata)

    return await _ask(service, name, look)


PAGE_OPERATIONS: tuple[Operation, ...] = (
    Operation("POST", "/page/{name}/hits", "read", "Hits, explained.", hits, shapes.Search),
    Operation("GET", "/page/{name}/fields", "read", "Fields of metadata.", fields),
    Operation("POST", "/page/{name}/picture", "read", "The picture of a document.", show_picture, Pictured),
)
