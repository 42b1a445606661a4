"""BM25 as a first stage."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from latewood.common.packages import import_optional
from latewood.common.types import Id
from latewood.errors import InvalidInputError
from latewood.rerank.first_stages.exhaustive import Exhaustive
from latewood.rerank.first_stages.protocol import check_count, texts_of, unique_ids
from latewood.rerank.first_stages.words import EXTRA, PURPOSE, tokenized


class Bm25FirstStage(Exhaustive):
    """BM25 by the package `bm25s`.

    Parameters
    ----------
    retriever : bm25s.BM25
        Indexed.
    ids : sequence of str or int
        Id of each indexed document, in the order of indexing.
    tokenize : callable, optional
        List of texts → token lists or ids, as the corpus was tokenized; by default `bm25s.tokenize` with
        `tokenizer_options`.
    **tokenizer_options
        Such as `stopwords` and `stemmer`: the same as for the corpus.

    Notes
    -----
    Documents that share no term with the query score 0 and are not candidates, but of the variants BM25L and BM25+, by
    which all documents have more. Ties go by position. `retriever` can be saved by its own `save`, and is given here
    again when it has been loaded.
    """

    def __init__(
        self,
        retriever: Any,
        ids: Iterable[Id],
        *,
        tokenize: Callable[[list[str]], Any] | None = None,
        **tokenizer_options: Any,
    ) -> None:
        self._retriever = retriever
        super().__init__(unique_ids(ids))
        indexed: Any = getattr(retriever, "scores", None)
        if not isinstance(indexed, Mapping) or "num_docs" not in indexed:
            message = f"the retriever is a {type(retriever).__name__}; pass a bm25s.BM25 that has indexed the documents"
            raise InvalidInputError(message)
        check_count(self._ids, int(indexed["num_docs"]), "documents of the BM25 index")
        self._tokenize = tokenize
        self._options = tokenizer_options
        if tokenize is None:
            tokenized(["a word or two"], tokenizer_options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._ids)} documents)"

    @property
    def retriever(self) -> Any:
        """The `bm25s.BM25`."""
        return self._retriever

    @classmethod
    def from_texts(cls, ids: Iterable[Id], texts: Iterable[str], **tokenizer_options: Any) -> "Bm25FirstStage":
        """Index texts with bm25s' defaults.

        Parameters
        ----------
        ids : sequence of str or int
        texts : sequence of str
        **tokenizer_options
            Of `bm25s.tokenize`: `stopwords` ("en" by default), `stemmer`, `token_pattern`, `lower`.
        """
        bm25s = import_optional("bm25s", extra=EXTRA, purpose=PURPOSE)
        keys, documents = unique_ids(ids), texts_of(texts, "texts")
        check_count(keys, len(documents), "texts")
        words = tokenized(documents, tokenizer_options)
        if not any(words):
            message = f"there are no words to index by BM25 in the {len(documents)} texts; stop words do not count"
            raise InvalidInputError(message)
        retriever = bm25s.BM25()
        retriever.index(words, show_progress=False)
        return cls(retriever, keys, **tokenizer_options)

    def _scores(self, texts: list[str]) -> Iterator[Any]:
        tokens = tokenized(texts, self._options) if self._tokenize is None else self._tokenize(texts)
        for entry in tokens:
            terms = list(entry)
            yield self._retriever.get_scores(terms) if terms else np.zeros(len(self._ids))
