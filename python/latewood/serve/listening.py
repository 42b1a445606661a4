"""Sockets that a service is asked at: a port, or a file."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from latewood.client.sending import SOCKET
from latewood.errors import StorageError
from latewood.forms.values import path_of


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
            _remove_left(where)
            made.bind(str(where))
            # Nobody can connect before it listens.
            where.chmod(0o666 if for_all else 0o600)
            own = _made(where)
        except OSError as error:
            raise _refusal(str(where), error, "choose another path") from error
        try:
            yield made, f"{SOCKET}{where}"
        finally:
            # Another service may have come in its place.
            with suppress(OSError):
                if _made(where) == own:
                    where.unlink()


def _made(where: Path) -> tuple[int, int]:
    """Tell a file from another of the same path, which may get its number again."""
    found = where.stat()
    return found.st_ino, found.st_mtime_ns


def _remove_left(where: Path) -> None:
    if where.exists() and stat.S_ISSOCK(where.lstat().st_mode):
        with closing(socket.socket(socket.AF_UNIX)) as asking:
            try:
                asking.connect(str(where))
            except ConnectionRefusedError:
                where.unlink()


def _refusal(where: str, error: OSError, remedy: str) -> StorageError:
    reason = (error.strerror or str(error)).partition(" (")[0]
    return StorageError(f"{where} cannot be served at: {reason}; {remedy}")
