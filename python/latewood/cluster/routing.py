"""Ids → slots → shards: the same on every machine and in every process."""

import struct
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from latewood.common.types import Id, IdSequence, ResultIds
from latewood.forms.ids import plain_ids
from latewood.forms.ragged import Ragged

SLOTS = 2**16
"""A shard owns a range of them; more shards than slots cannot be."""


def slot_of(key: Id) -> int:
    """Give the slot of an id: the first two bytes of its BLAKE2b hash, big end first.

    What is hashed is the UTF-8 of a str behind the byte `s`, or the 64 bits of an int, little end first, behind the
    byte `i`; so 7 and "7" are different ids.
    """
    data = b"s" + key.encode() if isinstance(key, str) else b"i" + struct.pack("<q", key)
    return int.from_bytes(blake2b(data, digest_size=2).digest(), "big")


def slots_of(ids: Iterable[Id]) -> NDArray[np.int64]:
    """Give the slot of each id."""
    return np.fromiter((slot_of(key) for key in plain_ids(ids)), dtype=np.int64)


def divided(first: int, last: int, parts: int) -> list[int]:
    """Give the first slots of ranges, as equal as can be, that divide those from `first` to before `last`."""
    return [first + (last - first) * part // parts for part in range(parts)]


def chosen(ids: IdSequence, rows: NDArray[np.intp]) -> ResultIds:
    """Give some of normalised ids, in the form that they have."""
    return ids[rows] if isinstance(ids, np.ndarray) else [str(ids[row]) for row in rows.tolist()]


def some(vectors: Ragged, rows: NDArray[np.intp]) -> Ragged:
    """Give some items of ragged vectors, as a copy; `rows` ascend."""
    lengths = vectors.lengths
    wanted = np.zeros(len(lengths), dtype=np.bool_)
    wanted[rows] = True
    values = vectors.values[vectors.offsets[0] : vectors.offsets[-1]][np.repeat(wanted, lengths)]
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths[rows])]).astype(np.int64))
