"""A checkpoint as one small ONNX file: 4-bit word embeddings, 8-bit positions and layers.

The graph is put together from two parts. The first looks tokens up: it gathers a word's packed 4-bit row and unpacks
it, so that the table is never unpacked as a whole. The second is the transformer, exported by torch and quantised by
onnxruntime: weights to 8 bits per output channel, activations to 8 bits in ranges fixed from training text.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from training.nano_en import checkpoint, contrast, distil, ranges, tokens
from training.nano_en.model import LEVELS, Student, build, quantise
from training.nano_en.settings import SEED, Settings

# onnxruntime has no annotations of its own.
quantization: Any = import_module("onnxruntime.quantization")
shape_inference: Any = import_module("onnxruntime.quantization.shape_inference")

OPSET = 18
# Weights in 7 bits: without VNNI, an x86 processor's 8-bit products overflow their 16-bit sums.
REDUCE_RANGE = True
# Texts of each source that fix the activations' ranges, and the part of them that must not be clipped.
SAMPLE, SHARE = 100, 0.98
MODEL, TOKENIZER, CONFIG = "model.onnx", "tokenizer.json", "config.json"


class Body(nn.Module):
    """The student after its embedding table.

    Parameters
    ----------
    student : Student
    """

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, rows: torch.Tensor, positions: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return unit token vectors."""
        bert = self.student.bert
        kind = bert.embeddings.token_type_embeddings.weight[0]
        hidden = bert.embeddings.LayerNorm(self.student.expand(rows) + positions + kind)
        # Far below any score; the lowest float32 would turn into infinity when it is added to one.
        bias = (1.0 - attention_mask[:, None, None, :].float()) * -1e4
        for layer in bert.encoder.layer:
            found = layer(hidden, bias)
            hidden = found[0] if isinstance(found, tuple) else found
        vectors = self.student.project(hidden)
        unit: torch.Tensor = vectors / vectors.square().sum(dim=-1, keepdim=True).sqrt().clamp_min(1e-12)
        return unit


def pack(table: torch.Tensor) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]:
    """Return a table in 4 bits: of two halves of a row, one in the low and one in the high half of each byte.

    Parameters
    ----------
    table : torch.Tensor
        [vocabulary, rank].

    Returns
    -------
    packed : numpy.ndarray
        [vocabulary, rank / 2].
    step : numpy.ndarray
        [vocabulary, 1].
    """
    codes, step = quantise(table.float())
    shifted = (codes + LEVELS).to(torch.uint8).numpy()
    low, high = np.split(shifted, 2, axis=1)
    return low | (high << 4), step.half().numpy()


