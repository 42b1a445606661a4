"""The two kinds of folder that hold a multi-vector model for onnxruntime, read into one recipe.

A *plain* folder has `model.onnx`, `tokenizer.json` and our own `config.json`; its graph gives finished token vectors.
A sentence-transformers folder has `modules.json`; its graph is the transformer, and the other modules follow in numpy.
"""

import json
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from latewood.encode.onnx_modules import (
    ELSE,
    Skiplist,
    Task,
    Tokenwise,
    read_dense,
    read_normalize,
    read_skiplist,
    width_of,
)
from latewood.errors import EncoderError

MODULES = "modules.json"
GRAPH = "model.onnx"


@dataclass(frozen=True, slots=True)
class Expansion:
    """Query expansion: queries are filled up to `length` with a token whose vectors count in scores."""

    length: int
    exact: bool
    """Longer queries are cut to `length`, too."""
    attend: bool
    token: str | None


@dataclass(frozen=True, slots=True)
class Side:
    """How one of the two kinds of text is prepared."""

    prompt: str = ""
    length: int | None = None
    """Tokens after which a text is cut, special ones included."""
    expansion: Expansion | None = None


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Tokens that preparing texts needs by name."""

    pad: str | None = None
    mask: str | None = None
    end: str | None = None
    unknown: str | None = None
    cut_left: bool = False
    pad_left: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a folder says of its model."""

    folder: Path
    graph: Path
    name: str
    revision: str | None
    dim: int | None
    sides: dict[Task, Side]
    special: SpecialTokens
    masks: tuple[Skiplist, ...]
    projections: tuple[Tokenwise, ...]
    outputs: tuple[str, ...]
    """Names of the graph's output, in the order in which they are looked for."""
    pooling: list[dict[str, Any]] = field(default_factory=list)

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's file."""
        return self.folder / "tokenizer.json"


def is_onnx_folder(path: Path) -> bool:
    """Whether a folder holds a model for onnxruntime, in either layout."""
    if (path / MODULES).is_file():
        return any((path / "onnx").glob("*.onnx"))
    return (path / GRAPH).is_file() and (path / "config.json").is_file()


def read_folder(folder: Path, graph: str | None = None) -> Recipe:
    """Read the recipe of a folder.

    Raises
    ------
    EncoderError
        A file is missing or says what cannot be followed, with its name.
    """
    if not folder.is_dir():
        message = f"there is no folder {str(folder)!r} with an ONNX model"
        raise EncoderError(message)
    recipe = _pipeline(folder, graph) if (folder / MODULES).is_file() else _plain(folder, graph)
    if not recipe.tokenizer.is_file():
        message = f"{folder} has no tokenizer.json; save the model with a fast tokenizer"
        raise EncoderError(message)
    return recipe


# -- the plain layout


def _plain(folder: Path, graph: str | None) -> Recipe:
    path = folder / (graph or GRAPH)
    if not path.is_file():
        message = (
            f"{folder} has neither {path.name} nor {MODULES}: it is no ONNX export of a multi-vector model; "
            "docs/encoders.md tells how to make one"
        )
        raise EncoderError(message)
    config = _json(folder / "config.json")
    where = str(folder / "config.json")
    lengths = {task: _count(config, f"{task}_length", where) for task in ("query", "document")}
    prompts = {task: str(config.get(f"{task}_prefix") or "") for task in ("query", "document")}
    expansion = None
    if config.get("do_query_expansion"):
        if lengths["query"] is None:
            message = f"{where}: do_query_expansion needs a query_length"
            raise EncoderError(message)
        expansion = Expansion(lengths["query"], True, bool(config.get("attend_to_expansion_tokens")), None)
    dim = _count(config, "dim", where)
    if dim is None:
        message = f"{where} says no dim, the dimensions of a token vector"
        raise EncoderError(message)
    words = tuple(string.punctuation) if config.get("skip_punctuation") else ()
    return Recipe(
        folder=folder,
        graph=path,
        name=str(config.get("name") or folder),
        revision=None if config.get("revision") is None else str(config["revision"]),
        dim=dim,
        sides={
            "query": Side(prompts["query"], lengths["query"], expansion),
            "document": Side(prompts["document"], lengths["document"]),
        },
        special=_special(folder, SpecialTokens("[PAD]", "[MASK]", None, "[UNK]")),
        masks=(Skiplist(words, ("document",), ()),),
        projections=(),
        outputs=("token_embeddings",),
        pooling=[
            {
                "module": "Onnx",
                "query_length": lengths["query"],
                "document_length": lengths["document"],
                "skip_punctuation": bool(words),
                "query_expansion": expansion is not None,
            }
        ],
    )


