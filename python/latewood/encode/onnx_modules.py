"""What follows a transformer in a sentence-transformers pipeline, in numpy: projection, unit length, scoring masks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from latewood.common.packages import import_optional
from latewood.common.types import BoolArray, FloatArray
from latewood.errors import EncoderError

Task: TypeAlias = Literal["query", "document"]
IdArray: TypeAlias = NDArray[np.int64]

TOKENS = "token_embeddings"
"""The feature that holds one vector for each token; modules that work on another one are not for late interaction."""


class Tokenwise(Protocol):
    """A module that treats each token vector by itself, so that vectors nobody scores can be left out before it."""

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """Give the new vectors of `[tokens, dim]`."""


@dataclass(frozen=True, slots=True)
class Normalize:
    """Scales vectors to unit length."""

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """Divide by the norms; a zero vector stays zero."""
        norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        scaled: FloatArray = vectors / np.maximum(norms, 1e-12)[:, None]
        return scaled


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer with an activation, and perhaps the input added to its output."""

    weight: FloatArray
    bias: FloatArray | None
    activation: Callable[[FloatArray], FloatArray]
    residual: bool
    residual_weight: FloatArray | None

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """Project `[tokens, in]` to `[tokens, out]`."""
        projected = vectors @ self.weight.T
        if self.bias is not None:
            projected += self.bias
        projected = self.activation(projected)
        if self.residual:
            projected = projected + (vectors if self.residual_weight is None else vectors @ self.residual_weight.T)
        return projected

    @property
    def dim(self) -> int:
        """Dimensions of the output."""
        return len(self.weight)


@dataclass(frozen=True, slots=True)
class Skiplist:
    """Which tokens count in scores, as sentence-transformers' `MultiVectorMask` has it."""

    words: tuple[str, ...]
    tasks: tuple[str, ...]
    keep_only: tuple[int, ...]

    def resolved(self, tokenizer: Any, unknown: str | None) -> "ResolvedMask":
        """Look the words up; one that is no single token of the vocabulary is left out, as there."""
        unknown_id = None if unknown is None else tokenizer.token_to_id(unknown)
        skipped: list[int] = []
        for word in self.words:
            token = tokenizer.token_to_id(word)
            if token is not None and (token != unknown_id or word == unknown):
                skipped.append(token)
        return ResolvedMask(np.array(skipped, dtype=np.int64), self.tasks, np.array(self.keep_only, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class ResolvedMask:
    """A skiplist as token ids."""

    skipped: IdArray
    tasks: tuple[str, ...]
    keep_only: IdArray

    def __call__(self, counted: BoolArray, ids: IdArray, task: Task) -> BoolArray:
        """Narrow `counted` `[texts, tokens]` down to the tokens that are scored."""
        if task in self.tasks and len(self.skipped):
            counted = counted & ~np.isin(ids, self.skipped)
        if task != "query" and len(self.keep_only):
            counted = counted & np.isin(ids, self.keep_only)
        return counted


def read_dense(folder: Path, config: dict[str, Any], where: str) -> Dense:
    """Read a Dense module's weights from safetensors; pickled weights are refused."""
    _check_feature(config, where)
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    function = _ACTIVATIONS.get(activation.rsplit(".", maxsplit=1)[-1])
    if function is None:
        message = f"{where}: the activation function {activation!r} is not supported; {ELSE}"
        raise EncoderError(message)
    path = folder / "model.safetensors"
    if not path.is_file():
        message = f"{where}: there is no model.safetensors; save the model again with safe_serialization=True"
        raise EncoderError(message)
    safetensors = import_optional("safetensors.numpy", extra="text", purpose="reading the weights of a Dense module")
    try:
        tensors = safetensors.load_file(path)
        weight = _matrix(tensors["linear.weight"])
        bias = np.asarray(tensors["linear.bias"], np.float32) if "linear.bias" in tensors else None
    except Exception as error:  # safetensors has an error class of its own, and names of tensors vary
        message = f"{where}: model.safetensors holds no linear layer ({error})"
        raise EncoderError(message) from error
    residual = bool(config.get("use_residual", False))
    through = tensors.get("residual.weight") if residual else None
    if residual and through is None and weight.shape[0] != weight.shape[1]:
        message = f"{where}: use_residual is set, and model.safetensors has no residual.weight"
        raise EncoderError(message)
    return Dense(weight, bias, function, residual, None if through is None else _matrix(through))


def read_normalize(config: dict[str, Any], where: str) -> Normalize:
    """Check a Normalize module's settings."""
    _check_feature(config, where)
    return Normalize()


def read_skiplist(config: dict[str, Any]) -> Skiplist:
    """Read a MultiVectorMask module's settings."""
    tasks = config.get("skiplist_tasks") or ["document"]
    return Skiplist(
        tuple(config.get("skiplist_words") or ()),
        (tasks,) if isinstance(tasks, str) else tuple(tasks),
        tuple(config.get("keep_only_token_ids") or ()),
    )


ELSE = "load it by SentenceTransformersEncoder(folder), which needs 'latewood[encode]'"
"""The way out where a model needs more than is done here."""


def _check_feature(config: dict[str, Any], where: str) -> None:
    source = config.get("module_input_name") or TOKENS
    target = config.get("module_output_name") or source
    if (source, target) != (TOKENS, TOKENS):
        message = f"{where}: it turns {source!r} into {target!r}, and only {TOKENS!r} are supported; {ELSE}"
        raise EncoderError(message)


def _matrix(values: Any) -> FloatArray:
    matrix = np.ascontiguousarray(values, dtype=np.float32)
    if matrix.ndim != 2:
        message = f"a weight has the shape {list(matrix.shape)}"
        raise ValueError(message)
    return matrix


def _identity(values: FloatArray) -> FloatArray:
    return values


def _tanh(values: FloatArray) -> FloatArray:
    return np.tanh(values)


def _relu(values: FloatArray) -> FloatArray:
    return np.maximum(values, 0)


def _sigmoid(values: FloatArray) -> FloatArray:
    # By tanh, which does not overflow.
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)), dtype=np.float32)


def _silu(values: FloatArray) -> FloatArray:
    return values * _sigmoid(values)


_ACTIVATIONS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "Identity": _identity,
    "Tanh": _tanh,
    "ReLU": _relu,
    "Sigmoid": _sigmoid,
    "SiLU": _silu,
}


def width_of(projections: Sequence[Tokenwise]) -> int | None:
    """Dimensions after the last projection; None if there is none."""
    widths = [module.dim for module in projections if isinstance(module, Dense)]
    return widths[-1] if widths else None
