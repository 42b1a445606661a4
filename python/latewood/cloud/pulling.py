"""A generation in object storage → a folder on this machine, which is an index like any other."""

import hashlib
import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from weakref import finalize

from latewood.cloud.generations import NAME, File, Generation, Kind, checksum, described, newest
from latewood.cloud.store import Store
from latewood.common.files import CACHE, at_home, cache_folder
from latewood.common.progress import progress_bar
from latewood.errors import CorruptIndexError, IndexNotFoundError, InvalidInputError, LatewoodError, StorageError

if sys.platform != "win32":
    import fcntl

CACHE_BYTES = "LATEWOOD_CACHE_BYTES"
"""The environment variable that says how much of pulled indexes may lie in the cache."""
DEFAULT_BYTES = 50 << 30
IN_USE, PULLING = ".in-use", ".pulling"
"""Locked by who reads an index of the cache, and by who pulls into it."""
KEY, REMOVED = re.compile(r"[0-9a-f]{32}"), ".removed-"
"""Names in the cache: of an index, and of one that is being removed."""
R = TypeVar("R")
TRIES = 3
"""How often a file is asked for again that did not come as it should."""


def is_pulled(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is one of a cache, which follows what is published; a copy of it has a name of its own."""
    path = Path(folder).resolve()
    return KEY.fullmatch(path.name) is not None and (path / IN_USE).exists()


def refuse_pulled(folder: str | os.PathLike[str]) -> None:
    """Refuse to change what the next pull would change back."""
    if is_pulled(folder):
        message = (
            f"{os.fspath(folder)!r} was brought from object storage, for reading: change what it was published from, "
            "publish that and pull again, or change a copy of the folder under another name"
        )
        raise InvalidInputError(message)


class Pulled:
    """An index or a cluster that is followed from object storage.

    Parameters
    ----------
    url : str
    kind : Kind
    cache : path-like, optional
        A folder for pulled indexes; by default that of `LATEWOOD_CACHE`, else `~/.cache/latewood`.
    """

    def __init__(self, url: str, kind: Kind, cache: str | os.PathLike[str] | None = None) -> None:
        if sys.platform == "win32":
            message = "what is pulled needs locks of files as POSIX has them; this system has none"
            raise InvalidInputError(message)
        self.store = Store(url)
        self._kind = kind
        # Absolute, so that `refresh` finds it from wherever it is called.
        self.root = at_home(cache).absolute() if cache else cache_folder()
        self.folder = self.root / hashlib.sha256(self.store.url.encode()).hexdigest()[:32]
        self._here: Generation | None = None
        try:
            # As long as this object lives, nobody removes the folder.
            self._let_go = finalize(self, os.close, _lease(self.folder))
        except OSError as error:
            message = f"{self.folder} cannot keep what is pulled: {error.strerror}; set {CACHE} to a folder"
            raise StorageError(message) from error

    def close(self) -> None:
        """Let the folder go: it may be removed when there is need of room."""
        self._let_go()

    def pull(
        self,
        then: Callable[[], R],
        number: int | None = None,
        *,
        folders: Collection[str] | None = None,
        show_progress: bool | None = False,
    ) -> R:
        """Bring the newest generation, or another one, into the folder, and give what `then` makes of it.

        Files that are there already are not fetched again, and those that came in part go on where they ended. Each is
        compared with its checksum before it gets its name, and the manifest comes last. What belongs to another
        generation is removed before `then`, unless that is newer than the one that is asked for, and until `then` has
        returned, nobody else removes anything. Of a cluster, `folders` says of which indexes files are to come; by
        default all do.

        Raises
        ------
        InvalidInputError
            Nothing is published there, or not this generation.
        CorruptIndexError
            What came is not what was published.
        StorageError
            It cannot be fetched, or not be written here.
        """
        return self._pull(self._wanted(number), then, number is None, folders, show_progress)

    def follow(
        self,
        then: Callable[[], R],
        late: R,
        *,
        folders: Collection[str] | None = None,
        show_progress: bool | None = False,
    ) -> R:
        """Do as `pull`; give `late` where the store's list is late, and tells of a generation before what is here."""
        wanted, here = self._wanted(None), self._here
        if here is not None and wanted.index == here.index and wanted.generation < here.generation:
            return late
        return self._pull(wanted, then, True, folders, show_progress)

    def check(self, look: Callable[[], list[str]]) -> list[str]:
        """Give what `look` finds wrong in the folder; what somebody else's pull is just removing is not missing."""
        with suppress(CorruptIndexError, IndexNotFoundError):
            if not look():
                return []
        # Long as it may take, nobody is kept from pulling where all is well.
        with self._locked():
            return look()

    def _wanted(self, number: int | None) -> Generation:
        if self._here is not None and number == self._here.generation:
            return self._here
        wanted = newest(self.store) if number is None else described(self.store, number)
        if wanted is None:
            message = f"nothing is published at {self.store.url}; {self._kind.published_by} does that"
            raise InvalidInputError(message)
        if wanted.kind != self._kind:
            message = f"what {self.store.url} holds is no {self._kind.name}; open it with {wanted.kind.opened_by}"
            raise InvalidInputError(message)
        return wanted

    def _pull(
        self,
        wanted: Generation,
        then: Callable[[], R],
        newest: bool,
        folders: Collection[str] | None,
        show_progress: bool | None,
    ) -> R:
        files = [file for file in wanted.files if folders is None or file.folder in folders or file is wanted.files[-1]]
        with self._locked():
            missing = [file for file in files if not self._is_here(file)]
            if missing:
                self._make_room(sum(file.bytes for file in missing))
            with progress_bar(
                sum(file.bytes for file in missing), "Pulling", show_progress=show_progress, unit="B"
            ) as bar:
                for file in missing:
                    self._fetch(file, bar.update)
            if newest or not self._has_newer(wanted):
                self._forget(wanted)
            try:
                made = then()
            except CorruptIndexError:
                # What has come whole, and was damaged here since.
                damaged = [file for file in files if checksum(self.folder / file.name) != file.sha256]
                if not damaged:
                    raise
                for file in damaged:
                    self._fetch(file, lambda _: None)
                made = then()
        self._here = wanted
        return made

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep others from changing the folder; what the system says is told as the library tells it."""
        try:
            with (self.folder / PULLING).open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                os.utime(self.folder / IN_USE)
                yield
        except OSError as error:
            if isinstance(error, LatewoodError):
                raise
            message = (
                f"{self.folder} cannot be written to: {error.strerror or error}; mend that and open the index again"
            )
            raise StorageError(message) from error

    def _is_here(self, file: File) -> bool:
        path = self.folder / file.name
        if not path.is_file() or path.stat().st_size != file.bytes:
            return False
        # Whoever makes another index at this address gives no other file a name that has been.
        return not file.is_manifest or checksum(path) == file.sha256

    def _fetch(self, file: File, tell: Callable[[int], object]) -> None:
        for tries in range(TRIES):
            part = self.folder / f".{file.sha256}.part"
            try:
                if self._came(file, part, tell):
                    (self.folder / file.name).parent.mkdir(parents=True, exist_ok=True)
                    part.rename(self.folder / file.name)
                    return
            except FileNotFoundError as error:
                message = f"{error}: the generation that names it is not whole, or was cleaned away; pull again"
                raise CorruptIndexError(message) from error
            except StorageError:
                # What came is kept, and the next try goes on from there.
                if tries == TRIES - 1:
                    raise
            else:
                part.unlink(missing_ok=True)
        message = f"{self.store.url}/{file.object} is not what its name says, {TRIES} times; publish it with repair"
        raise CorruptIndexError(message)

    def _came(self, file: File, part: Path, tell: Callable[[int], object]) -> bool:
        """Fetch what is missing of a part; whether the whole is right then."""
        found = hashlib.sha256()
        with part.open("a+b") as target:
            target.seek(0)
            while known := target.read(1 << 20):
                found.update(known)
            size = target.tell()
            if size > file.bytes:
                return False
            if size < file.bytes:
                for piece in self.store.parts(file.object, size):
                    size += len(piece)
                    if size > file.bytes:
                        return False
                    found.update(piece)
                    target.write(piece)
                    tell(len(piece))
            target.flush()
            os.fsync(target.fileno())
        if size < file.bytes:
            message = f"{self.store.url}/{file.object} ended after {size} of {file.bytes} bytes"
            raise StorageError(message)
        return found.hexdigest() == file.sha256

    def _has_newer(self, wanted: Generation) -> bool:
        """Whether the manifest of a later generation is here; their names sort as their numbers do."""
        manifest = wanted.files[-1].name
        beside = self.folder.glob(f"{manifest.partition('-')[0]}-*")
        return any(path.name > manifest and NAME.fullmatch(path.name) for path in beside)

    def _forget(self, wanted: Generation) -> None:
        """Remove files of other generations. Readers keep what they have open, and nobody is opening one now."""
        named = {file.name for file in wanted.files}
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if NAME.fullmatch(name) and name not in named:
                path.unlink(missing_ok=True)

    def _make_room(self, wanted: int) -> None:
        """Remove indexes that nobody uses, the one that was pulled longest ago first, until there is room."""
        bound = _bound()
        for one in self.root.glob(f"{REMOVED}*"):
            shutil.rmtree(one, ignore_errors=True)
        others = [one for one in self.root.iterdir() if KEY.fullmatch(one.name) and one != self.folder]
        others.sort(key=_pulled_at)
        sizes = {one: _size(one) for one in [*others, self.folder]}
        for one in others:
            if sum(sizes.values()) + wanted <= bound:
                return
            if _remove_unused(one):
                del sizes[one]


def _lease(folder: Path) -> int:
    """Make a folder and hold it in use."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            lease = os.open(folder / IN_USE, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(lease, fcntl.LOCK_SH)
                # The folder may have been removed while this waited for the lock.
                if os.path.samestat(os.fstat(lease), (folder / IN_USE).stat()):
                    return lease
            except BaseException:
                os.close(lease)
                raise
            os.close(lease)


def _pulled_at(folder: Path) -> float:
    """When somebody has pulled into a folder; 0 if nobody ever has."""
    try:
        return (folder / IN_USE).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(folder: Path) -> int:
    """Bytes of a folder that others may be changing."""
    size = 0
    with suppress(FileNotFoundError):
        for file in folder.rglob("*"):
            with suppress(FileNotFoundError):
                size += file.stat().st_size
    return size


def _bound() -> int:
    given = os.environ.get(CACHE_BYTES)
    if not given:
        return DEFAULT_BYTES
    if given.isdecimal():
        return int(given)
    message = f"{CACHE_BYTES} is {given!r}; it must be a number of bytes"
    raise InvalidInputError(message)


def _remove_unused(folder: Path) -> bool:
    """Remove a folder of the cache unless somebody uses it; whether it is gone."""
    try:
        with (folder / IN_USE).open("ab") as lease:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # First it loses its name, so that nobody finds half of it.
            removed = folder.rename(folder.with_name(f"{REMOVED}{uuid.uuid4().hex}"))
    except FileNotFoundError:
        return True
    except OSError:
        return False
    shutil.rmtree(removed, ignore_errors=True)
    return True
