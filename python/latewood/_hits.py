"""The core's flat results → lists of `Hit`."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from latewood import _core
from latewood._typing import FloatArray, Id, IdSequence, ResultIds, ScoreKind
from latewood.errors import CorruptIndexError, InvalidInputError, UnknownIdError
from latewood.ragged import Ragged
from latewood.results import Document, Explanation, Hit, SearchArrays


def documents_of(core: _core.Index, ids: IdSequence) -> list[Document]:
    """Text and metadata of documents, in the order of `ids`."""
    keys: Sequence[Id] = ids.tolist() if isinstance(ids, np.ndarray) else ids
    return [
        Document(key, text, _metadata(key, metadata))
        for key, (text, metadata) in zip(keys, core.documents(ids), strict=True)
    ]


def _metadata(key: Id, stored: str | None) -> Any:
    if stored is None:
        return None
    try:
        return json.loads(stored)
    except ValueError as error:
        message = f"the stored metadata of document {key!r} is damaged ({error}); index.check() tells which file"
        raise CorruptIndexError(message) from error


def to_arrays(results: _core.Results, queries: Ragged, score: ScoreKind) -> SearchArrays:
    """Wrap the core's results; mean scores are divided by the number of query tokens."""
    scores = results.scores
    if score not in ("sum", "mean"):
        message = f"score={score!r}; it is 'sum' or 'mean'"
        raise InvalidInputError(message)
    if score == "mean":
        per_hit = np.repeat(queries.lengths, np.diff(results.offsets)).astype(np.float32)
        scores = scores / per_hit
    return SearchArrays(results.ids, scores, results.offsets)


def build_hits(
    core: _core.Index,
    arrays: SearchArrays,
    explain: Callable[[int, Id], Explanation],
    *,
    with_documents: bool,
) -> list[list[Hit]]:
    """Make the hits of each query; `explain` takes the query's position and the id."""
    unique: dict[Id, Document] = {}
    if with_documents and len(arrays.ids):
        distinct = _distinct(arrays.ids)
        try:
            documents = documents_of(core, distinct)
        except UnknownIdError:
            # Another thread moved this index to a newer commit since the search: what is gone has no text any more.
            held = core.contains(distinct)
            kept: Any = distinct[held] if isinstance(distinct, np.ndarray) else _select(distinct, held)
            documents = documents_of(core, kept)
        unique = {document.id: document for document in documents}
    batches: list[list[Hit]] = []
    for position, (ids, scores) in enumerate(arrays):
        keys: Sequence[Id] = ids.tolist() if isinstance(ids, np.ndarray) else ids
        link = partial(explain, position)
        ranked = enumerate(zip(keys, scores.tolist(), strict=True), start=1)
        if unique:
            found = [unique.get(key) or Document(key) for key in keys]
            batches.append(
                [
                    Hit(key, score, rank, document.text, document.metadata, link)
                    for (rank, (key, score)), document in zip(ranked, found, strict=True)
                ]
            )
        else:
            batches.append([Hit(key, score, rank, None, None, link) for rank, (key, score) in ranked])
    return batches


def scaled(matrix: FloatArray, score: ScoreKind, tokens: int) -> FloatArray:
    """Scale a matrix of dot products to what the kind of score counts, for a query of so many tokens."""
    return matrix / np.float32(tokens) if score == "mean" else matrix


def _distinct(ids: ResultIds) -> IdSequence:
    if isinstance(ids, np.ndarray):
        return np.unique(ids)
    return list(dict.fromkeys(ids))


def _select(ids: IdSequence, held: Any) -> list[Any]:
    return [key for key, keep in zip(ids, held.tolist(), strict=True) if keep]
