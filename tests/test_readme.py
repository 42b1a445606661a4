"""The Python blocks of the README and of each page of docs run, one after the other, and links lead somewhere."""

import re
from pathlib import Path

import pytest

from latewood.encode.nano import has_nano
from support import REPOSITORY

README = REPOSITORY / "README.md"
PAGES = [README, *sorted((REPOSITORY / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)]+)\)")
WITH_TEXT = (
    README,
    *(
        README.parent / "docs" / f"{name}.md"
        for name in ("encoders", "hybrid", "long_texts", "reranking", "two_stages")
    ),
)
"""Pages that encode with the model inside the wheel."""


@pytest.mark.skipif(not README.exists(), reason="needs the repository")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_the_code_of_a_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page in WITH_TEXT and not has_nano():
        pytest.skip("the model latewood/nano-en is not in this source tree yet")
    text = page.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python")
    assert blocks or page != README, "the README shows no Python"
    monkeypatch.chdir(tmp_path)
    # Who tries the README does it twice, in the same folder.
    for _ in range(2 if page == README else 1):
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


@pytest.mark.skipif(not README.exists(), reason="needs the repository")
def test_every_page_is_in_the_index() -> None:
    listed = LINK.findall((REPOSITORY / "docs" / "README.md").read_text(encoding="utf-8"))
    assert {page.name for page in (REPOSITORY / "docs").glob("*.md")} - {"README.md"} <= set(listed)


@pytest.mark.skipif(not README.exists(), reason="needs the repository")
def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200
