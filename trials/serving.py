"""A service in a process of its own, as users start it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.request import urlopen

START = "import sys; from latewood.cli import main; sys.exit(main())"


class Service:
    """`latewood serve` on a free port; ended with the block.

    Parameters
    ----------
    indexes : mapping of str to path
    arguments : str
        Further ones of the command.
    environment : mapping, optional
    port : int
        0 for any that is free.
    log
        Where its log goes, as for `subprocess`.
    """

    def __init__(
        self,
        indexes: Mapping[str, Path | str] | None = None,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        port: int = 0,
        log: IO[bytes] | int = subprocess.DEVNULL,
    ) -> None:
        named = [f"{name}={path}" for name, path in (indexes or {}).items()]
        at = [] if "--uds" in arguments else ["--port", str(port)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, "serve", *named, *at, "--json", *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # Its workers are ended with it, however it ends.
            start_new_session=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the service has ended with {self.process.wait()}"
        self.url: str = json.loads(line)["address"]
        # A socket is asked by who knows how.
        if self.url.startswith("http"):
            with urlopen(f"{self.url}/healthz", timeout=60):
                pass

    @property
    def port(self) -> int:
        """Where it is asked."""
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """End it at once, and all its workers."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end, and give its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.returncode

    def __enter__(self) -> Self:
        """Give the service."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        self.stop()
