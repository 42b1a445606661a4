"""What ends a call that has committed already: the call returns, and a Ctrl-C follows a moment later."""

import _thread
import threading
from collections.abc import Callable

from latewood.errors import StoppedError

DELAY = 0.2
"""Seconds after which an interruption is raised again: the caller has the result by then, on a busy machine too."""

ENDINGS = (KeyboardInterrupt, StoppedError)
"""What may end a call of the core from outside."""


def came_too_late(ending: BaseException) -> None:
    """Hand on what came when a commit stood already. A stop needs no help: the next call finds it set."""
    if isinstance(ending, KeyboardInterrupt):
        interrupt_later()


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
