"""The README's Python blocks run, one after the other, in an empty folder."""

import re
from pathlib import Path

import pytest

from support import REPOSITORY

README = REPOSITORY / "README.md"


@pytest.mark.skipif(not README.exists(), reason="needs the repository")
def test_the_code_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = README.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert blocks, "the README shows no Python"
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "readme"}
    for block in blocks:
        line = text[: block.start(1)].count("\n")
        # Leading newlines make tracebacks show the README's own line numbers.
        exec(compile("\n" * line + block.group(1), str(README), "exec"), names)


@pytest.mark.skipif(not README.exists(), reason="needs the repository")
def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200
