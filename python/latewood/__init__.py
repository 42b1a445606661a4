"""Late interaction retrieval on ordinary processors: index, search and rerank ragged token vectors.

Names are imported on first use, so that ``import latewood`` costs milliseconds and never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latewood import encode, errors, evaluate
    from latewood._core import __version__, simd_level, simd_levels
    from latewood.encode import Encoder
    from latewood.exact import maxsim, maxsim_pairs
    from latewood.feedback import Feedback
    from latewood.first_stage import (
        Bm25FirstStage,
        CallableFirstStage,
        FirstStage,
        SeismicFirstStage,
        SparseEncoderFirstStage,
    )
    from latewood.fusion import reciprocal_rank_fusion, weighted_fusion
    from latewood.index import Index
    from latewood.ragged import Ragged
    from latewood.reranker import Reranker
    from latewood.results import Document, Explanation, Hit, SearchArrays
    from latewood.two_stage import TwoStage
    from latewood.writer import Writer

__all__ = [
    "Bm25FirstStage",
    "CallableFirstStage",
    "Document",
    "Encoder",
    "Explanation",
    "Feedback",
    "FirstStage",
    "Hit",
    "Index",
    "Ragged",
    "Reranker",
    "SearchArrays",
    "SeismicFirstStage",
    "SparseEncoderFirstStage",
    "TwoStage",
    "Writer",
    "__version__",
    "encode",
    "errors",
    "evaluate",
    "maxsim",
    "maxsim_pairs",
    "reciprocal_rank_fusion",
    "simd_level",
    "simd_levels",
    "weighted_fusion",
]

_HOME = {
    "Bm25FirstStage": "first_stage",
    "CallableFirstStage": "first_stage",
    "Document": "results",
    "Encoder": "encode",
    "Explanation": "results",
    "Feedback": "feedback",
    "FirstStage": "first_stage",
    "Hit": "results",
    "Index": "index",
    "Ragged": "ragged",
    "Reranker": "reranker",
    "SearchArrays": "results",
    "SeismicFirstStage": "first_stage",
    "SparseEncoderFirstStage": "first_stage",
    "TwoStage": "two_stage",
    "Writer": "writer",
    "__version__": "_core",
    "maxsim": "exact",
    "maxsim_pairs": "exact",
    "reciprocal_rank_fusion": "fusion",
    "simd_level": "_core",
    "simd_levels": "_core",
    "weighted_fusion": "fusion",
}
_SUBPACKAGES = frozenset({"encode", "errors", "evaluate"})


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"latewood.{name}")
    if name not in _HOME:
        message = f"module 'latewood' has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(f"latewood.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
