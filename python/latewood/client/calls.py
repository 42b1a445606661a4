"""What each call asks of a service, and what its answer becomes: no word is sent here."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from latewood.common.types import FloatArray, Id
from latewood.errors import InvalidInputError
from latewood.forms.candidates import many_lists, one_list
from latewood.forms.ids import one_id, plain_ids
from latewood.forms.metadata import filters_json, mapping_json
from latewood.forms.ragged import Ragged, is_text_batch, listed, to_ragged
from latewood.forms.values import flag_of, shown, text_of
from latewood.forms.weights import split_weights
from latewood.index.explanation import Explanation
from latewood.index.options import RankingOptions, RerankOptions, SearchOptions
from latewood.index.results import Document, Hit, Hits, Plan
from latewood.index.tuning import Tuning

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and what its answer becomes."""

    method: str
    path: str
    read: Callable[[Any], T]
    body: dict[str, Any] | None = None

    def then(self, more: Callable[[T], R]) -> "Call[R]":
        """Make something else of what the answer becomes."""
        return Call(self.method, self.path, lambda answer: more(self.read(answer)), self.body)


Explain = Callable[[dict[str, Any]], Explanation]
"""Asks the service to explain a hit, now."""


class _Answered:
    """What hits of a service come from: it is asked again to explain one."""

    def __init__(self, explain: Explain, bodies: Sequence[dict[str, Any]], reports: list[tuple[Any, Plan]]) -> None:
        self._explain = explain
        self._bodies = bodies
        self._reports = reports

    def explain(self, query: int, place: int, key: Id) -> Explanation:
        """See `Source.explain`."""
        return self._explain({**self._bodies[query], "id": key})

    def report(self, query: int) -> tuple[Any, Plan]:
        """See `Source.report`."""
        return self._reports[query]


def search(
    query: Any, k: Any, ids: Any, weights: Any, with_documents: Any, options: Mapping[str, Any], explain: Explain
) -> Call[Hits]:
    """Ask for the best documents for one query."""
    asked, body = _one(query, weights), _options(SearchOptions, k, with_documents, options)
    if ids is not None:
        body["ids"] = list(plain_ids(ids))
    return Call("POST", "/search", lambda answer: _hits([answer], [asked], body, explain)[0], {**asked, **body})


def search_batch(
    queries: Any, k: Any, ids: Any, weights: Any, with_documents: Any, options: Mapping[str, Any], explain: Explain
) -> Call[list[Hits]]:
    """Ask for the best documents for each of several queries."""
    asked, body = _several(queries, weights), _options(SearchOptions, k, with_documents, options)
    if ids is not None:
        body["ids"] = list(plain_ids(ids))
    return Call("POST", "/search_batch", _batch(asked, body, explain), {**_joined(asked), **body})


def rerank(
    query: Any,
    candidates: Any,
    scores: Any,
    k: Any,
    weights: Any,
    with_documents: Any,
    options: Mapping[str, Any],
    explain: Explain,
) -> Call[Hits]:
    """Ask for candidates in the order of MaxSim."""
    asked, body = _one(query, weights), _options(RerankOptions, k, with_documents, options)
    given = one_list(candidates, scores)
    body["candidates"] = list(plain_ids(given.ids))
    if given.scores is not None:
        body["scores"] = _without_infinity(given.scores)
    return Call("POST", "/rerank", lambda answer: _hits([answer], [asked], body, explain)[0], {**asked, **body})


def rerank_batch(
    queries: Any,
    candidates: Any,
    scores: Any,
    k: Any,
    weights: Any,
    with_documents: Any,
    options: Mapping[str, Any],
    explain: Explain,
) -> Call[list[Hits]]:
    """Ask for the candidates of several queries in the order of MaxSim."""
    asked, body = _several(queries, weights), _options(RerankOptions, k, with_documents, options)
    given = many_lists(candidates, scores, None, len(asked))
    ids, ends = plain_ids(given.ids), list(zip(given.offsets[:-1], given.offsets[1:], strict=True))
    body["candidates"] = [list(ids[start:end]) for start, end in ends]
    if given.scores is not None:
        body["scores"] = [_without_infinity(given.scores[start:end]) for start, end in ends]
    return Call("POST", "/rerank_batch", _batch(asked, body, explain), {**_joined(asked), **body})


def explain(query: Any, id_: Any, weights: Any, length_normalize: Any, rescore: Any) -> Call[Explanation]:
    """Ask why a document has its score."""
    body = {**_one(query, weights), "id": one_id(id_)}
    body["length_normalize"] = flag_of(length_normalize, "length_normalize")
    if rescore is not None:
        body["rescore"] = rescore
    return explained(body)


def explained(body: dict[str, Any]) -> Call[Explanation]:
    """Ask the same with a body that is ready."""
    known = ("query", "weights", "id", "length_normalize", "rescore")
    return Call("POST", "/explain", _explanation, {name: body[name] for name in known if name in body})


