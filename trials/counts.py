"""What a trial counts, how long it goes on, and where its random choices come from."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

FORBIDDEN = {
    "lost": "a commit that returned is not there, or a call that raised has done something",
    "mixed": "part of a commit is there",
    "silent": "a different answer, or damage that check() does not see",
    "panics": "InternalError, or a process that died",
    "hangs": "no answer within the time limit",
    "unopenable": "an index that does not open, or is not sound, although nobody damaged it",
    "untyped": "an exception that is none of those that are allowed here",
    "memory": "more memory than the files can need",
    "deaf": "a KeyboardInterrupt later than 0.2 s after the signal, or never",
}
"""Each must be 0."""

KEPT = 3
"""Examples that are printed of each kind."""


@dataclass
class Counts:
    """Attempts, what must not happen (with examples), and what is worth knowing."""

    attempts: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def fault(self, kind: str, what: str) -> None:
        """Count something of `FORBIDDEN`."""
        if kind not in FORBIDDEN:
            raise KeyError(kind)
        self.wrong[kind] += 1
        if self.wrong[kind] <= KEPT:
            self.examples.append(f"{kind}: {what}")

    def note(self, what: str, count: int = 1) -> None:
        """Count something that may happen."""
        self.noted[what] += count

    def line(self, name: str) -> str:
        """Give all counts in one line."""
        forbidden = ", ".join(f"{self.wrong[kind]} {kind}" for kind in FORBIDDEN)
        noted = "".join(f", {count} {what}" for what, count in sorted(self.noted.items()))
        return f"{name}: {self.attempts} attempts: {forbidden}{noted}"


class Attempts:
    """Numbers of attempts, until there were enough or the time is up; each with random choices of its own."""

    def __init__(self, counts: Counts, *, seed: str, most: int | None = None, seconds: float | None = None) -> None:
        self._counts = counts
        self._seed = seed
        self._most = most
        self._end = None if seconds is None else time.monotonic() + seconds

    def __iter__(self) -> Iterator[tuple[str, random.Random]]:
        """Give the name of each attempt and its choices, which depend on the seed and the attempt alone."""
        number = 0
        while (self._most is None or number < self._most) and (self._end is None or time.monotonic() < self._end):
            name = f"{self._seed}/{number}"
            self._counts.attempts += 1
            yield name, random.Random(name)
            number += 1
