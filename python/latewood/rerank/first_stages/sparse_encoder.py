"""A learned sparse model as a first stage."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from latewood.common.files import replacing
from latewood.common.types import Id
from latewood.errors import InvalidInputError, StorageError
from latewood.forms.candidates import items_of
from latewood.forms.values import count_of, path_of
from latewood.rerank.first_stages.exhaustive import Exhaustive, best_of
from latewood.rerank.first_stages.protocol import FirstStageHits, check_count, unique_ids
from latewood.rerank.first_stages.sparse_vectors import (
    encoded_blocks,
    row_blocks,
    rows_of,
    scipy_sparse,
    sparse_encoder,
    stacked,
)

DOCUMENTS_AT_ONCE = 65_536
"""Documents of a block: while one is turned from rows into terms, it is in memory twice, and no other is."""
_PARTS = ("data", "indices", "indptr")


class SparseEncoderFirstStage(Exhaustive):
    """A learned sparse retriever: sentence-transformers' `SparseEncoder` over document vectors held in memory, exact.

    Parameters
    ----------
    model : SparseEncoder
        Or any object with `encode_query(texts, batch_size=, show_progress_bar=)`.
    ids : sequence of str or int
    document_embeddings : matrix [documents, vocabulary]
        As `model.encode_document` gives them: a torch tensor or scipy matrix, sparse or dense, or an iterable of such
        matrices and of single vectors, which is read bit by bit.
    batch_size : int
        Queries that the model encodes at once. For each text of a batch, a SPLADE model takes several times as many
        bytes as tokens by terms of the vocabulary by 4.

    Raises
    ------
    InvalidInputError
        Embeddings in another form, not one for each id, or of another vocabulary than the model's.
    DuplicateIdError
        An id twice.

    Notes
    -----
    Scores are dot products in float32. Documents that share no term with the query score 0 and are not candidates.
    Ties go by position. A weight takes 8 bytes.
    """

    def __init__(self, model: Any, ids: Iterable[Id], document_embeddings: Any, *, batch_size: int = 8) -> None:
        self._model = sparse_encoder(model)
        self._batch_size = count_of(batch_size, "batch_size")
        super().__init__(unique_ids(ids))
        # Vocabulary-major, so that a query touches only the terms it has.
        self._blocks = [rows.T.tocsr() for rows in _blocks(document_embeddings)]
        check_count(self._ids, sum(block.shape[1] for block in self._blocks), "document embeddings")
        if not self._blocks:
            message = "the document embeddings are empty; pass a matrix [documents, vocabulary]"
            raise InvalidInputError(message)
        self._vocabulary = self._blocks[0].shape[0]
        # `Hybrid` asks for scores of the queries that it has just searched with, and a model takes its time.
        self._latest: tuple[list[str], Any] = ([], None)
        # A model of another vocabulary is told now, and not by the first search.
        self._encode(["a"])

    @classmethod
    def from_texts(
        cls,
        model: Any,
        ids: Iterable[Id],
        texts: Iterable[str],
        *,
        batch_size: int = 8,
        max_length: int | None = None,
        show_progress: bool | None = None,
    ) -> "SparseEncoderFirstStage":
        """Encode the documents first.

        Parameters
        ----------
        model : SparseEncoder
        ids : sequence of str or int
        texts : sequence of str
        batch_size : int
            Texts, and later queries, that the model encodes at once.
        max_length : int, optional
            Tokens of a text, special ones included, that the model sees; by default what it is set to.
        show_progress : bool, optional
            By default if standard error is a terminal.
        """
        keys, blocks = encoded_blocks(model, ids, texts, batch_size, max_length, show_progress)
        return cls(model, keys, blocks, batch_size=batch_size)

    def __repr__(self) -> str:
        weights = sum(block.nnz for block in self._blocks)
        return f"{type(self).__name__}({len(self._ids)} documents, {self._vocabulary} terms, {weights} weights)"

    def search_embeddings(self, query_embeddings: Any, k: int) -> list[FirstStageHits]:
        """Find documents for queries that are encoded already.

        Parameters
        ----------
        query_embeddings : matrix [queries, vocabulary]
            As `model.encode_query` gives them, in any form that document embeddings have.
        k : int
        """
        depth = count_of(k, "k")
        rows = self._checked(rows_of(query_embeddings, "the query embeddings"))
        return [best_of(scores, self._ids, depth) for scores in self._products(rows)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ids and document vectors to one file, in numpy's `.npz` format; the model is not among them.

        Raises
        ------
        StorageError
            The file cannot be written; what was there before stays.
        """
        target = Path(path_of(path))
        arrays = {"ids": np.frombuffer(json.dumps(self._ids).encode(), dtype=np.uint8)}
        for number, block in enumerate(self._blocks):
            arrays[f"shape{number}"] = np.array(block.shape, dtype=np.int64)
            for name in _PARTS:
                arrays[f"{name}{number}"] = getattr(block, name)
        try:
            with replacing(target) as scratch, scratch.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
        except OSError as error:
            message = f"the first stage cannot be written to {target}: {error.strerror or error}"
            raise StorageError(message) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: Any, *, batch_size: int = 8) -> "SparseEncoderFirstStage":
        """Read what `save` wrote.

        Parameters
        ----------
        path : path-like
        model : SparseEncoder
            The one that encoded the documents.
        batch_size : int

        Raises
        ------
        InvalidInputError
            No such file, one that is not whole, or a model of another vocabulary.
        """
        source = path_of(path)
        stored = _read(source)
        return cls(model, next(stored), stored, batch_size=batch_size)

    def _scores(self, texts: list[str]) -> Iterator[Any]:
        if not texts:
            return
        known, rows = self._latest
        if known != texts:
            rows = self._encode(texts)
            self._latest = (texts, rows)
        yield from self._products(rows)

    def _encode(self, texts: list[str]) -> Any:
        encoded = self._model.encode_query(texts, batch_size=self._batch_size, show_progress_bar=False)
        rows = self._checked(rows_of(encoded, "the query embeddings"))
        if rows.shape[0] != len(texts):
            message = (
                f"the model gave {rows.shape[0]} query embeddings for {len(texts)} queries; it must give one for each"
            )
            raise InvalidInputError(message)
        return rows

    def _checked(self, queries: Any) -> Any:
        if queries.shape[1] != self._vocabulary:
            message = (
                f"the query embeddings have a vocabulary of {queries.shape[1]} terms, and the documents' one of "
                f"{self._vocabulary}; queries and documents need one model"
            )
            raise InvalidInputError(message)
        return queries

    def _products(self, queries: Any) -> Iterator[Any]:
        for row in range(queries.shape[0]):
            ends = queries.indptr[row : row + 2]
            terms, weights = queries.indices[slice(*ends)], queries.data[slice(*ends)]
            yield np.concatenate([block[terms].T @ weights for block in self._blocks])


