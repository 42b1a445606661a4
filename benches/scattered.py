"""A simulation of a cluster that answers queries: what comes when, who works on it, and how long it takes.

Queries come at random (Poisson) and go in turn to processes that ask. Each does as `latewood.cluster.asking`: it asks a
replica of every shard, drawn at random, asks another one where an answer takes longer than 95 % of the last did, does
not stop what it needs no more, and refuses more than so many calls at once. A replica works on a few calls at once and
keeps the others in their order. What runs on a node shares its cores evenly.
"""

import heapq
import random
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from latewood.cluster.asking import FIRST_PATIENCE, HEDGED_AFTER, LEAST_KNOWN, LEAST_PATIENCE, REMEMBERED

WARMING = 0.1
"""Of the queries, the first ones fill the cluster and are not counted."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is simulated.

    Attributes
    ----------
    shards, replicas : int
    nodes, cores : int
        Replicas lie on the nodes in turn; cores are those of one node.
    at_once : int
        Calls that a replica works on at once.
    pooled : bool
        The shards are threads of the process that asks, `at_once` for all of them together.
    askers : int
        Processes that ask, each on a core of its own.
    beside : bool
        They share the first node instead.
    hedging : bool
    max_waiting : int
        Of each asking process.
    """

    shards: int
    replicas: int = 1
    nodes: int = 1
    cores: int = 1
    at_once: int = 8
    pooled: bool = False
    askers: int = 1
    beside: bool = False
    hedging: bool = True
    max_waiting: int = 64


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that a query takes beside the search in its shards.

    Attributes
    ----------
    send, take : float
        Of a core of the asking process, for each call of a shard and for each answer.
    rest : float
        Of the same core, for a query, whatever the number of shards.
    call : float
        Of a core of the replica's node, for each call.
    network : float
        From the asking process to a replica and back, in which no core works.
    """

    send: float = 0.0
    take: float = 0.0
    rest: float = 0.0
    call: float = 0.0
    network: float = 0.0


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of the queries.

    Attributes
    ----------
    seconds : array of float64
        From a query's arrival to its answer.
    refused : int
        Queries that found too many others waiting.
    busy, asking_busy : float
        Share of the cores' time that nodes, and asking processes, worked.
    asked_again : float
        Share of calls that were hedged.
    """

    seconds: NDArray[np.float64]
    refused: int
    busy: float
    asking_busy: float
    asked_again: float

    def ms(self, percent: float) -> float:
        """Give a percentile in milliseconds."""
        return round(1e3 * float(np.percentile(self.seconds, percent)), 2)


def simulate(
    cluster: Cluster, costs: Costs, services: NDArray[np.float64], rate: float, queries: int, seed: int = 0
) -> Answered:
    """Let queries come, and see how long they take.

    Parameters
    ----------
    cluster : Cluster
    costs : Costs
    services : array [shards measured, queries measured, rounds] of float64
        Seconds that a core took to search. All shards search for the same query, drawn from those measured; each draws
        its round, and shards beyond those measured begin again with the first.
    rate : float
        Queries that come in a second.
    queries : int
    seed : int
    """
    return _Simulation(cluster, costs, services, seed).run(rate, queries)


