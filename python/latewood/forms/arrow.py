"""Arrow `list<fixed_size_list<float>>` arrays, by duck typing; pyarrow is imported only for other libraries' arrays."""

from typing import Any

import numpy as np

from latewood.common.packages import import_optional
from latewood.common.types import OffsetArray
from latewood.errors import InvalidInputError


def is_arrow(data: Any) -> bool:
    """Whether `data` offers the Arrow PyCapsule interface (pyarrow, polars, duckdb, nanoarrow …)."""
    return hasattr(data, "__arrow_c_array__") or hasattr(data, "__arrow_c_stream__")


def from_arrow(data: Any, where: str) -> tuple[np.ndarray[Any, Any], OffsetArray]:
    """Give the flat values `[tokens, dim]` and the offsets of an Arrow array; zero-copy for one chunk."""
    if not type(data).__module__.startswith("pyarrow"):
        pyarrow = import_optional("pyarrow", purpose="reading Arrow arrays of other libraries")
        try:
            data = pyarrow.chunked_array(data) if hasattr(data, "__arrow_c_stream__") else pyarrow.array(data)
        except Exception as error:  # what another library hands over may be anything
            message = f"{where}: an Arrow object that pyarrow cannot read ({error}); pass a column of vectors"
            raise InvalidInputError(message) from error
    if not hasattr(data, "type"):
        message = f"{where}: an Arrow {type(data).__name__}; pass one column of it"
        raise InvalidInputError(message)
    _check_type(data.type, where)
    pieces = [_from_array(chunk, where) for chunk in (data.chunks if hasattr(data, "chunks") else [data])]
    if len(pieces) == 1:
        return pieces[0]
    width = data.type.value_type.list_size
    bounds = [np.zeros(1, dtype=np.int64)]
    for _, offsets in pieces:
        bounds.append(offsets[1:] + bounds[-1][-1])
    values = [piece for piece, _ in pieces] or [np.zeros((0, width), dtype=np.float32)]
    return np.concatenate(values), np.concatenate(bounds)


def _check_type(kind: Any, where: str) -> None:
    inner = getattr(kind, "value_type", None)
    name = str(kind)
    if not name.startswith(("list<", "large_list<")) or not hasattr(inner, "list_size"):
        message = f"{where}: Arrow type {name}; list<fixed_size_list<float>> is expected"
        raise InvalidInputError(message)


def _from_array(array: Any, where: str) -> tuple[np.ndarray[Any, Any], OffsetArray]:
    offsets = array.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    # `values` ignores the slice that `array` may be; its offsets do not.
    vectors = array.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    numbers = vectors.flatten()
    if array.null_count or vectors.null_count or numbers.null_count:
        message = f"{where}: the Arrow array contains nulls; drop or fill them"
        raise InvalidInputError(message)
    width = int(array.type.value_type.list_size)
    return numbers.to_numpy(zero_copy_only=False).reshape(len(vectors), width), offsets - offsets[0]
