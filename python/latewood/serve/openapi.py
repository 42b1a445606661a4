"""The description of a service that OpenAPI has: from its operations and the shapes of their bodies."""

from collections.abc import Sequence
from typing import Any

import msgspec

from latewood._core import __version__
from latewood.serve.operations import Operation
from latewood.serve.problems import CONTENT_TYPE

_PROBLEM = {
    "type": "object",
    "required": ["status", "title", "detail"],
    "properties": {
        "status": {"type": "integer"},
        "title": {"type": "string"},
        "detail": {"type": "string"},
        "error": {"type": "string", "description": "The class of the error in `latewood.errors`."},
    },
}


def description(operations: Sequence[Operation], *, with_tokens: bool) -> dict[str, Any]:
    """Give the OpenAPI document."""
    bodies = list({id(one.body): one.body for one in operations if one.body is not None}.values())
    references, components = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    shapes = {id(body): reference for body, reference in zip(bodies, references, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        told: dict[str, Any] = {
            "summary": one.summary,
            "operationId": f"{one.method.lower()}{one.path.replace('/', '_').replace('{name}', 'name')}",
            "responses": {
                "200": {
                    "description": "The answer.",
                    "content": {"application/json": {"schema": {"type": "object"}}},
                },
                "default": {
                    "description": "A problem (RFC 9457).",
                    "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                },
            },
        }
        if "{name}" in one.path:
            name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
            told["parameters"] = [name]
        if one.body is not None:
            content = {"schema": shapes[id(one.body)], "example": one.example}
            told["requestBody"] = {"required": True, "content": {"application/json": content}}
        if with_tokens:
            told["security"] = [{"token": []}]
        paths.setdefault(one.path, {})[one.method.lower()] = told
    all_components: dict[str, Any] = {"schemas": {**components, "Problem": _PROBLEM}}
    if with_tokens:
        all_components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "latewood", "version": __version__, "description": "Late interaction over HTTP."},
        "paths": paths,
        "components": all_components,
    }
