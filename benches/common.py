"""What the API benches share: the machine, the record, the measures."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import latewood
from latewood import _core

RECORDS = Path(__file__).parent / "record"


def machine() -> dict[str, Any]:
    """Processor, cores, memory, kernels and versions: what a figure means nothing without."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(_memory() / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "simd": _core.simd_level(),
        "simd_levels": _core.simd_levels(),
        "latewood": latewood.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        **{name: _version(name) for name in ("torch", "sentence-transformers", "ir-measures")},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    name = named.get("model name", platform.machine())
    return f"{name} (family {named['cpu family']}, model {named['model']})" if "cpu family" in named else name


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):
        return 0


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def record_path(name: str) -> Path:
    """Give `record/<machine>/<date>-<name>`; `LATEWOOD_MACHINE` names the machine, else its processor does."""
    processor = os.environ.get("LATEWOOD_MACHINE") or "-".join(
        part for part in _processor().lower().replace("(", " ").replace(")", " ").replace(",", " ").split() if part
    )
    folder = RECORDS / f"{processor}-{os.cpu_count()}cores"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{datetime.now(tz=UTC):%Y-%m-%d}-{name}"


def write_record(kind: str, content: dict[str, Any]) -> Path:
    """Write the record `<kind>.json`: the command, the machine and the content."""
    path = record_path(f"{kind}.json")
    command = " ".join([Path(sys.argv[0]).name, *(Path(part).name for part in sys.argv[1:])])
    record = {"command": command, "machine": machine(), **content}
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return path


def milliseconds(call: Callable[[int], Any], count: int, *, rounds: int = 3) -> dict[str, float]:
    """Time `call(0)` to `call(count - 1)` one by one, after a warm-up.

    Returns
    -------
    dict
        "mean", "median" and "p95" in milliseconds, each call counted with the fastest of its `rounds`.
    """
    for i in range(min(count, 5) if rounds > 1 else 0):
        call(i)
    best = [float("inf")] * count
    for _ in range(rounds):
        for i in range(count):
            started = time.perf_counter()
            call(i)
            best[i] = min(best[i], time.perf_counter() - started)
    ordered = sorted(1000 * seconds for seconds in best)
    return {
        "mean": round(statistics.fmean(ordered), 4),
        "median": round(statistics.median(ordered), 4),
        "p95": round(ordered[int(0.95 * (count - 1))], 4),
    }


def overlap(found: Sequence[Sequence[int]], exact: NDArray[np.int64], k: int) -> float:
    """Share of the exact top k that was found, on average over the queries."""
    return float(
        np.mean([len(set(row[:k]) & set(best[:k].tolist())) / k for row, best in zip(found, exact, strict=True)])
    )


def folder_size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
