"""Ray, started where it is not running yet: on this machine alone, without a dashboard, and silent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from latewood.common.packages import import_optional


@contextmanager
def ray_session() -> Iterator[Any]:
    """Give the module `ray`, connected; a session that was started here ends with the block.

    Connect first, with `ray.init(address=...)`, to use more than this machine. Pass `log_to_driver=False` then: what a
    worker prints may have ids and texts in it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = import_optional("ray", extra="ray", purpose="building shards in several processes")
    if ray.is_initialized():
        yield ray
        return
    # Not another user's, or another program's, which may run on this machine.
    ray.init("local", include_dashboard=False, log_to_driver=False, logging_level="ERROR", _node_ip_address="127.0.0.1")
    try:
        yield ray
    finally:
        ray.shutdown()
