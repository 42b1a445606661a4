"""A cluster's commit → object storage."""

import os
from contextlib import nullcontext
from pathlib import Path

from latewood.cloud.generations import CLUSTER
from latewood.cloud.publishing import Commit
from latewood.cloud.publishing import publish as publish_commit
from latewood.cloud.pulling import is_pulled
from latewood.cluster.locked import locked
from latewood.cluster.manifest import CODEC, ClusterManifest, generations, root_of
from latewood.errors import CorruptIndexError
from latewood.forms.values import flag_of, optional
from latewood.index.index import Index


def publish(path: str | os.PathLike[str], url: str, *, repair: bool = False, show_progress: bool | None = None) -> int:
    """Put the newest commit of a cluster into object storage, from where `ShardedIndex.open` takes it.

    Files of all shards go up first, contents that are not there yet, each once, and the description of the commit last,
    where none is: readers see all of it or nothing, and of two who publish at once one succeeds. Nobody else can write
    to this cluster meanwhile.

    Parameters
    ----------
    path : path-like
        The cluster's folder.
    url, repair, show_progress
        As for `Index.publish`.

    Returns
    -------
    int
        The generation of the cluster that is there now.

    Raises
    ------
    StorageError, CommitConflictError, InvalidInputError, MissingDependencyError
        As for `Index.publish`.
    IndexLockedError, IndexNotFoundError
    CorruptIndexError
        The cluster is damaged, or what is there describes no commit.
    """
    root = root_of(path)
    repair, show_progress = flag_of(repair, "repair"), optional(flag_of, show_progress, "show_progress")
    newest = ClusterManifest.newest(root)
    # Nothing changes in a folder that cannot be written to, or in one of a cache.
    writable = os.access(root / CODEC, os.W_OK) and not is_pulled(root)
    with locked(root) if writable else nullcontext(newest) as manifest:
        return publish_commit(root, _commit(root, manifest), url, repair=repair, show_progress=show_progress)


def _commit(root: Path, manifest: ClusterManifest) -> Commit:
    _, own, _, identity = _commit_of(Index.open(root / CODEC))
    names = [f"{CODEC}/{name}" for name in own]
    for shard in manifest.shards:
        _, own, _, _ = _commit_of(shard.open(root))
        names += [f"{shard.folder}/{name}" for name in own]
    names.append(CLUSTER.manifest(manifest.generation))
    return Commit(CLUSTER, manifest.generation, names, _lineage(root, manifest), identity)


def _commit_of(index: Index) -> tuple[int, list[str], list[str], str | None]:
    with index:
        return index._core.commit()  # noqa: SLF001


def _lineage(root: Path, manifest: ClusterManifest) -> list[str]:
    """Give the signatures of a manifest and of those before it that are there: each was made from the one before."""
    lineage = []
    for number, generation in enumerate(generations(root)):
        if generation != manifest.generation - number:
            break
        try:
            lineage.append(ClusterManifest.read(root, generation).signature)
        except (FileNotFoundError, CorruptIndexError):
            # What comes before it is not known.
            break
    return lineage
