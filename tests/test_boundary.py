"""The line between the extension and the package: frozen classes, nothing public without a wrapper."""

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latewood
from latewood import Index, RerankOptions, SearchOptions, _core
from latewood.index.writer import Writer
from strategies import Corpus
from support import REPOSITORY, run_python

BINDINGS = REPOSITORY / "rust" / "bindings" / "src"
PACKAGE = Path(latewood.__file__).parent

# Names of the extension that the package gives in another form, with the reason.
RENAMED = {
    "Results": "SearchArrays and Hits are made of it",
    "SearchOptions": "the values of latewood.SearchOptions",
    "RerankOptions": "the values of latewood.RerankOptions",
    "maxsim_arrays": "latewood.maxsim calls it for arrays that can be read where they lie",
    "pool": "latewood.encode.pool_tokens takes and gives Ragged",
}


SEARCHES = ("search", "search_batch", "search_arrays", "measure_recall")
RERANKS = ("rerank", "rerank_batch", "rerank_arrays", "rerank_run")

INSIDE = {(_core.Index, name) for name in ("commit", "expand", "frequencies", "pinned", "rotated_vectors")} | {
    (_core.Writer, name)
    for name in ("changes", "check_ids", "check_usable", "delete_matching", "generation", "update_metadata_matching")
}
"""What publishing, clusters and Arrow's readers ask of an index, and the wrapper of a writer of it: what can be added,
what matches a filter, what a call that raised has changed, and whether it committed."""


@pytest.mark.skipif(not BINDINGS.is_dir(), reason="needs the sources")
def test_classes_of_the_extension_are_frozen() -> None:
    """Frozen classes need no borrow flags, so they cannot fail at run time by being used from two threads."""
    found = 0
    for path in BINDINGS.rglob("*.rs"):
        for attribute in re.findall(r"#\[pyclass(\([^]]*\))?\]", path.read_text(encoding="utf-8")):
            found += 1
            assert "frozen" in attribute, f"{path.name}: #[pyclass{attribute}]"
    assert found >= 3


def test_every_name_of_the_extension_has_a_home() -> None:
    public = {name for name in vars(_core) if not name.startswith("_")}
    homes = set(latewood.__all__) | set(latewood.errors.__all__) | set(RENAMED)
    assert public <= homes, public - homes


def test_every_method_of_the_extension_has_a_wrapper() -> None:
    for core, wrapper in ((_core.Index, Index), (_core.Writer, Writer)):
        for name in vars(core):
            if not name.startswith("_"):
                assert hasattr(wrapper, name) or (core, name) in INSIDE, f"{core.__name__}.{name}"


@pytest.mark.parametrize(("options", "names"), [(SearchOptions, SEARCHES), (RerankOptions, RERANKS)])
def test_every_option_shows_in_every_signature(options: Any, names: tuple[str, ...]) -> None:
    fields = {field.name: field.default for field in dataclasses.fields(options) if field.init}
    for name in names:
        shown = inspect.signature(getattr(Index, name)).parameters
        assert inspect.Parameter.VAR_KEYWORD not in {one.kind for one in shown.values()}
        assert fields.keys() <= shown.keys(), name
        assert all(shown[field].default == default for field, default in fields.items() if field != "k"), name


def test_public_functions_are_documented() -> None:
    for name in latewood.__all__:
        value = getattr(latewood, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name
        if inspect.isclass(value):
            for member, function in vars(value).items():
                if not member.startswith("_") and callable(function):
                    assert inspect.getdoc(function), f"{name}.{member}"


def test_no_code_in_files() -> None:
    """Nothing in the package unpickles, evaluates or enables remote code."""
    forbidden = re.compile(
        r"\bpickle\.load|\bpickle\.loads|(?<!\.)\beval\(|\bexec\(|torch\.load|allow_pickle=True|trust_remote_code=True"
    )
    for path in PACKAGE.rglob("*.py"):
        assert not forbidden.search(path.read_text(encoding="utf-8")), path


def test_read_only_arrays_go_in(index: Index, corpus: Corpus) -> None:
    query = corpus.queries[0].copy()
    query.flags.writeable = False
    assert index.search(query) == index.search(corpus.queries[0])
    assert latewood.maxsim(query, [query])[0, 0] == pytest.approx(len(query), rel=1e-4)


def test_results_own_their_memory(index: Index, corpus: Corpus) -> None:
    arrays = index.search_arrays(corpus.queries[:2], 3)
    assert isinstance(arrays.ids, np.ndarray)
    before = arrays.scores.copy()
    arrays.scores[:] = 0.0
    np.testing.assert_array_equal(index.search_arrays(corpus.queries[:2], 3).scores, before)


def test_the_program_s_own_objects_are_let_go_at_its_end(tmp_path: Path) -> None:
    """What the extension keeps for ever holds nothing of `__main__`: an open file is written to its end."""
    code = """
import sys
import latewood.errors
Exception = getattr = None
assert str(latewood.errors.InvalidInputError("a sentence")) == "a sentence"
file = open(sys.argv[1], "w")
file.write("all of it")
"""
    run_python(code, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "all of it"
