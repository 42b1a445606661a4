"""Where files are: in the user's home, in a cache, and in the place of others when they are whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from latewood.errors import StorageError

CACHE = "LATEWOOD_CACHE"
"""The environment variable that names the cache."""


def at_home(path: str | os.PathLike[str]) -> Path:
    """Give a path whose `~` is the user's home; where nobody knows that, it is a name like any other."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  pathlib raises there


def cache_folder() -> Path:
    """Give the folder that `LATEWOOD_CACHE` names, else `~/.cache/latewood`, as an absolute path."""
    folder = at_home(os.environ.get(CACHE) or "~/.cache/latewood")
    if folder.parts[0] == "~":
        message = f"nobody knows this user's home, where the cache would be; set {CACHE} to a folder"
        raise StorageError(message)
    return folder.absolute()


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a path to write to, with the target's ending in small letters; it takes the target's place in the end.

    What fails leaves the target as it was, and nothing beside it; of two calls at once, each has a path of its own.
    """
    # Without the target's name, which may be as long as names can be.
    with TemporaryDirectory(dir=target.parent, prefix=".latewood-", suffix=".new") as folder:
        scratch = Path(folder, f"new{target.suffix.lower()}")
        yield scratch
        if target.exists():
            shutil.copymode(target, scratch)
        scratch.replace(target)
