"""Arrow `list<fixed_size_list<float>>` arrays, in and out.

They are read by duck typing; pyarrow is imported to read other libraries' arrays, and to make some.
"""

from typing import Any

import numpy as np

from latewood.common.packages import import_optional
from latewood.common.types import FloatArray, OffsetArray
from latewood.errors import DimensionError, InvalidInputError

_FLOATS = ("halffloat", "float", "double")
"""Arrow's names of types."""
_LISTS = ("list", "large_list", "fixed_size_list", "array")
"""How the names of types of lists begin, in pyarrow, pandas and polars."""


def is_arrow(data: Any) -> bool:
    """Whether `data` offers the Arrow PyCapsule interface (pyarrow, polars, duckdb, nanoarrow …)."""
    return hasattr(data, "__arrow_c_array__") or hasattr(data, "__arrow_c_stream__")


def is_plain_column(data: Any) -> bool:
    """Whether `data` is a column of a table that holds texts, ids or numbers, and no lists of vectors."""
    # Of a frame, either name may be that of a column.
    kind = getattr(data, "dtype", getattr(data, "type", None)) if getattr(data, "ndim", 1) == 1 else None
    return kind is not None and not str(kind).lower().startswith(_LISTS)


def from_arrow(data: Any, where: str) -> tuple[np.ndarray[Any, Any], OffsetArray]:
    """Give the flat values `[tokens, dim]` and the offsets of an Arrow array; zero-copy for one chunk."""
    if not type(data).__module__.startswith("pyarrow"):
        pyarrow = import_optional("pyarrow", extra="arrow", purpose="reading Arrow arrays of other libraries")
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
    filled = [piece for piece, _ in pieces if len(piece)]
    widths = sorted({piece.shape[1] for piece in filled}) or [getattr(data.type.value_type, "list_size", 0)]
    if len(widths) > 1:
        message = f"{where}: vectors of {widths[0]} and of {widths[1]} dimensions in one Arrow array"
        raise DimensionError(message)
    bounds = [np.zeros(1, dtype=np.int64)]
    for _, offsets in pieces:
        bounds.append(offsets[1:] + bounds[-1][-1])
    return np.concatenate(filled or [np.zeros((0, widths[0]), dtype=np.float32)]), np.concatenate(bounds)


def is_list_of_vectors(kind: Any) -> bool:
    """Whether an Arrow type is a list of lists of floats; other libraries make lists of any size of vectors."""
    lists = ("list<", "large_list<")
    inner = getattr(kind, "value_type", None)
    numbers = str(getattr(inner, "value_type", None))
    return str(kind).startswith(lists) and (
        hasattr(inner, "list_size") or (str(inner).startswith(lists) and numbers in _FLOATS)
    )


def to_arrow(values: FloatArray, offsets: OffsetArray, dtype: str) -> Any:
    """Make an Arrow `list<fixed_size_list<dtype>[dim]>` of flat vectors, without a copy of float32.

    Lists of more than 2^31 - 1 tokens are `large_list`, since offsets of 32 bits end there.
    """
    pyarrow = import_optional("pyarrow", extra="arrow", purpose="Arrow output")
    numbers = pyarrow.array(np.ascontiguousarray(values, dtype=dtype).reshape(-1))
    vectors = pyarrow.FixedSizeListArray.from_arrays(numbers, values.shape[1])
    wide = int(offsets[-1]) > np.iinfo(np.int32).max
    kind, bounds = (pyarrow.LargeListArray, np.int64) if wide else (pyarrow.ListArray, np.int32)
    return kind.from_arrays(pyarrow.array(offsets.astype(bounds)), vectors)


def _check_type(kind: Any, where: str) -> None:
    if not is_list_of_vectors(kind):
        message = f"{where}: Arrow type {kind}; list<fixed_size_list<float>> is expected"
        raise InvalidInputError(message)


def _from_array(array: Any, where: str) -> tuple[np.ndarray[Any, Any], OffsetArray]:
    offsets = array.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    # `values` ignores the slice that `array` may be; its offsets do not.
    vectors = array.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    numbers = vectors.flatten()
    if array.null_count or vectors.null_count or numbers.null_count:
        message = f"{where}: the Arrow array contains nulls; drop or fill them"
        raise InvalidInputError(message)
    width = getattr(array.type.value_type, "list_size", None)
    if width is None:
        # Lists of any length each; vectors are those of one.
        sizes = np.diff(vectors.offsets.to_numpy(zero_copy_only=False))
        width = int(sizes[0]) if sizes.size else 0
        if (sizes != width).any():
            at = int(np.argmax(sizes != width))
            message = f"{where}: vectors of {width} and of {int(sizes[at])} dimensions in one Arrow array"
            raise DimensionError(message)
    return numbers.to_numpy(zero_copy_only=False).reshape(len(vectors), width), offsets - offsets[0]
