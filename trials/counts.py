"""What a trial counts, how long it goes on, and where its random choices come from."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

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

KEPT = 30
"""Examples that are kept."""


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
        if len(self.examples) < KEPT:
            self.examples.append(f"{kind}: {what}")

    def note(self, what: str, count: int = 1) -> None:
        """Count something that may happen."""
        self.noted[what] += count

    def add(self, taken: dict[str, Any]) -> None:
        """Add what another process has counted."""
        self.attempts += taken["attempts"]
        self.noted.update(taken["noted"])
        for kind, count in taken["wrong"].items():
            self.wrong[kind] += count
        self.examples += taken["examples"]

    def take(self) -> dict[str, Any]:
        """Give what was counted since the last time, for another process."""
        taken = {
            "attempts": self.attempts,
            "wrong": dict(self.wrong),
            "noted": dict(self.noted),
            "examples": list(self.examples),
        }
        self.attempts = 0
        self.wrong.clear()
        self.noted.clear()
        self.examples.clear()
        return taken

    def line(self, name: str) -> str:
        """Give all counts in one line."""
        forbidden = ", ".join(f"{self.wrong[kind]} {kind}" for kind in FORBIDDEN)
        noted = "".join(f", {count} {what}" for what, count in sorted(self.noted.items()))
        return f"{name}: {self.attempts} attempts: {forbidden}{noted}"


class Attempts:
    """Numbers of attempts, until there were enough or the time is up; each with random choices of its own."""

    def __init__(
        self,
        counts: Counts,
        *,
        seed: str,
        most: int | None = None,
        seconds: float | None = None,
        start: int = 0,
        tell: Callable[[Counts, int], None] | None = None,
    ) -> None:
        self._counts = counts
        self._seed = seed
        self._most = most
        # The system's clock, which is one for a process and its children.
        self._end = None if seconds is None else time.monotonic() + seconds
        self._start = start
        self._tell = tell

    def __iter__(self) -> Iterator[tuple[str, random.Random]]:
        """Give the name of each attempt and its choices, which depend on the seed and the attempt alone."""
        number = self._start
        while self.go_on(number):
            name = self.name(number)
            self._counts.attempts += 1
            yield name, random.Random(name)
            number += 1
            if self._tell is not None:
                self._tell(self._counts, number)

    def go_on(self, number: int) -> bool:
        """Whether this attempt is to be made."""
        return (self._most is None or number < self._most) and (self._end is None or time.monotonic() < self._end)

    def name(self, number: int) -> str:
        """Seed and number."""
        return f"{self._seed}/{number}"

    def describe(self, start: int) -> str:
        """Describe the attempts from the one of this number on, for another process."""
        seconds = None if self._end is None else self._end - time.monotonic()
        return json.dumps({"seed": self._seed, "most": self._most, "seconds": seconds, "start": start})

    @classmethod
    def described(cls, counts: Counts, description: str, tell: Callable[[Counts, int], None]) -> "Attempts":
        """Make attempts from their description."""
        return cls(counts, tell=tell, **json.loads(description))
