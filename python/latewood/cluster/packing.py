"""Plain values ↔ bytes, as they travel to the processes of shards and back: no pickle, and one piece of memory.

The bytes are a length, a head of that length as JSON, and arrays and bytes, each of which begins at a multiple of 8.
The head has the other values, and says of which type and shape these are.
"""

import json
from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np

_STEP = 8
_BYTES = "bytes"


def packed(values: Iterable[Any]) -> bytes:
    """Bring values into bytes.

    Parameters
    ----------
    values : iterable
        Arrays of numbers or booleans, bytes, and what JSON has, floats like -inf as well. Tuples become lists.
    """
    plain: list[Any] = []
    forms: list[Any] = []
    parts: list[Any] = []
    for value in values:
        form: Any = None
        if isinstance(value, np.ndarray):
            form = (value.dtype.str, value.shape)
            parts += [np.ascontiguousarray(value).data, bytes(-value.nbytes % _STEP)]
        elif isinstance(value, bytes):
            form = (_BYTES, [len(value)])
            parts += [value, bytes(-len(value) % _STEP)]
        plain.append(value if form is None else None)
        forms.append(form)
    # Half of a surrogate pair can be in an id or a filter, and finds nothing.
    head = json.dumps((plain, forms), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    head += b" " * (-len(head) % _STEP)
    return b"".join((len(head).to_bytes(_STEP, "little"), head, *parts))


def unpacked(data: bytes) -> list[Any]:
    """Give the values again; arrays are read-only and lie in `data`, and so do bytes, which are views of it."""
    place = _STEP + int.from_bytes(data[:_STEP], "little")
    values, forms = json.loads(data[_STEP:place])
    for number, form in enumerate(forms):
        if form is not None:
            (kind, shape), size = form, prod(form[1])
            part = (
                memoryview(data)[place : place + size]
                if kind == _BYTES
                else np.frombuffer(data, kind, size, place).reshape(shape)
            )
            values[number] = part
            place += part.nbytes + -part.nbytes % _STEP
    return list(values)
