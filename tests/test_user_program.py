"""A user's program runs, uses every public name, and has no expression of type Any."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import latewood
from latewood.encode.nano import has_nano
from support import TESTS

PROGRAM = TESTS / "user_program.py"
NOT_CALLED = {
    "AsyncClient": "needs a service",
    "CallableFirstStage": "a function does as well",
    "Client": "needs a service",
    "Document": "given",
    "Encoder": "a protocol",
    "Explanation": "given",
    "FirstStage": "a protocol",
    "RerankOptions": "made by the calls",
    "inference_free": "needs a model",
    "publish": "needs a store",
    "push_to_hub": "needs the Hub",
    "SearchOptions": "made by the calls",
    "SeismicFirstStage": "needs a package that not every platform has",
    "SparseEncoderFirstStage": "needs a model",
    "Writer": "made by index.writer",
    "__version__": "a str",
    "cluster": "its own tests",
    "evaluate": "its own tests",
    "simd_levels": "as simd_level",
}


@pytest.mark.skipif(not has_nano(), reason="the model latewood/nano-en is not in this source tree yet")
def test_it_runs_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("bm25s")
    pytest.importorskip("onnxruntime")
    import user_program

    assert user_program.main(tmp_path) == user_program.main(tmp_path) == 3
    assert "rings" in capsys.readouterr().out


def test_it_uses_every_public_call() -> None:
    tree = ast.parse(PROGRAM.read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    inputs = (TESTS / "user_inputs.py").read_text(encoding="utf-8")
    for name in latewood.__all__:
        assert name in names or name in NOT_CALLED or name in inputs or name in ("encode", "errors"), name
    for name, value in vars(latewood.Index).items():
        if not name.startswith("_") and callable(value):
            assert (
                name in names | NOT_CALLED.keys()
                or name in inputs
                or name in ("recover", "use_encoder", "require_encoder", "contains", "info")
            ), name


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], subprocess.CompletedProcess[str]]:
    """Give what mypy says of a file, on a user's machine; what it has learnt of libraries it keeps for the next."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--disallow-any-expr", "--explicit-package-bases"]
    command += ["--config-file=", "--follow-imports=silent", f"--cache-dir={tmp_path_factory.mktemp('mypy')}"]
    return lambda path: subprocess.run(
        [*command, path.name], capture_output=True, text=True, cwd=path.parent, check=False
    )


def test_nothing_in_it_is_any(checked: Callable[[Path], subprocess.CompletedProcess[str]]) -> None:
    seen = checked(PROGRAM)
    assert seen.returncode == 0, seen.stdout


def test_a_wrong_name_is_an_error(tmp_path: Path, checked: Callable[[Path], subprocess.CompletedProcess[str]]) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import latewood\nlatewood.Nope\nlatewood.Index.open('x').search('q', candidate=3)\n")
    seen = checked(wrong)
    assert 'Module has no attribute "Nope"' in seen.stdout
    assert 'Unexpected keyword argument "candidate"' in seen.stdout
