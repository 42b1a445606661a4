"""The command."""

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from trials.counts import Attempts, Counts

if TYPE_CHECKING:
    from collections.abc import Callable

FULL = {
    "damage": 4_000,
    "mutations": 10_000,
    "kills": 1_000,
    "writers": 12,
    "handles": 50,
    "forks": 100,
    "interrupts": 22 * 500,
    "requests": 260,
    "soak": 600,
    "outages": 120,
    "clusters": 600,
    "storage": 1_000,
}
"""Trials, and the attempts that a release must stand.

One of `writers` takes 10 seconds, one of `soak` and `outages` a second of load, one of `requests` is 20 of them;
`interrupts` has 22 calls.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the trials; the number of them that found something."""
    parser = argparse.ArgumentParser(
        prog="python -m trials", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="of all trials together")
    parser.add_argument("--full", action="store_true", help="as many attempts as a release must stand, however long")
    parser.add_argument("--only", default=",".join(FULL), help="names of trials, with commas between them")
    parser.add_argument("--seed", default="0", help="of the random choices")
    chosen = parser.parse_args(arguments)
    names = chosen.only.split(",")
    unknown = [name for name in names if name not in FULL]
    if unknown:
        parser.error(f"there is no trial {unknown[0]!r}; there are {', '.join(FULL)}")
    failed = 0
    for name in names:
        counts = Counts()
        limits: dict[str, Any] = {"most": FULL[name]} if chosen.full else {"seconds": 60 * chosen.minutes / len(names)}
        run: Callable[[Counts, Attempts], None] = import_module(f"trials.{name}").run
        run(counts, Attempts(counts, seed=chosen.seed, **limits))
        print(counts.line(name), flush=True)
        print(*(f"    {example}" for example in counts.examples), sep="\n", end="\n" if counts.examples else "")
        failed += counts.wrong.total() > 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
