"""Texts → how often each word occurs in them: counted once for each text, and kept in a file."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latewood.common.files import replacing
from latewood.common.packages import import_optional
from latewood.errors import InvalidInputError
from latewood.forms.values import shown

PURPOSE = "BM25"
EXTRA = "hybrid"
UNSAVED = 0.1
"""Share of the texts that may have come or gone before the file is written again."""
UNUSED = 0.5
"""Share of the words that may be in no text any more before these are forgotten."""

_SPACELESS = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e81-\u0eff\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u17d7\u17dc-\u17e9"
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
"""Letters, marks and digits of scripts without spaces: Thai, Lao, Burmese, Khmer, kana, Chinese characters."""
_INDIC = "\u0900-\u0963\u0966-\u096f\u0971-\u0df3"
"""The same of the scripts of India and Sri Lanka, which have spaces."""

RUN = re.compile(f"[{_SPACELESS}]+")
WORD = rf"(?u)[{_INDIC}]{{2,}}|\b\w\w+\b|[{_SPACELESS}]{{2}}"
"""What bm25s takes for a word, and words of these scripts, of which its own pattern takes no vowel for a letter."""

KINDS = {"digests": "u8", "offsets": "i8", "columns": "i4", "counts": "i4", "vocabulary": "u1", "settings": "u1"}
"""Arrays of the file."""

Digests = NDArray[np.uint64]


class Words:
    """Takes texts apart into words, all in the same way.

    Parameters
    ----------
    tokenize : callable or None
        List of texts → list of lists of words; None for `bm25s.tokenize`.
    options : mapping
        Of `bm25s.tokenize`.
    """

    def __init__(self, tokenize: Callable[[list[str]], Any] | None, options: Mapping[str, Any]) -> None:
        if tokenize is not None and (options or not callable(tokenize)):
            message = (
                f"tokenize is {shown(tokenize)}, with {', '.join(options) or 'no options'}; pass a callable that takes "
                "a list of texts, or options of bm25s.tokenize"
            )
            raise InvalidInputError(message)
        self.tokenize, self.options = tokenize, dict(options)
        self(["a word or two"])

    def __call__(self, texts: list[str]) -> list[list[str]]:
        """Give the words of each text."""
        words = self._usual(texts) if self.tokenize is None else self.tokenize(texts)
        try:
            lists = [list(own) for own in words if not isinstance(own, str)]
        except TypeError:
            lists = []
        if len(lists) != len(texts) or not set(map(type, chain.from_iterable(lists))) <= {str}:
            message = f"tokenize gave {shown(words)} for {len(texts)} texts; it must give a list of str for each"
            raise InvalidInputError(message)
        return lists

    def _usual(self, texts: list[str]) -> Any:
        spaced = [text if text.isascii() else RUN.sub(_pairs, text) for text in texts]
        return tokenized(spaced, {"token_pattern": WORD, **self.options})

    @property
    def settings(self) -> str | None:
        """Everything that the words depend on, as JSON; None if nobody can tell."""
        if self.tokenize is not None:
            return None
        try:
            return json.dumps({"words": 2, **self.options}, sort_keys=True)
        except TypeError:
            return None


def tokenized(texts: list[str], options: Mapping[str, Any]) -> list[list[str]]:
    """Take texts apart into words by `bm25s.tokenize`, which takes the options."""
    bm25s = import_optional("bm25s", extra=EXTRA, purpose=PURPOSE)
    try:
        words: list[list[str]] = bm25s.tokenize(texts, return_ids=False, show_progress=False, **options)
    except (TypeError, ValueError, re.error) as error:
        message = f"bm25s.tokenize takes no such options, {shown(options)}: {error}"
        raise InvalidInputError(message) from error
    return words


def _pairs(run: re.Match[str]) -> str:
    """Write a run of characters as pairs of neighbours, as Lucene's CJKAnalyzer does."""
    text = run[0]
    return f" {' '.join(map(str.__add__, text, text[1:])) or text} "


def digests_of(texts: Iterable[str]) -> Digests:
    """Name each text by 64 bits of a cryptographic hash."""
    joined = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)


