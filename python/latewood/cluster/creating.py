"""A new cluster: its codec, and as many empty shards as are wanted."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

from latewood.cluster.manifest import CODEC, SHARDS, ClusterManifest, generations, root_of, shard_of
from latewood.cluster.routing import SLOTS, divided
from latewood.common.types import KeepVectors
from latewood.errors import IndexExistsError, IndexLockedError, InvalidInputError
from latewood.forms.ragged import listed, to_ragged
from latewood.forms.values import count_of
from latewood.index.index import Index

NEVER = 2**62
"""Token vectors before centroids are added: one codec for all shards means that none of them adds its own."""
BUILDING = "building"
"""The folder of what is not ready yet."""
NOTE = "settings.json"
"""In it: what a build was begun with, which the same call takes up."""
_FILE = r"(MANIFEST-\d{20}|NEWEST|LOCK|[^/]+\.(lwd|new))"
_OWN = re.compile(
    rf"({CODEC}|{SHARDS}/\d{{4,}}|{BUILDING}/({CODEC}|lock|\d{{4,}}))/{_FILE}"
    rf"|{BUILDING}/(settings\.(json|partial)|rows(\.partial)?/[^/]+\.parquet)|(.*/)?\.[^/]*"
)
"""Files that a creation or a build makes, and those that systems hide."""


def create(
    path: str | os.PathLike[str],
    *,
    shards: int,
    sample: Any = None,
    sample_texts: Any = None,
    dim: int | None = None,
    encoder: Any = None,
    bits: Literal[1, 2, 4, 8] | None = None,
    centroids: int | None = None,
    seed: int | None = None,
    keep_vectors: KeepVectors | None = None,
) -> ClusterManifest:
    """Create a cluster without documents, to be filled by a `ClusterWriter`.

    Parameters
    ----------
    path : path-like
        A folder, which is made if it is not there.
    shards : int
        65,536 at most; `grow` makes more of them later.
    sample : vectors in any form of `latewood.to_ragged`, optional
        Documents like those that will come, a few thousand of them, on which the codec is trained once and for all.
        They are not kept.
    sample_texts : sequence of str, optional
        Instead of `sample`; the encoder makes vectors of them.
    dim, encoder, bits, centroids, seed, keep_vectors
        As for `Index.create`.

    Returns
    -------
    ClusterManifest
        Of the first generation.

    Raises
    ------
    IndexExistsError
        There is a cluster in the folder, or an index.
    IndexLockedError
        Somebody else is creating or building one there.
    InvalidInputError
        Neither or both of the samples, or a sample without a token; a build was begun in the folder, or it has files of
        another kind where a cluster keeps its own.
    """
    root, count = root_of(path), count_of(shards, "shards", most=SLOTS)
    if (sample is None) == (sample_texts is None):
        message = f"{'neither' if sample is None else 'both'} of sample and sample_texts given; pass one of the two"
        raise InvalidInputError(message)
    settings = {"bits": bits, "centroids": centroids, "seed": seed, "keep_vectors": keep_vectors}
    with alone(root) as begun:
        if begun:
            message = f"a build was begun in {os.fspath(root)!r}; finish it, or remove the folder {BUILDING!r} in it"
            raise InvalidInputError(message)
        train(new_codec(root, dim=dim, encoder=encoder, **settings), sample=sample, sample_texts=sample_texts)
        made = []
        for place, first in enumerate(divided(0, SLOTS, count)):
            folder = f"{SHARDS}/{place:04}"
            made.append(shard_of(root, folder, create_shard(root, root / folder).generation, first))
        manifest = ClusterManifest(1, None, 0, tuple(made))
        manifest.publish(root)
    return manifest


@contextmanager
def alone(root: Path) -> Iterator[bool]:
    """Keep others from making a cluster in a folder, and tell whether a build was begun there.

    What an earlier call left that was no build is removed first, and at the end all but what the next call of a build
    can take up.

    Raises
    ------
    IndexExistsError, IndexLockedError, InvalidInputError
        As `create`.
    """
    building = root / BUILDING
    _refuse_foreign(root)
    try:
        # The lock of an index is let go of when its process dies, however that happens.
        lock = Index.create(building / "lock", dim=1, exist_ok=True).writer()
    except IndexLockedError as error:
        message = f"somebody else is making a cluster in {os.fspath(root)!r}; wait until it is there"
        raise IndexLockedError(message) from error
    try:
        with closing(lock):
            _refuse_existing(root)
            begun = (building / NOTE).exists()
            if not begun:
                remove(building / "rows", building / CODEC, root / CODEC, root / SHARDS)
            yield begun
    finally:
        if generations(root):
            remove(building)
        elif not (building / NOTE).exists():
            remove(building, root / CODEC, root / SHARDS)


def remove(*folders: Path) -> None:
    """Remove folders with all that is in them, if they are there."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_existing(root: Path) -> None:
    if generations(root):
        message = f"there is a cluster in {os.fspath(root)!r}; change it with a ClusterWriter, or take another folder"
        raise IndexExistsError(message)
    if any(root.glob("MANIFEST-*")):
        message = f"there is an index in {os.fspath(root)!r}; take another folder for a cluster"
        raise IndexExistsError(message)


def _refuse_foreign(root: Path) -> None:
    """Raise where something lies in a cluster's folders that no cluster has made: it may be somebody's only copy."""
    for name in (BUILDING, CODEC, SHARDS):
        for path in (root / name).rglob("*"):
            if not path.is_dir() and not _OWN.fullmatch(path.relative_to(root).as_posix()):
                message = (
                    f"{os.fspath(path)!r} is no part of a cluster, which keeps its own in {name!r}; take another folder"
                )
                raise InvalidInputError(message)


def new_codec(root: Path, *, dim: int | None, encoder: Any, **settings: Any) -> Index:
    """Create the index that keeps a cluster's codec, in place of one that an earlier call may have left."""
    return Index.create(root / CODEC, dim=dim, encoder=encoder, train_after=0, overwrite=True, **settings)


def train(codec: Index, *, sample: Any = None, sample_texts: Any = None) -> None:
    """Train the codec of a cluster on a sample, of which nothing else is kept."""
    with codec.writer() as writer:
        if sample_texts is None:
            vectors = to_ragged(sample, allow_empty=True)
            writer.add(range(len(vectors)), vectors=vectors)
        else:
            texts = listed(sample_texts, "texts")
            writer.add(range(len(texts)), texts=texts)
    codec.delete(codec.ids())
    codec.compact()
    if not (codec.info()["codec"] or {}).get("centroid_count"):
        message = "the sample has no token to train the codec on; give documents like those that will come"
        raise InvalidInputError(message)


def create_shard(root: Path, path: Path) -> Index:
    """Create an empty shard in a folder, with the cluster's codec; the codec's index alone records the encoder."""
    codec = Index.open(root / CODEC)
    kept = codec.info()["keep_vectors"]
    return Index.create(path, codec_from=codec, train_after=NEVER, keep_vectors=kept, overwrite=True)
