"""Plain data out of pickles and of torch's `.pt` files: nothing is unpickled, and no code can run.

`pickletools` tells what a pickle would do, one step after the other. The steps that build numbers, strings, lists,
tuples and dicts are followed here; all others are refused, whatever they would have led to.
"""

import math
import os
import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latewood.errors import InvalidInputError

_TYPES = {
    "HalfStorage": "<f2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "ByteStorage": "u1",
    "CharStorage": "i1",
    "ShortStorage": "<i2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
}
"""torch's names of plain types → numpy's."""

_LARGEST_PICKLE = 2**20


@dataclass(frozen=True, slots=True)
class _Name:
    """What a pickle calls by name: it stays a name."""

    name: str


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Where the numbers of a tensor lie."""

    storage: str
    kind: str
    count: int
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pickle(path: Path) -> Any:
    """Read a pickle of numbers, strings, lists, tuples and dicts.

    Raises
    ------
    InvalidInputError
        It holds anything else, or is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{path}: {error.strerror or error}"
        raise InvalidInputError(message) from error
    return _followed(data, _Machine(), str(path))


def read_torch(path: Path) -> list[np.ndarray[Any, Any]]:
    """Map the tensors that `torch.save` has written, one or a few in a tuple or list.

    Raises
    ------
    InvalidInputError
        It holds anything but plain tensors, is of torch before 1.6, or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            name = next((name for name in members if name.endswith("/data.pkl")), "")
            root = name.removesuffix("data.pkl")
            # What is packed may be far larger than the file.
            if sum(members[part].file_size for part in (name, f"{root}byteorder") if part in members) > _LARGEST_PICKLE:
                message = "its description of tensors is larger than 1 MiB"
                raise ValueError(message)
            data = archive.read(name)
            if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
                message = "it is of a machine of another byte order"
                raise ValueError(message)
    # zipfile and zlib raise a dozen kinds of errors for what is no such file.
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        message = f"{path}: not a file of torch.save since torch 1.6 ({reason}); load it with torch and save it again"
        raise InvalidInputError(message) from error

    found = _followed(data, _Tensors(), str(path))
    tensors = list(found) if isinstance(found, (list, tuple)) else [found]
    if not all(isinstance(tensor, _Tensor) for tensor in tensors):
        message = f"{path}: it holds other things than tensors; save plain tensors"
        raise InvalidInputError(message)
    return [_array(path, members.get(f"{root}data/{tensor.storage}"), tensor) for tensor in tensors]


def _followed(data: bytes, machine: "_Machine", where: str) -> Any:
    """Follow the steps of a pickle to its end."""
    step = "its first step"
    try:
        for opcode, argument, _ in pickletools.genops(data):
            step = opcode.name
            if step == "STOP":
                (value,) = machine.stack
                return value
            if step not in machine.steps:
                message = f"step {step} {argument or ''}".rstrip()
                raise _Refused(message)
            machine.steps[step](argument)
    except _Refused as error:
        message = f"{where}: refused, since it holds more than plain data: {error}; nothing of it was run"
        raise InvalidInputError(message) from error
    # Any bytes may come here, and lead to any error.
    except Exception as error:
        message = f"{where}: a damaged pickle, at {step} ({type(error).__name__}: {error})"
        raise InvalidInputError(message) from error
    message = f"{where}: a damaged pickle without an end"
    raise InvalidInputError(message)


class _Refused(Exception):  # noqa: N818  it never leaves this file
    """A step that is not one of plain data."""


class _Machine:
    """The stack that a pickle builds its value on, and the steps that plain data need."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[Any, Any] = {}
        push = self.stack.append
        self.steps: dict[str, Any] = {
            **dict.fromkeys(("PROTO", "FRAME"), lambda _: None),
            **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), push),
            **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), push),
            "NONE": lambda _: push(None),
            "NEWTRUE": lambda _: push(True),
            "NEWFALSE": lambda _: push(False),
            "EMPTY_LIST": lambda _: push([]),
            "EMPTY_DICT": lambda _: push({}),
            "EMPTY_TUPLE": lambda _: push(()),
            "TUPLE1": lambda _: push(tuple(self._last(1))),
            "TUPLE2": lambda _: push(tuple(self._last(2))),
            "TUPLE3": lambda _: push(tuple(self._last(3))),
            "MARK": lambda _: self._marks.append(len(self.stack)),
            "TUPLE": lambda _: push(tuple(self._above_mark())),
            "APPEND": lambda _: self._fill(self._last(1)),
            "APPENDS": lambda _: self._fill(self._above_mark()),
            "SETITEM": lambda _: self._fill(self._last(2)),
            "SETITEMS": lambda _: self._fill(self._above_mark()),
            "MEMOIZE": lambda _: self._remember(len(self._memo)),
            "BINPUT": self._remember,
            "LONG_BINPUT": self._remember,
            "BINGET": lambda key: push(self._memo[key]),
            "LONG_BINGET": lambda key: push(self._memo[key]),
        }

    def _last(self, count: int) -> list[Any]:
        return [self.stack.pop() for _ in range(count)][::-1]

    def _above_mark(self) -> list[Any]:
        return self._last(len(self.stack) - self._marks.pop())

    def _fill(self, items: list[Any]) -> None:
        container = self.stack[-1]
        if isinstance(container, list):
            container.extend(items)
        else:
            container.update(zip(items[::2], items[1::2], strict=True))

    def _remember(self, key: Any) -> None:
        self._memo[key] = self.stack[-1]


