"""Rerank texts with a multi-vector model, in the shape of sentence-transformers' `CrossEncoder`; no index needed."""

from collections.abc import Callable, Sequence
from typing import Any, NotRequired, TypedDict, cast, get_args

import numpy as np

from latewood.common.types import FloatArray, Precision, VectorInput
from latewood.encode.nano import nano_en
from latewood.encode.protocol import Encoder, as_encoder, encode_documents, encode_queries
from latewood.encode.sentence_transformers import SentenceTransformersEncoder
from latewood.encode.windows import Long, long_of
from latewood.errors import InvalidInputError
from latewood.forms.arrays import to_numpy
from latewood.forms.ragged import Ragged, is_text_batch, listed, to_ragged
from latewood.forms.values import choice_of, count_of, flag_of, optional, text_of, threads_of
from latewood.rerank.maxsim import maxsim


class Ranked(TypedDict):
    """A document's place: its position among those given, its score, and itself if that was asked for."""

    corpus_id: int
    score: float
    text: NotRequired[object]


class Measures:
    """Where the evaluators of sentence-transformers leave what they have measured: a model's card has that method."""

    def __init__(self) -> None:
        self.metrics: dict[str, Any] = {}

    def set_evaluation_metrics(self, evaluator: object, metrics: dict[str, Any], epoch: int = 0, step: int = 0) -> None:
        """Keep metrics by their names; `evaluator`, `epoch` and `step` are not read."""
        self.metrics.update(metrics)


