"""A cluster beside one index of the same documents: are exact rankings equal, what does the usual search find and cost.

    python benches/cluster.py FOLDER ...    collections as BEIR lays them out; data/scifact by default
    python benches/cluster.py --kills 10    and so many crashes of a node under load

Four shards: in this process, then two replicas of each on four nodes. Texts are encoded by the encoder inside the
wheel. The nodes are Ray's, processes of this machine that share its cores: what is measured is what asking costs, and
not what more machines would gain.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from common import machine, write_record
from latewood import Feedback, Index
from latewood.cluster import ClusterWriter, ShardedIndex, create
from latewood.common.types import Filter
from latewood.encode import encode_documents, encode_queries, nano_en
from latewood.errors import LatewoodError
from latewood.evaluate import load_beir
from trials.nodes import nodes

SHARDS, REPLICAS, NODES = 4, 2, 4
K = 10
PATIENT = 600.0
"""Seconds: all queries at once score every document, on cores that all nodes share."""
NEVER = 2**62
"""Token vectors before centroids are added: the single index keeps the cluster's codec."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", default=[str(Path(__file__).parent.parent / "data/scifact")])
    parser.add_argument("--queries", type=int, default=500, help="as many of each collection")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    used = machine()
    print(f"{used['processor']}, {used['cores']} cores, level {used['simd']}")
    texts: list[str] = []
    metadata: list[dict[str, Any]] = []
    asked: list[str] = []
    for folder in options.folders:
        collection = load_beir(folder)
        metadata += [{"of": Path(folder).name, "n": number % 5} for number in range(len(collection.corpus))]
        texts += collection.texts()
        asked += list(collection.queries.values())[: options.queries // len(options.folders)]
    vectors = encode_documents(nano_en(), texts)
    documents = [vectors[place] for place in range(len(vectors))]
    queries = list(encode_queries(nano_en(), asked))
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "cluster"
        create(root, shards=SHARDS, sample=documents[::2], dim=vectors.dim)
        with ClusterWriter(root) as writer:
            writer.add(range(len(documents)), vectors=documents, metadata=metadata)
        single = Index.create(Path(scratch) / "single", codec_from=root / "codec", train_after=NEVER)
        single.add(range(len(documents)), vectors=documents, metadata=metadata)
        found = {}
        with ShardedIndex.open(root, replicas=0) as sharded:
            found["in_one_process"] = measured(single, sharded, queries)
            print("in one process", found["in_one_process"])
        with nodes(NODES) as cluster, ShardedIndex.open(root, replicas=REPLICAS, cpus=0.5, timeout=PATIENT) as sharded:
            found["by_ray"] = measured(single, sharded, queries)
            print("by Ray", found["by_ray"])
            if options.kills:
                found["kills"] = killed(single, sharded, queries, cluster, options.kills)
                print("kills", found["kills"])
    if not options.no_record:
        shape = {"shards": SHARDS, "replicas": REPLICAS, "nodes": NODES, "queries": len(queries), "k": K}
        held = {"documents": len(documents), "tokens": len(vectors.values), "dim": vectors.dim}
        of = [Path(folder).name for folder in options.folders]
        name = "cluster-kills" if options.kills else "cluster"
        print(write_record(name, {"collections": of, **held, **shape, **found}))


def measured(single: Index, sharded: ShardedIndex, queries: list[NDArray[np.float32]]) -> dict[str, Any]:
    """Compare the answers, then time those of one thread for each shard."""
    exact = single.search_batch(queries, K, gather="exact")
    candidates = [[hit.id for hit in hits] for hits in exact]

    def recall(index: Index | ShardedIndex, condition: Filter | None) -> float:
        best = single.search_batch(queries, K, gather="exact", filter=condition)
        found = index.search_batch(queries, K, filter=condition)
        shares = [
            len({hit.id for hit in own} & {hit.id for hit in hits}) / len(own)
            for own, hits in zip(best, found, strict=True)
        ]
        return round(float(np.mean(shares)), 4)

    ways: dict[str, dict[str, Any]] = {
        "plain": {},
        "filtered": {"filter": {"n": {"gte": 1, "lt": 4}}},
        "weighted": {"weights": [np.linspace(1.0, 0.2, len(query)) for query in queries]},
        "feedback": {"feedback": Feedback()},
    }
    equal = {
        name: sharded.search_batch(queries, K, gather="exact", **way)
        == single.search_batch(queries, K, gather="exact", **way)
        for name, way in ways.items()
    }
    values: dict[str, Any] = {
        "exact_equal": equal,
        "reranks_equal": sharded.rerank_batch(queries, candidates) == single.rerank_batch(queries, candidates),
        "recall_single": recall(single, None),
        "recall_sharded": recall(sharded, None),
        "recall_single_filtered": recall(single, {"n": 1}),
        "recall_sharded_filtered": recall(sharded, {"n": 1}),
    }
    seconds, slowest = [], []
    for query in queries:
        begun = time.perf_counter()
        hits = sharded.search(query, K, threads=1)
        seconds.append(time.perf_counter() - begun)
        slowest.append(hits.stats["slowest_shard_s"])
    begun = time.perf_counter()
    batch = sharded.search_batch(queries, K, threads=1)
    batch_s = (time.perf_counter() - begun) / len(queries)
    batch_slowest = float(np.mean([hits.stats["slowest_shard_s"] for hits in batch]))
    times = {
        "query_ms": np.median(seconds),
        "overhead_ms": np.median(np.subtract(seconds, slowest)),
        "batch_query_ms": batch_s,
        "batch_overhead_ms": batch_s - batch_slowest,
    }
    return {**values, **{name: round(1e3 * float(value), 3) for name, value in times.items()}}


def killed(
    single: Index, sharded: ShardedIndex, queries: list[NDArray[np.float32]], cluster: Any, kills: int
) -> dict[str, Any]:
    """Crash nodes under the load of two threads, and add one for each; what was answered, and how late."""
    wanted = single.search_batch(queries, K, gather="exact")
    failed, wrong, seconds = [], [], []
    end = threading.Event()

    def ask() -> None:
        while not end.is_set():
            for query, hits in zip(queries, wanted, strict=True):
                begun = time.perf_counter()
                try:
                    found = sharded.search(query, K, gather="exact")
                except LatewoodError as error:
                    failed.append(str(error))
                    continue
                seconds.append(time.perf_counter() - begun)
                if found != hits:
                    wrong.append(found)
                if end.is_set():
                    return

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(kills):
        time.sleep(1)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        time.sleep(1)
        cluster.add_node(num_cpus=4)
        # Until each shard has two replicas again, another crash could take the last one.
        time.sleep(4)
    end.set()
    for thread in threads:
        thread.join()
    return {
        "kills": kills,
        "answered": len(seconds),
        "failed": len(failed),
        "wrong": len(wrong),
        "p50_ms": round(1e3 * float(np.percentile(seconds, 50)), 2),
        "p99_ms": round(1e3 * float(np.percentile(seconds, 99)), 2),
        "max_ms": round(1e3 * max(seconds), 1),
    }


if __name__ == "__main__":
    main()
