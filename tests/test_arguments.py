"""Every parameter of every public callable takes what it should, and refuses the rest by a typed error before any work.

The table goes by the signatures: a parameter that is not in it fails a test.
"""

import errno
import inspect
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arguments as kinds
import latewood
from arguments import Hostile, Kind, Made
from latewood import Index, Reranker, SearchArrays, encode
from latewood.errors import InternalError, LatewoodError
from support import TEXTS, HashEncoder

# Public names whose parameters are held elsewhere, or that have none to hold.
ELSEWHERE = {
    "AsyncClient": "test_client.py",
    "Bm25FirstStage": "test_first_stages.py",
    "CallableFirstStage": "test_first_stages.py",
    "Client": "test_client.py",
    "Hybrid": "test_hybrid.py",
    "LexicalFirstStage": "test_lexical.py",
    "SeismicFirstStage": "test_first_stages.py",
    "SparseEncoderFirstStage": "test_first_stages.py",
    "TwoStage": "test_two_stage.py and test_stages.py",
    "TwoStageTuning": "made by TwoStage.tune",
    "inference_free": "test_first_stages.py",
    "reciprocal_rank_fusion": "test_two_stage.py",
    "weighted_fusion": "test_two_stage.py",
    "cluster": "test_cluster.py and test_cluster_build.py",
    "evaluate": "test_evaluate.py",
    "export_index": "test_exchange.py",
    "import_index": "test_elsewhere.py",
    "FirstStage": "a protocol",
    "Encoder": "a protocol",
    "errors": "exceptions take any message",
    "encode": "its own names are listed with the others",
    "__version__": "a str",
    "Long": "a type",
    "OnEmpty": "a type",
    "PoolingMethod": "a type",
}
# What the library makes and gives: only their methods are called by others.
MADE = ("Document", "Explanation", "Hit", "Hits", "Plan", "SearchArrays", "Tuning", "Writer", "Index")
INNER = ("scored", "with_hits", "set_tuning", "to_json")
"""Methods that other parts of the library call."""
ON_A_NETWORK = ("from_hub", "push_to_hub")
"""Methods of which `test_hub.py` holds the parameters."""
WITH_METHODS = (*MADE, "Reranker", "OnnxEncoder", "SentenceTransformersEncoder")

