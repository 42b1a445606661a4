"""The encoder inside the wheel: `latewood/nano-en`, English, a few MB, no torch and no network."""

from functools import cache
from pathlib import Path

from latewood.encode.onnx import OnnxEncoder
from latewood.errors import EncoderError

NAME = "latewood/nano-en"
"""The name by which it is asked for, and which indexes record."""

_FOLDER = Path(__file__).parent / "nano_en"


def has_nano() -> bool:
    """Whether this installation carries the model: every wheel does, a bare source tree may not."""
    return (_FOLDER / "model.onnx").is_file()


@cache
def nano_en() -> OnnxEncoder:
    """Give the encoder inside the wheel, one for the whole process; its model is loaded with the first text."""
    if not has_nano():
        message = (
            f"this installation does not carry the model {NAME!r}; install a wheel of latewood, "
            "or pass another encoder, such as OnnxEncoder(folder)"
        )
        raise EncoderError(message)
    # Its activations are quantised by one scale for a batch: alone, a text has the same vectors whatever comes with it.
    return OnnxEncoder(_FOLDER, batch_tokens=1)
