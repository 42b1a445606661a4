"""Clustering inside of a model (CRISP, arXiv 2505.11471): what goes into MaxSim are a few centroids of each text."""

from functools import partial
from typing import Any

import torch
from sentence_transformers.multi_vector_encoder.modules.token_pooling import BaseTokenPooling, LambdaTokenPooling
from torch import Tensor
from torch.nn import functional

from latewood.errors import InvalidInputError
from latewood.forms.values import count_of, flag_of, optional, share_of
from latewood.train.kmeans import cluster


class CrispPooling(BaseTokenPooling):
    """Replaces the token vectors of a text by the centroids of their k-means clusters.

    It goes last into the modules of a `MultiVectorEncoder`, or into `encode(token_pooling=...)`. Which token belongs to
    which cluster is found on detached vectors; a centroid is the mean of the live vectors, so gradients reach every
    token. A text with fewer tokens than clusters keeps them. `latewood.encode.pool_tokens(..., "kmeans")` computes the
    same without torch.

    A checkpoint with this module is opened by its name in latewood, as in `Index.create(encoder=...)`. To
    sentence-transformers it is code from outside, which the option `trust_remote_code` of `MultiVectorEncoder` allows.

    Parameters
    ----------
    query_vectors : int, optional
        Vectors of a query at most; None leaves queries alone.
    document_vectors : int, optional
        Vectors of a document at most; None leaves documents alone. Not read where `fraction` is given.
    fraction : float, optional
        Share of a document's vectors to keep, above 0 and at most 1, rounded down, at least one.
    normalize : bool
        Scale what comes out to unit length, as models compared by cosine need it.

    Raises
    ------
    InvalidInputError
        A count below 1, a fraction out of range, or nothing to pool.
    """

    config_keys: list[str] = ["query_vectors", "document_vectors", "fraction", "normalize"]  # noqa: RUF012

    def __init__(
        self,
        query_vectors: int | None = 8,
        document_vectors: int | None = 32,
        *,
        fraction: float | None = None,
        normalize: bool = True,
    ) -> None:
        tasks = [
            task
            for task, pooled in (
                ("query", query_vectors is not None),
                ("document", document_vectors is not None or fraction is not None),
            )
            if pooled
        ]
        if not tasks:
            message = "neither queries nor documents would be pooled; give query_vectors, document_vectors or fraction"
            raise InvalidInputError(message)
        super().__init__(tasks=tasks)
        self.query_vectors = optional(count_of, query_vectors, "query_vectors")
        self.document_vectors = optional(count_of, document_vectors, "document_vectors")
        self.fraction = optional(share_of, fraction, "fraction")
        self.normalize = flag_of(normalize, "normalize")

    def forward(self, features: dict[str, Any], task: str | None = None, **_: Any) -> dict[str, Any]:
        """Pool `token_embeddings [texts, tokens, dim]`, and set `attention_mask` to the vectors that are left."""
        if not self.applies_to(task) or len(features["token_embeddings"]) == 0:
            return features
        pooled, mask = self._pooled(features["token_embeddings"], features["attention_mask"].bool(), task)
        features["token_embeddings"] = pooled
        features["attention_mask"] = mask
        return features

    def pool_one(self, embedding: Tensor, task: str | None = None, **_: Any) -> Tensor:
        """Pool one text's `[tokens, dim]`."""
        pooled, mask = self._pooled(embedding[None], embedding.new_ones((1, len(embedding)), dtype=torch.bool), task)
        return pooled[0][mask[0]]

    def pool(self, embeddings: Any, *, task: str | None = None, **layout: Any) -> Any:
        """Pool a list of `[tokens, dim]` tensors or a padded `[texts, tokens, dim]` one, as the base class says."""
        # The base class does not tell `pool_one` the task, and the number of vectors depends on it.
        for_task = LambdaTokenPooling(partial(self.pool_one, task=task), tasks=self.tasks)
        return for_task.pool(embeddings, task=task, **layout)

    def _budget(self, tokens: Tensor, task: str | None) -> Tensor:
        """Clusters that texts of so many tokens are to form."""
        if task == "query":
            return torch.full_like(tokens, self.query_vectors or 0)
        if self.fraction is not None:
            # In float64 as in the core, which not every device has.
            return (tokens.cpu().double() * self.fraction).floor().long().clamp(min=1).to(tokens.device)
        return torch.full_like(tokens, self.document_vectors or 0)

    def _pooled(self, vectors: Tensor, mask: Tensor, task: str | None) -> tuple[Tensor, Tensor]:
        """Centroids `[texts, clusters, dim]`, and which of them are there."""
        tokens = mask.sum(1)
        clusters = torch.minimum(self._budget(tokens, task), tokens)
        labels = cluster(vectors.detach(), mask, clusters)
        most = int(clusters.max())
        # Mixed precision would round the sums; tokens that do not count go to a row that is cut off.
        with torch.autocast(vectors.device.type, enabled=False):
            live = vectors.float().masked_fill(~mask[..., None], 0.0)
            places = labels.masked_fill(~mask, most)
            sums = live.new_zeros((len(live), most + 1, live.shape[2]))
            sums = sums.scatter_add(1, places[..., None].expand_as(live), live)[:, :most]
            members = functional.one_hot(places, most + 1).sum(1)[:, :most]
            means = sums / members.clamp(min=1)[..., None]
            if self.normalize:
                means = functional.normalize(means, dim=-1)
        return means.to(vectors.dtype), members > 0
