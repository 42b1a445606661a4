"""The clients: one set of calls, awaited, or run to their ends."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

from latewood.client import calls
from latewood.client.sending import Sender
from latewood.common.signatures import shows
from latewood.common.types import Filter, Id, Metadata, MissingRule, Rescore, VectorInput
from latewood.errors import ServiceError
from latewood.forms.ragged import Ragged
from latewood.index.additions import Additions, AddKeywords
from latewood.index.explanation import Explanation
from latewood.index.options import RerankKeywords, RerankOptions, SearchKeywords, SearchOptions
from latewood.index.results import Document, Hits
from latewood.index.tuning import Tuning

P = ParamSpec("P")
T = TypeVar("T")


class AsyncClient(Sender):
    """An index behind a service, for programs that use asyncio: `Client` with methods to be awaited.

    Parameters
    ----------
    url, name, token, timeout, retries
        As for `Client`.

    Raises
    ------
    InvalidInputError, ServiceError, MissingDependencyError
        As for `Client`.

    Notes
    -----
    A hit cannot explain itself here, since `Hit.explain` is not awaited: ask `explain` of the client. Several tasks may
    use one client, and so may several event loops, each by connections of its own, which `async with` closes before a
    loop ends.
    """

    _kind, _transport = "AsyncClient", "AsyncHTTPTransport"

    def __init__(
        self, url: str, name: str | None = None, *, token: str | None = None, timeout: float = 60.0, retries: int = 3
    ) -> None:
        super().__init__(url, name, token, timeout, retries)

    async def close(self) -> None:
        """Close the connections; the next call opens others."""
        connected = self._let_go(asyncio.get_running_loop())
        if connected is not None:
            await connected.aclose()

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    @shows(SearchOptions)
    async def search(
        self,
        query: str | VectorInput,
        k: int = 10,
        *,
        ids: Iterable[Id] | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[SearchKeywords],
    ) -> Hits:
        """Find the k best documents for one query; parameters are those of `Index.search`."""
        return await self._send(calls.search(query, k, ids, weights, with_documents, options, self._explain))

    @shows(SearchOptions)
    async def search_batch(
        self,
        queries: Sequence[str] | VectorInput,
        k: int = 10,
        *,
        ids: Iterable[Id] | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[SearchKeywords],
    ) -> list[Hits]:
        """Find the k best documents for each of several queries; parameters are those of `Index.search_batch`."""
        return await self._send(calls.search_batch(queries, k, ids, weights, with_documents, options, self._explain))

    @shows(RerankOptions)
    async def rerank(
        self,
        query: str | VectorInput,
        candidates: object,
        scores: object = None,
        *,
        k: int | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[RerankKeywords],
    ) -> Hits:
        """Order candidates by MaxSim on the stored vectors; parameters are those of `Index.rerank`."""
        return await self._send(
            calls.rerank(query, candidates, scores, k, weights, with_documents, options, self._explain)
        )

    @shows(RerankOptions)
    async def rerank_batch(
        self,
        queries: Sequence[str] | VectorInput,
        candidates: object,
        scores: object = None,
        *,
        offsets: Any = None,
        k: int | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[RerankKeywords],
    ) -> list[Hits]:
        """Order the candidates of several queries, a list for each; parameters are those of `Index.rerank_batch`."""
        return await self._send(
            calls.rerank_batch(queries, candidates, scores, offsets, k, weights, with_documents, options, self._explain)
        )

    async def explain(
        self,
        query: str | VectorInput,
        id: Id,  # noqa: A002
        *,
        weights: Any = None,
        length_normalize: bool = False,
        rescore: Rescore | None = None,
    ) -> Explanation:
        """Show how a document's score comes about; parameters are those of `Index.explain`."""
        return await self._send(calls.explain(query, id, weights, length_normalize, rescore))

    @shows(Additions)
    async def add(
        self,
        ids: Iterable[Id],
        *,
        merge: bool = True,
        show_progress: bool | None = None,
        **documents: Unpack[AddKeywords],
    ) -> None:
        """Add documents in one commit; parameters are those of `Index.add`. The service encodes texts.

        All go in one request, of a size that the service limits, so that there is no progress to show.
        """
        await self._send(calls.add(ids, merge, show_progress, documents, upsert=False))

    @shows(Additions)
    async def upsert(
        self,
        ids: Iterable[Id],
        *,
        merge: bool = True,
        show_progress: bool | None = None,
        **documents: Unpack[AddKeywords],
    ) -> None:
        """Add or replace documents in one commit; otherwise as `add`."""
        await self._send(calls.add(ids, merge, show_progress, documents, upsert=True))

    async def delete(
        self,
        ids: Iterable[Id] | None = None,
        *,
        filter: Filter | None = None,  # noqa: A002
        missing: MissingRule = "error",
        merge: bool = True,
    ) -> int:
        """Delete documents in one commit; parameters and result are those of `Index.delete`."""
        return await self._send(calls.delete(ids, filter, missing, merge))

    async def update_metadata(
        self,
        ids: Iterable[Id] | None = None,
        metadata: Metadata | Sequence[Metadata] | None = None,
        *,
        filter: Filter | None = None,  # noqa: A002
        replace: bool = False,
        missing: MissingRule = "error",
        merge: bool = True,
    ) -> int:
        """Change metadata in one commit; parameters and result are those of `Index.update_metadata`."""
        return await self._send(calls.update_metadata(ids, metadata, filter, replace, missing, merge))

    async def documents(self, ids: Iterable[Id]) -> list[Document]:
        """Give stored documents without vectors, in the order of `ids`."""
        return await self._send(calls.documents(ids))

    async def vectors(self, ids: Iterable[Id]) -> Ragged:
        """Give stored token vectors, as `Index.vectors` does."""
        return await self._send(calls.vectors(ids))

    async def count(self, *, filter: Filter | None = None) -> int:  # noqa: A002
        """Count documents, or those that `filter` lets through."""
        return await self._send(calls.count(filter))

    async def info(self) -> dict[str, Any]:
        """Tell what the index is and has, as `Index.info` does, but for its path."""
        return await self._send(calls.info())

    async def check(self) -> list[str]:
        """Read every byte, and list what is wrong."""
        return await self._send(calls.check())

    async def refresh(self) -> bool:
        """Whether the index has another commit than this client was told of last; every answer is of the newest."""
        return await self._send(calls.refresh(self.generation))

    async def compact(self, *, threads: int | None = None) -> None:
        """Rewrite all segments as one. How many threads do it is the service's own affair."""
        await self._send(calls.compact(threads))

    async def tune(
        self,
        queries: Sequence[str] | VectorInput | None = None,
        *,
        recall: float = 0.99,
        k: int = 10,
        weights: Any = None,
        threads: int | None = None,
    ) -> Tuning:
        """Measure how thoroughly the index must look, and store that; parameters are those of `Index.tune`."""
        return await self._send(calls.tune(queries, recall, k, weights, threads))

    async def rerank_texts(
        self, query: str, documents: Sequence[str], top_n: int | None = None
    ) -> list[tuple[int, float]]:
        """Order texts, which the service encodes: places among `documents` and scores, best first."""
        return await self._send(calls.rerank_texts(query, documents, top_n))

    def _explain(self, body: dict[str, Any]) -> Explanation:
        message = f"hit {body['id']!r} was found by an AsyncClient: await its explain(query, {body['id']!r})"
        raise ServiceError(message)

    async def _request(self, **request: Any) -> Any:
        return await self._connection(asyncio.get_running_loop()).request(**request)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def finished(awaited: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never has to wait, since all that it awaits has ended by then."""
    try:
        awaited.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    message = "a blocking call waited for an event loop"
    raise RuntimeError(message)


def blocking(call: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Any, P], T]:
    """Make the same call for programs without an event loop."""

    @wraps(call)
    def run(self: Any, /, *arguments: P.args, **named: P.kwargs) -> T:
        return finished(call(self, *arguments, **named))

    return run


class Client(Sender):
    """An index behind a service, with the methods of an `Index` (docs/serving.md).

    Parameters
    ----------
    url : str
        Of the service, such as "http://localhost:8000", or "unix:///run/latewood.sock" for a Unix socket of this path.
    name : str, optional
        The index there; without one, the client only reranks texts.
    token : str, optional
        If the service wants one. It is pickled with the client.
    timeout : float
        Seconds to wait for an answer, or for the next part of one that comes slowly.
    retries : int
        How often a request is sent again that the service was too busy for (429, 503), after the pause that it asks
        for if that is no longer than `timeout`, or that a broken connection has lost. A change is not sent again of
        which nobody knows whether it was made.

    Raises
    ------
    InvalidInputError
        No such address; and from calls, as from those of an index.
    ServiceError
        No answer, or one that is no error of the library; its `status` says which.
    MissingDependencyError
        The extra `client` is not installed.

    Notes
    -----
    Errors of the service are those that an index would raise. Every answer is of the newest commit. A hit's `explain`
    asks the service again, about the index as it is then; after feedback, about the query as it was given. Several
    threads may use one client, and a fork has connections of its own.
    """

    _kind, _transport = "Client", "HTTPTransport"

    def __init__(
        self, url: str, name: str | None = None, *, token: str | None = None, timeout: float = 60.0, retries: int = 3
    ) -> None:
        super().__init__(url, name, token, timeout, retries)

    def close(self) -> None:
        """Close the connections; the next call opens others."""
        connected = self._let_go(None)
        if connected is not None:
            connected.close()

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def __len__(self) -> int:
        """Count documents."""
        return self.count()

    search = blocking(AsyncClient.search)
    search_batch = blocking(AsyncClient.search_batch)
    rerank = blocking(AsyncClient.rerank)
    rerank_batch = blocking(AsyncClient.rerank_batch)
    explain = blocking(AsyncClient.explain)
    add = blocking(AsyncClient.add)
    upsert = blocking(AsyncClient.upsert)
    delete = blocking(AsyncClient.delete)
    update_metadata = blocking(AsyncClient.update_metadata)
    documents = blocking(AsyncClient.documents)
    vectors = blocking(AsyncClient.vectors)
    count = blocking(AsyncClient.count)
    info = blocking(AsyncClient.info)
    check = blocking(AsyncClient.check)
    refresh = blocking(AsyncClient.refresh)
    compact = blocking(AsyncClient.compact)
    tune = blocking(AsyncClient.tune)
    rerank_texts = blocking(AsyncClient.rerank_texts)

    def _explain(self, body: dict[str, Any]) -> Explanation:
        return finished(self._send(calls.explained(body)))

    # These have done what they do by the time they are awaited.

    async def _request(self, **request: Any) -> Any:
        return self._connection(None).request(**request)

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)
