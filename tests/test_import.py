"""`import latewood` loads numpy at most: no torch, no click, nothing optional."""

import pytest

from support import run_python

HEAVY = {
    "torch",
    "transformers",
    "sentence_transformers",
    "click",
    "tqdm",
    "scipy",
    "pyarrow",
    "lance",
    "safetensors",
    "ir_datasets",
    "huggingface_hub",
    "ir_measures",
    "bm25s",
    "pandas",
    "pydantic",
    "beir",
    "haystack",
    "lancedb",
    "mteb",
    "pylate",
    "pyterrier",
    "langchain_core",
    "llama_index",
    "rerankers",
}


def loaded(code: str) -> set[str]:
    names = run_python(f"{code}\nimport json, sys\nprint(json.dumps([name.split('.')[0] for name in sys.modules]))")
    return set(names)


def test_import_is_light() -> None:
    names = loaded("import latewood")
    assert not names & HEAVY
    assert "numpy" not in names, "even numpy waits for its first use"


@pytest.mark.parametrize(
    "code",
    [
        "from latewood import Index, Reranker, TwoStage, Hit, maxsim, Ragged, Encoder, Writer, errors",
        "import latewood.evaluate, latewood.encode, latewood.cli",
        "import numpy; from latewood.encode import pool_tokens; pool_tokens(numpy.eye(3, 8, dtype='f4'), count=2)",
        "import latewood, numpy; latewood.maxsim(numpy.ones((2, 8), 'f4'), [numpy.ones((3, 8), 'f4')])",
        "import latewood; latewood.Reranker('some/model'); latewood.__version__",
        "import latewood.integrations.rerank_api",
        "import latewood.integrations.pylate",
    ],
)
def test_use_without_text_is_light(code: str) -> None:
    assert not loaded(code) & HEAVY


def test_the_function_wins_over_the_module() -> None:
    code = (
        "import latewood.rerank.maxsim, latewood.rerank.reranker, latewood; assert callable(latewood.maxsim); print(1)"
    )
    assert run_python(code) == 1


def test_every_public_name_is_there() -> None:
    import latewood

    for name in latewood.__all__:
        assert getattr(latewood, name) is not None
    assert set(latewood.__all__) <= set(dir(latewood))
    with pytest.raises(AttributeError, match="nothing_such"):
        latewood.nothing_such  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("beir", "beir", "beir"),
        ("haystack", "haystack", "haystack"),
        ("lancedb", "lancedb", "lancedb"),
        ("mteb", "mteb", "mteb"),
        ("pyterrier", "pyterrier", "pyterrier"),
        ("langchain", "langchain_core", "langchain"),
        ("llama_index", "llama_index.core", "llama-index"),
        ("rerankers", "rerankers", "rerankers"),
    ],
)
def test_an_adapter_names_the_extra_that_it_needs(module: str, package: str, extra: str) -> None:
    code = f"""
import json, sys
sys.modules[{package!r}] = None
from latewood.errors import MissingDependencyError
try:
    import latewood.integrations.{module}
except MissingDependencyError as error:
    print(json.dumps(str(error)))
"""
    assert f"pip install 'latewood[{extra}]'" in run_python(code)


def test_missing_packages_are_named() -> None:
    code = """
import json, sys
sys.modules["sentence_transformers"] = None
sys.modules["ir_measures"] = None
import latewood
from latewood.errors import MissingDependencyError
messages = []
for call in (
    lambda: latewood.Reranker("some/model").rank("query", ["document"]),
    lambda: latewood.evaluate.evaluate_run({}, {"q": {"d": 1}}),
    lambda: __import__("latewood.train"),
):
    try:
        call()
    except MissingDependencyError as error:
        messages.append(str(error))
print(json.dumps(messages))
"""
    encode, evaluate, train = run_python(code)
    assert "pip install 'latewood[encode]'" in encode
    assert "pip install 'latewood[eval]'" in evaluate
    assert "pip install 'latewood[train]'" in train
