"""A commit of a folder → a generation in object storage."""

import hashlib
from pathlib import Path

from latewood.cloud.generations import File, Generation, newest
from latewood.cloud.store import CHUNK_BYTES, Store
from latewood.common.progress import progress_bar
from latewood.errors import CommitConflictError, InvalidInputError

Commit = tuple[int, list[str], list[str], str | None]
"""Generation, names of its files, its lineage, and what tells the index from others."""


def publish(folder: Path, commit: Commit, url: str, *, show_progress: bool | None) -> int:
    """Upload what a store does not have of a commit, then its description; see `Index.publish`."""
    store = Store(url)
    number, names, lineage, identity = commit
    before = newest(store)
    if before is not None:
        _check(before, number, lineage, identity, store)
        if before.lineage[:1] == tuple(lineage[:1]):
            return number
    known = {} if before is None else {file.name: file for file in before.files}
    files: list[File] = []
    sizes = [(folder / name).stat().st_size for name in names]
    with progress_bar(sum(sizes), "Publishing", show_progress=show_progress) as bar:
        for name, size in zip(names, sizes, strict=True):
            # A name of an index is of one content for ever.
            file = known.get(name) or File(name, size, checksum(folder / name))
            if name not in known and store.size(file.object) != size:
                store.upload(file.object, folder / name)
            files.append(file)
            bar.update(size)
    made = Generation(identity, number, tuple(lineage), tuple(files))
    if store.create(made.object, made.to_json()):
        return number
    again = newest(store)
    if again is not None and again.lineage[:1] == tuple(lineage[:1]):
        return number
    raise _conflict(store, number)


def checksum(path: Path) -> str:
    """Give the SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(CHUNK_BYTES):
            found.update(part)
    return found.hexdigest()


def _check(before: Generation, number: int, lineage: list[str], identity: str | None, store: Store) -> None:
    """Refuse what is not a later state of what a store holds."""
    if before.index != identity:
        message = f"{store.url} holds another index; publish this one at an address of its own"
        raise InvalidInputError(message)
    if before.lineage[:1] == tuple(lineage[:1]):
        return
    far = number - before.generation >= len(lineage)
    if number <= before.generation or not (far or before.lineage[0] in lineage):
        raise _conflict(store, before.generation)


def _conflict(store: Store, number: int) -> CommitConflictError:
    message = (
        f"{store.url} has generation {number} of another history: somebody else has published first, and this commit "
        "was not made from that; make the changes again on what is there"
    )
    return CommitConflictError(message)
