"""Searches and reranks of several shards: what each is asked, and what it is asked next."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from latewood.cluster.commit import Commit
from latewood.cluster.merging import Answers, Found, Ranked, Row, Told, best
from latewood.common.types import Id
from latewood.errors import DuplicateIdError, UnknownIdError
from latewood.forms.candidates import Candidates
from latewood.forms.ids import plain_ids
from latewood.forms.ragged import Ragged, to_ragged
from latewood.forms.values import LARGEST
from latewood.index.feedback import NOTHING, Added, Feedback
from latewood.index.index import Index
from latewood.index.options import RerankOptions, SearchOptions
from latewood.index.queries import Queries

_HERE = ("offset", "min_score", "length_normalize", "feedback", "alpha", "beta", "prune_to")
"""Options that look at all that shards have found."""
_BY_CODES = {"rescore": "off", "group_by": None}
"""Options of a first pass: documents by the scores of their codes."""
Lists = dict[int, list[list[Id]]]
"""Shard → of each query, the candidates that it owns."""


@dataclass(frozen=True, slots=True)
class Rarity:
    """How rare each cell is among the documents of a commit."""

    generation: int
    frequencies: Any
    """Documents with a token in each cell, uint64 [cells]."""
    documents: int

    @classmethod
    def of(cls, commit: Commit) -> "Rarity":
        """Ask for it."""
        told = commit.ask_some("frequencies", commit.everywhere())
        frequencies = np.sum([part for part, _ in told.values()], axis=0, dtype=np.uint64)
        return cls(commit.generation, frequencies, sum(count for _, count in told.values()))


def search(
    commit: Commit,
    queries: Queries,
    keys: Sequence[Id] | None,
    options: SearchOptions,
    given: Mapping[str, Any],
    *,
    with_documents: bool,
) -> Ranked:
    """Search all shards, or those that own some of the only ids that count.

    Parameters
    ----------
    commit : Commit
    queries : Queries
    keys : sequence of str or int, optional
        The only documents that may be found.
    options : SearchOptions
    given : mapping
        The keyword arguments that these were made of.
    with_documents : bool
    """
    told = Told(options.group_by, with_documents)
    return Ranked([_search(commit, queries, keys, _of_shards(options, given), told)])


def search_twice(
    commit: Commit,
    queries: Queries,
    keys: Sequence[Id] | None,
    options: SearchOptions,
    given: Mapping[str, Any],
    feedback: Feedback,
    *,
    with_documents: bool,
    codec: Index,
    rarity: Rarity,
) -> Ranked:
    """Search with feedback: again, with what the first hits of all shards have added to the queries.

    Parameters
    ----------
    commit, queries, keys, options, given, with_documents
        As for `search`.
    feedback : Feedback
        That of the options.
    codec : Index
        Any with the codec of the shards.
    rarity : Rarity
    """
    usual, told = _of_shards(options, given), Told(options.group_by, with_documents)
    count = feedback.documents
    if feedback.mode == "reranker":
        count = max(feedback.rescored, count, usual["k"])
    found = _search(commit, queries, keys, {**usual, "k": count, **_BY_CODES}, Told())
    begun = time.perf_counter()
    rows = [best(of_query)[:count] for of_query in found]
    added = _added(commit, queries, [own[: feedback.documents] for own in rows], feedback, codec, rarity)
    expanded = _joined(queries, added)
    seconds = (time.perf_counter() - begun) / max(len(added), 1)
    if feedback.mode == "ranker":
        again = _search(commit, expanded, keys, usual, told)
    else:
        shared = {name: usual.get(name) for name in ("k", "group_by", "rescore", "threads")}
        again = _rerank(commit, expanded, _by_owner(commit, [[row.id for row in own] for own in rows]), shared, told)
    counted = [{"feedback_vectors": float(len(one.weights)), "feedback_s": seconds} for one in added]
    return Ranked([found, again], counted, -1 if feedback.mode == "ranker" else 0, expanded, added)


def rerank(
    commit: Commit,
    queries: Queries,
    lists: Candidates,
    options: RerankOptions,
    given: Mapping[str, Any],
    *,
    with_documents: bool,
) -> Ranked:
    """Rerank candidates in the shards that own them.

    With `alpha` or `beta`, all candidates are scored on their codes first, and then reranked are those that a single
    index would have scored.

    Parameters
    ----------
    commit, queries, with_documents
        As for `search`.
    lists : Candidates
        Of all queries.
    options : RerankOptions
    given : mapping
        The keyword arguments that these were made of.
    """
    keys, offsets = plain_ids(lists.ids), lists.offsets.tolist()
    own = [list(keys[start:end]) for start, end in pairwise(offsets)]
    for query, ids in enumerate(own):
        if len(set(ids)) < len(ids):
            twice = next(key for place, key in enumerate(ids) if key in ids[:place])
            message = f"the candidate {twice!r} of query {query} is given twice"
            raise DuplicateIdError(message)
    try:
        return _reranked(commit, queries, own, lists.scores, options, given, Told(options.group_by, with_documents))
    except UnknownIdError as error:
        # A shard knows no more than the places among its own candidates.
        raise _unknown(commit, own) from error


def _reranked(
    commit: Commit,
    queries: Queries,
    own: list[list[Id]],
    scores: Any,
    options: RerankOptions,
    given: Mapping[str, Any],
    told: Told,
) -> Ranked:
    usual = _of_shards(options, given)
    passes: list[Answers] = []
    if options.alpha is not None or options.beta is not None:
        every = {**usual, "k": None, **_BY_CODES}
        scored = _rerank(commit, queries, _by_owner(commit, own), every, Told(options.group_by))
        passes.append(scored)
        first = None if scores is None else np.split(scores, np.cumsum([len(ids) for ids in own])[:-1])
        own = [
            _chosen(found, own[query], None if first is None else first[query], options)
            for query, found in enumerate(scored)
        ]
    passes.append(_rerank(commit, queries, _by_owner(commit, own), usual, told))
    return Ranked(passes)


def _unknown(commit: Commit, lists: Sequence[Sequence[Id]]) -> UnknownIdError:
    owned = commit.owned(list(dict.fromkeys(key for own in lists for key in own)))
    answers = commit.ask("contains", {place: (own,) for place, own in owned.items()})
    held = {key for place, own in owned.items() for key, there in zip(own, answers[place], strict=True) if there}
    message = next(
        f"id {key!r} is not in the cluster (candidate {place} of query {query}); "
        'pass missing="skip" to leave such ids out'
        for query, own in enumerate(lists)
        for place, key in enumerate(own)
        if key not in held
    )
    return UnknownIdError(message)


def _of_shards(options: SearchOptions | RerankOptions, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give the keyword arguments that each shard gets; a filter as the plain mapping that it was read as."""
    own = {name: value for name, value in given.items() if value is not None and name not in _HERE}
    if options.filter is not None:
        texts = options.filter
        own["filter"] = json.loads(texts) if isinstance(texts, str) else [json.loads(text) for text in texts]
    return {**own, "k": None if options.k is None else min(options.k + options.offset, LARGEST)}


