"""A trial in a process of its own: one that takes signals, forks or may hang must not take the others with it."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from trials.counts import Attempts, Counts

ROOT = Path(__file__).parent.parent


def child_of(counts: Counts, attempts: Attempts, module: str, *arguments: str, limit: float) -> None:
    """Run `module` with its attempts, and add what it counts; it must count something every `limit` seconds.

    A process that ends early or hangs is a fault, and is started again with what is left to try.
    """
    start = 0
    while attempts.go_on(start):
        process = subprocess.Popen(
            [sys.executable, "-m", module, attempts.describe(start), *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        while select.select([process.stdout], [], [], limit)[0]:
            line = process.stdout.readline()
            if not line:
                break
            told = json.loads(line)
            start = told.pop("done")
            counts.add(told)
        else:
            process.kill()
            counts.fault("hangs", f"{module}: nothing from attempt {attempts.name(start)} in {limit} s")
        _, errors = process.communicate()
        if process.returncode == 0:
            return
        if process.returncode > 0:
            # The trial itself is at fault.
            raise RuntimeError(errors)
        if process.returncode != -signal.SIGKILL:
            counts.fault("panics", f"{module}: ended by signal {-process.returncode} at {attempts.name(start)}")
        start += 1


def serve(play: Callable[[Counts, Attempts], None]) -> None:
    """Play the attempts that `child_of` has described, telling what is counted after each."""

    def tell(counts: Counts, done: int) -> None:
        sys.stdout.write(json.dumps({**counts.take(), "done": done}) + "\n")
        sys.stdout.flush()

    counts = Counts()
    play(counts, Attempts.described(counts, sys.argv[1], tell))
    os._exit(0)
