"""The ASGI application: a request is let in, read, checked, handed to its operation, and answered."""

import asyncio
import logging
import os
import time
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from latewood.common.processors import processors
from latewood.errors import InvalidInputError, LatewoodError
from latewood.forms.values import threads_of
from latewood.index.index import Index
from latewood.rerank.reranker import Reranker
from latewood.serve.access import check_content_type, check_host, check_scope
from latewood.serve.openapi import description
from latewood.serve.operations import OPERATIONS, Operation, Service
from latewood.serve.page.files import page_files
from latewood.serve.page.operations import PAGE_OPERATIONS
from latewood.serve.problems import CONTENT_TYPE, Problem, problem_of
from latewood.serve.served import ServedIndex
from latewood.serve.settings import Settings
from latewood.serve.shapes import remedied
from latewood.serve.work import unless

LOG = logging.getLogger("latewood.serve")
NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
CLIENT_LEFT = 499
"""How logs and counts call an answer that nobody waited for."""


def application(
    indexes: Mapping[str, Index | str | os.PathLike[str]] | None = None,
    *,
    encoder: Any = None,
    reranker: Reranker | None = None,
    settings: Settings | None = None,
    threads: int | None = None,
) -> Starlette:
    """Make the ASGI application of a service.

    Parameters
    ----------
    indexes : mapping of str to Index or path-like, optional
        By the names that their paths have; letters, digits and `-_.`.
    encoder : Encoder or str, optional
        Of indexes that are given by their paths, but for those that were made with the encoder inside the wheel;
        "recorded" for the one that each was made with.
    reranker : Reranker, optional
        Of texts that come with a request; by default with the encoder inside the wheel, loaded when it is needed.
    settings : Settings, optional
    threads : int, optional
        Requests, or batches of them, that are worked at at once; by default one for each processor.

    Raises
    ------
    InvalidInputError
        A name that a path cannot have, or no number of threads.
    IndexNotFoundError, CorruptIndexError
        As for `Index.open`.
    EncoderError, EncoderMismatchError
        As for `Index.use_encoder`.
    """
    chosen = settings or Settings()
    served = {_name(name): ServedIndex(name, index, encoder) for name, index in (indexes or {}).items()}
    service = Service(served, reranker or Reranker(), chosen, threads_of(threads) or processors())
    operations = OPERATIONS

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.ready = True
        yield
        service.ready = False
        for desk in (service.reading, *service.writing.values()):
            await desk.close()

    described = msgspec.json.encode(description(operations, with_tokens=chosen.has_tokens))
    # One route for each path, so that it knows all methods that there are.
    by_path: dict[str, dict[str, Operation]] = {}
    for one in (*operations, *PAGE_OPERATIONS):
        by_path.setdefault(one.path, {})[one.method] = one
    routes = [
        Route(path, _Answers(service, by_method), methods=[*by_method], include_in_schema=False)
        for path, by_method in by_path.items()
    ]
    routes += [_plain(service, path, "nobody", file.answer) for path, file in page_files().items()]
    routes += [
        _plain(service, "/openapi.json", "nobody", lambda _: Response(described, media_type="application/json")),
        _plain(service, "/healthz", "nobody", lambda _: Response('{"status":"ok"}', media_type="application/json")),
        _plain(service, "/readyz", "nobody", partial(_readiness, service)),
        _plain(service, "/metrics", "read", partial(_counts, service)),
    ]
    made = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _unknown})
    # A path has one spelling.
    made.router.redirect_slashes = False
    made.state.service = service
    return made


def _name(name: str) -> str:
    if name and NAME.issuperset(name) and name.strip("."):
        return name
    message = f"an index cannot be served as {name!r}; a name has letters, digits and -_. only"
    raise InvalidInputError(message)


def _plain(
    service: Service, path: str, scope: Any, answer: Callable[[Request], Response | Awaitable[Response]]
) -> Route:
    async def run(request: Request) -> Response:
        try:
            check_host(request, service.settings)
            check_scope(request, service.settings, scope)
            response = answer(request)
            return response if isinstance(response, Response) else await response
        # As of operations.
        except Exception as error:
            problem = problem_of(error)
            if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                told = {"time": time.time(), "method": "GET", "path": path, "status": int(problem.status)}
                LOG.exception(msgspec.json.encode(told).decode())
            return _told(problem, service.without_folders)

    return Route(path, run, methods=["GET"])


async def _readiness(service: Service, _: Request) -> Response:
    if not service.ready:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "the service is ending", Retry_After="1")
    if found := await service.problems():
        told = "; ".join(f"{name} cannot be read: {problem}" for name, problem in found.items())
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, told, Retry_After="1")
    return Response('{"status":"ready"}', media_type="application/json")


def _counts(service: Service, _: Request) -> Response:
    return Response(service.metrics.text(), media_type=service.metrics.content_type)


async def _unknown(request: Request, error: Exception) -> Response:
    """Answer what no route is for, as everything else is answered."""
    status = HTTPStatus(getattr(error, "status_code", HTTPStatus.NOT_FOUND))
    where = request.url.path[:200]
    message = f"{request.method[:20]} {where!r} is nothing that is asked here; /openapi.json tells what is"
    return _told(Problem(status, message, **(getattr(error, "headers", None) or {})))


