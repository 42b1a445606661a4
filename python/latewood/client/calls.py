"""What each call asks of a service, and what its answer becomes: no word is sent here."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar, get_args

import numpy as np

from latewood.common.types import FloatArray, Id, Rescore
from latewood.errors import InvalidInputError
from latewood.forms.arrays import as_list, numbers
from latewood.forms.candidates import many_lists, one_list
from latewood.forms.ids import one_id, plain_ids
from latewood.forms.metadata import filter_json, is_one_mapping
from latewood.forms.ragged import Ragged, listed, to_ragged
from latewood.forms.values import choice_of, count_of, flag_of, optional, share_of, shown, text_of, threads_of
from latewood.forms.weights import split_weights
from latewood.index.additions import Additions
from latewood.index.explanation import Explanation
from latewood.index.options import RankingOptions, RerankOptions, SearchOptions
from latewood.index.queries import text_or_vectors, texts_or_vectors
from latewood.index.results import Document, Hit, Hits, Plan
from latewood.index.tuning import Tuning
from latewood.index.writer import metadata_changes, which_documents

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and what its answer becomes."""

    method: str
    path: str
    read: Callable[[Any], T]
    body: dict[str, Any] | None = None
    repeatable: bool = True
    """Whether it does no harm to ask again where nobody knows what became of the first request."""


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
    asked, body = _one(query, weights), {**_only(ids), **_options(SearchOptions, k, with_documents, options)}
    return Call("POST", "/search", lambda answer: _hits([answer], [asked], body, explain)[0], {**asked, **body})


def search_batch(
    queries: Any, k: Any, ids: Any, weights: Any, with_documents: Any, options: Mapping[str, Any], explain: Explain
) -> Call[list[Hits]]:
    """Ask for the best documents for each of several queries."""
    asked, body = _several(queries, weights), {**_only(ids), **_options(SearchOptions, k, with_documents, options)}
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
        body["scores"] = _finite(given.scores, "a first-stage score")
    return Call("POST", "/rerank", lambda answer: _hits([answer], [asked], body, explain)[0], {**asked, **body})


def rerank_batch(
    queries: Any,
    candidates: Any,
    scores: Any,
    offsets: Any,
    k: Any,
    weights: Any,
    with_documents: Any,
    options: Mapping[str, Any],
    explain: Explain,
) -> Call[list[Hits]]:
    """Ask for the candidates of several queries in the order of MaxSim."""
    asked, body = _several(queries, weights), _options(RerankOptions, k, with_documents, options)
    given = many_lists(candidates, scores, offsets, len(asked))
    ids, ends = plain_ids(given.ids), list(zip(given.offsets[:-1], given.offsets[1:], strict=True))
    body["candidates"] = [list(ids[start:end]) for start, end in ends]
    if given.scores is not None:
        body["scores"] = [_finite(given.scores[start:end], "a first-stage score") for start, end in ends]
    return Call("POST", "/rerank_batch", _batch(asked, body, explain), {**_joined(asked), **body})


def explain(query: Any, id_: Any, weights: Any, length_normalize: Any, rescore: Any) -> Call[Explanation]:
    """Ask why a document has its score."""
    body = {**_one(query, weights), "id": one_id(id_)}
    body["length_normalize"] = flag_of(length_normalize, "length_normalize")
    if rescore is not None:
        body["rescore"] = choice_of(rescore, "rescore", get_args(Rescore))
    return explained(body)


def explained(body: dict[str, Any]) -> Call[Explanation]:
    """Ask the same with a body that is ready."""
    known = ("query", "weights", "id", "length_normalize", "rescore")
    return Call("POST", "/explain", _explanation, {name: body[name] for name in known if name in body})


def add(ids: Any, merge: Any, show_progress: Any, documents: Mapping[str, Any], *, upsert: bool) -> Call[None]:
    """Ask for documents to be added. Threads are the service's own affair."""
    optional(flag_of, show_progress, "show_progress")
    added = Additions(ids, **documents)
    columns, vectors = added.whole()
    rows: list[dict[str, Any]] = [{"id": key} for key in plain_ids(columns.ids)]
    entries = {
        "text": columns.texts,
        "metadata": columns.metadata and [one and json.loads(one) for one in columns.metadata],
        "vectors": None if vectors is None else [_encoded(one) for one in vectors],
    }
    for name, column in entries.items():
        for row, value in zip(rows, column or (), strict=False):
            row[name] = value
    body = {"documents": rows, "merge": flag_of(merge, "merge")}
    body |= {name: getattr(added, name) for name in ("store_texts", "on_empty", "long")}
    return Call("PUT" if upsert else "POST", "/documents", lambda _: None, body, repeatable=upsert)


