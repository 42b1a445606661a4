"""What a cluster of many shards costs: its parts measured, the whole simulated, and both compared where that can be.

    python benches/cluster_model.py                     a shard is a quarter of SciFact
    python benches/cluster_model.py --shards A B --queries FOLDER
                                                        indexes as large as one shard, and vectors of their kind

Measured: the times of single searches in an index as large as a shard; what asking costs with 4, 16 and 64 shards of
SciFact by Ray, on nodes that share this machine; the bytes of an answer; a build. Simulated (benches/scattered.py):
clusters whose shards are all like the last of `--shards`. Compared: four shards of SciFact in one process, and two
replicas of each by Ray, when queries come at random. `--measured FILE` keeps what was measured there, or reads it.
"""

import argparse
import json
import math
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster import NODES
from common import folder_size, write_record
from compare import gathered
from latewood import Index
from latewood.cluster import ClusterManifest, ClusterWriter, ShardedIndex, create
from latewood.cluster.asking import PATIENCE
from latewood.cluster.homes import home_of
from latewood.cluster.packing import packed
from latewood.cluster.reading import ShardReader
from latewood.errors import ServiceError
from latewood.evaluate import load_beir
from latewood.forms.ragged import Ragged, to_ragged
from resampled import Source
from scattered import Answered, Cluster, Costs, simulate
from trials.nodes import nodes
from vectors import TokenVectors, folder, load

