"""What an interruption may not cost: model, optimiser and step, written whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch


def save(path: Path, **parts: Any) -> None:
    """Write a checkpoint beside the old one, then put it in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        torch.save(parts, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load(path: Path) -> dict[str, Any] | None:
    """Return a checkpoint's parts, or None where there is none."""
    if not path.exists():
        return None
    parts: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return parts