def _blocks(embeddings: Any) -> Iterator[Any]:
    """Give document vectors in blocks of bounded size."""
    waiting: list[Any] = []
    count = 0
    for rows in row_blocks(embeddings, "the document embeddings"):
        for start in range(0, rows.shape[0], DOCUMENTS_AT_ONCE):
            part = rows if rows.shape[0] <= DOCUMENTS_AT_ONCE else rows[start : start + DOCUMENTS_AT_ONCE]
            if count + part.shape[0] > DOCUMENTS_AT_ONCE:
                yield stacked(waiting)
                waiting, count = [], 0
            waiting.append(part)
            count += part.shape[0]
    if waiting:
        yield stacked(waiting)


def _read(source: str) -> Iterator[Any]:
    """Give the ids of a file, then its blocks, each when it is asked for."""
    sparse = scipy_sparse()
    number = 0
    try:
        with Path(source).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            yield items_of(json.loads(arrays["ids"].tobytes()), "the ids")
            while f"shape{number}" in arrays:
                shape, *parts = (arrays[f"{name}{number}"] for name in ("shape", *_PARTS))
                block = sparse.csr_matrix(tuple(parts), shape=tuple(shape.tolist()))
                # An index beyond the matrix would be read from somewhere in memory.
                block.check_format(full_check=True)
                yield block.T
                number += 1
    # A damaged archive may raise whatever numpy, zipfile and scipy come to.
    except Exception as error:
        message = f"{source}: no first stage that can be read ({error}); make it again, and save it"
        raise InvalidInputError(message) from error