class _Tensors(_Machine):
    """The steps of plain tensors too: two functions are understood by their names, and numbers that lie elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        push = self.stack.append
        self.steps["GLOBAL"] = lambda name: push(_Name(name))
        self.steps["REDUCE"] = lambda _: push(_called(*self._last(2)))
        self.steps["BINPERSID"] = lambda _: push(_stored(*self._last(1)))


def _called(function: Any, arguments: Any) -> Any:
    """Understand the two calls that plain tensors are written with."""
    if function == _Name("collections OrderedDict") and arguments == ():
        return {}
    if function != _Name("torch._utils _rebuild_tensor_v2"):
        message = f"it would call {getattr(function, 'name', function)!r}"
        raise _Refused(message)
    (kind, storage, count), start, shape, strides = arguments[:4]
    numbers = (count, start, *shape, *strides)
    if len(shape) != len(strides) or not all(type(number) is int and number >= 0 for number in numbers):
        message = f"a tensor of shape {shape!r} and strides {strides!r}"
        raise _Refused(message)
    return _Tensor(storage, kind, count, start, tuple(shape), tuple(strides))


def _stored(reference: Any) -> tuple[str, str, int]:
    word, name, key, _, count = reference
    kind = _TYPES.get(name.name.removeprefix("torch ")) if isinstance(name, _Name) else None
    if word != "storage" or kind is None:
        message = f"numbers of type {getattr(name, 'name', name)!r}"
        raise _Refused(message)
    return kind, key, count


def _array(path: Path, member: zipfile.ZipInfo | None, tensor: _Tensor) -> np.ndarray[Any, Any]:
    """Map the numbers of a tensor, which a zip file holds as they are."""
    kind = np.dtype(tensor.kind)
    last = tensor.start + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    empty = 0 in tensor.shape
    size = tensor.count * kind.itemsize
    if member is None or member.compress_type != zipfile.ZIP_STORED or member.file_size != size:
        message = f"{path}: the numbers of a tensor are missing, packed, or not as many as it says"
        raise InvalidInputError(message)
    if not empty and (last >= tensor.count or math.prod(tensor.shape) > tensor.count):
        message = f"{path}: a tensor of shape {tensor.shape} has more than its {tensor.count} numbers"
        raise InvalidInputError(message)
    if empty:
        return np.zeros(tensor.shape, kind)
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        start = member.header_offset + 30 + sum(np.frombuffer(file.read(4), "<u2").tolist())
        if start + size > os.fstat(file.fileno()).st_size:
            message = f"{path}: it ends before its numbers do"
            raise InvalidInputError(message)
        flat = np.memmap(file, kind, "r", start, (tensor.count,))
    strides = tuple(stride * kind.itemsize for stride in tensor.strides)
    return np.lib.stride_tricks.as_strided(flat[tensor.start :], tensor.shape, strides, writeable=False)
