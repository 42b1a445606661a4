"""MaxSim in floats, on anyone's vectors, without an index."""

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from latewood import _core
from latewood.common.types import FloatArray, Precision, VectorInput
from latewood.errors import DimensionError, InvalidInputError
from latewood.forms.arrays import to_numpy
from latewood.forms.ragged import Ragged, listed, to_ragged
from latewood.forms.values import choice_of, flag_of, threads_of

_PRECISIONS = get_args(Precision)


def maxsim(
    queries: VectorInput,
    documents: VectorInput,
    *,
    query_mask: Any = None,
    document_mask: Any = None,
    length_normalize: bool = False,
    precision: Precision = "float32",
    threads: int | None = None,
) -> FloatArray:
    """MaxSim of every query with every document: sum over query tokens of the largest dot product.

    Documents that are a list of numpy arrays in C order, all of float32 or all of float16, are read where they lie;
    other forms are first brought to one float32 array.

    Parameters
    ----------
    queries, documents : list of [tokens, dim] arrays, padded [items, tokens, dim] array, [tokens, dim] array, or Ragged
        Any form that `latewood.to_ragged` takes; a single two-dimensional array is one query or document.
    query_mask, document_mask : array [items, tokens], optional
        Tokens whose entry is False or 0 do not count.
    length_normalize : bool
        Divide by the number of query tokens.
    precision : {"float32", "bfloat16"}
        "bfloat16" lets a CPU with AMX round both sides to 8 significant bits before it multiplies, which is faster and
        puts a dot product of unit vectors off by 0.008 at worst, a tenth of that as a rule. Other CPUs compute in
        float32 either way. Numbers beyond 3.39e38 may become infinite.
    threads : int, optional
        As many as this process may use at once by default. The scores do not depend on it.

    Returns
    -------
    float32 array [queries, documents]
        As `sentence_transformers.util.maxsim`, except that a document without tokens scores `-inf`. A query without
        tokens scores 0 with every other document.

    Raises
    ------
    DimensionError
        The queries and documents differ in dimensions.
    InvalidInputError
        Vectors that are not finite floats of a fitting shape; more scores than there is memory for.
    """
    normalize = flag_of(length_normalize, "length_normalize")
    query, scores = _score(queries, documents, query_mask, document_mask, precision, threads, pairs=False)
    return scores / query.lengths.clip(min=1).astype("float32")[:, None] if normalize else scores


def maxsim_pairs(
    queries: VectorInput,
    documents: VectorInput,
    *,
    query_mask: Any = None,
    document_mask: Any = None,
    length_normalize: bool = False,
    precision: Precision = "float32",
    threads: int | None = None,
) -> FloatArray:
    """MaxSim of query i with document i; parameters and errors as for `maxsim`.

    Returns
    -------
    float32 array [pairs]
    """
    normalize = flag_of(length_normalize, "length_normalize")
    query, scores = _score(queries, documents, query_mask, document_mask, precision, threads, pairs=True)
    return scores / query.lengths.clip(min=1).astype("float32") if normalize else scores


def _score(
    queries: VectorInput,
    documents: VectorInput,
    query_mask: Any,
    document_mask: Any,
    precision: Precision,
    threads: int | None,
    *,
    pairs: bool,
) -> tuple[Ragged, FloatArray]:
    choice_of(precision, "precision", _PRECISIONS)
    threads = threads_of(threads)
    query = to_ragged(queries, mask=query_mask, kind="query", allow_empty=True)
    documents = listed(documents, "the document vectors")
    arrays = _arrays(documents) if document_mask is None else []
    if arrays and len(query):
        scores = _core.maxsim_arrays(query.values, query.offsets, arrays, pairs, precision, threads)
        if scores is not None:
            return query, scores if pairs else scores.reshape(len(query), len(arrays))
    document = to_ragged(documents, mask=document_mask, allow_empty=True)
    query, document = _agreeing(query, document)
    if pairs and len(query) != len(document):
        message = f"{len(query)} queries and {len(document)} documents; pairs need as many of both"
        raise InvalidInputError(message)
    shape = (len(query),) if pairs else (len(query), len(document))
    if 0 in shape:
        return query, np.zeros(shape, dtype=np.float32)
    scores = _core.maxsim(query.values, query.offsets, document.values, document.offsets, pairs, precision, threads)
    return query, scores.reshape(shape)


def _agreeing(query: Ragged, document: Ragged) -> tuple[Ragged, Ragged]:
    """Both sides in the same number of dimensions."""
    if query.dim != document.dim:
        # A side without a single token has no dimensions of its own to disagree with.
        if len(query.values) == 0:
            query = Ragged(query.values.reshape(0, document.dim), query.offsets)
        elif len(document.values) == 0:
            document = Ragged(document.values.reshape(0, query.dim), document.offsets)
        else:
            message = f"the queries have {query.dim} dimensions and the documents {document.dim}; they must agree"
            raise DimensionError(message)
    return query, document


def _arrays(documents: Any) -> Sequence[Any]:
    """Give the documents one by one if that takes no work: a list, or numpy arrays of one or several."""
    if isinstance(documents, np.ndarray) and documents.ndim in (2, 3):
        return [documents] if documents.ndim == 2 else list(documents)
    if not isinstance(documents, (list, tuple)):
        return []
    kinds = set(map(type, documents))
    if kinds == {np.ndarray}:
        return documents
    if not all(issubclass(kind, np.ndarray) for kind in kinds):
        return []
    # Of other kinds of array, such as those mapped from a file, the plain ones beneath.
    return [to_numpy(document, f"document at position {position}") for position, document in enumerate(documents)]
