"""Object storage by the package obstore: a few operations, and errors without secrets."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from threading import Event, Thread
from typing import Any, TypeVar

from latewood.common.packages import import_optional
from latewood.errors import InvalidInputError, StorageError
from latewood.forms.values import shown, text_of

SCHEMES = ("s3://", "s3a://", "gs://", "az://", "abfs://", "abfss://", "file://")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
"""How one begins, of any scheme; a single letter is a drive of Windows."""
CHUNK_BYTES = 4 << 20
PART_BYTES, MOST_PARTS = 8 << 20, 9_000
"""Of an upload in parts: S3 takes parts of 5 MiB at least, and 10,000 of them."""
TIMEOUT = timedelta(seconds=60)
"""For one request, and for a part of an answer."""
RETRIES = 5
METADATA = "169.254.169.254"
"""Where machines of a cloud ask for keys when they have none."""
ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "GOOGLE_BASE_URL")
R = TypeVar("R")
_USERS: set[int] = set()
"""Processes that have used object storage: this one, and after a fork the one that it came from."""


def is_url(path: object) -> bool:
    """Whether a path is an address; no folder is made of one that leads nowhere, such as "S3://bucket/news"."""
    return isinstance(path, str) and _ADDRESS.match(path) is not None


class Store:
    """What lies under an address.

    Parameters
    ----------
    url : str
        `s3://bucket/news`, `gs://bucket/news`, `az://container/news` or `file:///folder/news`. Who may do what there is
        the environment's to say, as obstore reads it: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`,
        `AZURE_STORAGE_ACCOUNT_NAME` and the like.

    Raises
    ------
    InvalidInputError
        Another address.
    MissingDependencyError
        obstore is not installed (extra `cloud`).
    """

    def __init__(self, url: str) -> None:
        self.url = text_of(url, "url").rstrip("/")
        if "?" in self.url or "#" in self.url or "@" in self.url:
            message = "the address of a store has no '?', '#' or '@'; keys and tokens come from the environment"
            raise InvalidInputError(message)
        if not self.url.startswith(SCHEMES) or len(self.url.partition("://")[2]) < 1:
            message = f"{shown(url)} is no address in object storage; they begin with {', '.join(SCHEMES)}"
            raise InvalidInputError(message)
        self._obstore: Any = import_optional("obstore", extra="cloud", purpose="object storage")
        # An address without encryption is one's own server, which the environment names.
        plain = any(os.environ.get(name, "").startswith("http://") for name in ENDPOINTS)
        client = {"timeout": TIMEOUT, "read_timeout": TIMEOUT, "allow_http": plain}
        options: dict[str, Any] = {"client_options": client}
        if self.url.startswith("file://"):
            options = {"mkdir": True}
        else:
            options["retry_config"] = {"max_retries": RETRIES, "retry_timeout": timedelta(minutes=3)}
        try:
            self._store: Any = self._obstore.store.from_url(self.url, **options)
        except Exception as error:
            message = f"{self.url} cannot be used: {_told(error)}"
            raise InvalidInputError(message) from error

    def names(self, folder: str) -> dict[str, tuple[int, datetime]]:
        """Give names, sizes and times of all objects in a folder."""
        found: dict[str, tuple[int, datetime]] = {}

        def look() -> None:
            for batch in self._obstore.list(self._store, prefix=folder):
                for one in batch:
                    found[one["path"].removeprefix(f"{folder}/")] = (one["size"], one["last_modified"])

        self._do(look, folder, "listed")
        return found

    def read(self, name: str, most: int) -> bytes | None:
        """Give a small object, of so many bytes at most; None if it is not there."""

        def get() -> bytes:
            found = self._obstore.get(self._store, name)
            if found.meta["size"] > most:
                message = f"it has {found.meta['size']} bytes, and {most} are the most"
                raise ValueError(message)
            return bytes(found.bytes())

        try:
            return self._do(get, name, "read")
        except FileNotFoundError:
            return None

    def create(self, name: str, content: bytes) -> bool:
        """Put a small object where none is; False if one is there. Of several who do so, one succeeds."""

        def put() -> bool:
            try:
                self._obstore.put(self._store, name, content, mode="create", use_multipart=False)
            except self._obstore.exceptions.AlreadyExistsError:
                return False
            return True

        return self._do(put, name, "written")

    def upload(self, name: str, parts: Iterator[bytes], size: int) -> None:
        """Put a large object of so many bytes; it is there as a whole or not at all."""
        stopped = Event()

        def going() -> Iterator[bytes]:
            for part in parts:
                # An upload whose caller was interrupted ends too, and leaves nothing.
                if stopped.is_set():
                    raise InterruptedError
                yield part

        large = size > PART_BYTES
        each = max(PART_BYTES, size // MOST_PARTS)
        put = partial(self._obstore.put, self._store, name, use_multipart=large, chunk_size=each)
        try:
            self._do(lambda: put(going()), name, "written")
        except BaseException:
            stopped.set()
            raise

    def parts(self, name: str, start: int) -> Iterator[bytes]:
        """Give the bytes of an object from `start` on, part by part."""
        options = {"range": {"offset": start}} if start else None
        stream = iter(
            self._do(lambda: self._obstore.get(self._store, name, options=options), name, "read").stream(CHUNK_BYTES)
        )
        while True:
            part = self._do(lambda: next(stream, None), name, "read")
            if part is None:
                return
            yield bytes(part)

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there are no error."""
        for name in names:
            with suppress(FileNotFoundError):
                self._do(partial(self._obstore.delete, self._store, name), name, "removed")

    def _do(self, work: Callable[[], R], name: str, done: str) -> R:
        """Do work on the network and tell in one line what went wrong."""
        try:
            return _heard(work)
        except (self._obstore.exceptions.NotFoundError, FileNotFoundError) as error:
            message = f"{self.url}/{name} is not there"
            raise FileNotFoundError(message) from error
        except StorageError:
            raise
        # Stores fail in many ways; obstore's errors are exceptions of its own, of Python or of a layer below.
        except Exception as error:
            message = f"{self.url}/{name} cannot be {done}: {_told(error)}; try again, or see that the store is there"
            raise StorageError(message) from error


def _heard(work: Callable[[], R]) -> R:
    """Do work in a thread of its own, since obstore does not hear Ctrl-C while it waits for an answer."""
    _USERS.add(os.getpid())
    if len(_USERS) > 1:
        message = (
            "obstore cannot go on in a process that was forked from one that has used it; spawn processes, or use "
            "object storage only after the fork"
        )
        raise StorageError(message)
    done: Future[R] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        # Whatever it is, it is the caller's.
        except BaseException as error:  # noqa: BLE001
            done.set_exception(_of_panic(error) if type(error).__name__ == "PanicException" else error)

    Thread(target=run, daemon=True).start()
    return done.result()


def _of_panic(error: BaseException) -> Exception:
    """Give an error for a panic, which is no `Exception`: obstore ends so where it can make no request of settings."""
    return ValueError(f"keys, region or endpoint are none ({error}); an endpoint begins with http:// or https://")


def _told(error: Exception) -> str:
    """Give the first line of an error, without what stands behind `?` in addresses: it may be signed."""
    text = str(error).strip() or type(error).__name__
    line = re.sub(r"\?\S*", "", text.splitlines()[0])[:300]
    # What S3 itself says, such as AccessDenied or NoSuchBucket, stands in what follows.
    code = re.search(r"<Code>(\w+)</Code>", text)
    if code is not None:
        return f"{code[1]}: {line}"
    return f"no keys are in the environment, and this machine gives none: {line}" if METADATA in line else line
