"""The page at `/`: its files, and what it asks for beside the service's own operations."""

import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from starlette.responses import Response

from latewood.index.index import Index
from latewood.index.results import EXPLAINED
from latewood.serve import shapes
from latewood.serve.operations import Operation, Service, limit, read
from latewood.show import html

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""Nothing runs but the page's own files, whatever a document's text holds."""
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
OWN = ("page.css", "page.js", "icon.svg")
SHARED = ("show.css", "show.js")
SAMPLE = 500
"""Documents whose metadata say which fields there are."""
MOST_VALUES = 50
"""Values of a field that are told."""


def page_files() -> dict[str, Callable[[], Response]]:
    """Give the page's files by their paths."""
    folder = files(__package__).joinpath("page")
    texts = {"/": ("html", folder.joinpath("index.html").read_text(encoding="utf-8"))}
    for name in OWN:
        texts[f"/page/{name}"] = (name.rpartition(".")[2], folder.joinpath(name).read_text(encoding="utf-8"))
    for name in SHARED:
        texts[f"/page/{name}"] = (name.rpartition(".")[2], html.asset(name))

    def answer(kind: str, text: str) -> Callable[[], Response]:
        return lambda: Response(text, media_type=KINDS[kind], headers=dict(HEADERS))

    return {path: answer(kind, text) for path, (kind, text) in texts.items()}


async def search(service: Service, _: str, body: Any) -> Any:
    """Answer what is typed, as a fragment of HTML."""
    served = service.of(body.index)
    limit(body.k, min(service.settings.max_k, 100), "hits on a page")
    options = shapes.options_of(body, "index", "exact", "k")

    def ask(index: Index) -> Any:
        hits = index.search(body.query, body.k, **options, threads=service.threads())
        exact = None
        if body.exact:
            complete = index.search(
                body.query, body.k, filter=body.filter, gather="exact", with_documents=False, threads=service.threads()
            )
            exact = len({hit.id for hit in hits} & {hit.id for hit in complete})
        query, listed = hits.to_html_parts(explained=EXPLAINED)
        return {
            "query": query,
            "html": listed,
            "ids": [str(hit.id) for hit in hits],
            "asked": body.k,
            "exact": exact,
            "plan": hits.plan,
            "stats": hits.stats,
        }

    def find() -> Any:
        found, generation = served.read(ask)
        service.metrics.searched(body.index, [found["stats"]])
        return {**found, "generation": generation}

    return await read(service, find)


async def fields(service: Service, _: str, body: Any) -> Any:
    """Tell which fields the first documents have, and the values of each, if these are words, numbers or truths."""
    served = service.of(body.index)

    def ask(index: Index) -> Any:
        seen: dict[str, dict[str, Any]] = {}
        for document in index.documents(list(index.ids()[:SAMPLE])):
            for field, value in (document.metadata or {}).items():
                for one in value if isinstance(value, list) else [value]:
                    if isinstance(one, (str, int, float, bool)):
                        seen.setdefault(field, {})[json.dumps(one)] = one
        return [
            {"field": field, "values": sorted(values.values(), key=lambda value: (str(type(value)), value))}
            for field, values in sorted(seen.items())
            if len(values) <= MOST_VALUES
        ]

    found, generation = await read(service, lambda: served.read(ask))
    return {"fields": found, "generation": generation}


PAGE_OPERATIONS = (
    Operation("POST", "/page/search", "read", "What the page shows of a search.", search, shapes.PageSearch),
    Operation("POST", "/page/fields", "read", "What the page can filter by.", fields, shapes.PageFields),
)
"""What the page asks for; its answers may change with it."""
