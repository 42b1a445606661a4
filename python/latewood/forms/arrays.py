"""Arrays in the forms that callers have → numpy arrays as the core reads them: in C order, aligned, of native types."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latewood.common.types import BoolArray, FloatArray, OffsetArray
from latewood.errors import InvalidInputError
from latewood.forms.values import shown

AnyArray = np.ndarray[Any, Any]


def laid_out(array: AnyArray, kind: type[np.generic]) -> AnyArray:
    """Give `array` as the core reads it where it lies: a copy only if its order, alignment or type is another."""
    flags = array.flags
    if type(array) is np.ndarray and array.dtype == kind and flags.c_contiguous and flags.aligned:
        return array
    return np.require(array, kind, ("C", "A", "E"))


def to_numpy(data: Any, where: str) -> AnyArray:
    """Bring `data` to a plain numpy array: tensors leave their graph and device, and bfloat16 becomes float32.

    A masked array must not hide anything: what stands behind its mask is no value. An array of objects is read as the
    list that it stands for.
    """
    plain = as_array(data, where)
    return as_array(plain.tolist(), where) if plain.dtype.kind == "O" and plain.ndim else plain


def as_array(data: Any, where: str) -> AnyArray:
    """Do the same, and leave an array of objects as it is."""
    if type(data) is np.ndarray:
        return data
    try:
        if is_tensor(data):
            tensor = data.detach().cpu()
            return np.asarray((tensor.float() if "bfloat16" in str(tensor.dtype) else tensor).numpy())
        hidden = _hides(data)
        # Where a column of Arrow keeps places in a dictionary, numpy takes a null for a place.
        kept = str(getattr(data, "type", "")).startswith("dictionary")
        plain = np.asarray(data.to_pylist() if kept else data)
    except Exception as error:  # a foreign object may raise anything
        message = f"{where}: not an array ({error}); pass a list of [tokens, dim] arrays, or one dense array"
        raise InvalidInputError(message) from error
    if hidden:
        message = (
            f"{where}: a masked array that hides values; leave out what is masked, or give it a value with .filled()"
        )
        raise InvalidInputError(message)
    return plain


def floats(data: Any, where: str) -> FloatArray:
    """Bring token vectors to float32, in whatever order they lie; all but floats are refused."""
    array = to_numpy(data, where)
    if array.dtype == np.float32:
        return array
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        # A float64 too large for float32 becomes infinite, which is reported as such with its place.
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    if array.dtype.kind in "iub":
        message = f"{where}: {array.dtype} values; token vectors are floats, convert them with .astype('float32')"
    else:
        what = f"a {type(data).__name__}" if array.dtype.kind == "O" else f"{array.dtype} values"
        message = f"{where}: {what}; pass float16, bfloat16, float32 or float64 arrays of [tokens, dim]"
    raise InvalidInputError(message)


def numbers(data: Any, where: str) -> NDArray[np.float64]:
    """Bring scores or weights to one flat array of float64."""
    array = to_numpy(data, where)
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16" and array.size:
        message = f"{where}: {array.dtype} values; pass numbers"
        raise InvalidInputError(message)
    return array.astype(np.float64, copy=False).reshape(-1)


def integers(data: Any, what: str) -> OffsetArray:
    """Bring offsets or lengths to int64."""
    array = to_numpy(data, what)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        message = f"{what} must be a one-dimensional integer array, not {array.dtype} of shape {array.shape}"
        raise InvalidInputError(message)
    return laid_out(array, np.int64)


def offsets_of(data: Any, what: str, *, end: int, items: str, count: int | None = None) -> OffsetArray:
    """Bring offsets to int64; they must divide `end` items of some kind, into `count` parts if that is given."""
    bounds = integers(data, what)
    fits = bounds.size > 0 and bounds[0] == 0 and bounds[-1] == end and not (bounds[1:] < bounds[:-1]).any()
    if not fits or (count is not None and bounds.size != count + 1):
        number = "" if count is None else f"be {count + 1} integers, "
        found = f"they go from {bounds[0]} to {bounds[-1]}" if bounds.size else "they are empty"
        message = f"{what} must {number}start at 0, never fall and end at the number of {items}, {end}; {found}"
        raise InvalidInputError(message)
    return bounds


@lru_cache(maxsize=1024)
def offsets_of_one(count: int) -> OffsetArray:
    """Offsets of a single item of so many rows, which are shared and cannot be written to."""
    offsets = np.array((0, count), dtype=np.int64)
    offsets.flags.writeable = False
    return offsets


def booleans(data: Any, what: str) -> BoolArray:
    """Bring a mask to bool."""
    array = to_numpy(data, what)
    if array.dtype.kind not in "biuf" and array.size:
        message = f"{what} must be an array of bool or of numbers, not of {array.dtype}"
        raise InvalidInputError(message)
    if array.dtype.kind == "f" and np.isnan(array).any():
        message = f"{what} holds NaN; say True or False for each token"
        raise InvalidInputError(message)
    if array.dtype.kind in "if" and (array < 0).any():
        # What some models add to their attention, 0 for what counts: the opposite of a mask.
        message = f"{what} holds {array.min()}; say True or 1 for each token that counts, and False or 0 for the others"
        raise InvalidInputError(message)
    return array.astype(np.bool_)


def as_list(data: Any, what: str) -> list[Any]:
    """Give the items of anything that can be gone through; Arrow's columns give objects of their own for them."""
    if hasattr(data, "to_pylist"):
        data = data.to_pylist()
    try:
        iterator = iter(data)
    except Exception as error:  # a foreign object may raise anything
        message = f"{what} cannot be gone through ({type(error).__name__}: {error}); pass a list, not {shown(data)}"
        raise InvalidInputError(message) from error
    # Outside the guard: what somebody's generator raises is theirs.
    return list(iterator)


def is_tensor(data: Any) -> bool:
    """Whether `data` is a tensor of torch, or like one."""
    return all(hasattr(data, name) for name in ("detach", "cpu", "numpy", "dtype"))


def _hides(data: Any) -> bool:
    """Whether a masked array, or one in a list, hides any value."""
    if isinstance(data, (list, tuple)):
        # One pass in C settles the usual case, a list of numbers.
        return any(issubclass(kind, np.ndarray) and kind is not np.ndarray for kind in set(map(type, data))) and any(
            map(_hides, data)
        )
    return isinstance(data, np.ndarray) and type(data) is not np.ndarray and bool(np.ma.is_masked(data))
