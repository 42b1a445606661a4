"""Commits of an index ↔ object storage (docs/cloud.md)."""

from latewood.cloud.cleaning import clean

__all__ = ["clean"]
