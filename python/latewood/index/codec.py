"""Which codec a new index gets: settings of its own, or the trained codec of another index."""

from collections.abc import Callable, Mapping
from typing import Any

from latewood import _core
from latewood.errors import InvalidInputError
from latewood.forms.values import choice_of, count_of, shown, whole

_BITS = (1, 2, 4, 8)
_DEFAULTS: dict[str, Any] = {"codec": "residual", "bits": 4, "centroids": None, "seed": 42, "train_after": 65_536}


def codec_settings(given: Mapping[str, Any], source: _core.Index | None) -> dict[str, Any]:
    """Give all settings of a codec: those of `source`, or the defaults, where `given` has None.

    Raises
    ------
    InvalidInputError
        A setting does not exist, or is not that of `source`; `source` has no trained codec.
    """
    chosen = {name: value for name, value in _checked(given).items() if value is not None}
    if source is None:
        return {**_DEFAULTS, **chosen}
    info = source.info()
    own = info["codec_options"]
    own["codec"] = own.pop("kind")
    if info["codec"] is None or info["codec"]["kind"] != own["codec"]:
        message = (
            f"the index {source.path!r} has no trained codec to begin with; give it documents first, until it holds "
            f"{own['train_after']} token vectors (its train_after)"
        )
        raise InvalidInputError(message)
    # How late a codec is trained is no part of one that is.
    contrary = [name for name, value in chosen.items() if name != "train_after" and value != own[name]]
    if contrary:
        theirs = ", ".join(f"{name}={own[name]!r}" for name in contrary)
        message = (
            f"the codec of {source.path!r} has {theirs}; leave {' and '.join(contrary)} out, or leave codec_from out"
        )
        raise InvalidInputError(message)
    return {**own, **chosen}


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    bits = whole(given["bits"])
    if given["bits"] is not None and bits not in _BITS:
        message = f"bits must be 1, 2, 4 or 8, not {shown(given['bits'])}"
        raise InvalidInputError(message)
    checks: dict[str, Callable[[Any], Any]] = {
        "codec": lambda codec: choice_of(codec, "codec", ("residual", "flat")),
        "centroids": lambda centroids: count_of(centroids, "centroids"),
        "seed": lambda seed: count_of(seed, "seed", least=0, most=2**64 - 1),
        "train_after": lambda tokens: count_of(tokens, "train_after", least=0),
    }
    checked = {name: None if given[name] is None else check(given[name]) for name, check in checks.items()}
    return {**checked, "bits": bits}