# -- the layout of sentence-transformers


def _pipeline(folder: Path, graph: str | None) -> Recipe:
    settings = _json(folder / "config_sentence_transformers.json")
    kind = settings.get("model_type")
    if kind != "MultiVectorEncoder":
        message = (
            f"{folder} holds a {kind or 'model of an older format'}, not a MultiVectorEncoder; load it as a "
            "sentence_transformers.MultiVectorEncoder and save it again"
        )
        raise EncoderError(message)
    modules = _modules(folder)
    transformer = modules.transformer
    backbone = _json(folder / "config.json")
    saved = settings.get("prompts") or {}
    prompts = {task: str(saved.get(task) or "") for task in ("query", "document")}
    limit = _longest(folder, transformer)
    width = width_of(modules.projections) or backbone.get("hidden_size")
    return Recipe(
        folder=folder,
        graph=_graph(folder, graph),
        name=str(folder),
        revision=None,
        dim=width if isinstance(width, int) else None,
        sides={
            "query": _query_side(transformer, prompts["query"], limit, folder),
            "document": Side(prompts["document"], transformer.get("document_length") or limit),
        },
        special=_special(folder, SpecialTokens()),
        masks=tuple(modules.masks),
        projections=tuple(modules.projections),
        outputs=("last_hidden_state", "token_embeddings"),
        pooling=modules.pooling,
    )


_SHOWN = ("query_length", "document_length", "query_expansion")
_HIDDEN = frozenset({"activation_function", "module_input_name", "module_output_name"})


class _Modules(NamedTuple):
    """What `modules.json` and the folders that it names say."""

    transformer: dict[str, Any]
    masks: list[Skiplist]
    projections: list[Tokenwise]
    pooling: list[dict[str, Any]]
    """For the fingerprint: each module with the settings that shape its vectors."""


def _modules(folder: Path) -> _Modules:
    transformer: dict[str, Any] | None = None
    masks: list[Skiplist] = []
    projections: list[Tokenwise] = []
    pooling: list[dict[str, Any]] = []
    for entry in _json(folder / MODULES, list):
        place = folder / str(entry.get("path", ""))
        reference = str(entry.get("type", ""))
        module = reference.rsplit(".", maxsplit=1)[-1]
        where = f"{place} ({module})"
        if not reference.startswith("sentence_transformers."):
            module = reference
        if module == "Transformer" and transformer is None:
            transformer = _transformer(_json(place / "sentence_bert_config.json"), str(place))
            pooling.append({"module": module, **{key: transformer[key] for key in _SHOWN if transformer.get(key)}})
            continue
        config = _json(place / "config.json")
        if module == "Dense":
            projections.append(read_dense(place, config, where))
        elif module == "Normalize":
            projections.append(read_normalize(config, where))
        elif module == "MultiVectorMask":
            masks.append(read_skiplist(config))
        else:
            message = f"{place}: the module {module} is not supported with ONNX; {ELSE}"
            raise EncoderError(message)
        plain = {key: value for key, value in config.items() if value is not None and key not in _HIDDEN}
        pooling.append({"module": module, **plain})
    if transformer is None:
        message = f"{folder / MODULES} names no Transformer; {ELSE}"
        raise EncoderError(message)
    return _Modules(transformer, masks, projections, pooling)