class Reranker:
    """Exact MaxSim of queries and documents, with `rank` and `predict` as `CrossEncoder` has them.

    It goes where sentence-transformers takes a `CrossEncoder`: into `mine_hard_negatives` and the evaluators of
    `sentence_transformers.cross_encoder`, which leave what they measure in `model_card_data.metrics`.

    Parameters
    ----------
    encoder : Encoder, MultiVectorEncoder or str, optional
        A str is a model's name or path; by default "latewood/nano-en", which is inside the wheel. It is not loaded
        while only vectors are ranked.
    length_normalize : bool
        Divide scores by the number of query tokens.
    long : {"windows", "cut", "error"}, optional
        What becomes of texts with more tokens than the encoder takes (docs/long_texts.md); by default what the encoder
        is set to.
    precision : {"float32", "bfloat16"}
        As for `latewood.maxsim`.
    """

    num_labels = 1
    """One score for a pair, as evaluators ask a `CrossEncoder`."""

    def __init__(
        self,
        encoder: Any = None,
        *,
        length_normalize: bool = False,
        long: Long | None = None,
        precision: Precision = "float32",
    ) -> None:
        self._encoder = as_encoder(encoder) if encoder is not None else None
        self.length_normalize = flag_of(length_normalize, "length_normalize")
        self.long = optional(long_of, long, "long")
        self.precision = choice_of(precision, "precision", get_args(Precision))
        self.model_card_data = Measures()

    def __repr__(self) -> str:
        """Show the encoder that was given."""
        return f"{type(self).__name__}({'' if self._encoder is None else repr(self._encoder)})"

    @property
    def encoder(self) -> Encoder:
        """What turns texts into token vectors."""
        if self._encoder is None:
            self._encoder = nano_en()
        return self._encoder

    def rank(
        self,
        query: str | VectorInput,
        documents: Sequence[str] | VectorInput,
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[FloatArray], Any] | None = None,
        device: Any = None,
        pool: Any = None,
        chunk_size: int | None = None,
        *,
        document_vectors: VectorInput | None = None,
        threads: int | None = None,
    ) -> list[Ranked]:
        """Order documents for one query.

        Parameters
        ----------
        query : str or [tokens, dim] array
        documents : sequence of str, or token vectors in any form of `latewood.to_ragged`
        top_k : int, optional
            All documents by default.
        return_documents : bool
            Whether results have the key "text".
        prompt_name, prompt, batch_size, show_progress_bar, device, pool, chunk_size
            Handed to the sentence-transformers encoder; other encoders take none of the prompts, devices and pools.
        activation_fn : callable, optional
            Applied to the array of scores; a torch module, such as `torch.nn.Sigmoid()`, to a tensor of them.
        document_vectors : token vectors, optional
            Of `documents`, so that they are not encoded again.
        threads : int, optional

        Returns
        -------
        list of Ranked
            {"corpus_id": position in `documents`, "score": float, "text": document}, best first; ties by position.
        """
        top_k = optional(count_of, top_k, "top_k")
        return_documents = flag_of(return_documents, "return_documents")
        threads = threads_of(threads)
        _check_activation(activation_fn)
        options = _encode_options(prompt_name, prompt, batch_size, show_progress_bar, device, pool, chunk_size)
        if isinstance(documents, str):
            message = "the documents are one text; pass a list of them: [text]"
            raise InvalidInputError(message)
        documents = listed(documents, "the documents")
        query_vectors = self._query_vectors([query] if isinstance(query, str) else query, options)
        if len(query_vectors) != 1:
            message = f"rank takes one query, not {len(query_vectors)}"
            raise InvalidInputError(message)
        if isinstance(documents, (list, tuple)) and not documents:
            return []
        vectors = self._document_vectors(documents if document_vectors is None else document_vectors, options)
        if document_vectors is not None:
            count = len(documents) if hasattr(documents, "__len__") else None
            if count != len(vectors):
                message = f"{len(vectors)} document vectors for {count} documents; give one item for each"
                raise InvalidInputError(message)
        scores = self._scores(query_vectors, vectors, threads)
        values = _activated(scores, activation_fn)
        order = np.argsort(-values, kind="stable").tolist()
        ranked = []
        for position in order[:top_k]:
            entry: Ranked = {"corpus_id": position, "score": float(values[position])}
            if return_documents:
                entry["text"] = cast("Sequence[object]", documents)[position]
            ranked.append(entry)
        return ranked

    def predict(
        self,
        inputs: Sequence[Any],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[FloatArray], Any] | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        pool: Any = None,
        chunk_size: int | None = None,
        *,
        threads: int | None = None,
    ) -> Any:
        """Score (query, document) pairs of texts; each different text is encoded once.

        Parameters
        ----------
        inputs : sequence of (query, document), or one such pair
        apply_softmax : bool
            Accepted for the signature's sake; there is one score for a pair, so it changes nothing.
        convert_to_numpy, convert_to_tensor : bool
            A numpy array by default; a torch tensor; or with both False a list of floats.
        **others
            As for `rank`.

        Returns
        -------
        float32 array [pairs], torch tensor, list of float; or one score for one pair
        """
        optional(flag_of, apply_softmax, "apply_softmax")
        convert_to_numpy = flag_of(convert_to_numpy, "convert_to_numpy")
        convert_to_tensor = flag_of(convert_to_tensor, "convert_to_tensor")
        threads = threads_of(threads)
        _check_activation(activation_fn)
        given = listed(inputs, "the inputs")
        if not isinstance(given, (list, tuple)):
            message = f"the inputs are a {type(given).__name__}; pass a list of (query, document) pairs of texts"
            raise InvalidInputError(message)
        single = len(given) == 2 and all(isinstance(part, str) for part in given)
        pairs = [tuple(given)] if single else [listed(pair, f"input {at}") for at, pair in enumerate(given)]
        for position, pair in enumerate(pairs):
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                message = f"input {position} is not a (query, document) pair of texts"
                raise InvalidInputError(message)
            text_of(pair[0], f"the query of input {position}")
            text_of(pair[1], f"the document of input {position}")
        options = _encode_options(prompt_name, prompt, batch_size, show_progress_bar, device, pool, chunk_size)
        scores = self._pair_scores(pairs, options, threads)
        values = _activated(scores, activation_fn)
        if convert_to_tensor:
            import torch

            tensor = torch.from_numpy(values)
            return tensor[0] if single else tensor
        if single:
            return values[0]
        return values if convert_to_numpy else values.tolist()

    def _pair_scores(self, pairs: list[Any], options: dict[str, Any], threads: int | None) -> FloatArray:
        scores = np.empty(len(pairs), dtype=np.float32)
        if not pairs:
            return scores
        texts = list(dict.fromkeys(document for _, document in pairs))
        column = {text: position for position, text in enumerate(texts)}
        vectors = self._document_vectors(texts, options)
        by_query: dict[str, list[int]] = {}
        for position, (query, _) in enumerate(pairs):
            by_query.setdefault(query, []).append(position)
        queries = self._query_vectors(list(by_query), options)
        for query, rows in zip(queries, by_query.values(), strict=True):
            chosen = [vectors[column[pairs[row][1]]] for row in rows]
            scores[rows] = self._scores(query, chosen, threads)
        return scores

    def _scores(self, query: Any, documents: Any, threads: int | None) -> FloatArray:
        options: dict[str, Any] = {"length_normalize": self.length_normalize, "precision": self.precision}
        one: FloatArray = maxsim(query, documents, **options, threads=threads)[0]
        return one

    def _query_vectors(self, query: Any, options: dict[str, Any]) -> Ragged:
        query = listed(query, "the query")
        if not is_text_batch(query):
            return to_ragged(query, kind="query")
        return encode_queries(_configured(self.encoder, options), query, long=self.long)

    def _document_vectors(self, documents: Any, options: dict[str, Any]) -> Ragged:
        if not is_text_batch(documents):
            return to_ragged(documents, allow_empty=True)
        return encode_documents(_configured(self.encoder, options), documents, long=self.long)