# The index that is asked keeps no vectors.
RESCORE = kinds.one_of(None, "off")
RANKING = {
    "filter": kinds.FILTERS,
    "group_by": kinds.FIELD,
    "offset": kinds.SIZE.also(good=[0]),
    "min_score": kinds.THRESHOLD,
    "length_normalize": kinds.FLAG,
    "rescore": RESCORE,
    "threads": kinds.OPTIONAL_COUNT,
}
SEARCHING = {
    **RANKING,
    "k": kinds.SIZE,
    "recall": kinds.FRACTION,
    "deviations": kinds.THRESHOLD,
    "gather": kinds.one_of(None, "exact", "flood", "postings"),  # "fde" needs an index of its own: test_fde.py
    "max_scored": kinds.OPTIONAL_SIZE,
    "probes": kinds.OPTIONAL_SIZE,
    "threshold": kinds.THRESHOLD,
    "feedback": kinds.FEEDBACK,
}
RERANKING = {
    **RANKING,
    "k": kinds.OPTIONAL_SIZE,
    "alpha": Kind([None, 0, 0.5, np.float32(0.5), 1e300], [*kinds.FACTOR.bad[:-3], -0.5, 10**400, np.inf]).alongside(
        k=1
    ),
    "beta": kinds.OPTIONAL_SIZE.alongside(k=1),
    "prune_to": kinds.OPTIONAL_SIZE,
    "missing": kinds.one_of("error", "skip"),
}
ARRAYS = {**SEARCHING, "ids": kinds.IDS.also(good=[None, ["nobody"]]), "weights": kinds.WEIGHTS}
SEARCH = {**ARRAYS, "with_documents": kinds.FLAG}
RERANK = {**RERANKING, "weights": kinds.WEIGHTS, "with_documents": kinds.FLAG}
RERANK_LISTS = {
    "queries": Kind([*kinds.VECTORS_ALONE.good[:12], ["a fox"]], kinds.QUERIES.bad, late=True),
    "candidates": kinds.CANDIDATE_LISTS,
    "scores": kinds.SCORE_LISTS,
    "offsets": kinds.OFFSETS,
}
MAXSIM = {
    "queries": kinds.VECTORS_ALONE,
    "documents": kinds.VECTORS_ALONE,
    "query_mask": kinds.MASK,
    "document_mask": kinds.MASK,
    "length_normalize": kinds.FLAG,
    "precision": kinds.one_of("float32", "bfloat16"),
    "threads": kinds.OPTIONAL_COUNT,
}
PAIRS = {**MAXSIM, **{name: Kind(kinds.VECTORS_ALONE.good[:10], MAXSIM[name].bad) for name in ("queries", "documents")}}
LAYOUT = Kind([None], [True, "x", 5, [0, 2], Hostile(), object, [0.0, 2.0], [kinds.HUGE], []])
LONG = kinds.one_of("windows", "cut", "error")
# The encoder that these are called with has no parameter of this name.
NO_LONG = [value for value in LONG.bad if value is not None]
LONG_FOR_OTHERS = Kind([None], [*LONG.good, *NO_LONG])
ADD = {
    "ids": kinds.NEW_IDS,
    "texts": kinds.NEW_TEXTS,
    "vectors": kinds.NEW_VECTORS,
    "metadata": kinds.METADATA,
    "mask": LAYOUT,
    "offsets": LAYOUT,
    "lengths": LAYOUT,
    "store_texts": kinds.FLAG,
    "on_empty": kinds.one_of("keep", "skip", "error"),
    "long": Kind([None, *LONG.good], NO_LONG),
    "threads": kinds.OPTIONAL_COUNT,
}
ARROW = {
    "ids": kinds.IDS.also(good=[None, []], bad=[["nobody"], [1]]),
    "dtype": kinds.one_of("float32", "float16", "float64"),
}
CHANGE = {**ADD, "merge": kinds.FLAG, "show_progress": kinds.OPTIONAL_FLAG}
DELETE = {
    "ids": kinds.IDS.also(bad=[["nobody"]]),
    "filter": Kind(kinds.FILTER.good[2:], [*kinds.FILTER.bad, None, {}, {"and": []}]).alongside(ids=None),
    "missing": kinds.one_of("error", "skip"),
}
UPDATE = {
    **DELETE,
    "filter": DELETE["filter"].alongside(ids=None),
    "metadata": Kind(
        [{"n": 1}, {"n": None}, {}, [{"n": 1}], ({"n": 1},)],
        [
            None,
            5,
            "x",
            b"{}",
            [],
            [{"n": 1}] * 2,
            [5],
            {"n": object()},
            {"n": np.nan},
            Hostile(),
            kinds.HostileMapping(),
        ],
    ),
    "replace": kinds.FLAG,
}
OPEN = {
    "path": kinds.PATH,
    "encoder": kinds.ENCODER.also(good=[None]),
    "check_encoder": kinds.FLAG,
    "generation": Kind([None], kinds.OPTIONAL_COUNT.bad).also(bad=[10**12]),
    "mmap": kinds.FLAG,
    "cache_dir": Kind([None, "cache"], [5, "", True, Hostile(), ["a"]]),
}

