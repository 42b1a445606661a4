"""What a store holds of an index or a cluster: contents by their checksums, and a description of each generation.

```
files/<sha256>                    the content of a file, which several names may have
generations/<20 digits>.json      names, sizes and checksums of a generation's files; written once, when all are there
```
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latewood.cloud.store import Store
from latewood.common.signed import signed, verified
from latewood.errors import CorruptIndexError, InvalidInputError, StorageError

GENERATIONS = "generations"
FILES = "files"
FORMAT = 1
CHECKSUM = re.compile(r"[0-9a-f]{64}")
DESCRIPTION = re.compile(r"(\d{20})\.json")
MOST_BYTES = 64 << 20
"""Of a description."""
TRIES = 3
"""How often a list is asked for again that names a description which is not there."""
_FILE = r"(MANIFEST-\d{20}|[A-Za-z0-9][A-Za-z0-9._-]{0,120}\.lwd)"


@dataclass(frozen=True, slots=True)
class Kind:
    """What is published: an index, or a cluster of several.

    Attributes
    ----------
    name : str
    manifest : callable
        Gives the name of a generation's manifest.
    file : re.Pattern
        Names of the other files: nothing that leads out of the folder.
    opened_by : str
    published_by : str
    """

    name: str
    manifest: Callable[[int], str]
    file: re.Pattern[str]
    opened_by: str
    published_by: str


INDEX = Kind("index", "MANIFEST-{:020}".format, re.compile(_FILE), "Index.open", "Index.publish")
CLUSTER = Kind(
    "cluster",
    "cluster-{:010}.json".format,
    re.compile(rf"(codec|shards/\d{{4,20}})/{_FILE}"),
    "ShardedIndex.open",
    "latewood.cluster.publish",
)
NAME = re.compile(rf"{INDEX.file.pattern}|{CLUSTER.file.pattern}|cluster-\d{{10,20}}\.json")
"""Of all that may have come from a store."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a generation."""

    name: str
    bytes: int
    sha256: str

    @property
    def object(self) -> str:
        """Where its content lies in a store."""
        return f"{FILES}/{self.sha256}"

    @property
    def folder(self) -> str:
        """Of the index that it belongs to; empty for one that is not in a cluster, and for a cluster's manifest."""
        return self.name.rpartition("/")[0]

    @property
    def is_manifest(self) -> bool:
        """Whether other indexes may have another content under the same name."""
        return not self.name.endswith(".lwd")


@dataclass(frozen=True, slots=True)
class Generation:
    """A published generation.

    Attributes
    ----------
    kind : Kind
    index : str or None
        What tells the index from others; of a cluster, its codec.
    generation : int
    lineage : tuple of str
        Its signature, and those of the commits it was made from.
    files : tuple of File
        The last is its manifest.
    """

    kind: Kind
    index: str | None
    generation: int
    lineage: tuple[str, ...]
    files: tuple[File, ...]

    @property
    def object(self) -> str:
        """Where its description lies in a store."""
        return description_of(self.generation)

    def to_json(self) -> bytes:
        """Write its description."""
        files = [asdict(file) for file in self.files]
        told = {"index": self.index, "generation": self.generation, "lineage": self.lineage, "files": files}
        return signed({"format": FORMAT, **told})


def description_of(number: int) -> str:
    """Name the description of a generation."""
    return f"{GENERATIONS}/{number:020}.json"


def checksum(path: Path) -> str:
    """Give the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def numbers(store: Store) -> list[int]:
    """Give the generations that a store holds, ascending."""
    found = (DESCRIPTION.fullmatch(name) for name in store.names(GENERATIONS))
    return sorted(int(one[1]) for one in found if one is not None)


def newest(store: Store) -> Generation | None:
    """Read the newest generation of a store, if there is one."""
    for _ in range(TRIES):
        known = numbers(store)
        if not known:
            return None
        found = _described(store, known[-1])
        # Between the two requests, a newer one may have come and this one been cleaned away.
        if found is not None:
            return found
    message = f"{store.url} lists generation {known[-1]}, and does not have it; try again"
    raise StorageError(message)


def described(store: Store, number: int) -> Generation:
    """Read the description of a generation, and trust nothing in it.

    Raises
    ------
    InvalidInputError
        There is no such generation, or a newer version of the library wrote it.
    CorruptIndexError
        It is no description.
    """
    found = _described(store, number)
    if found is None:
        message = f"{store.url} has no generation {number}; it has {', '.join(map(str, numbers(store))) or 'none'}"
        raise InvalidInputError(message)
    return found


def _described(store: Store, number: int) -> Generation | None:
    where = f"{store.url}/{description_of(number)}"
    written = store.read(description_of(number), MOST_BYTES)
    if written is None:
        return None
    try:
        told = verified(written)
        if told["format"] != FORMAT:
            message = f"{where} was written by a newer version of latewood; update this one"
            raise InvalidInputError(message)
        return _checked(told, number)
    except InvalidInputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{where} describes no generation: {type(error).__name__}: {error}; publish it again elsewhere"
        raise CorruptIndexError(message) from error


def _checked(told: Any, number: int) -> Generation:
    files = tuple(File(one["name"], one["bytes"], one["sha256"]) for one in told["files"])
    kind = next((kind for kind in (INDEX, CLUSTER) if files and files[-1].name == kind.manifest(number)), None)
    if kind is None or told["generation"] != number:
        message = f"it is not generation {number}"
        raise ValueError(message)
    for file in files:
        if not (
            type(file.bytes) is int
            and file.bytes >= 0
            and (file is files[-1] or kind.file.fullmatch(file.name))
            and CHECKSUM.fullmatch(file.sha256)
        ):
            message = f"{file!r} is no file of such a {kind.name}"
            raise ValueError(message)
    if len({file.name for file in files}) < len(files):
        message = "a file occurs twice"
        raise ValueError(message)
    index, lineage = told["index"], tuple(told["lineage"])
    if not (index is None or isinstance(index, str)) or not all(isinstance(one, str) for one in lineage):
        message = "its index or lineage is no str"
        raise TypeError(message)
    return Generation(kind, index, number, lineage, files)
