"""A commit of a folder → a generation in object storage."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from latewood.cloud.generations import FILES, File, Generation, Kind, checksum, described, newest
from latewood.cloud.store import Store
from latewood.common.progress import progress_bar
from latewood.errors import CommitConflictError, CorruptIndexError, InvalidInputError, StorageError

LEFT_OVER = timedelta(hours=12)
"""Contents that an interrupted upload has left are taken if they are younger, since `clean` leaves those alone."""
READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit that lies in a folder.

    Attributes
    ----------
    kind : Kind
    generation : int
    names : sequence of str
        Of its files, relative to the folder; the last is its manifest.
    lineage : sequence of str
        Its signature, and those of the commits it was made from, the newest first.
    identity : str or None
        What tells the index or the cluster from others.
    """

    kind: Kind
    generation: int
    names: Sequence[str]
    lineage: Sequence[str]
    identity: str | None


def publish(folder: Path, commit: Commit, url: str, *, repair: bool, show_progress: bool | None) -> int:
    """Upload what a store does not have of a commit, or all of it, then its description; see `Index.publish`."""
    store = Store(url)
    before = newest(store)
    if before is not None:
        _check(before, commit, store)
    known = {} if before is None else {file.name: file for file in before.files if not file.is_manifest}
    with _reading(folder):
        sizes = {name: (folder / name).stat().st_size for name in commit.names}
    with progress_bar(sum(sizes.values()), "Publishing", show_progress=show_progress, unit="B") as bar:

        def send(file: File) -> None:
            store.upload(file.object, _parts(folder / file.name, bar.update), file.bytes)

        # A name of an index is of one content for ever, but for a manifest's.
        with _reading(folder):
            files = [known.get(name) or File(name, size, checksum(folder / name)) for name, size in sizes.items()]
            if repair:
                _check_contents(folder, files)
        # The manifest goes up in any case: it shows what time the store has now.
        send(files[-1])
        there = store.names(FILES)
        now = max((time for _, time in there.values()), default=None)
        lasting = {file.sha256 for file in known.values()}
        sent = set[str]()
        for file in files[:-1]:
            size, time = there.get(file.sha256, (None, None))
            # What no generation names may be cleaned away meanwhile, unless it is young.
            lasts = file.sha256 in lasting or (now is not None and time is not None and now - time < LEFT_OVER)
            # Shards of a cluster have contents in common.
            if file.sha256 in sent or (size == file.bytes and lasts and not repair):
                bar.update(file.bytes)
            else:
                send(file)
                sent.add(file.sha256)
    made = Generation(commit.kind, commit.identity, commit.generation, tuple(commit.lineage), tuple(files))
    # It may also be there by a request of this call whose answer was lost.
    if store.create(made.object, made.to_json()) or _is_there(made, described(store, made.generation)):
        return made.generation
    raise _conflict(store, made.generation)


def _is_there(made: Generation | Commit, found: Generation) -> bool:
    return (found.kind, found.lineage[:1]) == (made.kind, tuple(made.lineage[:1]))


def _check_contents(folder: Path, files: list[File]) -> None:
    """Refuse files that are not what was published: they would go up in its place."""
    for file in files:
        if checksum(folder / file.name) != file.sha256:
            message = f"{folder / file.name} is not the file that was published; repair with a copy that is whole"
            raise CorruptIndexError(message)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tell of a file of the folder that cannot be read, such as one that a later commit has removed."""
    try:
        yield
    except OSError as error:
        message = (
            f"{error.filename or path} cannot be read: {error.strerror}; what belongs to older commits is removed by "
            "later ones: open the newest, and publish that"
        )
        raise StorageError(message) from error


def _parts(path: Path, tell: Callable[[int], object]) -> Iterator[bytes]:
    with _reading(path), path.open("rb") as file:
        while part := file.read(READ_BYTES):
            yield part
            tell(len(part))


def _check(before: Generation, commit: Commit, store: Store) -> None:
    """Refuse what is not a later state of what a store holds."""
    if (before.kind, before.index) != (commit.kind, commit.identity):
        message = (
            f"{store.url} holds another {before.kind.name}; publish this {commit.kind.name} at an address of its own"
        )
        raise InvalidInputError(message)
    if _is_there(commit, before):
        return
    number = commit.generation
    far = number - before.generation >= len(commit.lineage)
    if number < before.generation:
        message = f"{store.url} has generation {before.generation}, and this is {number}; publish the newest commit"
        raise CommitConflictError(message)
    if number == before.generation or not (far or before.lineage[0] in commit.lineage):
        raise _conflict(store, before.generation)


def _conflict(store: Store, number: int) -> CommitConflictError:
    message = (
        f"{store.url} has generation {number} of another history: somebody else has published first, and this commit "
        "was not made from that; make the changes again on what is there"
    )
    return CommitConflictError(message)
