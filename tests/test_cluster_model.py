"""The simulated cluster against what is known of queues."""

import numpy as np
import pytest
from numpy.typing import NDArray

from latewood.cluster.asking import LEAST_PATIENCE, RayShards
from scattered import Cluster, Costs, simulate

FREE = Costs()


def exponential(shards: int, queries: int = 400, rounds: int = 200) -> NDArray[np.float64]:
    """Draw times of ten milliseconds on average, apart for each shard."""
    return np.random.default_rng(0).exponential(0.01, (shards, queries, rounds))


@pytest.mark.parametrize("at_once", [1, 10**6])
def test_a_shard_of_exponential_times_is_a_known_queue(at_once: int) -> None:
    # M/M/1: 1 / (100 - 60) s on average, whether the core takes one call after the other or shares itself among all.
    found = simulate(Cluster(1, at_once=at_once, max_waiting=10**6), FREE, exponential(1), 60.0, 60_000)
    assert found.seconds.mean() == pytest.approx(0.025, rel=0.06)
    assert found.busy == pytest.approx(0.6, rel=0.03)
    if at_once == 1:
        # One after the other, what is waited for is exponential too.
        assert np.percentile(found.seconds, 99) == pytest.approx(0.025 * np.log(100), rel=0.1)


def test_two_cores_are_a_known_queue() -> None:
    # M/M/2 of Erlang at a load of .6: 1 / (100 (1 - .36)) s on average.
    found = simulate(Cluster(1, cores=2, at_once=2, max_waiting=10**6), FREE, exponential(1), 120.0, 60_000)
    assert found.seconds.mean() == pytest.approx(0.01 / 0.64, rel=0.05)


@pytest.mark.parametrize("shards", [4, 32])
def test_the_slowest_of_shards_decides(shards: int) -> None:
    # The largest of n exponential times is 1 + 1/2 + … + 1/n times one of them.
    found = simulate(Cluster(shards, nodes=shards), FREE, exponential(shards), 0.1, 3000)
    assert found.seconds.mean() == pytest.approx(0.01 * sum(1 / n for n in range(1, shards + 1)), rel=0.03)


def rare(slow: float) -> NDArray[np.float64]:
    """Give times of ten milliseconds, two in a hundred of which are slow."""
    return np.where(np.arange(100) < 2, slow, 0.01)[None, None]


def test_a_slow_replica_is_asked_again_after_its_patience() -> None:
    alone = simulate(Cluster(1, 2, nodes=2, hedging=False), FREE, rare(1.0), 0.1, 5000)
    hedged = simulate(Cluster(1, 2, nodes=2), FREE, rare(1.0), 0.1, 5000)
    assert alone.ms(99) == 1000
    assert hedged.ms(99) == pytest.approx(1e3 * (LEAST_PATIENCE + 0.01))
    assert hedged.asked_again == pytest.approx(0.02, abs=0.006)
    # Two slow ones in a row: the answer of the first is taken.
    assert np.isclose(hedged.seconds, 1.0).any()
    # One replica has no other.
    assert simulate(Cluster(1), FREE, rare(1.0), 0.1, 5000).ms(99) == 1000


def test_patience_is_that_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from scattered import _Times

    library = RayShards.__new__(RayShards)
    library._lock, library._seconds = threading.Lock(), {}
    times = _Times()
    known = library._seconds.setdefault(("search", 1), [])
    for seconds in np.random.default_rng(0).exponential(0.05, 600).tolist():
        assert times.patience() == library._patience(("search", 1))
        times.add(seconds)
        known.append(seconds)
        del known[:-256]


def test_costs_are_paid_once_for_each_call_or_query() -> None:
    costs = Costs(send=0.001, take=0.002, rest=0.004, call=0.008, network=0.016)
    constant = np.full((1, 1, 1), 0.032)
    one = simulate(Cluster(1, nodes=1), costs, constant, 0.01, 50)
    np.testing.assert_allclose(one.seconds, 0.063)
    # Calls leave one after the other, and so are answers taken: here they come faster than that.
    three = simulate(Cluster(3, nodes=3), costs, constant, 0.01, 50)
    np.testing.assert_allclose(three.seconds, 0.001 + 0.008 + 0.032 + 0.016 + 3 * 0.002 + 0.004)
    # A core for both shares itself; two threads for three shards leave one waiting.
    shared = simulate(Cluster(3, cores=1), FREE, constant, 0.01, 50)
    np.testing.assert_allclose(shared.seconds, 3 * 0.032)
    pooled = simulate(Cluster(3, cores=8, at_once=2, pooled=True, beside=True), FREE, constant, 0.01, 50)
    np.testing.assert_allclose(pooled.seconds, 2 * 0.032)


def test_more_than_may_wait_are_refused() -> None:
    found = simulate(Cluster(1, max_waiting=2), FREE, np.full((1, 1, 1), 0.1), 100.0, 2000)
    assert found.refused == pytest.approx(2000 * 0.9, rel=0.05)
    assert found.seconds.max() <= 0.2 + 1e-9
    assert found.busy == pytest.approx(1, abs=0.02)
    # Two processes that ask let twice as many wait.
    assert simulate(Cluster(1, askers=2, max_waiting=2), FREE, np.full((1, 1, 1), 0.1), 100.0, 2000).seconds.max() > 0.3
