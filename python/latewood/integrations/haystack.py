"""Haystack: a ranker and a retriever (docs/integrations/haystack.md).

They live in `haystack_integrations`, since Haystack loads a pipeline from YAML only of packages that it trusts.
"""

from haystack_integrations.components.rankers.latewood import LatewoodRanker
from haystack_integrations.components.retrievers.latewood import LatewoodRetriever

__all__ = ["LatewoodRanker", "LatewoodRetriever"]
