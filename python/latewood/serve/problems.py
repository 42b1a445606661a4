"""What goes wrong, as RFC 9457 has it: a JSON object of `status`, `title` and `detail`."""

from http import HTTPStatus
from typing import Any

import msgspec

from latewood.errors import (
    CommitConflictError,
    DuplicateIdError,
    EncoderRequiredError,
    IndexLockedError,
    IndexNotFoundError,
    InvalidInputError,
    LatewoodError,
    MissingDependencyError,
    StoppedError,
    StorageError,
    UnknownIdError,
    WriterError,
)

CONTENT_TYPE = "application/problem+json"

STATUS: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (DuplicateIdError, HTTPStatus.CONFLICT),
    (UnknownIdError, HTTPStatus.NOT_FOUND),
    (InvalidInputError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (EncoderRequiredError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (msgspec.DecodeError, HTTPStatus.BAD_REQUEST),
    # Bytes of a body that are no UTF-8.
    (UnicodeDecodeError, HTTPStatus.BAD_REQUEST),
    (RecursionError, HTTPStatus.BAD_REQUEST),
    (CommitConflictError, HTTPStatus.CONFLICT),
    (IndexLockedError, HTTPStatus.SERVICE_UNAVAILABLE),
    (IndexNotFoundError, HTTPStatus.SERVICE_UNAVAILABLE),
    (StoppedError, HTTPStatus.GATEWAY_TIMEOUT),
    (MissingDependencyError, HTTPStatus.NOT_IMPLEMENTED),
    (StorageError, HTTPStatus.INSUFFICIENT_STORAGE),
    (WriterError, HTTPStatus.SERVICE_UNAVAILABLE),
    (LatewoodError, HTTPStatus.INTERNAL_SERVER_ERROR),
)
"""The first kind that an error is of says its status."""


DETAIL: dict[type[Exception], str] = {
    UnicodeDecodeError: "the body is no UTF-8",
    RecursionError: "the body's objects lie too deep in each other",
}
"""Of errors whose own words say little."""


class Problem(Exception):  # noqa: N818  it is what RFC 9457 calls a problem
    """An answer that is no success."""

    def __init__(self, status: HTTPStatus, detail: str, *, error: str | None = None, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.error = error
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def to_dict(self) -> dict[str, Any]:
        """Give the body of the answer; `error` names the library's own error, by which a client raises it again."""
        told = {"status": int(self.status), "title": self.status.phrase, "detail": str(self)}
        return told if self.error is None else {**told, "error": self.error}


def problem_of(error: Exception) -> Problem:
    """Tell what an error is to the one who asked. Of errors that are nobody's own, no more than that they happened."""
    if isinstance(error, Problem):
        return error
    for kind, status in STATUS:
        if isinstance(error, kind):
            detail = DETAIL.get(kind, str(error))
            name = type(error).__name__ if isinstance(error, LatewoodError) else None
            headers = {"Retry_After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
            return Problem(status, detail, error=name, **headers)
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an error of the service itself; its log has more")
