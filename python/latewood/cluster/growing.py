"""More shards than before, by dividing those that there are."""

import os
import shutil
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np

from latewood.cluster.locked import locked
from latewood.cluster.manifest import ClusterManifest, Shard, root_of, shard_of
from latewood.cluster.routing import SLOTS, chosen, divided, slots_of
from latewood.errors import InvalidInputError, StorageError
from latewood.forms.values import count_of
from latewood.index.index import Index


def grow(path: str | os.PathLike[str], shards: int) -> ClusterManifest:
    """Divide the shards of a cluster into more; readers go on as before until they take up the commit.

    A shard's files are linked into the new folders and each folder then deletes what it does not own, so that no
    document is encoded again, and every score stays the same to the bit. A multiple of the number before gives shards
    of equal size.

    Parameters
    ----------
    path : path-like
    shards : int
        How many there are to be: at least as many as there are, and 65,536 at most.

    Returns
    -------
    ClusterManifest
        The new one, or the newest if there are as many shards already.

    Raises
    ------
    InvalidInputError
        Fewer shards than there are: build another cluster for that.
    IndexLockedError, IndexNotFoundError, CorruptIndexError, StorageError
        Nothing has changed for readers.
    """
    root, count = root_of(path), count_of(shards, "shards", most=SLOTS)
    with locked(root) as manifest:
        present = manifest.shards
        if count < len(present):
            message = f"the cluster has {len(present)} shards, and {count} are fewer; build another with so few"
            raise InvalidInputError(message)
        if count == len(present):
            return manifest
        ends = [*(shard.first_slot for shard in present[1:]), SLOTS]
        parts = np.diff([*divided(0, count, len(present)), count]).tolist()
        try:
            made = [
                part
                for shard, end, number in zip(present, ends, parts, strict=True)
                for part in _split(root, shard, divided(shard.first_slot, end, number), end)
            ]
        except OSError as error:
            message = f"cannot write the new shards of {os.fspath(root)!r}: {error}; the commit before stands"
            raise StorageError(message) from error
        grown = manifest.next(shards=tuple(made))
        grown.publish(root)
        return grown


def _split(root: Path, shard: Shard, firsts: list[int], end: int) -> list[Shard]:
    """Divide a shard at the first slots of its parts; the first part stays in its folder."""
    if len(set(firsts)) < len(firsts):
        message = f"the shard {shard.folder!r} has too few slots to be divided into {len(firsts)}; grow by less"
        raise InvalidInputError(message)
    if len(firsts) == 1:
        return [shard]
    index = Index.open(root / shard.folder)
    ids = index.ids()
    slots = slots_of(ids)
    folders = [shard.folder, *(_copied(root, shard.folder) for _ in firsts[1:])]
    made = []
    for folder, (first, last) in zip(folders, pairwise([*firsts, end]), strict=True):
        own = index if folder == shard.folder else Index.open(root / folder)
        foreign = np.flatnonzero((slots < first) | (slots >= last))
        if foreign.size:
            own.delete(chosen(ids, foreign))
        if own is not index:
            # Nobody reads it yet, and so no generation but the newest need stay.
            own.compact()
        made.append(shard_of(root, folder, own.generation, first))
    return made


def _copied(root: Path, folder: str) -> str:
    """Make a new shard of a shard's files, which never change, and give its folder."""
    numbers = [int(entry.name) for entry in (root / "shards").iterdir() if entry.name.isdigit()]
    made = f"shards/{max(numbers) + 1:04}"
    (root / made).mkdir()
    for file in (root / folder).iterdir():
        if file.name == "LOCK":
            continue
        target = root / made / file.name
        with suppress(OSError):
            os.link(file, target)
            continue
        # Not every file system has links.
        shutil.copy2(file, target)
    return made