def _search(
    commit: Commit, queries: Queries, keys: Sequence[Id] | None, options: Mapping[str, Any], told: Told
) -> Answers:
    # Where there is nothing to look for, one shard says what is wrong with the options.
    only: Mapping[int, Any] = dict.fromkeys(commit.places) if keys is None else commit.owned(keys) or {0: []}
    calls = {place: (_plain(queries), own, options, told) for place, own in only.items()}
    return _by_query(commit.ask_some("search", calls), queries)


def _rerank(commit: Commit, queries: Queries, lists: Lists, options: Mapping[str, Any], told: Told) -> Answers:
    calls = {place: (_plain(queries), own, options, told) for place, own in lists.items()}
    return _by_query(commit.ask_some("rerank", calls), queries)


def _plain(queries: Queries) -> Queries:
    """Give queries without their texts, which no shard needs."""
    return Queries(queries.vectors, queries.weights)


def _by_query(found: Mapping[int, list[Found]], queries: Queries) -> Answers:
    return [{place: own[query] for place, own in found.items()} for query in range(len(queries.vectors))]


def _by_owner(commit: Commit, lists: Sequence[Sequence[Id]]) -> Lists:
    given = [(query, key) for query, keys in enumerate(lists) for key in keys]
    owners = commit.owners([key for _, key in given])
    owned: Lists = {place: [[] for _ in lists] for place in set(owners)}
    for (query, key), place in zip(given, owners, strict=True):
        owned[place][query].append(key)
    return owned or {0: [[] for _ in lists]}


def _chosen(found: Mapping[int, Found], given: Sequence[Id], first: Any, options: RerankOptions) -> list[Id]:
    """Give those candidates of a query that `alpha` and `beta` leave."""
    rows = sorted((row for one in found.values() for row in one.rows), key=lambda row: row.order)
    places = {row.id: place for place, row in enumerate(rows)}
    known = [place for place, key in enumerate(given) if key in places]
    kept = options.core.choose(
        np.array([row.score for row in rows], dtype=np.float32),
        np.array([places[given[place]] for place in known], dtype=np.int64),
        first=None if first is None else first[known],
        groups=None if options.group_by is None else [row.group for row in rows],
    )
    return [rows[place].id for place in kept]


def _added(
    commit: Commit,
    queries: Queries,
    rows: Sequence[Sequence[Row]],
    feedback: Feedback,
    codec: Index,
    rarity: Rarity,
) -> list[Added]:
    """Expand each query by the documents that were found first."""
    owned = commit.owned(list(dict.fromkeys(row.id for own in rows for row in own)))
    points: dict[Id, Any] = {}
    for place, (values, offsets) in commit.ask_some(
        "rotated_vectors", {place: (own,) for place, own in owned.items()}
    ).items():
        points |= dict(zip(owned[place], np.split(values, offsets[1:-1]), strict=True))
    added = []
    for query, own in enumerate(rows):
        # Where a shard may be missing, its documents are as if they had not been found.
        known = [points[row.id] for row in own if row.id in points]
        if not known:
            added.append(NOTHING)
            continue
        vectors, weights = codec._core.expand(  # noqa: SLF001  this is a step of an index's own search
            queries.vectors[query],
            _weights(queries, query),
            asdict(feedback),
            points=np.concatenate(known),
            hits=len(known),
            documents=rarity.documents,
            frequencies=rarity.frequencies,
        )
        added.append(Added(vectors, weights))
    return added


def _weights(queries: Queries, query: int) -> Any:
    tokens = slice(int(queries.vectors.offsets[query]), int(queries.vectors.offsets[query + 1]))
    return None if queries.weights is None else queries.weights[tokens]


def _joined(queries: Queries, added: Sequence[Added]) -> Queries:
    """Append to each query what was added to it."""
    if not added:
        return queries
    own = [one.join(queries.vectors[query], _weights(queries, query)) for query, one in enumerate(added)]
    weights = [np.ones(len(vectors), np.float32) if scale is None else scale for vectors, scale in own]
    vectors: Ragged = to_ragged([vectors for vectors, _ in own])
    return Queries(vectors, np.concatenate(weights), queries.texts)
