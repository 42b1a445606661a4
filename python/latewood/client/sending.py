"""Requests over httpx: addresses, tokens, what is tried again, and answers that are errors."""

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from latewood import errors
from latewood.client.calls import Call
from latewood.common.packages import import_optional
from latewood.errors import InvalidInputError, LatewoodError, ServiceError, TextTooLongError
from latewood.forms.values import count_of, number_of, optional, shown, text_of

T = TypeVar("T")
LONGEST_PAUSE = 10.0
"""Seconds to wait at most before a request is sent again."""


class Sender:
    """What both kinds of clients share: everything but the sending.

    Parameters
    ----------
    url : str
        Of the service.
    name : str or None
        The index there; None for a client that reranks texts only.
    token : str, optional
    timeout : float
        Seconds that an answer may take.
    retries : int
        How often a request is sent again that the service was too busy for.
    """

    _kind: str
    """The class of httpx."""

    def __init__(self, url: str, name: str | None, token: str | None, timeout: float, retries: int) -> None:
        self.url = text_of(url, "url").rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            message = f"url is {shown(url)}; give one such as 'http://localhost:8000'"
            raise InvalidInputError(message)
        self.name = optional(text_of, name, "name")
        self._token = optional(text_of, token, "token")
        self._timeout = number_of(timeout, "timeout", least=0.001, most=1e6)
        self._retries = count_of(retries, "retries", least=0)
        self._library = import_optional("httpx", extra="client", purpose="a client of a service")
        self._connected: tuple[int, Any] | None = None

    def __repr__(self) -> str:
        """Show the address."""
        return f"{type(self).__name__}({self.url!r}, {self.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the address, and the token with it."""
        return (_again, (type(self), self.url, self.name, self._token, self._timeout, self._retries))

    @property
    def http(self) -> Any:
        """The httpx client of this process: connections of another one are not its own."""
        known = self._connected
        if known is None or known[0] != os.getpid():
            headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
            made = getattr(self._library, self._kind)(headers=headers, timeout=self._timeout)
            known = self._connected = (os.getpid(), made)
        return known[1]

    def request(self, call: Call[Any]) -> dict[str, Any]:
        """Give the arguments of httpx' `request`."""
        if call.path.startswith("/v1/"):
            url = f"{self.url}{call.path}"
        elif self.name is None:
            message = f"{self!r} names no index; make a client with the name of one"
            raise InvalidInputError(message)
        else:
            url = f"{self.url}/v1/indexes/{_quoted(self.name)}{call.path}"
        return {"method": call.method, "url": url, **({} if call.body is None else {"json": call.body})}

    def pause(self, response: Any, tries: int) -> float | None:
        """Say how long to wait before a request is sent again; None if its answer stands."""
        if response.status_code != 429 or tries >= self._retries:
            return None
        wanted = response.headers.get("retry-after", "1")
        return min(float(wanted) if wanted.isdigit() else 1.0, LONGEST_PAUSE)

    def answered(self, call: Call[T], response: Any) -> T:
        """Read an answer, or raise the error that it is."""
        try:
            told = response.json()
        except ValueError:
            told = None
        if response.status_code == 200 and told is not None:
            return call.read(told)
        told = told if isinstance(told, Mapping) else {}
        detail = str(told.get("detail") or f"the answer of {self.url} has status {response.status_code}")
        kind = getattr(errors, str(told.get("error", "")), None)
        if response.status_code == 422 and kind is None:
            kind = InvalidInputError
        if isinstance(kind, type) and issubclass(kind, LatewoodError) and kind is not ServiceError:
            # Some are made of more than their message.
            raise (InvalidInputError if issubclass(kind, TextTooLongError) else kind)(detail)
        raise ServiceError(detail, response.status_code)

    def failed(self, error: Exception) -> ServiceError:
        """Tell what became of a request without an answer."""
        reason = str(error) or type(error).__name__
        return ServiceError(f"{self.url} gave no answer: {reason}; see that the service runs there")


def _quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")


def _again(kind: type[Any], url: str, name: str | None, token: str | None, timeout: float, retries: int) -> Any:
    return kind(url, name, token=token, timeout=timeout, retries=retries)
