"""Seismic as a first stage."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from latewood.common.packages import import_optional
from latewood.common.types import Id
from latewood.errors import InvalidInputError, UnknownIdError
from latewood.forms.candidates import items_of
from latewood.forms.values import count_of, number_of
from latewood.rerank.first_stages.protocol import FirstStageHits, check_count, texts_of, unique_ids
from latewood.rerank.first_stages.sparse_vectors import encoded_blocks, rows_of

_PROCESS = os.getpid()
"""Where Seismic's threads are: a forked child has none of them, and would wait for them for ever."""
LARGEST_SMALL_VOCABULARY = 65_536
"""Seismic has another class for more terms."""


class SeismicFirstStage:
    """Seismic, a fast index of learned sparse vectors: the package `pyseismic-lsr`.

    Parameters
    ----------
    index : seismic.SeismicIndex
        Or one of its variants with string tokens.
    encode : SparseEncoder or callable
        List of query texts → for each a mapping of token (as the index was built with) to weight; or vectors
        [queries, vocabulary] in any form of `SparseEncoderFirstStage`, whose terms are the tokens "0", "1" and so on.
        Of a `SparseEncoder`, `encode_query` is taken.
    ids : sequence of str or int, optional
        The documents' ids, where they are not strings: Seismic gives all ids back as strings.
    query_cut : int
        So many of a query's tokens, those with the largest weights, choose the lists that are gone through.
    heap_factor : float
        Between 0 and 1: a block of a list is left out if its estimate is below this part of the lowest score among the
        best k by then. 0 leaves out nothing, 1 the most.
    threads : int, optional
        1 asks for one query after the other, on the thread of the caller. None leaves a batch to Seismic's own threads,
        as many as the environment's `RAYON_NUM_THREADS` says when Seismic first starts them; no other number can be
        asked for later. In a forked child, which has no such threads, it is 1.

    Raises
    ------
    InvalidInputError
        At once, what is no index, no encoder, or an option that does not fit. By a search, queries that are encoded in
        another form, or fewer or more of them than texts.
    UnknownIdError
        By a search: Seismic found a document that `ids` lack.

    Notes
    -----
    Seismic's batch call gives results in the order in which its threads finish; they are put in order here. Its scores
    are rounded to half precision, and it may find fewer than k documents. `index` has Seismic's own `save`.
    """

    def __init__(
        self,
        index: Any,
        encode: Callable[[list[str]], Any] | Any,
        ids: Iterable[Id] | None = None,
        *,
        query_cut: int = 10,
        heap_factor: float = 0.7,
        threads: int | None = None,
    ) -> None:
        encoder = getattr(encode, "encode_query", encode)
        if not callable(getattr(index, "batch_search", None)) or not callable(encoder) or isinstance(encode, type):
            message = (
                f"a {type(index).__name__} and a {type(encode).__name__} are given; pass a Seismic index and what "
                "encodes queries"
            )
            raise InvalidInputError(message)
        if threads is not None and count_of(threads, "threads") != 1:
            message = (
                f"threads must be 1 or None, not {threads}; Seismic's own threads are as many as RAYON_NUM_THREADS "
                "of the environment says when it first starts them"
            )
            raise InvalidInputError(message)
        self.index = index
        self._encode = encoder
        self._by_name = None if ids is None else {str(key): key for key in unique_ids(ids)}
        self._threads = threads
        self._options = {
            "query_cut": count_of(query_cut, "query_cut"),
            "heap_factor": number_of(heap_factor, "heap_factor", least=0.0, most=1.0),
        }

    @classmethod
    def from_embeddings(
        cls,
        encode: Callable[[list[str]], Any] | Any,
        ids: Iterable[Id],
        document_embeddings: Any,
        *,
        query_cut: int = 10,
        heap_factor: float = 0.7,
        threads: int | None = None,
        **build_options: Any,
    ) -> "SeismicFirstStage":
        """Index document vectors.

        Parameters
        ----------
        encode : SparseEncoder or callable
            Gives query vectors of the same vocabulary.
        ids : sequence of str or int
        document_embeddings : matrix [documents, vocabulary]
            In any form of `SparseEncoderFirstStage`. Documents without any term are never found.
        query_cut, heap_factor, threads
            As above.
        **build_options
            Of `SeismicIndex.build_from_dataset`, such as `n_postings` and `summary_energy`.

        Notes
        -----
        Seismic prints its progress on standard output while it builds.
        """
        seismic = _seismic()
        keys, rows = unique_ids(ids), rows_of(document_embeddings, "the document embeddings")
        check_count(keys, rows.shape[0], "document embeddings")
        if not rows.nnz:
            message = "the document embeddings have no weights; Seismic cannot index nothing"
            raise InvalidInputError(message)
        rows.sort_indices()
        kind = "LV" if rows.shape[1] > LARGEST_SMALL_VOCABULARY else ""
        data = getattr(seismic, f"SeismicDataset{kind}")(dim=rows.shape[1])
        names = [str(key) for key in keys]
        data.add_documents_by_id(names, rows.indices.astype(np.int64), rows.data, rows.indptr.astype(np.int64))
        index = getattr(seismic, f"SeismicIndex{kind}").build_from_dataset(data, **build_options)
        return cls(index, encode, keys, query_cut=query_cut, heap_factor=heap_factor, threads=threads)

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
        **options: Any,
    ) -> "SeismicFirstStage":
        """Encode documents by a `SparseEncoder`, and index their vectors.

        Parameters
        ----------
        model, ids, texts, batch_size, max_length, show_progress
            As for `SparseEncoderFirstStage.from_texts`.
        **options
            As for `from_embeddings`.
        """
        keys, blocks = encoded_blocks(model, ids, texts, batch_size, max_length, show_progress)
        encode = partial(model.encode_query, batch_size=batch_size, show_progress_bar=False)
        return cls.from_embeddings(encode, keys, blocks, **options)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self._options.items())
        return f"{type(self).__name__}({getattr(self.index, 'len', '?')} documents, {settings})"

    def search(self, query: str, k: int) -> FirstStageHits:
        """See `FirstStage.search`."""
        return self.search_batch([query], k)[0]

    def search_batch(self, queries: Sequence[str], k: int) -> list[FirstStageHits]:
        """See `FirstStage.search_batch`."""
        texts, depth = texts_of(queries, "queries"), count_of(k, "k")
        encoded = _tokens(self._encode(texts)) if texts else []
        if len(encoded) != len(texts):
            message = f"{len(encoded)} encoded queries for {len(texts)} texts; `encode` must give one for each"
            raise InvalidInputError(message)
        return self._find(encoded, depth)

    def search_embeddings(self, query_embeddings: Any, k: int) -> list[FirstStageHits]:
        """Find documents for queries that are encoded already: in any form that `encode` gives."""
        depth = count_of(k, "k")
        return self._find(_tokens(query_embeddings), depth)

    def _find(self, encoded: list[dict[str, float]], k: int) -> list[FirstStageHits]:
        found: list[FirstStageHits] = [([], []) for _ in encoded]
        for hits in filter(None, self._ask(encoded, k)):
            scores = [float(score) for _, score, _ in hits]
            found[int(hits[0][0])] = ([self._key(str(name)) for _, _, name in hits], scores)
        return found

    def _ask(self, encoded: list[dict[str, float]], k: int) -> Iterable[Any]:
        kind = _seismic().get_seismic_string()
        # A query without tokens finds nothing, and Seismic is not asked.
        asked = [str(position) for position, entry in enumerate(encoded) if entry]
        tokens = [np.array(list(entry), dtype=kind) for entry in encoded if entry]
        weights = [np.array(list(entry.values()), dtype=np.float32) for entry in encoded if entry]
        # Seismic makes room for k hits, whatever there is.
        k = min(k, getattr(self.index, "len", k))
        if self._threads == 1 or os.getpid() != _PROCESS:
            return (
                self.index.search(query_id=query, query_components=own, query_values=values, k=k, **self._options)
                for query, own, values in zip(asked, tokens, weights, strict=True)
            )
        if not asked:
            return []
        results: list[Any] = self.index.batch_search(
            queries_ids=np.array(asked, dtype=kind),
            query_components=tokens,
            query_values=weights,
            k=k,
            **self._options,
        )
        return results

    def _key(self, name: str) -> Id:
        if self._by_name is None:
            return name
        if name not in self._by_name:
            message = (
                f"Seismic found the document {name!r}, which is not among the ids; give those that it was built with"
            )
            raise UnknownIdError(message)
        return self._by_name[name]


def _tokens(encoded: Any) -> list[dict[str, float]]:
    """Bring encoded queries to mappings of token to weight."""
    what = "the encoded queries"
    if not hasattr(encoded, "shape"):
        encoded = items_of(
            encoded, what, "a mapping of token to weight for each query, or vectors [queries, vocabulary]"
        )
    if isinstance(encoded, list) and all(isinstance(entry, Mapping) for entry in encoded):
        return [
            {
                str(token): number_of(weight, f"the weight of {token!r} in query {position}")
                for token, weight in entry.items()
            }
            for position, entry in enumerate(encoded)
        ]
    rows = rows_of(encoded, what)
    bounds = zip(rows.indptr[:-1].tolist(), rows.indptr[1:].tolist(), strict=True)
    terms, weights = [str(term) for term in rows.indices.tolist()], rows.data.tolist()
    return [dict(zip(terms[start:end], weights[start:end], strict=True)) for start, end in bounds]


def _seismic() -> Any:
    return import_optional("seismic", extra="seismic", purpose="the Seismic first stage")