def delete(ids: Any, filter_: Any, missing: Any, merge: Any) -> Call[int]:
    """Ask for documents to be deleted."""
    body = {**_chosen(ids, filter_, missing), "merge": flag_of(merge, "merge")}
    return Call("POST", "/documents/delete", _count("documents"), body, repeatable=False)


def update_metadata(ids: Any, metadata: Any, filter_: Any, replace: Any, missing: Any, merge: Any) -> Call[int]:
    """Ask for metadata to be changed."""
    body = _chosen(ids, filter_, missing)
    changes = metadata_changes(metadata, body.get("ids"))
    body["metadata"] = json.loads(changes[0]) if is_one_mapping(metadata) else [json.loads(one) for one in changes]
    body |= {"replace": flag_of(replace, "replace"), "merge": flag_of(merge, "merge")}
    return Call("PATCH", "/documents", _count("documents"), body, repeatable=False)


def documents(ids: Any) -> Call[list[Document]]:
    """Ask for stored documents."""
    body = {"ids": list(plain_ids(ids))}
    return Call("POST", "/documents/get", lambda answer: [Document(**one) for one in answer["documents"]], body)


def vectors(ids: Any) -> Call[Ragged]:
    """Ask for stored vectors."""
    body = {"ids": list(plain_ids(ids)), "vectors": True}

    def read(answer: Any) -> Ragged:
        found = [_decoded(one["vectors"]) for one in answer["documents"]]
        return (
            to_ragged(found, allow_empty=True)
            if found
            else Ragged(np.zeros((0, answer["dim"]), np.float32), np.zeros(1, np.int64))
        )

    return Call("POST", "/documents/get", read, body)


def count(filter_: Any) -> Call[int]:
    """Ask how many documents there are."""
    written = filter_json(filter_)
    return Call("POST", "/documents/count", _count("count"), {} if written is None else {"filter": json.loads(written)})


def info() -> Call[dict[str, Any]]:
    """Ask what the index is and has."""
    return Call("GET", "", dict)


def check() -> Call[list[str]]:
    """Ask for every byte to be read."""
    return Call("POST", "/check", lambda answer: list(answer["problems"]), {})


def refresh(known: int | None) -> Call[bool]:
    """Ask for the newest generation, and whether it is another than the one that is known."""
    return Call("POST", "/refresh", lambda answer: known not in (None, int(answer["generation"])), {})


def compact(threads: Any) -> Call[None]:
    """Ask for all segments to be rewritten as one."""
    threads_of(threads)
    return Call("POST", "/compact", lambda _: None, {}, repeatable=False)


def tune(queries: Any, recall: Any, k: Any, weights: Any, threads: Any) -> Call[Tuning]:
    """Ask for a recall to be measured and stored."""
    threads_of(threads)
    body: dict[str, Any] = {"recall": share_of(recall, "recall"), "k": count_of(k, "k")}
    if queries is not None:
        body |= _joined(_several(queries, weights))

    def read(answer: Any) -> Tuning:
        curve = tuple((float(deviations), float(found)) for deviations, found in answer["curve"])
        return Tuning(answer["k"], answer["target"], answer["queries"], answer["documents"], curve)

    return Call("POST", "/tune", read, body, repeatable=False)


def rerank_texts(query: Any, documents: Any, top_n: Any) -> Call[list[tuple[int, float]]]:
    """Ask for texts in the order of their relevance."""
    if isinstance(documents, str):
        message = "the documents are one text; pass a list of them: [text]"
        raise InvalidInputError(message)
    texts = [text_of(text, f"document {at}") for at, text in enumerate(as_list(documents, "the documents"))]
    body: dict[str, Any] = {"query": text_of(query, "the query"), "documents": texts}
    if top_n is not None:
        body["top_n"] = count_of(top_n, "top_n")

    def read(answer: Any) -> list[tuple[int, float]]:
        return [(one["index"], one["relevance_score"]) for one in answer["results"]]

    return Call("POST", "/v1/rerank", read, body)


