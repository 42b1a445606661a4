"""A new cluster: its codec, and as many empty shards as are wanted."""

import os
from pathlib import Path
from typing import Any

from latewood.cluster.locked import root_of
from latewood.cluster.manifest import CODEC, ClusterManifest, generations, shard_of
from latewood.cluster.routing import SLOTS, divided
from latewood.errors import IndexExistsError, InvalidInputError
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
    **settings: Any,
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
    dim, encoder, **settings
        As for `Index.create`: `bits`, `centroids`, `seed`, `keep_vectors`.

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
    train_codec(root, sample=sample, sample_texts=sample_texts, dim=dim, encoder=encoder, **settings)
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


def train_codec(root: Path, *, sample: Any, sample_texts: Any, dim: int | None, encoder: Any, **settings: Any) -> None:
    """Train the codec of a cluster on a sample, of which nothing else is kept."""
    if (sample is None) == (sample_texts is None):
        message = f"{'neither' if sample is None else 'both'} of sample and sample_texts given; pass one of the two"
        raise InvalidInputError(message)
    root.mkdir(parents=True, exist_ok=True)
    codec = Index.create(root / CODEC, dim=dim, encoder=encoder, train_after=0, overwrite=True, **settings)
    documents = {"vectors": sample} if sample_texts is None else {"texts": sample_texts}
    given = next(iter(documents.values()))
    with codec.writer() as writer:
        writer.add(range(len(given)), **documents)
    codec.delete(codec.ids())
    codec.compact()
    if codec.info()["codec"]["kind"] != codec.info()["codec_options"]["kind"]:
        message = "the sample has no token to train the codec on; give documents like those that will come"
        raise InvalidInputError(message)


def create_shard(root: Path, path: Path) -> Index:
    """Create an empty shard in a folder, with the cluster's codec; the codec's index alone records the encoder."""
    codec = Index.open(root / CODEC)
    kept = codec.info()["keep_vectors"]
    return Index.create(path, codec_from=codec, train_after=NEVER, keep_vectors=kept, overwrite=True)
