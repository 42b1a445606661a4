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
    StoppedError,
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
    "ServiceError",
    "StaleTuningWarning",
    "StoppedError",
    "StorageError",
    "TextTooLongError",
    "UnknownIdError",
    "WriterError",
]


class EncoderError(LatewoodError):
    """Something is wrong with an encoder or with what it returned."""


class EncoderRequiredError(EncoderError, ValueError):
    """Text was given and there is no encoder to turn it into token vectors."""


class EncoderMismatchError(EncoderError, ValueError):
    """The encoder is not the one that the index was built with."""


class TextTooLongError(InvalidInputError):
    """A text has more tokens than its encoder takes, and `long="error"` asks to be told.

    Attributes
    ----------
    tokens, limit : int
        Of the text, and what the encoder takes; special ones and those of a prompt are counted.
    position : int
        Of the text among those that were encoded together.
    """

    def __init__(self, tokens: int, limit: int, position: int = 0, name: str | None = None) -> None:
        super().__init__(tokens, limit, position, name)
        self.tokens = tokens
        self.limit = limit
        self.position = position
        self._name = name or f"the text at position {position}"

    def __str__(self) -> str:
        """Say which text, and what can be done."""
        return (
            f"{self._name} has {self.tokens} tokens, and the encoder takes {self.limit}; long='windows' encodes all of "
            "it in overlapping windows, long='cut' leaves out what is over"
        )


class MissingDependencyError(LatewoodError, ImportError):
    """An optional package is needed; the message gives the command that installs it."""


class ServiceError(LatewoodError):
    """A service gave no answer, or refused for a reason of its own.

    Attributes
    ----------
    status : int or None
        Of the answer; None if there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message, status)
        self.status = status

    def __str__(self) -> str:
        """Give the message alone."""
        return str(self.args[0])


class StaleTuningWarning(LatewoodError, UserWarning):  # noqa: N818  it is a warning
    """A recall was asked for that was measured when the index was of less than half, or more than twice, its size."""
