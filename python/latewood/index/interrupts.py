"""Ctrl-C that comes when a commit stands already: the call returns, and the interruption follows a moment later."""

import _thread
import threading
from collections.abc import Callable

DELAY = 0.05
"""Seconds after which an interruption is raised again: the caller has what the call returned by then."""


def interrupt_later() -> None:
    """Raise `KeyboardInterrupt` in the main thread in a moment, as Ctrl-C would."""
    timer = threading.Timer(DELAY, _thread.interrupt_main)
    timer.daemon = True
    timer.start()


def finished(call: Callable[[], None]) -> None:
    """Make a call that may be made twice, and that an interruption must not keep from being made."""
    try:
        call()
    except KeyboardInterrupt:
        call()
        interrupt_later()
