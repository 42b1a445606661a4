"""Searches and reranks of several shards: what each is asked, and what it is asked next."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from latewood.cluster.commit import Commit
from latewood.cluster.merging import Answers, Found, Ranked, Row, best
from latewood.common.types import Id
from latewood.errors import DuplicateIdError, UnknownIdError
from latewood.forms.candidates import Candidates
from latewood.forms.ids import plain_ids
from latewood.forms.ragged import Ragged, to_ragged
from latewood.forms.values import LARGEST
from latewood.index.feedback import NOTHING, Added, Feedback
from latewood.index.index import Index
from latewood.index.options import RankingOptions, RerankOptions, SearchOptions
from latewood.index.queries import Queries

_HERE = ("offset", "min_score", "length_normalize", "feedback", "alpha", "beta", "prune_to")
"""Options that look at all that shards have found."""
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


def search(commit: Commit, queries: Queries, keys: Sequence[Id] | None, options: SearchOptions, given: Any) -> Ranked:
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
    """
    return Ranked([_search(commit, queries, keys, _wanted(options.k, options), _of_shards(options, given))])


def search_twice(
    commit: Commit,
    queries: Queries,
    keys: Sequence[Id] | None,
    options: SearchOptions,
    given: Any,
    *,
    codec: Index,
    rarity: Rarity,
) -> tuple[Ranked, Queries, list[Added]]:
    """Search with feedback: again, with what the first hits of all shards have added to the queries.

    Parameters
    ----------
    commit, queries, keys, options, given
        As for `search`.
    codec : Index
        Any with the codec of the shards.
    rarity : Rarity

    Returns
    -------
    tuple of Ranked, Queries and list of Added
        What was found, the expanded queries, and what joined each.
    """
    feedback, wanted, usual = options.feedback or Feedback(), _wanted(options.k, options), _of_shards(options, given)
    count = feedback.documents
    first = {**usual, "rescore": "off", "group_by": None}
    if feedback.mode == "reranker":
        count = max(feedback.rescored, count, wanted)
    found = _search(commit, queries, keys, count, first)
    begun = time.perf_counter()
    rows = [best(of_query)[:count] for of_query in found]
    added = _added(commit, queries, [own[: feedback.documents] for own in rows], feedback, codec, rarity)
    expanded = _joined(queries, added)
    seconds = (time.perf_counter() - begun) / max(len(added), 1)
    if feedback.mode == "ranker":
        again = _search(commit, expanded, keys, wanted, usual)
    else:
        shared = {name: usual.get(name) for name in ("group_by", "rescore", "threads")}
        again = _rerank(commit, expanded, _by_owner(commit, [[row.id for row in own] for own in rows]), wanted, shared)
    counted = [{"feedback_vectors": float(len(one.weights)), "feedback_s": seconds} for one in added]
    return Ranked([found, again], counted, found_by=-1 if feedback.mode == "ranker" else 0), expanded, added


def rerank(commit: Commit, queries: Queries, lists: Candidates, options: RerankOptions, given: Any) -> Ranked:
    """Rerank candidates in the shards that own them.

    With `alpha` or `beta`, all candidates are scored on their codes first, and then reranked are those that a single
    index would have scored.

    Parameters
    ----------
    commit, queries
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
        return _reranked(commit, queries, own, lists, options, given)
    except UnknownIdError as error:
        # A shard knows no more than the places among its own candidates.
        raise _unknown(commit, own) from error


def _reranked(
    commit: Commit,
    queries: Queries,
    own: list[list[Id]],
    lists: Candidates,
    options: RerankOptions,
    given: Any,
) -> Ranked:
    usual = _of_shards(options, given)
    passes: list[Answers] = []
    if options.alpha is not None or options.beta is not None:
        plain = {**usual, "rescore": "off", "group_by": None}
        scored = _rerank(commit, queries, _by_owner(commit, own), None, plain, group_by=options.group_by)
        passes.append(scored)
        first = None if lists.scores is None else np.split(lists.scores, lists.offsets[1:-1])
        own = [
            _chosen(found, own[query], None if first is None else first[query], options)
            for query, found in enumerate(scored)
        ]
    wanted = None if options.k is None else _wanted(options.k, options)
    passes.append(_rerank(commit, queries, _by_owner(commit, own), wanted, usual))
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


def _wanted(k: int, options: RankingOptions) -> int:
    return min(k + options.offset, LARGEST)


def _of_shards(options: RankingOptions, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give the keyword arguments that each shard gets; a filter as the plain mapping that it was read as."""
    own = {name: value for name, value in given.items() if value is not None and name not in _HERE}
    if options.filter is not None:
        texts = options.filter
        own["filter"] = json.loads(texts) if isinstance(texts, str) else [json.loads(text) for text in texts]
    return own


def _search(commit: Commit, queries: Queries, keys: Sequence[Id] | None, k: int, options: Mapping[str, Any]) -> Answers:
    # Where there is nothing to look for, one shard says what is wrong with the options.
    only: Mapping[int, Any] = dict.fromkeys(commit.places) if keys is None else commit.owned(keys) or {0: []}
    asked, group_by = _plain(queries), options.get("group_by")
    calls = {place: (asked, k, own, options, group_by) for place, own in only.items()}
    return _by_query(commit.ask_some("search", calls), queries)


def _rerank(
    commit: Commit,
    queries: Queries,
    lists: Lists,
    k: int | None,
    options: Mapping[str, Any],
    *,
    group_by: str | None = None,
) -> Answers:
    asked, field = _plain(queries), group_by or options.get("group_by")
    calls = {place: (asked, own, k, options, field) for place, own in lists.items()}
    return _by_query(commit.ask_some("rerank", calls), queries)


def _plain(queries: Queries) -> Queries:
    """Give queries without their texts, which no shard needs."""
    return Queries(queries.vectors, queries.weights)


def _by_query(found: Mapping[int, list[Found]], queries: Queries) -> Answers:
    return [{place: own[query] for place, own in found.items()} for query in range(len(queries.vectors))]


def _by_owner(commit: Commit, lists: Sequence[Sequence[Id]]) -> Lists:
    owned: Lists = {}
    for query, keys in enumerate(lists):
        for key, place in zip(keys, commit.owners(keys), strict=True):
            owned.setdefault(place, [[] for _ in lists])[query].append(key)
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
