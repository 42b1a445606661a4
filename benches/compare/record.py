"""The record of a run: one CSV file, commented at its head with the machine, the versions and the vectors."""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One arm at one size of the candidates and one number of threads; None where there is nothing to tell.

    Attributes
    ----------
    kind : str
        "exact" or "approximate" as measured in this run, on this machine; or "search", restricted to the candidates.
    ms, ms_p10, ms_p90 : float
        Milliseconds for a query: median, and the tenth and ninetieth of a hundred.
    ns_per_token : float
        Nanoseconds for a token of the candidates, median.
    overlap_10, spearman, max_error, answered : float
        As in `workload.Agreement`.
    build_seconds : float
        For the whole index, on all cores.
    note : str
        Why there is no figure.
    """

    threads: int
    candidates: int
    arm: str
    package: str
    version: str | None
    kind: str = ""
    ms: float | None = None
    ms_p10: float | None = None
    ms_p90: float | None = None
    ns_per_token: float | None = None
    overlap_10: float | None = None
    spearman: float | None = None
    max_error: float | None = None
    answered: float | None = None
    build_seconds: float | None = None
    note: str = ""


def package_version(package: str) -> str | None:
    """Version of an installed distribution."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def write(path: Path, rows: Sequence[Row], head: dict[str, Any]) -> None:
    """Write the rows under lines of `# key: JSON`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for key, value in {"command": " ".join(["compare", *sys.argv[1:]]), **head}.items():
            file.write(f"# {key}: {json.dumps(value)}\n")
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
