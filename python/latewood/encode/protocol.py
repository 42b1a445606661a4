"""The encoder protocol: two methods, text in and ragged token vectors out."""

import inspect
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, get_args, runtime_checkable

import numpy as np

from latewood.common.types import IdSequence, OffsetArray
from latewood.encode.nano import NAME, nano_en
from latewood.encode.onnx import OnnxEncoder
from latewood.encode.onnx_folder import is_onnx_folder
from latewood.encode.onnx_modules import Task
from latewood.encode.sentence_transformers import SentenceTransformersEncoder, is_multi_vector_encoder
from latewood.encode.windows import Long, long_of
from latewood.errors import EncoderError, InvalidInputError, TextTooLongError
from latewood.forms.ids import normalise_ids, one_id
from latewood.forms.ragged import Ragged, listed, to_ragged
from latewood.forms.values import choice_of, count_of, optional, path_of, shown, text_of

OnEmpty: TypeAlias = Literal["keep", "skip", "error"]


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns texts into token vectors.

    Both methods take a list of texts and give, for each, a `[tokens, dim]` float array or tensor. The attributes
    `name`, `revision`, `dim`, `prompts` and `pooling` are read for the fingerprint where they exist, and two further
    methods, `query_tokens(text)` and `document_tokens(text)`, label explanations. An encoder that answers with an
    `Encoded` tells which texts it had to cut, and the index counts them. One whose methods have a parameter
    `long=None` is handed what becomes of long texts, where a call says so.
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


class EncodedTexts(NamedTuple):
    """What came of a list of texts.

    Attributes
    ----------
    vectors : Ragged
        One item for each of `positions`.
    positions : int64 array
        Which of the texts are among the vectors: all of them, unless empty ones are skipped.
    empty : int64 array
        Which of the texts have no vectors, kept or skipped.
    truncated : list of bool, or None
        Whether the encoder cut each of `positions`; None if it does not say.
    """

    vectors: Ragged
    positions: OffsetArray
    empty: OffsetArray
    truncated: list[bool] | None


def encode_queries(
    encoder: Encoder, texts: Sequence[str], *, dim: int | None = None, long: Long | None = None
) -> Ragged:
    """Encode query texts; every query must come out with at least one token. Otherwise as `encode_texts`."""
    return _encode("query", encoder, texts, dim=dim, names=None, long=long, on_empty="error").vectors


def encode_documents(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    dim: int | None = None,
    names: IdSequence | None = None,
    long: Long | None = None,
    on_empty: OnEmpty = "keep",
) -> Ragged:
    """Encode document texts; parameters and errors as for `encode_texts`."""
    return encode_texts(encoder, texts, dim=dim, names=names, long=long, on_empty=on_empty).vectors


def encode_texts(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    dim: int | None = None,
    names: IdSequence | None = None,
    long: Long | None = None,
    on_empty: OnEmpty = "keep",
) -> EncodedTexts:
    """Encode document texts, and tell which of them are empty and which the encoder cut.

    Parameters
    ----------
    encoder : Encoder
    texts : sequence of str
    dim : int, optional
        Dimensions that the vectors must have.
    names : sequence, optional
        Ids of the documents, for messages.
    long : {"windows", "cut", "error"}, optional
        What becomes of a text with more tokens than the encoder takes (docs/long_texts.md); by default what the encoder
        is set to.
    on_empty : {"keep", "skip", "error"}
        What becomes of an empty text, or one of nothing but white space; the encoder does not see it. "keep" makes an
        item without vectors of it, "skip" leaves it out, "error" refuses it. The same goes for a text without a single
        token that the encoder scores.

    Raises
    ------
    InvalidInputError
        A text that is no str; an empty one, if they are an error; or `long` for an encoder that has no such parameter.
    TextTooLongError
        A text with too many tokens, if those are an error.
    EncoderError
        The encoder gave vectors for more or fewer texts.
    """
    return _encode("document", encoder, texts, dim=dim, names=names, long=long, on_empty=on_empty)


