"""Requests over httpx: addresses, tokens, what is tried again, and answers that are errors."""

import json
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote

from latewood import errors
from latewood.client.calls import Call
from latewood.common.packages import import_optional
from latewood.errors import InvalidInputError, LatewoodError, ServiceError, TextTooLongError
from latewood.forms.values import count_of, number_of, optional, shown, text_of
from latewood.index.explanation import Explanation

T = TypeVar("T")

BUSY = (429, 503)
"""Nothing was done, and the answer may say when to ask again."""
SOCKET = "unix://"
"""Before the path of a Unix socket."""
FIRST_PAUSE = 0.1
"""Seconds before a request is sent again where no answer says how long; doubled each time."""


class Sender(ABC):
    """What both kinds of clients share: the addresses, the tries, and what answers become.

    Parameters
    ----------
    url : str
        Of the service, or of its socket.
    name : str or None
        The index there; None for a client that reranks texts only.
    token : str, optional
    timeout : float
        Seconds to wait for an answer, or for the next part of one that comes slowly.
    retries : int
        How often a request is sent again.
    """

    _kind: str
    _transport: str
    """The classes of httpx."""

    def __init__(self, url: Any, name: Any, token: Any, timeout: Any, retries: Any) -> None:
        self._library = import_optional("httpx", extra="client", purpose="a client of a service")
        self.url = text_of(url, "url").rstrip("/")
        self._base, self._options = self._way(self.url)
        self.name = optional(_name, name, "name")
        self._token = optional(_token, token, "token")
        self._timeout = number_of(timeout, "timeout", least=0.001, most=1e6)
        self._retries = count_of(retries, "retries", least=0)
        self._connected: dict[Any, Any] = {}
        self.generation: int | None = None
        """Of the commit that the last answer was of."""

    def __repr__(self) -> str:
        """Show the address."""
        return f"{type(self).__name__}({self.url!r}, {self.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the address, and the token with it."""
        return (_again, (type(self), self.url, self.name, self._token, self._timeout, self._retries))

    @abstractmethod
    async def _request(self, **request: Any) -> Any:
        """Send a request, and give its answer."""

    @abstractmethod
    async def _sleep(self, seconds: float) -> None:
        """Wait."""

    @abstractmethod
    def _explain(self, body: dict[str, Any]) -> Explanation:
        """Ask for a hit to be explained, at once."""

    async def _send(self, call: Call[T]) -> T:
        """Send a request as often as it takes, and read the answer."""
        request, tries = self._asked(call), 0
        while True:
            try:
                response = await self._request(**request)
            except self._library.TransportError as error:
                pause = self._pause_after_failure(error, tries, call)
                if pause is None:
                    reason = str(error) or type(error).__name__
                    message = f"{self.url} gave no answer: {reason}; see that the service runs there"
                    raise ServiceError(message) from error
            else:
                pause = self._pause_after_answer(response, tries)
                if pause is None:
                    return self._answered(call, response)
            tries += 1
            # Many clients that were turned away at once must not come back at once.
            await self._sleep(pause * random.uniform(1.0, 1.25))  # noqa: S311

    def _asked(self, call: Call[Any]) -> dict[str, Any]:
        """Give the arguments of httpx' `request`."""
        if call.path.startswith("/v1/"):
            url = f"{self._base}{call.path}"
        elif self.name is None:
            message = f"{self!r} names no index; make a client with the name of one"
            raise InvalidInputError(message)
        else:
            url = f"{self._base}/v1/indexes/{quote(self.name, safe='')}{call.path}"
        request: dict[str, Any] = {"method": call.method, "url": url}
        if call.body is not None:
            request["content"] = json.dumps(call.body, ensure_ascii=False, separators=(",", ":")).encode()
            request["headers"] = {"content-type": "application/json"}
        return request

    def _pause_after_failure(self, error: Exception, tries: int, call: Call[Any]) -> float | None:
        """Say how long to wait before a request is sent again that has no answer; None if it must not be."""
        http = self._library
        unsent = isinstance(error, (http.ConnectError, http.PoolTimeout))
        # A connection that was kept open may have been closed by the time it is used again.
        broken = isinstance(error, (http.NetworkError, http.RemoteProtocolError))
        again = tries < self._retries and (unsent or (broken and call.repeatable))
        return FIRST_PAUSE * 2.0**tries if again else None

    def _pause_after_answer(self, response: Any, tries: int) -> float | None:
        """Say how long to wait before a request is sent again; None if its answer stands."""
        if response.status_code not in BUSY or tries >= self._retries:
            return None
        wanted = _seconds(response.headers.get("retry-after"))
        pause = FIRST_PAUSE * 2.0**tries if wanted is None else wanted
        return pause if pause <= self._timeout else None

    def _answered(self, call: Call[T], response: Any) -> T:
        """Read an answer, or raise the error that it is."""
        try:
            # Unlike others, it reads whole numbers of any size, which metadata may have.
            told = json.loads(response.content)
        except (ValueError, RecursionError):
            told = None
        if response.status_code == 200 and isinstance(told, Mapping):
            try:
                answer = call.read(told)
                self.generation = told.get("generation", self.generation)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                message = f"the answer of {self.url} is not that of a latewood service: {type(error).__name__} {error}"
                raise ServiceError(message, response.status_code) from error
            return answer
        told = told if isinstance(told, Mapping) else {}
        elsewhere = f", and leads to {response.headers['location']}" if "location" in response.headers else ""
        detail = str(told.get("detail") or f"the answer of {self.url} has status {response.status_code}{elsewhere}")
        kind = getattr(errors, str(told.get("error", "")), None)
        if response.status_code == 422 and kind is None:
            kind = InvalidInputError
        if isinstance(kind, type) and issubclass(kind, LatewoodError) and kind is not ServiceError:
            # Some are made of more than their message.
            raise (InvalidInputError if issubclass(kind, TextTooLongError) else kind)(detail)
        raise ServiceError(detail, response.status_code)

    def _connection(self, place: Any) -> Any:
        """Give the httpx client of this process, and of an event loop if that is the place.

        A forked child must not write into its parent's connections, and one event loop cannot wait for another's. Those
        that are left behind stay as they are: to close them would end what the parent says. Those of an event loop that
        has ended are let go.
        """
        key = (os.getpid(), place)
        if key not in self._connected:
            for other in list(self._connected):
                if other[1] is not None and other[1].is_closed():
                    self._connected.pop(other, None)
            headers = {} if self._token is None else {"authorization": f"Bearer {self._token}"}
            # Without a transport of its own, httpx asks the environment for proxies.
            options = {"transport": getattr(self._library, self._transport)(**self._options)} if self._options else {}
            try:
                made = getattr(self._library, self._kind)(headers=headers, timeout=self._timeout, **options)
            except (ImportError, OSError, ValueError, self._library.InvalidURL) as error:
                message = f"{self.url} cannot be asked: {error}; see the proxies and certificates of the environment"
                raise ServiceError(message) from error
            # Of two threads that come at once, both get what the first has made.
            return self._connected.setdefault(key, made)
        return self._connected[key]

    def _let_go(self, place: Any) -> Any:
        """Give the same to be closed, if there is one."""
        return self._connected.pop((os.getpid(), place), None)

    def _way(self, url: str) -> tuple[str, dict[str, Any]]:
        """Give the address that requests are sent to, and options of the transport that leads there."""
        if url.startswith(f"{SOCKET}/") and "\0" not in url:
            return "http://localhost", {"uds": url.removeprefix(SOCKET)}
        try:
            parsed = self._library.URL(url)
            known = parsed.scheme in ("http", "https") and parsed.host and not (parsed.query or parsed.fragment)
            known = known and url.split() == [url]
        except self._library.InvalidURL:
            known = False
        if not known:
            message = f"url is {shown(url)}; give one such as 'http://localhost:8000' or 'unix:///run/latewood.sock'"
            raise InvalidInputError(message)
        if parsed.userinfo:
            message = "url has a user or a password in it, which messages would show; a token goes into token="
            raise InvalidInputError(message)
        return url, {}


def _name(given: Any, what: str) -> str:
    text = text_of(given, what)
    if not text.strip("."):
        message = f"{what} is {shown(given)}, which no index has"
        raise InvalidInputError(message)
    return text


def _token(given: Any, what: str) -> str:
    text = text_of(given, what)
    # It becomes a part of a header, where a line's end would begin another.
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        message = f"{what} is not one word of ASCII; give one that the service knows"
        raise InvalidInputError(message)
    return text


def _seconds(given: str | None) -> float | None:
    """Read what `Retry-After` says: seconds, or a date."""
    if given is None or given.isdecimal():
        return None if given is None else float(given)
    try:
        return max(0.0, (parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _again(kind: type[Any], url: str, name: str | None, token: str | None, timeout: float, retries: int) -> Any:
    return kind(url, name, token=token, timeout=timeout, retries=retries)
