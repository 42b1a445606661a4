"""The core's flat results → lists of `Hit`."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from latewood import _core
from latewood._typing import FloatArray, Id, IdSequence, ScoreKind
from latewood.errors import CorruptIndexError
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
    if score == "mean":
        per_hit = np.repeat(queries.lengths, np.diff(results.offsets)).astype(np.float32)
        scores = scores / per_hit
    return SearchArrays(results.ids, scores, results.offsets)


def build_hits(
    results: _core.Results,
    arrays: SearchArrays,
    explain: Callable[[int, Id], Explanation],
    *,
    with_documents: bool,
) -> list[list[Hit]]:
    """Make the hits of each query; `explain` takes the query's position and the id."""
    documents = results.documents() if with_documents else None
    batches: list[list[Hit]] = []
    first = 0
    for position, (ids, scores) in enumerate(arrays):
        keys: Sequence[Id] = ids.tolist() if isinstance(ids, np.ndarray) else ids
        link = partial(explain, position)
        ranked = zip(keys, scores.tolist(), range(1, len(keys) + 1), strict=True)
        if documents is None:
            batches.append([Hit(key, score, rank, None, None, link) for key, score, rank in ranked])
        else:
            own = documents[first : first + len(keys)]
            batches.append(
                [
                    Hit(key, score, rank, text, _metadata(key, metadata), link)
                    for (key, score, rank), (text, metadata) in zip(ranked, own, strict=True)
                ]
            )
            first += len(keys)
    return batches


def scaled(matrix: FloatArray, score: ScoreKind, tokens: int) -> FloatArray:
    """Scale a matrix of dot products to what the kind of score counts, for a query of so many tokens."""
    return matrix / np.float32(tokens) if score == "mean" else matrix
