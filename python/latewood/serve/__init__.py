"""Indexes and a reranker over HTTP (docs/serving.md): `application` is an ASGI application, `run` serves it."""

from latewood.common.packages import import_optional

for _package in ("msgspec", "starlette", "uvicorn", "prometheus_client"):
    import_optional(_package, extra="serve", purpose="a service")

from latewood.serve.application import application  # noqa: E402  what it needs is named first
from latewood.serve.process import run  # noqa: E402
from latewood.serve.settings import Settings  # noqa: E402

__all__ = ["Settings", "application", "run"]