def _configured(encoder: Any, options: dict[str, Any]) -> Any:
    """Give an encoder the options of one call; only sentence-transformers' encoders know them."""
    if isinstance(encoder, SentenceTransformersEncoder):
        return _Configured(encoder, options)
    foreign = [name for name in options if name not in ("batch_size", "show_progress_bar")]
    if foreign:
        message = f"{type(encoder).__name__} takes no {foreign[0]}; only sentence-transformers encoders do"
        raise InvalidInputError(message)
    return encoder


class _Configured:
    def __init__(self, encoder: SentenceTransformersEncoder, options: dict[str, Any]) -> None:
        self._encoder = encoder
        self._options = options

    def encode_query(self, inputs: list[str], /, *, long: Long | None = None) -> Any:
        return self._encoder.encode_query(inputs, long=long, **self._options)

    def encode_document(self, inputs: list[str], /, *, long: Long | None = None) -> Any:
        return self._encoder.encode_document(inputs, long=long, **self._options)


def _encode_options(
    prompt_name: str | None,
    prompt: str | None,
    batch_size: int,
    show_progress_bar: bool | None,
    device: Any,
    pool: Any,
    chunk_size: int | None,
) -> dict[str, Any]:
    given = {
        "prompt_name": optional(text_of, prompt_name, "prompt_name"),
        "prompt": optional(text_of, prompt, "prompt"),
        "device": device,
        "pool": pool,
        "chunk_size": optional(count_of, chunk_size, "chunk_size"),
    }
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    shows = optional(flag_of, show_progress_bar, "show_progress_bar")
    return {**options, "batch_size": count_of(batch_size, "batch_size"), "show_progress_bar": bool(shows)}


def _check_activation(activation: Any) -> None:
    if activation is not None and not callable(activation):
        message = f"activation_fn is a {type(activation).__name__}; pass a function of the array of scores"
        raise InvalidInputError(message)


def _activated(scores: FloatArray, activation: Callable[[FloatArray], Any] | None) -> FloatArray:
    if activation is None:
        return scores
    # A torch module, as a `CrossEncoder` takes it, takes tensors alone.
    given: Any = scores
    if callable(getattr(activation, "forward", None)):
        import torch

        given = torch.from_numpy(scores)
    values = to_numpy(activation(given), "what activation_fn gave")
    if values.shape != scores.shape or values.dtype.kind not in "fiub":
        message = (
            f"activation_fn gave {values.dtype} of shape {values.shape} for {len(scores)} scores; it must give "
            "one number for each"
        )
        raise InvalidInputError(message)
    return values.astype(np.float32)