EXPLAINED = kinds.SIZE.also(good=[0])
SCORING = {
    "prompt_name": kinds.OPTIONAL_TEXT.also(bad=["x"]),
    "prompt": kinds.OPTIONAL_TEXT.also(bad=["x"]),
    "batch_size": kinds.COUNT,
    "show_progress_bar": kinds.OPTIONAL_FLAG,
    "activation_fn": Kind([None, np.exp, np.negative], [5, "exp", True, [], Hostile()]),
    "device": Kind([None], ["cpu", 5]),
    "pool": Kind([None], [{}, 5]),
    "chunk_size": Kind([None], [0, -1, 2.0, "3", kinds.HUGE, 5]),
    "threads": kinds.OPTIONAL_COUNT,
}
ENCODE = {
    "encoder": kinds.ENCODER.also(bad=[None]),
    "texts": kinds.TEXTS,
    "dim": kinds.DIMENSIONS.also(late=True),
    "long": LONG_FOR_OTHERS,
}
DOCUMENTS_TO_ENCODE = {
    **ENCODE,
    "names": Kind([None, ["x"]], [["x", "y"], [], 5, "x"]),
    "on_empty": kinds.one_of("keep", "skip", "error"),
}
ONE_TEXT = Kind(["a fox", "", np.str_("a")], [None, 5, True, b"a", ["a"], {}, "\ud800", Hostile(), object, kinds.QUERY])
# What an encoder is handed has been checked before: it takes any collection.
TEXTS_AS_THEY_ARE = Kind([["a fox"], ("a", ""), []], ["a fox", None, 5, [5], [b"a"], [None], ["\ud800"], Hostile()])
NO_NAME = Kind([], [None, True, 5, "", "a\0b", "\ud800", [], {}, Hostile(), object()])

