"""Sockets that a service is asked at: a port, or a file.

They listen at once: who is told the address may connect before the first worker is there.
"""

import errno
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from latewood.client.sending import SOCKET
from latewood.errors import StorageError
from latewood.forms.values import path_of

if sys.platform != "win32":
    import fcntl

TURN_SECONDS = 5.0
"""To wait for others that start in the same folder, which takes them no time."""


@contextmanager
def listening(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """Give the socket of a port, and its address.

    Raises
    ------
    StorageError
        It is taken, or is none of this machine's.
    """
    where = f"{host}:{port}"
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.create_server((host, port), family=family)
    except OSError as error:
        raise _refusal(where, error, "choose another address or port") from error
    name = f"[{host}]" if ":" in host else host
    with made:
        yield made, f"http://{name}:{made.getsockname()[1]}"


@contextmanager
def listening_at(path: str | os.PathLike[str], *, for_all: bool) -> Iterator[tuple[socket.socket, str]]:
    """Give the Unix socket at a path, and its address; the file goes with the block.

    Parameters
    ----------
    path : path-like
        A socket that a service which was killed has left there is replaced.
    for_all : bool
        Whether all users may connect, or the one that runs this process alone.

    Raises
    ------
    StorageError
        A service listens there, something else lies there, or no socket can.
    """
    where = Path(path_of(path, "uds")).absolute()
    with closing(socket.socket(socket.AF_UNIX)) as made:
        try:
            with _alone(where.parent):
                _remove_left(where)
                made.bind(str(where))
                # Nobody can connect before it listens.
                where.chmod(0o666 if for_all else 0o600)
                own = _made(where)
                made.listen()
        except OSError as error:
            raise _refusal(str(where), error, "choose another path") from error
        try:
            yield made, f"{SOCKET}{where}"
        finally:
            # Another service may have come in its place.
            with suppress(OSError):
                if _made(where) == own:
                    where.unlink()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let services that start at sockets of a folder do so one after the other.

    One that is not listening yet would look as if it had been killed, and lose its socket to another. The lock is the
    folder's own, so that no file stays, and goes with the process that has it.
    """
    held = os.open(folder, os.O_RDONLY)
    try:
        end = time.monotonic() + TURN_SECONDS
        while not _locked(held):
            if time.monotonic() > end:
                raise OSError(errno.EBUSY, "another program has locked its folder")
            time.sleep(0.01)
        yield
    finally:
        os.close(held)


def _locked(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # Some network file systems lock no folders.
    except OSError:
        pass
    return True


def _made(where: Path) -> tuple[int, int]:
    """Tell a file from another of the same path, which may get its number again."""
    found = where.stat()
    return found.st_ino, found.st_mtime_ns


def _remove_left(where: Path) -> None:
    if where.exists() and stat.S_ISSOCK(where.lstat().st_mode):
        with closing(socket.socket(socket.AF_UNIX)) as asking:
            # Who has too much to do to be asked is there all the same.
            asking.setblocking(False)
            try:
                asking.connect(str(where))
            except ConnectionRefusedError:
                where.unlink()
            except BlockingIOError:
                pass


def _refusal(where: str, error: OSError, remedy: str) -> StorageError:
    reason = (error.strerror or str(error)).partition(" (")[0]
    return StorageError(f"{where} cannot be served at: {reason}; {remedy}")
