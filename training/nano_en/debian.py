"""Free text out of Debian packages: dictionaries and manuals whose licence their own copyright file states."""

import gzip
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

# Package: licence of its text, as its file usr/share/doc/<package>/copyright has it.
LICENCES = {
    "dict-gcide": "GPL-2+",
    "dict-wn": "WordNet 3.0 licence",
    "gnumed-doc": "GPL-2+",
    "python-biopython-doc": "Biopython licence",
    "python-statsmodels-doc": "BSD-3-Clause",
}
# Words as text: one in a line, they would be the longest part of this file.
BLOCKS = frozenset("p li dd dt td th h1 h2 h3 h4 div title section table pre blockquote body".split())  # noqa: SIM905
SKIPPED = frozenset("style script pre nav math svg head".split())  # noqa: SIM905
ENGLISH = frozenset("the of and to is for that with by are be this or as an it in you on not from can".split())  # noqa: SIM905
MINIMUM_WORDS = 6
PASSAGE = 1100  # characters: about 250 tokens


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package on disk.

    Parameters
    ----------
    name : str
    version : str
    path : pathlib.Path
    licence : str
    """

    name: str
    version: str
    path: Path
    licence: str


def download(folder: Path) -> None:
    """Fetch what is missing of the packages by `apt-get download`, from whatever archive the machine uses."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in LICENCES:
        if not any(folder.glob(f"{name}_*.deb")):
            subprocess.run(["apt-get", "download", name], cwd=folder, check=True)  # noqa: S603, S607 - names from above


def packages(folder: Path) -> list[Package]:
    """Return the packages in a folder that are known here, by name."""
    return [
        Package(name, path.name.split("_")[1].replace("%3a", ":"), path, licence)
        for name, licence in sorted(LICENCES.items())
        for path in sorted(folder.glob(f"{name}_*.deb"))[-1:]
    ]


def package_texts(path: Path) -> Iterator[str]:
    """Yield the passages of one package."""
    with tempfile.TemporaryFile() as tar:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", str(path)], stdout=tar, check=True)  # noqa: S603, S607
        tar.seek(0)
        with tarfile.open(fileobj=tar) as archive:
            for member in archive:
                if member.isfile() and (file := archive.extractfile(member)):
                    yield from file_texts(member.name, file.read())


def file_texts(name: str, content: bytes) -> Iterator[str]:
    """Yield the passages of one file, none if it is of another kind."""
    if name.endswith(".dict.dz"):
        read = wordnet if name.endswith("/wn.dict.dz") else dictionary
        yield from read(gzip.decompress(content).decode("utf-8", "replace"))
    elif name.endswith((".html", ".html.gz")):
        raw = gzip.decompress(content) if name.endswith(".gz") else content
        yield from passages(html_blocks(raw.decode("utf-8", "replace")))


def prose(text: str) -> bool:
    """Say whether a block reads like English rather than like code, a table or another language."""
    words = text.lower().split()
    letters = sum(c.isalpha() or c.isspace() for c in text)
    function_words = sum(word in ENGLISH for word in words)
    return len(words) >= MINIMUM_WORDS and letters > 0.85 * len(text) and function_words > 0.15 * len(words)


def passages(blocks: Iterator[str]) -> Iterator[str]:
    """Join consecutive blocks of prose to passages, each block once."""
    held, seen = "", set[str]()
    for block in blocks:
        if block in seen or not prose(block):
            continue
        seen.add(block)
        held = f"{held} {block}".strip()
        if len(held) >= PASSAGE:
            yield held
            held = ""
    if held:
        yield held


class Blocks(HTMLParser):
    """Collects the text of block elements."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.held: list[str] = []
        self.skipped = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: D102 - HTMLParser's
        del attrs
        if tag in BLOCKS:
            self.flush()
        if tag in SKIPPED:
            self.skipped += 1

    def handle_endtag(self, tag: str) -> None:  # noqa: D102 - HTMLParser's
        if tag in BLOCKS:
            self.flush()
        if tag in SKIPPED and self.skipped:
            self.skipped -= 1

    def handle_data(self, data: str) -> None:  # noqa: D102 - HTMLParser's
        # Inline code stands in a sentence and is kept; what `SKIPPED` names stands for itself.
        if not self.skipped:
            self.held.append(data)

    def flush(self) -> None:
        """End the block at hand."""
        text = " ".join("".join(self.held).split())
        self.held.clear()
        if text:
            self.found.append(text)


def html_blocks(text: str) -> Iterator[str]:
    """Yield the text of each block element of an HTML file."""
    parser = Blocks()
    parser.feed(text)
    parser.close()
    parser.flush()
    yield from parser.found


def dictionary(text: str) -> Iterator[str]:
    """Yield a dictionary's entries, short ones joined: an entry is a paragraph that starts at the margin."""
    held = ""
    for entry in re.split(r"\n(?=\S)", text):
        clean = re.sub(r"\\[^\\\n]*\\,?|\[(?:1913 Webster|PJC|WordNet[^\]]*|Webster[^\]]*)[^\]]*\]|[{}]", " ", entry)
        clean = " ".join(clean.split())
        if len(clean.split()) < MINIMUM_WORDS:
            continue
        held = f"{held} {clean}".strip()
        if len(held) >= PASSAGE // 4:
            yield held
            held = ""
    if held:
        yield held


def wordnet(text: str) -> Iterator[str]:
    """Yield WordNet's glosses, each with its first headword: the other headwords of a synset repeat its gloss."""
    seen: set[str] = set()
    for entry in re.split(r"\n(?=\S)", text):
        head, _, body = entry.partition("\n")
        for sense in re.split(r"\n\s+(?:(?:n|v|adj|adv) )?\d+: |^\s+(?:n|v|adj|adv) (?:1: )?", body):
            clean = " ".join(re.sub(r"\[(?:syn|ant|also):[^\]]*\]|[{}]", " ", sense).split())
            if clean and clean not in seen:
                seen.add(clean)
                yield f"{head}: {clean}"
