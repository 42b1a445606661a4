"""What a service allows, and whom."""

from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from latewood.errors import InvalidInputError
from latewood.forms.values import count_of, flag_of, number_of, path_of, shown

LEAST_TOKEN = 16
"""Characters of a token: shorter ones can be guessed."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a service allows, and whom.

    Parameters
    ----------
    timeout : float
        Seconds after which a request is answered with status 504, and its work stopped. A request may ask for less.
    max_body_bytes : int
        Of a request's body; larger ones are answered with status 413.
    max_queries, max_documents : int
        Of one request; hits and candidates of several queries may be eight times as many as documents.
    max_k : int
        Hits of one query, with those that `offset` leaves out.
    max_waiting : int
        Requests that wait for a thread at most; the next ones are answered with status 429.
    read_tokens, write_tokens : sequence of str
        Bearer tokens of who may ask, and of who may ask and change. Without any, everybody may do both.
    read_only : bool
        Nobody may change anything.
    hosts : sequence of str
        Names under which the service is asked besides those of the loopback interface, without a port; a request for
        another name is refused, so that no page of another site can reach a service on its reader's own machine. Where
        there are tokens, and no hosts, any name will do.
    log_queries : bool
        Whether the log may tell what was asked.
    images : path-like, optional
        A folder with pictures: the page shows those that the metadata field "image" of a document names by their paths
        in it. What is not in it, or leads out of it, is never read.

    Raises
    ------
    InvalidInputError
    """

    timeout: float = 30.0
    max_body_bytes: int = 32 << 20
    max_queries: int = 1024
    max_documents: int = 16_384
    max_k: int = 10_000
    max_waiting: int = 256
    read_tokens: tuple[str, ...] = ()
    write_tokens: tuple[str, ...] = ()
    read_only: bool = False
    hosts: tuple[str, ...] = ()
    log_queries: bool = False
    images: str | None = None

    def __post_init__(self) -> None:
        """Check all of it."""
        number = partial(number_of, least=0.001, most=1e6)
        checks: dict[Any, Any] = {bool: flag_of, int: count_of, float: number, str | None: _folder}
        for field in fields(self):
            check = checks.get(field.type, _words)
            object.__setattr__(self, field.name, check(getattr(self, field.name), field.name))
        for host in self.hosts:
            if ":" in host and not host.endswith("]"):
                message = f"hosts are names without a port, and IPv6 addresses in brackets; {shown(host)} is given"
                raise InvalidInputError(message)
        object.__setattr__(self, "hosts", tuple(host.lower() for host in self.hosts))
        for token in self.read_tokens + self.write_tokens:
            if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
                message = f"a token has {len(token)} characters; it needs {LEAST_TOKEN} or more, ASCII without spaces"
                raise InvalidInputError(message)

    @property
    def has_tokens(self) -> bool:
        """Whether who asks must say who they are."""
        return bool(self.read_tokens or self.write_tokens)


def _folder(given: Any, name: str) -> str | None:
    if given is None:
        return None
    folder = path_of(given, name)
    if not Path(folder).is_dir():
        message = f"{name} must be a folder; {shown(given)} is none"
        raise InvalidInputError(message)
    return folder


def _words(given: Any, name: str) -> tuple[str, ...]:
    if isinstance(given, (list, tuple)) and all(isinstance(word, str) and word for word in given):
        return tuple(given)
    message = f"{name} must be a list of str; {shown(given)} is given"
    raise InvalidInputError(message)
