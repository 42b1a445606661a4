"""The cluster's manifest: one small JSON file for each generation, made once and never changed."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from latewood.cloud.generations import CLUSTER
from latewood.cloud.store import is_url
from latewood.cluster.routing import SLOTS, slots_of
from latewood.common.files import at_home
from latewood.common.signed import checksum_of as checksum_of_content
from latewood.common.signed import signed, verified
from latewood.common.types import Id
from latewood.errors import (
    CommitConflictError,
    CorruptIndexError,
    FormatVersionError,
    IndexNotFoundError,
    InvalidInputError,
    StorageError,
)
from latewood.forms.values import path_of
from latewood.index.index import Index

FORMAT = 1
CODEC, SHARDS = "codec", "shards"
KEPT = 16
"""Manifests that are kept: a reader that has read one finds the shards' files for one commit more."""
LARGEST = 64 * 2**20
"""Bytes of a manifest that anybody would read."""

_NAME = re.compile(r"cluster-(\d{10,20})\.json")
_FOLDER = re.compile(r"shards/\d{4,}")


def root_of(path: str | os.PathLike[str]) -> Path:
    """Give a cluster's folder as an absolute path; `~` stands for the user's home."""
    if is_url(path):
        message = (
            f"{path!r} is an address; clusters are made and changed in folders, latewood.cluster.publish puts them "
            "there, and ShardedIndex.open reads them"
        )
        raise InvalidInputError(message)
    return at_home(path_of(path)).absolute()


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard as a manifest names it.

    Attributes
    ----------
    folder : str
        Relative to the cluster's folder, such as "shards/0000".
    generation : int
        Of the index in that folder.
    checksum : str
        SHA-256 of that generation's manifest, which has the checksums of the other files.
    first_slot : int
        The shard owns the slots from here to the next shard's first (`routing.slot_of`).
    """

    folder: str
    generation: int
    checksum: str
    first_slot: int

    def open(self, root: str | os.PathLike[str], *, mmap: bool = True) -> Index:
        """Open the shard at its generation, for reading.

        Raises
        ------
        CorruptIndexError
            The generation is not what the cluster committed, or a newer commit of the cluster has removed it.
        """
        path = root_of(root) / self.folder
        if checksum_of(path, self.generation) != self.checksum:
            message = (
                f"generation {self.generation} of {os.fspath(path)!r} is not the one that the cluster committed; "
                "restore the folder from a copy"
            )
            raise CorruptIndexError(message)
        return Index.open(path, generation=self.generation, mmap=mmap)


@dataclass(frozen=True)
class ClusterManifest:
    """What one commit of a cluster made visible.

    Attributes
    ----------
    generation : int
        Of the cluster; each commit counts one up.
    id_kind : {"str", "int"} or None
        Of all ids; None before the first document.
    next_order : int
        The number in the cluster's order that the next document gets (`order.py`).
    shards : tuple of Shard
        By their slots.
    """

    generation: int
    id_kind: Literal["str", "int"] | None
    next_order: int
    shards: tuple[Shard, ...]

    def shards_of(self, ids: Iterable[Id]) -> NDArray[np.int64]:
        """Give for each id the position in `shards` of the one that owns it."""
        firsts = [shard.first_slot for shard in self.shards]
        return np.searchsorted(firsts, slots_of(ids), side="right") - 1

    def excludes(self, key: Id) -> bool:
        """Whether an id is of another kind than all ids of the cluster."""
        return self.id_kind == ("str" if isinstance(key, int) else "int")

    def publish(self, root: str | os.PathLike[str]) -> None:
        """Make this the newest manifest of a folder, durably, if its generation has none yet.

        Raises
        ------
        CommitConflictError
            Somebody else has committed this generation, or a later one. What they committed stands.
        StorageError
            The system refused to write.
        """
        folder, name = Path(root), name_of(self.generation)
        temporary = None
        try:
            with NamedTemporaryFile(dir=folder, prefix=f".{name}.", delete=False) as file:
                temporary = Path(file.name)
                file.write(self.to_json())
                file.flush()
                os.fsync(file.fileno())
            # A link fails where the name is taken; a rename would replace what is there.
            os.link(temporary, folder / name)
            _sync(folder)
        except FileExistsError as error:
            raise _conflict(folder, self.generation) from error
        except OSError as error:
            message = f"cannot write the manifest {os.fspath(folder / name)!r}: {error}; the commit before it stands"
            raise StorageError(message) from error
        finally:
            if temporary is not None:
                with suppress(OSError):
                    temporary.unlink()
        present = generations(folder)
        # Where locks do nothing, the name may be free because it was cleared away long ago.
        if present[0] != self.generation:
            raise _conflict(folder, self.generation)
        for old in present[KEPT:]:
            with suppress(OSError):
                (folder / name_of(old)).unlink()

    @cached_property
    def signature(self) -> str:
        """What tells the commit from all others, of other clusters too; those of later generations sort behind it."""
        return f"{self.generation:020}-{checksum_of_content(self._content())}"

    def _content(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    def to_json(self) -> bytes:
        """Write the manifest, with a checksum of all the rest."""
        return signed(self._content())

    @classmethod
    def from_json(cls, data: bytes, path: str) -> Self:
        """Read a manifest and check all that it says; `path` is for messages.

        Raises
        ------
        CorruptIndexError, FormatVersionError
        """
        try:
            content = verified(data)
            version = content.pop("format")
        except (ValueError, KeyError) as error:
            raise _damaged(path, str(error) if isinstance(error, ValueError) else "has no format") from error
        if version != FORMAT:
            message = (
                f"the cluster manifest {path!r} has format {version}, and this version reads {FORMAT}; upgrade latewood"
            )
            raise FormatVersionError(message)
        try:
            content["shards"] = tuple(Shard(**shard) for shard in content["shards"])
            manifest = cls(**content)
        except (TypeError, KeyError) as error:
            raise _damaged(path, "lacks a field") from error
        if not manifest._is_sound():
            raise _damaged(path, "has values that cannot be")
        return manifest

    @classmethod
    def read(cls, root: Path, generation: int) -> Self:
        """Read the manifest of a generation.

        Raises
        ------
        FileNotFoundError
            It is not there; newer ones may have come.
        CorruptIndexError
            It is damaged.
        StorageError
            The system refuses to read it.
        """
        path = root / name_of(generation)
        try:
            with path.open("rb") as file:
                return cls.from_json(file.read(LARGEST), os.fspath(path))
        except FileNotFoundError:
            raise
        except OSError as error:
            message = f"cannot read the cluster manifest {os.fspath(path)!r}: {error}"
            raise StorageError(message) from error

    @classmethod
    def newest(cls, root: str | os.PathLike[str]) -> Self:
        """Read the newest manifest of a folder.

        Raises
        ------
        IndexNotFoundError
            There is no folder, or no cluster in it.
        CorruptIndexError
            The newest manifest is damaged.
        StorageError
            The system refuses to read it.
        """
        folder = root_of(root)
        while True:
            present = generations(folder)
            if not present:
                message = f"no cluster in {os.fspath(folder)!r}; make one with latewood.cluster.build or create"
                raise IndexNotFoundError(message)
            # So many commits may come meanwhile that it is cleared away.
            with suppress(FileNotFoundError):
                return cls.read(folder, present[0])

    def next(self, **changes: Any) -> Self:
        """Give the manifest of the next generation."""
        return replace(self, generation=self.generation + 1, **changes)

    def _is_sound(self) -> bool:
        numbers = [self.generation, self.next_order, *(shard.first_slot for shard in self.shards)]
        numbers += [shard.generation for shard in self.shards]
        if not self.shards or any(type(number) is not int or number < 0 for number in numbers):
            return False
        folders = [str(shard.folder) for shard in self.shards]
        firsts = [*(shard.first_slot for shard in self.shards), SLOTS]
        return (
            firsts[0] == 0
            and all(one < other for one, other in pairwise(firsts))
            and len(set(folders)) == len(folders)
            # Paths of a file that somebody sent must not lead out of the cluster.
            and all(_FOLDER.fullmatch(folder) for folder in folders)
            and self.id_kind in (None, "str", "int")
        )


def name_of(generation: int) -> str:
    """Give the name of the manifest of a generation."""
    return CLUSTER.manifest(generation)


def generations(root: str | os.PathLike[str]) -> list[int]:
    """Give the generations of a cluster that have a manifest, newest first; none where there is no folder."""
    try:
        names = [entry.name for entry in Path(root).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        message = f"cannot look into the folder {os.fspath(root)!r}: {error}"
        raise StorageError(message) from error
    return sorted((int(match[1]) for name in names if (match := _NAME.fullmatch(name))), reverse=True)


def checksum_of(folder: str | os.PathLike[str], generation: int) -> str:
    """Give the SHA-256 of an index's own manifest of a generation.

    Raises
    ------
    CorruptIndexError
        It is not there.
    """
    path = Path(folder, f"MANIFEST-{generation:020}")
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        message = (
            f"cannot read {os.fspath(path)!r}, which the cluster's manifest names: {error.strerror or error}; open the "
            "cluster again if newer commits have come, or restore the folder from a copy"
        )
        raise CorruptIndexError(message) from error


def shard_of(root: str | os.PathLike[str], folder: str, generation: int, first_slot: int) -> Shard:
    """Describe a generation of a shard that lies in a cluster's folder."""
    return Shard(folder, generation, checksum_of(Path(root, folder), generation), first_slot)


def _damaged(path: str, what: str) -> CorruptIndexError:
    return CorruptIndexError(f"the cluster manifest {path!r} {what}; restore it from a copy, or remove it to go back")


def _conflict(folder: Path, generation: int) -> CommitConflictError:
    message = (
        f"somebody else has committed generation {generation} of the cluster {os.fspath(folder)!r}; "
        "open another writer and make the changes again"
    )
    return CommitConflictError(message)


def _sync(folder: Path) -> None:
    """Make the names in a folder durable; Windows has no such call, and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
