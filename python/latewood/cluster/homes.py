"""Where a cluster is read from: a folder that all machines see, or object storage, of which each machine has a copy."""

import math
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Protocol

from latewood.cloud.generations import CLUSTER
from latewood.cloud.pulling import Pulled
from latewood.cloud.store import is_url
from latewood.cluster.manifest import CODEC, ClusterManifest, root_of
from latewood.common.files import at_home
from latewood.errors import CorruptIndexError, InvalidInputError
from latewood.index.index import Index


class Home(Protocol):
    """What the commits of a cluster are read from."""

    patience: float
    """Seconds that a shard may take to come here, beyond those that an answer may take."""

    @property
    def root(self) -> Path:
        """The folder, on this machine."""

    def newest(self, *, whole: bool, show_progress: bool | None = False) -> ClusterManifest | None:
        """Read the newest manifest, and bring the codec's files here, or all; None if nobody can say which is newest.

        Raises
        ------
        IndexNotFoundError, InvalidInputError
            No cluster is there.
        CorruptIndexError, StorageError
        """

    def shard(self, commit: str, place: int) -> Index:
        """Open a shard of a commit that has this signature, and bring its files here before.

        Raises
        ------
        CorruptIndexError
            The shard is damaged, or the commit is there no longer.
        """

    def check(self, look: Callable[[], list[str]]) -> list[str]:
        """Give what `look` finds wrong in a shard's folder."""

    def told(self) -> tuple[str, str | None]:
        """Give what `home_of` makes such a home of, on other machines too."""

    def close(self) -> None:
        """Let go of the folder."""


def home_of(path: str | os.PathLike[str], cache: str | os.PathLike[str] | None = None) -> Home:
    """Give what a path or an address stands for; `cache` is the folder for copies of what lies in object storage."""
    return Published(str(path), cache) if is_url(path) else Shared(path)


class Shared:
    """A folder that all machines see under one name."""

    patience = 0.0

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.root = root_of(path)

    def newest(self, *, whole: bool, show_progress: bool | None = False) -> ClusterManifest:
        """See `Home.newest`; all is here."""
        return ClusterManifest.newest(self.root)

    def shard(self, commit: str, place: int) -> Index:
        """See `Home.shard`."""
        return _manifest(self.root, commit).shards[place].open(self.root)

    def check(self, look: Callable[[], list[str]]) -> list[str]:
        """See `Home.check`."""
        return look()

    def told(self) -> tuple[str, None]:
        """See `Home.told`."""
        return os.fspath(self.root), None

    def close(self) -> None:
        """See `Home.close`."""


class Published:
    """An address in object storage."""

    # How long a download takes is the network's to say; that who brings it lives is seen otherwise.
    patience = math.inf

    def __init__(self, url: str, cache: str | os.PathLike[str] | None) -> None:
        self._url = url
        self._cache = None if cache is None else at_home(cache).absolute()

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the address and the cache."""
        return _with_codec, (self._url, os.fspath(self._pulled.root))

    @cached_property
    def _pulled(self) -> Pulled:
        # What can fail here is told to whoever asks a replica, and so not when that begins.
        return Pulled(self._url, CLUSTER, self._cache)

    @property
    def root(self) -> Path:
        """See `Home.root`."""
        return self._pulled.folder

    def newest(self, *, whole: bool, show_progress: bool | None = False) -> ClusterManifest | None:
        """See `Home.newest`."""
        folders = None if whole else (CODEC,)
        return self._pulled.follow(self._read_newest, None, folders=folders, show_progress=show_progress)

    def _read_newest(self) -> ClusterManifest:
        # What is damaged is brought again if it shows here.
        Index.open(self.root / CODEC).close()
        return ClusterManifest.newest(self.root)

    def shard(self, commit: str, place: int) -> Index:
        """See `Home.shard`."""
        generation = _generation_of(commit)
        pull = self._pulled.pull
        try:
            folder = pull(lambda: _manifest(self.root, commit).shards[place].folder, generation, folders=())
            return pull(
                lambda: _manifest(self.root, commit).shards[place].open(self.root), generation, folders=(folder,)
            )
        except InvalidInputError as error:
            raise _gone(self._url, generation) from error

    def check(self, look: Callable[[], list[str]]) -> list[str]:
        """See `Home.check`."""
        return self._pulled.check(look)

    def told(self) -> tuple[str, str | None]:
        """See `Home.told`: where no folder is given, each machine has its own."""
        return self._url, None if self._cache is None else os.fspath(self._cache)

    def close(self) -> None:
        """See `Home.close`."""
        self._pulled.close()


def _with_codec(url: str, cache: str) -> Published:
    home = Published(url, cache)
    # The codec that is unpickled next is opened there.
    home.newest(whole=False)
    return home


def _manifest(root: Path, commit: str) -> ClusterManifest:
    generation = _generation_of(commit)
    try:
        manifest = ClusterManifest.read(root, generation)
    except FileNotFoundError as error:
        raise _gone(root, generation) from error
    if manifest.signature != commit:
        message = f"generation {generation} of {os.fspath(root)!r} is another cluster's; open it again"
        raise CorruptIndexError(message)
    return manifest


def _generation_of(commit: str) -> int:
    return int(commit.partition("-")[0])


def _gone(where: str | Path, generation: int) -> CorruptIndexError:
    message = f"generation {generation} of {os.fspath(where)!r} is gone: newer commits have come; refresh"
    return CorruptIndexError(message)