K = 10
ROUNDS = 5
CORES = os.cpu_count() or 1
SHARDS, REPLICAS = (4, 16, 64, 200), (1, 2, 3)
ASKED = (4, 16, 64)
"""Shards with which asking is measured."""
LOADS = (0.2, 0.5, 0.7)
"""Share of all cores that searches and calls need."""
PATIENCES = (math.inf, PATIENCE, 1)
"""Never asked again, asked again as the library does, and as soon as an answer is later than 95 % were."""
NODE = 16
"""Cores of a simulated node, which has as many replicas."""
ROUND_TRIP, BYTES_A_SECOND = 0.0002, 1.25e9
"""Of the network between simulated nodes, not measured: .2 ms, and 10 Gbit/s."""
SIZES = (100_000_000, 1_000_000_000, 10_000_000_000)
"""Token vectors of the clusters that are reckoned last, with two replicas at half load."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, nargs="+", default=[], help="index folders")
    parser.add_argument("--queries", type=Path, default=folder(), help="folder of vectors, instead of SciFact's")
    parser.add_argument("--measured", type=Path, help="file that keeps what is measured, or has it")
    parser.add_argument("--seconds", type=float, default=30, help="of each comparison")
    parser.add_argument("--simulated", type=int, default=4000, help="queries of each simulation")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    kept = Kept(options.measured)
    measure(kept, options.shards, options.queries, options.seconds)
    content = {**told(kept), **modelled(kept, options.simulated)}
    if not options.no_record:
        path = write_record("cluster-model", content)
        gathered.draw(path.with_suffix(".png"), content)
        print(path)


# ── what is measured ─────────────────────────────────────────────────────────────────────────────────────────────────


class Kept(dict[str, Any]):
    """What was measured, kept in a file if there is one."""

    def __init__(self, path: Path | None) -> None:
        super().__init__(json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else {})
        self._path = path

    def measure(self, name: str, call: Callable[[], Any]) -> None:
        """Measure something that is not known yet."""
        if name not in self:
            self[name] = call()
            print(name, told(self[name]), flush=True)
            if self._path:
                self._path.write_text(json.dumps(self), encoding="utf-8")


def measure(kept: Kept, shards: list[Path], queries: Path, seconds: float) -> None:
    """Measure all that the model needs."""
    vectors, source = load(), Source(queries)
    kept.measure("vectors", vectors.describe)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "cluster"
        kept.measure("build", lambda: built(source, root))
        kept.measure(
            "shards", lambda: [one_shard(path, source.queries(150)) for path in shards or [root / "shards/0000"]]
        )
    for count in reversed(ASKED):
        own = seconds if count == ASKED[0] else 0
        kept.measure(f"asking {count}", partial(asking, vectors, count, own))


def built(source: Source, root: Path) -> dict[str, Any]:
    """Build a cluster of four shards; how many tokens of it a core does in a second, and its bytes."""
    blocks = list(source.blocks())
    create(root, shards=4, sample=blocks[0], dim=blocks[0].dim)
    begun, worked = time.perf_counter(), time.process_time()
    with ClusterWriter(root) as writer:
        first = 0
        for block in blocks:
            writer.add(range(first, first + len(block)), vectors=block)
            first += len(block)
    core_s, seconds = time.process_time() - worked, time.perf_counter() - begun
    tokens = source.describe()["tokens"]
    return {
        **source.describe(),
        "seconds": round(seconds, 1),
        "tokens_a_core_second": round(tokens / core_s),
        "bytes_per_token": round(folder_size(root) / tokens, 1),
    }


def one_shard(path: Path, queries: list[NDArray[np.float32]]) -> dict[str, Any]:
    """Time searches of an index, one after the other."""
    index = Index.open(path)
    about = index.info()

    def search(query: NDArray[np.float32]) -> Callable[[], Any]:
        return lambda: index.search(query, K, threads=1)

    seconds = times([[search(query) for query in queries]])
    return {"tokens": about["tokens"], "bytes_per_token": about["bytes_per_token"], "searches": seconds.tolist()}


def times(calls: list[list[Callable[[], Any]]]) -> NDArray[np.float64]:
    """Time calls [shards, queries] in turn, `ROUNDS` times each after one that is not counted.

    What counts is the time that a core worked: whatever else runs on this machine makes it no longer.
    """
    seconds = np.zeros((len(calls), len(calls[0]), ROUNDS + 1))
    for number in range(ROUNDS + 1):
        for query in range(len(calls[0])):
            for shard, own in enumerate(calls):
                begun = time.thread_time()
                own[query]()
                seconds[shard, query, number] = time.thread_time() - begun
    return seconds[:, :, 1:]


def asking(vectors: TokenVectors, shards: int, seconds: float) -> dict[str, Any]:
    """Measure what asking so many shards costs, and, for so many seconds, how long queries take that come at random."""
    documents = [vectors.documents[place] for place in range(len(vectors.documents))]
    queries = [vectors.queries[place] for place in range(0, len(vectors.queries), 1 if seconds else 3)]
    corpus = load_beir(Path(__file__).parent.parent / "data/scifact").corpus
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "cluster"
        create(root, shards=shards, sample=documents[::2], dim=vectors.documents.dim)
        with ClusterWriter(root) as writer:
            texts = ["{title} {text}".format(**corpus[key]) for key in vectors.ids]
            writer.add(vectors.ids, vectors=documents, texts=texts)
        commit = ClusterManifest.newest(root).signature
        asked = [to_ragged([query]) for query in queries]
        readers = [ShardReader(home_of(root), place) for place in range(shards)]

        def question(query: Ragged) -> tuple[Any, ...]:
            return (commit, query.values, query.offsets, None, None, {"k": K, "threads": 1}, None, True)

        def search(reader: ShardReader, query: Ragged) -> Callable[[], Any]:
            return lambda: reader.search(*question(query))

        calls = [[search(reader, query) for query in asked] for reader in readers]
        found: dict[str, Any] = {
            "searches": times(calls).tolist(),
            "question_bytes": len(packed((0, "search", *question(asked[0])))),
            "answer_bytes": round(float(np.mean([len(packed(call())) for own in calls for call in own[:50]]))),
        }
        del calls, readers
        if seconds:
            with ShardedIndex.open(root, replicas=0) as sharded:
                found["in_one_process"] = asked_by(sharded, 0, queries, np.array(found["searches"]), seconds)
        replicas = 2 if seconds else 1
        with nodes(NODES), ShardedIndex.open(root, replicas=replicas, cpus=7 / shards, timeout=300) as sharded:
            found["by_ray"] = asked_by(sharded, replicas, queries, np.array(found["searches"]), seconds)
    return found


def asked_by(
    sharded: ShardedIndex,
    replicas: int,
    queries: list[NDArray[np.float32]],
    services: NDArray[np.float64],
    seconds: float,
) -> dict[str, Any]:
    """Measure queries one after the other, and then some that come at random."""
    shards, count = len(services), len(queries)
    for query in queries:
        sharded.search(query, K, threads=1)
    with counted(sharded) as spent:
        alone, worked, own, workers = [], time.process_time(), time.thread_time(), worker_seconds()
        for query in queries:
            begun = time.perf_counter()
            sharded.search(query, K, threads=1)
            alone.append(time.perf_counter() - begun)
        own = time.thread_time() - own
        worked = time.process_time() - worked
        workers = worker_seconds() - workers
    searched = float(services.mean(axis=2).sum(axis=0).mean()) * count
    costs = Costs(
        send=spent["_send"] / (count * shards),
        take=(spent["ask"] - spent["_send"]) / (count * shards),
        rest=(own - spent["ask"]) / count,
        # What other threads of the asking process do counts here: no query waits for them alone.
        call=max(worked - own + workers - searched, 0.0) / (count * shards),
    )
    # What is left of a query's time, no core has worked for.
    simulated = simulate(cluster_of(replicas, shards), costs, services, 0.01, 2000)
    costs = replace(costs, network=max(float(np.median(alone) - np.median(simulated.seconds)), 0.0))
    figures = {
        "replicas": replicas,
        "alone_p50_ms": ms(alone, 50),
        "alone_p99_ms": ms(alone, 99),
        "costs": asdict(costs),
    }
    core_s = searched / count + shards * (costs.send + costs.take + costs.call) + costs.rest
    compared = []
    for share in LOADS if seconds else ():
        rate = share * CORES / core_s
        taken, refused = arrivals(sharded, queries, rate, seconds)
        compared.append(
            {
                "load": share,
                "rate": round(rate, 1),
                "p50_ms": ms(taken, 50),
                "p99_ms": ms(taken, 99),
                "refused": refused,
            }
        )
    return {**figures, "arrivals": compared}


def cluster_of(replicas: int, shards: int) -> Cluster:
    """Give what was measured on this machine as something to simulate."""
    if replicas:
        return Cluster(shards, replicas, cores=CORES, beside=True)
    return Cluster(shards, cores=CORES, at_once=min(shards, 32), pooled=True, beside=True)


@contextmanager
def counted(sharded: ShardedIndex) -> Iterator[dict[str, float]]:
    """Give the seconds that the asking thread works in `ask`, and in `_send` as a part of it."""
    shards = sharded._shards  # noqa: SLF001  what asks
    spent = {"ask": 0.0, "_send": 0.0}

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*arguments: Any, **named: Any) -> Any:
            begun = time.thread_time()
            try:
                return call(*arguments, **named)
            finally:
                spent[name] += time.thread_time() - begun

        return watching

    names = [name for name in spent if hasattr(shards, name)]
    for name in names:
        setattr(shards, name, watched(name, getattr(shards, name)))
    yield spent
    for name in names:
        delattr(shards, name)


def worker_seconds() -> float:
    """Give the seconds that processors have worked for all actors that answer for shards."""
    seconds = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::Replica" in (process / "cmdline").read_bytes():
                fields = (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            # It has ended.
            continue
    return seconds


def arrivals(
    sharded: ShardedIndex, queries: list[NDArray[np.float32]], rate: float, seconds: float
) -> tuple[list[float], int]:
    """Let queries come at random; the seconds from when each was due to its answer, and how many were refused."""
    drawn = random.Random(0)

    def ask(due: float, query: NDArray[np.float32]) -> float | None:
        try:
            sharded.search(query, K, threads=1)
        except ServiceError:
            return None
        return time.perf_counter() - due

    begun = time.perf_counter()
    due, waited = 0.0, []
    with ThreadPoolExecutor(65) as threads:
        while due < seconds:
            time.sleep(max(begun + due - time.perf_counter(), 0.0))
            waited.append(threads.submit(ask, begun + due, drawn.choice(queries)))
            due += drawn.expovariate(rate)
    answers = [one.result() for one in waited]
    taken = [answer for answer in answers if answer is not None]
    return taken, len(answers) - len(taken)


def ms(seconds: Any, percent: float) -> float:
    """Give a percentile in milliseconds."""
    return round(1e3 * float(np.percentile(seconds, percent)), 2)


# ── what is simulated ────────────────────────────────────────────────────────────────────────────────────────────────


def modelled(kept: dict[str, Any], queries: int) -> dict[str, Any]:
    """Simulate what was measured as a whole, and then what was not."""
    return {"compared": compared(kept), "simulated": grid(kept, queries), "sizes": sizes(kept, queries)}


def compared(kept: dict[str, Any]) -> list[dict[str, Any]]:
    """Simulate the queries that came at random here."""
    rows = []
    asking = kept[f"asking {ASKED[0]}"]
    for name in ("in_one_process", "by_ray"):
        own = asking[name]
        for one in own["arrivals"]:
            found = simulate(
                cluster_of(own["replicas"], ASKED[0]),
                Costs(**own["costs"]),
                np.array(asking["searches"]),
                one["rate"],
                20_000,
            )
            rows.append({"cluster": name, **one, "simulated_p50_ms": found.ms(50), "simulated_p99_ms": found.ms(99)})
            print(rows[-1], flush=True)
    return rows


def costs_of(kept: dict[str, Any], shards: int) -> Costs:
    """Give what asking so many shards costs on nodes of their own, from the number measured that is nearest below."""
    nearest = max((count for count in ASKED if count <= shards), default=ASKED[0])
    few, one = kept[f"asking {ASKED[0]}"]["by_ray"]["costs"], kept[f"asking {nearest}"]
    costs = Costs(**one["by_ray"]["costs"])
    return replace(
        costs,
        take=costs.take + (one["question_bytes"] + one["answer_bytes"]) / BYTES_A_SECOND,
        # Many processes on these few cores wait for each other, and push each other out of the caches.
        call=few["call"],
        network=few["network"] + ROUND_TRIP,
    )


def services_of(kept: dict[str, Any]) -> NDArray[np.float64]:
    """Give the times of shards like the one that was measured, that differ for one query as SciFact's four do."""
    four = np.median(kept[f"asking {ASKED[0]}"]["searches"], axis=2)
    times = np.array(kept["shards"][-1]["searches"])
    differ = (four / four.mean(axis=0))[:, np.arange(times.shape[1]) % four.shape[1], None]
    varied: NDArray[np.float64] = times * differ
    return varied


