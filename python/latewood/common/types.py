"""Types that cross the library's functions."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]
OffsetArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
Id: TypeAlias = str | int
IdSequence: TypeAlias = Sequence[str] | Sequence[int] | NDArray[np.int64]
ResultIds: TypeAlias = list[str] | NDArray[np.int64]

VectorInput: TypeAlias = object
"""Token vectors in any form that `latewood.to_ragged` takes: arrays, tensors, lists of them, Arrow, `Ragged`."""

Metadata: TypeAlias = Mapping[str, object]
Filter: TypeAlias = Mapping[str, object]
"""Conditions on metadata (docs/filters.md)."""
MissingRule: TypeAlias = Literal["error", "skip"]
Gather: TypeAlias = Literal["exact", "flood", "postings", "fde"]
KeepVectors: TypeAlias = Literal["float16"]
Rescore: TypeAlias = Literal["float16", "off"]
Dtype: TypeAlias = Literal["float32", "float16", "float64"]
Precision: TypeAlias = Literal["float32", "bfloat16"]
Run: TypeAlias = dict[str, dict[str, float]]
"""Query id → document id → score: the form that BEIR, ranx and ir-measures share."""
Stats: TypeAlias = dict[str, float]
"""Counts and seconds by stage."""
