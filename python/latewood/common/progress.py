"""Progress of long work, on standard error."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol


class ProgressBar(Protocol):
    """The part of tqdm that is used here."""

    def update(self, n: int = 1) -> Any:
        """Count `n` more."""


class _Silent:
    def update(self, n: int = 1) -> None:
        pass


def wants_progress(show_progress: bool | None) -> bool:
    """`None` means: if standard error is a terminal."""
    if show_progress is None:
        return sys.stderr is not None and sys.stderr.isatty()
    return show_progress


@contextmanager
def progress_bar(
    total: int, description: str, *, show_progress: bool | None, unit: str = "doc"
) -> Iterator[ProgressBar]:
    """Give a tqdm bar on standard error when it is wanted and tqdm is installed, else one that does nothing."""
    bar: Any = _Silent()
    if wants_progress(show_progress):
        try:
            bar = import_module("tqdm").tqdm(total=total, desc=description, unit=unit, leave=False)
        except ImportError:
            bar = _Silent()
    try:
        yield bar
    finally:
        if not isinstance(bar, _Silent):
            bar.close()


def chunks(count: int, size: int) -> Iterable[slice]:
    """Slices of at most `size` that cover `count` items."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
