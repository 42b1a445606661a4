"""Fewer vectors a document: Ward's clusters of its tokens, each their mean at unit length."""

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

# scipy has no annotations of its own.
hierarchy: Any = import_module("scipy.cluster.hierarchy")


def labels(vectors: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """Return the cluster of each token, numbered from 0, at most `count` of them.

    Parameters
    ----------
    vectors : numpy.ndarray
        [tokens, dim], unit length.
    count : int

    Returns
    -------
    numpy.ndarray
    """
    if len(vectors) <= max(count, 1):
        return np.arange(len(vectors))
    if count <= 1:
        return np.zeros(len(vectors), np.int64)
    clusters: npt.NDArray[np.int32] = hierarchy.fcluster(hierarchy.linkage(vectors, "ward"), count, "maxclust")
    return clusters.astype(np.int64) - 1


def pool(
    vectors: npt.NDArray[np.float32], *, factor: int | None = None, count: int | None = None
) -> npt.NDArray[np.float32]:
    """Pool a document's vectors to a part of them, or to so many.

    Parameters
    ----------
    vectors : numpy.ndarray
        [tokens, dim].
    factor : int, optional
    count : int, optional

    Returns
    -------
    numpy.ndarray
        [clusters, dim], unit length.
    """
    wanted = count if count is not None else -(-len(vectors) // (factor or 1))
    group = labels(vectors, wanted)
    sums = np.zeros((int(group.max()) + 1, vectors.shape[1]), np.float32)
    np.add.at(sums, group, vectors)
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return sums
