"""Ward's clusters of a document's tokens, whose means the ranking stage trains."""

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
