"""A client of a service that is used as an index is."""

import time
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
from latewood.forms.ragged import Ragged
from latewood.index.explanation import Explanation
from latewood.index.options import RerankKeywords, RerankOptions, SearchKeywords, SearchOptions
from latewood.index.results import Document, Hits
from latewood.index.tuning import Tuning

T = TypeVar("T")


class Client(Sender):
    """An index behind a service, with the methods of an `Index` (docs/serving.md).

    Parameters
    ----------
    url : str
        Of the service, such as "http://localhost:8000".
    name : str, optional
        The index there; without one, the client only reranks texts.
    token : str, optional
        If the service wants one. It is pickled with the client.
    timeout : float
        Seconds that an answer may take.
    retries : int
        How often a request is sent again that the service was too busy for (status 429), after the pause that it
        asks for.

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

    _kind = "Client"

    def __init__(
        self, url: str, name: str | None = None, *, token: str | None = None, timeout: float = 60.0, retries: int = 3
    ) -> None:
        super().__init__(url, name, token, timeout, retries)

    def close(self) -> None:
        """Close the connections; the next call opens others."""
        known, self._connected = self._connected, None
        if known is not None:
            known[1].close()

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

    @shows(SearchOptions)
    def search(
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
        return self._send(calls.search(query, k, ids, weights, with_documents, options, self._explain))

    @shows(SearchOptions)
    def search_batch(
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
        return self._send(calls.search_batch(queries, k, ids, weights, with_documents, options, self._explain))

    @shows(RerankOptions)
    def rerank(
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
        return self._send(calls.rerank(query, candidates, scores, k, weights, with_documents, options, self._explain))

    @shows(RerankOptions)
    def rerank_batch(
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
        return self._send(
            calls.rerank_batch(queries, candidates, scores, k, weights, with_documents, options, self._explain)
        )

    def explain(
        self,
        query: str | VectorInput,
        id: Id,  # noqa: A002
        *,
        weights: Any = None,
        length_normalize: bool = False,
        rescore: Rescore | None = None,
    ) -> Explanation:
        """Show how a document's score comes about; parameters are those of `Index.explain`."""
        return self._send(calls.explain(query, id, weights, length_normalize, rescore))

    def add(
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
        self._send(
            calls.add(
                ids,
                texts,
                vectors,
                metadata,
                {"store_texts": store_texts, "on_empty": on_empty, "long": long},
                upsert=False,
            )
        )

    def upsert(
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
        self._send(
            calls.add(
                ids,
                texts,
                vectors,
                metadata,
                {"store_texts": store_texts, "on_empty": on_empty, "long": long},
                upsert=True,
            )
        )

    def delete(
        self,
        ids: Iterable[Id] | None = None,
        *,
        filter: Filter | None = None,  # noqa: A002
        missing: MissingRule = "error",
    ) -> int:
        """Delete documents in one commit; parameters and result are those of `Index.delete`."""
        return self._send(calls.delete(ids, filter, missing))

    def update_metadata(
        self,
        ids: Iterable[Id] | None = None,
        metadata: Metadata | Sequence[Metadata] | None = None,
        *,
        filter: Filter | None = None,  # noqa: A002
        replace: bool = False,
        missing: MissingRule = "error",
    ) -> int:
        """Change metadata in one commit; parameters and result are those of `Index.update_metadata`."""
        return self._send(calls.update_metadata(ids, metadata, filter, replace, missing))

    def documents(self, ids: Iterable[Id]) -> list[Document]:
        """Give stored documents without vectors, in the order of `ids`."""
        return self._send(calls.documents(ids))

    def vectors(self, ids: Iterable[Id]) -> Ragged:
        """Give stored token vectors, as `Index.vectors` does."""
        return self._send(calls.vectors(ids))

    def count(self, *, filter: Filter | None = None) -> int:  # noqa: A002
        """Count documents, or those that `filter` lets through."""
        return self._send(calls.count(filter))

    def info(self) -> dict[str, Any]:
        """Tell what the index is and has, as `Index.info` does, but for its path."""
        return self._send(calls.info())

    def check(self) -> list[str]:
        """Read every byte, and list what is wrong."""
        return self._send(calls.check())

    def refresh(self) -> int:
        """Give the newest generation, which every answer is of."""
        return self._send(calls.refresh())

    def compact(self) -> None:
        """Rewrite all segments as one."""
        self._send(calls.compact())

    def tune(self, queries: Sequence[str] | VectorInput | None = None, *, recall: float = 0.99, k: int = 10) -> Tuning:
        """Measure how thoroughly the index must look, and store that; parameters are those of `Index.tune`."""
        return self._send(calls.tune(queries, recall, k))

    def rerank_texts(self, query: str, documents: Sequence[str], top_n: int | None = None) -> list[tuple[int, float]]:
        """Order texts, which the service encodes: places among `documents` and scores, best first."""
        return self._send(calls.rerank_texts(query, documents, top_n))

    def _explain(self, body: dict[str, Any]) -> Explanation:
        return self._send(calls.explained(body))

    def _send(self, call: Call[T]) -> T:
        request, tries = self.request(call), 0
        while True:
            try:
                response = self.http.request(**request)
            except self._library.TransportError as error:
                raise self.failed(error) from error
            pause = self.pause(response, tries)
            if pause is None:
                return self.answered(call, response)
            time.sleep(pause)
            tries += 1
