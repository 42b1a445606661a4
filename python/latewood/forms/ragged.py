"""Token vectors in any form → one flat float32 array `[tokens, dim]` and int64 offsets.

Nothing is copied when the input is already float32, contiguous and flat (or one array, or padded without a mask).
torch, pyarrow and other array libraries are recognised by what their objects can do and are never imported for it.
"""

from array import array as buffer
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from latewood.common.types import Dtype, FloatArray, OffsetArray
from latewood.errors import DimensionError, InvalidInputError
from latewood.forms.arrays import (
    as_array,
    as_list,
    booleans,
    floats,
    integers,
    is_tensor,
    laid_out,
    offsets_of,
    offsets_of_one,
)
from latewood.forms.arrow import from_arrow, is_arrow, is_plain_column, to_arrow
from latewood.forms.ids import normalise_ids, one_id
from latewood.forms.values import choice_of, count_of, flag_of, optional, shown, whole


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """Token vectors of several documents or queries, flat.

    What is given may be of another float type, order or alignment, a tensor, or integers of another type; what it holds
    is C-contiguous float32 and int64, copied only where it was not so.

    Attributes
    ----------
    values : float32 array [tokens, dim]
    offsets : int64 array [items + 1]
        Item i is `values[offsets[i]:offsets[i + 1]]`.

    Raises
    ------
    InvalidInputError
        Values that are no floats of that shape, offsets that do not start at 0, fall, or do not end at the number of
        tokens.
    """

    values: FloatArray
    offsets: OffsetArray

    def __post_init__(self) -> None:
        """Check both, and lay them out."""
        values = floats(self.values, "values")
        if values.ndim != 2:
            message = f"values have shape {values.shape}; a Ragged is one flat [tokens, dim] array with offsets"
            raise InvalidInputError(message)
        bounds = offsets_of(self.offsets, "offsets", end=len(values), items="tokens")
        object.__setattr__(self, "values", laid_out(values, np.float32))
        object.__setattr__(self, "offsets", bounds)

    @property
    def dim(self) -> int:
        """Dimensions of a token vector."""
        return int(self.values.shape[1])

    @property
    def lengths(self) -> OffsetArray:
        """Tokens of each item."""
        return self.offsets[1:] - self.offsets[:-1]

    def copy(self) -> "Ragged":
        """Give the same in memory of its own."""
        return _trusted(self.values.copy(), self.offsets.copy())

    def to_arrow(self, *, dtype: Dtype = "float32") -> Any:
        """Give an Arrow `list<fixed_size_list<dtype>[dim]>` array, one entry for each item; float32 is not copied.

        Parameters
        ----------
        dtype : {"float32", "float16", "float64"}
            DuckDB reads no float16.

        Returns
        -------
        pyarrow.ListArray, or LargeListArray beyond 2^31 - 1 tokens

        Raises
        ------
        MissingDependencyError
            pyarrow is not installed (extra `arrow`).
        """
        return to_arrow(self.values, self.offsets, choice_of(dtype, "dtype", get_args(Dtype)))

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        """Hand the array to any library that knows Arrow's PyCapsule interface."""
        return self.to_arrow().__arrow_c_array__(requested_schema)

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"Ragged({len(self)} items, {len(self.values)} tokens, dim={self.dim})"

    def __len__(self) -> int:
        """Count the items."""
        return len(self.offsets) - 1

    def __getitem__(self, position: int) -> FloatArray:
        """Give the vectors of one item, a view."""
        position = position_of(position, len(self), "items")
        return self.values[self.offsets[position] : self.offsets[position + 1]]

    def __iter__(self) -> Iterator[FloatArray]:
        """Give the vectors of each item in turn."""
        return (self[position] for position in range(len(self)))


