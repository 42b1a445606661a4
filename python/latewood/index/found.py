"""The core's flat results → `Hits` and arrays."""

import json
from typing import Any

import numpy as np

from latewood import _core
from latewood.common.types import FloatArray, Id, IdSequence, Stats
from latewood.errors import CorruptIndexError
from latewood.forms.ids import plain_ids
from latewood.index.encoding import Encoding
from latewood.index.explanation import Explanation
from latewood.index.feedback import Added
from latewood.index.options import RankingOptions
from latewood.index.queries import Queries
from latewood.index.results import Document, Hit, Hits, Plan, SearchArrays


class Found:
    """What one call of the core found, with what is needed to explain it: the source of its hits."""

    __slots__ = ("_encoding", "_options", "_queries", "_results")

    def __init__(self, results: _core.Results, queries: Queries, encoding: Encoding, options: RankingOptions) -> None:
        self._results = results
        self._queries = queries
        self._encoding = encoding
        self._options = options

    def hits(self, *, with_documents: bool) -> list[Hits]:
        """Make the hits of each query."""
        # Whoever asked may fill the array again before a hit explains itself.
        self._queries = self._queries.copy()
        rows, offsets = self._results.rows(with_documents)
        batch: list[Hits] = []
        for query in range(len(offsets) - 1):
            hits = Hits(source=self, query=query)
            rank = self._options.offset
            for place in range(offsets[query], offsets[query + 1]):
                rank += 1
                key, score, text, stored = rows[place]
                metadata = metadata_of(key, stored)
                hits.append(Hit(key, score, rank, text, metadata, self, query, place))
            batch.append(hits)
        return batch

    def documents(self) -> list[tuple[str | None, str | None]]:
        """Give text, and metadata as JSON, of each hit of the batch."""
        return [(text, stored) for _, _, text, stored in self._results.rows(with_documents=True)[0]]

    def arrays(self) -> SearchArrays:
        """Give ids, scores and offsets as they are."""
        results = self._results
        return SearchArrays(results.ids, results.scores, results.offsets, results.stats(), self.plan)

    def groups(self, field: str | None) -> list[str | None]:
        """Name the group of each hit of the batch by a metadata field; None for one that stands for itself."""
        return [None] * len(self._results.scores) if field is None else self._results.groups(field)

    @property
    def plan(self) -> Plan:
        """How candidates were found: where filters differ, for the first query that has any."""
        return plan_of(self._results.plan())

    def report(self, query: int) -> tuple[Stats, Plan]:
        """See `Source.report`."""
        return self._results.stats(query), plan_of(self._results.plan(query))

    def explain(self, query: int, place: int, key: Id) -> Explanation:
        """See `Source.explain`: what was searched explains its hits, whatever the index has become since."""
        vectors, weights = self._queries.vectors, self._queries.weights
        tokens = slice(int(vectors.offsets[query]), int(vectors.offsets[query + 1]))
        added = Added.to_query(self._results, query)
        asked, asked_weights = added.join(vectors.values[tokens], None if weights is None else weights[tokens])
        matrix = self._results.explain(asked, place, asked_weights)
        texts = self._queries.texts
        return explanation(
            key,
            matrix,
            self._encoding,
            query_text=texts[query] if texts else None,
            document_text=self._results.text(place),
            added=added,
            length_normalize=self._options.length_normalize,
        )


def explanation(
    key: Id,
    matrix: FloatArray,
    encoding: Encoding,
    *,
    query_text: str | None,
    document_text: str | None,
    added: Added,
    length_normalize: bool,
) -> Explanation:
    """Label a matrix of dot products, and scale it to what the score counts."""
    count = len(matrix) - len(added.weights)
    return Explanation(
        key,
        matrix / np.float32(count) if length_normalize else matrix,
        added.label(encoding.labels("query_tokens", query_text, count), count),
        encoding.labels("document_tokens", document_text, matrix.shape[1]),
        query_text=query_text,
        document_text=document_text,
        query_spans=added.span(encoding.labels("query_spans", query_text, count)),
        document_spans=encoding.labels("document_spans", document_text, matrix.shape[1]),
    )


def documents_of(core: _core.Index, ids: IdSequence) -> list[Document]:
    """Text and metadata of documents, in the order of `ids`."""
    return [
        Document(key, text, metadata_of(key, metadata))
        for key, (text, metadata) in zip(plain_ids(ids), core.documents(ids), strict=True)
    ]


def plan_of(told: dict[str, Any]) -> Plan:
    """Make a plan of what is told of it."""
    return Plan(**{**told, "without_effect": tuple(told["without_effect"])})


def metadata_of(key: Id, stored: str | None) -> Any:
    """Read the stored metadata of a document, JSON or None; damage is a `CorruptIndexError`."""
    if stored is None:
        return None
    try:
        return json.loads(stored)
    except ValueError as error:
        message = f"the stored metadata of document {key!r} is damaged ({error}); index.check() tells which file"
        raise CorruptIndexError(message) from error
