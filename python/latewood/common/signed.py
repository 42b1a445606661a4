"""JSON that carries the checksum of its own content, as nothing else would show a changed number in it."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

CHECKSUM = "checksum"
SEPARATORS = ((",", ":"), (", ", ": "))
"""Of the text that is summed: as it is written, and as the first descriptions in object storage had it."""


def signed(content: Mapping[str, Any]) -> bytes:
    """Write content with its checksum."""
    return json.dumps({**content, CHECKSUM: checksum_of(content)}, indent=1).encode()


def checksum_of(content: Mapping[str, Any], separators: tuple[str, str] = SEPARATORS[0]) -> str:
    """Give the SHA-256 of content, in hexadecimal digits."""
    return sha256(json.dumps(content, sort_keys=True, separators=separators).encode()).hexdigest()


def verified(data: bytes) -> dict[str, Any]:
    """Read content that was signed.

    Raises
    ------
    ValueError
        It is something else, or was changed.
    """
    try:
        content = json.loads(data)
        checksum = content.pop(CHECKSUM)
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        message = "is no JSON object with a checksum"
        raise ValueError(message) from error
    if not any(checksum == checksum_of(content, separators) for separators in SEPARATORS):
        message = "does not have the content of its checksum"
        raise ValueError(message)
    return dict(content)