def to_ragged(
    data: Any,
    *,
    mask: Any = None,
    offsets: Any = None,
    lengths: Any = None,
    dim: int | None = None,
    names: Sequence[Any] | NDArray[np.int64] | None = None,
    kind: str = "document",
    allow_empty: bool = False,
) -> Ragged:
    """Turn token vectors in any accepted form into a `Ragged`.

    Parameters
    ----------
    data : array, tensor, nested list, sequence of them, Arrow list array, or Ragged
        A sequence of `[tokens, dim]` arrays; one padded `[items, tokens, dim]` array with `mask` or `lengths`; one flat
        `[tokens, dim]` array with `offsets` or `lengths`; one `[tokens, dim]` array alone, which is a single item.
        float16, bfloat16, float32 or float64, of any memory order; torch tensors may be on any device. A sequence may
        be a generator or an array of objects. Integers are refused, and so is a masked array that hides any value.
    mask : array, optional
        True (or non-zero) where a token counts: `[items, tokens]`, or for a sequence one mask for each item. NumPy's
        masked arrays mean the opposite by True.
    offsets : integer array [items + 1], optional
    lengths : integer array [items], optional
    dim : int, optional
        The dimensions that are expected.
    names : sequence, optional
        Ids of the items, for messages.
    kind : str
        What an item is called in messages.
    allow_empty : bool
        Whether an item may have no tokens.

    Raises
    ------
    DimensionError
        A wrong number of dimensions, or different ones in different items.
    InvalidInputError
        Anything else that does not fit, with the item's id or position.
    """
    allow_empty = flag_of(allow_empty, "allow_empty")
    optional(count_of, dim, "dim")
    if offsets is not None and lengths is not None:
        message = "both offsets and lengths are given; pass one of them"
        raise InvalidInputError(message)
    names = optional(normalise_ids, names, "names")
    naming = _Naming(kind, names)
    data = listed(data, naming.whole)
    if isinstance(data, Ragged):
        ragged = data
        if mask is not None or offsets is not None or lengths is not None:
            message = "a Ragged has its own offsets; mask, offsets and lengths do not go with it"
            raise InvalidInputError(message)
    elif is_arrow(data):
        values, arrow_offsets = from_arrow(data, naming.whole)
        ragged = Ragged(floats(values, naming.whole), arrow_offsets)
    elif isinstance(data, (list, tuple)) and not _is_plain_matrix(data):
        if offsets is not None or lengths is not None:
            message = (
                f"{naming.whole}: offsets and lengths go with one array, not with a {type(data).__name__} of arrays"
            )
            raise InvalidInputError(message)
        ragged = _from_sequence(data, mask, dim, naming)
    else:
        ragged = _from_array(floats(data, naming.whole), mask, offsets, lengths, naming)
    if names is not None and len(names) != len(ragged):
        message = f"{len(names)} ids for vectors of {len(ragged)} {kind}s; give one id for each"
        raise InvalidInputError(message)
    if dim is not None and not ragged.dim and not len(ragged.values):
        # Lists of any length say nothing of their dimensions where all are empty.
        ragged = Ragged(np.zeros((0, dim), dtype=np.float32), ragged.offsets)
    if dim is not None and len(ragged) and ragged.dim != dim:
        message = f"{naming.whole} have {ragged.dim} dimensions, {dim} are expected"
        raise DimensionError(message)
    if not allow_empty and len(ragged):
        empty = np.flatnonzero(ragged.lengths == 0)
        if empty.size:
            message = f"{naming(int(empty[0]))} has no tokens; leave it out, or check what encoded it"
            raise InvalidInputError(message)
    return ragged


def one_matrix(data: Any, dim: int | None) -> Ragged | None:
    """Wrap the commonest query, one float32 matrix as it should be; None for all others, which `to_ragged` takes.

    After a rerank's work nothing of Python is left in the caches, so that each step here counts several times.
    """
    if (
        type(data) is not np.ndarray
        or data.dtype != np.float32
        or data.ndim != 2
        or data.shape[1] != dim
        or not len(data)
        or not (data.flags.c_contiguous and data.flags.aligned)
    ):
        return None
    return _trusted(data, offsets_of_one(len(data)))