def checked_texts(texts: Any, kind: str, names: IdSequence | None = None, *, on_empty: OnEmpty = "error") -> list[str]:
    """Check that `texts` is a collection of str that UTF-8 can write, and none of them empty if that is an error."""
    given = listed(texts, f"the {kind} texts")
    if not isinstance(given, (list, tuple)):
        message = f"the {kind} texts are one {type(given).__name__}; pass a list of str"
        raise InvalidInputError(message)
    if names is not None and len(names) != len(given):
        message = f"{len(names)} ids for {len(given)} {kind} texts; give one for each"
        raise InvalidInputError(message)
    for position, text in enumerate(given):
        text_of(text, _what(kind, position, names))
        if on_empty == "error" and not text.strip():
            remedy = (
                "leave it out, or pass on_empty='keep' or 'skip'"
                if kind == "document"
                else "there is nothing to search for"
            )
            message = f"{_what(kind, position, names)} is empty; {remedy}"
            raise InvalidInputError(message)
    return list(given)


def on_empty_of(value: Any) -> OnEmpty:
    """Check that `value` says what becomes of empty texts."""
    choice_of(value, "on_empty", get_args(OnEmpty))
    return value  # type: ignore[no-any-return]


def _encode(
    kind: Task,
    encoder: Any,
    texts: Sequence[str],
    *,
    dim: int | None,
    names: IdSequence | None,
    long: Long | None,
    on_empty: OnEmpty,
) -> EncodedTexts:
    encoder = as_encoder(encoder)
    optional(count_of, dim, "dim")
    names = optional(normalise_ids, names, "names")
    texts = checked_texts(texts, kind, names, on_empty=on_empty_of(on_empty))
    encode = _method(encoder, kind, long)
    filled = [position for position, text in enumerate(texts) if text.strip()]
    try:
        vectors = encode([texts[position] for position in filled]) if filled else []
    except TextTooLongError as error:
        position = filled[error.position]
        raise TextTooLongError(error.tokens, error.limit, position, _what(kind, position, names)) from None
    filled_names = None if names is None else [names[position] for position in filled]
    ragged = to_ragged(vectors, dim=dim, kind=kind, names=filled_names, allow_empty=on_empty != "error")
    if len(ragged) != len(filled):
        message = f"{type(encoder).__name__} gave vectors for {len(ragged)} of {len(filled)} {kind} texts"
        raise EncoderError(message)
    lengths = np.zeros(len(texts), dtype=np.int64)
    lengths[filled] = ragged.lengths
    truncated = np.zeros(len(texts), dtype=np.bool_)
    marks = getattr(vectors, "truncated", None)
    if marks is not None:
        if len(marks) != len(filled):
            message = f"{type(encoder).__name__} marked {len(marks)} of {len(filled)} {kind} texts as cut or whole"
            raise EncoderError(message)
        truncated[filled] = marks
    empty = np.flatnonzero(lengths == 0)
    positions = np.flatnonzero(lengths) if on_empty == "skip" else np.arange(len(texts))
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths[positions])])
    kept_marks = None if marks is None else truncated[positions].tolist()
    return EncodedTexts(Ragged(ragged.values, offsets), positions, empty, kept_marks)


def _method(encoder: Any, kind: Task, long: Long | None) -> Callable[[list[str]], Any]:
    """Give the encoder's method, with `long` where it is given."""
    method: Callable[..., Any] = getattr(encoder, f"encode_{kind}")
    if long is None:
        return method
    parameters: Collection[str] = ()
    # A method that is not written in Python need not say.
    with suppress(TypeError, ValueError):
        parameters = inspect.signature(method).parameters
    if "long" not in parameters:
        message = (
            f"{type(encoder).__name__}.encode_{kind} has no parameter long, so the encoder alone decides about long "
            f"texts: leave out long={shown(long)}, or give the method a parameter long=None"
        )
        raise InvalidInputError(message)
    return partial(method, long=long_of(long))


def _what(kind: str, position: int, names: IdSequence | None) -> str:
    name = f"at position {position}" if names is None else repr(one_id(names[position]))
    return f"the text of {kind} {name}"
