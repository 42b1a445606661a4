"""latewood's ranker for Haystack, where Haystack trusts what a pipeline's YAML names."""

from haystack_integrations.components.rankers.latewood.ranker import LatewoodRanker

__all__ = ["LatewoodRanker"]
