"""A process that opens damaged indexes for another, which outlives its end and gives up on it after some seconds."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from latewood import Index
from trials.bases import Base
from trials.questions import Answer, answer, interrogate

ROOT = Path(__file__).parent.parent
LIMIT = 30.0
"""Seconds for one order: a hundred times what it takes."""


class PatientDiedError(Exception):
    """The process did not answer; `hung` tells whether it had to be ended."""

    def __init__(self, message: str, *, hung: bool) -> None:
        super().__init__(message)
        self.hung = hung


class Patient:
    """The process, started when it is needed. `room` bounds its address space in bytes."""

    def __init__(self, room: int | None = None) -> None:
        self._room = room
        self._process: subprocess.Popen[str] | None = None

    def order(self, **order: Any) -> Any:
        """Send an order, and give the answer; `PatientDiedError` if there is none."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise self._dead() from None
        if not select.select([process.stdout], [], [], LIMIT)[0]:
            self.close()
            message = f"no answer in {LIMIT} s"
            raise PatientDiedError(message, hung=True)
        line = process.stdout.readline()
        if not line:
            raise self._dead()
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the process."""
        self.close()

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "trials.patient", str(self._room or 0)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self._process

    def _dead(self) -> PatientDiedError:
        assert self._process is not None
        code = self._process.wait()
        self.close()
        return PatientDiedError(f"it died with exit status {code}", hung=False)


def _serve(orders: Any, say: Callable[[Any], None]) -> None:
    held: Index | None = None
    for line in orders:
        order = json.loads(line)
        base = Base(Path(order["base"]))
        if order["do"] == "hold":
            # Opened now, before somebody damages the files, and asked at the next order.
            held = Index.open(order["index"], mmap=order["mmap"])
            if order["touch"]:
                interrogate(partial(_same, held), base, write=False)
            say({})
            continue
        if order.get("held") and held is not None:
            opening = partial(_same, held)
        else:
            opening = partial(Index.open, order["index"], mmap=order["mmap"])
        held = None
        answers: dict[str, Answer] = interrogate(opening, base, write=True)
        if "error" in answers["open"]:
            # What a user tries then.
            answers["recover"] = answer(partial(_recover, order["index"]))
        say({"answers": answers, "memory": _peak_memory()})


def _same(index: Index) -> Index:
    return index


def _recover(path: str) -> None:
    Index.recover(path).ids()


def _peak_memory() -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def main() -> None:
    """Answer orders, one a line, until there are no more."""
    import resource

    room = int(sys.argv[1])
    if room:
        resource.setrlimit(resource.RLIMIT_AS, (room, room))

    def say(value: Any) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    _serve(sys.stdin, say)
    os._exit(0)


if __name__ == "__main__":
    main()
