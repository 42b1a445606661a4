"""Spherical k-means on a batch of texts, with the labels that latewood's core finds for each text alone.

The arithmetic is that of `rust/core/src/pooling/kmeans.rs`, where it is explained: directions become integer vectors,
so all sums are exact in whatever order a device adds them.
"""

import torch
from torch import Tensor

_SCALE = 4000.0
_ITERATIONS = 10


@torch.no_grad()
def cluster(vectors: Tensor, mask: Tensor, clusters: Tensor) -> Tensor:
    """Give every token that counts the number of its cluster.

    Parameters
    ----------
    vectors : float tensor [texts, tokens, dim]
    mask : bool tensor [texts, tokens]
        Which tokens count.
    clusters : integer tensor [texts]
        Clusters of each text, at most as many as it has tokens that count. Each cluster gets a member; a text with as
        many clusters as tokens gets one for each, in order.

    Returns
    -------
    int64 tensor [texts, tokens]
        Clusters are numbered by their first tokens. Without meaning where `mask` is False.
    """
    labels = mask.cumsum(1).sub(1).clamp(min=0)
    pooled = clusters < mask.sum(1)
    if pooled.any():
        device = vectors.device
        # There is no float64 on Apple's GPUs, and nothing shorter holds the sums.
        where = torch.device("cpu") if device.type == "mps" else device
        chosen = [part[pooled].to(where) for part in (vectors, mask, clusters)]
        labels[pooled] = _kmeans(*chosen).to(device)
    return labels


def _kmeans(vectors: Tensor, mask: Tensor, clusters: Tensor) -> Tensor:
    with torch.autocast(vectors.device.type, enabled=False):
        directions = vectors.double().masked_fill(~mask[..., None], 0.0)
        norms = directions.square().sum(2).sqrt()
        scales = torch.where(norms > 0, _SCALE / norms, 0.0)
        directions = (directions * scales[..., None]).round()
        similarities = directions @ directions.transpose(1, 2)
    texts, tokens, most = *mask.shape, int(clusters.max())
    exists = torch.arange(most, device=vectors.device) < clusters[:, None]
    every = torch.arange(texts, device=vectors.device)
    starts = _farthest_first(similarities, mask, most)
    sums = similarities[every[:, None], starts]
    squares = similarities[every[:, None], starts, starts]
    before = torch.full_like(mask, -1, dtype=torch.int64)
    for _ in range(_ITERATIONS):
        inverse = torch.where(squares > 0, squares.sqrt().reciprocal(), 0.0)
        scores = (sums * inverse[..., None]).masked_fill(~exists[..., None], -torch.inf)
        labels = scores.argmax(1)
        own = scores.gather(1, labels[:, None])[:, 0]
        labels = _fill_empty(labels, own, mask, exists)
        if torch.equal(labels, before):
            break
        before = labels
        # Tokens that do not count have similarities of 0, so it does not matter where they are added.
        rows = (labels + most * every[:, None]).flatten()
        sums = sums.new_zeros((texts * most, tokens)).index_add(0, rows, similarities.flatten(0, 1))
        sums = sums.reshape(texts, most, tokens)
        squares = torch.zeros_like(squares).scatter_add(1, labels, sums.gather(1, labels[:, None])[:, 0])
    return _renumbered(before, mask, most)


def _farthest_first(similarities: Tensor, mask: Tensor, most: int) -> Tensor:
    """Give `[texts, most]` tokens: the one nearest to the mean direction, then the least similar to all so far."""
    every = torch.arange(len(mask), device=mask.device)
    at = similarities.sum(1).masked_fill(~mask, -torch.inf).argmax(1)
    nearest = torch.full_like(similarities[:, 0], -torch.inf).masked_fill(~mask, torch.inf)
    starts = []
    for _ in range(most):
        starts.append(at)
        nearest = torch.maximum(nearest, similarities[every, at])
        nearest[every, at] = torch.inf
        at = nearest.argmin(1)
    return torch.stack(starts, dim=1)


def _fill_empty(labels: Tensor, own: Tensor, mask: Tensor, exists: Tensor) -> Tensor:
    """Give each empty cluster the token least similar to its centroid, from a cluster that keeps another."""
    own = own.masked_fill(~mask, torch.inf)
    while True:
        members = torch.zeros_like(exists, dtype=torch.int64).scatter_add(1, labels, mask.long())
        empty = exists & (members == 0)
        texts = empty.any(1).nonzero()[:, 0]
        if len(texts) == 0:
            return labels
        spare = members[texts].gather(1, labels[texts]) > 1
        taken = own[texts].masked_fill(~spare, torch.inf).argmin(1)
        labels[texts, taken] = empty[texts].int().argmax(1)
        own[texts, taken] = torch.inf


def _renumbered(labels: Tensor, mask: Tensor, most: int) -> Tensor:
    """Give clusters the order of their first tokens."""
    tokens = labels.shape[1]
    places = torch.arange(tokens, device=labels.device).expand_as(labels)
    first = torch.full((len(labels), most + 1), tokens, device=labels.device)
    first = first.scatter_reduce(1, labels.masked_fill(~mask, most), places, "amin")[:, :most]
    return first.argsort(dim=1).argsort(dim=1).gather(1, labels)