def _trusted(values: FloatArray, offsets: OffsetArray) -> Ragged:
    """Make a `Ragged` of what is known to be laid out as it should be."""
    ragged = object.__new__(Ragged)
    object.__setattr__(ragged, "values", values)
    object.__setattr__(ragged, "offsets", offsets)
    return ragged


def listed(data: Any, what: str) -> Any:
    """Give a collection of items as a list, and what may be one array, tensor or text as it is.

    Generators, views of a dict, arrays of objects and of str, and columns of texts, ids and objects are collections.
    """
    if (
        isinstance(data, (Ragged, list, tuple, str, bytes, bytearray, memoryview, buffer, Mapping))
        or is_tensor(data)
        or (is_arrow(data) and not is_plain_column(data))
    ):
        return data
    if isinstance(data, (set, frozenset)):
        message = f"{what}: a {type(data).__name__} has no order; pass a list"
        raise InvalidInputError(message)
    # Of structs numpy makes a matrix.
    if hasattr(data, "__array__") and (hasattr(data, "isna") or not is_arrow(data)):
        plain = as_array(data, what)
        if not plain.ndim or plain.dtype.kind not in "OUT":
            return plain
        # Where a list has None, a column of pandas has NaN or NA.
        missing = data.isna() if plain.ndim == 1 and hasattr(data, "isna") else np.zeros(len(plain), dtype=np.bool_)
        return [None if gone else item for item, gone in zip(plain.tolist(), missing, strict=True)]
    return as_list(data, what) if isinstance(data, Iterable) else data


def is_text_batch(queries: Any) -> bool:
    """Whether `queries` is a sequence of texts; a mixed one is an error further on."""
    return isinstance(queries, (list, tuple)) and len(queries) > 0 and isinstance(queries[0], str)


def is_batch(data: Any) -> bool:
    """Whether `data` is several items and not the vectors of one."""
    if isinstance(data, (list, tuple)):
        return not _is_plain_matrix(data) and len(data) > 0
    return isinstance(data, Ragged) or is_arrow(data) or getattr(data, "ndim", 0) == 3


def _is_plain_matrix(data: Sequence[Any]) -> bool:
    """Whether `data` is one `[tokens, dim]` matrix written as lists of numbers."""
    first = data[0] if data else None
    return isinstance(first, (list, tuple)) and bool(first) and isinstance(first[0], (int, float, np.number))


class _Naming:
    """How messages call an item: by its id if there is one, else by its position."""

    def __init__(self, kind: str, names: Sequence[Any] | NDArray[np.int64] | None) -> None:
        self._kind = kind
        self._names = names
        self.whole = f"the {kind} vectors"

    def __call__(self, position: int) -> str:
        if self._names is not None and position < len(self._names):
            return f"{self._kind} {one_id(self._names[position])!r}"
        return f"{self._kind} at position {position}"


def _from_array(array: FloatArray, mask: Any, offsets: Any, lengths: Any, naming: _Naming) -> Ragged:
    if array.ndim == 3:
        if offsets is not None:
            message = f"{naming.whole}: offsets go with a flat [tokens, dim] array; a padded one takes mask or lengths"
            raise InvalidInputError(message)
        return _from_padded(array, mask, lengths, naming)
    if array.ndim != 2:
        message = (
            f"{naming.whole}: shape {array.shape}; pass [tokens, dim] for one, [items, tokens, dim] with a mask, "
            "or a list of [tokens, dim] arrays"
        )
        raise InvalidInputError(message)
    if lengths is not None:
        offsets = _lengths_to_offsets(lengths, naming)
    if offsets is None:
        offsets = np.array([0, len(array)], dtype=np.int64)
        if mask is not None:
            return _from_padded(array[None], booleans(mask, "mask")[None], None, naming)
    elif mask is not None:
        message = f"{naming.whole}: a mask goes with a padded array, not with offsets or lengths of a flat one"
        raise InvalidInputError(message)
    return Ragged(array, offsets)


