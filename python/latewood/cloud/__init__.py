"""Commits of an index or a cluster ↔ object storage (docs/cloud.md)."""

from latewood.cloud.cleaning import clean

__all__ = ["clean"]
