"""Small models as ONNX: as sentence-transformers saves them, and one made by hand."""

import json
import warnings
from pathlib import Path
from typing import Any


def save_with_graph(model: Any, folder: Path) -> Path:
    """Save a `MultiVectorEncoder` with its transformer as `onnx/model.onnx`.

    The files are those of `MultiVectorEncoder(..., backend="onnx").save_pretrained(folder)`. The graph is written by
    torch itself, since optimum-onnx, which that backend needs, does not go with every release of transformers.
    """
    model.save_pretrained(str(folder), create_model_card=False)
    export_transformer(model[0].model, folder / "onnx" / "model.onnx")
    (folder / "model.safetensors").unlink()
    return folder


def export_transformer(transformer: Any, path: Path) -> None:
    """Write a transformer's last hidden states as a graph with free batch and length."""
    import torch

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.transformer(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).last_hidden_state

    path.parent.mkdir(parents=True, exist_ok=True)
    ids = torch.ones(2, 9, dtype=torch.int64)
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    names = ["input_ids", "attention_mask", "token_type_ids"]
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Graph().eval(),
            (ids, torch.ones_like(ids), torch.zeros_like(ids)),
            str(path),
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_shapes=dict.fromkeys(names, free),
            dynamo=True,
            verbose=False,
        )


SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]


def save_bytes_model(folder: Path, *, dim: int = 8, **config: Any) -> Path:
    """Write a plain folder by hand, without torch: each byte is a token, and its vector depends on all others.

    A vector is that of the byte, plus sums of the vectors before it and behind it, so that it tells in which window
    and at which place it was made.
    """
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder.mkdir()
    vocabulary = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[], unk_token="[UNK]"))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    tokenizer.save(str(folder / "tokenizer.json"))

    table = np.random.default_rng(5).standard_normal((len(vocabulary), dim)).astype(np.float32)
    constants: dict[str, Any] = {
        "table": table,
        "last": np.array([2], np.int64),
        "along": np.array(1, np.int64),
        "share": np.array(0.05, np.float32),
    }
    steps = [
        helper.make_node("Gather", ["table", "input_ids"], ["own"]),
        helper.make_node("Cast", ["attention_mask"], ["attended"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["attended", "last"], ["weights"]),
        helper.make_node("Mul", ["own", "weights"], ["seen"]),
        helper.make_node("CumSum", ["seen", "along"], ["before"]),
        helper.make_node("CumSum", ["seen", "along"], ["behind"], reverse=1, exclusive=1),
        helper.make_node("Sub", ["before", "behind"], ["context"]),
        helper.make_node("Mul", ["context", "share"], ["some"]),
        helper.make_node("Add", ["own", "some"], ["token_embeddings"]),
    ]
    graph = helper.make_graph(
        steps,
        "bytes",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("token_embeddings", TensorProto.FLOAT, ["texts", "tokens", dim])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / "model.onnx"))
    settings = {"name": "test/bytes", "revision": "1", "dim": dim, **config}
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder
