"""The trials in short: the same code as `make trials`, with few attempts and always the same choices."""

import sys
from importlib import import_module
from typing import Any

import pytest

from trials.counts import Attempts, Counts

pytest.importorskip("xxhash")
if sys.platform == "win32":
    pytest.skip("signals, forks and links are those of Unix", allow_module_level=True)

SHORT: dict[str, tuple[int, dict[str, Any]]] = {
    "damage": (80, {}),
    "mutations": (120, {}),
    "kills": (12, {}),
    "writers": (2, {"seconds": 2.0}),
    "handles": (8, {}),
    "forks": (8, {"documents": 6_000}),
    "interrupts": (44, {"scale": 0.05}),
    "requests": (8, {}),
    "soak": (2, {}),
    "outages": (4, {}),
    "clusters": (8, {}),
    "storage": (20, {}),
}
PACKAGES = {
    "requests": ("starlette", "onnxruntime", "schemathesis"),
    "soak": ("starlette", "httpx"),
    "outages": ("starlette", "httpx"),
    "storage": ("obstore", "moto"),
}
"""What these need beside the library."""


@pytest.mark.parametrize("name", SHORT)
def test_a_short_trial_finds_nothing(name: str) -> None:
    for package in PACKAGES.get(name, ()):
        pytest.importorskip(package)
    attempts, options = SHORT[name]
    counts = Counts()
    import_module(f"trials.{name}").run(counts, Attempts(counts, seed="test", most=attempts), **options)
    assert counts.attempts == attempts
    # How soon an interruption is heard depends on what else the machine does.
    found = {kind: count for kind, count in counts.wrong.items() if kind != "deaf"}
    assert not found, "\n".join([counts.line(name), *counts.examples])
