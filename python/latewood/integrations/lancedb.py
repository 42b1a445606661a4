"""LanceDB: a reranker for vector, full-text and hybrid searches (docs/integrations/lancedb.md)."""

import os
from collections.abc import Mapping
from typing import Any

from latewood.common.packages import import_optional

import_optional("lancedb", extra="lancedb", purpose="the adapter for LanceDB")

import pyarrow as pa
import pyarrow.compute as pc
from lancedb.rerankers import Reranker as BaseReranker

from latewood.errors import InvalidInputError
from latewood.forms.ragged import to_ragged
from latewood.forms.values import choice_of, optional, text_of
from latewood.index.index import Index
from latewood.integrations.ranking import options_of, ranked, source_of

SCORE, ROW = "_relevance_score", "_rowid"
"""Columns of LanceDB: the score of a reranker, and the number of a row."""


class LatewoodReranker(BaseReranker):
    """Puts the rows of a search into the order of MaxSim.

    A row's document is what its `column` holds: token vectors (a list of fixed-size lists, LanceDB's multivectors), a
    text, which is encoded at each call, or with an index the id under which the index has its vectors.

    Parameters
    ----------
    index : Index or path-like, optional
        Scores rows by their ids.
    model : Reranker, MultiVectorEncoder, Encoder or str, optional
        Scores texts and token vectors, and encodes queries. The encoder inside the wheel by default.
    column : str, optional
        By default "id" with an index and "text" without.
    return_score : {"relevance", "all"}
        "all" keeps the columns `_distance` and `_score` of the searches beside `_relevance_score`.
    options : mapping, optional
        Of `Index.rerank` or `Reranker.rank`, such as `{"missing": "skip"}`, which leaves out rows that the index does
        not hold.

    Raises
    ------
    InvalidInputError
        Both `index` and `model`, or an option that does not fit, at once; a column that results do not have.
    """

    def __init__(
        self,
        *,
        index: Index | str | os.PathLike[str] | None = None,
        model: Any = None,
        column: str | None = None,
        return_score: str = "relevance",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(choice_of(return_score, "return_score", ("relevance", "all")))
        self.options = options_of(options)
        self.source = source_of(index, model, options)
        own = optional(text_of, column, "column")
        self.column = own or ("id" if isinstance(self.source, Index) else "text")

    def rerank_vector(self, query: str, vector_results: pa.Table) -> pa.Table:
        """Order the rows of a vector search; LanceDB hands it the text that was given to its `rerank`."""
        return self._ranked(query, vector_results)

    def rerank_fts(self, query: str, fts_results: pa.Table) -> pa.Table:
        """Order the rows of a full-text search."""
        return self._ranked(query, fts_results)

    def rerank_hybrid(self, query: str, vector_results: pa.Table, fts_results: pa.Table) -> pa.Table:
        """Order the rows that a vector search or a full-text search has found, each once."""
        # LanceDB leaves columns out of a search that found nothing.
        found = [table for table in (vector_results, fts_results) if len(table)] or [vector_results]
        both = pa.concat_tables(found, promote_options="default")
        if len(found) == 2:
            first: dict[int, int] = {}
            for place, row in enumerate(both[ROW].to_pylist()):
                first.setdefault(row, place)
            both = both.take(list(first.values()))
            for name, table in (("_distance", vector_results), ("_score", fts_results)):
                values = pc.take(table[name], pc.index_in(both[ROW], table[ROW].combine_chunks()))
                both = both.set_column(both.column_names.index(name), name, values)
        return self._ranked(query, both)

    def _ranked(self, query: str, table: pa.Table) -> pa.Table:
        documents = self._documents(table) if len(table) else []
        pairs = ranked(
            self.source,
            query,
            range(len(documents)),
            key=lambda row: documents[row],
            content=lambda row: documents[row],
            top_k=None,
            options=self.options,
        )
        dropped = [SCORE] if self.score == "all" else [SCORE, "_distance", "_score"]
        kept = table.select([name for name in table.column_names if name not in dropped])
        scores = pa.array([score for _, score in pairs], pa.float32())
        return kept.take(pa.array([row for row, _ in pairs], pa.int64())).append_column(SCORE, scores)

    def _documents(self, table: pa.Table) -> Any:
        """Give the id, the text or the token vectors of each row."""
        if self.column not in table.column_names:
            message = (
                f"the results have no column {self.column!r}, but {', '.join(table.column_names)}; select it in the "
                "search, or name another as column="
            )
            raise InvalidInputError(message)
        column = table[self.column].combine_chunks()
        if isinstance(self.source, Index):
            return column.to_pylist()
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            return [text or "" for text in column.to_pylist()]
        return list(to_ragged(column, allow_empty=True))

    def __str__(self) -> str:
        """Name what scores, for LanceDB's plans."""
        return f"LatewoodReranker({self.source!r}, column={self.column!r})"
