"""One loss for several sizes: a model that is encoded once and pooled to each of several budgets."""

from collections.abc import Iterable, Sequence
from typing import Any

from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.losses import CachedMultiVectorMultipleNegativesRankingLoss
from sentence_transformers.multi_vector_encoder.modules.token_pooling import BaseTokenPooling
from torch import Tensor, nn

from latewood.errors import InvalidInputError
from latewood.train.crisp import CrispPooling

Budget = int | tuple[int | None, int | None] | BaseTokenPooling | None


class PooledLoss(nn.Module):
    """The mean of a multi-vector loss over several poolings of the same token vectors.

    The encoder runs once for each input; only clustering and scoring are done once for each budget. The model stays
    without pooling of its own. How far to pool is chosen afterwards, by `CrispPooling` as its last module or by
    `pool_tokens` on its vectors.

    Parameters
    ----------
    loss : torch module
        A loss of sentence-transformers for multi-vector models, which keeps its `MultiVectorEncoder` as `model`.
    budgets : sequence
        For each size None (no pooling), the vectors of a document, a pair of the vectors of a query and of a document
        (either may be None: not pooled), or any `BaseTokenPooling`.
    weights : sequence of float, optional
        Of each size; equal by default. They are divided by their sum.

    Raises
    ------
    InvalidInputError
        A loss without `model` or with gradient caching, which encodes more than once; a model that pools already; no
        budgets, or weights that do not fit them.
    """

    def __init__(
        self,
        loss: nn.Module,
        budgets: Sequence[Budget] = (None, (8, 32), (4, 8)),
        *,
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        model = getattr(loss, "model", None)
        if not isinstance(model, MultiVectorEncoder):
            message = f"{type(loss).__name__} has no MultiVectorEncoder as its `model`; pass a multi-vector loss"
            raise InvalidInputError(message)
        if isinstance(loss, CachedMultiVectorMultipleNegativesRankingLoss):
            message = f"{type(loss).__name__} encodes each text twice; use the loss of that name without `Cached`"
            raise InvalidInputError(message)
        if any(isinstance(module, BaseTokenPooling) for module in model):
            message = "the model pools already, which would pool twice; take its pooling module out for training"
            raise InvalidInputError(message)
        if not budgets:
            message = "no budgets; give at least one"
            raise InvalidInputError(message)
        shares = [1.0] * len(budgets) if weights is None else [float(weight) for weight in weights]
        if len(shares) != len(budgets) or min(shares) < 0 or sum(shares) <= 0:
            message = f"{len(budgets)} budgets need as many weights, none negative and not all 0; got {weights}"
            raise InvalidInputError(message)
        self.loss = loss
        self.budgets = list(budgets)
        self.weights = [share / sum(shares) for share in shares]
        self.poolings = [_pooling(budget) for budget in budgets]

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """Give the weighted mean of the losses."""
        sentence_features = list(sentence_features)
        model: Any = self.loss.model
        encode = model.forward
        encoding = _Encoding(encode)
        # As MatryoshkaLoss of sentence-transformers does it: the loss calls the model as ever.
        model.forward = encoding
        try:
            losses = []
            for pooling in self.poolings:
                encoding.start(pooling)
                losses.append(self.loss(sentence_features, labels))
        finally:
            model.forward = encode
        total: Tensor = sum(weight * loss for weight, loss in zip(self.weights, losses, strict=True))
        return total

    def get_config_dict(self) -> dict[str, Any]:
        """Give what the trainer writes into the model card."""
        return {"loss": type(self.loss).__name__, "budgets": [str(budget) for budget in self.budgets]}


class _Encoding:
    """Stands for a model's `forward`: encodes each input once, and pools what came out for each budget anew.

    A loss encodes the same inputs in the same order for each budget, so the number of a call says which input it is.
    """

    def __init__(self, encode: Any) -> None:
        self._encode = encode
        self._outputs: list[dict[str, Tensor]] = []
        self._pooling: BaseTokenPooling | None = None
        self._calls = 0

    def start(self, pooling: BaseTokenPooling | None) -> None:
        self._pooling = pooling
        self._calls = 0

    def __call__(self, features: dict[str, Tensor], task: str | None = None, **options: Any) -> dict[str, Tensor]:
        if self._calls == len(self._outputs):
            self._outputs.append(self._encode(features, task=task, **options))
        # A pooling module writes into the dict that it is given.
        output = dict(self._outputs[self._calls])
        self._calls += 1
        return output if self._pooling is None else self._pooling(output, task=task)


def _pooling(budget: Budget) -> BaseTokenPooling | None:
    if budget is None or isinstance(budget, BaseTokenPooling):
        return budget
    query, document = budget if isinstance(budget, tuple) else (None, budget)
    return CrispPooling(query, document)
