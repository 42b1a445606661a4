"""A cluster that is read as an index is."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, get_args

import numpy as np
from numpy.typing import NDArray

from latewood.cluster import ranking
from latewood.cluster.asking import PREPARE, LocalShards, RayShards, Room, Shards
from latewood.cluster.commit import Commit
from latewood.cluster.homes import Home, home_of
from latewood.cluster.manifest import CODEC, ClusterManifest
from latewood.cluster.merging import Origin, Ranked
from latewood.cluster.order import without_order
from latewood.cluster.routing import chosen
from latewood.common.signatures import shows
from latewood.common.types import Filter, Id, Rescore, ResultIds, VectorInput
from latewood.errors import CorruptIndexError, IndexReplacedError, InvalidInputError, LatewoodError
from latewood.forms.candidates import many_lists, of_run
from latewood.forms.ids import join_ids, normalise_ids, one_id, plain_ids
from latewood.forms.metadata import filter_json
from latewood.forms.ragged import Ragged
from latewood.forms.values import choice_of, count_of, flag_of, number_of, optional, path_of
from latewood.index.encoding import Encoding
from latewood.index.explanation import Explanation
from latewood.index.feedback import NOTHING, Added
from latewood.index.found import explanation, metadata_of
from latewood.index.index import Index
from latewood.index.options import EXACT, RankingOptions, RerankKeywords, RerankOptions, SearchKeywords, SearchOptions
from latewood.index.queries import Queries, many_queries, one_query
from latewood.index.results import Document, Hits, SearchArrays
from latewood.index.tuning import recall

R = TypeVar("R")
STARTING = 60.0
"""Seconds that processes may take to start, on a machine that has much to do."""


class ShardedIndex:
    """A cluster for reading, by calls that an `Index` has too; make one with `ShardedIndex.open`.

    Every call reads one commit of the cluster in all shards. Exact searches and reranks give what a single index of the
    same codec and documents would give, to the bit, ties included; others find what each shard finds by itself.
    """

    def __init__(self, home: Home, codec: Index, replicas: int, cpus: float, limits: Mapping[str, Any]) -> None:
        self._home = home
        self._codec = codec
        self._given = (replicas, cpus, limits)
        self._timeout: float = limits["timeout"]
        self._partial: bool = limits["allow_partial"]
        self._room = Room(limits["max_waiting"])
        self._known_rarity: ranking.Rarity | None = None
        self.missing: list[int] = []
        """Shards that the last search or rerank did without, where `allow_partial` lets it; hits tell it as well."""
        self._shards_or_none: Shards | None = None
        try:
            self._manifest = self._read_newest() or ClusterManifest.newest(home.root)
            number = len(self._manifest.shards)
            self._shards_or_none = RayShards(home, number, replicas, cpus) if replicas else LocalShards(home, number)
            try:
                self._prepare(self._shards, self._manifest, max(self._timeout, STARTING))
            except CorruptIndexError:
                # Commits may have come meanwhile, and have removed what this one names.
                if not self.refresh():
                    raise
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
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> "ShardedIndex":
        """Open the newest commit of a cluster.

        Parameters
        ----------
        path : path-like
            The cluster's folder, which all nodes see under this name; or an address in object storage, such as
            "s3://bucket/news", where `publish` has put one: each node brings there only the shards that its replicas
            answer for, and `refresh` follows what is published later.
        replicas : int
            Processes that answer for each shard, on different nodes where there are as many: actors of Ray, which is
            started on this machine alone where it is not running. A replica that is lost is placed anew. 0: all shards
            in this process, without Ray.
        encoder, check_encoder
            As for `Index.open`. Texts are encoded in this process.
        cpus : float
            That Ray counts for each replica.
        timeout : float
            Seconds after which a shard that does not answer is missing; one in this process never is.
        max_waiting : int
            Calls at once at most; the next is a `ServiceError` of status 429.
        allow_partial : bool
            Let searches and reranks give what the other shards have found where no replica of one answers: `missing`,
            and `missing_shards` of the hits' stats, then tell so. Otherwise, and in all other calls, that is a
            `ServiceError`.
        cache_dir : path-like, optional
            Where each node keeps what it brings from object storage; by default as for `Index.open`.

        Raises
        ------
        IndexNotFoundError, CorruptIndexError, EncoderMismatchError
        InvalidInputError
            Nothing is published at the address, or an index is.
        StorageError
            It cannot be brought from object storage.
        MissingDependencyError
            Ray is not installed (extra `ray`), or obstore (extra `cloud`).
        """
        count, cache = count_of(replicas, "replicas", least=0, most=64), optional(path_of, cache_dir, "cache_dir")
        limits = {
            "timeout": number_of(timeout, "timeout", least=0.001, most=1e6),
            "max_waiting": count_of(max_waiting, "max_waiting"),
            "allow_partial": flag_of(allow_partial, "allow_partial"),
        }
        cpus = number_of(cpus, "cpus", least=0.001, most=1e4)
        home = home_of(path, cache)
        # Where there is no cluster, this says so.
        home.newest(whole=not count, show_progress=None)
        codec = Index.open(home.root / CODEC, encoder=encoder, check_encoder=check_encoder)
        return cls(home, codec, count, cpus, limits)

    def close(self) -> None:
        """Let go of the shards, and of Ray if it was started here. Any further use is an error."""
        shards, self._shards_or_none = self._shards_or_none, None
        if shards is not None:
            shards.close()
        self._codec.close()
        self._home.close()

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
        return type(self), (self._home, self._codec, *self._given)

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
        return f"ShardedIndex({self._where!r}, shards={len(self._manifest.shards)})"

    @property
    def path(self) -> str:
        """The folder, on this machine."""
        return os.fspath(self._home.root)

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
        # Another thread may move on meanwhile.
        shards, before = self._shards, self._manifest
        newest = self._read_newest()
        if newest is None or newest == before:
            return False
        try:
            self._codec.refresh()
            replaced = newest.generation <= before.generation
        except IndexReplacedError:
            replaced = True
        if replaced:
            message = (
                f"{self._where!r} holds another cluster than the one that was opened, or an older state of "
                "it; open it again with ShardedIndex.open"
            )
            raise IndexReplacedError(message)
        if len(newest.shards) != len(before.shards):
            message = f"the cluster has {len(newest.shards)} shards now, and had {len(before.shards)}; open it again"
            raise InvalidInputError(message)
        try:
            # Where a replica is away, another one has it ready.
            self._prepare(shards, newest, self._timeout)
        except CorruptIndexError:
            if self._read_newest() in (None, newest):
                raise
            # Two commits came meanwhile, and have removed what this one names.
            return self.refresh()
        self._manifest = max(self._manifest, newest, key=lambda one: one.generation)
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
        """Find the k best documents for one query; parameters are those of `Index.search`."""
        asked = self._one(query, weights)
        return self._search(asked, k, ids, with_documents, options).hits()[0]

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
        asked = self._several(queries, weights)
        return self._search(asked, k, ids, with_documents, options).hits()

    @shows(SearchOptions)
    def search_arrays(
        self,
        queries: Sequence[str] | VectorInput,
        k: int = 10,
        *,
        ids: Iterable[Id] | None = None,
        weights: Any = None,
        **options: Unpack[SearchKeywords],
    ) -> SearchArrays:
        """Do as `search_batch`, and give ids and scores as arrays: neither texts nor metadata are read."""
        asked = self._several(queries, weights)
        return self._search(asked, k, ids, False, options).arrays()

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

        `alpha` and `beta` leave the same candidates as in one index, and save no time: which they are is known when all
        have been scored.
        """
        asked = self._one(query, weights)
        given = ([candidates], None if scores is None else [scores], None)
        return self._rerank(asked, given, k, with_documents, options).hits()[0]

    @shows(RerankOptions)
    def rerank_batch(
        self,
        queries: Sequence[str] | VectorInput,
        candidates: object,
        scores: object = None,
        *,
        offsets: Any = None,
        k: int | None = None,
        weights: Any = None,
        with_documents: bool = True,
        **options: Unpack[RerankKeywords],
    ) -> list[Hits]:
        """Order the candidates of several queries; parameters are those of `Index.rerank_batch`."""
        asked = self._several(queries, weights)
        return self._rerank(asked, (candidates, scores, offsets), k, with_documents, options).hits()

    @shows(RerankOptions)
    def rerank_arrays(
        self,
        queries: Sequence[str] | VectorInput,
        candidates: object,
        scores: object = None,
        *,
        offsets: Any = None,
        k: int | None = None,
        weights: Any = None,
        **options: Unpack[RerankKeywords],
    ) -> SearchArrays:
        """Do as `rerank_batch`, and give ids and scores as arrays: neither texts nor metadata are read."""
        asked = self._several(queries, weights)
        return self._rerank(asked, (candidates, scores, offsets), k, False, options).arrays()

    @shows(RerankOptions)
    def rerank_run(
        self,
        queries: Mapping[str, str | VectorInput],
        run: Mapping[str, object],
        *,
        k: int | None = None,
        with_documents: bool = True,
        **options: Unpack[RerankKeywords],
    ) -> dict[str, Hits]:
        """Rerank a first stage's run; parameters are those of `Index.rerank_run`."""
        keys, asked, candidates = of_run(queries, run)
        hits = self.rerank_batch(asked, candidates, k=k, with_documents=with_documents, **options)
        return dict(zip(keys, hits, strict=True))

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
        asked = self._one(query, weights)
        length_normalize = flag_of(length_normalize, "length_normalize")
        on = optional(choice_of, rescore, "rescore", get_args(Rescore))
        return self._read(lambda commit: self._explain(commit, asked, 0, one_id(id), NOTHING, on, length_normalize))

    @shows(SearchOptions)
    def measure_recall(
        self,
        queries: Sequence[str] | VectorInput,
        k: int = 10,
        *,
        ids: Iterable[Id] | None = None,
        weights: Any = None,
        **options: Unpack[SearchKeywords],
    ) -> float:
        """Measure the share of the exact top k that a search with `options` finds, as `Index.measure_recall` does."""
        asked = self._several(queries, weights)
        only = None if ids is None else normalise_ids(ids)
        complete: SearchKeywords = {**options, **EXACT}
        return recall(
            self.search_arrays(asked, k, ids=only, **complete), self.search_arrays(asked, k, ids=only, **options)
        )

    def ids(self, *, filter: Filter | None = None) -> ResultIds:  # noqa: A002
        """Give the ids of all documents, or of those that `filter` lets through: an int64 array or a list of str.

        They come in the order in which the documents were added. That takes reading the metadata of all of them.
        """
        told = self._everywhere("ids", _mapping(filter)).values()
        ids = join_ids([own for own, _ in told], what="ids")
        order = np.argsort(np.concatenate([orders for _, orders in told]), kind="stable")
        return chosen(ids, order)

    def documents(self, ids: Iterable[Id]) -> list[Document]:
        """Give stored documents without vectors, in the order of `ids`."""
        keys = plain_ids(ids)
        rows = self._owned("documents", keys)
        return [
            Document(key, text, without_order(metadata_of(key, metadata)))
            for key, (text, metadata) in zip(keys, map(rows.__getitem__, keys), strict=True)
        ]

    def vectors(self, ids: Iterable[Id]) -> Ragged:
        """Give stored token vectors, as `Index.vectors` does."""
        keys = plain_ids(ids)
        rows = self._owned("vectors", keys)
        parts = [rows[key] for key in keys]
        values = np.concatenate([np.zeros((0, self.dim), np.float32), *parts])
        return Ragged(values, np.cumsum([0, *map(len, parts)], dtype=np.int64))

    def count(self, *, filter: Filter | None = None) -> int:  # noqa: A002
        """Count documents, or those that `filter` lets through."""
        return sum(count for (count,) in self._everywhere("count", _mapping(filter)).values())

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
        known = self._owned("contains", [key for key in keys if not self._manifest.excludes(key)])
        return np.array([known.get(key, False) for key in keys], dtype=np.bool_)

    def info(self) -> list[dict[str, Any]]:
        """Tell what each shard is and has, as `Index.info` does."""
        return [one for _, (one,) in sorted(self._everywhere("info").items())]

    def check(self) -> list[str]:
        """Read every byte of all shards, and list what is wrong."""
        return [problem for _, own in sorted(self._everywhere("check").items()) for problem in own]

    # ── how shards are asked ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _encoding(self) -> Encoding:
        # What each index has, a cluster has once.
        return self._codec._encoding  # noqa: SLF001

    @property
    def _where(self) -> str:
        return self._home.told()[0]

    def _read_newest(self) -> ClusterManifest | None:
        replicas, _, _ = self._given
        # What replicas answer for, they bring to their own machines.
        return self._home.newest(whole=not replicas)

    def _prepare(self, shards: Shards, manifest: ClusterManifest, timeout: float) -> None:
        """Have all shards open at a commit; first that somebody answers for each, as that may take long."""
        for method, seconds in (("awake", timeout), (PREPARE, max(timeout, self._home.patience))):
            commit = Commit(manifest, shards, timeout=seconds, partial=False)
            commit.ask(method, commit.everywhere())

    def _one(self, query: str | VectorInput, weights: Any) -> Queries:
        return one_query(query, weights, self._encoding)

    def _several(self, queries: Sequence[str] | VectorInput, weights: Any) -> Queries:
        return many_queries(queries, weights, self._encoding)

    def _search(self, queries: Queries, k: Any, ids: Any, with_documents: Any, options: Mapping[str, Any]) -> Origin:
        made, with_documents = SearchOptions.of(k=k, **options), flag_of(with_documents, "with_documents")
        made.check_count(len(queries.vectors))
        keys = None if ids is None else plain_ids(normalise_ids(ids))

        def work(commit: Commit) -> Origin:
            if made.feedback is None:
                ranked = ranking.search(commit, queries, keys, made, with_documents=with_documents)
            else:
                ranked = ranking.search_twice(
                    commit,
                    queries,
                    keys,
                    made,
                    made.feedback,
                    with_documents=with_documents,
                    codec=self._codec,
                    rarity=self._rarity(commit),
                )
            return self._origin(commit, ranked, queries, made)

        return self._read(work)

    def _rerank(
        self, queries: Queries, given: tuple[Any, Any, Any], k: Any, with_documents: Any, options: Mapping[str, Any]
    ) -> Origin:
        made, with_documents = RerankOptions.of(k=k, **options), flag_of(with_documents, "with_documents")
        made.check_count(len(queries.vectors))
        lists = many_lists(*given, len(queries.vectors))
        made.check_scores(lists)

        def work(commit: Commit) -> Origin:
            ranked = ranking.rerank(commit, queries, lists, made, with_documents=with_documents)
            return self._origin(commit, ranked, queries, made)

        return self._read(work)

    def _origin(self, commit: Commit, ranked: Ranked, queries: Queries, options: RankingOptions) -> Origin:
        # Whoever asked may fill the arrays again before a hit explains itself.
        asked = ranked.expanded or queries.copy()

        def explain(query: int, key: Id) -> Explanation:
            added = ranked.added[query] if ranked.added else NOTHING
            # On what was searched, whatever has been committed since.
            return self._explain(commit, asked, query, key, added, options.rescore, options.length_normalize)

        self.missing = sorted(commit.missing)
        return Origin(ranked, queries.vectors.lengths, options, commit.missing, explain)

    def _explain(
        self,
        commit: Commit,
        queries: Queries,
        query: int,
        key: Id,
        added: Added,
        rescore: str | None,
        length_normalize: bool,
    ) -> Explanation:
        vectors = queries.vectors[query]
        start, end = int(queries.vectors.offsets[query]), int(queries.vectors.offsets[query + 1])
        weights = None if queries.weights is None else queries.weights[start:end]
        answers = commit.ask("explain", dict.fromkeys(commit.owners([key]), (vectors, weights, key, rescore)))
        (matrix, text) = next(iter(answers.values()))
        return explanation(
            key,
            matrix,
            self._encoding,
            query_text=queries.texts[query] if queries.texts else None,
            document_text=text,
            added=added,
            length_normalize=length_normalize,
        )

    def _rarity(self, commit: Commit) -> ranking.Rarity:
        known = self._known_rarity
        if known is None or known.commit != commit.signature:
            known = ranking.Rarity.of(commit)
            # What is told without some shards holds for this call alone.
            if not commit.missing:
                self._known_rarity = known
        return known

    def _owned(self, method: str, keys: Sequence[Id]) -> dict[Id, Any]:
        """Ask the owners of ids, which give something for each: what it is by id."""

        def work(commit: Commit) -> dict[Id, Any]:
            owned = commit.owned(keys)
            answers = commit.ask(method, {place: (own,) for place, own in owned.items()})
            return {key: one for place, own in owned.items() for key, one in zip(own, answers[place], strict=True)}

        return self._read(work)

    def _everywhere(self, method: str, *arguments: Any) -> dict[int, Any]:
        return self._read(lambda commit: commit.ask(method, commit.everywhere(*arguments)))

    def _read(self, work: Callable[[Commit], R]) -> R:
        """Do something at the commit that is read now; if that is gone by then, once more at the newest."""
        with self._room.place():
            for last in (False, True):
                manifest = self._manifest
                commit = Commit(manifest, self._shards, timeout=self._timeout, partial=self._partial)
                try:
                    return work(commit)
                except CorruptIndexError:
                    # A replica that was placed anew finds the newest commits only. Another call may be there already.
                    moved = self._manifest != manifest or self.refresh()
                    if last or not moved:
                        raise
        raise AssertionError


def _mapping(condition: Filter | None) -> Any:
    """Read a filter, and give it as it travels."""
    text = filter_json(condition)
    return None if text is None else json.loads(text)
