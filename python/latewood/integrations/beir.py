"""BEIR: a search over a corpus, and a second stage for the results of another (docs/integrations/beir.md)."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np

from latewood.common.packages import import_optional
from latewood.common.types import Run

import_optional("beir.retrieval.search.base", extra="beir", purpose="the adapter for BEIR")

from beir.retrieval.search.base import BaseSearch

from latewood.encode.protocol import as_encoder, encode_queries
from latewood.errors import InvalidInputError, UnknownIdError
from latewood.forms.ragged import Ragged
from latewood.forms.values import count_of, path_of
from latewood.index.index import Index
from latewood.integrations.ranking import (
    index_of,
    options_of,
    ranked_batch,
    search_options_of,
    settings_of,
    source_of,
    stored_ids,
)

Corpus = Mapping[str, Mapping[str, str]]
K = TypeVar("K")


class LatewoodSearch(BaseSearch):
    """Searches a corpus by MaxSim: a retriever for BEIR's `EvaluateRetrieval`.

    As in BEIR's own searches, a document whose id is the query's is never among the results, and does not take the
    place of another.

    Parameters
    ----------
    encoder : Encoder, MultiVectorEncoder or str, optional
        Makes an index of each corpus that is searched, in a temporary folder. The one inside the wheel by default.
    index : Index or path-like, optional
        In the place of `encoder`: holds the corpus already, under its ids. Documents that are not in the corpus of a
        search are not found.
    options : mapping, optional
        Of `Index.search`, such as `{"recall": 1.0}`.
    **settings
        Of `Index.create`, with `encoder`: `codec`, `bits` and more.

    Raises
    ------
    InvalidInputError
        A parameter that does not fit, at once.
    """

    def __init__(
        self,
        encoder: Any = None,
        *,
        index: Index | str | os.PathLike[str] | None = None,
        options: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        if index is not None and (encoder is not None or settings):
            message = "an index has its encoder and settings already; leave them out, or index"
            raise InvalidInputError(message)
        self.encoder = None if encoder is None else as_encoder(encoder)
        self.index = None if index is None else index_of(index)
        self.options = search_options_of(options)
        self.settings = settings_of(settings)

    def search(self, corpus: Corpus, queries: Mapping[str, str], top_k: int, *_: Any, **__: Any) -> Run:
        """Give the best `top_k` documents of the corpus for each query.

        Parameters
        ----------
        corpus : mapping of document id to {"title": str, "text": str}
            The title may be missing.
        queries : mapping of query id to text
        top_k : int
        *_, **__
            The score function and more that BEIR hands to every search; MaxSim takes none of it.

        Returns
        -------
        dict of query id to {document id: score}
            Best first.

        Raises
        ------
        UnknownIdError
            A document of the corpus that a given index does not hold.
        """
        wanted = count_of(top_k, "top_k")
        with self._indexed(corpus) as index:
            return self._found(index, corpus, list(queries), list(queries.values()), wanted)

    def encode(
        self,
        corpus: Corpus,
        queries: Mapping[str, str],
        encode_output_path: str | os.PathLike[str] = "./embeddings/",
        overwrite: bool = False,
        query_filename: str = "queries.pkl",
        corpus_filename: str = "corpus.*.pkl",
        **_: Any,
    ) -> None:
        """Write an index of the corpus and the vectors of the queries, for `search_from_files`.

        No pickle is written, whatever the names say: the corpus is an index in a folder, and the queries are a file of
        numpy's `npz`.

        Parameters
        ----------
        corpus, queries
            As for `search`.
        encode_output_path : path-like
        overwrite : bool
            What is there is kept otherwise, and the queries are written again.
        query_filename, corpus_filename : str
            In the latter, "*" becomes 0: BEIR looks for files by that pattern.
        """
        if self.index is not None:
            message = "encode makes an index, and this search has one; give LatewoodSearch an encoder instead"
            raise InvalidInputError(message)
        folder = Path(path_of(encode_output_path, "encode_output_path"))
        folder.mkdir(parents=True, exist_ok=True)
        index = Index.create(
            folder / corpus_filename.replace("*", "0"),
            encoder=self.encoder,
            exist_ok=not overwrite,
            overwrite=overwrite,
            **self.settings,
        )
        missing = [key for key, known in zip(corpus, index.contains(list(corpus)), strict=True) if not known]
        index.add(missing, texts=[_text(corpus[key]) for key in missing], store_texts=False)
        vectors = encode_queries(index.require_encoder("a text query"), list(queries.values()))
        with (folder / query_filename).open("wb") as file:
            np.savez(file, ids=np.array(list(queries), dtype=np.str_), values=vectors.values, offsets=vectors.offsets)

    def search_from_files(
        self, query_embeddings_file: str, corpus_embeddings_files: list[str], top_k: int, **_: Any
    ) -> Run:
        """Search what `encode` has written; otherwise as `search`."""
        wanted = count_of(top_k, "top_k")
        with np.load(path_of(query_embeddings_file, "query_embeddings_file"), allow_pickle=False) as file:
            names, vectors = file["ids"].tolist(), Ragged(file["values"], file["offsets"])
        run: Run = {name: {} for name in names}
        for path in corpus_embeddings_files:
            with Index.open(path) as index:
                for name, found in self._found(index, None, names, vectors, wanted).items():
                    run[name].update(found)
        return {name: _best(found, wanted) for name, found in run.items()}

    @contextmanager
    def _indexed(self, corpus: Corpus) -> Iterator[Index]:
        """Give an index that holds the corpus."""
        if self.index is not None:
            yield self.index
            return
        with (
            TemporaryDirectory(prefix="latewood-beir-") as folder,
            Index.create(Path(folder, "corpus"), encoder=self.encoder, **self.settings) as index,
        ):
            index.add(list(corpus), texts=[_text(document) for document in corpus.values()], store_texts=False)
            yield index

    def _found(self, index: Index, corpus: Corpus | None, names: list[str], queries: Any, top_k: int) -> Run:
        ids = None if corpus is None else stored_ids(index, list(corpus))
        if ids is not None:
            known = index.contains(ids)
            if not known.all():
                message = (
                    f"document {ids[int(np.argmin(known))]!r} of the corpus is not in the index {index.path!r}; add "
                    "it, or leave index out"
                )
                raise UnknownIdError(message)
        # One more, since the query's own document may be among them.
        run = index.search_arrays(queries, top_k + 1, ids=ids, **self.options).to_run(names)
        return {
            name: _best({key: score for key, score in found.items() if key != name}, top_k)
            for name, found in run.items()
        }


class LatewoodRerank:
    """Reranks the results of a search, where BEIR's `Rerank` was: by stored vectors, or by the texts of the corpus.

    Parameters
    ----------
    index : Index or path-like, optional
        Holds the documents under the ids of the corpus, whose texts are not read then.
    model : Reranker, MultiVectorEncoder, Encoder or str, optional
        Scores the texts, which are encoded at each call. The encoder inside the wheel by default.
    options : mapping, optional
        Of `Index.rerank` or `Reranker.rank`.

    Raises
    ------
    InvalidInputError
        Both `index` and `model`, or an option that does not fit, at once.
    """

    def __init__(
        self,
        *,
        index: Index | str | os.PathLike[str] | None = None,
        model: Any = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.options = options_of(options)
        self.source = source_of(index, model, options)
        self.rerank_results: Run = {}

    def rerank(self, corpus: Corpus, queries: Mapping[str, str], results: Run, top_k: int) -> Run:
        """Order the best `top_k` results of each query by MaxSim.

        Parameters
        ----------
        corpus, queries
            As for `LatewoodSearch.search`.
        results : mapping of query id to {document id: score}
            Of the first stage.
        top_k : int
            How many of each query's results are scored; the others are left out. Of equal ones, the first.

        Returns
        -------
        dict of query id to {document id: score}
            Best first; also kept as `rerank_results`, as BEIR does.

        Raises
        ------
        UnknownIdError
            Results for a query that `queries` lack, or with a document that the corpus or the index lacks.
        """
        wanted = count_of(top_k, "top_k")
        best = {name: _best(found, wanted) for name, found in results.items()}
        ranked = ranked_batch(
            self.source,
            [_known(queries, name, "query", "queries") for name in best],
            [found.items() for found in best.values()],
            key=lambda pair: pair[0],
            content=lambda pair: _text(_known(corpus, pair[0], "document", "corpus")),
            first_score=lambda pair: pair[1],
            top_k=wanted,
            options=self.options,
        )
        self.rerank_results = {
            name: {document: score for (document, _), score in pairs} for name, pairs in zip(best, ranked, strict=True)
        }
        return self.rerank_results


def _known(given: Mapping[str, K], key: str, kind: str, where: str) -> K:
    if key not in given:
        message = f"the results have the {kind} {key!r}, which is not in {where}; they must be of the same collection"
        raise UnknownIdError(message)
    return given[key]


def _text(document: Mapping[str, str]) -> str:
    """Join title and text as BEIR does."""
    return f"{document.get('title') or ''} {document.get('text') or ''}".strip()


def _best(found: Mapping[str, float], top_k: int) -> dict[str, float]:
    return dict(sorted(found.items(), key=lambda item: -item[1])[:top_k])
