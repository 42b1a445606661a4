"""BM25 of the texts that an index stores, in step with it, as a first stage."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Lock
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from latewood.common.types import Filter, Id
from latewood.errors import InvalidInputError, UnknownIdError
from latewood.forms.candidates import ScoreArray
from latewood.forms.ids import plain_ids
from latewood.forms.metadata import filter_json
from latewood.forms.values import count_of
from latewood.index.index import Index, checked_index
from latewood.rerank.first_stages.exhaustive import best_of, scores_of
from latewood.rerank.first_stages.protocol import FirstStageHits, texts_of
from latewood.rerank.first_stages.words import Counts, Words

K1, B = 1.5, 0.75
"""Of BM25, as bm25s has them."""
BLOCK = 4096
"""Documents whose texts are in memory at once."""
FILTERS = 64
"""Filters whose documents are remembered."""


class LexicalFirstStage:
    """BM25 of the texts that an index stores, by the package `bm25s`.

    It is what `Hybrid` and `TwoStage.from_index` find candidates with. Before each search it looks whether the index
    has moved to another commit, and takes up what was added, replaced and deleted; texts that it has seen are not taken
    apart again. Their words are kept in a file in the index's folder, from which the next process reads them.

    Parameters
    ----------
    index : Index
        Some of its documents must have texts, if it has documents. Those without one are never found.
    tokenize : callable, optional
        List of texts → list of lists of words, for documents and queries alike. By default `bm25s.tokenize` with
        `tokenizer_options`, after pairs of neighbours are made of the characters of scripts that put no spaces between
        words, such as Chinese, Japanese and Thai.
    **tokenizer_options
        Of `bm25s.tokenize`: `stopwords` ("en" by default, other languages, a list or None), `stemmer`, `token_pattern`,
        `lower`.

    Raises
    ------
    InvalidInputError
        No index; no document with a text; options that `bm25s.tokenize` does not know.
    MissingDependencyError
        `bm25s` is not installed: the extra `hybrid` has it.

    Notes
    -----
    The file, `lexical-….npz`, is no part of the index, holds no pickles, and may be removed at any time. One that does
    not fit the texts, or is damaged, is made anew; where the folder cannot be written to, there is none. It is written
    when more than a tenth of the texts have come or gone since, and not with a `tokenize` or a `stemmer` of one's own:
    nobody could tell later whether it is still the same.

    BM25 is the variant of Lucene, with k1 = 1.5 and b = .75. Documents that share no word with the query score 0 and
    are not found.
    """

    def __init__(
        self, index: Index, *, tokenize: Callable[[list[str]], Any] | None = None, **tokenizer_options: Any
    ) -> None:
        self.index = checked_index(index)
        self._words = Words(tokenize, tokenizer_options)
        self._lock = (os.getpid(), Lock())
        self._state: _State | None = None
        state = self._current()
        if len(index) and not state.ids:
            message = (
                f"no document of {index!r} has a text, and there is nothing to find by words: add documents with "
                "texts=, or pass another first stage"
            )
            raise InvalidInputError(message)

    def search(self, query: str, k: int, *, filter: Filter | None = None) -> FirstStageHits:  # noqa: A002
        """See `FirstStage.search`; `filter` is that of `Index.search`."""
        return self.search_batch([query], k, filter=filter)[0]

    def search_batch(
        self,
        queries: Sequence[str],
        k: int,
        *,
        filter: Filter | Sequence[Filter | None] | None = None,  # noqa: A002
    ) -> list[FirstStageHits]:
        """See `FirstStage.search_batch`; `filter` may be a list with one for each query."""
        texts, depth = texts_of(queries, "queries"), count_of(k, "k")
        if isinstance(filter, (list, tuple)) and len(filter) != len(texts):
            message = f"{len(filter)} filters for {len(texts)} queries; give one mapping for all, or one for each"
            raise InvalidInputError(message)
        filters = filter if isinstance(filter, (list, tuple)) else [filter] * len(texts)
        state = self._current()
        found: list[FirstStageHits] = []
        for words, condition in zip(self._words(texts), filters, strict=True):
            scores = state.scores(words)
            if condition is not None:
                scores[~state.allowed(self.index, condition)] = 0.0
            found.append(best_of(scores, state.ids, depth))
        return found

    def score_batch(self, queries: Sequence[str], candidates: Sequence[Iterable[Id]]) -> list[ScoreArray]:
        """Score documents for each query, whether it would find them or not.

        Parameters
        ----------
        queries : sequence of str
        candidates : sequence of sequences of ids
            One for each query.

        Returns
        -------
        list of float64 arrays [candidates]
            0 for a document without a word of the query, NaN for one without a text.
        """
        state = self._current()
        return scores_of(
            texts_of(queries, "queries"), candidates, state.places, lambda texts: map(state.scores, self._words(texts))
        )

    def __repr__(self) -> str:
        """Show the index."""
        return f"{type(self).__name__}({self.index!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the index and the options."""
        return (_again, (self.index, self._words.tokenize, self._words.options))

    def _current(self) -> "_State":
        """Bring what is known of the texts to the commit that the index reads."""
        pid, lock = self._lock
        if pid != os.getpid():
            # In a forked child nobody would ever release a lock that was held.
            lock = Lock()
            self._lock = (os.getpid(), lock)
        state = self._state
        if state is not None and state.generation == self.index.generation:
            return state
        with lock:
            state = self._state
            while state is None or state.generation != self.index.generation:
                generation = self.index.generation
                try:
                    state = self._read(generation, state)
                except UnknownIdError:
                    # Another thread has moved the index while its documents were read.
                    if generation == self.index.generation:
                        raise
            self._state = state
            return state

    def _read(self, generation: int, before: "_State | None") -> "_State":
        counts = Counts.load(self.index.path, self._words) if before is None else before.counts
        ids = plain_ids(self.index.ids())
        kept: list[Id] = []

        def texts() -> Iterator[list[str]]:
            for start in range(0, len(ids), BLOCK):
                with_text = [one for one in self.index.documents(ids[start : start + BLOCK]) if one.text is not None]
                kept.extend(one.id for one in with_text)
                yield [cast("str", one.text) for one in with_text]

        digests, counts = counts.of(texts(), self._words)
        counts.save(self.index.path, self._words)
        return _State(generation, kept, counts, counts.places(digests))


