"""What is read from elsewhere, a part at a time."""

from dataclasses import dataclass
from typing import Any

from latewood.forms.ragged import Ragged


@dataclass(frozen=True, slots=True)
class Part:
    """Some documents.

    Attributes
    ----------
    ids : list of str or int
    vectors : Ragged
    metadata : list of dict
    texts : list of str or None, optional
    """

    ids: list[Any]
    vectors: Ragged
    metadata: list[dict[str, Any]]
    texts: list[Any] | None = None
