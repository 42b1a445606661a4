"""A sentence-transformers pipeline that is handed tokens: its own methods take whole texts only, and cut them."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from latewood.common.packages import import_optional
from latewood.common.types import FloatArray, OffsetArray
from latewood.encode.onnx_modules import Task
from latewood.encode.windows import Row
from latewood.errors import EncoderError

POOLED_TOGETHER = 8192
"""Vectors of a long text that a model's pooling sees at once, as many as `pool_tokens` takes: it needs their square."""

_Modules = list[tuple[str, Any]]


class Pipeline:
    """The modules of a `MultiVectorEncoder` for one kind of text.

    Parameters
    ----------
    model : MultiVectorEncoder
    task : {"query", "document"}
    prompt, prompt_name : str, optional
        As for the model's own methods; by default what they put before such a text.
    """

    def __init__(self, model: Any, task: Task, prompt: str | None = None, prompt_name: str | None = None) -> None:
        self._model = model
        self._task = task
        self.prompt = prompt if prompt is not None else self._named_prompt(prompt_name)

    def tokenized(self, texts: list[Any]) -> list[Any] | None:
        """Give each text's `tokenizers.Encoding`, with prompt and special tokens; None if it cannot be told."""
        modules = import_optional("sentence_transformers.base.modules", extra="encode", purpose="encoding text")
        backbone: Any = self._model[0]
        tokenizer: Any = getattr(self._model, "tokenizer", None)
        # Chat templates and pictures are laid out by a processor, whose tokens are not those of the text alone.
        if not isinstance(backbone, modules.Transformer) or "message" in backbone.modality_config:
            return None
        if not getattr(tokenizer, "is_fast", False) or not all(isinstance(text, str) for text in texts):
            return None
        encodings: list[Any] = tokenizer(
            [self.prompt + text for text in texts], truncation=False, verbose=False
        ).encodings
        return encodings

    @property
    def limit(self) -> int | None:
        """Tokens of a text that the model takes, special ones and the prompt's included."""
        backbone: Any = self._model[0]
        limit: int | None = getattr(backbone, f"{self._task}_length") or backbone.max_seq_length
        expansion = backbone.query_expansion if self._task == "query" else None
        if expansion is None:
            return limit
        length = int(expansion["length"])
        return length if expansion["strategy"] == "fixed" or limit is None else max(limit, length)

    def takes_less_than(self, encoding: Any) -> bool:
        """Whether a text has more tokens than the model takes."""
        limit = self.limit
        return limit is not None and len(encoding) > limit

    def encode(self, rows: list[Row], batch_size: int, device: Any = None) -> Iterator[tuple[int, FloatArray]]:
        """Give the position and the vectors, `[tokens, dim]`, of each text that the rows are windows of."""
        import torch

        # A list of devices is for several processes, which windows do not go through.
        if rows and device is not None and not isinstance(device, (list, tuple)):
            self._model.to(device)
        _, pooling = self._stages()
        parts = zip(rows, self.run(rows, batch_size), strict=True)
        for text, of_text in groupby(parts, key=lambda part: part[0].text):
            vectors = torch.cat([part for _, (_, part) in of_text])
            if pooling and len(vectors):
                stretches = torch.tensor_split(vectors, -(-len(vectors) // POOLED_TOGETHER))
                vectors = torch.cat([self._pooled(stretch, pooling) for stretch in stretches])
            yield text, vectors.numpy()

    def run(self, rows: list[Row], batch_size: int) -> list[tuple[OffsetArray, Any]]:
        """Give the positions in its text of the tokens that are taken from each row and scored, and their vectors."""
        import torch

        modules, _ = self._stages()
        self._model.train(mode=False)
        results: list[Any] = [None] * len(rows)
        order = sorted(range(len(rows)), key=lambda at: -len(rows[at].ids))
        for batch in (order[start : start + batch_size] for start in range(0, len(order), batch_size)):
            with torch.inference_mode():
                features = {name: torch.from_numpy(array) for name, array in self._filled(rows, batch).items()}
                features = {name: tensor.to(self._model.device) for name, tensor in features.items()}
                features = self._through(modules, features)
                scored = features["attention_mask"].bool().cpu()
                vectors = features["token_embeddings"].float().cpu()
            for position, at in enumerate(batch):
                taken = slice(rows[at].first, rows[at].last)
                marks = scored[position][taken]
                results[at] = rows[at].tokens[taken][marks.numpy()], vectors[position][taken][marks]
        return results

    def _filled(self, rows: list[Row], batch: list[int]) -> dict[str, OffsetArray]:
        """Fill rows up on the right whatever the tokenizer's own side: so no token's position changes."""
        tokenizer = self._model.tokenizer
        width = max(len(rows[at].ids) for at in batch)
        ids = np.full((len(batch), width), tokenizer.pad_token_id or 0, dtype=np.int64)
        types, attention = np.zeros_like(ids), np.zeros_like(ids)
        for position, at in enumerate(batch):
            own = slice(len(rows[at].ids))
            ids[position, own], types[position, own], attention[position, own] = rows[at].ids, rows[at].types, 1
        given = {"input_ids": ids, "attention_mask": attention}
        return given | ({"token_type_ids": types} if "token_type_ids" in tokenizer.model_input_names else {})

    def _pooled(self, vectors: Any, modules: _Modules) -> Any:
        """Pool vectors `[tokens, dim]` by the last modules of the model."""
        import torch

        with torch.inference_mode():
            given = vectors[None].to(self._model.device)
            mask = torch.ones(given.shape[:2], dtype=torch.bool, device=given.device)
            features = self._through(modules, {"token_embeddings": given, "attention_mask": mask})
            return features["token_embeddings"][0][features["attention_mask"][0].bool()].float().cpu()

    def _stages(self) -> tuple[_Modules, _Modules]:
        """Give the modules by name: those that see one window, and from a pooling on, those that see all of a text."""
        modules = import_optional(
            "sentence_transformers.multi_vector_encoder.modules", extra="encode", purpose="encoding text"
        )
        named = list(self._model.named_children())
        at = next((at for at, (_, one) in enumerate(named) if isinstance(one, modules.BaseTokenPooling)), len(named))
        return named[:at], named[at:]

    def _through(self, modules: _Modules, features: dict[str, Any]) -> dict[str, Any]:
        """Call modules as the model itself does."""
        extra = self._model.module_kwargs or {}
        for name, module in modules:
            wanted = {*getattr(module, "forward_kwargs", ()), *extra.get(name, ())}
            features = module(features, **({"task": self._task} if "task" in wanted else {}))
        return features

    def _named_prompt(self, name: str | None) -> str:
        prompts: dict[str, str] = getattr(self._model, "prompts", {})
        if name is not None:
            if name not in prompts:
                message = f"the model has no prompt {name!r}, but {', '.join(map(repr, prompts)) or 'none'}"
                raise EncoderError(message)
            return prompts[name] or ""
        names: Sequence[str | None] = ("query",) if self._task == "query" else ("document", "passage", "corpus")
        default = getattr(self._model, "default_prompt_name", None)
        return next((prompts[known] for known in (*names, default) if known in prompts), None) or ""