def lookup(student: Student) -> onnx.ModelProto:
    """Return the graph from token ids to embedding rows and positions."""
    packed, step = pack(student.word.weight.detach())
    table = student.bert.embeddings.position_embeddings.weight.detach().numpy()
    position_step = np.abs(table).max(axis=1, keepdims=True) / 127
    constants = {
        "words": packed,
        "word_step": step,
        "position_codes": np.round(table / position_step).astype(np.int8),
        "position_step": position_step.astype(np.float32),
        "fifteen": np.array(15, np.uint8),
        "four": np.array(4, np.uint8),
        "zero_level": np.array(LEVELS, np.float32),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["words", "input_ids"], ["packed"], axis=0),
        node("BitwiseAnd", ["packed", "fifteen"], ["low"]),
        node("BitShift", ["packed", "four"], ["high"], direction="RIGHT"),
        node("Cast", ["low"], ["low_float"], to=TensorProto.FLOAT),
        node("Cast", ["high"], ["high_float"], to=TensorProto.FLOAT),
        node("Concat", ["low_float", "high_float"], ["levels"], axis=-1),
        node("Sub", ["levels", "zero_level"], ["codes"]),
        node("Gather", ["word_step", "input_ids"], ["step_half"], axis=0),
        node("Cast", ["step_half"], ["step"], to=TensorProto.FLOAT),
        node("Mul", ["codes", "step"], ["rows"]),
        node("Shape", ["input_ids"], ["length"], start=1, end=2),
        node("Slice", ["position_codes", "zero", "length", "zero", "one"], ["near_codes"]),
        node("Slice", ["position_step", "zero", "length", "zero", "one"], ["near_step"]),
        node("Cast", ["near_codes"], ["near_float"], to=TensorProto.FLOAT),
        node("Mul", ["near_float", "near_step"], ["positions"]),
    ]
    rank, width = student.word.weight.shape[1], table.shape[1]
    graph = helper.make_graph(
        nodes,
        "lookup",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
        [
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", "tokens", rank]),
            helper.make_tensor_value_info("positions", TensorProto.FLOAT, ["tokens", width]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def body(student: Student) -> onnx.ModelProto:
    """Return the quantised graph from embedding rows to token vectors."""
    texts, length = 2, 16
    example = (
        torch.randn(texts, length, student.word.weight.shape[1]),
        torch.randn(length, student.bert.config.hidden_size),
        torch.ones(texts, length, dtype=torch.int64),
    )
    axes = {0: "batch", 1: "tokens"}
    with tempfile.TemporaryDirectory() as folder:
        exact, prepared, small = (Path(folder) / name for name in ("exact.onnx", "prepared.onnx", "small.onnx"))
        torch.onnx.export(
            Body(student).eval(),
            example,
            exact,
            input_names=["rows", "positions", "attention_mask"],
            output_names=["token_embeddings"],
            dynamic_axes={"rows": axes, "positions": {0: "tokens"}, "attention_mask": axes, "token_embeddings": axes},
            opset_version=OPSET,
            dynamo=False,
        )
        shape_inference.quant_pre_process(exact, prepared, skip_symbolic_shape=True)
        quantization.quantize_dynamic(
            prepared, small, per_channel=True, reduce_range=REDUCE_RANGE, weight_type=quantization.QuantType.QInt8
        )
        return onnx.load(small)


def convert(student: Student) -> onnx.ModelProto:
    """Return a student as one graph from ids and mask to token vectors, activations quantised as they come.

    Parameters
    ----------
    student : Student

    Returns
    -------
    onnx.ModelProto
    """
    first, second = lookup(student), body(student)
    for model in (first, second):
        model.ir_version = 10
    del second.opset_import[:]
    second.opset_import.extend([helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)])
    first.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    joints = [("rows", "rows"), ("positions", "positions")]
    whole: onnx.ModelProto = onnx.compose.merge_models(first, second, io_map=joints)
    whole.producer_name = "latewood"
    whole.doc_string = "latewood/nano-en"
    onnx.checker.check_model(whole)
    return whole


def sample(settings: Settings) -> Iterator[ranges.Feed]:
    """Yield some training texts of every source, one at a time."""
    rng = np.random.default_rng(SEED)
    for name in tokens.names(settings):
        source = tokens.read(settings, name)
        for text in rng.choice(len(source), min(SAMPLE, len(source)), replace=False):
            ids = source[int(text)].astype(np.int64)[None]
            yield {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def config(settings: Settings, revision: str) -> dict[str, Any]:
    """Return what a runtime must know besides the graph and the vocabulary."""
    return {
        "name": "latewood/nano-en",
        "revision": revision,
        "dim": settings.dim,
        "query_length": settings.query_length,
        "document_length": settings.document_length,
        "query_prefix": "",
        "document_prefix": "",
        "skip_punctuation": True,
        "do_query_expansion": False,
    }


def trained(settings: Settings) -> Student:
    """Return the student to ship: the weights of both stages, mixed.

    Ranking gains on text like its own and loses some of what distillation knew of other text; a mean of weights keeps
    most of both (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    Student
    """
    student = build(settings)
    mixed: dict[str, torch.Tensor] = {}
    for path, share in ((distil.CHECKPOINT, 1 - settings.ranking_share), (contrast.CHECKPOINT, settings.ranking_share)):
        if (saved := checkpoint.load(settings.work / path)) is None:
            message = f"{settings.work / path} is not there: run the steps before this one"
            raise FileNotFoundError(message)
        mixed = {name: mixed.get(name, 0) + share * weight for name, weight in saved["student"].items()}
    student.load_state_dict(mixed)
    return student


def run(settings: Settings, folder: Path) -> dict[str, int]:
    """Write the model folder of the trained student.

    Parameters
    ----------
    settings : Settings
    folder : pathlib.Path

    Returns
    -------
    dict of str to int
        Bytes of each file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dynamic = convert(trained(settings))
    graph = ranges.fix(dynamic, ranges.observe(dynamic, sample(settings), SHARE))
    onnx.checker.check_model(graph)
    model = graph.SerializeToString()
    (folder / MODEL).write_bytes(model)
    (folder / TOKENIZER).write_text(tokens.load_tokenizer().to_str(pretty=False), encoding="utf-8")
    note = config(settings, hashlib.sha256(model).hexdigest()[:12])
    (folder / CONFIG).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    return {name: (folder / name).stat().st_size for name in (MODEL, TOKENIZER, CONFIG)}