def add(ids: Any, texts: Any, vectors: Any, metadata: Any, options: Mapping[str, Any], *, upsert: bool) -> Call[None]:
    """Ask for documents to be added."""
    keys = list(plain_ids(ids))
    columns: dict[str, Any] = {}
    if texts is not None:
        columns["text"] = listed(texts, "texts")
    if vectors is not None:
        columns["vectors"] = [_encoded(one) for one in to_ragged(vectors)]
    if metadata is not None:
        columns["metadata"] = [one and json.loads(mapping_json(one, "metadata", "{'lang': 'en'}")) for one in metadata]
    for name, column in columns.items():
        if isinstance(column, (str, bytes)) or len(column) != len(keys):
            message = f"{name} has {len(column)} entries for {len(keys)} ids; give one for each"
            raise InvalidInputError(message)
    documents: list[dict[str, Any]] = [{"id": key} for key in keys]
    for name, column in columns.items():
        for document, value in zip(documents, column, strict=True):
            if value is not None:
                document[name] = value
    body = {"documents": documents, **{name: value for name, value in options.items() if value is not None}}
    return Call("PUT" if upsert else "POST", "/documents", lambda _: None, body)


def delete(ids: Any, filter_: Any, missing: Any) -> Call[int]:
    """Ask for documents to be deleted."""
    return Call("POST", "/documents/delete", _count("documents"), {**_chosen(ids, filter_), "missing": missing})


def update_metadata(ids: Any, metadata: Any, filter_: Any, replace: Any, missing: Any) -> Call[int]:
    """Ask for metadata to be changed."""
    example = "{'lang': 'en'}"
    given: Any = (
        json.loads(mapping_json(metadata, "metadata", example))
        if hasattr(metadata, "keys")
        else [json.loads(mapping_json(one, "metadata", example)) for one in metadata]
    )
    body = {**_chosen(ids, filter_), "metadata": given, "replace": replace, "missing": missing}
    return Call("PATCH", "/documents", _count("documents"), body)


def documents(ids: Any) -> Call[list[Document]]:
    """Ask for stored documents."""
    body = {"ids": list(plain_ids(ids))}
    return Call("POST", "/documents/get", lambda answer: [Document(**one) for one in answer["documents"]], body)


def vectors(ids: Any) -> Call[Ragged]:
    """Ask for stored vectors."""
    body = {"ids": list(plain_ids(ids)), "vectors": True}

    def read(answer: Any) -> Ragged:
        found = [_decoded(one["vectors"]) for one in answer["documents"]]
        return to_ragged(found) if found else Ragged(np.zeros((0, answer["dim"]), np.float32), np.zeros(1, np.int64))

    return Call("POST", "/documents/get", read, body)


def count(filter_: Any) -> Call[int]:
    """Ask how many documents there are."""
    return Call("POST", "/documents/count", _count("count"), _chosen(None, filter_))


def info() -> Call[dict[str, Any]]:
    """Ask what the index is and has."""
    return Call("GET", "", dict)


def check() -> Call[list[str]]:
    """Ask for every byte to be read."""
    return Call("POST", "/check", lambda answer: list(answer["problems"]), {})


def refresh() -> Call[int]:
    """Ask for the newest generation."""
    return Call("POST", "/refresh", lambda answer: int(answer["generation"]), {})


def compact() -> Call[None]:
    """Ask for all segments to be rewritten as one."""
    return Call("POST", "/compact", lambda _: None, {})


def tune(queries: Any, recall: Any, k: Any) -> Call[Tuning]:
    """Ask for a recall to be measured and stored."""
    body: dict[str, Any] = {"recall": recall, "k": k}
    if queries is not None:
        body["queries"] = [one["query"] for one in _several(queries, None)]

    def read(answer: Any) -> Tuning:
        curve = tuple((float(deviations), float(found)) for deviations, found in answer["curve"])
        return Tuning(answer["k"], answer["target"], answer["queries"], answer["documents"], curve)

    return Call("POST", "/tune", read, body)


def rerank_texts(query: Any, documents: Any, top_n: Any) -> Call[list[tuple[int, float]]]:
    """Ask for texts in the order of their relevance."""
    body = {"query": text_of(query, "query"), "documents": list(listed(documents, "documents"))}
    if top_n is not None:
        body["top_n"] = top_n

    def read(answer: Any) -> list[tuple[int, float]]:
        return [(one["index"], one["relevance_score"]) for one in answer["results"]]

    return Call("POST", "/v1/rerank", read, body)


def _count(name: str) -> Callable[[Any], int]:
    return lambda answer: int(answer[name])


def _chosen(ids: Any, filter_: Any) -> dict[str, Any]:
    body: dict[str, Any] = {} if ids is None else {"ids": list(plain_ids(ids))}
    return body if filter_ is None else {**body, "filter": _filter(filter_)}


def _filter(given: Any) -> Any:
    written = filters_json(given)
    return json.loads(written) if isinstance(written, str) else [json.loads(one) for one in written]


