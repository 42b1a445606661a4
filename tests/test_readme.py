"""The Python blocks of the README and of each page of docs run, one after the other, and links lead somewhere."""

import ast
import re
import shutil
import sys
from pathlib import Path

import pytest

from latewood.encode.nano import has_nano
from support import REPOSITORY

README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
PAGES = [README, *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("integrations/*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)]+)\)")
WITH_TEXT = (
    README,
    *(DOCS / f"{name}.md" for name in ("cluster", "encoders", "hybrid", "long_texts", "reranking", "two_stages")),
    *DOCS.glob("integrations/*.md"),
)
"""Pages that encode with the model inside the wheel."""
BESIDE = {"importing": {"old_index": REPOSITORY / "tests" / "golden" / "elsewhere" / "next-plaid"}}
"""Folders that the examples of a page find where they run."""
ONCE = {"cloud", "cluster", "pyterrier", "safety", "vector_stores"}
"""Pages whose examples leave something behind that they do not replace: buckets, shards, files known by their names."""


@pytest.mark.skipif(not README.exists(), reason="needs the repository")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_the_code_of_a_page(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if page in WITH_TEXT and not has_nano():
        pytest.skip("the model latewood/nano-en is not in this source tree yet")
    text = page.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python")
    assert blocks or page != README, "the README shows no Python"
    if page.parent.name == "integrations":
        for package in frameworks("".join(block.group(1) for block in blocks)):
            pytest.importorskip(package)
            if package == "psycopg":
                request.getfixturevalue("postgres")
    monkeypatch.chdir(tmp_path)
    for name, folder in BESIDE.get(page.stem, {}).items():
        shutil.copytree(folder, name)
    # Who tries a page does it twice, in the same folder.
    for _ in range(1 if page.stem in ONCE else 2):
        names: dict[str, object] = {"__name__": page.stem}
        for block in blocks:
            line = text[: block.start(1)].count("\n")
            # Leading newlines make tracebacks show the page's own line numbers.
            exec(compile("\n" * line + block.group(1), str(page), "exec"), names)


@pytest.mark.skipif(not README.exists(), reason="needs the repository")
@pytest.mark.parametrize("page", [*PAGES, *REPOSITORY.glob("*.md")], ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        path = page.parent / target if target else page
        assert path.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings], link


def frameworks(code: str) -> set[str]:
    """Give the packages that code imports and that are neither Python's nor the library's own."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.split(".")[0] for name in names} - {"latewood", "haystack_integrations"} - sys.stdlib_module_names


@pytest.mark.skipif(not README.exists(), reason="needs the repository")
@pytest.mark.parametrize("folder", [DOCS, DOCS / "integrations"], ids=lambda folder: folder.name)
def test_every_page_is_in_the_index(folder: Path) -> None:
    listed = LINK.findall((folder / "README.md").read_text(encoding="utf-8"))
    assert {page.name for page in folder.glob("*.md")} - {"README.md"} <= set(listed)


@pytest.mark.skipif(not README.exists(), reason="needs the repository")
def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200
