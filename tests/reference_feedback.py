"""The oracle of feedback: an index's files → what joins a query, in numpy and to the bit where a choice hangs on it.

Which mean a vector is nearest to may hang on its last bit, and all that follows on that; so the float32 sums here run
in the library's order.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latewood import Feedback
from reference import LEVELS, Double, Float, sections

LANES = 16
ITERATIONS = 20


class SplitMix64:
    """Steele, Lea and Flood 2014."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def next(self) -> int:
        mask = 2**64 - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        mixed = ((self.state ^ (self.state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
        return mixed ^ (mixed >> 31)

    def below(self, bound: int) -> int:
        return (self.next() * bound) >> 64

    def uniform(self) -> float:
        return (self.next() >> 11) / 2**53


@dataclass(frozen=True)
class Stored:
    """An index of one segment, read from its files."""

    rotation: Float  # [dim, depth]
    centroids: NDArray[np.int8]  # [cells, depth]
    unit: float
    rotated: Float  # [tokens, depth]
    cells: NDArray[np.int64]  # [tokens]
    offsets: NDArray[np.int64]  # [documents + 1]


def read(folder: Path) -> Stored:
    (trained,) = map(sections, folder.glob("codec-*"))
    (segment,) = map(sections, folder.glob("segment-*"))
    parameters = json.loads(trained[16])
    dim, depth, bits = parameters["dim"], parameters["depth"], parameters["bits"]
    centroids = np.frombuffer(trained[18], np.int8).reshape(-1, depth)
    codes = np.frombuffer(segment[34], np.uint8).reshape(-1, depth * bits // 8)
    gains = (np.frombuffer(segment[35], "<u2").astype(np.uint32) << 16).view(np.float32)
    cells = np.frombuffer(segment[36], "<u2").astype(np.int64)
    unpacked = np.concatenate([(codes >> (plane * bits)) & ((1 << bits) - 1) for plane in range(8 // bits)], axis=1)
    unit = np.float32(parameters["centroid_unit"])
    rotated = gains[:, None] * LEVELS[bits][unpacked].astype(np.float32)
    rotated += unit * centroids[cells].astype(np.float32)
    rotation = np.frombuffer(trained[17], "<f4").reshape(dim, depth)
    offsets = np.frombuffer(segment[33], "<u8").astype(np.int64)
    return Stored(rotation, centroids, float(unit), rotated, cells, offsets)


def distances(points: Float, mean: Float) -> Float:
    """Squared distance of each point, in 16 partial sums that are added up in order."""
    squares = ((points - mean) * (points - mean)).reshape(len(points), -1, LANES)
    sums = np.zeros((len(points), LANES), dtype=np.float32)
    for block in range(squares.shape[1]):
        sums += squares[:, block]
    return np.cumsum(sums, axis=1, dtype=np.float32)[:, -1]


def k_means(points: Float, wanted: int, seed: int) -> tuple[Float, list[int]]:
    """Means of the clusters that have members, and how many those are; k-means++ and Lloyd."""
    random = SplitMix64(seed)
    starts = [random.below(len(points))]
    nearest = distances(points, points[starts[0]])
    while len(starts) < wanted and nearest.any():
        sums = np.cumsum(nearest.astype(np.float64))
        starts.append(int(np.searchsorted(sums, random.uniform() * sums[-1], side="right")))
        nearest = np.minimum(nearest, distances(points, points[starts[-1]]))
    means = points[starts]
    assigned = np.full(len(points), -1)
    for _ in range(ITERATIONS):
        moved = np.stack([distances(points, mean) for mean in means], axis=1).argmin(axis=1)
        if (moved == assigned).all():
            break
        assigned = moved
        for cluster in range(len(means)):
            members = points[assigned == cluster]
            if len(members):
                means[cluster] = np.cumsum(members, axis=0, dtype=np.float32)[-1] / np.float32(len(members))
    sizes = np.bincount(assigned, minlength=len(means))
    return means[sizes > 0], sizes[sizes > 0].tolist()


def nearest_cells(stored: Stored, means: Float) -> list[int]:
    """Centroid by direction, as the codec chooses it: int8 dot products less half of each centroid's squared norm."""
    step = np.float32(5.0) / np.sqrt(np.float32(means.shape[1])) / np.float32(127.0)
    rows = stored.centroids.astype(np.int64)
    biases = np.floor((rows**2).sum(axis=1) * (stored.unit / (2.0 * float(step))) + 0.5).astype(np.int64)
    norms = np.sqrt(np.cumsum(means * means, axis=1, dtype=np.float32)[:, -1:])
    directions = np.divide(means, norms, out=means.copy(), where=norms > 0)
    quantised = np.clip(np.rint(directions / step), -127, 127).astype(np.int64)
    chosen: list[int] = (quantised @ rows.T - biases).argmax(axis=1).tolist()
    return chosen


def expansion(
    stored: Stored,
    feedback: Feedback,
    hits: list[int],
    deleted: set[int],
    weight_of_query: float,
    *,
    seed: int = 42,
) -> tuple[Double, Double]:
    """Vectors `[n, dim]` and weights `[n]` that `hits`, ordinals best first, add to a query."""
    documents = [slice(stored.offsets[hit], stored.offsets[hit + 1]) for hit in hits[: feedback.documents]]
    points = np.concatenate([stored.rotated[rows] for rows in documents])
    means, sizes = k_means(points, feedback.clusters, seed)
    live = [document for document in range(len(stored.offsets) - 1) if document not in deleted]
    held = [set(stored.cells[stored.offsets[one] : stored.offsets[one + 1]].tolist()) for one in live]
    frequencies = [sum(cell in cells for cells in held) for cell in nearest_cells(stored, means)]
    order = sorted(range(len(means)), key=lambda at: (frequencies[at], -sizes[at], at))[: feedback.vectors]
    idf = np.log([(len(live) + 1) / (frequencies[at] + 1) for at in order])
    weights = feedback.weight * idf
    if feedback.weighting == "normalised":
        weights = weights * (weight_of_query / idf.sum() if idf.sum() > 0 else 0.0)
    vectors: Double = means[order].astype(np.float64) @ stored.rotation.astype(np.float64).T
    return vectors, weights
