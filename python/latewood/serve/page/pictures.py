"""Pictures of pages: which a document may show, and how its patches lie on it."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latewood.common.types import FloatArray
from latewood.errors import InvalidInputError

FIELD = "image"
"""The metadata field with a picture's path, from the folder that `--images` names."""
PATCHES = "patches"
"""The metadata field with [rows, columns] of the patches, which are the first of the document's tokens."""
MOST_BYTES = 16 << 20
SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}
"""How files of pictures begin. SVG is none of them: it is a program too."""


def picture(folder: Path, metadata: Mapping[str, Any] | None) -> dict[str, str]:
    """Read the picture that a document's metadata names.

    Returns
    -------
    dict
        "type" and "base64".

    Raises
    ------
    InvalidInputError
        There is none, it lies outside of the folder, wherever links lead, or it is no picture. The message says no more
        than that, since a path is nobody's business.
    """
    path = (metadata or {}).get(FIELD)
    if not isinstance(path, str):
        message = f"the document's metadata has no {FIELD!r} with the path of a picture"
        raise InvalidInputError(message)
    try:
        root = folder.resolve(strict=True)
        file = (root / path).resolve(strict=True)
        # A pipe would be waited for.
        known = file.is_relative_to(root) and file.is_file() and file.stat().st_size <= MOST_BYTES
        content = file.read_bytes() if known else b""
    except (OSError, ValueError, RuntimeError):
        content = b""
    kind = next((kind for begin, kind in SIGNATURES.items() if content.startswith(begin)), None)
    if kind is None:
        message = (
            f"the document's {FIELD!r} is no PNG, JPEG, GIF or WebP of {MOST_BYTES >> 20} MiB at most in the folder"
        )
        raise InvalidInputError(message)
    return {"type": kind, "base64": base64.b64encode(content).decode()}


def patches(matrix: FloatArray, metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Tell how near each patch is to each query token, from 0 to 255.

    Parameters
    ----------
    matrix : float32 array [query tokens, document tokens]
    metadata : mapping or None

    Returns
    -------
    dict or None
        "rows", "columns", and "near", the bytes of an array [query tokens, rows · columns] in base64: in each row 255
        is the best patch of the query token, and 0 the median patch and all below. None where the metadata do not say
        how patches lie, or the document has fewer tokens.
    """
    shape = (metadata or {}).get(PATCHES)
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(side) is int and side > 0 for side in shape)):
        return None
    rows, columns = shape
    if rows * columns > matrix.shape[1] or not len(matrix):
        return None
    own = matrix[:, : rows * columns]
    floor = np.median(own, axis=1, keepdims=True)
    above = (own - floor).clip(0) / (own.max(axis=1, keepdims=True) - floor).clip(1e-9)
    near = np.rint(255 * above.clip(0, 1)).astype(np.uint8)
    return {"rows": rows, "columns": columns, "near": base64.b64encode(near.tobytes()).decode()}
