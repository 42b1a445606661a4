"""The frontier: how much of the exact top 10 and top 100 a search finds, against its milliseconds, for every system.

    python benches/frontier.py                                   latewood, and the rivals that are installed
    python benches/frontier.py --arms latewood --queries 50      one system, fewer queries
    python benches/frontier.py --vectors FOLDER                  other vectors (benches/vectors.py)
    python benches/frontier.py --tokens 60_000_000 --queries 40  latewood, the documents resampled to so many tokens

A line is a way to search one index, a point on it a setting of its knobs; the default is drawn larger. Indexes are
built once, on all cores, and kept in `--scratch`. Each system lives in a process of its own, and they take turns; a
query's time is the fastest of the rounds. On one thread queries come one by one; on more, all at once by the system's
own call. Found is what exact float32 MaxSim of all documents finds too; of resampled documents, what latewood finds
when it scores all of them on its codes. The exact top 100 is kept beside the vectors.
"""

import argparse
import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import folder_size, machine, overlap, write_record
from compare import lines
from compare.arm import FloatArray, Found, System
from compare.arms import SYSTEMS
from compare.child import ArmError, Child, Searched, available_cores
from compare.record import package_version
from latewood import maxsim
from resampled import Source
from vectors import folder

TOP = 100
"""Hits of the truth."""
MILLISECONDS = 1e3


@dataclass(frozen=True, slots=True)
class Point:
    """One setting of one line, on so many threads and for so many hits.

    Attributes
    ----------
    ms, ms_median, ms_p95 : float, optional
        Milliseconds for a query by the clock: mean, median, and the ninety-fifth of a hundred.
    cpu_ms : float, optional
        Milliseconds of all processors for a query.
    overlap : float, optional
        Share of the true top k that is found.
    note : str
        Why there is no figure.
    """

    system: str
    line: str
    setting: dict[str, Any]
    threads: int
    k: int
    ms: float | None = None
    ms_median: float | None = None
    ms_p95: float | None = None
    cpu_ms: float | None = None
    overlap: float | None = None
    note: str = ""

    @property
    def default(self) -> bool:
        """Whether no knob was turned."""
        return not self.setting.keys() - {"gather"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, help="folder of the vectors, instead of LATEWOOD_BENCH_VECTORS")
    parser.add_argument("--tokens", type=int, help="resample the documents to so many token vectors")
    parser.add_argument("--scratch", type=Path, help="folder of the indexes, by default one beside the vectors")
    parser.add_argument("--arms", nargs="+", default=[""], help="only those whose label contains one of these words")
    parser.add_argument("--queries", type=int, default=150)
    parser.add_argument("--k", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20, help="no further round of a setting that took as long")
    parser.add_argument("--build-limit", type=float, default=1800, help="seconds that a build may take")
    parser.add_argument("--no-record", action="store_true", help="print, and draw into the scratch folder, only")
    options = parser.parse_args()
    if options.vectors:
        os.environ["LATEWOOD_BENCH_VECTORS"] = str(options.vectors)
    source = Source(folder(), options.tokens)
    queries = source.queries(options.queries)
    scratch = options.scratch or folder() / f"frontier-{options.tokens or 'all'}"
    # Of resampled documents the truth is what latewood's codes say, to which nobody else is to be held.
    known = SYSTEMS if options.tokens is None else SYSTEMS[:1]
    systems = [system for system in known if any(word in system.label for word in options.arms)]
    built = {system.label: build(system, source, scratch, options.build_limit) for system in systems}
    head = {"machine": machine(), "vectors": {**source.describe(), "queries": len(queries)}, "built": built}
    print(f"{head['vectors']}\n")
    truth = exact_on_codes(scratch, queries) if options.tokens else exact(source, queries)
    points: list[Point] = []
    for threads in options.threads:
        if threads > len(available_cores()):
            print(f"there is no core number {threads}: that part is left out")
            continue
        bench = Bench([system for system in systems if "seconds" in built[system.label]], scratch, threads)
        for k in options.k:
            found = bench.measure(queries, truth, k, options.rounds, options.seconds)
            table(found)
            points += found
        bench.close()
    picture = scratch / "frontier.png"
    if not options.no_record:
        content = {**head, "truth": "codes" if options.tokens else "float32", "points": [asdict(p) for p in points]}
        path = write_record(f"frontier-{round(head['vectors']['tokens'] / 1e6)}m", content)
        picture = path.with_suffix(".png")
        print(f"\nwritten: {path}")
    lines.draw(picture, points, head)
    print(f"drawn: {picture}")


