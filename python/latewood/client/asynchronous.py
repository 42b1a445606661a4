"""The same client for asyncio."""

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from latewood.client import calls
from latewood.client.calls import Call
from latewood.client.sending import Sender
from latewood.common.signatures import shows
from latewood.common.types import Filter, Id, Metadata, MissingRule, Rescore, VectorInput
from latewood.encode.protocol import OnEmpty
from latewood.encode.windows import Long
from latewood.errors import LatewoodError
from latewood.forms.ragged import Ragged
from latewood.index.explanation import Explanation
from latewood.index.options import RerankKeywords, RerankOptions, SearchKeywords, SearchOptions
from latewood.index.results import Document, Hits
from latewood.index.tuning import Tuning

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
    A hit cannot explain itself here, since `Hit.explain` is not awaited: ask `explain` of the client.
    """

    _kind = "AsyncClient"

    def __init__(
        self, url: str, name: str | None = None, *, token: str | None = None, timeout: float = 60.0, retries: int = 3
    ) -> None:
        super().__init__(url, name, token, timeout, retries)

    async def close(self) -> None:
        """Close the connections; the next call opens others."""
        known, self._connected = self._connected, None
        if known is not None:
            await known[1].aclose()

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
        k: int | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[RerankKeywords],
    ) -> list[Hits]:
        """Order the candidates of several queries, a list for each; parameters are those of `Index.rerank_batch`."""
        return await self._send(
            calls.rerank_batch(queries, candidates, scores, k, weights, with_documents, options, self._explain)
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

    async def add(
        self,
        ids: Iterable[Id],
        *,
        texts: Sequence[str | None] | None = None,
        vectors: VectorInput | None = None,
        metadata: Sequence[Metadata | None] | None = None,
        store_texts: bool = True,
        on_empty: OnEmpty = "keep",
        long: Long | None = None,
    ) -> None:
        """Add documents in one commit; parameters are those of `Writer.add`. The service encodes texts."""
        await self._send(
            calls.add(
                ids,
                texts,
                vectors,
                metadata,
                {"store_texts": store_texts, "on_empty": on_empty, "long": long},
                upsert=False,
            )
        )

    async def upsert(
        self,
        ids: Iterable[Id],
        *,
        texts: Sequence[str | None] | None = None,
        vectors: VectorInput | None = None,
        metadata: Sequence[Metadata | None] | None = None,
        store_texts: bool = True,
        on_empty: OnEmpty = "keep",
        long: Long | None = None,
    ) -> None:
        """Add or replace documents in one commit; parameters are those of `add`."""
        await self._send(
            calls.add(
                ids,
                texts,
                vectors,
                metadata,
                {"store_texts": store_texts, "on_empty": on_empty, "long": long},
                upsert=True,
            )
        )

    async def delete(
        self,
        ids: Iterable[Id] | None = None,
        *,
        filter: Filter | None = None,  # noqa: A002
        missing: MissingRule = "error",
    ) -> int:
        """Delete documents in one commit; parameters and result are those of `Index.delete`."""
        return await self._send(calls.delete(ids, filter, missing))

    async def update_metadata(
        self,
        ids: Iterable[Id] | None = None,
        metadata: Metadata | Sequence[Metadata] | None = None,
        *,
        filter: Filter | None = None,  # noqa: A002
        replace: bool = False,
        missing: MissingRule = "error",
    ) -> int:
        """Change metadata in one commit; parameters and result are those of `Index.update_metadata`."""
        return await self._send(calls.update_metadata(ids, metadata, filter, replace, missing))

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

    async def refresh(self) -> int:
        """Give the newest generation, which every answer is of."""
        return await self._send(calls.refresh())

    async def compact(self) -> None:
        """Rewrite all segments as one."""
        await self._send(calls.compact())

    async def tune(
        self, queries: Sequence[str] | VectorInput | None = None, *, recall: float = 0.99, k: int = 10
    ) -> Tuning:
        """Measure how thoroughly the index must look, and store that; parameters are those of `Index.tune`."""
        return await self._send(calls.tune(queries, recall, k))

    async def rerank_texts(
        self, query: str, documents: Sequence[str], top_n: int | None = None
    ) -> list[tuple[int, float]]:
        """Order texts, which the service encodes: places among `documents` and scores, best first."""
        return await self._send(calls.rerank_texts(query, documents, top_n))

    def _explain(self, body: dict[str, Any]) -> Explanation:
        message = f"hit {body['id']!r} was found by an AsyncClient: await its explain(query, {body['id']!r})"
        raise LatewoodError(message)

    async def _send(self, call: Call[T]) -> T:
        request, tries = self.request(call), 0
        while True:
            try:
                response = await self.http.request(**request)
            except self._library.TransportError as error:
                raise self.failed(error) from error
            pause = self.pause(response, tries)
            if pause is None:
                return self.answered(call, response)
            await asyncio.sleep(pause)
            tries += 1
