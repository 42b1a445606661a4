"""An encoder's fingerprint: what an index remembers of the encoder that filled it. It is data and is never run."""

import json
from pathlib import Path
from typing import Any

from latewood.errors import EncoderError, EncoderMismatchError, InvalidInputError
from latewood.forms.values import count_of, optional, shown, text_of

_COMPARED = ("name", "revision", "dim", "prompts", "pooling")


def fingerprint(encoder: Any, *, dim: int | None = None) -> dict[str, Any]:
    """Give name, revision, dim, prompts, pooling and class of an encoder; None where it does not say.

    Parameters
    ----------
    encoder : Encoder
    dim : int, optional
        Used when the encoder does not tell its own.
    """
    dim = optional(count_of, dim, "dim")
    own_dim = getattr(encoder, "dim", None)
    return {
        "name": _plain(getattr(encoder, "name", None)) or type(encoder).__name__,
        "revision": _plain(getattr(encoder, "revision", None)),
        "dim": dim if own_dim is None else count_of(own_dim, "the encoder's dim"),
        "prompts": _plain(getattr(encoder, "prompts", None)),
        "pooling": _plain(getattr(encoder, "pooling", None)),
        "class": f"{type(encoder).__module__}.{type(encoder).__qualname__}",
    }


def check_fingerprint(stored: str | None, encoder: Any, *, path: str) -> None:
    """Refuse an encoder that differs from the one an index was built with.

    A property counts only when both sides know it; the class is not compared, since wrappers come and go.

    Parameters
    ----------
    stored : str or None
        The index's fingerprint as JSON; an index built from vectors alone has none, and takes any encoder.
    encoder : Encoder
    path : str
        The index's path, for the message.

    Raises
    ------
    EncoderMismatchError
    InvalidInputError
        `stored` is no JSON object.
    """
    if stored is None:
        return
    theirs = _recorded(stored)
    ours = fingerprint(encoder)
    for key in _COMPARED:
        old, new = theirs.get(key), ours.get(key)
        if old is None or new is None or _agree(key, old, new):
            continue
        message = (
            f"the index {path!r} was built with encoder {theirs.get('name')!r}, and {ours['name']!r} differs in {key}: "
            f"{old!r} in the index, {new!r} now. Open the index with the encoder that built it, or build a new index; "
            "check_encoder=False overrides this if you know that their vectors are the same"
        )
        raise EncoderMismatchError(message)


def dumps(encoder: Any, *, dim: int | None = None) -> str:
    """Give the fingerprint as JSON."""
    return json.dumps(fingerprint(encoder, dim=dim), sort_keys=True, ensure_ascii=False)


def _agree(key: str, old: Any, new: Any) -> bool:
    if key == "name":
        return bool(old == new) or _same_folder(str(old), str(new))
    if key == "pooling" and isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_same_stage, old, new))
    return bool(old == new)


def _same_stage(old: Any, new: Any) -> bool:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return bool(old == new)
    # A newer release of a library may have settings that an older one had not: what both know must agree.
    return all(old[key] == new[key] for key in old.keys() & new.keys())


def _same_folder(old: str, new: str) -> bool:
    # The same model may lie in another folder on another machine: of paths, only the last part counts.
    is_path = any(Path(name).is_absolute() or Path(name).is_dir() for name in (old, new))
    return is_path and Path(old).name == Path(new).name


def _recorded(stored: str) -> dict[str, Any]:
    try:
        recorded = json.loads(text_of(stored, "the stored fingerprint"))
    except (ValueError, RecursionError) as error:
        message = f"the stored fingerprint is not JSON: {error}"
        raise InvalidInputError(message) from error
    if not isinstance(recorded, dict):
        message = f"the stored fingerprint is a {type(recorded).__name__}, not a JSON object"
        raise InvalidInputError(message)
    return recorded


def _plain(value: Any) -> Any:
    if value is None or callable(value):
        return None
    try:
        # A round trip makes tuples lists, so that a stored and a fresh fingerprint compare equal.
        return json.loads(json.dumps(value, default=str))
    except Exception as error:  # a foreign encoder's attributes may be anything
        message = f"what the encoder says of itself cannot be recorded, {shown(value)}: {error}"
        raise EncoderError(message) from error
