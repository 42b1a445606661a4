"""latewood's retriever for Haystack, where Haystack trusts what a pipeline's YAML names."""

from haystack_integrations.components.retrievers.latewood.retriever import LatewoodRetriever

__all__ = ["LatewoodRetriever"]
