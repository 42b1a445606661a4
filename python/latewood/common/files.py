"""Files that are replaced when they are whole, and the folder of those that can be made again."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

CACHE = "LATEWOOD_CACHE"
"""The environment variable that names the cache."""


def cache_folder() -> Path:
    """Give the folder that `LATEWOOD_CACHE` names, else `~/.cache/latewood`, as an absolute path."""
    return Path(os.environ.get(CACHE) or "~/.cache/latewood").expanduser().absolute()


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
