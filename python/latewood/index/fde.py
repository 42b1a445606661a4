"""Fixed dimensional encodings: what a user may choose about them when an index is created."""

from dataclasses import asdict, dataclass
from typing import Any

from latewood.errors import InvalidInputError
from latewood.forms.values import count_of, flag_of, optional, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class FdeOptions:
    """How documents are encoded as one vector each, for `Index.create` and `search(gather="fde")`.

    Random hyperplanes divide the space of token vectors into partitions, several times over; a document's encoding
    holds the mean of its tokens in each partition, and a query's the sum. Their dot product is close to MaxSim, and
    ranks candidates; it is never a score. docs/fde.md says what that costs, and when it fails.

    Parameters
    ----------
    repetitions : int
        How often the space is divided anew.
    planes : int
        Hyperplanes that divide it each time, from 0 to 8, into 2^planes partitions.
    components : int, optional
        Components of the rotated token vectors that each repetition keeps, the next ones in turn; by default as many
        as it takes for each to be kept once. A document takes repetitions * 2^planes * components bytes, one more
        component if `centred`, and 65,536 at most.
    centred : bool
        Keep what lies along the mean of the token vectors apart, as a component of its own. Vectors of many models
        share a large mean, and without this nearly all of them fall into few partitions. The mean is that of the
        vectors that the centroids were trained on, and stays.

    Raises
    ------
    InvalidInputError
        A number that is out of its range.

    Notes
    -----
    MUVERA: Dhulipala, Hadian, Jayaram, Lee and Mirrokni, "MUVERA: Multi-Vector Retrieval via Fixed Dimensional
    Encodings" (NeurIPS 2024). The paper multiplies token vectors by a random matrix for each repetition; components of
    vectors that are rotated already do better (docs/fde.md).
    """

    repetitions: int = 16
    planes: int = 3
    components: int | None = None
    centred: bool = True

    def __post_init__(self) -> None:
        """Check every field."""
        values = {
            "repetitions": count_of(self.repetitions, "repetitions of fde"),
            "planes": count_of(self.planes, "planes of fde", least=0, most=8),
            "components": optional(count_of, self.components, "components of fde"),
            "centred": flag_of(self.centred, "centred of fde"),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def plain(cls, fde: Any) -> dict[str, Any] | None:
        """Give what the core reads of `fde`, which may be True or False too."""
        if isinstance(fde, cls):
            return asdict(fde)
        try:
            return asdict(cls()) if flag_of(fde, "fde") else None
        except InvalidInputError:
            message = f"fde must be True, False or a latewood.FdeOptions(), not {shown(fde)}"
            raise InvalidInputError(message) from None