RAGGED = {
    # Their values are looked at by the core.
    "data": Kind(kinds.VECTORS_ALONE.good, kinds.NO_ARRAYS).alongside(allow_empty=True),
    "mask": Kind(kinds.MASK.good, kinds.MASK.bad, {"data": [kinds.QUERY]}.items()),
    "offsets": LAYOUT.also(good=[[0, 3]]),
    "lengths": LAYOUT.also(good=[[3]]),
    "dim": kinds.DIMENSIONS,
    "names": Kind([None, ["x"]], [["x", "y"], [], 5, "x"]),
    "kind": Kind(["query"]),
    "allow_empty": kinds.FLAG,
}
TABLE: dict[str, dict[str, Kind]] = {
    "maxsim": MAXSIM,
    "maxsim_pairs": PAIRS,
    "simd_level": {},
    "simd_levels": {},
    "Stop": {
        "seconds": Kind([None, 1, 2.5, np.float32(3)], [True, "1", -1, float("nan"), float("inf"), [1], Hostile()])
    },
    "Ragged": {
        "values": Kind(
            [kinds.QUERY, kinds.QUERY.tolist(), np.asfortranarray(kinds.QUERY), kinds.QUERY.astype(object)],
            [None, 5, True, "x", {}, [], [kinds.QUERY], kinds.QUERY[:2], np.ones((3, 4), int), Hostile(), object],
        ),
        "offsets": Kind(
            [
                [0, 3],
                (0, 3),
                np.array([0, 1, 3], np.int8),
                [0, 3, 3],
                np.array([0, 3], ">u4"),
                np.array([0, 3], object),
            ],
            [
                *kinds.OFFSETS.bad,
                None,
                [0, 2],
                [0, 2, 1, 3],
                np.array([0, 2**63], np.uint64),
                np.array([0, 3], np.float32),
            ],
        ),
    },
    "FdeOptions": {
        "repetitions": kinds.SIZE,
        "planes": Kind([0, 1, 8, np.int8(3)], [*kinds.COUNT.bad[:-1], 9]).also(good=[0]),
        "components": kinds.OPTIONAL_SIZE,
        "centred": kinds.FLAG,
    },
    "Feedback": {
        **dict.fromkeys(
            ("documents", "clusters", "rescored"), Kind(kinds.SIZE.good, kinds.COUNT.bad, {"vectors": 1}.items())
        ),
        "vectors": kinds.COUNT.also(bad=[25, 2**62]),
        "weight": kinds.WEIGHT,
        "weighting": kinds.one_of("normalised", "raw"),
        "mode": kinds.one_of("ranker", "reranker"),
    },
    "Index.create": {
        "path": kinds.PATH,
        "dim": Kind([1, 48, np.int32(4096)], [*kinds.DIMENSIONS.bad, 4097, 10**12, 3.7])
        .also(good=[kinds.DIM + 1])
        .alongside(encoder=None),
        "encoder": kinds.ENCODER.also(good=[None]),
        "codec": kinds.one_of(None, "flat", "residual"),
        "bits": Kind([None, 1, 2, 4, 8, np.int64(4)], [*kinds.OPTIONAL_COUNT.bad, 3, 16, 300, 4.0]),
        "centroids": kinds.OPTIONAL_COUNT.also(good=[100, 65_536], bad=[65_537]),
        "seed": Kind([None, 0, 1, 2**63, 2**64 - 1], [True, -1, 2**64, kinds.HUGE, 1.0, "1", Hostile(), [1]]),
        "train_after": kinds.OPTIONAL_SIZE.also(good=[0]),
        "codec_from": kinds.PATH.also(good=[None]),
        "keep_vectors": kinds.one_of(None, "float16"),
        "fde": kinds.FDE,
        "exist_ok": kinds.FLAG,
        "overwrite": kinds.FLAG,
        "mmap": kinds.FLAG,
    },
    "Index.open": OPEN,
    "Index.recover": {name: OPEN[name] for name in ("path", "generation", "mmap")},
    "Index.use_encoder": {"encoder": kinds.ENCODER.also(bad=[None]), "check_encoder": kinds.FLAG},
    "Index.require_encoder": {"purpose": Kind(["searching"])},
    "Index.contains": {"ids": kinds.IDS},
    "Index.ids": {"filter": kinds.FILTER},
    "Index.count": {"filter": kinds.FILTER},
    "Index.documents": {"ids": kinds.IDS.also(bad=[["nobody"], [1]])},
    "Index.vectors": {"ids": kinds.IDS.also(bad=[["nobody"], [1]])},
    "Index.to_arrow": ARROW,
    "Index.to_batches": ARROW,
    "Index.writer": {"merge": kinds.FLAG, "show_progress": kinds.OPTIONAL_FLAG},
    "Index.add": CHANGE,
    "Index.upsert": CHANGE,
    "Index.delete": {**DELETE, "merge": kinds.FLAG},
    "Index.compact": {"threads": kinds.OPTIONAL_COUNT},
    "Index.update_metadata": {**UPDATE, "merge": kinds.FLAG},
    "Index.search": {"query": kinds.ONE_QUERY, **SEARCH},
    "Index.search_batch": {"queries": kinds.QUERIES, **SEARCH},
    "Index.search_arrays": {"queries": kinds.QUERIES, **ARRAYS},
    "Index.rerank": {"query": kinds.ONE_QUERY, "candidates": kinds.CANDIDATES, "scores": kinds.SCORES, **RERANK},
    "Index.rerank_batch": {**RERANK_LISTS, **RERANK},
    "Index.rerank_arrays": {**RERANK_LISTS, **RERANKING, "weights": kinds.WEIGHTS},
    "Index.rerank_run": {
        "queries": Kind([{"q": "a fox"}, {"q": kinds.QUERY, "p": kinds.QUERY}], kinds.NO_RUN, late=True),
        "run": Kind(
            [{"q": {"fox": 1.0}}, {"q": ["fox"]}, {}, {"q": []}],
            [*kinds.NO_RUN, {"q": 5}, {"p": {"fox": 1.0}}],
            late=True,
        ),
        **RERANKING,
        "with_documents": kinds.FLAG,
    },
    "Index.explain": {
        "query": kinds.ONE_QUERY,
        "id": kinds.ONE_ID.also(bad=["nobody", 1], late=True),
        "weights": kinds.WEIGHTS,
        "length_normalize": kinds.FLAG,
        "rescore": RESCORE,
    },
    "Index.measure_recall": {"queries": kinds.QUERIES, **ARRAYS},
    "Index.tune": {
        "queries": Kind(
            [None, *kinds.VECTORS_ALONE.good[:12], ["a fox"]], [bad for bad in kinds.QUERIES.bad if bad is not None]
        ),
        "recall": Kind(kinds.FRACTION.good[1:], [None, *kinds.FRACTION.bad]),
        "k": kinds.SIZE,
        "weights": kinds.WEIGHTS,
        "threads": kinds.OPTIONAL_COUNT,
    },
    "SearchOptions": {**SEARCHING, "filter": kinds.FILTER_ALONE},
    "RerankOptions": {**RERANKING, "filter": kinds.FILTER_ALONE},
    "to_ragged": RAGGED,
    **{f"Index.{name}": {} for name in ("close", "info", "check", "refresh")},
    **{name: {} for name in ("Hit.explain", "Hit.to_dict", "Hits.to_dicts")},
    "Writer.add": ADD,
    "Writer.upsert": ADD,
    "Writer.delete": DELETE,
    "Writer.update_metadata": UPDATE,
    "Writer.commit": {},
    "Writer.close": {},
    "Explanation.rows": {},
    "Explanation.to_html": {"with_query": kinds.FLAG},
    "Explanation.to_text": {"colour": kinds.FLAG},
    # Whatever matplotlib draws on.
    "Explanation.plot": {"axes": Kind([None], [])},
    "Hits.to_html": {"explained": EXPLAINED},
    "Hits.to_html_parts": {"explained": EXPLAINED},
    "Index.publish": {
        "url": Kind([], [None, 5, "", "news", "s3://", "ftp://a/b", "s3://a?b", Hostile(), ["s3://a"]]),
        "repair": kinds.FLAG,
        "show_progress": kinds.OPTIONAL_FLAG,
    },
    "SearchArrays.to_run": {
        "query_ids": Kind(
            [["a"], ("a",), [1], np.array(["a"])], [None, 5, "a", [], ["a", "b"], [None], Hostile(), {"a"}]
        )
    },
    "Reranker": {
        "encoder": kinds.ENCODER.also(good=[None]),
        "length_normalize": kinds.FLAG,
        "long": Kind([None, *LONG.good], NO_LONG),
        "precision": kinds.one_of("float32", "bfloat16"),
    },
    "Reranker.rank": {
        "query": kinds.ONE_QUERY,
        "documents": kinds.DOCUMENTS,
        "top_k": kinds.OPTIONAL_SIZE,
        "return_documents": kinds.FLAG,
        **SCORING,
        "document_vectors": Kind(
            [None, [kinds.QUERY] * 2], [5, "x", [], [kinds.QUERY], kinds.QUERY, Hostile()], late=True
        ),
    },
    "Reranker.predict": {
        "inputs": kinds.PAIRS,
        **SCORING,
        "apply_softmax": kinds.OPTIONAL_FLAG,
        "convert_to_numpy": kinds.FLAG,
        "convert_to_tensor": kinds.FLAG,
    },
    "Encoded": {
        "vectors": Kind([[kinds.QUERY], (kinds.QUERY,), Made(lambda: iter([kinds.QUERY]))], [None, 5, [], Hostile()]),
        "truncated": Kind(
            [[True], np.array([0]), Made(lambda: iter([False]))], [None, 5, "x", [], [1, 0], [None], Hostile()]
        ),
    },
    "OnnxEncoder": {
        "folder": kinds.PATH.also(bad=["/nowhere/at/all"]),
        "threads": kinds.OPTIONAL_COUNT,
        "batch_tokens": kinds.COUNT,
        "graph": Kind([None, "model.onnx"], [5, "", "a\0b", "nothing.onnx", [], Hostile()]),
        "long": LONG,
    },
    **{
        f"OnnxEncoder.encode_{side}": {"inputs": TEXTS_AS_THEY_ARE, "long": LONG.also(good=[None])}
        for side in ("query", "document")
    },
    **{
        f"OnnxEncoder.{name}": {"text": ONE_TEXT, "long": LONG.also(good=[None])}
        for name in ("query_tokens", "document_tokens", "query_spans", "document_spans")
    },
    "nano_en": {"long": LONG},
    **{
        f"SentenceTransformersEncoder.encode_{side}": {
            "inputs": Kind([], [None, 5, [5], ["a"], Hostile()]),
            "long": Kind([], [value for value in LONG.bad if value is not None]),
        }
        for side in ("query", "document")
    },
    **{
        f"SentenceTransformersEncoder.{side}_{what}": {"text": Kind([], [*ONE_TEXT.bad, "a"])}
        for what in ("tokens", "spans")
        for side in ("query", "document")
    },
    "SentenceTransformersEncoder.run": {"method": Kind(), "inputs": Kind([], ["a", None, 5])},
    "SentenceTransformersEncoder": {
        "model": NO_NAME.also(good=["some/model", Path("folder"), HashEncoder()]),
        "revision": kinds.OPTIONAL_TEXT.also(good=["main"]),
        "device": Kind([None, "cpu"]),
        "batch_size": kinds.COUNT,
        "show_progress": kinds.FLAG,
        "long": LONG,
    },
    "token_outputs": {
        "long": Kind([], LONG.bad),
        "model_name_or_path": NO_NAME.also(bad=["/nowhere/at/all"]),
        "device": Kind(),
        "batch_size": Kind([], kinds.COUNT.bad),
        "name": Kind([], kinds.OPTIONAL_TEXT.bad),
        "document_length": Kind([], kinds.COUNT.bad),
        "query_length": Kind([], kinds.OPTIONAL_COUNT.bad),
        "skip_punctuation": Kind([], kinds.FLAG.bad),
    },
    "minilm_token_outputs": {},
    "as_encoder": {"encoder": kinds.ENCODER.also(bad=[None])},
    "fingerprint": {"encoder": Kind([HashEncoder(), object()]), "dim": kinds.OPTIONAL_COUNT},
    "check_fingerprint": {
        "stored": Kind([None, json.dumps({"name": "hash"})], [5, "x", "", "[]", "3", b"{}", "\ud800", "[" * 100_000]),
        "encoder": Kind([HashEncoder()]),
        "path": Kind(["folder"]),
    },
    "encode_documents": DOCUMENTS_TO_ENCODE,
    "encode_queries": ENCODE,
    "pool_tokens": {
        "vectors": kinds.VECTORS_ALONE,
        "method": kinds.one_of("kmeans", "ward"),
        "count": Kind(kinds.SIZE.good, kinds.OPTIONAL_COUNT.bad),
        "fraction": Kind(kinds.FRACTION.good[1:], kinds.FRACTION.bad).alongside(count=None),
        "factor": Kind(kinds.FACTOR.good[1:], kinds.FACTOR.bad).alongside(count=None),
        "protected": kinds.SIZE.also(good=[0]),
        "normalize": kinds.FLAG,
        "mask": Kind(kinds.MASK.good, kinds.MASK.bad, {"vectors": [kinds.QUERY]}.items()),
        "threads": kinds.OPTIONAL_COUNT,
    },
}


