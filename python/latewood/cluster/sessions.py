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
    ray, began = started("building shards in several processes")
    try:
        yield ray
    finally:
        if began:
            ray.shutdown()


def started(purpose: str, *, cpus: int | None = None) -> tuple[Any, bool]:
    """Give the module `ray`, connected, and whether a session was started for that, of so many CPUs."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray: Any = import_optional("ray", extra="ray", purpose=purpose)
    if ray.is_initialized():
        return ray, False
    ray.init(
        # Otherwise Ray joins the session that somebody else on this machine has begun last.
        "local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
        num_cpus=cpus,
    )
    return ray, True
