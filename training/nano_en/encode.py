"""Text to vectors by an exported model, the way `latewood.encode` does it with the shipped one."""

import string
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from training.nano_en.batches import by_length, pad
from training.nano_en.tokens import load_tokenizer

Forward = Callable[[torch.Tensor, torch.Tensor], npt.NDArray[np.float32]]
Vectors = list[npt.NDArray[np.float32]]


@cache
def cutting_tokenizer(length: int) -> Tokenizer:
    """Return a tokenizer that cuts texts after so many tokens."""
    tokenizer = load_tokenizer()
    tokenizer.enable_truncation(length)
    return tokenizer


def punctuation(tokenizer: Tokenizer) -> npt.NDArray[np.int64]:
    """Return the ids that get no vector in documents."""
    return np.array([i for c in string.punctuation if (i := tokenizer.token_to_id(c)) is not None])


def onnx_forward(path: Path, threads: int = 1) -> Forward:
    """Return an exported model, run by onnxruntime."""
    onnxruntime: Any = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # As `latewood.encode.OnnxEncoder` does: another order of the same sums would round some activations otherwise.
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
    )

    def forward(ids: torch.Tensor, mask: torch.Tensor) -> npt.NDArray[np.float32]:
        (vectors,) = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        found: npt.NDArray[np.float32] = vectors
        return found

    return forward


def encode(forward: Forward, texts: Sequence[str], length: int, *, document: bool, batch_tokens: int = 4096) -> Vectors:
    """Encode texts.

    Parameters
    ----------
    forward : callable
    texts : sequence of str
    length : int
        Tokens after which a text is cut.
    document : bool
        Whether punctuation is left out.
    batch_tokens : int

    Returns
    -------
    list of numpy.ndarray
        [tokens, dim] each.
    """
    tokenizer = cutting_tokenizer(length)
    rows = [np.array(e.ids, np.uint16) for e in tokenizer.encode_batch(list(texts))]
    skipped = punctuation(tokenizer)
    out: list[npt.NDArray[np.float32] | None] = [None] * len(rows)
    for batch in by_length(np.array([len(row) for row in rows]), batch_tokens):
        ids, mask = pad([rows[i] for i in batch])
        vectors = forward(ids, mask)
        for row, i in zip(vectors, batch, strict=True):
            kept = row[: len(rows[i])]
            out[i] = kept[~np.isin(rows[i], skipped)] if document else kept
    return [vectors for vectors in out if vectors is not None]
