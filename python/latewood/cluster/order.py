"""The order of all documents of a cluster, which breaks ties: a number in each document's stored metadata.

A single index breaks ties by document order, that is by when a document was last added or upserted; a change of its
metadata leaves its place. A shard knows that order of its own documents alone. So a cluster numbers every document when
it is added. Merging, metadata changes and splitting keep metadata, and so the number.
"""

from typing import Any

from latewood.common.types import Metadata
from latewood.errors import InvalidInputError

ORDER = "latewood:order"
"""The key; documents of a cluster cannot have it for anything else."""


def numbered(metadata: str | None, order: int) -> str:
    """Add a document's number to its metadata, both as JSON."""
    entry = f'"{ORDER}": {order}'
    return f"{{{entry}}}" if metadata is None or metadata == "{}" else f"{metadata[:-1]}, {entry}}}"


def order_of(metadata: Metadata | None) -> int:
    """Give a stored document's number; its shard was changed by something else where there is none."""
    number = (metadata or {}).get(ORDER)
    if isinstance(number, int):
        return number
    message = f"a document of a shard has no {ORDER!r}: the shard was not written through its cluster; build it again"
    raise InvalidInputError(message)


def without_order(metadata: Metadata | None) -> dict[str, Any] | None:
    """Give a stored document's metadata as its owner gave them; None where nothing else was given."""
    return {key: value for key, value in (metadata or {}).items() if key != ORDER} or None


def refuse_order(metadata: Metadata) -> None:
    """Refuse metadata that have the key of the cluster's own."""
    if ORDER in metadata:
        message = f"the metadata have the key {ORDER!r}, which a cluster keeps for itself; use another name"
        raise InvalidInputError(message)
