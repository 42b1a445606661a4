"""Searches and reranks of several shards: what each is asked, and what it is asked next."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latewood.cluster.commit import Commit
from latewood.cluster.merging import Answers, Found, Merged, Ranked, best
from latewood.cluster.routing import chosen
from latewood.common.types import Id, IdSequence
from latewood.errors import DuplicateIdError, UnknownIdError
from latewood.forms.candidates import Candidates
from latewood.forms.ids import join_ids, normalise_ids, plain_ids
from latewood.forms.ragged import Ragged, to_ragged
from latewood.forms.values import LARGEST
from latewood.index.feedback import NOTHING, Added, Feedback
from latewood.index.index import Index
from latewood.index.options import RankingOptions, RerankOptions, SearchOptions
from latewood.index.queries import Queries

_HERE = ("offset", "min_score", "length_normalize", "feedback", "alpha", "beta", "prune_to", "core")
"""Options that look at all that shards have found, and the core's form of all."""
_BY_CODES = {"rescore": "off", "group_by": None}
"""Options of a first pass: documents by the scores of their codes."""
Told = tuple[str | None, bool]
"""What shards tell of documents beside ids and scores: their groups by a field, and whether texts and metadata."""
NEITHER: Told = (None, False)


@dataclass(frozen=True, slots=True)
class Rarity:
    """How rare each cell is among the documents of a commit."""

    commit: str
    """Its signature."""
    frequencies: Any
    """Documents with a token in each cell, uint64 [cells]."""
    documents: int

    @classmethod
    def of(cls, commit: Commit) -> "Rarity":
        """Ask for it."""
        told = commit.ask_some("frequencies", commit.everywhere()).values()
        frequencies = np.sum([part for part, _ in told], axis=0, dtype=np.uint64)
        return cls(commit.signature, frequencies, sum(count for _, count in told))


def search(
    commit: Commit,
    queries: Queries,
    keys: Sequence[Id] | None,
    options: SearchOptions,
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
    with_documents : bool
    """
    found = _search(commit, queries, keys, _of_shards(options), (options.group_by, with_documents))
    return Ranked(_best(commit, found), [found])


def search_twice(
    commit: Commit,
    queries: Queries,
    keys: Sequence[Id] | None,
    options: SearchOptions,
    feedback: Feedback,
    *,
    with_documents: bool,
    codec: Index,
    rarity: Rarity,
) -> Ranked:
    """Search with feedback: again, with what the first hits of all shards have added to the queries.

    Parameters
    ----------
    commit, queries, keys, options, with_documents
        As for `search`.
    feedback : Feedback
        That of the options.
    codec : Index
        Any with the codec of the shards.
    rarity : Rarity
    """
    usual, told = _of_shards(options), (options.group_by, with_documents)
    count = feedback.documents
    if feedback.mode == "reranker":
        count = max(feedback.rescored, count, usual["k"])
    found = _search(commit, queries, keys, {**usual, "k": count, **_BY_CODES}, NEITHER)
    begun = time.perf_counter()
    merged = _best(commit, found)
    first = merged.some(merged.ranks < count)
    added = _added(commit, queries, first.some(first.ranks < feedback.documents), feedback, codec, rarity)
    expanded = _with_added(queries, added)
    seconds = (time.perf_counter() - begun) / max(len(added), 1)
    if feedback.mode == "ranker":
        again = _search(commit, expanded, keys, usual, told)
    else:
        shared = {name: usual.get(name) for name in ("k", "group_by", "rescore", "threads")}
        again = _rerank(commit, expanded, first.ids, first.offsets(len(added)), shared, told)
    counted = [{"feedback_vectors": float(len(one.weights)), "feedback_s": seconds} for one in added]
    found_by = -1 if feedback.mode == "ranker" else 0
    return Ranked(_best(commit, again), [found, again], counted, found_by, expanded, added)


def rerank(
    commit: Commit,
    queries: Queries,
    lists: Candidates,
    options: RerankOptions,
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
    """
    keys = plain_ids(lists.ids)
    for query, (start, end) in enumerate(pairwise(lists.offsets.tolist())):
        own = keys[start:end]
        if len(set(own)) < len(own):
            twice = next(key for place, key in enumerate(own) if key in own[:place])
            message = f"the candidate {twice!r} of query {query} is given twice"
            raise DuplicateIdError(message)
    try:
        return _reranked(commit, queries, lists, options, (options.group_by, with_documents))
    except UnknownIdError as error:
        # A shard knows no more than the places among its own candidates.
        raise _unknown(commit, keys, lists.offsets) from error


def _reranked(commit: Commit, queries: Queries, lists: Candidates, options: RerankOptions, told: Told) -> Ranked:
    usual = _of_shards(options)
    passes: list[Answers] = []
    if options.alpha is not None or options.beta is not None:
        scored = _rerank(
            commit, queries, lists.ids, lists.offsets, {**usual, "k": None, **_BY_CODES}, (options.group_by, False)
        )
        passes.append(scored)
        lists = _left(_best(commit, scored, of_groups=False), lists, options)
    passes.append(_rerank(commit, queries, lists.ids, lists.offsets, usual, told))
    return Ranked(_best(commit, passes[-1]), passes)


def _unknown(commit: Commit, keys: Sequence[Id], offsets: NDArray[np.int64]) -> UnknownIdError:
    owned = commit.owned(list(dict.fromkeys(keys)))
    answers = commit.ask_some("contains", {place: (own,) for place, own in owned.items()})
    unknown = {key for place, told in answers.items() for key, held in zip(owned[place], told, strict=True) if not held}
    named = (
        f"id {key!r} is not in the cluster (candidate {place} of query {query})"
        for query, (start, end) in enumerate(pairwise(offsets.tolist()))
        for place, key in enumerate(keys[start:end])
        if key in unknown
    )
    # The shard that has refused one may be lost by now.
    message = f'{next(named, "a candidate is not in the cluster")}; pass missing="skip" to leave such ids out'
    return UnknownIdError(message)


def _of_shards(options: RankingOptions) -> dict[str, Any]:
    """Give the keyword arguments that each shard gets; a filter as the plain mapping that it was read as."""
    own = {name: value for name, value in vars(options).items() if value is not None and name not in _HERE}
    if options.filter is not None:
        texts = options.filter
        own["filter"] = json.loads(texts) if isinstance(texts, str) else [json.loads(text) for text in texts]
    k = own.get("k")
    return {**own, "k": None if k is None else min(k + options.offset, LARGEST)}


def _search(
    commit: Commit, queries: Queries, keys: Sequence[Id] | None, options: Mapping[str, Any], told: Told
) -> Answers:
    # Where there is nothing to look for, one shard says what is wrong with the options.
    only: Mapping[int, Any] = dict.fromkeys(commit.places) if keys is None else commit.owned(keys) or {0: []}
    asked = _plain(queries)
    calls = {place: (*asked, own, options, *told) for place, own in only.items()}
    return _found(commit.ask_some("search", calls))


def _rerank(
    commit: Commit,
    queries: Queries,
    ids: IdSequence,
    offsets: NDArray[np.int64],
    options: Mapping[str, Any],
    told: Told,
) -> Answers:
    owners = np.array(commit.owners(plain_ids(ids)), dtype=np.int64)
    asked, calls = _plain(queries), {}
    # As for searches.
    for place in np.unique(owners).tolist() or [0]:
        own = owners == place
        bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(own)])[offsets]
        calls[place] = (*asked, chosen(ids, np.flatnonzero(own)), bounds, options, *told)
    return _found(commit.ask_some("rerank", calls))