def _count(name: str) -> Callable[[Any], int]:
    return lambda answer: int(answer[name])


def _chosen(ids: Any, filter_: Any, missing: Any) -> dict[str, Any]:
    keys, condition = which_documents(ids, filter_, missing)
    return (
        {"ids": list(plain_ids(keys)), "missing": missing} if condition is None else {"filter": json.loads(condition)}
    )


def _only(ids: Any) -> dict[str, Any]:
    return {} if ids is None else {"ids": list(plain_ids(ids))}


def _parsed(written: str | list[str]) -> Any:
    return json.loads(written) if isinstance(written, str) else [json.loads(one) for one in written]


def _options(kind: type[RankingOptions], k: Any, with_documents: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Check options as an index does, and give those that are no defaults. Threads are the service's own affair."""
    chosen = kind.of(k=k, **options)
    body = {
        name: value
        for name, value in vars(chosen).items()
        if name not in ("core", "threads") and value is not None and value is not getattr(kind, name, None)
    }
    if "filter" in body:
        body["filter"] = _parsed(body["filter"])
    if "feedback" in body:
        body["feedback"] = asdict(body["feedback"])
    return {**body, "with_documents": flag_of(with_documents, "with_documents")}


def _one(query: Any, weights: Any) -> dict[str, Any]:
    """Read one query."""
    given = text_or_vectors(query)
    if isinstance(given, Ragged):
        return _weighted(_encoded(given[0]), split_weights(weights, given))
    # How many tokens it has, the service knows.
    return _weighted(text_of(given, "the query"), optional(_weights, weights, "weights"))


def _several(queries: Any, weights: Any) -> list[dict[str, Any]]:
    """Read several queries, with the weights of each."""
    given = texts_or_vectors(queries)
    if isinstance(given, Ragged):
        flat = split_weights(weights, given)
        parts = [None] * len(given) if flat is None else np.split(flat, given.offsets[1:])[:-1]
        return [_weighted(_encoded(one), part) for one, part in zip(given, parts, strict=True)]
    texts = [text_of(text, f"query {position}") for position, text in enumerate(given)]
    return [_weighted(text, own) for text, own in zip(texts, _text_weights(weights, len(texts)), strict=True)]


def _text_weights(weights: Any, count: int) -> list[FloatArray | None]:
    """Read the weights of texts, whose tokens the service alone can count."""
    if weights is None:
        return [None] * count
    given = listed(weights, "weights")
    parts = given if isinstance(given, (list, tuple)) else []
    if len(parts) != count or any(isinstance(part, (int, float, np.number)) for part in parts):
        message = f"the weights of {count} texts must be a list with one array for each; {shown(weights)} is given"
        raise InvalidInputError(message)
    return [_weights(part, f"weights of query {position}") for position, part in enumerate(parts)]


def _weights(given: Any, what: str) -> FloatArray:
    with np.errstate(over="ignore"):
        return numbers(listed(given, what), what).astype(np.float32)


def _weighted(query: Any, weights: FloatArray | None) -> dict[str, Any]:
    return {"query": query} if weights is None else {"query": query, "weights": _finite(weights, "a weight")}


def _joined(asked: Sequence[dict[str, Any]]) -> dict[str, Any]:
    body: dict[str, Any] = {"queries": [one["query"] for one in asked]}
    return {**body, "weights": [one["weights"] for one in asked]} if asked and "weights" in asked[0] else body


def _finite(values: Any, what: str) -> list[float]:
    if not np.isfinite(values).all():
        message = f"{what} is {shown(float(values[~np.isfinite(values)][0]))}, which JSON does not have"
        raise InvalidInputError(message)
    return [float(value) for value in values]


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
    return Explanation(
        answer["id"],
        _decoded(answer["matrix"]),
        _tuple(answer["query_tokens"]),
        _tuple(answer["document_tokens"]),
        answer["query_text"],
        answer["document_text"],
        _tuple(answer["query_spans"]),
        _tuple(answer["document_spans"]),
    )


def _tuple(given: Any) -> Any:
    """Make tuples of lists, however deep; JSON has no tuples."""
    return tuple(map(_tuple, given)) if isinstance(given, list) else given