@dataclass
class Counts:
    """How often each word occurs in each of several texts, which are known by their digests.

    Attributes
    ----------
    digests : uint64 array [texts]
        Rising.
    table : scipy CSR matrix [texts, words], int32
    vocabulary : dict of word to column
        Grows, and is shared with older values, until many of its words are in no text any more.
    changed : int
        How many texts have come and gone since the file was written.
    """

    digests: Digests
    table: Any
    vocabulary: dict[str, int] = field(default_factory=dict)
    changed: int = 0

    @classmethod
    def none(cls) -> "Counts":
        """Know no text."""
        return cls(np.zeros(0, dtype=np.uint64), _sparse().csr_matrix((0, 0), dtype=np.int32))

    def places(self, digests: Digests) -> NDArray[np.int64]:
        """Give the row of each text, and -1 for those that are not known."""
        if not len(self.digests):
            return np.full(len(digests), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.digests, digests), len(self.digests) - 1)
        return np.where(self.digests[at] == digests, at, -1)

    def of(self, blocks: Iterable[Sequence[str]], words: Words) -> tuple[Digests, "Counts"]:
        """Count the words of texts, of those alone that are not known yet.

        Returns
        -------
        uint64 array [texts], Counts
            The texts' digests in their order, and counts of these texts and no others.
        """
        digests: list[Digests] = []
        new: dict[int, tuple[list[int], list[int]]] = {}
        for texts in blocks:
            own = digests_of(texts)
            digests.append(own)
            unknown = {
                digest: text
                for digest, text, place in zip(own.tolist(), texts, self.places(own).tolist(), strict=True)
                if place < 0 and digest not in new
            }
            for digest, found in zip(unknown, words(list(unknown.values())), strict=True):
                counted = Counter(self.vocabulary.setdefault(word, len(self.vocabulary)) for word in found)
                new[digest] = (list(counted), list(counted.values()))
        every = np.concatenate([np.zeros(0, dtype=np.uint64), *digests])
        return every, self._with(new, np.unique(every))

    def _with(self, new: dict[int, tuple[list[int], list[int]]], wanted: Digests) -> "Counts":
        sparse, width = _sparse(), len(self.vocabulary)
        own = self.places(wanted)
        if not new and len(wanted) == len(self.digests) and self.table.shape[1] == width:
            return self
        offsets = np.concatenate([[0], np.cumsum([len(columns) for columns, _ in new.values()], dtype=np.int64)])
        columns, counts = ([one[part] for one in new.values()] for part in (0, 1))
        added = sparse.csr_matrix(
            (
                np.fromiter(chain.from_iterable(counts), dtype=np.int32),
                np.fromiter(chain.from_iterable(columns), dtype=np.int32),
                offsets,
            ),
            shape=(len(new), width),
        )
        kept = own[own >= 0]
        table = self.table[kept]
        table.resize(len(kept), width)
        both = np.concatenate([wanted[own >= 0], np.fromiter(new, dtype=np.uint64, count=len(new))])
        order = np.argsort(both)
        table, vocabulary = sparse.vstack([table, added], format="csr")[order], self.vocabulary
        used = _used(table)
        if width - len(used) > UNUSED * width:
            table, vocabulary = _of_words(table, vocabulary, used)
        changed = self.changed + len(new) + len(self.digests) - len(kept)
        return Counts(both[order], table, vocabulary, changed)

    # ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def load(cls, folder: str, words: Words) -> "Counts":
        """Read what an earlier process has counted; nothing, if there is none, or none that can be used."""
        path = _path(folder, words)
        # Whatever is wrong with a file that only saves time, the texts themselves are there.
        with suppress(Exception):
            # A pipe that somebody put there would let its reader wait for ever.
            if path is not None and path.is_file():
                with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                    return cls._checked({name: arrays[name] for name in KINDS}, words)
        return cls.none()

    @classmethod
    def _checked(cls, arrays: Mapping[str, NDArray[Any]], words: Words) -> "Counts":
        """Make a value of what a file has, or raise a `ValueError`."""
        vocabulary = json.loads(arrays["vocabulary"].tobytes())
        digests, offsets, columns, counts = (arrays[name] for name in ("digests", "offsets", "columns", "counts"))
        sound = (
            all(arrays[name].dtype == np.dtype(kind) and arrays[name].ndim == 1 for name, kind in KINDS.items())
            and arrays["settings"].tobytes().decode() == words.settings
            and set(map(type, vocabulary)) <= {str}
            and len(set(vocabulary)) == len(vocabulary)
            and len(offsets) == len(digests) + 1
            and offsets[0] == 0
            and offsets[-1] == len(columns) == len(counts)
            and bool((np.diff(offsets) >= 0).all())
            and bool((digests[1:] > digests[:-1]).all())
            and bool(((columns >= 0) & (columns < len(vocabulary))).all())
            and bool((counts > 0).all())
        )
        if not sound:
            message = "not what was written"
            raise ValueError(message)
        table = _sparse().csr_matrix((counts, columns, offsets), shape=(len(digests), len(vocabulary)))
        return cls(digests, table, {word: place for place, word in enumerate(vocabulary)})

    def save(self, folder: str, words: Words) -> None:
        """Write the file, if enough has changed and if that is possible: all at once, whoever else reads or writes."""
        path = _path(folder, words)
        if path is None or self.changed <= UNSAVED * len(self.digests):
            return
        # Words that only texts have had that are gone do not stay behind.
        table, vocabulary = _of_words(self.table, self.vocabulary, _used(self.table))
        arrays = {
            "digests": self.digests,
            "offsets": table.indptr.astype(np.int64),
            "columns": table.indices.astype(np.int32),
            "counts": table.data,
            "vocabulary": _bytes(json.dumps(list(vocabulary))),
            "settings": _bytes(words.settings or ""),
        }
        # Reading an index needs no right to write beside it.
        with suppress(OSError):
            with replacing(path) as scratch, scratch.open("wb") as file:
                np.savez(file, **arrays)
            self.changed = 0


def _used(table: Any) -> NDArray[np.int64]:
    """Give the columns of words that are in any text."""
    return np.flatnonzero(np.bincount(table.indices, minlength=table.shape[1]))


def _of_words(table: Any, vocabulary: dict[str, int], columns: NDArray[Any]) -> tuple[Any, dict[str, int]]:
    """Leave the words of some columns, which rise."""
    words = list(vocabulary)
    return table[:, columns], {words[column]: place for place, column in enumerate(columns.tolist())}


def _path(folder: str, words: Words) -> Path | None:
    if words.settings is None:
        return None
    return Path(folder) / f"lexical-{blake2b(words.settings.encode(), digest_size=8).hexdigest()}.npz"


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _sparse() -> Any:
    return import_optional("scipy.sparse", extra=EXTRA, purpose=PURPOSE)
