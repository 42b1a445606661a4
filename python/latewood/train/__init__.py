"""Training of late-interaction models for fewer vectors, with sentence-transformers' trainer; needs torch.

This is the one package of latewood that imports torch at once.
"""

from latewood.common.packages import import_optional

import_optional("sentence_transformers", extra="train", purpose="training")

from latewood.train.crisp import CrispPooling  # noqa: E402
from latewood.train.pooled_loss import PooledLoss  # noqa: E402

__all__ = ["CrispPooling", "PooledLoss"]
