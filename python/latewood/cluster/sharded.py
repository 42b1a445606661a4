"""A cluster that is read as an index is."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from latewood.cluster.asking import LocalShards, MissingShardsError, RayShards, Room, Shards
from latewood.cluster.manifest import CODEC, ClusterManifest, root_of
from latewood.cluster.merging import Origin
from latewood.cluster.order import without_order
from latewood.common.signatures import shows
from latewood.common.types import Filter, Id, Rescore, VectorInput
from latewood.errors import (
    CorruptIndexError,
    DuplicateIdError,
    IndexReplacedError,
    InvalidInputError,
    LatewoodError,
    ServiceError,
    UnknownIdError,
)
from latewood.forms.candidates import many_lists
from latewood.forms.ids import normalise_ids, one_id, plain_ids
from latewood.forms.ragged import Ragged, to_ragged
from latewood.forms.values import LARGEST, count_of, flag_of, number_of
from latewood.index.explanation import Explanation
from latewood.index.feedback import NOTHING
from latewood.index.found import explanation
from latewood.index.index import Index
from latewood.index.options import RerankKeywords, RerankOptions, SearchKeywords, SearchOptions
from latewood.index.queries import Queries, many_queries, one_query
from latewood.index.results import Document, Hits

R = TypeVar("R")
_WHOLE = ("feedback", "group_by", "alpha", "beta", "prune_to")
"""Options that need all documents, or all candidates, in one place."""


STARTING = 60.0
"""Seconds that processes may take to start, on a machine that has much to do."""


class ShardedIndex:
    """A cluster for reading, with the calls of an `Index`; make one with `ShardedIndex.open`.

    Every call reads one commit of the cluster in all shards. Exact searches and reranks give what a single index of the
    same codec and documents would give, to the bit, ties included; others find what each shard finds by itself.
    """

    def __init__(self, root: Path, codec: Index, replicas: int, cpus: float, limits: Mapping[str, Any]) -> None:
        self._root = root
        self._codec = codec
        self._given = (replicas, cpus, limits)
        self._timeout: float = limits["timeout"]
        self._partial: bool = limits["allow_partial"]
        self._room = Room(limits["max_waiting"])
        self.missing: list[int] = []
        """Shards that the last search or rerank did without, where `allow_partial` lets it; hits tell it as well."""
        self._manifest = ClusterManifest.newest(root)
        number = len(self._manifest.shards)
        self._shards_or_none: Shards | None = (
            RayShards(root, number, replicas, cpus) if replicas else LocalShards(root, number)
        )
        try:
            self._ask("prepare", dict.fromkeys(range(number), ()), least=STARTING)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        replicas: int = 1,
        encoder: Any = None,
        check_encoder: bool = True,
        cpus: float = 1.0,
        timeout: float = 30.0,
        max_waiting: int = 64,
        allow_partial: bool = False,
    ) -> "ShardedIndex":
        """Open the newest commit of a cluster.

        Parameters
        ----------
        path : path-like
            The cluster's folder, which all nodes see under this name.
        replicas : int
            Processes that answer for each shard, on different nodes where there are as many: actors of Ray, which is
            started on this machine alone where it is not running. A replica that is lost is placed anew. 0: all shards
            in this process, without Ray.
        encoder, check_encoder
            As for `Index.open`. Texts are encoded in this process.
        cpus : float
            That Ray counts for each replica.
        timeout : float
            Seconds after which a shard that does not answer is missing.
        max_waiting : int
            Calls at once at most; the next is a `ServiceError` of status 429.
        allow_partial : bool
            Let searches and reranks give what the other shards have found where no replica of one answers: `missing`,
            and `missing_shards` of the hits' stats, then tell so. Otherwise, and in all other calls, that is a
            `ServiceError`.

        Raises
        ------
        IndexNotFoundError, CorruptIndexError, EncoderMismatchError
        MissingDependencyError
            Ray is not installed (extra `ray`).
        """
        root, count = root_of(path), count_of(replicas, "replicas", least=0, most=64)
        limits = {
            "timeout": number_of(timeout, "timeout", least=0.001, most=1e6),
            "max_waiting": count_of(max_waiting, "max_waiting"),
            "allow_partial": flag_of(allow_partial, "allow_partial"),
        }
        cpus = number_of(cpus, "cpus", least=0.001, most=1e4)
        # Where there is no cluster, this says so.
        ClusterManifest.newest(root)
        codec = Index.open(root / CODEC, encoder=encoder, check_encoder=check_encoder)
        return cls(root, codec, count, cpus, limits)

    def close(self) -> None:
        """Let go of the shards, and of Ray if it was started here. Any further use is an error."""
        shards, self._shards_or_none = self._shards_or_none, None
        if shards is not None:
            shards.close()
        self._codec.close()

    @property
    def _shards(self) -> Shards:
        if self._shards_or_none is None:
            message = "the cluster is closed; open it again with ShardedIndex.open(path)"
            raise LatewoodError(message)
        return self._shards_or_none

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path, how it was opened, and the encoder if it can be pickled.

        What is unpickled reads the newest commit, by replicas of its own.
        """
        return type(self), (self._root, self._codec, *self._given)

    def __enter__(self) -> Self:
        """Return the index itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Show folder and shards."""
        return f"ShardedIndex({os.fspath(self._root)!r}, shards={len(self._manifest.shards)})"

    @property
    def generation(self) -> int:
        """Number of the cluster's commit that is read."""
        return self._manifest.generation

    @property
    def dim(self) -> int:
        """Dimensions of a token vector."""
        return self._codec.dim

    def refresh(self) -> bool:
        """Move to the newest commit of the cluster, in all shards at once; True if there was a newer one.

        Raises
        ------
        IndexReplacedError
            The folder holds another cluster than it did, or an older state of this one, such as a backup that was put
            back: open it again.
        InvalidInputError
            The cluster has grown: open it again.
        CorruptIndexError, ServiceError
            The newest commit is damaged, or a shard does not answer; this object stays where it is.
        """
        shards = self._shards
        newest = ClusterManifest.newest(self._root)
        if newest == self._manifest:
            return False
        try:
            self._codec.refresh()
            replaced = newest.generation <= self._manifest.generation
        except IndexReplacedError:
            replaced = True
        if replaced:
            message = (
                f"{os.fspath(self._root)!r} holds another cluster than the one that was opened, or an older state of "
                "it; open it again with ShardedIndex.open"
            )
            raise IndexReplacedError(message)
        if len(newest.shards) != len(self._manifest.shards):
            message = (
                f"the cluster has {len(newest.shards)} shards now, and had {len(self._manifest.shards)}; open it again"
            )
            raise InvalidInputError(message)
        # Where a replica is away, another one has it ready.
        calls = dict.fromkeys(range(len(newest.shards)), (newest.generation,))
        try:
            shards.ask("prepare", calls, timeout=self._timeout)
        except MissingShardsError as error:
            raise self._incomplete(error.shards) from error
        self._manifest = newest
        return True

    @shows(SearchOptions)
    def search(
        self,
        query: str | VectorInput,
        k: int = 10,
        *,
        ids: Iterable[Id] | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[SearchKeywords],
    ) -> Hits:
        """Find the k best documents for one query; parameters are those of `Index.search`.

        `feedback` and `group_by` need all documents in one place, and are refused.
        """
        asked = one_query(query, weights, self._codec._encoding)  # noqa: SLF001  what an index has, a cluster has once
        return self._search(asked, k, ids, with_documents, options)[0]

    @shows(SearchOptions)
    def search_batch(
        self,
        queries: Sequence[str] | VectorInput,
        k: int = 10,
        *,
        ids: Iterable[Id] | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[SearchKeywords],
    ) -> list[Hits]:
        """Find the k best documents for each of several queries; parameters are those of `Index.search_batch`."""
        asked = many_queries(queries, weights, self._codec._encoding)  # noqa: SLF001
        return self._search(asked, k, ids, with_documents, options)

    @shows(RerankOptions)
    def rerank(
        self,
        query: str | VectorInput,
        candidates: object,
        scores: object = None,
        *,
        k: int | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[RerankKeywords],
    ) -> Hits:
        """Order candidates by MaxSim; only the shards that own some are asked. Parameters are those of `Index.rerank`.

        `alpha`, `beta`, `prune_to` and `group_by` need all candidates in one place, and are refused.
        """
        asked = one_query(query, weights, self._codec._encoding)  # noqa: SLF001
        return self._rerank(asked, [candidates], None if scores is None else [scores], k, with_documents, options)[0]

    @shows(RerankOptions)
    def rerank_batch(
        self,
        queries: Sequence[str] | VectorInput,
        candidates: object,
        scores: object = None,
        *,
        k: int | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[RerankKeywords],
    ) -> list[Hits]:
        """Order the candidates of several queries, a list for each; parameters are those of `Index.rerank_batch`."""
        asked = many_queries(queries, weights, self._codec._encoding)  # noqa: SLF001
        return self._rerank(asked, candidates, scores, k, with_documents, options)

    def explain(
        self,
        query: str | VectorInput,
        id: Id,  # noqa: A002
        *,
        weights: Any = None,
        length_normalize: bool = False,
        rescore: Rescore | None = None,
    ) -> Explanation:
        """Show how a document's score comes about; parameters are those of `Index.explain`."""
        asked = one_query(query, weights, self._codec._encoding)  # noqa: SLF001
        return self._explain(asked, 0, one_id(id), {"length_normalize": length_normalize, "rescore": rescore})

    def documents(self, ids: Iterable[Id]) -> list[Document]:
        """Give stored documents without vectors, in the order of `ids`."""
        keys = plain_ids(ids)
        found = self._ask("documents", {place: (own,) for place, own in self._owned(keys).items()})
        rows = {one.id: replace(one, metadata=without_order(one.metadata)) for part in found.values() for one in part}
        return [rows[key] for key in keys]

    def vectors(self, ids: Iterable[Id]) -> Ragged:
        """Give stored token vectors, as `Index.vectors` does."""
        keys = plain_ids(ids)
        rows: dict[Id, Any] = {}
        owned = self._owned(keys)
        for place, (values, offsets) in self._ask("vectors", {place: (own,) for place, own in owned.items()}).items():
            rows |= dict(zip(owned[place], Ragged(values, offsets), strict=True))
        if not keys:
            return Ragged(np.zeros((0, self.dim), np.float32), np.zeros(1, np.int64))
        return to_ragged([rows[key] for key in keys])

    def count(self, *, filter: Filter | None = None) -> int:  # noqa: A002
        """Count documents, or those that `filter` lets through."""
        return sum(self._everywhere("count", filter).values())

    def __len__(self) -> int:
        """Count documents."""
        return self.count()

    def __contains__(self, key: object) -> bool:
        """Say whether the cluster holds a document with this id."""
        try:
            return bool(self.contains([one_id(key)])[0])
        except InvalidInputError:
            # What cannot be an id is not among them.
            return False

    def contains(self, ids: Iterable[Id]) -> NDArray[np.bool_]:
        """Say of each id whether the cluster holds it."""
        keys = plain_ids(ids)
        owned = self._owned([] if any(map(self._is_foreign, keys)) else keys)
        known: dict[Id, bool] = {}
        for place, part in self._ask("contains", {place: (own,) for place, own in owned.items()}).items():
            known |= dict(zip(owned[place], part.tolist(), strict=True))
        return np.array([known.get(key, False) for key in keys], dtype=np.bool_)

    def info(self) -> list[dict[str, Any]]:
        """Tell what each shard is and has, as `Index.info` does."""
        return [one for _, one in sorted(self._everywhere("info").items())]

    def check(self) -> list[str]:
        """Read every byte of all shards, and list what is wrong."""
        return [problem for _, own in sorted(self._everywhere("check").items()) for problem in own]

    # ── how shards are asked ─────────────────────────────────────────────────────────────────────────────────────────

    def _search(
        self, queries: Queries, k: Any, ids: Any, with_documents: Any, options: Mapping[str, Any]
    ) -> list[Hits]:
        chosen = SearchOptions.of(k=k, **options)
        chosen.check_count(len(queries.vectors))
        given = self._options(chosen, options)
        with_documents = flag_of(with_documents, "with_documents")
        places = range(len(self._manifest.shards))
        only: dict[int, Any] = dict.fromkeys(places)
        if ids is not None:
            owned = self._owned(plain_ids(normalise_ids(ids)))
            only = {place: owned[place] for place in places if place in owned}
        wanted = min(chosen.k + chosen.offset, LARGEST)
        plain = replace(queries, texts=None)
        calls = {place: (plain, wanted, only[place], given) for place in only}
        return self._merged(*self._ask_some("search", calls), queries, chosen.k, chosen, with_documents)

    def _rerank(
        self, queries: Queries, candidates: Any, scores: Any, k: Any, with_documents: Any, options: Mapping[str, Any]
    ) -> list[Hits]:
        chosen = RerankOptions.of(k=k, **options)
        chosen.check_count(len(queries.vectors))
        given = self._options(chosen, options)
        with_documents = flag_of(with_documents, "with_documents")
        lists = many_lists(candidates, scores, None, len(queries.vectors))
        keys = list(plain_ids(lists.ids))
        owners = self._manifest.shards_of(keys).tolist() if keys else []
        count = len(queries.vectors)
        parts: dict[int, list[list[Id]]] = {}
        for query in range(count):
            start, end = int(lists.offsets[query]), int(lists.offsets[query + 1])
            own = keys[start:end]
            if len(set(own)) < len(own):
                twice = next(key for place, key in enumerate(own) if key in own[:place])
                message = f"the candidate {twice!r} of query {query} is given twice"
                raise DuplicateIdError(message)
            for key, place in zip(own, owners[start:end], strict=True):
                parts.setdefault(place, [[] for _ in range(count)])[query].append(key)
        plain = replace(queries, texts=None)
        calls = {place: (plain, own, given) for place, own in parts.items()}
        try:
            found, missing = self._ask_some("rerank", calls)
        except UnknownIdError as error:
            # A shard knows no more than the places among its own candidates.
            place = int(np.argmin(self.contains(keys)))
            query = int(np.searchsorted(lists.offsets, place, side="right")) - 1
            message = (
                f"id {keys[place]!r} is not in the cluster (candidate {place - int(lists.offsets[query])} of query "
                f'{query}); pass missing="skip" to leave such ids out'
            )
            raise UnknownIdError(message) from error
        return self._merged(found, missing, queries, chosen.k, chosen, with_documents)

    def _options(self, chosen: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        for name in _WHOLE:
            if getattr(chosen, name, None) is not None:
                message = (
                    f"{name} needs everything in one place, and this index is in {len(self._manifest.shards)} shards"
                )
                raise InvalidInputError(message)
        return {name: value for name, value in options.items() if value is not None and name != "offset"}

    def _merged(
        self,
        found: Mapping[int, Any],
        missing: list[int],
        queries: Queries,
        k: int | None,
        chosen: Any,
        with_documents: bool,
    ) -> list[Hits]:
        common = {"length_normalize": chosen.length_normalize, "rescore": chosen.rescore}
        count = len(queries.vectors)
        of_queries = [{place: own[query] for place, own in found.items()} for query in range(count)]
        origin = Origin(of_queries, missing, lambda query, key: self._explain(queries, query, key, common))
        return [origin.hits(query, k, chosen.offset, with_documents=with_documents) for query in range(count)]

    def _explain(self, queries: Queries, query: int, key: Id, options: dict[str, Any]) -> Explanation:
        vectors = queries.vectors[query]
        start, end = int(queries.vectors.offsets[query]), int(queries.vectors.offsets[query + 1])
        given = {**options, "weights": None if queries.weights is None else queries.weights[start:end]}
        owned = self._owned([key])
        (matrix, text) = next(iter(self._ask("explain", dict.fromkeys(owned, (vectors, key, given))).values()))
        return explanation(
            key,
            matrix,
            self._codec._encoding,  # noqa: SLF001
            query_text=queries.texts[query] if queries.texts else None,
            document_text=text,
            added=NOTHING,
            # The matrix of the shard is scaled already.
            length_normalize=False,
        )

    def _owned(self, keys: Sequence[Id]) -> dict[int, list[Id]]:
        """Give the ids that each shard owns."""
        for key in keys:
            if self._is_foreign(key):
                message = f"the id {key!r} is no {self._manifest.id_kind}, as the ids of this cluster are"
                raise InvalidInputError(message)
        owned: dict[int, list[Id]] = {}
        for key, place in zip(keys, self._manifest.shards_of(keys).tolist() if keys else [], strict=True):
            owned.setdefault(place, []).append(key)
        return owned

    def _is_foreign(self, key: Id) -> bool:
        """Whether an id is of the other kind than those of the cluster."""
        return self._manifest.id_kind == ("str" if isinstance(key, int) else "int")

    def _everywhere(self, method: str, *arguments: Any) -> dict[int, Any]:
        return self._ask(method, dict.fromkeys(range(len(self._manifest.shards)), arguments))

    def _ask(self, method: str, calls: Mapping[int, tuple[Any, ...]], *, least: float = 0.0) -> dict[int, Any]:
        """Ask shards, all of which must answer, and wait for them so many seconds at least."""
        answers, missing = self._answers(method, calls, least)
        if missing:
            raise self._incomplete(missing)
        return answers

    def _ask_some(self, method: str, calls: Mapping[int, tuple[Any, ...]]) -> tuple[dict[int, Any], list[int]]:
        """Ask shards, of which some may be missing where that is allowed; the answers, and the missing ones."""
        answers, missing = self._answers(method, calls)
        if missing and not self._partial:
            raise self._incomplete(missing)
        self.missing = missing
        return answers, missing

    def _answers(
        self, method: str, calls: Mapping[int, tuple[Any, ...]], least: float = 0.0
    ) -> tuple[dict[int, Any], list[int]]:
        """Ask shards at the commit that is read now; if it is gone by then, once more at the newest."""
        with self._room.place():
            for last in (False, True):
                generation = self._manifest.generation
                pinned = {place: (generation, *arguments) for place, arguments in calls.items()}
                try:
                    return self._shards.ask(method, pinned, timeout=max(self._timeout, least)), []
                except MissingShardsError as error:
                    return error.answers, error.shards
                except CorruptIndexError:
                    # A replica that was placed anew finds the newest commits only.
                    if last or not self.refresh():
                        raise
        raise AssertionError

    def _incomplete(self, missing: list[int]) -> ServiceError:
        names = ", ".join(f"shard {place}" for place in missing)
        message = (
            f"no replica of {names} answers of {self!r}; see that Ray runs, and that it has a node and CPUs for each, "
            "open with more replicas, or search with allow_partial=True"
        )
        return ServiceError(message, 503)
