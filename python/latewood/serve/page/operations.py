"""What the page asks that programs do not: hits with their texts shaded, fields to filter by, pictures."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from latewood.index.index import Index
from latewood.index.results import Hit, Hits
from latewood.serve import shapes
from latewood.serve.operations import Operation, Service
from latewood.serve.page.fields import fields_of
from latewood.serve.page.pictures import FIELD, patches, picture
from latewood.serve.problems import Problem

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
        found: Hits = index.search(shapes.query_of(body.query), **options, threads=service.threads())
        service.metrics.searched(name, [found.stats])
        return {
            "hits": [_shown(hit, with_pictures=with_pictures) for hit in found],
            "plan": found.plan,
            "stats": found.stats,
        }

    return await _ask(service, name, find)


def _shown(hit: Hit, *, with_pictures: bool) -> dict[str, Any]:
    explanation = hit.explain()
    pictured = with_pictures and FIELD in (hit.metadata or {})
    return {
        **hit.to_dict(),
        "patches": patches(explanation.matrix, hit.metadata) if pictured else None,
        "pictured": pictured,
    }


async def fields(service: Service, name: str, _: Any) -> Any:
    """Tell which fields there are to filter by, as far as a sample of the documents shows."""

    def look(index: Index) -> Any:
        ids = index.ids()
        sample = ids[:: max(1, len(ids) // SAMPLE)]
        return {"fields": fields_of(one.metadata for one in index.documents(sample)), "documents": len(sample)}

    return await _ask(service, name, look)


async def pictured(service: Service, name: str, body: Any) -> Any:
    """Give the pictures of documents."""
    folder = service.settings.images
    if folder is None:
        raise Problem(HTTPStatus.NOT_FOUND, "this service shows no pictures; start it with --images FOLDER")

    def look(index: Index) -> Any:
        return {"pictures": [picture(folder, one.metadata) for one in index.documents(body.ids[:1])]}

    return await _ask(service, name, look)


PAGE_OPERATIONS: tuple[Operation, ...] = (
    Operation("POST", "/page/{name}/hits", "read", "Hits, explained.", hits, shapes.Search),
    Operation("GET", "/page/{name}/fields", "read", "Fields of metadata.", fields),
    Operation("POST", "/page/{name}/picture", "read", "The picture of a document.", pictured, shapes.Get),
)
