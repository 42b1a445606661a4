"""PyTerrier: transformers that retrieve from an index and score candidates, and an artifact that gives them."""

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from latewood.common.packages import import_optional

import_optional("pyterrier", extra="pyterrier", purpose="the adapter for PyTerrier")

import pandas as pd
import pyterrier as pt

from latewood.forms.values import count_of, flag_of, optional, path_of
from latewood.index.additions import ENCODE_CHUNK
from latewood.index.index import Index
from latewood.integrations.ranking import (
    index_of,
    options_of,
    ranked_batch,
    search_options_of,
    settings_of,
    source_of,
    stored_ids,
)
from latewood.rerank.first_stages.protocol import texts_of

FIRST_RANK: int = pt.model.FIRST_RANK


class Retriever(pt.Transformer):
    """Find documents for the queries of a frame.

    Takes the columns `qid` and `query`, or `query_embs` with a [tokens, dim] array in each row, which goes before the
    text. Gives each row's columns again for every document found, with `docno` (a str, whatever kind the index's ids
    are), `score`, `rank` from 0 and, if that is asked for, `text`.

    Parameters
    ----------
    index : Index or path-like
        With an encoder, unless queries come as vectors.
    num_results : int
        How many documents at most for each query.
    include_text : bool
        Whether there is a column `text` of stored texts.
    options : mapping, optional
        Of `Index.search`, such as `{"filter": {"lang": "en"}}`.

    Raises
    ------
    InvalidInputError
        No index, or an option that is not one.
    """

    def __init__(
        self,
        index: Index | str | os.PathLike[str],
        num_results: int = 1000,
        include_text: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.index = index_of(index)
        self.options = search_options_of(options)
        self.num_results = count_of(num_results, "num_results")
        self.include_text = flag_of(include_text, "include_text")

    def transform(self, inp: Any) -> Any:
        """Give the frame of results."""
        with pt.validate.any(inp, context=self) as frame:
            frame.query_frame(["query_embs"], mode="query_embs")
            frame.query_frame(["query"], mode="query")
        found = self.index.search_arrays(inp[frame.mode].tolist(), self.num_results, **self.options)
        counts = np.diff(found.offsets)
        columns = {
            "docno": pd.array(list(map(str, found.ids)), dtype="str"),
            "score": found.scores.astype(np.float64),
            "rank": np.arange(len(found.ids)) - np.repeat(found.offsets[:-1], counts) + FIRST_RANK,
        }
        if self.include_text:
            columns["text"] = [document.text for document in self.index.documents(found.ids)]
        return _rows(inp, np.repeat(np.arange(len(inp)), counts), columns)

    def fuse_rank_cutoff(self, k: int) -> "Retriever":
        """Look for k documents at once where the pipeline would cut to so many."""
        if k >= self.num_results:
            return self
        return Retriever(self.index, k, self.include_text, self.options)

    def __repr__(self) -> str:
        """Name the index and the number of results."""
        return f"Retriever({self.index!r}, num_results={self.num_results})"


class Scorer(pt.Transformer):
    """Order the candidates of a frame by MaxSim.

    Takes a frame with the columns `qid` and `query`, or `query_embs` with a [tokens, dim] array in each row, which goes
    before the text. With an index, documents are those that `docno` names, and a `score` that the frame has is the
    first stage's. Without, they are the arrays of `doc_embs`, or else the texts of `text`. Rows keep all their columns;
    they come in the new order, query by query, with `score` and `rank` from 0. Ties are in the order of the frame.

    Parameters
    ----------
    index : Index or path-like, optional
    model : Reranker, MultiVectorEncoder, Encoder or str, optional
        Scores texts, which are encoded at each call. The encoder inside the wheel by default.
    num_results : int, optional
        How many documents to keep for each query; all of them by default.
    options : mapping, optional
        Of `Index.rerank`, such as `{"alpha": 0.05, "beta": 4}`, or of `Reranker.rank`.

    Raises
    ------
    InvalidInputError
        Both `index` and `model`, or an option that does not fit, at once.
    """

    def __init__(
        self,
        index: Index | str | os.PathLike[str] | None = None,
        *,
        model: Any = None,
        num_results: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.source = source_of(index, model, options)
        self.num_results = optional(count_of, num_results, "num_results")
        self.options = options_of(options)

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Give the frame in the new order."""
        by_id = isinstance(self.source, Index)
        with pt.validate.any(inp, context=self) as frame:
            for document in ("docno",) if by_id else ("doc_embs", "text"):
                for query in ("query_embs", "query"):
                    columns = dict.fromkeys(["qid", "docno", query, document])
                    frame.columns(includes=list(columns), mode=(query, document))
        query, document = frame.mode
        asked, values = inp[query].tolist(), inp[document].tolist()
        scores = inp["score"].tolist() if "score" in inp.columns else []
        rows_of: dict[Any, list[int]] = {}
        for row, name in enumerate(inp["qid"].tolist()):
            rows_of.setdefault(name, []).append(row)
        ranked = ranked_batch(
            self.source,
            [asked[rows[0]] for rows in rows_of.values()],
            rows_of.values(),
            key=values.__getitem__,
            content=values.__getitem__,
            first_score=scores.__getitem__ if scores else None,
            top_k=self.num_results,
            options=self.options,
        )
        columns = {
            "score": np.array([score for pairs in ranked for _, score in pairs], dtype=np.float64),
            "rank": np.array([rank for pairs in ranked for rank in range(len(pairs))], dtype=np.int64) + FIRST_RANK,
        }
        return _rows(inp, [row for pairs in ranked for row, _ in pairs], columns)

    def __repr__(self) -> str:
        """Name what scores."""
        return f"Scorer({self.source!r})"


class TextLoader(pt.Transformer):
    """Put what an index has stored of documents into the columns of a frame; takes the column `docno`.

    Parameters
    ----------
    index : Index
    fields : sequence of str
        "text" is the stored text, others are fields of the metadata; None where a document has no such thing.
    """

    def __init__(self, index: Index, fields: Sequence[str] = ("text",)) -> None:
        self.index = index_of(index)
        self.fields = texts_of(fields, "fields")

    def transform(self, inp: Any) -> Any:
        """Give the frame with these columns."""
        pt.validate.columns(inp, includes=["docno"], context=self)
        documents = self.index.documents(stored_ids(self.index, inp["docno"].tolist()))
        columns = {
            field: [one.text if field == "text" else (one.metadata or {}).get(field) for one in documents]
            for field in self.fields
        }
        return inp.assign(**columns)

    def __repr__(self) -> str:
        """Name the index."""
        return f"TextLoader({self.index!r})"


class LatewoodIndex(pt.Artifact, pt.Indexer):
    """An index as PyTerrier's artifact: it indexes, and gives the transformers that use it.

    Parameters
    ----------
    path : path-like
        The folder. It may hold an index that was made in another way.
    encoder : Encoder, MultiVectorEncoder or str, optional
        As for `Index.open` and `Index.create`.
    meta : sequence of str
        Columns of documents that `index` keeps as metadata, for filters and `text_loader`.
    **settings
        As for `Index.create`, if there is no index yet: `codec`, `bits` and more.
    """

    ARTIFACT_TYPE = "multi_vector_index"
    ARTIFACT_FORMAT = "latewood"
    ARTIFACT_PACKAGE_HINT = "latewood[pyterrier]"

    def __init__(
        self, path: str | os.PathLike[str], *, encoder: Any = None, meta: Sequence[str] = (), **settings: Any
    ) -> None:
        super().__init__(path_of(path))
        self.encoder = encoder
        self.meta = texts_of(meta, "meta")
        self.settings = settings_of(settings)
        self._index: Index | None = None

    def index_obj(self) -> Index:
        """Give the index itself; `IndexNotFoundError` if there is none yet."""
        if self._index is None:
            self._index = Index.open(self.path, encoder=self.encoder)
        return self._index

    def index(self, inp: Iterable[Mapping[str, Any]] | pd.DataFrame, *, overwrite: bool = False) -> "LatewoodIndex":
        """Add documents, all of them or none.

        Parameters
        ----------
        inp : iterable of mappings, or DataFrame
            With `docno`, and `text` or `doc_embs`, which is a [tokens, dim] array and goes before the text.
        overwrite : bool
            Put these documents in the place of an index that is there; otherwise they are added to it.

        Returns
        -------
        LatewoodIndex
            This one.

        Raises
        ------
        DuplicateIdError
            A `docno` comes twice, or is in the index already.
        """
        documents = pt.utils.peekable(inp.to_dict("records") if isinstance(inp, pd.DataFrame) else inp)
        with pt.validate.any_iter(documents, context=self) as columns:
            for names in self.index_inputs():
                columns.columns(includes=names, mode=names[1])
            columns.empty()
        vectors = columns.mode == "doc_embs"
        dim = np.shape(documents.peek()["doc_embs"])[-1] if vectors and self.encoder is None else None
        settings = {"dim": dim, **self.settings}
        index = Index.create(
            self.path,
            encoder=self.encoder,
            exist_ok=not overwrite,
            overwrite=flag_of(overwrite, "overwrite"),
            **settings,
        )
        with index.writer() as writer:
            while batch := list(islice(documents, ENCODE_CHUNK)):
                writer.add(
                    [document["docno"] for document in batch],
                    texts=[document.get("text") for document in batch] if "text" in batch[0] else None,
                    vectors=[document["doc_embs"] for document in batch] if vectors else None,
                    metadata=[{name: document.get(name) for name in self.meta} for document in batch],
                )
        self._index = index
        return self

    def index_inputs(self) -> list[list[str]]:
        """Say which columns documents may have."""
        return [["docno", "doc_embs"], ["docno", "text"]]

    def retriever(
        self, num_results: int = 1000, include_text: bool = False, options: Mapping[str, Any] | None = None
    ) -> Retriever:
        """Give a `Retriever` on this index."""
        return Retriever(self.index_obj(), num_results, include_text, options)

    def scorer(self, num_results: int | None = None, options: Mapping[str, Any] | None = None) -> Scorer:
        """Give a `Scorer` by the vectors of this index."""
        return Scorer(self.index_obj(), num_results=num_results, options=options)

    def text_loader(self, fields: Sequence[str] | str = "*", *, verbose: bool = False) -> TextLoader:
        """Give a `TextLoader` on this index; "*" is the text and all columns of `meta`."""
        names = ["text", *self.meta] if fields == "*" else [fields] if isinstance(fields, str) else fields
        return TextLoader(self.index_obj(), names)

    def __repr__(self) -> str:
        """Name the folder."""
        return f"LatewoodIndex({os.fspath(self.path)!r})"


def _rows(frame: pd.DataFrame, rows: Any, columns: dict[str, Any]) -> pd.DataFrame:
    """Give some rows of a frame with other columns beside their own, at once: step by step it takes milliseconds."""
    places = np.array(rows, dtype=np.intp)
    own = {name: column.array.take(places) for name, column in frame.items() if name not in columns}
    # All of these arrays are new, so the frame may keep them as they are.
    return pd.DataFrame({**own, **columns}, copy=False)


def artifact_metadata(path: str, files: Sequence[str]) -> dict[str, str] | None:
    """Tell `pt.Artifact.load` which folders are indexes; it asks through an entry point."""
    if "NEWEST" not in files or not any(name.startswith("MANIFEST-") for name in files):
        return None
    names = {"type": LatewoodIndex.ARTIFACT_TYPE, "format": LatewoodIndex.ARTIFACT_FORMAT}
    return {**names, "package_hint": LatewoodIndex.ARTIFACT_PACKAGE_HINT}
