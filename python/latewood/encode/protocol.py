"""The encoder protocol: two methods, text in and ragged token vectors out."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from latewood.common.types import IdSequence
from latewood.encode.nano import NAME, nano_en
from latewood.encode.onnx import OnnxEncoder
from latewood.encode.onnx_folder import is_onnx_folder
from latewood.encode.sentence_transformers import SentenceTransformersEncoder, is_multi_vector_encoder
from latewood.errors import EncoderError, InvalidInputError
from latewood.forms.ids import normalise_ids, one_id
from latewood.forms.ragged import Ragged, listed, to_ragged
from latewood.forms.values import count_of, flag_of, optional, path_of, text_of


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns texts into token vectors.

    Both methods take a list of texts and give, for each, a `[tokens, dim]` float array or tensor. The attributes
    `name`, `revision`, `dim`, `prompts` and `pooling` are read for the fingerprint where they exist, and two further
    methods, `query_tokens(text)` and `document_tokens(text)`, label explanations. An encoder that answers with an
    `Encoded` tells which texts it had to cut, and the index counts them.
    """

    def encode_query(self, inputs: list[str], /) -> Any:
        """Encode queries."""

    def encode_document(self, inputs: list[str], /) -> Any:
        """Encode documents."""


def as_encoder(encoder: Any) -> Encoder:
    """Make an encoder of a model name, a path, a `MultiVectorEncoder` or any object with both methods.

    "latewood/nano-en" is the encoder inside the wheel, a folder with an ONNX export gives an `OnnxEncoder`, and other
    names and paths are sentence-transformers'. A model is loaded when it is first used, never with remote code enabled.
    """
    if isinstance(encoder, (str, os.PathLike)):
        name = path_of(encoder, "the encoder's name")
        if name == NAME:
            return nano_en()
        return OnnxEncoder(name) if is_onnx_folder(Path(name)) else SentenceTransformersEncoder(name)
    if is_multi_vector_encoder(encoder):
        return SentenceTransformersEncoder(encoder)
    if callable(getattr(encoder, "encode_query", None)) and callable(getattr(encoder, "encode_document", None)):
        return encoder  # type: ignore[no-any-return]
    message = (
        f"{type(encoder).__name__} is not an encoder: it needs the methods encode_query and encode_document; "
        "pass such an object, or the name of a multi-vector model"
    )
    raise EncoderError(message)


def encode_queries(encoder: Encoder, texts: Sequence[str], *, dim: int | None = None) -> Ragged:
    """Encode query texts; every query must come out with at least one token."""
    return _encode("encode_query", encoder, texts, dim, "query", None, allow_empty=False)[0]


def encode_documents(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    dim: int | None = None,
    names: IdSequence | None = None,
    allow_empty: bool = False,
) -> Ragged:
    """Encode document texts; parameters and errors as for `encode_and_mark`."""
    return encode_and_mark(encoder, texts, dim=dim, names=names, allow_empty=allow_empty)[0]


def encode_and_mark(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    dim: int | None = None,
    names: IdSequence | None = None,
    allow_empty: bool = False,
) -> tuple[Ragged, list[bool] | None]:
    """Encode document texts, and tell which of them the encoder cut.

    Parameters
    ----------
    encoder : Encoder
    texts : sequence of str
    dim : int, optional
        Dimensions that the vectors must have.
    names : sequence, optional
        Ids of the documents, for messages.
    allow_empty : bool
        Whether a text may be empty: it then has no vectors, and the encoder does not see it.

    Returns
    -------
    vectors : Ragged
        One item for each text.
    truncated : list of bool, or None
        Whether each text was longer than the encoder takes; None if the encoder does not say.

    Raises
    ------
    InvalidInputError
        A text that is no str, or is empty and may not be.
    EncoderError
        The encoder gave vectors for more or fewer texts.
    """
    return _encode("encode_document", encoder, texts, dim, "document", names, allow_empty=allow_empty)


def checked_texts(texts: Any, kind: str, names: IdSequence | None = None, *, allow_empty: bool = False) -> list[str]:
    """Check that `texts` is a collection of str that UTF-8 can write, none of them empty unless that is allowed."""
    given = listed(texts, f"the {kind} texts")
    if not isinstance(given, (list, tuple)):
        message = f"the {kind} texts are one {type(given).__name__}; pass a list of str"
        raise InvalidInputError(message)
    if names is not None and len(names) != len(given):
        message = f"{len(names)} ids for {len(given)} {kind} texts; give one for each"
        raise InvalidInputError(message)
    for position, text in enumerate(given):
        text_of(text, f"the text of {kind} {_name(position, names)}")
        if not allow_empty and not text.strip():
            remedy = (
                "leave it out, or pass allow_empty=True" if kind == "document" else "there is nothing to search for"
            )
            message = f"the text of {kind} {_name(position, names)} is empty; {remedy}"
            raise InvalidInputError(message)
    return list(given)


def _encode(
    method: str,
    encoder: Any,
    texts: Sequence[str],
    dim: int | None,
    kind: str,
    names: IdSequence | None,
    *,
    allow_empty: bool,
) -> tuple[Ragged, list[bool] | None]:
    encoder = as_encoder(encoder)
    optional(count_of, dim, "dim")
    names = optional(normalise_ids, names, "names")
    texts = checked_texts(texts, kind, names, allow_empty=flag_of(allow_empty, "allow_empty"))
    kept = [position for position, text in enumerate(texts) if text.strip()]
    vectors = getattr(encoder, method)([texts[position] for position in kept]) if kept else []
    kept_names = None if names is None else [names[position] for position in kept]
    ragged = to_ragged(vectors, dim=dim, kind=kind, names=kept_names, allow_empty=allow_empty)
    if len(ragged) != len(kept):
        message = f"{type(encoder).__name__} gave vectors for {len(ragged)} of {len(kept)} {kind} texts"
        raise EncoderError(message)
    lengths = np.zeros(len(texts) + 1, dtype=np.int64)
    lengths[1:][kept] = ragged.lengths
    truncated = np.zeros(len(texts), dtype=np.bool_)
    marks = getattr(vectors, "truncated", None)
    if marks is not None:
        if len(marks) != len(kept):
            message = f"{type(encoder).__name__} marked {len(marks)} of {len(kept)} {kind} texts as cut or whole"
            raise EncoderError(message)
        truncated[kept] = marks
    return Ragged(ragged.values, np.cumsum(lengths)), None if marks is None else truncated.tolist()


def _name(position: int, names: IdSequence | None) -> str:
    return f"at position {position}" if names is None else repr(one_id(names[position]))