def public_callables() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for package in (latewood, encode):
        for name in package.__all__:
            value = getattr(package, name)
            if name in ELSEWHERE:
                continue
            if name not in MADE:
                found[name] = value
            if name in WITH_METHODS:
                members = inspect.getmembers(value, callable)
                found |= {
                    f"{name}.{member}": function
                    for member, function in members
                    if not member.startswith("_")
                    and member not in (*INNER, *ON_A_NETWORK)
                    and not (issubclass(value, list) and hasattr(list, member))
                }
    return found


def test_every_parameter_is_listed() -> None:
    fixed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    listed = {name: set(parameters) for name, parameters in TABLE.items()}
    there = {
        name: {
            parameter.name
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind not in fixed and parameter.name != "self"
        }
        for name, function in public_callables().items()
    }
    assert listed == there


class Refusing:
    """A model that takes nothing."""

    def encode_query(self, *arguments: Any, **options: Any) -> Any:
        raise TypeError(arguments, options)

    encode_document = encode_query


def called(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call by names, where there are names to call by."""
    parameters = inspect.signature(function).parameters.values()
    first = [arguments.pop(part.name) for part in parameters if part.kind is inspect.Parameter.POSITIONAL_ONLY]
    return function(*first, **arguments)


class Place:
    """Where calls are made: an index to read, new ones to change, and what each call needs besides."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.encoder = HashEncoder(kinds.DIM)
        self.numbers = count()
        self.index = self.new()

    def path(self) -> Path:
        return self.folder / str(next(self.numbers))

    def new(self) -> Index:
        index = Index.create(self.path(), encoder=self.encoder)
        metadata = [{"words": len(text.split()), "lang": "en"} for text in TEXTS.values()]
        index.add(list(TEXTS), texts=list(TEXTS.values()), metadata=metadata)
        return index

    def call(self, name: str) -> tuple[Callable[..., Any], dict[str, Any]]:
        """The callable of this name, and arguments that are right."""
        owner, _, method = name.rpartition(".")
        base: dict[str, dict[str, Any]] = {
            "maxsim": {"queries": kinds.QUERY, "documents": kinds.QUERY},
            "maxsim_pairs": {"queries": kinds.QUERY, "documents": kinds.QUERY},
            "Ragged": {"values": kinds.QUERY, "offsets": [0, 3]},
            "Index.create": {"path": self.path(), "encoder": self.encoder},
            "Index.open": {"path": self.index.path},
            "Index.recover": {"path": self.index.path},
            "SearchArrays.to_run": {"query_ids": ["a"]},
            "Encoded": {"vectors": [kinds.QUERY], "truncated": [True]},
            "OnnxEncoder": {"folder": Path(encode.__file__).parent / "nano_en"},
            "SentenceTransformersEncoder": {"model": "some/model"},
            "token_outputs": {"model_name_or_path": "/nowhere"},
            "as_encoder": {"encoder": self.encoder},
            "fingerprint": {"encoder": self.encoder},
            "check_fingerprint": {"stored": None, "encoder": self.encoder, "path": "folder"},
            "encode_queries": {"encoder": self.encoder, "texts": ["a fox"]},
            "encode_documents": {"encoder": self.encoder, "texts": ["a fox"]},
            "pool_tokens": {"vectors": kinds.QUERY, "count": 2},
            "Reranker.rank": {"query": "a quick fox", "documents": ["a fox", "a dog"]},
            "Reranker.predict": {"inputs": [("a fox", "a dog")]},
            "Index.use_encoder": {"encoder": self.encoder},
            "Index.require_encoder": {"purpose": "searching"},
            "Index.search": {"query": "a quick fox"},
            "Index.search_batch": {"queries": ["a quick fox"]},
            "Index.search_arrays": {"queries": ["a quick fox"]},
            "Index.rerank": {"query": "a quick fox", "candidates": {"fox": 1.0}},
            "Index.rerank_batch": {"queries": ["a quick fox"], "candidates": [{"fox": 1.0}]},
            "Index.rerank_arrays": {"queries": ["a quick fox"], "candidates": [{"fox": 1.0}]},
            "Index.rerank_run": {"queries": {"q": "a quick fox"}, "run": {"q": {"fox": 1.0}}},
            "SearchOptions": {"k": 1},
            "RerankOptions": {"k": 1},
            "to_ragged": {"data": kinds.QUERY},
            "Index.explain": {"query": "a quick fox", "id": "fox"},
            "Index.measure_recall": {"queries": ["a quick fox"]},
            "Index.tune": {"queries": ["a quick fox"]},
            "Index.publish": {"url": (self.folder / "store").as_uri()},
        }
        if method in ("add", "upsert"):
            arguments: dict[str, Any] = {"ids": ["x", "y"], "vectors": kinds.VECTORS}
        elif method == "update_metadata":
            arguments = {"ids": ["fox"], "metadata": {"n": 1}}
        elif method in ("documents", "vectors", "contains", "delete"):
            arguments = {"ids": ["fox"]}
        else:
            arguments = base.get(name, {})
        if method in ("add", "upsert"):
            index = Index.create(self.path(), encoder=self.encoder)
        else:
            index = self.new() if method in ("delete", "update_metadata", "writer") else self.index
        if owner in ("Index", "Writer"):
            return getattr(index if owner == "Index" else index.writer(), method), arguments
        if owner in ("Explanation", "Hits"):
            hits = self.index.search("a quick fox")
            return getattr(hits if owner == "Hits" else hits[0].explain(), method), arguments
        if owner == "SearchArrays":
            return SearchArrays(["fox"], np.ones(1, np.float32), np.array([0, 1])).to_run, arguments
        named: dict[str, Any]
        if owner == "OnnxEncoder":
            named = {"inputs": ["a fox"]} if method.startswith("encode") else {"text": "a fox"}
            return getattr(encode.nano_en(), method), named
        if owner == "SentenceTransformersEncoder":
            named = {"method": "encode_query"} if method == "run" else {}
            named |= {"inputs": ["a fox"]} if method.startswith("encode") else {}
            return getattr(encode.SentenceTransformersEncoder(Refusing()), method), named
        if owner == "Reranker":
            return getattr(Reranker(self.encoder), method), arguments
        return public_callables()[name], arguments


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("arguments"))