class _State:
    """BM25 of the texts of one commit."""

    def __init__(self, generation: int, ids: list[Id], counts: Counts, rows: NDArray[np.int64]) -> None:
        self.generation = generation
        self.ids = ids
        self.counts = counts
        self.places = {key: place for place, key in enumerate(ids)}
        table = counts.table[rows]
        lengths = np.asarray(table.sum(axis=1), dtype=np.float64).ravel()
        # Word by word, so that a query touches only the words it has.
        columns = table.tocsc()
        self._documents, self._bounds = columns.indices, columns.indptr
        having = np.diff(self._bounds)
        rarity = np.log1p((len(ids) - having + 0.5) / (having + 0.5))
        length = 1.0 - B + B * lengths / (lengths.mean() or 1.0) if len(ids) else lengths
        often = columns.data / (columns.data + K1 * length[self._documents])
        self._scores = (np.repeat(rarity, having) * often).astype(np.float32)
        self._allowed: dict[str, NDArray[np.bool_]] = {}

    def scores(self, words: Iterable[str]) -> NDArray[np.float32]:
        """Score all documents for the words of a query, as often as it has them."""
        scores = np.zeros(len(self.ids), dtype=np.float32)
        for word in words:
            column = self.counts.vocabulary.get(word, len(self._bounds))
            # The vocabulary may have grown since.
            if column < len(self._bounds) - 1:
                postings = slice(self._bounds[column], self._bounds[column + 1])
                scores[self._documents[postings]] += self._scores[postings]
        return scores

    def allowed(self, index: Index, condition: Filter) -> NDArray[np.bool_]:
        """Say of all documents whether a filter lets them through."""
        key = cast("str", filter_json(condition))
        known = self._allowed.get(key)
        if known is None:
            known = np.zeros(len(self.ids) + 1, dtype=np.bool_)
            known[[self.places.get(one, -1) for one in plain_ids(index.ids(filter=condition))]] = True
            if len(self._allowed) < FILTERS:
                self._allowed[key] = known
        return known[:-1]


def _again(index: Index, tokenize: Callable[[list[str]], Any] | None, options: dict[str, Any]) -> LexicalFirstStage:
    return LexicalFirstStage(index, tokenize=tokenize, **options)
