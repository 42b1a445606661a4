"""Small models, saved as sentence-transformers' ONNX backend saves them."""

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
