"""The oracle: what the library computes, in numpy, short enough to be obviously right."""

import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Double = NDArray[np.float64]


def maxsim(query: NDArray[Any], document: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
    """Sum over query tokens of the largest dot product with a document token."""
    if len(document) == 0:
        return -np.inf
    best = (query.astype(np.float64) @ document.astype(np.float64).T).max(axis=1)
    return float(best.sum() if weights is None else (best * weights).sum())


def int8_tolerance(query: NDArray[Any], document: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
    """Largest error of a score from rounding each rotated query token to int8 steps of (largest component) / 127.

    A step is at most |q| / 127; half of one in each of `depth` dimensions moves a dot product by half a step times the
    sum of |d|, which is at most sqrt(depth) |d|. A rotation changes neither norm. One part in 10^5 is left for float32.
    """
    if len(document) == 0:
        return 0.0
    depth = -(-query.shape[1] // 32) * 32
    norms = np.linalg.norm(query.astype(np.float64), axis=1)
    used = norms if weights is None else norms * weights
    longest = float(np.linalg.norm(document.astype(np.float64), axis=1).max())
    step: float = depth**0.5 / 254.0
    return float(used.sum()) * longest * (step + 1e-5)


def ranking(scores: Sequence[float]) -> list[int]:
    """Positions from the best score to the worst; ties keep their order."""
    order: list[int] = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable").tolist()
    return order


def sections(path: Path) -> dict[int, bytes]:
    """Sections of an index's file by their number in `docs/format.md`."""
    whole = path.read_bytes()
    (count,) = struct.unpack_from("<H", whole, 14)
    table = (struct.unpack_from("<IIQQQ", whole, 64 + 32 * entry) for entry in range(count))
    return {kind: whole[offset : offset + length] for kind, _, offset, length, _ in table}


# What each code stands for; 8-bit codes stand for code - 128.
LEVELS = {
    1: np.array([-1, 1]),
    2: np.array([-10, -3, 3, 10]),
    4: np.array([-20, -15, -12, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 12, 15, 20]),
    8: np.arange(256) - 128,
}


def decode(
    codes: NDArray[np.uint8],
    gains: Float,
    rotation: Float,
    bits: int,
    centroid_rows: NDArray[np.int8] | None = None,
    centroid_unit: float = 1.0,
) -> Double:
    """Token vectors `[tokens, dim]` of codes `[tokens, row_bytes]`.

    Plane p of byte i is dimension i + p · row_bytes. `centroid_rows` are the int8 centroids of each token; `rotation`
    is [dim, depth].
    """
    planes, mask = 8 // bits, (1 << bits) - 1
    unpacked = np.concatenate([(codes >> (plane * bits)) & mask for plane in range(planes)], axis=1)
    steps = LEVELS[bits][unpacked]
    rotated = gains.astype(np.float64)[:, None] * steps
    if centroid_rows is not None:
        rotated = rotated + centroid_unit * centroid_rows.astype(np.float64)
    vectors: Double = rotated @ rotation.astype(np.float64).T
    return vectors


def prune_candidates(scores: Sequence[float], k: int, alpha: float) -> int:
    """How many of the candidates, sorted by falling first-stage score, candidate pruning keeps."""
    if len(scores) < k:
        return len(scores)
    kth = scores[k - 1]
    if np.isinf(kth):
        return sum(score >= kth for score in scores)
    # Below a finite score lies a finite threshold, even where doubles do not reach.
    threshold = max(kth - alpha * abs(kth), -sys.float_info.max)
    return sum(score >= threshold for score in scores)


def early_exit(maxsims: Sequence[float], ordinals: Sequence[int], k: int, beta: int) -> int:
    """How many candidates, in first-stage order, are scored before early exit stops; ties go to the lower ordinal."""
    keys = [(-score, ordinal) for score, ordinal in zip(maxsims, ordinals, strict=True)]
    misses = 0
    for position in range(k, len(keys)):
        worst_of_top = sorted(keys[:position])[k - 1]
        misses = 0 if keys[position] < worst_of_top else misses + 1
        if misses == beta:
            return position + 1
    return len(keys)
