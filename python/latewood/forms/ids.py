"""Identifiers of documents: strings or 64-bit integers, one kind for each index; a UUID is the string of it."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any
from uuid import UUID

import numpy as np

from latewood.common.types import Id, IdSequence
from latewood.errors import InvalidInputError
from latewood.forms.arrays import as_list, is_tensor, laid_out, to_numpy
from latewood.forms.values import LARGEST, count_of, shown, text_of, whole


def one_id(value: Any) -> Id:
    """Turn `value` into a plain `str` or `int`; anything else is an error."""
    if isinstance(value, str):
        # The characters themselves: `str` of an enum's member is the member's name.
        return str.__str__(text_of(value, "an id"))
    # Databases give such ids as these, and as strings when JSON carried them.
    if isinstance(value, UUID):
        return str(value)
    number = whole(value)
    if number is not None:
        return count_of(number, "an id", least=-LARGEST - 1)
    message = f"an id is a str or an int, not {type(value).__name__}: {shown(value)}"
    raise InvalidInputError(message)


def normalise_ids(ids: Iterable[Any], what: str = "ids") -> IdSequence:
    """Turn ids into a list of str, or an int64 array.

    Parameters
    ----------
    ids : iterable of str or int, or integer array
        All of one kind.
    what : str
        How messages call them.

    Raises
    ------
    InvalidInputError
        A single string, mixed kinds, other types, or integers outside 64 bits.
    """
    # Reranking a hundred candidates takes well under a millisecond in all, and this is how they come as a rule.
    usual = _usual(ids) if type(ids) is list else None
    if usual is not None:
        return usual
    if (
        type(ids) is np.ndarray
        and ids.dtype == np.int64
        and ids.ndim == 1
        and ids.flags.c_contiguous
        and ids.flags.aligned
    ):
        return ids
    if isinstance(ids, (str, bytes, bytearray, memoryview)):
        message = f"{what} is one string, {shown(ids)}; pass a list: [{shown(ids)}]"
        raise InvalidInputError(message)
    if isinstance(ids, Mapping):
        message = f"{what} is a {type(ids).__name__}; pass a list of its ids"
        raise InvalidInputError(message)
    if is_tensor(ids) or isinstance(ids, np.ndarray):
        ids = to_numpy(ids, what)
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
        if ids.ndim != 1:
            message = f"{what} has {ids.ndim} dimensions; ids are a one-dimensional array"
            raise InvalidInputError(message)
        if ids.dtype.kind == "u" and ids.size and int(ids.max()) > np.iinfo(np.int64).max:
            message = f"{what} contains {int(ids.max())}, which does not fit 64 bits with a sign"
            raise InvalidInputError(message)
        return laid_out(ids, np.int64)
    items = as_list(ids, what)
    usual = _usual(items)
    if usual is not None:
        return usual
    plain = [one_id(item) for item in items]
    strings = [item for item in plain if isinstance(item, str)]
    if len(strings) == len(plain):
        return strings
    integers = [item for item in plain if isinstance(item, int)]
    if strings:
        message = f"{what} mixes strings (such as {strings[0]!r}) and integers (such as {integers[0]}); use one kind"
        raise InvalidInputError(message)
    return np.array(integers, dtype=np.int64)


def _usual(items: list[Any]) -> IdSequence | None:
    """Give a list of str of ASCII alone, or of int alone, in a few passes in C; None for any other."""
    kinds = set(map(type, items))
    if kinds == {str} and "".join(items).isascii():
        return items
    if kinds == {int}:
        # Who asks names the one that 64 bits do not hold.
        with suppress(OverflowError):
            return np.array(items, dtype=np.int64)
    return None


def join_ids(parts: Sequence[IdSequence], *, what: str) -> IdSequence:
    """Join what `normalise_ids` gave for each of several lists; all must be of one kind."""
    filled = [part for part in parts if len(part)]
    arrays = [part for part in filled if isinstance(part, np.ndarray)]
    if filled and len(arrays) == len(filled):
        return np.concatenate(arrays)
    return normalise_ids(list(chain.from_iterable(filled)), what=what)


def plain_ids(ids: Iterable[Any]) -> Sequence[Id]:
    """Normalise ids to plain `str` or `int` values, in a list."""
    keys = normalise_ids(ids)
    return keys.tolist() if isinstance(keys, np.ndarray) else keys
