"""Who answers for the shards: this process itself, or actors of Ray, several for each shard."""

import os
import random
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from itertools import count as numbers
from threading import Lock, Semaphore
from typing import Any, Protocol

from latewood._core import Stop
from latewood.cluster.homes import Home
from latewood.cluster.reading import ShardReader
from latewood.cluster.replica import Replica, answered, asking
from latewood.cluster.sessions import Session
from latewood.common.packages import import_optional
from latewood.errors import CorruptIndexError, LatewoodError, ServiceError, StorageError

Kind = tuple[str, int]
"""A call, and how many binary digits the bytes of its largest question have: what takes about as long."""
Calls = Mapping[int, tuple[Any, ...]]
"""Shard → the arguments of what it is asked: arrays, and what JSON has."""
HEDGED_AFTER = 0.95
PATIENCE = 3
"""Another replica is asked when one takes so many times as long as that share of answers did.

What is only a little late has a longer query or busy cores. To ask again makes these busier still, until all are asked
twice (docs/cluster.md).
"""
LEAST_PATIENCE = 0.02
"""Seconds; below, a second question costs more than it gains."""
FIRST_PATIENCE = 0.25
"""For a question as large as one query, before `LEAST_KNOWN` answers have told how long they take; what is so many
times as large may take so many times as long."""
LEAST_KNOWN = 20
ONE_QUERY = 15
"""Binary digits of the bytes of a question with one query of usual length."""
REMEMBERED = 256
HEARD = 0.05
"""Seconds after which a caller that waits looks for a `Stop`."""
REST = 1.0
"""Seconds for which a replica that has failed is asked last."""


PREPARE = "prepare"
"""The call that all replicas of a shard get at once; when one is ready, the others go on with it."""
ENDING = "ending"
"""The threads of an actor that hear of what is to end, when all others are at work."""


class MissingShardsError(LatewoodError):
    """No replica of some shards answers; `late` says whether some may still be at work."""

    def __init__(self, shards: list[int], answers: dict[int, Any], *, late: bool = False) -> None:
        super().__init__(f"no replica of {', '.join(f'shard {place}' for place in shards)} answers")
        self.shards = shards
        self.answers = answers
        self.late = late


class Shards(Protocol):
    """What asks shards."""

    def ask(self, method: str, calls: Calls, *, timeout: float) -> dict[int, Any]:
        """Call a method of some shards' `ShardReader`, of all at once, and give what each gives.

        Raises
        ------
        MissingShardsError
            Some do not answer; it has the answers of the others. What a shard itself raises passes through.
        """

    def close(self) -> None:
        """Let go of them."""


class LocalShards:
    """All shards in this process, each asked on a thread of its own."""

    def __init__(self, home: Home, count: int) -> None:
        self._readers = [ShardReader(home, place) for place in range(count)]
        self._threads: tuple[int, ThreadPoolExecutor] | None = None

    def ask(self, method: str, calls: Calls, *, timeout: float) -> dict[int, Any]:
        """See `Shards.ask`."""
        pid, pool = self._threads or (None, None)
        # A forked child has none of its parent's threads.
        if pool is None or pid != os.getpid():
            pool = ThreadPoolExecutor(min(len(self._readers), 32), thread_name_prefix="latewood-shard")
            self._threads = (os.getpid(), pool)
        # The shards hear a `Stop` of the caller, and one of their own when the caller is interrupted or another fails.
        with Stop() as ended:
            futures = {
                place: pool.submit(copy_context().run, getattr(self._readers[place], method), *arguments)
                for place, arguments in calls.items()
            }
            try:
                return {place: future.result() for place, future in futures.items()}
            except BaseException:
                ended.set()
                raise

    def close(self) -> None:
        """See `Shards.close`; the threads end with the last call that is under way."""
        self._threads = None


@dataclass(slots=True)
class _Waiting:
    """A shard whose answer is not there yet."""

    question: bytes
    untried: list[int]
    asked: dict[Any, tuple[int, float]] = field(default_factory=dict)
    """Of what was asked, the replica and when."""
    again_at: float = 0.0


