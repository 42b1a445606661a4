"""Queries of a learned sparse model without inference: each token has a weight that is known beforehand."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from latewood.common.packages import import_optional
from latewood.common.progress import chunks
from latewood.errors import InvalidInputError
from latewood.rerank.first_stages.protocol import texts_of
from latewood.rerank.first_stages.sparse_vectors import TEXTS_AT_ONCE, sparse_encoder


def inference_free(model: Any, texts: Iterable[str]) -> Any:
    """Give a sparse model that encodes documents as `model` does, and queries by looking their tokens up.

    A query's vector has, for each of its tokens, the token's inverse document frequency in `texts`, as BM25 has it:
    `log(1 + (N - n + 0.5) / (n + 0.5))`, where n of the N texts have the token. No transformer runs for a query.

    Parameters
    ----------
    model : SparseEncoder
        Of sentence-transformers, with a transformer and its tokenizer.
    texts : iterable of str
        The documents that will be searched, or a sample of them.

    Returns
    -------
    SparseEncoder
        Its modules are those of `model` and a `SparseStaticEmbedding`, behind a `Router`; it can be saved, and trained
        further, as any other.

    Raises
    ------
    InvalidInputError
        A model without a tokenizer, or no texts.

    Notes
    -----
    Geng, Ru and Yang, *Towards Competitive Search Relevance For Inference-Free Learned Sparse Retrievers* (2024).
    """
    needed = partial(import_optional, extra="encode", purpose="an inference-free model")
    library, torch = needed("sentence_transformers"), needed("torch")
    modules = needed("sentence_transformers.sparse_encoder.modules")
    router = needed("sentence_transformers.base.modules").Router
    tokenizer = getattr(sparse_encoder(model), "tokenizer", None)
    if not isinstance(model, library.SparseEncoder) or not callable(tokenizer):
        message = f"a {type(model).__name__} has no tokenizer of a transformer; pass a SparseEncoder that has one"
        raise InvalidInputError(message)
    documents = texts_of(texts, "texts")
    if not documents:
        message = "there are no texts to count tokens in"
        raise InvalidInputError(message)
    having = np.zeros(len(tokenizer), dtype=np.int64)
    for part in chunks(len(documents), TEXTS_AT_ONCE):
        for ids in tokenizer(documents[part], add_special_tokens=False, verbose=False)["input_ids"]:
            having[np.unique(np.asarray(ids, dtype=np.int64))] += 1
    weights = np.log1p((len(documents) - having + 0.5) / (having + 0.5)).astype(np.float32)
    lookup = modules.SparseStaticEmbedding(tokenizer, torch.from_numpy(weights), frozen=True)
    return library.SparseEncoder(
        modules=[router.for_query_document(query_modules=[lookup], document_modules=list(model.children()))],
        device=str(model.device),
    )
