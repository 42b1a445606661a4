"""The lock under which encoders load their models, so that two threads do not load one twice."""

import os
from threading import RLock

_lock = RLock()


def loading() -> RLock:
    """Give the lock, one for the process."""
    return _lock


def _renew() -> None:
    global _lock  # noqa: PLW0603
    _lock = RLock()


# A thread of the parent may have held it at the fork, and is not there to let it go.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
