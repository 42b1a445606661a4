"""A new cluster: its codec, and as many empty shards as are wanted."""

import os
from pathlib import Path
from typing import Any, Literal

from latewood.cluster.locked import root_of
from latewood.cluster.manifest import CODEC, ClusterManifest, generations, shard_of
from latewood.cluster.routing import SLOTS, divided
from latewood.common.types import KeepVectors
from latewood.errors import IndexExistsError, InvalidInputError
from latewood.forms.ragged import listed
from latewood.forms.values import count_of
from latewood.index.index import Index

NEVER = 2**62
"""Token vectors before centroids are added: one codec for all shards means that none of them adds its own."""


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
        There is a cluster in the folder.
    InvalidInputError
        Neither or both of the samples, or a sample without a token.
    """
    root, count = root_of(path), count_of(shards, "shards", most=SLOTS)
    refuse_existing(root)
    if (sample is None) == (sample_texts is None):
        message = f"{'neither' if sample is None else 'both'} of sample and sample_texts given; pass one of the two"
        raise InvalidInputError(message)
    settings = {"bits": bits, "centroids": centroids, "seed": seed, "keep_vectors": keep_vectors}
    train(new_codec(root, dim=dim, encoder=encoder, **settings), sample=sample, sample_texts=sample_texts)
    made = []
    for place, first in enumerate(divided(0, SLOTS, count)):
        folder = f"shards/{place:04}"
        made.append(shard_of(root, folder, create_shard(root, root / folder).generation, first))
    manifest = ClusterManifest(1, None, 0, tuple(made))
    manifest.publish(root)
    return manifest


def refuse_existing(root: Path) -> None:
    """Raise where a folder holds a cluster."""
    if generations(root):
        message = f"there is a cluster in {os.fspath(root)!r}; change it with a ClusterWriter, or take another folder"
        raise IndexExistsError(message)


def new_codec(root: Path, *, dim: int | None, encoder: Any, **settings: Any) -> Index:
    """Create the index that keeps a cluster's codec, in place of one that an earlier call may have left."""
    return Index.create(root / CODEC, dim=dim, encoder=encoder, train_after=0, overwrite=True, **settings)


def train(codec: Index, *, sample: Any = None, sample_texts: Any = None) -> None:
    """Train the codec of a cluster on a sample, of which nothing else is kept."""
    documents = {"vectors": sample} if sample_texts is None else {"texts": sample_texts}
    given = listed(next(iter(documents.values())), "the sample")
    with codec.writer() as writer:
        writer.add(range(len(given)), **dict.fromkeys(documents, given))
    codec.delete(codec.ids())
    codec.compact()
    if not codec.info()["codec"].get("centroid_count"):
        message = "the sample has no token to train the codec on; give documents like those that will come"
        raise InvalidInputError(message)


def create_shard(root: Path, path: Path) -> Index:
    """Create an empty shard in a folder, with the cluster's codec; the codec's index alone records the encoder."""
    codec = Index.open(root / CODEC)
    kept = codec.info()["keep_vectors"]
    return Index.create(path, codec_from=codec, train_after=NEVER, keep_vectors=kept, overwrite=True)
