"""LangChain: a document compressor, a retriever, and both as parts of a chain (docs/integrations/langchain.md)."""

from collections.abc import Mapping, Sequence
from typing import Any

from latewood.common.packages import import_optional

import_optional("langchain_core", extra="langchain", purpose="the adapter for LangChain")

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
    Callbacks,
)
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda, run_in_executor
from pydantic import ConfigDict, PrivateAttr

from latewood.errors import InvalidInputError
from latewood.forms.values import count_of, optional, shown, text_of
from latewood.integrations.ranking import (
    Made,
    Searcher,
    Source,
    options_of,
    ranked,
    searcher_of,
    source_of,
)

SCORE = "relevance_score"
"""The name under which LangChain's rerankers leave a score in a document's metadata."""


class LatewoodRerank(BaseDocumentCompressor):
    """Puts documents into the order of MaxSim: by the vectors that an index keeps of them, or by their texts.

    Parameters
    ----------
    index : Index or path-like, optional
        Holds the documents under their `Document.id`.
    model : Reranker, MultiVectorEncoder, Encoder or str, optional
        Scores the texts of documents, which are encoded at each call. The encoder inside the wheel by default.
    top_n : int, optional
        How many documents to give back; all by default.
    id_key : str, optional
        The metadata field that holds a document's id in the index, in the place of `Document.id`.
    options : mapping, optional
        Further keyword arguments of `Index.rerank` or `Reranker.rank`, such as `{"missing": "skip"}`.

    Raises
    ------
    InvalidInputError
        Both `index` and `model`, or an option that does not fit, at once; a document without an id, when it comes.
    UnknownIdError
        A document that the index does not hold, unless the option `missing` is "skip".
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    index: Any = None
    model: Any = None
    top_n: int | None = None
    id_key: str | None = None
    options: dict[str, Any]
    _source: Made[Source] = PrivateAttr()

    def __init__(
        self,
        *,
        index: Any = None,
        model: Any = None,
        top_n: int | None = None,
        id_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        # pydantic would make a ValidationError of what these raise.
        source = source_of(index, model, options)
        top_n, id_key = optional(count_of, top_n, "top_n"), optional(text_of, id_key, "id_key")
        super().__init__(index=index, model=model, top_n=top_n, id_key=id_key, options=options_of(options), **fields)
        self._source = Made(source_of, source, index, model)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks = None
    ) -> list[Document]:
        """Give copies of the best documents, best first, each with its score as metadata["relevance_score"]."""
        pairs = ranked(
            self._source.of(self.index, self.model),
            query,
            documents,
            key=self._id,
            content=lambda document: document.page_content,
            top_k=self.top_n,
            options=self.options,
        )
        return [
            document.model_copy(update={"metadata": {**document.metadata, SCORE: score}}) for document, score in pairs
        ]

    def as_runnable(self) -> Runnable[Mapping[str, Any], list[Document]]:
        """Give a part of a chain that takes {"query": str, "documents": list of Document}."""
        return RunnableLambda(self._of_a_chain, name="LatewoodRerank")

    def _of_a_chain(self, given: Any) -> list[Document]:
        if not isinstance(given, Mapping) or not {"query", "documents"} <= given.keys():
            message = f"the part before gives {shown(given)}; a mapping with 'query' and 'documents' is needed"
            raise InvalidInputError(message)
        return self.compress_documents(given["documents"], given["query"])

    def _id(self, document: Document) -> Any:
        return document.id if self.id_key is None else document.metadata.get(self.id_key)


class LatewoodRetriever(BaseRetriever):
    """Searches an index; documents have their id, text and metadata, and the score as metadata["relevance_score"].

    Parameters
    ----------
    index : Index, path-like, or anything with a method `search` such as TwoStage
        With an encoder. The text of a document that the index does not keep is "".
    k : int
        How many documents at most.
    options : mapping, optional
        Further keyword arguments of `search`, such as `{"filter": {"lang": "en"}}`. `invoke(query, k=3, filter=...)`
        overrides them for one call.

    Raises
    ------
    InvalidInputError
        What is no index, a `k` that is no count, or an option that does not fit, at once.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    index: Any
    k: int = 10
    options: dict[str, Any]
    _searcher: Made[Searcher] = PrivateAttr()

    def __init__(self, *, index: Any, k: int = 10, options: Mapping[str, Any] | None = None, **fields: Any) -> None:
        searcher = searcher_of(index, options)
        super().__init__(index=index, k=count_of(k, "k"), options=options_of(options), **fields)
        self._searcher = Made(searcher_of, searcher, index)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        hits = self._searcher.of(self.index).search(query, **{"k": self.k, **self.options, **options})
        return [
            Document(id=str(hit.id), page_content=hit.text or "", metadata={**(hit.metadata or {}), SCORE: hit.score})
            for hit in hits
        ]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        # LangChain's own takes no options.
        found: list[Document] = await run_in_executor(
            None, self._get_relevant_documents, query, run_manager=run_manager.get_sync(), **options
        )
        return found
