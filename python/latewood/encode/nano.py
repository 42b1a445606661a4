"""The encoder inside the wheel: `latewood/nano-en`, English, a few MB, no torch and no network."""

from functools import cache
from pathlib import Path

from latewood.encode.onnx import OnnxEncoder
from latewood.encode.windows import Long, long_of
from latewood.errors import EncoderError

NAME = "latewood/nano-en"
"""The name by which it is asked for, and which indexes record."""

_FOLDER = Path(__file__).parent / "nano_en"


def has_nano() -> bool:
    """Whether this installation carries the model: every wheel does, a bare source tree may not."""
    return (_FOLDER / "model.onnx").is_file()


def nano_en(*, long: Long = "windows") -> OnnxEncoder:
    """Give the encoder inside the wheel, one for the whole process; its model is loaded with the first text.

    Parameters
    ----------
    long : {"windows", "cut", "error"}
        As for `OnnxEncoder`. There is one encoder for each, with a model of its own; where both are needed, the `long`
        of single calls saves the second.
    """
    return _encoder(long_of(long))


@cache
def _encoder(long: Long) -> OnnxEncoder:
    if not has_nano():
        message = (
            f"this installation does not carry the model {NAME!r}; install a wheel of latewood, "
            "or pass another encoder, such as OnnxEncoder(folder)"
        )
        raise EncoderError(message)
    # Its activations have fixed scales, but padding could still round one differently: alone, a text has the same
    # vectors to the bit whatever comes with it.
    return OnnxEncoder(_FOLDER, batch_tokens=1, long=long)