def value_of(value: Any) -> Any:
    return value.make() if isinstance(value, Made) else value


def written(value: Any) -> str:
    try:
        return repr(value)[:80]
    except Exception:  # noqa: BLE001  a hostile one's, or a deep one's
        return f"a {type(value).__name__}"


@pytest.mark.parametrize("name", [name for name, parameters in TABLE.items() if parameters])
def test_good_values_are_taken(place: Place, name: str) -> None:
    for parameter, kind in TABLE[name].items():
        for value in kind.good:
            function, arguments = place.call(name)
            try:
                called(function, {**arguments, **dict(kind.options), parameter: value_of(value)})
            except Exception as error:
                error.add_note(f"{name}({parameter}={written(value)})")
                raise


@pytest.mark.parametrize("name", [name for name, parameters in TABLE.items() if parameters])
def test_bad_values_are_refused(place: Place, name: str) -> None:
    """By an error of the library that says something, and before a text is encoded where that can be."""
    wrong: list[str] = []
    for parameter, kind in TABLE[name].items():
        for value in kind.bad:
            function, arguments = place.call(name)
            before = place.encoder.calls
            what = f"{parameter}={written(value)}"
            try:
                called(function, {**arguments, **dict(kind.options), parameter: value_of(value)})
                wrong.append(f"{what} is taken")
            except InternalError as error:
                wrong.append(f"{what}: {error!r}")
            except LatewoodError as error:
                if not str(error) or len(str(error)) > 2000:
                    wrong.append(f"{what}: a message of {len(str(error))} characters")
                if place.encoder.calls > before and not kind.late:
                    wrong.append(f"{what}: refused after a text was encoded")
            except Exception as error:  # noqa: BLE001  that is what is looked for
                wrong.append(f"{what}: {type(error).__name__}: {error}"[:200])
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("ids", [["new", "fox"], [1, 2]])
def test_ids_that_cannot_be_added_are_refused_before_texts_are_encoded(place: Place, ids: list[Any]) -> None:
    index = place.new()
    before = place.encoder.calls
    with pytest.raises(LatewoodError):
        index.add(ids, texts=["a", "b"])
    assert place.encoder.calls == before
    with index.writer() as writer:
        writer.delete(["fox"])
        writer.add(["fox"], texts=["a fox"])
        with pytest.raises(LatewoodError, match="fox"):
            writer.add(["fox"], texts=["a fox"])


def test_what_a_generator_raises_passes_through(place: Place) -> None:
    """It is the caller's own, and none of the library's business."""

    def failing(first: Any) -> Any:
        yield first
        raise OSError(errno.EIO, "the source of a generator failed")

    calls: list[Callable[[], Any]] = [
        lambda: latewood.maxsim(kinds.QUERY, failing(kinds.QUERY)),
        lambda: place.index.search(kinds.QUERY, ids=failing("fox")),
        lambda: place.index.rerank(kinds.QUERY, failing("fox")),
        lambda: place.index.search_batch(failing("a fox")),
        lambda: place.new().add(failing("x"), vectors=failing(kinds.QUERY)),
    ]
    for call in calls:
        with pytest.raises(OSError, match="source of a generator") as caught:
            call()
        assert not isinstance(caught.value, LatewoodError)