def placed(kept: dict[str, Any], shards: int, replicas: int, load: float) -> tuple[Cluster, float]:
    """Give a cluster with a core for each replica, asking processes that are half busy, and its queries a second."""
    services, costs = services_of(kept), costs_of(kept, shards)
    rate = load * replicas / (float(services.mean()) + costs.call)
    asking_s = shards * (costs.send + costs.take) + costs.rest
    count = max(replicas, math.ceil(shards * replicas / NODE))
    return Cluster(
        shards, replicas, nodes=count, cores=math.ceil(shards * replicas / count), askers=math.ceil(2 * rate * asking_s)
    ), rate


def row_of(cluster: Cluster, load: float, rate: float, found: Answered) -> dict[str, Any]:
    """Put a simulation in figures."""
    return {
        "shards": cluster.shards,
        "replicas": cluster.replicas,
        "patience": cluster.patience if cluster.patience < math.inf else None,
        "load": load,
        "queries_a_second": round(rate, 1),
        "nodes": cluster.nodes,
        "askers": cluster.askers,
        "p50_ms": found.ms(50),
        "p99_ms": found.ms(99),
        "busy": round(found.busy, 3),
        "asking_busy": round(found.asking_busy, 3),
        "asked_again": round(found.asked_again, 4),
        "refused": found.refused,
    }