def _transformer(config: dict[str, Any], where: str) -> dict[str, Any]:
    modalities = config.get("modality_config", {"text": {}})
    text = modalities.get("text") or {}
    problem = None
    if config.get("transformer_task", "feature-extraction") != "feature-extraction":
        problem = f"the task {config['transformer_task']!r}"
    elif "text" not in modalities or "message" in modalities:
        problem = f"inputs of the kind {', '.join(modalities)}"
    elif text.get("method", "forward") != "forward" or text.get("method_output_name") not in (
        None,
        "last_hidden_state",
        ["last_hidden_state"],
    ):
        problem = f"the output {text.get('method_output_name')!r} of {text.get('method')!r}"
    elif config.get("processing_kwargs") or config.get("do_lower_case"):
        problem = "processing_kwargs or do_lower_case"
    if problem is not None:
        message = f"{where}: {problem} of the Transformer is not supported with ONNX; {ELSE}"
        raise EncoderError(message)
    return config


def _query_side(transformer: dict[str, Any], prompt: str, limit: int | None, folder: Path) -> Side:
    given = transformer.get("query_expansion")
    length = transformer.get("query_length") or limit
    if not given:
        return Side(prompt, length)
    where = f"{folder}: query_expansion"
    floor = _count(given, "length", where)
    strategy = given.get("strategy")
    if floor is None or strategy not in ("fixed", "min"):
        message = f"{where} has the strategy {strategy!r} and the length {floor!r}; 'fixed' and 'min' are supported"
        raise EncoderError(message)
    expansion = Expansion(floor, strategy == "fixed", bool(given.get("attend")), given.get("token"))
    if expansion.exact:
        return Side(prompt, floor, expansion)
    return Side(prompt, None if length is None else max(length, floor), expansion)


def _graph(folder: Path, graph: str | None) -> Path:
    if graph is not None:
        path = folder / graph
        path = path if path.is_file() else folder / "onnx" / graph
    else:
        found = sorted((folder / "onnx").glob("*.onnx"))
        path = folder / "onnx" / GRAPH
        if not path.is_file() and len(found) == 1:
            path = found[0]
    if not path.is_file():
        message = (
            f"{folder} has no {path.relative_to(folder)}; load the model with "
            "MultiVectorEncoder(..., backend='onnx') and save it, or name the file by graph="
        )
        raise EncoderError(message)
    return path


def _longest(folder: Path, transformer: dict[str, Any]) -> int | None:
    given = transformer.get("max_seq_length") or _optional_json(folder / "tokenizer_config.json").get(
        "model_max_length"
    )
    # transformers writes a number of thirty digits where there is no limit.
    return int(given) if isinstance(given, (int, float)) and given < 2**31 else None


def _special(folder: Path, default: SpecialTokens) -> SpecialTokens:
    config = _optional_json(folder / "tokenizer_config.json")

    def token(key: str, otherwise: str | None) -> str | None:
        value = config.get(key, otherwise)
        # Older files have an object in the place of the text.
        value = value.get("content") if isinstance(value, dict) else value
        return None if value is None else str(value)

    return SpecialTokens(
        pad=token("pad_token", default.pad),
        mask=token("mask_token", default.mask),
        end=token("eos_token", default.end),
        unknown=token("unk_token", default.unknown),
        cut_left=config.get("truncation_side") == "left",
        pad_left=config.get("padding_side") == "left",
    )


def _json(path: Path, kind: type = dict) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        message = f"{path} is missing"
        raise EncoderError(message) from error
    except (OSError, ValueError) as error:
        message = f"{path} cannot be read as JSON: {error}"
        raise EncoderError(message) from error
    if not isinstance(value, kind):
        message = f"{path} holds a {type(value).__name__}, not a {kind.__name__}"
        raise EncoderError(message)
    return value


def _optional_json(path: Path) -> dict[str, Any]:
    return _json(path) if path.is_file() else {}


def _count(config: dict[str, Any], key: str, where: str) -> int | None:
    value = config.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        message = f"{where}: {key} must be a whole number of at least 1, not {value!r}"
        raise EncoderError(message)
    return value