class _Clock:
    """What happens when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + seconds, self._count, event))

    def run(self) -> None:
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()


class _Node:
    """Cores that what runs shares evenly.

    Each job ends when so much time was given to every job: that mark never changes, however many others come and go.
    """

    def __init__(self, clock: _Clock, cores: int) -> None:
        self.busy = 0.0
        self._clock, self._cores = clock, cores
        self._given, self._since = 0.0, 0.0
        self._jobs: list[tuple[float, int, Callable[[], None]]] = []
        self._changes = 0

    def start(self, seconds: float, then: Callable[[], None]) -> None:
        self._give()
        heapq.heappush(self._jobs, (self._given + seconds, self._changes, then))
        self._expect()

    def _share(self) -> float:
        return min(1.0, self._cores / len(self._jobs))

    def _give(self) -> None:
        now = self._clock.now
        if self._jobs:
            given = (now - self._since) * self._share()
            self._given += given
            self.busy += given * len(self._jobs)
        self._since = now

    def _expect(self) -> None:
        self._changes += 1
        if self._jobs:
            change = self._changes
            left = max(self._jobs[0][0] - self._given, 0.0) / self._share()
            self._clock.after(left, partial(self._end, change))

    def _end(self, change: int) -> None:
        # Where something came meanwhile, another end is expected.
        if change == self._changes:
            self._give()
            _, _, then = heapq.heappop(self._jobs)
            self._expect()
            then()


class _Worker:
    """A process on a node, that works on so many things at once and on the others in their order."""

    def __init__(self, node: _Node, at_once: int) -> None:
        self._node, self._free = node, at_once
        self._queue: deque[tuple[float, Callable[[], None]]] = deque()

    def work(self, seconds: float, then: Callable[[], None]) -> None:
        self._queue.append((seconds, then))
        self._next()

    def _next(self) -> None:
        if self._free and self._queue:
            self._free -= 1
            seconds, then = self._queue.popleft()
            self._node.start(seconds, partial(self._done, then))

    def _done(self, then: Callable[[], None]) -> None:
        self._free += 1
        self._next()
        then()


class _Times:
    """How long the last answers took."""

    def __init__(self) -> None:
        self._last: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        self._last.append(seconds)
        insort(self._sorted, seconds)
        if len(self._last) > REMEMBERED:
            del self._sorted[bisect_left(self._sorted, self._last.popleft())]

    def patience(self) -> float:
        if len(self._last) < LEAST_KNOWN:
            return FIRST_PATIENCE
        return max(self._sorted[int(HEDGED_AFTER * (len(self._last) - 1))], LEAST_PATIENCE)


@dataclass(slots=True)
class _Asker:
    """A process that asks."""

    worker: _Worker
    times: _Times = field(default_factory=_Times)
    waiting: int = 0


@dataclass(slots=True)
class _Query:
    """A query on its way; `place` is that of its times among those measured."""

    asker: _Asker
    place: int
    begun: float
    counted: bool
    missing: set[int]


class _Simulation:
    def __init__(self, cluster: Cluster, costs: Costs, services: NDArray[np.float64], seed: int) -> None:
        self.cluster, self.costs = cluster, costs
        # Lists are read faster than arrays, one number at a time.
        self.services: list[list[list[float]]] = services.tolist()
        self.random = random.Random(seed)
        self.clock = _Clock()
        self.nodes = [_Node(self.clock, cluster.cores) for _ in range(cluster.nodes)]
        self.homes = [self.nodes[0]] if cluster.beside else [_Node(self.clock, 1) for _ in range(cluster.askers)]
        # Of what Python does in one process, one thing runs at a time.
        self.askers = [_Asker(_Worker(self.homes[number % len(self.homes)], 1)) for number in range(cluster.askers)]
        count = cluster.shards * cluster.replicas
        if cluster.pooled:
            self.workers = [_Worker(self.nodes[0], cluster.at_once)] * count
        else:
            self.workers = [_Worker(self.nodes[number % cluster.nodes], cluster.at_once) for number in range(count)]
        self.seconds: list[float] = []
        self.refused = self.calls = self.again = 0

    def run(self, rate: float, queries: int) -> Answered:
        self.clock.after(0.0, partial(self.arrive, 0, rate, queries))
        self.clock.run()
        return Answered(
            np.array(self.seconds),
            self.refused,
            self.share_of(self.nodes, self.cluster.cores),
            self.share_of(self.homes, self.cluster.cores if self.cluster.beside else 1),
            self.again / max(self.calls, 1),
        )

    def share_of(self, nodes: list[_Node], cores: int) -> float:
        return sum(node.busy for node in nodes) / (len(nodes) * cores * self.clock.now)

    def arrive(self, number: int, rate: float, queries: int) -> None:
        if number + 1 < queries:
            self.clock.after(self.random.expovariate(rate), partial(self.arrive, number + 1, rate, queries))
        asker, shards = self.askers[number % len(self.askers)], range(self.cluster.shards)
        if asker.waiting >= self.cluster.max_waiting:
            self.refused += 1
            return
        asker.waiting += 1
        place = self.random.randrange(len(self.services[0]))
        query = _Query(asker, place, self.clock.now, number >= queries * WARMING, set(shards))
        for shard in shards:
            untried = self.random.sample(range(self.cluster.replicas), self.cluster.replicas)
            asker.worker.work(self.costs.send, partial(self.send, query, shard, untried))

    def send(self, query: _Query, shard: int, untried: list[int]) -> None:
        self.calls += 1
        search = self.random.choice(self.services[shard % len(self.services)][query.place])
        worker = self.workers[shard * self.cluster.replicas + untried.pop()]
        worker.work(self.costs.call + search, partial(self.answer, query, shard, self.clock.now))
        if self.cluster.hedging and untried:
            self.clock.after(query.asker.times.patience(), partial(self.send_again, query, shard, untried))

    def send_again(self, query: _Query, shard: int, untried: list[int]) -> None:
        if shard in query.missing:
            self.again += 1
            query.asker.worker.work(self.costs.send, partial(self.send, query, shard, untried))

    def answer(self, query: _Query, shard: int, begun: float) -> None:
        self.clock.after(self.costs.network, partial(self.arrived, query, shard, begun))

    def arrived(self, query: _Query, shard: int, begun: float) -> None:
        if shard in query.missing:
            query.asker.worker.work(self.costs.take, partial(self.take, query, shard, begun))

    def take(self, query: _Query, shard: int, begun: float) -> None:
        if shard in query.missing:
            query.missing.remove(shard)
            query.asker.times.add(self.clock.now - begun)
            if not query.missing:
                query.asker.worker.work(self.costs.rest, partial(self.finish, query))

    def finish(self, query: _Query) -> None:
        query.asker.waiting -= 1
        if query.counted:
            self.seconds.append(self.clock.now - query.begun)
