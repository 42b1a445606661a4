"""Weights of query tokens → one flat array."""

from typing import Any

import numpy as np

from latewood.common.types import FloatArray
from latewood.errors import InvalidInputError
from latewood.forms.arrays import numbers
from latewood.forms.ragged import Ragged, listed


def split_weights(weights: Any, queries: Ragged) -> FloatArray | None:
    """Weights of query tokens, flat as the queries are: one array, or a sequence with one array for each query."""
    if weights is None:
        return None
    weights = listed(weights, "weights")
    if isinstance(weights, (list, tuple)) and weights and not isinstance(weights[0], (int, float, np.number)):
        parts = [numbers(part, f"weights of query {position}") for position, part in enumerate(weights)]
        counts = [part.size for part in parts]
        if counts != queries.lengths.tolist():
            message = f"weights have {counts} entries for queries of {queries.lengths.tolist()} tokens"
            raise InvalidInputError(message)
        flat = np.concatenate(parts)
    else:
        flat = numbers(weights, "weights")
    if flat.size != len(queries.values):
        message = f"{flat.size} weights for {len(queries.values)} query tokens; give one weight for each token"
        raise InvalidInputError(message)
    # What float32 cannot hold is infinite, and refused as that.
    with np.errstate(over="ignore"):
        return flat.astype(np.float32)
