"""Files that are replaced when they are whole."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a path of the target's name to write to, which takes the target's place at the end of the block.

    What fails leaves the target as it was, and nothing beside it; of two calls at once, each has a path of its own.
    """
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}.", suffix=".new") as folder:
        scratch = Path(folder, target.name)
        yield scratch
        if target.exists():
            shutil.copymode(target, scratch)
        scratch.replace(target)