class RayShards:
    """Actors of Ray: `replicas` for each shard, those of a shard on different nodes where there are as many.

    Parameters
    ----------
    home : Home
        Where the cluster is read from, by every node itself.
    count : int
        Shards.
    replicas : int
    cpus : float
        That Ray counts for each actor.
    """

    def __init__(self, home: Home, count: int, replicas: int, cpus: float) -> None:
        enough = max(os.cpu_count() or 1, int(count * replicas * cpus) + 1)
        self._session = Session("shards in processes of their own", cpus=enough)
        self._ray = self._session.ray
        placing: Any = import_optional("ray.util.placement_group", extra="ray", purpose="placing replicas")
        scheduling: Any = import_optional("ray.util.scheduling_strategies", extra="ray", purpose="placing replicas")
        nodes = sum(bool(node["Alive"]) for node in self._ray.nodes())
        strategy = "STRICT_SPREAD" if nodes >= replicas > 1 else "SPREAD"
        actor = self._ray.remote(max_restarts=-1, max_concurrency=8, concurrency_groups={ENDING: 1}, num_cpus=cpus)(
            Replica
        )
        self._groups = [placing.placement_group([{"CPU": cpus}] * replicas, strategy=strategy) for _ in range(count)]
        self._actors: list[list[Any]] = []
        for place, group in enumerate(self._groups):
            own = [
                actor.options(
                    scheduling_strategy=scheduling.PlacementGroupSchedulingStrategy(
                        group, placement_group_bundle_index=replica
                    )
                ).remote(*home.told(), place)
                for replica in range(replicas)
            ]
            self._actors.append(own)
        self._remove_group: Any = placing.remove_placement_group
        self._numbers = numbers()
        self._lock = Lock()
        self._seconds: dict[Kind, list[float]] = {}
        self._resting: dict[tuple[int, int], float] = {}

    def ask(self, method: str, calls: Calls, *, timeout: float) -> dict[int, Any]:
        """See `Shards.ask`; a shard that is slow is asked once more, from another replica."""
        if not self._session.lives():
            raise MissingShardsError(sorted(calls), {})
        end, number = time.monotonic() + timeout, next(self._numbers)
        # Mostly all shards are asked the same.
        different = {id(arguments): arguments for arguments in calls.values()}
        written = {key: asking(number, method, arguments) for key, arguments in different.items()}
        waiting = {place: _Waiting(written[id(arguments)], self._order(place)) for place, arguments in calls.items()}
        kind = (method, max(map(len, written.values()), default=0).bit_length())
        # However long that is, another replica must have time to answer where the first one hangs.
        patience = min(self._patience(kind), timeout / 2)
        answers: dict[int, Any] = {}
        lost: list[int] = []
        try:
            while waiting:
                now = time.monotonic()
                for place, one in waiting.items():
                    if one.again_at <= now and one.untried:
                        self._send(place, one, patience)
                pending = {reference: place for place, one in waiting.items() for reference in one.asked}
                wake = min([end, now + HEARD, *(one.again_at for one in waiting.values() if one.untried)])
                done, _ = self._ray.wait(list(pending), timeout=max(wake - now, 0.001)) if pending else ([], [])
                for reference in done:
                    place = pending[reference]
                    if place in waiting and self._take(place, waiting[place], reference, answers, kind):
                        one = waiting.pop(place)
                        if method != PREPARE:
                            self._end(place, one, number)
                for place in [place for place, one in waiting.items() if not one.asked and not one.untried]:
                    lost.append(place)
                    del waiting[place]
                if time.monotonic() >= end:
                    break
                Stop.check()
        finally:
            for place, one in waiting.items():
                self._end(place, one, number)
        if lost or waiting:
            raise MissingShardsError(sorted([*lost, *waiting]), answers, late=bool(waiting))
        return answers

    def close(self) -> None:
        """See `Shards.close`."""
        if self._session.lives():
            for actors in self._actors:
                for actor in actors:
                    self._ray.kill(actor)
            for group in self._groups:
                self._remove_group(group)
        self._session.close()

    def _order(self, place: int) -> list[int]:
        """Give a shard's replicas, the last one to be asked first: those that have just failed come at the end."""
        now = time.monotonic()
        replicas = list(range(len(self._actors[place])))
        random.shuffle(replicas)
        replicas.sort(key=lambda replica: self._resting.get((place, replica), 0.0) <= now)
        return replicas

    def _send(self, place: int, one: _Waiting, patience: float) -> None:
        replica = one.untried.pop()
        reference = self._actors[place][replica].answer.remote(one.question)
        now = time.monotonic()
        one.asked[reference] = (replica, now)
        one.again_at = now + patience

    def _end(self, place: int, one: _Waiting, number: int) -> None:
        """End what other replicas still do for a shard."""
        # Where the session has ended, so have they, and a call would begin another.
        for replica, _ in one.asked.values() if self._session.lives() else ():
            self._actors[place][replica].end.options(concurrency_group=ENDING, num_returns=0).remote(number)

    def _take(self, place: int, one: _Waiting, reference: Any, answers: dict[int, Any], kind: Kind) -> bool:
        """Take an answer; whether it is one."""
        replica, begun = one.asked.pop(reference)
        try:
            answers[place] = answered(self._ray.get(reference))
        except (CorruptIndexError, StorageError):
            # The files of another replica may be whole, and be there.
            if one.untried or one.asked:
                one.again_at = 0.0
                return False
            raise
        except self._ray.exceptions.RayTaskError:
            # Nothing that a shard's reader raises by itself: another replica would do the same.
            raise
        except self._ray.exceptions.RayError:
            self._resting[place, replica] = time.monotonic() + REST
            one.again_at = 0.0
            return False
        with self._lock:
            known = self._seconds.setdefault(kind, [])
            known.append(time.monotonic() - begun)
            del known[:-REMEMBERED]
        return True

    def _patience(self, kind: Kind) -> float:
        with self._lock:
            known = sorted(self._seconds.get(kind, ()))
        if kind[0] == PREPARE:
            return 0.0
        if len(known) < LEAST_KNOWN:
            return FIRST_PATIENCE * 2.0 ** max(0, kind[1] - ONE_QUERY)
        return max(PATIENCE * known[int(HEDGED_AFTER * (len(known) - 1))], LEAST_PATIENCE)


class Room:
    """Room for so many calls at once; those of a process are not counted in one that was forked from it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = (os.getpid(), Semaphore(most))

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place as long as a call lasts; where there is none, that is a `ServiceError`."""
        pid, free = self._free
        if pid != os.getpid():
            free = Semaphore(self._most)
            self._free = (os.getpid(), free)
        if not free.acquire(blocking=False):
            message = f"{self._most} calls wait for this cluster's shards already; ask again in a moment"
            raise ServiceError(message, 429)
        try:
            yield
        finally:
            free.release()
