"""The package rerankers: `Reranker("latewood/nano-en", model_type="latewood")` (docs/integrations/rerankers.md).

Importing this module registers the model type.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from latewood.common.packages import import_optional

import_optional("rerankers", extra="rerankers", purpose="the adapter for rerankers")

from rerankers.documents import Document
from rerankers.models import AVAILABLE_RANKERS
from rerankers.models.ranker import BaseRanker
from rerankers.results import RankedResults, Result

from latewood.errors import InvalidInputError
from latewood.integrations.ranking import options_of, ranked, source_of

MODEL_TYPE = "latewood"


class LatewoodRanker(BaseRanker):
    """Ranks documents by MaxSim: by their texts, or by the vectors that an index keeps of them.

    Parameters
    ----------
    model_name_or_path : str, Reranker, MultiVectorEncoder or Encoder, optional
        Scores texts, which are encoded at each call. The encoder inside the wheel by default.
    verbose : int
        Taken and not read: nothing is printed.
    index : Index or path-like, optional
        Scores what it holds, by `doc_id`; in the place of a model.
    options : mapping, optional
        Further keyword arguments of `Index.rerank` or `Reranker.rank`.

    Raises
    ------
    InvalidInputError
        Both a model and an index, or an option that does not fit, at once.
    """

    def __init__(
        self,
        model_name_or_path: Any = None,
        verbose: int = 0,
        *,
        index: Any = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.verbose = verbose
        self._source = source_of(index, model_name_or_path, options)
        self._options = options_of(options)

    def rank(
        self,
        query: str,
        docs: str | Document | Sequence[str | Document],
        doc_ids: Sequence[str | int] | None = None,
        metadata: Sequence[dict[str, Any]] | None = None,
    ) -> RankedResults:
        """Order documents for a query.

        Parameters
        ----------
        query : str
        docs : str, Document, or a sequence of them
            Documents are copied.
        doc_ids : sequence of str or int, optional
            Those of the documents by default; else positions, where an index does not need to know better.
        metadata : sequence of dict, optional

        Returns
        -------
        RankedResults
            All documents with scores and ranks from 1, best first; ties by position.
        """
        documents = _documents(docs, doc_ids, metadata)
        pairs = ranked(
            self._source,
            query,
            enumerate(documents),
            key=lambda entry: entry[1].doc_id,
            content=lambda entry: entry[1].text,
            top_k=None,
            options=self._options,
        )
        results = []
        for rank, ((position, document), score) in enumerate(pairs, start=1):
            if document.doc_id is None:
                document.doc_id = position
            results.append(Result(document=document, score=score, rank=rank))
        return RankedResults(results=results, query=query, has_scores=True)

    def score(self, query: str, doc: str | Document) -> float:
        """Score one document."""
        return float(self.rank(query, doc)[0].score)


def _documents(docs: Any, doc_ids: Any, metadata: Any) -> list[Document]:
    given = [docs] if isinstance(docs, (str, Document)) else list(docs)
    columns = {"doc_ids": doc_ids, "metadata": metadata}
    for name, column in columns.items():
        if column is not None and len(column) != len(given):
            message = f"{len(column)} {name} for {len(given)} documents; give one for each"
            raise InvalidInputError(message)
    documents = []
    for position, one in enumerate(given):
        fields = {"text": one} if isinstance(one, str) else {name: getattr(one, name) for name in FIELDS}
        if doc_ids is not None:
            fields["doc_id"] = doc_ids[position]
        if metadata is not None:
            fields["metadata"] = metadata[position]
        documents.append(Document(**fields))
    return documents


FIELDS = ("text", "doc_id", "metadata", "document_type", "image_path", "base64")

AVAILABLE_RANKERS[MODEL_TYPE] = LatewoodRanker
