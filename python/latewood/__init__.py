"""Late interaction retrieval on ordinary processors: index, search and rerank ragged token vectors.

Names are imported on first use, so that ``import latewood`` costs milliseconds and never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latewood import cluster, encode, errors, evaluate
    from latewood._core import Stop, __version__, simd_level, simd_levels
    from latewood.client.client import AsyncClient, Client
    from latewood.encode.protocol import Encoder
    from latewood.exchange.imports import export_index, import_index
    from latewood.forms.ragged import Ragged, to_ragged
    from latewood.index.explanation import Explanation
    from latewood.index.fde import FdeOptions
    from latewood.index.feedback import Feedback
    from latewood.index.index import Index
    from latewood.index.options import RerankOptions, SearchOptions
    from latewood.index.results import Document, Hit, Hits, Plan, SearchArrays
    from latewood.index.tuning import Tuning
    from latewood.index.writer import Writer
    from latewood.rerank.first_stages.bm25 import Bm25FirstStage
    from latewood.rerank.first_stages.function import CallableFirstStage
    from latewood.rerank.first_stages.inference_free import inference_free
    from latewood.rerank.first_stages.lexical import LexicalFirstStage
    from latewood.rerank.first_stages.protocol import FirstStage
    from latewood.rerank.first_stages.seismic import SeismicFirstStage
    from latewood.rerank.first_stages.sparse_encoder import SparseEncoderFirstStage
    from latewood.rerank.fusion import reciprocal_rank_fusion, weighted_fusion
    from latewood.rerank.hybrid import Hybrid
    from latewood.rerank.maxsim import maxsim, maxsim_pairs
    from latewood.rerank.reranker import Reranker
    from latewood.rerank.tuning import TwoStageTuning
    from latewood.rerank.two_stage import TwoStage

__all__ = [
    "AsyncClient",
    "Bm25FirstStage",
    "CallableFirstStage",
    "Client",
    "Document",
    "Encoder",
    "Explanation",
    "FdeOptions",
    "Feedback",
    "FirstStage",
    "Hit",
    "Hits",
    "Hybrid",
    "Index",
    "LexicalFirstStage",
    "Plan",
    "Ragged",
    "RerankOptions",
    "Reranker",
    "SearchArrays",
    "SearchOptions",
    "SeismicFirstStage",
    "SparseEncoderFirstStage",
    "Stop",
    "Tuning",
    "TwoStage",
    "TwoStageTuning",
    "Writer",
    "__version__",
    "cluster",
    "encode",
    "errors",
    "evaluate",
    "export_index",
    "import_index",
    "inference_free",
    "maxsim",
    "maxsim_pairs",
    "reciprocal_rank_fusion",
    "simd_level",
    "simd_levels",
    "to_ragged",
    "weighted_fusion",
]

_HOME = {
    "AsyncClient": "client.client",
    "Bm25FirstStage": "rerank.first_stages.bm25",
    "CallableFirstStage": "rerank.first_stages.function",
    "Client": "client.client",
    "Document": "index.results",
    "Encoder": "encode.protocol",
    "Explanation": "index.explanation",
    "FdeOptions": "index.fde",
    "Feedback": "index.feedback",
    "FirstStage": "rerank.first_stages.protocol",
    "Hit": "index.results",
    "Hits": "index.results",
    "Hybrid": "rerank.hybrid",
    "Index": "index.index",
    "LexicalFirstStage": "rerank.first_stages.lexical",
    "Plan": "index.results",
    "Ragged": "forms.ragged",
    "RerankOptions": "index.options",
    "Reranker": "rerank.reranker",
    "SearchArrays": "index.results",
    "SearchOptions": "index.options",
    "SeismicFirstStage": "rerank.first_stages.seismic",
    "SparseEncoderFirstStage": "rerank.first_stages.sparse_encoder",
    "Stop": "_core",
    "Tuning": "index.tuning",
    "TwoStage": "rerank.two_stage",
    "TwoStageTuning": "rerank.tuning",
    "Writer": "index.writer",
    "__version__": "_core",
    "export_index": "exchange.imports",
    "import_index": "exchange.imports",
    "inference_free": "rerank.first_stages.inference_free",
    "maxsim": "rerank.maxsim",
    "maxsim_pairs": "rerank.maxsim",
    "reciprocal_rank_fusion": "rerank.fusion",
    "simd_level": "_core",
    "simd_levels": "_core",
    "to_ragged": "forms.ragged",
    "weighted_fusion": "rerank.fusion",
}
_SUBPACKAGES = frozenset({"cluster", "encode", "errors", "evaluate"})

# Type checkers know the names from above, and call any other an error.
if not TYPE_CHECKING:

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