def grid(kept: dict[str, Any], queries: int) -> list[dict[str, Any]]:
    """Simulate shards like the one that was measured, by their number, replicas and load."""
    services, rows = services_of(kept), []
    for shards in SHARDS:
        for replicas in REPLICAS:
            for share in LOADS:
                for patience in PATIENCES if replicas > 1 else (math.inf,):
                    cluster, rate = placed(kept, shards, replicas, share)
                    cluster = replace(cluster, patience=patience)
                    found = simulate(cluster, costs_of(kept, shards), services, rate, queries)
                    rows.append(row_of(cluster, share, rate, found))
                    print(rows[-1], flush=True)
    return rows


def sizes(kept: dict[str, Any], queries: int) -> list[dict[str, Any]]:
    """Reckon what clusters of some sizes take."""
    shard, asking, rows = kept["shards"][-1], kept[f"asking {ASKED[0]}"], []
    for tokens in SIZES:
        shards = math.ceil(tokens / shard["tokens"])
        cluster, rate = placed(kept, shards, 2, 0.5)
        costs = costs_of(kept, shards)
        found = simulate(cluster, costs, services_of(kept), rate, queries)
        rows.append(
            {
                "tokens": tokens,
                **row_of(cluster, 0.5, rate, found),
                "gigabytes_a_replica": round(tokens * shard["bytes_per_token"] / 1e9),
                "core_ms_a_query": round(1e3 * shards * (float(services_of(kept).mean()) + costs.call)),
                "asking_core_ms_a_query": round(1e3 * (shards * (costs.send + costs.take) + costs.rest), 1),
                "network_kilobytes_a_query": round(shards * (asking["question_bytes"] + asking["answer_bytes"]) / 1e3),
                "build_core_hours": round(tokens / kept["build"]["tokens_a_core_second"] / 3600, 1),
            }
        )
        print(rows[-1], flush=True)
    return rows


def told(measured: Any) -> Any:
    """Put what was measured in few figures."""
    if isinstance(measured, list):
        return [told(one) for one in measured]
    if isinstance(measured, dict):
        return {name: summed(one) if name == "searches" else told(one) for name, one in measured.items()}
    return measured


def summed(seconds: Any) -> dict[str, float]:
    """Give percentiles of seconds, in milliseconds."""
    return {f"p{percent}_ms": ms(seconds, percent) for percent in (5, 50, 95, 99)}


if __name__ == "__main__":
    main()