def build(system: System, source: Source, scratch: Path, limit: float) -> dict[str, Any]:
    """Build an index that is not there yet; give its seconds and bytes, or why there is none."""
    index, told = scratch / system.folder, scratch / f"{system.folder}.json"
    if told.is_file() and index.is_dir():
        return json.loads(told.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    scratch.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(index, ignore_errors=True)
    child = Child(system, scratch, len(available_cores()), limit)
    version = package_version(system.package)
    try:
        seconds = child.ask("build", source)
    except ArmError as error:
        shutil.rmtree(index, ignore_errors=True)
        print(f"not built: {system.label}, {error}", flush=True)
        return {"version": version, "note": str(error)}
    finally:
        child.close()
    size = folder_size(index)
    built = {
        "version": version,
        "seconds": round(seconds, 1),
        "bytes_per_token": round(size / source.describe()["tokens"], 1),
    }
    told.write_text(json.dumps(built), encoding="utf-8")
    print(f"built: {system.label}, {built}", flush=True)
    return built


def exact(source: Source, queries: list[FloatArray]) -> NDArray[np.int64]:
    """Give the exact top 100 of the folder's documents, kept there for the next time."""
    path, values = source.folder / f"exact_{len(queries)}.npz", source.folder / "values.npy"
    if not path.is_file() or path.stat().st_mtime < values.stat().st_mtime:
        print(f"exact MaxSim of {len(queries)} queries", flush=True)
        ids = np.zeros((len(queries), 0), np.int64)
        scores = np.zeros((len(queries), 0), np.float32)
        start = 0
        for block in source.blocks():
            ids = np.hstack([ids, np.broadcast_to(np.arange(start, start + len(block)), (len(queries), len(block)))])
            scores = np.hstack([scores, maxsim(queries, block)])
            best = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
            ids, scores = np.take_along_axis(ids, best, 1), np.take_along_axis(scores, best, 1)
            start += len(block)
        np.savez(path, ids=ids, scores=scores)
    kept: NDArray[np.int64] = np.load(path)["ids"]
    return kept


def exact_on_codes(scratch: Path, queries: list[FloatArray]) -> NDArray[np.int64]:
    """Give the top 100 by the codes of latewood's plain index, every document scored."""
    child = Child(SYSTEMS[0], scratch, len(available_cores()))
    child.ask("open")
    searched: Searched = child.ask("search", queries, TOP, {"gather": "exact"})
    child.close()
    return np.stack([ids for ids, _ in searched.found])


class Bench:
    """All systems, open, with one number of threads."""

    def __init__(self, systems: list[System], scratch: Path, threads: int) -> None:
        self.threads = threads
        self.systems = systems
        self.children = {system.label: Child(system, scratch, threads) for system in systems}
        self.notes: dict[str, str] = {}
        for system in systems:
            self.ask(system, system.label, "open")

    def ask(self, system: System, part: str, request: str, *arguments: Any) -> Any:
        """Ask a system; where it fails, note why for that part of its work, and give nothing."""
        try:
            return self.children[system.label].ask(request, *arguments)
        except ArmError as error:
            self.notes[part] = str(error)
            return None

    def measure(
        self, queries: list[FloatArray], truth: NDArray[np.int64], k: int, rounds: int, seconds: float
    ) -> list[Point]:
        """Let the systems take turns, in an order drawn anew each round."""
        settings = [
            (system, line, setting)
            for system in self.systems
            for line, some in system.lines.items()
            for setting in some
        ]
        turns: list[list[Searched]] = [[] for _ in settings]
        order = np.random.default_rng(0)
        for system in self.systems:
            self.ask(system, system.label, "search", queries[:5], k, {})
        for number in range(rounds):
            for place in order.permutation(len(self.systems)):
                for (system, line, setting), taken in zip(settings, turns, strict=True):
                    if system is not self.systems[place] or sum(sum(turn.seconds) for turn in taken) > seconds:
                        continue
                    part = f"{system.label} {line}"
                    if not {system.label, part} & self.notes.keys():
                        searched = self.ask(system, part, "search", queries, k, setting)
                        taken += [searched] if searched else []
                print(f"threads {self.threads}, k {k}, round {number + 1}: {self.systems[place].label}", flush=True)
        return [self.point(*setting, k, taken, truth) for setting, taken in zip(settings, turns, strict=True)]

    def point(
        self,
        system: System,
        line: str,
        setting: Any,
        k: int,
        turns: list[Searched],
        truth: NDArray[np.int64],
    ) -> Point:
        """Sum up the turns of one setting, whose hits are the same each time."""
        point = Point(system.label, line, dict(setting), self.threads, k)
        note = self.notes.get(system.label) or self.notes.get(f"{system.label} {line}")
        if note:
            return replace(point, note=note)
        wrong = next((flaw for turn in turns for flaw in map(flaw_of, turn.found) if flaw), None)
        if wrong and system.package == "latewood":
            message = f"{system.label}, {line}, {setting}: {wrong}"
            raise AssertionError(message)
        if wrong:
            return replace(point, note=f"void: {wrong}")
        best = np.min([turn.seconds for turn in turns], axis=0) * MILLISECONDS
        return replace(
            point,
            ms=round(float(best.mean()), 4),
            ms_median=round(float(np.median(best)), 4),
            ms_p95=round(float(np.quantile(best, 0.95)), 4),
            cpu_ms=round(min(turn.processor for turn in turns) * MILLISECONDS, 4),
            overlap=round(overlap([ids.tolist() for ids, _ in turns[0].found], truth, k), 4),
        )

    def close(self) -> None:
        """End the children."""
        for child in self.children.values():
            child.close()


def flaw_of(hits: Found) -> str | None:
    """Say what is wrong with the hits of a query."""
    ids, scores = hits
    if len(np.unique(ids)) < len(ids):
        return "a document is found twice"
    return "the scores rise" if (np.diff(scores) > 0).any() else None


def table(points: list[Point]) -> None:
    """Print the points of one number of threads and hits."""
    k = points[0].k
    threads = f"threads {points[0].threads}"
    print(f"\n| {threads:<18} | line     | {'setting':<48} | {'ms':>8} | {'cpu ms':>8} | found@{k} |")
    print(f"|{'-' * 20}|----------|{'-' * 50}|---------:|---------:|---------:|")
    for point in points:
        setting = ", ".join(f"{name} {value}" for name, value in point.setting.items() if name != "gather")
        figures = point.note if point.ms is None else f"{point.ms:8.3f} | {point.cpu_ms:8.3f} | {point.overlap:8.4f}"
        print(f"| {point.system:<18} | {point.line:<8} | {setting or 'default':<48} | {figures} |", flush=True)
    print()


if __name__ == "__main__":
    main()
