"""Multi-vector models by onnxruntime: text to token vectors without torch, from a folder on this disk."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from latewood._core import Stop
from latewood.common.packages import import_optional
from latewood.common.processors import processors
from latewood.common.types import BoolArray, FloatArray
from latewood.encode.encoded import Encoded
from latewood.encode.loading import loading
from latewood.encode.onnx_folder import Expansion, Recipe, Side, read_folder
from latewood.encode.onnx_modules import IdArray, ResolvedMask, Task
from latewood.encode.windows import Long, Row, divide, long_of
from latewood.errors import EncoderError, InvalidInputError, MissingDependencyError
from latewood.forms.arrays import as_list
from latewood.forms.values import count_of, optional, path_of, text_of, threads_of

Named = tuple[list[str], list[tuple[int, int]]]
"""Names of tokens, and the characters that each stands for."""
_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})


class OnnxEncoder:
    """A multi-vector model exported to ONNX, run by onnxruntime and tokenizers.

    Parameters
    ----------
    folder : path-like
        What sentence-transformers saves of a `MultiVectorEncoder(..., backend="onnx")`, or a plain folder with
        `model.onnx`, `tokenizer.json` and `config.json` (docs/encoders.md). Nothing in it is run but the graph.
    threads : int, optional
        Batches that are encoded at a time, each on one thread; as many as this process has processors by default.
    batch_tokens : int
        Tokens of a batch, padding included: texts of like length go through the graph together up to this number, and
        a longer text goes alone; with 1, all do. Small batches stay in a processor's cache.
    graph : str, optional
        Name of the graph's file where there are several, such as a quantised one.
    long : {"windows", "cut", "error"}
        What becomes of a text with more tokens than the model takes, query or document. "windows" encodes it in
        overlapping windows, and gives one vector for each token of the whole text; "cut" leaves out what is over, and
        marks the text as truncated; "error" refuses it. A call's own `long` goes before this one (docs/long_texts.md).

    Raises
    ------
    EncoderError
        The folder holds no such model, or one with a module that is not known here; the message names it.
    MissingDependencyError
        onnxruntime or tokenizers are not installed.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        threads: int | None = None,
        batch_tokens: int = 512,
        graph: str | None = None,
        long: Long = "windows",
    ) -> None:
        self._options: dict[str, Any] = {
            "threads": threads_of(threads),
            "batch_tokens": count_of(batch_tokens, "batch_tokens"),
            "graph": optional(path_of, graph, "graph"),
            "long": long_of(long),
        }
        self._recipe = read_folder(Path(path_of(folder, "folder")), self._options["graph"])
        _check_installed()
        self._loaded: _Model | None = None

    @property
    def name(self) -> str:
        """The name in the folder's `config.json`, or the folder."""
        return self._recipe.name

    @property
    def revision(self) -> str | None:
        """The revision in the folder's `config.json`."""
        return self._recipe.revision

    @property
    def dim(self) -> int:
        """Dimensions of a token vector."""
        if self._recipe.dim is not None:
            return self._recipe.dim
        return int(self._encode(["dimensions"], "document", "cut")[0].shape[1])

    @property
    def prompts(self) -> dict[str, str]:
        """What is put before queries and documents."""
        return {task: side.prompt for task, side in self._recipe.sides.items() if side.prompt}

    @property
    def pooling(self) -> list[dict[str, Any]]:
        """The modules that text passes through, with the settings that shape its vectors."""
        return self._recipe.pooling

    def encode_query(self, inputs: list[str], /, *, long: Long | None = None) -> Encoded:
        """Token vectors of each query, `[tokens, dim]` float32 arrays in the order of the texts.

        Raises
        ------
        TextTooLongError
            A text has more tokens than the model takes, and `long` is "error".
        """
        return self._encode(inputs, "query", long)

    def encode_document(self, inputs: list[str], /, *, long: Long | None = None) -> Encoded:
        """Token vectors of each document, as for queries; `truncated` of the result tells which texts were cut."""
        return self._encode(inputs, "document", long)

    def query_tokens(self, text: str, *, long: Long | None = None) -> list[str]:
        """Tokens that the query's vectors stand for; with `long`, those that it was encoded with."""
        return list(self._named(text, "query", long)[0])

    def document_tokens(self, text: str, *, long: Long | None = None) -> list[str]:
        """Tokens that the document's vectors stand for; with `long`, those that it was encoded with."""
        return list(self._named(text, "document", long)[0])

    def query_spans(self, text: str, *, long: Long | None = None) -> list[tuple[int, int]]:
        """Give the same for each of the query's vectors as `document_spans` does for the document's."""
        return list(self._named(text, "query", long)[1])

    def document_spans(self, text: str, *, long: Long | None = None) -> list[tuple[int, int]]:
        """Give, for each of the document's vectors, the characters of the text that it stands for, `text[first:last]`.

        (0, 0) where there are none: special tokens, and those of a prompt.
        """
        return list(self._named(text, "document", long)[1])

    def _named(self, text: str, task: Task, long: Long | None) -> Named:
        long = self._options["long"] if long is None else long_of(long)
        return self._model.named(_checked([text])[0], task, long)

    def _encode(self, inputs: Sequence[str], task: Task, long: Long | None) -> Encoded:
        long = self._options["long"] if long is None else long_of(long)
        texts = _checked(inputs)
        if not texts:
            return Encoded([], [])
        encoded = self._model.run(texts, task, long)
        dim = encoded[0].shape[1]
        if self._recipe.dim is not None and dim != self._recipe.dim:
            message = f"{self._recipe.graph} gives {dim} dimensions, and its folder says {self._recipe.dim}"
            raise EncoderError(message)
        return encoded

    @property
    def _model(self) -> "_Model":
        # A forked child gets a session of its own: a thread of the parent may have held a lock of the inherited one.
        model = self._loaded
        if model is None or model.process != os.getpid():
            with loading():
                model = self._loaded
                if model is None or model.process != os.getpid():
                    threads = self._options["threads"] or processors()
                    model = self._loaded = _Model(self._recipe, threads, self._options["batch_tokens"])
        return model

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the folder and the options, and load again."""
        return (partial(OnnxEncoder, **self._options), (self._recipe.folder,))

    def __repr__(self) -> str:
        """Give the name, without loading anything."""
        return f"OnnxEncoder({self.name!r})"


def _check_installed() -> None:
    # Found, not imported: an encoder that is made and never used costs nothing.
    for package in ("onnxruntime", "tokenizers"):
        if find_spec(package) is None:
            message = f"encoding text needs the package {package!r}: pip install 'latewood[text]'"
            raise MissingDependencyError(message)


def _checked(inputs: Sequence[str]) -> list[str]:
    if isinstance(inputs, str):
        message = "texts must come as a list of str, not as one str; pass [text]"
        raise InvalidInputError(message)
    texts = as_list(inputs, "the texts")
    return [text_of(text, f"the text at position {position}") for position, text in enumerate(texts)]


class _Model:
    """Graph and tokenizer, loaded."""

    def __init__(self, recipe: Recipe, threads: int, batch_tokens: int) -> None:
        self.process = os.getpid()
        self._recipe = recipe
        self._threads = threads
        self._batch_tokens = batch_tokens
        self._tokenizer = _load_tokenizer(recipe.tokenizer)
        self._session = _load_session(recipe.graph)
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        if unknown := [name for name in self._inputs if name not in _INPUTS]:
            message = f"{recipe.graph} asks for the input {unknown[0]!r}; {', '.join(sorted(_INPUTS))} are supported"
            raise EncoderError(message)
        self._types = {
            entry.name: np.int32 if entry.type == "tensor(int32)" else np.int64 for entry in self._session.get_inputs()
        }
        self._output = _output_of(self._session, recipe)
        special = recipe.special
        self._pad = self._id_of(special.pad) or 0
        self._masks: list[ResolvedMask] = [mask.resolved(self._tokenizer, special.unknown) for mask in recipe.masks]
        self._expansion_id = self._find_expansion_id(recipe.sides["query"].expansion)
        # The names and the characters of one text are asked for one after the other, and those of a query for each hit.
        self.named: Callable[[str, Task, Long], Named] = lru_cache(maxsize=128)(self._name)

    def run(self, texts: list[str], task: Task, long: Long) -> Encoded:
        rows, truncated = self._prepare(texts, task, long)
        batches = list(self._batches(rows, task))

        def vectors_of(batch: list[int]) -> list[FloatArray]:
            Stop.check()
            return self._run_batch([rows[position] for position in batch], task)

        vectors: list[Any] = [None] * len(rows)
        threads = min(self._threads, len(batches))
        with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
            # Each thread is in the blocks of `Stop` that the caller is in.
            contexts = [copy_context() for _ in batches]
            run = map if pool is None else pool.map
            parts = run(lambda context, batch: context.run(vectors_of, batch), contexts, batches)
            for batch, part in zip(batches, parts, strict=True):
                for position, one in zip(batch, part, strict=True):
                    vectors[position] = one
        of_texts: list[list[FloatArray]] = [[] for _ in texts]
        for row, one in zip(rows, vectors, strict=True):
            of_texts[row.text].append(one)
        return Encoded((one[0] if len(one) == 1 else np.concatenate(one) for one in of_texts), truncated)

    def _batches(self, rows: list[Row], task: Task) -> Iterator[list[int]]:
        """Positions of rows of like length, the longest first, so that no long one is left over at the end."""
        widths = [(max(1, len(row.ids), self._floor(row, task)), len(row.ids)) for row in rows]
        batch: list[int] = []
        for position in sorted(range(len(rows)), key=widths.__getitem__, reverse=True):
            if batch and (len(batch) + 1) * widths[batch[0]][0] > self._batch_tokens:
                yield batch
                batch = []
            batch.append(position)
        yield batch

    def _name(self, text: str, task: Task, long: Long) -> Named:
        """Name the tokens that have a vector, and give their characters."""
        side: Side = self._recipe.sides[task]
        encoding = self._tokenizer.encode(side.prompt + text)
        rows = self._divided(0, encoding, side, long)
        ids, _, _, counted = self._fill(rows, task)
        spans, characters = [], encoding.offsets
        for row, marks in zip(rows, counted, strict=True):
            # Tokens that a query is expanded with stand for none.
            own = [characters[token] for token in row.tokens] + [(0, 0)] * (len(marks) - len(row.ids))
            spans += [span for span, mark in zip(own, marks, strict=True) if mark]
        start = len(side.prompt)
        return (
            [str(self._tokenizer.id_to_token(int(token))) for token in ids[counted]],
            [(max(first - start, 0), max(last - start, 0)) for first, last in spans],
        )

    def _prepare(self, texts: list[str], task: Task, long: Long) -> tuple[list[Row], list[bool]]:
        """Rows for the graph, those of one text in its order, and which texts were cut."""
        side: Side = self._recipe.sides[task]
        prompted = [side.prompt + text for text in texts]
        rows: list[Row] = []
        truncated = []
        for position, encoding in enumerate(self._tokenizer.encode_batch_fast(prompted)):
            too_long = side.length is not None and len(encoding) > side.length
            if too_long and long == "windows":
                encoding = self._tokenizer.encode(prompted[position])
            rows += self._divided(position, encoding, side, long)
            truncated.append(too_long and long == "cut")
        return rows, truncated

    def _divided(self, position: int, encoding: Any, side: Side, long: Long) -> list[Row]:
        cut_left = self._recipe.special.cut_left
        return divide(position, encoding, side.length, long, prompt=side.prompt, cut_left=cut_left)

    def _floor(self, row: Row, task: Task) -> int:
        """Tokens to which a row is expanded. A window of a text is not: the text fills the width more than once."""
        expansion = self._recipe.sides[task].expansion
        return expansion.length if expansion is not None and row.whole else 0

    def _fill(self, rows: list[Row], task: Task) -> tuple[IdArray, IdArray, IdArray, BoolArray]:
        """Ids, attention and types, `[rows, width]`, and which tokens are scored."""
        expansion = self._recipe.sides[task].expansion
        lengths = np.array([len(row.ids) for row in rows])
        floors = np.array([self._floor(row, task) for row in rows])
        # A graph may not like a width of 0, which texts without any token would have.
        width = max(1, int(lengths.max()), int(floors.max()))
        ids = np.full((len(rows), width), self._pad, dtype=np.int64)
        types = np.zeros((len(rows), width), dtype=np.int64)
        counted = np.zeros((len(rows), width), dtype=np.bool_)
        for position, row in enumerate(rows):
            ids[position, : len(row.ids)] = row.ids
            types[position, : len(row.ids)] = row.types
            counted[position, row.first : row.last] = True
        columns = np.arange(width)
        attended = columns < lengths[:, None]
        attention = attended.astype(np.int64)
        if expansion is not None:
            added = ~attended & (columns < floors[:, None])
            ids[added] = self._expansion_id
            if expansion.attend:
                attention[added] = 1
            # Without a mask module, what is scored is what is attended to.
            if self._masks or expansion.attend:
                counted = counted | added
        for mask in self._masks:
            counted = mask(counted, ids, task)
        return ids, attention, types, counted

    def _run_batch(self, rows: list[Row], task: Task) -> list[FloatArray]:
        ids, attention, types, counted = self._fill(rows, task)
        given = {"input_ids": ids, "attention_mask": attention, "token_type_ids": types}
        feed = {name: given[name].astype(self._types[name], copy=False) for name in self._inputs}
        hidden = self._session.run([self._output], feed)[0]
        vectors = np.asarray(hidden[counted], dtype=np.float32)
        for module in self._recipe.projections:
            vectors = module(vectors)
        ends = np.cumsum(counted.sum(axis=1))
        return np.split(vectors, ends[:-1])

    def _id_of(self, token: str | None) -> int | None:
        found = None if token is None else self._tokenizer.token_to_id(token)
        return None if found is None else int(found)

    def _find_expansion_id(self, expansion: Expansion | None) -> int:
        if expansion is None:
            return self._pad
        special = self._recipe.special
        if special.pad_left:
            message = f"{self._recipe.folder}: query expansion with padding on the left is not supported"
            raise EncoderError(message)
        wanted = expansion.token or special.mask or special.end
        found = self._id_of(wanted)
        if found is None:
            message = f"{self._recipe.folder}: the tokenizer has no token {wanted!r} to expand queries with"
            raise EncoderError(message)
        return found


def _load_tokenizer(path: Path) -> Any:
    package = import_optional("tokenizers", extra="text", purpose="encoding text")
    try:
        tokenizer = package.Tokenizer.from_file(str(path))
    except Exception as error:  # that is what tokenizers raises
        message = f"{path} is no tokenizer that this version of tokenizers reads: {error}"
        raise EncoderError(message) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _load_session(path: Path) -> Any:
    # Newer versions tell their makers of every process that loads them, unless they are told not to before.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    package = import_optional("onnxruntime", extra="text", purpose="encoding text")
    options = package.SessionOptions()
    # Batches side by side are faster than threads inside of one, and a session without threads can be forked.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return package.InferenceSession(
            str(path),
            options,
            providers=["CPUExecutionProvider"],
            # On processors, the fused operator is several times slower than the two that it replaces.
            disabled_optimizers=["SkipLayerNormFusion"],
        )
    except Exception as error:  # onnxruntime has a dozen classes, none of them public
        message = f"{path} cannot be loaded by onnxruntime {package.__version__}: {error}"
        raise EncoderError(message) from error


def _output_of(session: Any, recipe: Recipe) -> str:
    outputs: dict[str, Any] = {entry.name: entry.shape for entry in session.get_outputs()}
    for name in recipe.outputs:
        if name in outputs:
            return name
    tokenwise = [name for name, shape in outputs.items() if len(shape) == 3]
    if len(tokenwise) != 1:
        message = f"{recipe.graph} has no output {recipe.outputs[0]!r}, but {', '.join(outputs)}"
        raise EncoderError(message)
    return tokenwise[0]
