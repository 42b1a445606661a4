"""PyLate: an index in the place of `pylate.indexes.PLAID`, and `rank.rerank` (docs/integrations/pylate.md).

Nothing here imports PyLate, which takes any object with the methods of its indexes.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from latewood.common.types import FloatArray, Id, VectorInput
from latewood.errors import IndexNotFoundError, InvalidInputError
from latewood.forms.ids import plain_ids
from latewood.forms.ragged import to_ragged
from latewood.forms.values import count_of, flag_of, path_of, text_of
from latewood.index.index import Index
from latewood.index.results import SearchArrays
from latewood.integrations.ranking import search_options_of, settings_of
from latewood.rerank.reranker import Reranker


class Result(TypedDict):
    """A document found, as PyLate has it."""

    id: Id
    score: float


class LatewoodIndex:
    """An index for `pylate.retrieve.ColBERT`.

    Parameters
    ----------
    index_folder : path-like
    index_name : str
        The index is the folder of this name in `index_folder`.
    override : bool
        Whether the first documents take the place of an index that is there; it is opened otherwise.
    options : mapping, optional
        Of `Index.search`, such as `{"recall": 1.0}`.
    **settings
        Of `Index.create`, when the first documents come: `codec`, `bits` and more.

    Raises
    ------
    InvalidInputError
        A parameter that does not fit, at once.
    """

    is_end_to_end_index = True

    def __init__(
        self,
        index_folder: str | os.PathLike[str] = "indexes",
        index_name: str = "latewood",
        override: bool = False,
        *,
        options: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.path = Path(path_of(index_folder, "index_folder"), text_of(index_name, "index_name"))
        self.options = search_options_of(options)
        self.settings = settings_of(settings)
        self._replaces = flag_of(override, "override")
        self._index: Index | None = None
        if not self._replaces:
            try:
                self._index = Index.open(self.path)
            except IndexNotFoundError:
                self._index = None

    @property
    def index(self) -> Index:
        """The index itself; `IndexNotFoundError` before the first documents have come."""
        if self._index is None:
            message = f"there is no index at {str(self.path)!r} yet; add documents first"
            raise IndexNotFoundError(message)
        return self._index

    def add_documents(
        self, documents_ids: str | Iterable[Id], documents_embeddings: VectorInput, *_: Any, **__: Any
    ) -> "LatewoodIndex":
        """Add documents, in the place of those that have their ids.

        Parameters
        ----------
        documents_ids : iterable of str or int
            Of one kind; a str is one id.
        documents_embeddings : token vectors
            One [tokens, dim] array or tensor for each id, in any form that `latewood.to_ragged` takes.
        *_, **__
            Batch sizes and the like, which other indexes need.

        Returns
        -------
        LatewoodIndex
            This one.

        Raises
        ------
        DuplicateIdError
            An id comes twice in this call. Nothing is added.
        """
        ids = _ids(documents_ids)
        vectors = to_ragged(documents_embeddings, allow_empty=True)
        if not ids and not len(vectors):
            return self
        if self._index is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._index = Index.create(self.path, **{"dim": vectors.dim, **self.settings}, overwrite=self._replaces)
            self._replaces = False
        self._index.upsert(ids, vectors=vectors)
        return self

    def update_documents(self, documents_ids: str | Iterable[Id], documents_embeddings: VectorInput) -> "LatewoodIndex":
        """Do the same: `add_documents` replaces what is there."""
        return self.add_documents(documents_ids, documents_embeddings)

    def remove_documents(self, documents_ids: str | Iterable[Id]) -> "LatewoodIndex":
        """Delete documents; ids that the index does not hold are passed over, as in PyLate's indexes."""
        if self._index is not None:
            self._index.delete(_ids(documents_ids), missing="skip")
        return self

    def __call__(
        self,
        queries_embeddings: VectorInput,
        k: int = 10,
        subset: Sequence[Id] | Sequence[Sequence[Id]] | None = None,
    ) -> list[list[Result]]:
        """Find the k best documents for each query.

        Parameters
        ----------
        queries_embeddings : token vectors
            Of several queries, in any form that `latewood.to_ragged` takes; one [tokens, dim] array is one query.
        k : int
        subset : list of ids, or a list of ids for each query, optional
            Search only among these; those that the index does not hold are passed over.

        Returns
        -------
        list of lists of {"id", "score"}
            Best first, one list for each query.
        """
        queries, wanted = to_ragged(queries_embeddings, kind="query"), count_of(k, "k")
        if self._index is None:
            return [[] for _ in queries]
        # PyLate's indexes see what others have written.
        self._index.refresh()
        subsets: Any = None if subset is None else list(subset)
        if subsets is None or not any(isinstance(entry, Iterable) and not isinstance(entry, str) for entry in subsets):
            return _results(self._index.search_arrays(queries, wanted, ids=subsets, **self.options))
        if len(subsets) != len(queries):
            message = (
                f"{len(subsets)} subsets for {len(queries)} queries; give one for each, or one list of ids for all"
            )
            raise InvalidInputError(message)
        return [
            _results(self._index.search_arrays([query], wanted, ids=own, **self.options))[0]
            for query, own in zip(queries, subsets, strict=True)
        ]

    def get_documents_embeddings(self, documents_ids: Iterable[Iterable[Id]]) -> list[list[FloatArray]]:
        """Give the token vectors of documents, as the index has stored them, for each of several lists of ids."""
        return [list(self.index.vectors(list(ids))) for ids in documents_ids]

    def __len__(self) -> int:
        """Count the documents."""
        return 0 if self._index is None else len(self._index)

    def __repr__(self) -> str:
        """Name the folder and the number of documents."""
        return f"LatewoodIndex({str(self.path)!r}, documents={len(self)})"


