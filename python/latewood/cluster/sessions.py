"""Ray, started where it is not running yet: on this machine alone, without a dashboard, and silent."""

import os
from typing import Any

from latewood.common.packages import import_optional

_USERS: dict[str, int] = {}
"""The sessions of Ray that were started here, and how many use each."""


class Session:
    """Ray, connected; a session that is started here ends with its last user.

    Connect first, with `ray.init(address=...)`, to use more than this machine. Pass `log_to_driver=False` then: what a
    worker prints may have ids and texts in it.

    Parameters
    ----------
    purpose : str
        For the message where Ray is not installed.
    cpus : int, optional
        That a session has which is started here; by default as many as the machine has.
    """

    def __init__(self, purpose: str, *, cpus: int | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self.ray: Any = import_optional("ray", extra="ray", purpose=purpose)
        self._pid = os.getpid()
        begins = not self.ray.is_initialized()
        if begins:
            self.ray.init(
                # Otherwise Ray joins the session that somebody else on this machine has begun last.
                "local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                _node_ip_address="127.0.0.1",
                num_cpus=cpus,
            )
        self._name = self._current()
        if begins or self._name in _USERS:
            _USERS[self._name] = _USERS.get(self._name, 0) + 1

    def lives(self) -> bool:
        """Whether this process is still connected to it: a forked one is not, and Ray begins another if it is asked."""
        return self._pid == os.getpid() and bool(self.ray.is_initialized()) and self._current() == self._name

    def close(self) -> None:
        """Let go of it."""
        if self._name not in _USERS:
            return
        _USERS[self._name] -= 1
        if not _USERS[self._name]:
            del _USERS[self._name]
            if self.lives():
                self.ray.shutdown()

    def _current(self) -> str:
        return str(self.ray.get_runtime_context().get_session_name())