def _plain(queries: Queries) -> tuple[Any, Any, Any]:
    """Give queries as arrays, without their texts, which no shard needs."""
    return queries.vectors.values, queries.vectors.offsets, queries.weights


def _found(answers: Mapping[int, Sequence[Any]]) -> Answers:
    return {place: Found(*own) for place, own in answers.items()}


def _best(commit: Commit, found: Answers, *, of_groups: bool = True) -> Merged:
    """Merge what shards have found. What one has found that is missing since then is taken out of it."""

    def orders(ids: Mapping[int, Sequence[Id]]) -> dict[int, Any]:
        told = commit.ask_some("orders", {place: (own,) for place, own in ids.items()})
        return {place: own for place, (own,) in told.items()}

    merged = best(found, orders, of_groups=of_groups)
    lost = found.keys() & commit.missing
    if not lost:
        return merged
    # Whoever reads which shards are missing relies on it that nothing of these is in the hits.
    for place in lost:
        del found[place]
    return best(found, orders, of_groups=of_groups)


def _left(found: Merged, given: Candidates, options: RerankOptions) -> Candidates:
    """Give those candidates that `alpha` and `beta` leave, of which `found` has the scores on codes."""
    keys, offsets = plain_ids(given.ids), given.offsets.tolist()
    ids, bounds = plain_ids(found.ids), found.offsets(len(offsets) - 1).tolist()
    left: list[list[Id]] = []
    for (start, end), (first, last) in zip(pairwise(offsets), pairwise(bounds), strict=True):
        own = ids[first:last]
        places = {key: place for place, key in enumerate(own)}
        known = [place for place in range(start, end) if keys[place] in places]
        kept = options.core.choose(
            found.scores[first:last],
            np.array([places[keys[place]] for place in known], dtype=np.int64),
            first=None if given.scores is None else given.scores[known],
            groups=None if found.groups is None else found.groups[first:last],
        )
        left.append([own[place] for place in kept])
    ends = np.cumsum([0, *map(len, left)], dtype=np.int64)
    return Candidates(join_ids([normalise_ids(own) for own in left], what="candidates"), ends, None)


def _added(
    commit: Commit,
    queries: Queries,
    first: Merged,
    feedback: Feedback,
    codec: Index,
    rarity: Rarity,
) -> list[Added]:
    """Expand each query by the documents that were found first."""
    keys, bounds = plain_ids(first.ids), first.offsets(len(queries.vectors)).tolist()
    owned = commit.owned(list(dict.fromkeys(keys)))
    points: dict[Id, Any] = {}
    for place, (values, offsets) in commit.ask_some(
        "rotated_vectors", {place: (own,) for place, own in owned.items()}
    ).items():
        points |= dict(zip(owned[place], np.split(values, offsets[1:-1]), strict=True))
    added = []
    for query, (start, end) in enumerate(pairwise(bounds)):
        # Where a shard may be missing, its documents are as if they had not been found.
        known = [points[key] for key in keys[start:end] if key in points]
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


def _with_added(queries: Queries, added: Sequence[Added]) -> Queries:
    """Append to each query what was added to it."""
    if not added:
        return queries
    own = [one.join(queries.vectors[query], _weights(queries, query)) for query, one in enumerate(added)]
    weights = [np.ones(len(vectors), np.float32) if scale is None else scale for vectors, scale in own]
    vectors: Ragged = to_ragged([vectors for vectors, _ in own])
    return Queries(vectors, np.concatenate(weights), queries.texts)