def rerank(
    documents_ids: Iterable[Iterable[Id]],
    queries_embeddings: VectorInput,
    documents_embeddings: Iterable[VectorInput],
    device: Any = None,
) -> list[list[Result]]:
    """Order documents of several queries by exact MaxSim in floats, as `pylate.rank.rerank` does.

    Parameters
    ----------
    documents_ids : a list of ids for each query
    queries_embeddings : token vectors
        As for `LatewoodIndex`.
    documents_embeddings : for each query, token vectors of its documents
    device
        Taken for the signature's sake; it is computed on the CPU.

    Returns
    -------
    list of lists of {"id", "score"}
        Best first, ties in the order of the ids. A document without tokens comes last, with the score `-inf`.

    Raises
    ------
    InvalidInputError
        Not as many ids as documents, or not one list for each query.
    """
    queries, ids, documents = (
        to_ragged(queries_embeddings, kind="query"),
        list(documents_ids),
        list(documents_embeddings),
    )
    if not len(queries) == len(ids) == len(documents):
        message = (
            f"{len(queries)} queries, ids for {len(ids)} and documents for {len(documents)}; give one list for each"
        )
        raise InvalidInputError(message)
    return [_ranked(*one) for one in zip(queries, ids, documents, strict=True)]


def _ranked(query: FloatArray, ids: Iterable[Id], documents: VectorInput) -> list[Result]:
    keys, vectors = plain_ids(ids), to_ragged(documents, allow_empty=True)
    if len(keys) != len(vectors):
        message = f"{len(keys)} ids for {len(vectors)} documents of a query; give one for each"
        raise InvalidInputError(message)
    return [{"id": keys[entry["corpus_id"]], "score": entry["score"]} for entry in Reranker().rank(query, vectors)]


def _ids(ids: str | Iterable[Id]) -> list[Id]:
    return [ids] if isinstance(ids, str) else list(ids)


def _results(found: SearchArrays) -> list[list[Result]]:
    return [
        [{"id": key, "score": score} for key, score in zip(plain_ids(ids), scores.tolist(), strict=True)]
        for ids, scores in found
    ]
