"""Index objects whose folder is rebuilt, put back from a copy, or exchanged: they follow or tell, and harm nothing."""

import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from latewood import Index
from latewood.errors import (
    CommitConflictError,
    IndexLockedError,
    IndexReplacedError,
    LatewoodError,
    UnknownIdError,
)
from trials.corpora import token_vectors
from trials.counts import Attempts, Counts
from trials.questions import plain

STEPS = 25
TOLD = (IndexReplacedError, CommitConflictError, IndexLockedError, UnknownIdError)
"""What a change through an old object may be answered with: then it has not been made."""


@dataclass
class Handle:
    """An index object, and what it must see."""

    index: Index
    seen: set[int]
    stale: bool = False
    """Whether the folder was exchanged after it was opened."""


class History:
    """One life of a folder, with some objects that have it open; `name` says in a finding how it came about."""

    def __init__(self, counts: Counts, name: str, folder: Path, choices: random.Random) -> None:
        self.counts = counts
        self.name = name
        self.choices = choices
        self.steps: list[str] = []
        self.next_id = 0
        self.homes = [folder / "one", folder / "two"]
        self.path = folder / "index"
        self.contents: dict[Path, set[int]] = {}
        for home in self.homes:
            self.create(home)
        self.home = self.homes[0]
        self.path.symlink_to(self.home)
        self.backups: list[tuple[Path, set[int]]] = []
        self.handles: list[Handle] = []
        self.opened()

    @property
    def content(self) -> set[int]:
        """Ids that are in the folder now."""
        return self.contents[self.home]

    def fault(self, kind: str, what: str) -> None:
        """Count, with the last steps."""
        self.counts.fault(kind, f"{self.name}: {what}, after {'; '.join(self.steps[-8:])}")

    def play(self) -> None:
        """Take random steps, and compare after each."""
        steps: tuple[Callable[[], None], ...] = (
            self.opened,
            self.refreshed,
            self.refreshed,
            self.added,
            self.added,
            self.deleted,
            self.compacted,
            self.searched,
            self.rebuilt,
            self.saved,
            self.restored,
            self.switched,
            self.written_across,
        )
        for _ in range(STEPS):
            step = self.choices.choice(steps)
            step()
            self.compare()

    def compare(self) -> None:
        """What is in each folder must be what was put there."""
        for home, content in self.contents.items():
            try:
                index = Index.open(home)
                problems = index.check()
            except LatewoodError as error:
                self.fault("unopenable", f"{home.name}: {error}")
                self.create(home)
                continue
            found = set(plain(index.ids()))
            if problems:
                self.fault("unopenable", f"{home.name}: check() says {problems}")
            if found != content:
                self.fault("lost", f"{home.name} holds {sorted(found)} and not {sorted(content)}")
                self.contents[home] = found

    def create(self, home: Path) -> None:
        """Make a new index with some documents."""
        shutil.rmtree(home, ignore_errors=True)
        index = Index.create(home, dim=self.choices.choice((32, 48)), train_after=self.choices.choice((0, 100)))
        self.contents[home] = set()
        for _ in range(self.choices.randrange(3)):
            keys = self.ids(2)
            index.add(keys, vectors=token_vectors(keys[0], 2, dim=index.dim))
            self.contents[home] |= set(keys)

    def ids(self, count: int) -> list[int]:
        """Give ids that no index has had."""
        self.next_id += count
        return list(range(self.next_id - count, self.next_id))

    def handle(self) -> Handle:
        """Choose an object."""
        return self.choices.choice(self.handles)

    def opened(self) -> None:
        """Open one more, in place of another if there are three."""
        self.steps.append("opened")
        if len(self.handles) == 3:
            self.handles.pop(self.choices.randrange(3))
        index = Index.open(self.path, mmap=self.choices.random() < 0.7)
        self.handles.append(Handle(index, set(self.content)))

    def refreshed(self) -> None:
        """It moves to what is there, or says that this is another."""
        handle = self.handle()
        self.steps.append(f"refreshed object {self.handles.index(handle)}")
        try:
            handle.index.refresh()
        except IndexReplacedError as error:
            if not handle.stale:
                self.fault("untyped", f"{error}, though nobody replaced it")
            self.counts.note("refused refreshes")
        else:
            self.follows(handle)

    def follows(self, handle: Handle) -> None:
        """It sees the content of the folder."""
        found = set(plain(handle.index.ids()))
        if found != self.content:
            self.fault("silent", f"an object sees {sorted(found)}, and the folder holds {sorted(self.content)}")
        handle.seen, handle.stale = found, False

    def change(self, what: str, change: Callable[[Handle], set[int]]) -> None:
        """Change the index through an object; `change` gives the content that is right if it returns."""
        handle = self.handle()
        self.steps.append(f"{what} by object {self.handles.index(handle)}")
        before = set(self.content)
        try:
            content = change(handle)
        except TOLD as error:
            self.counts.note(type(error).__name__)
            if not handle.stale and not isinstance(error, UnknownIdError):
                self.fault("untyped", f"{error}, though nobody replaced it")
            # Its writer began with a refresh.
            found = set(plain(handle.index.ids()))
            if found not in (handle.seen, before):
                self.fault("silent", f"an object that saw {sorted(handle.seen)} sees {sorted(found)}")
            handle.seen = found
        except LatewoodError as error:
            self.fault("untyped", f"{type(error).__name__}: {error}")
        else:
            self.contents[self.home] = content
            self.follows(handle)

    def added(self) -> None:
        """Add a document."""
        keys = self.ids(1)

        def change(handle: Handle) -> set[int]:
            handle.index.add(keys, vectors=token_vectors(keys[0], 1, dim=handle.index.dim))
            return self.content | set(keys)

        self.change("added", change)

    def deleted(self) -> None:
        """Delete a document that the object sees."""

        def change(handle: Handle) -> set[int]:
            keys = sorted(handle.seen)[:1]
            handle.index.delete(keys)
            return self.content - set(keys)

        self.change("deleted", change)

    def compacted(self) -> None:
        """Compact."""

        def change(handle: Handle) -> set[int]:
            handle.index.compact()
            return self.content

        self.change("compacted", change)

    def searched(self) -> None:
        """It goes on answering from what it saw, whatever has become of the folder."""
        handle = self.handle()
        self.steps.append(f"searched object {self.handles.index(handle)}")
        try:
            hits = handle.index.search(token_vectors(1, 1, dim=handle.index.dim)[0], 100, gather="exact")
            explained = all(hit.explain().matrix.size for hit in hits)
        except LatewoodError as error:
            self.fault("untyped", f"search: {type(error).__name__}: {error}")
            return
        if {hit.id for hit in hits} != handle.seen or not explained:
            self.fault("silent", f"found {sorted(hit.id for hit in hits)}, and it holds {sorted(handle.seen)}")

    def exchanged(self) -> None:
        """Mark what was opened before."""
        for handle in self.handles:
            handle.stale = True

    def rebuilt(self) -> None:
        """Remove and create."""
        self.steps.append("rebuilt")
        self.create(self.home)
        self.exchanged()

    def saved(self) -> None:
        """Copy the folder."""
        self.steps.append("saved")
        backup = self.path.parent / f"backup-{len(self.backups)}"
        shutil.copytree(self.home, backup)
        self.backups.append((backup, set(self.content)))

    def restored(self) -> None:
        """Put a copy in the folder's place."""
        if not self.backups:
            return
        self.steps.append("restored")
        backup, content = self.choices.choice(self.backups)
        if self.choices.random() < 0.5:
            shutil.rmtree(self.home)
            shutil.copytree(backup, self.home)
        else:
            # The folder stays the same, and its lock too.
            for path in self.home.iterdir():
                if path.name != "LOCK":
                    path.unlink()
            for path in backup.iterdir():
                if path.name != "LOCK":
                    shutil.copy(path, self.home)
        self.contents[self.home] = set(content)
        self.exchanged()

    def switched(self) -> None:
        """Let the path lead to another folder."""
        self.steps.append("switched")
        self.home = self.homes[1 - self.homes.index(self.home)]
        other = self.path.parent / "link"
        other.symlink_to(self.home)
        other.replace(self.path)
        self.exchanged()

    def written_across(self) -> None:
        """Exchange the folder while a writer is at work: its commit is refused."""
        exchange = self.choices.choice((self.rebuilt, self.restored, self.switched))

        def change(handle: Handle) -> set[int]:
            keys = self.ids(1)
            with handle.index.writer() as writer:
                writer.add(keys, vectors=token_vectors(keys[0], 1, dim=handle.index.dim))
                exchange()
            return self.content | set(keys)

        self.change("written across", change)


def run(counts: Counts, attempts: Attempts) -> None:
    """Play histories."""
    for name, choices in attempts:
        with tempfile.TemporaryDirectory() as folder:
            History(counts, name, Path(folder), choices).play()