def _from_padded(array: FloatArray, mask: Any, lengths: Any, naming: _Naming) -> Ragged:
    items, width, dim = array.shape
    if mask is not None and lengths is not None:
        message = f"{naming.whole}: both mask and lengths are given; pass one of them"
        raise InvalidInputError(message)
    if lengths is not None:
        counts = np.diff(_lengths_to_offsets(lengths, naming))
        if len(counts) != items or (counts > width).any():
            message = f"{naming.whole}: lengths do not fit a padded array of shape {array.shape}"
            raise InvalidInputError(message)
        mask = np.arange(width) < counts[:, None]
    if mask is None:
        offsets = np.arange(items + 1, dtype=np.int64) * width
        return Ragged(array.reshape(items * width, dim), offsets)
    keep = booleans(mask, "mask")
    if keep.shape != (items, width):
        message = f"{naming.whole}: the mask has shape {keep.shape}, the padded array needs {(items, width)}"
        raise InvalidInputError(message)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(keep.sum(axis=1, dtype=np.int64))])
    return Ragged(array[keep], offsets)


def _from_sequence(data: Sequence[Any], mask: Any, dim: int | None, naming: _Naming) -> Ragged:
    masks = None if mask is None else _masks(mask, len(data))
    parts = [_item(item, dim, naming(position)) for position, item in enumerate(data)]
    if masks is not None:
        parts = [_masked(part, masks[position], naming(position)) for position, part in enumerate(parts)]
    dims = [part.shape[1] for part in parts if len(part) or part.shape[1]]
    width = dim if dim is not None else (dims[0] if dims else 0)
    for position, part in enumerate(parts):
        if part.shape[1] != width and len(part):
            message = f"{naming(position)} has {part.shape[1]} dimensions, {width} are expected"
            raise DimensionError(message)
    offsets = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    filled = [part for part in parts if len(part)]
    if not filled:
        return Ragged(np.zeros((0, width), dtype=np.float32), offsets)
    values = filled[0] if len(filled) == 1 else np.concatenate(filled)
    return Ragged(values, offsets)


def _item(item: Any, dim: int | None, where: str) -> FloatArray:
    if isinstance(item, str):
        message = f"{where} is text; vectors are expected here"
        raise InvalidInputError(message)
    if isinstance(item, (list, tuple)) and not item:
        return np.zeros((0, dim or 0), dtype=np.float32)
    part = floats(item, where)
    if part.ndim == 1 and part.size == 0:
        return part.reshape(0, dim or 0)
    if part.ndim != 2:
        message = f"{where}: shape {part.shape}; each item of a list is one [tokens, dim] array"
        if part.ndim == 1:
            message += "; for one item alone pass the [tokens, dim] array itself"
        raise InvalidInputError(message)
    return part


def _masks(mask: Any, count: int) -> Sequence[Any]:
    given = listed(mask, "mask")
    masks = given if isinstance(given, (list, tuple)) else list(np.atleast_1d(booleans(given, "mask")))
    if len(masks) != count:
        message = f"{len(masks)} masks for {count} items; give one for each"
        raise InvalidInputError(message)
    return masks


def _masked(part: FloatArray, mask: Any, where: str) -> FloatArray:
    keep = booleans(mask, f"the mask of {where}").reshape(-1)
    if keep.size != len(part):
        message = f"{where}: a mask of {keep.size} entries for {len(part)} tokens"
        raise InvalidInputError(message)
    kept: FloatArray = part[keep]
    return kept


def position_of(position: Any, count: int, what: str) -> int:
    """Resolve a position among `count` items, counted from the end if negative."""
    number = whole(position)
    if number is None:
        message = f"a position is an integer, not {shown(position)}"
        raise InvalidInputError(message)
    if not -count <= number < count:
        message = f"position {number} is outside the {count} {what}"
        raise IndexError(message)
    return number % count


def _lengths_to_offsets(lengths: Any, naming: _Naming) -> OffsetArray:
    counts = integers(lengths, "lengths")
    if (counts < 0).any():
        message = f"{naming.whole}: a length is negative"
        raise InvalidInputError(message)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])