def _options(kind: type[RankingOptions], k: Any, with_documents: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Check options as an index does, and give those that are no defaults. Threads are the service's own affair."""
    kind(**({} if k is None else {"k": k}), **options)
    body = {name: value for name, value in options.items() if value is not None and name != "threads"}
    if "filter" in body:
        body["filter"] = _filter(body["filter"])
    if "feedback" in body:
        body["feedback"] = asdict(body["feedback"])
    if k is not None:
        body["k"] = int(k)
    return {**_plain(body), "with_documents": flag_of(with_documents, "with_documents")}


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in body.items()}


def _one(query: Any, weights: Any) -> dict[str, Any]:
    """Read one query."""
    if isinstance(query, str):
        # How many tokens it has, the service knows.
        return {"query": query, **({} if weights is None else {"weights": np.asarray(weights, float).tolist()})}
    asked = _several([query] if np.ndim(query) == 2 else query, weights)
    if len(asked) != 1:
        message = f"{len(asked)} queries are given where one is expected; use the batch form of the call"
        raise InvalidInputError(message)
    return asked[0]


def _several(queries: Any, weights: Any) -> list[dict[str, Any]]:
    """Read several queries, with the weights of each."""
    if isinstance(queries, str):
        message = "one query text is given where several are expected; pass [text], or use the single form of the call"
        raise InvalidInputError(message)
    given = listed(queries, "the query vectors")
    if is_text_batch(given):
        if weights is not None and len(weights) != len(given):
            message = f"weights of {len(weights)} queries for {len(given)} texts; give a list for each"
            raise InvalidInputError(message)
        own = [None] * len(given) if weights is None else [np.asarray(one, float).tolist() for one in weights]
        return [_weighted(text, one) for text, one in zip(given, own, strict=True)]
    if not len(given):
        return []
    ragged = to_ragged(given, kind="query")
    flat = split_weights(weights, ragged)
    parts = [None] * len(ragged) if flat is None else np.split(flat, ragged.offsets[1:-1])
    return [_weighted(_encoded(one), part) for one, part in zip(ragged, parts, strict=True)]


def _weighted(query: Any, weights: Any) -> dict[str, Any]:
    return {"query": query} if weights is None else {"query": query, "weights": np.asarray(weights, float).tolist()}


def _joined(asked: Sequence[dict[str, Any]]) -> dict[str, Any]:
    body: dict[str, Any] = {"queries": [one["query"] for one in asked]}
    return {**body, "weights": [one["weights"] for one in asked]} if asked and "weights" in asked[0] else body


def _without_infinity(scores: Any) -> list[float]:
    if not np.isfinite(scores).all():
        message = f"a first-stage score is {shown(float(scores[~np.isfinite(scores)][0]))}, which JSON does not have"
        raise InvalidInputError(message)
    return [float(score) for score in scores]


def _encoded(vectors: FloatArray) -> dict[str, Any]:
    data = np.ascontiguousarray(vectors, dtype="<f4")
    return {"base64": base64.b64encode(data.tobytes()).decode(), "shape": list(data.shape), "dtype": "float32"}


def _decoded(given: Mapping[str, Any]) -> FloatArray:
    data = np.frombuffer(base64.b64decode(given["base64"]), dtype="<f4")
    return data.reshape(given["shape"]).astype(np.float32)


def _batch(asked: Sequence[dict[str, Any]], body: dict[str, Any], explain: Explain) -> Callable[[Any], list[Hits]]:
    return lambda answer: _hits(answer["results"], asked, body, explain)


def _hits(
    answers: Sequence[Any], asked: Sequence[dict[str, Any]], body: dict[str, Any], explain: Explain
) -> list[Hits]:
    reports = [(one["stats"], _plan(one["plan"])) for one in answers]
    common: dict[str, Any] = {name: body[name] for name in ("length_normalize", "rescore") if name in body}
    source = _Answered(explain, [{**own, **common} for own in asked], reports)
    found = []
    for query, one in enumerate(answers):
        hits = [
            Hit(
                hit["id"],
                float("-inf") if hit["score"] is None else hit["score"],
                hit["rank"],
                hit["text"],
                hit["metadata"],
                source,
                query,
                place,
                hit["stage_scores"],
            )
            for place, hit in enumerate(one["hits"])
        ]
        found.append(Hits(hits, source=source, query=query))
    return found


def _plan(given: Mapping[str, Any]) -> Plan:
    # A newer service may say more.
    known = {name: value for name, value in given.items() if name in Plan.__dataclass_fields__}
    return Plan(**{**known, "without_effect": tuple(known.get("without_effect", ()))})


def _explanation(answer: Mapping[str, Any]) -> Explanation:
    tokens = [answer[name] and tuple(answer[name]) for name in ("query_tokens", "document_tokens")]
    return Explanation(answer["id"], _decoded(answer["matrix"]), tokens[0], tokens[1])
