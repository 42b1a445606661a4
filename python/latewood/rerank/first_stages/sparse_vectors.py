"""Learned sparse vectors in the forms that encoders give → rows of scipy matrices."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from latewood.common.packages import import_optional
from latewood.common.progress import chunks, progress_bar
from latewood.common.types import Id
from latewood.errors import InvalidInputError
from latewood.forms.arrays import is_tensor, to_numpy
from latewood.forms.values import count_of, optional, shown
from latewood.rerank.first_stages.protocol import check_count, texts_of, unique_ids

TEXTS_AT_ONCE = 1024
"""Given to an encoder in one call, so that what it gives never lies in memory for all documents."""


def row_blocks(embeddings: Any, what: str) -> Iterator[Any]:
    """Give sparse vectors as float32 CSR matrices [some texts, vocabulary], one after the other.

    Parameters
    ----------
    embeddings
        A matrix [texts, vocabulary] or a vector [vocabulary]: of scipy, a torch tensor (sparse or dense), or an array;
        or an iterable of any of these, which is read bit by bit.
    what : str
        How messages call them.

    Raises
    ------
    InvalidInputError
        Other forms, vocabularies of different sizes, weights that are not finite.
    """
    width: int | None = None
    for part in _parts(embeddings, what):
        rows = _csr(part, what)
        if width is not None and rows.shape[1] != width:
            message = f"{what} have vocabularies of {width} and of {rows.shape[1]} terms; all need those of one model"
            raise InvalidInputError(message)
        width = rows.shape[1]
        if not np.isfinite(rows.data).all():
            message = f"{what} have a weight of {rows.data[~np.isfinite(rows.data)][0]}; weights are finite numbers"
            raise InvalidInputError(message)
        yield rows


def rows_of(embeddings: Any, what: str) -> Any:
    """Give all of them as one matrix."""
    blocks = list(row_blocks(embeddings, what))
    if not blocks:
        message = f"{what} are empty; pass a matrix [texts, vocabulary]"
        raise InvalidInputError(message)
    return stacked(blocks)


def stacked(blocks: list[Any]) -> Any:
    """Put matrices below each other."""
    return blocks[0] if len(blocks) == 1 else scipy_sparse().vstack(blocks, format="csr")


def encoded_blocks(
    model: Any, ids: Iterable[Id], texts: Iterable[str], batch_size: int, max_length: int | None, progress: bool | None
) -> tuple[Any, Iterator[Any]]:
    """Check documents, and give their ids and an iterator that encodes them."""
    encoder, size = sparse_encoder(model), count_of(batch_size, "batch_size")
    options: dict[str, Any] = {"batch_size": size, "show_progress_bar": False}
    length = optional(count_of, max_length, "max_length")
    if length is not None:
        options["processing_kwargs"] = {"text": {"max_length": length, "truncation": True}}
    keys, documents = unique_ids(ids), texts_of(texts, "texts")
    check_count(keys, len(documents), "texts")

    def encode() -> Iterator[Any]:
        with progress_bar(len(documents), "Encoding", show_progress=progress) as bar:
            for part in chunks(len(documents), TEXTS_AT_ONCE):
                yield encoder.encode_document(documents[part], **options)
                bar.update(len(documents[part]))

    return keys, encode()


def sparse_encoder(model: Any) -> Any:
    """Refuse what cannot encode queries and documents."""
    # A class has the methods too, and none of them can be called.
    names = ("encode_query", "encode_document")
    if isinstance(model, type) or not all(callable(getattr(model, name, None)) for name in names):
        message = f"{shown(model)} is no sparse encoder: it needs encode_query and encode_document"
        raise InvalidInputError(message)
    return model


def _parts(embeddings: Any, what: str) -> Iterator[Any]:
    """Take an iterable of matrices apart, but no matrix."""
    if hasattr(embeddings, "shape"):
        yield embeddings
        return
    if isinstance(embeddings, (str, bytes)) or not isinstance(embeddings, Iterable):
        message = f"{what} are a {type(embeddings).__name__}; pass a matrix [texts, vocabulary], or a list of them"
        raise InvalidInputError(message)
    yield from embeddings


def _csr(part: Any, what: str) -> Any:
    sparse = scipy_sparse()
    if is_tensor(part) and str(part.layout) != "torch.strided":
        part = _in_scipy(part.detach().cpu().to_sparse_coo().coalesce())
    if not sparse.issparse(part):
        part = to_numpy(part, what)
    if part.ndim not in (1, 2) or part.dtype.kind not in "fiub":
        message = (
            f"{what} have {part.dtype} values of shape {part.shape}; pass numbers [texts, vocabulary], as a matrix, "
            "a tensor or a list of them"
        )
        raise InvalidInputError(message)
    # What is too large for float32 becomes infinite, and is told as such.
    with np.errstate(over="ignore"):
        return sparse.csr_matrix(part.reshape(1, -1) if part.ndim == 1 else part, dtype=np.float32)


def _in_scipy(tensor: Any) -> Any:
    """Give a tensor whose entries are in order of rows, so that nothing needs sorting."""
    values = tensor.values()
    weights = values.float().numpy() if values.is_floating_point() else values.numpy()
    if tensor.ndim != 2:
        return scipy_sparse().coo_array((weights, tuple(tensor.indices().numpy())), shape=tuple(tensor.shape))
    rows, terms = tensor.indices().numpy()
    bounds = np.searchsorted(rows, np.arange(tensor.shape[0] + 1))
    return scipy_sparse().csr_matrix((weights, terms, bounds), shape=tuple(tensor.shape))


def scipy_sparse() -> Any:
    """Give scipy's module of sparse matrices."""
    return import_optional("scipy.sparse", purpose="a learned sparse first stage")
