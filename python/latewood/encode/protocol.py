"""The encoder protocol: two methods, text in and ragged token vectors out."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from latewood._typing import IdSequence
from latewood.encode.nano import NAME, nano_en
from latewood.encode.onnx import OnnxEncoder
from latewood.encode.onnx_folder import is_onnx_folder
from latewood.encode.sentence_transformers import SentenceTransformersEncoder, is_multi_vector_encoder
from latewood.errors import EncoderError, InvalidInputError
from latewood.ragged import Ragged, to_ragged


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
        name = os.fspath(encoder)
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
    return _encode(encoder.encode_query, encoder, texts, dim, "query", None)[0]


def encode_documents(
    encoder: Encoder, texts: Sequence[str], *, dim: int | None = None, names: IdSequence | None = None
) -> Ragged:
    """Encode document texts; `names` are their ids, for messages."""
    return encode_and_mark(encoder, texts, dim=dim, names=names)[0]


def encode_and_mark(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    dim: int | None = None,
    names: IdSequence | None = None,
    allow_empty: bool = False,
) -> tuple[Ragged, list[bool] | None]:
    """Encode document texts, and tell which of them the encoder cut; None if it does not say."""
    return _encode(encoder.encode_document, encoder, texts, dim, "document", names, allow_empty=allow_empty)


def _encode(
    method: Any,
    encoder: Encoder,
    texts: Sequence[str],
    dim: int | None,
    kind: str,
    names: IdSequence | None,
    *,
    allow_empty: bool = False,
) -> tuple[Ragged, list[bool] | None]:
    for position, text in enumerate(texts):
        if not isinstance(cast("object", text), str):
            name = repr(names[position]) if names is not None else f"at position {position}"
            message = f"the text of {kind} {name} is a {type(text).__name__}, not a str"
            raise InvalidInputError(message)
    vectors = method(list(texts))
    ragged = to_ragged(vectors, dim=dim, kind=kind, names=names, allow_empty=allow_empty)
    if len(ragged) != len(texts):
        message = f"{type(encoder).__name__} gave vectors for {len(ragged)} of {len(texts)} {kind} texts"
        raise EncoderError(message)
    truncated = getattr(vectors, "truncated", None)
    return ragged, None if truncated is None else [bool(cut) for cut in truncated]
