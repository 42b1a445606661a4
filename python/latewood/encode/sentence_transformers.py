"""sentence-transformers' `MultiVectorEncoder` behind the encoder protocol, loaded on first use."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from latewood.common.packages import import_optional
from latewood.common.types import OffsetArray
from latewood.encode.encoded import Encoded
from latewood.encode.loading import loading
from latewood.encode.onnx_modules import Task
from latewood.encode.pipeline import Pipeline
from latewood.encode.windows import Long, Row, divide, long_of
from latewood.errors import EncoderError, LatewoodError
from latewood.forms.arrays import as_list
from latewood.forms.values import count_of, flag_of, optional, path_of, shown, text_of


def is_multi_vector_encoder(candidate: Any) -> bool:
    """Whether `candidate` is a `MultiVectorEncoder`, without importing sentence-transformers for the question."""
    package = sys.modules.get("sentence_transformers")
    return package is not None and isinstance(candidate, getattr(package, "MultiVectorEncoder", ()))


class SentenceTransformersEncoder:
    """A multi-vector model of sentence-transformers 6.2 or newer.

    Parameters
    ----------
    model : str or MultiVectorEncoder
        A model's name or path, loaded when first needed and never with `trust_remote_code`, or a loaded model.
    revision : str, optional
        Revision of a named model.
    device : str or torch.device, optional
        As sentence-transformers chooses by default.
    batch_size : int
        Texts encoded together.
    show_progress : bool
        Whether encoding shows sentence-transformers' own bar.
    long : {"windows", "cut", "error"}
        As for `OnnxEncoder`. A model that pools its vectors pools those of all windows together. Where a text's tokens
        cannot be told beforehand (pictures, chat templates, slow tokenizers), the model itself cuts, unmarked.
    **load_options
        Passed on to `MultiVectorEncoder` when a name is loaded.
    """

    def __init__(
        self,
        model: Any,
        *,
        revision: str | None = None,
        device: Any = None,
        batch_size: int = 32,
        show_progress: bool = False,
        long: Long = "windows",
        **load_options: Any,
    ) -> None:
        if load_options.pop("trust_remote_code", False):
            message = "trust_remote_code is not supported; load the model yourself and pass the MultiVectorEncoder"
            raise EncoderError(message)
        named = isinstance(model, (str, os.PathLike))
        if not named and not callable(getattr(model, "encode_query", None)):
            message = f"the model is {shown(model)}; pass a name, a path or a MultiVectorEncoder"
            raise EncoderError(message)
        self._model = None if named else model
        self._given_name = path_of(model, "the model's name") if named else None
        self._given_revision = optional(text_of, revision, "revision")
        self._device = device
        self._load_options = load_options
        self.batch_size = count_of(batch_size, "batch_size")
        self.show_progress = flag_of(show_progress, "show_progress")
        self.long = long_of(long)

    @property
    def model(self) -> Any:
        """The `MultiVectorEncoder`, loaded now if it was not yet."""
        with loading():
            if self._model is None:
                package = import_optional("sentence_transformers", extra="encode", purpose="encoding text")
                if not hasattr(package, "MultiVectorEncoder"):
                    message = (
                        f"sentence-transformers {package.__version__} has no MultiVectorEncoder; install 6.2 or newer"
                    )
                    raise EncoderError(message)
                try:
                    self._model = _load(
                        package.MultiVectorEncoder,
                        self._given_name,
                        revision=self._given_revision,
                        device=self._device,
                        trust_remote_code=False,
                        **self._load_options,
                    )
                except Exception as error:  # whatever the library, torch or a repository raises
                    message = f"the encoder {self._given_name!r} could not be loaded: {error}"
                    raise EncoderError(message) from error
            return self._model

    @property
    def name(self) -> str:
        """The model's name or path as it was loaded."""
        if self._given_name is not None:
            return self._given_name
        card = getattr(self.model, "model_card_data", None)
        named = getattr(self.model, "latewood_name", None) or getattr(card, "model_id", None)
        if named:
            return str(named)
        return self._from_config("_name_or_path") or type(self.model).__name__

    @property
    def revision(self) -> str | None:
        """The revision asked for, or the commit the weights came from."""
        if self._given_revision is not None:
            return self._given_revision
        return self._from_config("_commit_hash")

    @property
    def dim(self) -> int | None:
        """Dimensions of a token vector."""
        size = self.model.get_embedding_dimension()
        return None if size is None else int(size)

    @property
    def prompts(self) -> dict[str, str]:
        """What is put before queries and documents."""
        return {str(key): str(value) for key, value in self.model.prompts.items() if value}

    @property
    def pooling(self) -> list[dict[str, Any]]:
        """The modules that text passes through, with the settings that shape its vectors."""
        stages: list[dict[str, Any]] = []
        for module in self.model:
            settings = {
                key: getattr(module, key)
                for key in getattr(module, "config_keys", ())
                if key not in _UNIMPORTANT
                and isinstance(getattr(module, key, None), (bool, int, float, str, list, dict))
            }
            stages.append({"module": type(module).__name__, **settings})
        return stages

    def encode_query(self, inputs: list[str], /, *, long: Long | None = None, **options: Any) -> list[Any]:
        """Token vectors of each query, `[tokens, dim]` arrays.

        Parameters
        ----------
        inputs : list of str
        long : {"windows", "cut", "error"}, optional
            Goes before the encoder's own.
        **options
            Of the model's own method: prompt_name, prompt, batch_size, show_progress_bar, device, pool, chunk_size.
            Windows are encoded in this process on one device, whatever pool there is.

        Raises
        ------
        TextTooLongError
            A text has more tokens than the model takes, and `long` is "error".
        EncoderError
            Whatever the model raises; or `long` is "error", and a text's tokens cannot be told beforehand.
        """
        return self._encode("query", inputs, long, options)

    def encode_document(self, inputs: list[str], /, *, long: Long | None = None, **options: Any) -> list[Any]:
        """Token vectors of each document, as for queries; where it can be told, `truncated` marks what was cut."""
        return self._encode("document", inputs, long, options)

    def query_tokens(self, text: str) -> list[str]:
        """Tokens that the query's vectors stand for."""
        return self._tokens("query", text)

    def document_tokens(self, text: str) -> list[str]:
        """Tokens that the document's vectors stand for."""
        return self._tokens("document", text)

    def query_spans(self, text: str) -> list[tuple[int, int]]:
        """Give the same for each of the query's vectors as `document_spans` does for the document's."""
        return self._spans("query", text)

    def document_spans(self, text: str) -> list[tuple[int, int]]:
        """Give, for each of the document's vectors, the characters of the text that it stands for, `text[first:last]`.

        (0, 0) where there are none: special tokens, and those of a prompt. An empty list where it cannot be told.
        """
        return self._spans("document", text)

    def _from_config(self, attribute: str) -> str | None:
        """Read what transformers noted when it loaded the backbone."""
        for module in self.model:
            config = getattr(getattr(module, "model", None), "config", None)
            value = getattr(config, attribute, None)
            if value:
                return str(value)
        return None

    def run(self, method: str, inputs: Any, **options: Any) -> Any:
        """Call one of the model's methods; what it raises becomes an `EncoderError`."""
        encode = getattr(self.model, method)
        with self._reported(options):
            return encode(inputs, **options)

    @contextmanager
    def _reported(self, options: Any) -> Iterator[None]:
        try:
            yield
        except LatewoodError:
            raise
        except Exception as error:  # whatever the library, torch or a model's own code raises
            message = f"{self!r} could not encode with {options}: {type(error).__name__}: {error}"
            raise EncoderError(message) from error

    def _encode(self, task: Task, inputs: list[str], long: Long | None, options: dict[str, Any]) -> list[Any]:
        long = self.long if long is None else long_of(long)
        items = as_list(inputs, "the texts")
        if not items:
            return []
        options = {"batch_size": self.batch_size, "show_progress_bar": self.show_progress, **options}
        pipeline = Pipeline(self.model, task, options.get("prompt"), options.get("prompt_name"))
        with self._reported(options):
            encodings = pipeline.tokenized(items)
        if encodings is None:
            if long == "error":
                message = f"{self!r} cannot tell beforehand which texts are too long for it; leave out long='error'"
                raise EncoderError(message)
            return list(self.run(f"encode_{task}", items, **options, convert_to_numpy=True))
        too_long = [pipeline.takes_less_than(encoding) for encoding in encodings]
        vectors: list[Any] = [None] * len(items)
        rows: list[Row] = []
        whole: list[int] = []
        for position, encoding in enumerate(encodings):
            if too_long[position] and long != "cut":
                rows += divide(position, encoding, pipeline.limit, long, prompt=pipeline.prompt)
            else:
                whole.append(position)
        if whole:
            texts = [items[position] for position in whole]
            encoded = self.run(f"encode_{task}", texts, **options, convert_to_numpy=True)
            for position, one in zip(whole, encoded, strict=True):
                vectors[position] = one
        with self._reported(options):
            for position, one in pipeline.encode(rows, options["batch_size"], options.get("device")):
                vectors[position] = one
        return Encoded(vectors, [mark and long == "cut" for mark in too_long])

    def _tokens(self, task: Task, text: str) -> list[str]:
        texts = [text_of(text, "the text")]
        pipeline = Pipeline(self.model, task)
        with self._reported({}):
            encodings = pipeline.tokenized(texts)
            if self.long == "windows" and encodings is not None and pipeline.takes_less_than(encodings[0]):
                return [encodings[0].tokens[position] for position in self._in_windows(pipeline, encodings[0])]
        features = self.run(f"encode_{task}", texts, output_value=None, show_progress_bar=False)[0]
        counted = features["attention_mask"].bool()
        return [str(token) for token in self.model.tokenizer.convert_ids_to_tokens(features["input_ids"][counted])]

    def _spans(self, task: Task, text: str) -> list[tuple[int, int]]:
        texts = [text_of(text, "the text")]
        pipeline = Pipeline(self.model, task)
        with self._reported({}):
            encodings = pipeline.tokenized(texts)
            if encodings is None:
                return []
            characters = encodings[0].offsets
            if pipeline.takes_less_than(encodings[0]):
                # What a cut leaves is the model's own affair.
                if self.long != "windows":
                    return []
                positions = self._in_windows(pipeline, encodings[0])
            else:
                features = self.run(f"encode_{task}", texts, output_value=None, show_progress_bar=False)[0]
                positions = np.flatnonzero(features["attention_mask"].bool().cpu().numpy())
        start = len(pipeline.prompt)
        # Tokens that a query is expanded with stand for none.
        spans = [characters[at] if at < len(characters) else (0, 0) for at in positions.tolist()]
        return [(max(first - start, 0), max(last - start, 0)) for first, last in spans]

    def _in_windows(self, pipeline: Pipeline, encoding: Any) -> OffsetArray:
        """Give the positions of a long text's tokens that have a vector."""
        rows = divide(0, encoding, pipeline.limit, "windows", prompt=pipeline.prompt)
        return np.concatenate([part for part, _ in pipeline.run(rows, self.batch_size)])

    def __repr__(self) -> str:
        """Give the name, without loading anything."""
        return f"SentenceTransformersEncoder({self._given_name or self._model!r})"


_UNIMPORTANT = frozenset(
    {"transformer_task", "modality_config", "module_input_name", "module_output_name", "architecture"}
)


def _load(model_class: Any, name: str | None, **options: Any) -> Any:
    """Load a checkpoint whose modules are sentence-transformers' own or `latewood.train.CrispPooling`."""
    # The public way takes classes from outside of sentence-transformers only along with any other code of a checkpoint.
    load = getattr(model_class, "_load_with_module_classes", None)
    if load is None:
        return model_class(name, **options)
    from latewood.train import CrispPooling

    return load(name, {f"{CrispPooling.__module__}.{CrispPooling.__qualname__}": CrispPooling}, **options)
