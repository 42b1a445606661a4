"""A cluster under its lock: what another writer left half done is put back before anything else."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latewood.cloud.pulling import refuse_pulled
from latewood.cluster.manifest import CODEC, SHARDS, ClusterManifest, root_of, shard_of
from latewood.errors import IndexLockedError
from latewood.index.index import Index


@contextmanager
def locked(root: Path) -> Iterator[ClusterManifest]:
    """Hold the lock of a cluster, and give its newest manifest when all shards are at the generations that it names.

    Raises
    ------
    IndexLockedError
        Another process or thread is writing to the cluster.
    IndexNotFoundError, CorruptIndexError
        As for `ClusterManifest.newest`, and for a shard that is damaged.
    InvalidInputError
        The cluster was brought from object storage.
    """
    ClusterManifest.newest(root)
    refuse_pulled(root)
    try:
        # The lock of an index is let go of when its process dies, however that happens.
        lock = Index.open(root / CODEC).writer()
    except IndexLockedError as error:
        message = f"another writer is at work on the cluster {os.fspath(root)!r}; wait until it is closed"
        raise IndexLockedError(message) from error
    try:
        yield _restored(root, ClusterManifest.newest(root))
    finally:
        lock.close()


def recover(path: str | os.PathLike[str]) -> ClusterManifest:
    """Put all shards back to what the newest commit of the cluster names; every writer does that when it begins.

    Returns
    -------
    ClusterManifest
        The newest one, which is another than before if a shard had to be put back; its documents are the same.

    Raises
    ------
    IndexLockedError
        A writer is at work.
    IndexNotFoundError, CorruptIndexError
    """
    with locked(root_of(path)) as manifest:
        return manifest


def _restored(root: Path, manifest: ClusterManifest) -> ClusterManifest:
    named = {Path(shard.folder).name for shard in manifest.shards}
    for folder in (root / SHARDS).glob("*"):
        if folder.name not in named:
            shutil.rmtree(folder, ignore_errors=True)
    shards = []
    for shard in manifest.shards:
        shard.open(root).close()
        index = Index.recover(root / shard.folder, generation=shard.generation)
        shards.append(shard_of(root, shard.folder, index.generation, shard.first_slot))
    if tuple(shards) == manifest.shards:
        return manifest
    # The next commit of a shard removes the generation before the one that it was put back to.
    restored = manifest.next(shards=tuple(shards))
    restored.publish(root)
    return restored
