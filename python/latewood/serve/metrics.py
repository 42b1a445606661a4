"""Counts for Prometheus, of all worker processes together where there are several."""

import os
from collections.abc import Sequence
from typing import Any

from latewood.common.packages import import_optional
from latewood.common.types import Stats

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""Where worker processes write their counts for each other, as prometheus_client has it."""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """What a service counts."""

    def __init__(self) -> None:
        prometheus: Any = import_optional("prometheus_client", purpose="a service")
        self._library = prometheus
        self._registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            "latewood_requests", "Answers by path and status.", ("path", "status"), registry=self._registry
        )
        self._seconds = prometheus.Histogram(
            "latewood_request_seconds", "From request to answer.", ("path",), buckets=SECONDS, registry=self._registry
        )
        self._queries = prometheus.Counter(
            "latewood_queries", "Queries that were answered.", ("index",), registry=self._registry
        )
        self._batches = prometheus.Histogram(
            "latewood_batch_queries",
            "Queries that were answered together.",
            ("index",),
            buckets=(1, 2, 4, 8, 16, 32, 64, 256, 1024),
            registry=self._registry,
        )
        self._stages = prometheus.Counter(
            "latewood_stage_seconds", "Time of each stage of searches.", ("index", "stage"), registry=self._registry
        )
        self._counts = prometheus.Counter(
            "latewood_stage_documents", "Documents of each stage.", ("index", "stage"), registry=self._registry
        )

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def searched(self, index: str, stats: Sequence[Stats]) -> None:
        """Count what searches of an index took."""
        self._batches.labels(index).observe(len(stats))
        self._queries.labels(index).inc(len(stats))
        total: Stats = {}
        for one in stats:
            for name, value in one.items():
                total[name] = total.get(name, 0.0) + value
        for name, value in total.items():
            if name.endswith("_s"):
                self._stages.labels(index, name.removesuffix("_s")).inc(value)
            elif name != "queries":
                self._counts.labels(index, name).inc(value)

    def text(self) -> bytes:
        """Give all counts, in Prometheus' own format."""
        registry = self._registry
        if DIRECTORY in os.environ:
            registry = self._library.CollectorRegistry()
            import_optional("prometheus_client.multiprocess", purpose="a service").MultiProcessCollector(registry)
        written: bytes = self._library.generate_latest(registry)
        return written

    @property
    def content_type(self) -> str:
        """What kind of text that is."""
        kind: str = self._library.CONTENT_TYPE_LATEST
        return kind
