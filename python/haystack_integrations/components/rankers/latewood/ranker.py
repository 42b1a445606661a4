"""A ranker: documents in the order of MaxSim (docs/integrations/haystack.md)."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from latewood.common.packages import import_optional

import_optional("haystack", extra="haystack", purpose="the adapter for Haystack")

from haystack import Document, component, default_from_dict, default_to_dict

from latewood.forms.values import count_of, optional, text_of
from latewood.integrations.haystack_forms import one_query
from latewood.integrations.ranking import Made, load, options_of, ranked, source_of, written


@component
class LatewoodRanker:
    """Puts documents into the order of MaxSim: by the vectors that an index keeps of them, or by their texts.

    Parameters
    ----------
    index : Index or path-like, optional
        Holds the documents under their `Document.id`.
    model : Reranker, MultiVectorEncoder, Encoder or str, optional
        Scores the texts of documents, which are encoded at each call. The encoder inside the wheel by default.
    top_k : int, optional
        How many documents to give back; all by default.
    id_key : str, optional
        The field of `Document.meta` that holds a document's id in the index, in the place of `Document.id`.
    options : mapping, optional
        Further keyword arguments of `Index.rerank` or `Reranker.rank`, such as `{"missing": "skip"}`.

    Raises
    ------
    InvalidInputError
        Both `index` and `model`, or an option that does not fit, at once.
    """

    def __init__(
        self,
        index: Any = None,
        model: Any = None,
        top_k: int | None = None,
        id_key: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._source = Made(source_of, source_of(index, model, options), index, model)
        self.index = index
        self.model = model
        self.top_k = optional(count_of, top_k, "top_k")
        self.id_key = optional(text_of, id_key, "id_key")
        self.options = options_of(options)

    def warm_up(self) -> None:
        """Load the model, which the first call does otherwise."""
        load(self._source.of(self.index, self.model))

    def to_dict(self) -> dict[str, Any]:
        """Write the component down: an index by its path, a model by its name.

        Raises
        ------
        InvalidInputError
            A model that was given as an object.
        """
        written_source = {"index": written(self.index, "index"), "model": written(self.model, "model")}
        rest = {"top_k": self.top_k, "id_key": self.id_key, "options": self.options}
        return default_to_dict(self, **written_source, **rest)  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "LatewoodRanker":
        """Make the component that was written down; an index is opened again."""
        return default_from_dict(cls, data)  # type: ignore[no-any-return]

    @component.output_types(documents=list[Document])
    def run(
        self,
        documents: list[Document],
        query: str | None = None,
        query_multivector_embedding: list[list[float]] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """Give copies of the best documents, best first, with MaxSim as their score.

        Parameters
        ----------
        documents : list of Document
        query : str, optional
        query_multivector_embedding : list of lists of float, optional
            The query's token vectors, in the place of a text. Without an index, documents are then scored on their
            `multivector_embedding`.
        top_k : int, optional
            For this call.

        Raises
        ------
        InvalidInputError
            Both a text and vectors, or neither; a document without what it is scored on.
        UnknownIdError
            A document that the index does not hold, unless the option `missing` is "skip".
        """
        asked = one_query(query, query_multivector_embedding)
        field = "content" if isinstance(asked, str) else "multivector_embedding"
        pairs = ranked(
            self._source.of(self.index, self.model),
            asked,
            documents,
            key=self._id,
            content=lambda document: getattr(document, field, None),
            top_k=self.top_k if top_k is None else top_k,
            options=self.options,
        )
        return {"documents": [replace(document, score=score) for document, score in pairs]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        documents: list[Document],
        query: str | None = None,
        query_multivector_embedding: list[list[float]] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """Do the same in a thread."""
        found: dict[str, list[Document]] = await asyncio.to_thread(
            self.run, documents, query, query_multivector_embedding, top_k
        )
        return found

    def _id(self, document: Document) -> Any:
        return document.id if self.id_key is None else document.meta.get(self.id_key)
