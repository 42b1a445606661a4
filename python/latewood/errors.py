"""Every exception of the library.

All exceptions derive from `LatewoodError`; each message names the thing, the place and the remedy.
"""

from latewood._core import (
    CommitConflictError,
    CorruptIndexError,
    DimensionError,
    DuplicateIdError,
    FormatVersionError,
    IndexExistsError,
    IndexLockedError,
    IndexNotFoundError,
    IndexReplacedError,
    InternalError,
    InvalidInputError,
    LatewoodError,
    StorageError,
    UnknownIdError,
    WriterError,
)

__all__ = [
    "CommitConflictError",
    "CorruptIndexError",
    "DimensionError",
    "DuplicateIdError",
    "EncoderError",
    "EncoderMismatchError",
    "EncoderRequiredError",
    "FormatVersionError",
    "IndexExistsError",
    "IndexLockedError",
    "IndexNotFoundError",
    "IndexReplacedError",
    "InternalError",
    "InvalidInputError",
    "LatewoodError",
    "MissingDependencyError",
    "StorageError",
    "UnknownIdError",
    "WriterError",
]


class EncoderError(LatewoodError):
    """Something is wrong with an encoder or with what it returned."""


class EncoderRequiredError(EncoderError, ValueError):
    """Text was given and there is no encoder to turn it into token vectors."""


class EncoderMismatchError(EncoderError, ValueError):
    """The encoder is not the one that the index was built with."""


class MissingDependencyError(LatewoodError, ImportError):
    """An optional package is needed; the message gives the command that installs it."""
