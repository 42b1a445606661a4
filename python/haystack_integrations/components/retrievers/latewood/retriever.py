"""A retriever: documents of an index (docs/integrations/haystack.md)."""

import asyncio
from collections.abc import Mapping
from typing import Any

from latewood.common.packages import import_optional

import_optional("haystack", extra="haystack", purpose="the adapter for Haystack")

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy, apply_filter_policy

from latewood.forms.values import count_of
from latewood.integrations.haystack_forms import filter_of, one_query
from latewood.integrations.ranking import Made, options_of, search_options_of, searcher_of, written


@component
class LatewoodRetriever:
    """Searches an index; documents have their id, text, metadata and score.

    Parameters
    ----------
    index : Index, path-like, or anything with a method `search` such as TwoStage
        With an encoder, unless queries come as vectors. The content of a document whose text the index does not keep is
        None.
    top_k : int
        How many documents at most.
    filters : dict, optional
        In Haystack's form, of fields of `meta` alone: `ids` among the options are those to search among.
    filter_policy : FilterPolicy
        Whether filters of a call replace these or join them.
    options : mapping, optional
        Further keyword arguments of `search`, such as `{"recall": 0.999}`. A `filter` among them always holds.

    Raises
    ------
    InvalidInputError
        What is no index, a `top_k` that is no count, filters that cannot be understood, or an option that does not fit,
        at once.
    """

    def __init__(
        self,
        index: Any,
        top_k: int = 10,
        filters: dict[str, Any] | None = None,
        filter_policy: FilterPolicy | str = FilterPolicy.REPLACE,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._searcher = Made(searcher_of, searcher_of(index, options), index)
        self.index = index
        self.top_k = count_of(top_k, "top_k")
        search_options_of({"filter": filter_of(filters)})
        self.filters = filters
        self.filter_policy = FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy
        self.options = options_of(options)

    def to_dict(self) -> dict[str, Any]:
        """Write the component down: an index by its path.

        Raises
        ------
        InvalidInputError
            Something else than an index, which no path stands for.
        """
        return default_to_dict(  # type: ignore[no-any-return]
            self,
            index=written(self.index, "index"),
            top_k=self.top_k,
            filters=self.filters,
            filter_policy=self.filter_policy.value,
            options=self.options,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "LatewoodRetriever":
        """Make the component that was written down; the index is opened again."""
        return default_from_dict(cls, data)  # type: ignore[no-any-return]

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        query_multivector_embedding: list[list[float]] | None = None,
    ) -> dict[str, list[Document]]:
        """Find documents for a text, or for the token vectors of a query.

        Parameters
        ----------
        query : str, optional
        filters : dict, optional
        top_k : int, optional
            For this call.
        query_multivector_embedding : list of lists of float, optional
            In the place of a text.

        Raises
        ------
        InvalidInputError
            Both a text and vectors, or neither; filters that cannot be understood.
        """
        asked = one_query(query, query_multivector_embedding)
        own = filter_of(apply_filter_policy(self.filter_policy, self.filters, filters))
        both = [condition for condition in (self.options.get("filter"), own) if condition is not None]
        given = {"filter": {"and": both}} if both else {}
        searcher = self._searcher.of(self.index)
        hits = searcher.search(asked, **{"k": self.top_k if top_k is None else top_k, **self.options, **given})
        return {
            "documents": [
                Document(id=str(hit.id), content=hit.text, meta=dict(hit.metadata or {}), score=hit.score)
                for hit in hits
            ]
        }

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        query_multivector_embedding: list[list[float]] | None = None,
    ) -> dict[str, list[Document]]:
        """Do the same in a thread."""
        found: dict[str, list[Document]] = await asyncio.to_thread(
            self.run, query, filters, top_k, query_multivector_embedding
        )
        return found
