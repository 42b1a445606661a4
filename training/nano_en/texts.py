"""What the encoder learns from: every text with its source and licence, and never a test collection's."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from training.nano_en import debian
from training.nano_en.settings import SEED, Settings


@dataclass(frozen=True, slots=True)
class Source:
    """One collection of texts.

    Parameters
    ----------
    name : str
    licence : str
    origin : str
    """

    name: str
    licence: str
    origin: str


SETS = (
    Source("squad-train", "CC BY-SA 4.0", "SQuAD v1.1, training articles (Wikipedia)"),
    Source("medquad", "CC BY 4.0", "MedQuAD, collections 1 to 9 (Ben Abacha and Demner-Fushman 2019)"),
    Source("pubmedqa", "MIT", "PubMedQA, PQA-L (Jin et al. 2019)"),
)
# What the model is measured on. Nothing of it is read by any step but `evaluate`.
HELD_OUT = ("scifact", "squad-dev", "xquad")


def lines(path: Path) -> Iterator[dict[str, str]]:
    """Yield the objects of a JSONL file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def document_text(entry: dict[str, str]) -> str:
    """Join title and text as `latewood eval` does."""
    return f"{entry.get('title') or ''} {entry['text']}".strip()


def set_texts(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield a collection's texts and whether each is a query."""
    if folder.name in HELD_OUT:
        message = f"{folder.name} is a test collection"
        raise ValueError(message)
    for entry in lines(folder / "corpus.jsonl"):
        yield document_text(entry), False
    for entry in lines(folder / "queries.jsonl"):
        yield entry["text"], True


def sources(settings: Settings) -> dict[Source, list[tuple[str, bool]]]:
    """Return every source that is there, its texts without repetitions and in an order of chance.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    dict
        Of (text, is it a query) by source.
    """
    found = {
        source: list(dict.fromkeys(set_texts(settings.sets / source.name)))
        for source in SETS
        if (settings.sets / source.name).is_dir()
    }
    if not found:
        message = f"there is no text collection in {settings.sets}; name the folder of their archives by --collections"
        raise FileNotFoundError(message)
    if settings.packages is not None:
        for package in debian.packages(settings.packages):
            source = Source(package.name, package.licence, f"Debian package {package.name} {package.version}")
            found[source] = [(text, False) for text in dict.fromkeys(debian.package_texts(package.path))]
    for source, texts in found.items():
        random.Random(f"{SEED} {source.name}").shuffle(texts)  # noqa: S311 - an order, no secret
    return found
