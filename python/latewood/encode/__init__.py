"""From text to token vectors: the encoder protocol, the encoder inside the wheel, ONNX, and sentence-transformers.

onnxruntime, torch and sentence-transformers are imported when an encoder is first used.
"""

from latewood.encode.encoded import Encoded
from latewood.encode.fingerprint import check_fingerprint, fingerprint
from latewood.encode.nano import nano_en
from latewood.encode.onnx import OnnxEncoder
from latewood.encode.pooling import PoolingMethod, pool_tokens
from latewood.encode.protocol import Encoder, OnEmpty, as_encoder, encode_documents, encode_queries
from latewood.encode.sentence_transformers import SentenceTransformersEncoder
from latewood.encode.token_outputs import minilm_token_outputs, token_outputs
from latewood.encode.windows import Long

__all__ = [
    "Encoded",
    "Encoder",
    "Long",
    "OnEmpty",
    "OnnxEncoder",
    "PoolingMethod",
    "SentenceTransformersEncoder",
    "as_encoder",
    "check_fingerprint",
    "encode_documents",
    "encode_queries",
    "fingerprint",
    "minilm_token_outputs",
    "nano_en",
    "pool_tokens",
    "token_outputs",
]
