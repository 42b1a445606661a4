"""What an encoder returns: token vectors, and which of the texts were too long for it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from latewood.errors import InvalidInputError
from latewood.forms.arrays import as_list, booleans
from latewood.forms.ragged import listed

if TYPE_CHECKING:
    from latewood.common.types import BoolArray


class Encoded(list[Any]):
    """A list of `[tokens, dim]` arrays, one for each text, that also tells which texts were cut.

    Any list of arrays will do as an encoder's answer; from this one the index learns what to count as truncated.

    Parameters
    ----------
    vectors : iterable of arrays
    truncated : bool array [texts]
        Whether the text was longer than the encoder takes, so that its vectors do not stand for all of it.
    """

    def __init__(self, vectors: Iterable[Any], truncated: Iterable[bool]) -> None:
        super().__init__(as_list(vectors, "vectors"))
        self.truncated: BoolArray = booleans(listed(truncated, "truncated"), "truncated")
        if self.truncated.shape != (len(self),):
            message = f"truncated has shape {self.truncated.shape} for {len(self)} texts; give one mark for each"
            raise InvalidInputError(message)