def _told(problem: Problem, words: Callable[[str], str] = str) -> Response:
    told = problem.to_dict()
    body = msgspec.json.encode({**told, "detail": words(told["detail"])})
    return Response(body, int(problem.status), headers=problem.headers, media_type=CONTENT_TYPE)


class _Answers:
    """The ASGI application of one path: it answers requests, and counts and logs them."""

    def __init__(self, service: Service, operations: Mapping[str, Operation]) -> None:
        self.service = service
        self.operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, request = self.service, Request(scope, receive)
        # A route for GET lets HEAD in too.
        operation = self.operations[request.method.replace("HEAD", "GET")]
        asked = _Asked(time.perf_counter())
        fault: Exception | None = None
        try:
            check_host(request, service.settings)
            check_scope(request, service.settings, operation.scope)
            response = Response(await _done(service, operation, request, asked), media_type="application/json")
            status = response.status_code
        except (asyncio.CancelledError, ClientDisconnect):
            response, status = Response(status_code=HTTPStatus.NO_CONTENT), CLIENT_LEFT
        # Whatever it was, who asked is told, and the service goes on.
        except Exception as error:  # noqa: BLE001
            problem = problem_of(error)
            fault = error if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
            if fault is None:
                # Its frames hold the body, and some of them the error: only the collector could free all of it.
                error.__traceback__ = None
            response, status = _told(problem, service.without_folders), int(problem.status)
        seconds = time.perf_counter() - asked.begun
        service.metrics.answered(operation.path, status, seconds)
        _log(service, operation, request, asked.body, status, seconds, fault)
        await response(scope, receive, send)


@dataclass
class _Asked:
    begun: float
    whole: bool = False
    body: Any = None


async def _done(service: Service, operation: Operation, request: Request, asked: _Asked) -> bytes:
    seconds = service.settings.timeout
    name = request.path_params.get("name", "")
    # Before the body is read: who is turned away costs little, and is told at once.
    service.desk(operation.scope, name).admit()
    try:
        async with asyncio.timeout(seconds) as over:
            asked.body = await _body(request, operation, service.settings)
            asked.whole = True
            own = getattr(asked.body, "timeout", None)
            if own is not None and own < seconds:
                seconds = own
                over.reschedule(asyncio.get_running_loop().time() + own)
            async with unless(_gone(request)):
                answer = await operation.run(service, name, asked.body)
    except TimeoutError:
        raise _late(operation, seconds, whole=asked.whole) from None
    return msgspec.json.encode(answer)


def _late(operation: Operation, seconds: float, *, whole: bool) -> Problem:
    if not whole:
        message = f"the body did not come in {seconds:g} seconds"
        return Problem(HTTPStatus.REQUEST_TIMEOUT, message, Connection="close")
    message = f"not done in {seconds:g} seconds, and stopped"
    if operation.scope != "write":
        return Problem(HTTPStatus.GATEWAY_TIMEOUT, message, error="StoppedError")
    message += "; whether the change was made before, the index tells: look before you repeat it"
    return Problem(HTTPStatus.GATEWAY_TIMEOUT, message)


async def _gone(request: Request) -> None:
    """Wait until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request, operation: Operation, settings: Settings) -> Any:
    """Read and check the body, and no more of it than it may have."""
    if operation.body is None:
        return None
    check_content_type(request)
    most = settings.max_body_bytes
    too_large = Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body has more than {most} bytes; divide what is asked",
        Connection="close",
    )
    length = request.headers.get("content-length")
    if length is not None and length.isdigit() and int(length) > most:
        raise too_large
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > most:
            raise too_large
    # Some programs put a mark before it, which says that it is UTF-8.
    text = bytes(parts).removeprefix(BOM_UTF8)
    try:
        return msgspec.json.decode(text, type=operation.body)
    except msgspec.ValidationError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, remedied(str(error), operation.body)) from None
    except msgspec.DecodeError:
        # Versions of msgspec say in their own ways that it is none.
        text.decode()
        raise


def _log(
    service: Service, operation: Operation, request: Request, body: Any, status: int, seconds: float, fault: Any
) -> None:
    if fault is None and not LOG.isEnabledFor(logging.INFO):
        return
    told: dict[str, Any] = {
        "time": time.time(),
        "method": operation.method,
        "path": operation.path,
        "index": request.path_params.get("name"),
        "status": status,
        "ms": round(1e3 * seconds, 3),
    }
    if service.settings.log_queries:
        asked = getattr(body, "query", None) or getattr(body, "queries", None)
        told["query"] = [one for one in (asked if isinstance(asked, list) else [asked]) if isinstance(one, str)]
    if isinstance(fault, LatewoodError):
        told["error"] = f"{type(fault).__name__}: {fault}"
    LOG.log(
        logging.ERROR if fault is not None else logging.INFO,
        msgspec.json.encode(told).decode(),
        exc_info=fault if fault is not None and not isinstance(fault, (LatewoodError, Problem)) else None,
    )
