"""Who may ask: the name under which a service is asked, bearer tokens, and what a page of another site cannot send."""

import hmac
import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus

from starlette.requests import Request

from latewood.serve.problems import Problem
from latewood.serve.settings import Settings


@lru_cache(64)
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host(request: Request, settings: Settings) -> None:
    """Refuse a request for another host: a name of a stranger's, which leads here, must not make his pages ours."""
    hosts = request.headers.getlist("host")
    if len(hosts) > 1:
        raise Problem(HTTPStatus.BAD_REQUEST, "a request names one host, and this one names several")
    host = hosts[0].lower() if hosts else ""
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    any_name = settings.has_tokens and not settings.hosts
    if not (any_name or name in settings.hosts or is_loopback(name.strip("[]"))):
        message = f"this service is not asked as {host[:100]!r}; start it with that name among its hosts"
        raise Problem(HTTPStatus.MISDIRECTED_REQUEST, message)


def check_scope(request: Request, settings: Settings, scope: str) -> None:
    """Refuse who has no token for this, where tokens are needed."""
    if scope == "nobody" or not settings.has_tokens:
        return
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    given = given.strip() if kind.lower() == "bearer" else ""
    may_write = _is_one_of(given, settings.write_tokens)
    may_read = _is_one_of(given, settings.read_tokens) or may_write
    if not may_read:
        message = "give a token of this service: Authorization: Bearer TOKEN"
        raise Problem(HTTPStatus.UNAUTHORIZED, message, WWW_Authenticate="Bearer")
    if scope == "write" and not may_write:
        message = "this token may read, and not write"
        raise Problem(HTTPStatus.FORBIDDEN, message)


def _is_one_of(given: str, tokens: Iterable[str]) -> bool:
    """Compare with all, each in a time that says nothing of where they differ."""
    found = False
    for token in tokens:
        found |= hmac.compare_digest(given.encode(), token.encode())
    return found


def check_content_type(request: Request) -> None:
    """Refuse what a form of another site's page can send unasked, and what would have to be unpacked first."""
    kind, *parameters = (part.strip() for part in request.headers.get("content-type", "").lower().split(";"))
    if kind != "application/json":
        message = f"the body must be application/json, not {kind[:100] or 'of no type'}"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
    for name, _, value in (parameter.partition("=") for parameter in parameters):
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8", "us-ascii"):
            message = f"JSON comes as UTF-8, and not as {value[:100]}"
            raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
    packed = request.headers.get("content-encoding", "identity")
    if packed.lower() != "identity":
        message = f"the body must come as it is, not as {packed[:100]}; leave content-encoding out"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
