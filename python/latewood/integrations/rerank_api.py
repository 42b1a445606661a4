"""`rerank(query, documents, top_n)` in the shape of the rerank services (docs/integrations/rerank_api.md)."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from latewood.errors import InvalidInputError
from latewood.forms.candidates import items_of
from latewood.forms.values import flag_of, shown
from latewood.integrations.ranking import name_of, options_of, ranked, source_of


class RerankResult(TypedDict):
    """A document's place: its position among those given, its score, and itself if that was asked for."""

    index: int
    relevance_score: float
    document: NotRequired[dict[str, Any]]


class RerankResponse(TypedDict):
    """What a rerank service answers."""

    results: list[RerankResult]


class RerankClient:
    """What a client of a rerank service is, without the service.

    Parameters
    ----------
    index : Index or path-like, optional
        Scores what it holds: documents are then ids, or mappings with an "id".
    model : Reranker, MultiVectorEncoder, Encoder or str, optional
        Scores texts, which are encoded at each call. The encoder inside the wheel by default.
    options : mapping, optional
        Further keyword arguments of `Index.rerank` or `Reranker.rank`.

    Raises
    ------
    InvalidInputError
        Both `index` and `model`, or an option that does not fit, at once.
    """

    def __init__(self, *, index: Any = None, model: Any = None, options: Mapping[str, Any] | None = None) -> None:
        self._source = source_of(index, model, options)
        self._options = options_of(options)

    def rerank(
        self,
        query: str,
        documents: Sequence[str | int | dict[str, Any]],
        top_n: int | None = None,
        return_documents: bool = False,
        model: str | None = None,
    ) -> RerankResponse:
        """Order documents by their relevance to a query, and say where each stood.

        Parameters
        ----------
        query : str
        documents : sequence of str or dict
            Texts, or mappings with a "text"; for an index ids, or mappings with an "id".
        top_n : int, optional
            How many to give back; all by default.
        return_documents : bool
            Whether results have the key "document".
        model : str, optional
            As requests carry it: the name of the encoder, and no other.

        Returns
        -------
        RerankResponse
            {"results": [{"index": position in `documents`, "relevance_score": float}, ...]}, best first; ties by
            position. A document without tokens has the score `-inf`, which JSON does not have.

        Raises
        ------
        InvalidInputError
            A document in another form, a `model` that is not this one.
        UnknownIdError
            A document that the index does not hold, unless the option `missing` is "skip".
        """
        return_documents = flag_of(return_documents, "return_documents")
        given = items_of(documents, "the documents", "a list of texts, ids or mappings")
        if model is not None and model != name_of(self._source):
            message = f"model {shown(model)} is asked for and this is {name_of(self._source)!r}; leave model out"
            raise InvalidInputError(message)
        pairs = ranked(
            self._source,
            query,
            enumerate(given),
            key=lambda entry: _part(entry, "id"),
            content=lambda entry: _part(entry, "text"),
            top_k=top_n,
            options=self._options,
        )
        results: list[RerankResult] = []
        for (position, document), score in pairs:
            result: RerankResult = {"index": position, "relevance_score": score}
            if return_documents:
                result["document"] = dict(document) if isinstance(document, Mapping) else {"text": document}
            results.append(result)
        return {"results": results}


def _part(entry: tuple[int, Any], name: str) -> Any:
    position, document = entry
    if not isinstance(document, Mapping):
        return document
    if name not in document:
        message = (
            f"the document at position {position} has no {name!r} but {', '.join(map(str, document)) or 'nothing'}"
        )
        raise InvalidInputError(message)
    return document[name]


rerank = RerankClient().rerank
"""`RerankClient.rerank` with the encoder inside the wheel, which is loaded when it is first called."""
