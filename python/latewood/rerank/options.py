"""What `TwoStage` and `Hybrid` may choose, checked when it is made."""

from dataclasses import dataclass
from typing import Any, ClassVar

from latewood.common.types import MissingRule
from latewood.errors import InvalidInputError
from latewood.forms.values import count_of
from latewood.index.options import Check, RankingKeywords, RankingOptions, RerankKeywords, RerankOptions
from latewood.rerank.fusion import Fusion, fusion_of


class HybridKeywords(RankingKeywords, total=False):
    """Keyword arguments of `Hybrid`, described at `HybridOptions`."""

    depth: int
    fusion: Fusion | None


class TwoStageKeywords(RerankKeywords, total=False):
    """Keyword arguments of `TwoStage`, described at `TwoStageOptions`."""

    depth: int
    fusion: Fusion | None


@dataclass(frozen=True, kw_only=True)
class HybridOptions(RankingOptions):
    """What a hybrid search may choose.

    Parameters
    ----------
    k : int
        How many hits at most.
    filter, group_by, offset, min_score, length_normalize, rescore, threads
        As for `SearchOptions`. With `fusion`, `offset` and `min_score` go by the fused scores, and there is no
        `group_by`.
    depth : int
        How many candidates each stage is asked for; more where `offset + k` is more.
    fusion : float, "rrf" or None
        A number between 0 and 1 is MaxSim's weight in the weighted sum of all stages' scores, each brought to 0 … 1 by
        the smallest and the largest among those candidates of the query that were scored; first stages share the rest.
        "rrf" sums reciprocal ranks. The scores of hits are then those of the fusion. None orders by MaxSim alone.

    Raises
    ------
    InvalidInputError
        An option that is not one; `group_by` with `fusion`.
    """

    k: int
    depth: int = 100
    fusion: Fusion | None = 0.7

    checks: ClassVar[dict[str, Check]] = {
        **RankingOptions.checks,
        "k": count_of,
        "depth": count_of,
        "fusion": fusion_of,
    }

    def __post_init__(self) -> None:
        """Check what is no default, and what does not go together."""
        super().__post_init__()
        if self.fusion is not None and self.group_by is not None:
            message = "group_by keeps the best of each value by MaxSim alone; leave out group_by, or pass fusion=None"
            raise InvalidInputError(message)

    @property
    def asked(self) -> int:
        """How many candidates a stage is asked for."""
        return max(self.depth, self.offset + self.k)

    def second_stage(self, given: dict[str, Any]) -> dict[str, Any]:
        """Keyword arguments of `Index.rerank` that give all hits that are needed, of what was given."""
        # Stages that know the index's own documents may have found one that is gone by now.
        shared = {"missing": "skip"} | {
            name: value for name, value in given.items() if name in RerankKeywords.__annotations__
        }
        if self.fusion is None:
            return {**shared, "k": self.k}
        # Every document that was scored takes part in the fusion.
        to = given.get("prune_to") or self.offset + self.k
        return {**shared, "k": None, "offset": 0, "min_score": None, "prune_to": to}


@dataclass(frozen=True, kw_only=True)
class TwoStageOptions(HybridOptions):
    """What two stages may choose.

    Parameters
    ----------
    k : int
        How many hits at most.
    filter, group_by, offset, min_score, length_normalize, rescore, threads
        As for `RerankOptions`. With `fusion`, `offset` and `min_score` go by the fused scores, and there is no
        `group_by`.
    depth : int
        How many candidates the first stage is asked for (κ in the paper); more where `offset + k` is more.
    alpha, beta, prune_to
        Candidate pruning and early exit, as `RerankOptions` has them; `alpha` needs scores from the first stage.
    fusion : None, "rrf" or float
        None orders by MaxSim alone; "rrf" by reciprocal ranks in both stages; a number between 0 and 1 is MaxSim's
        weight in the weighted sum of both stages' scores, and needs scores from the first stage. Scores are brought to
        0 … 1 by the smallest and the largest of the query's candidates. The scores of hits are then those of the
        fusion. What `alpha` and `beta` leave unscored takes no part in it.
    missing : {"error", "skip"}
        What to do about candidates that the index does not hold.

    Raises
    ------
    InvalidInputError
        An option that is not one; `group_by` with `fusion`.
    """

    fusion: Fusion | None = None
    alpha: float | None = None
    beta: int | None = None
    prune_to: int | None = None
    missing: MissingRule = "error"

    checks: ClassVar[dict[str, Check]] = {
        **HybridOptions.checks,
        **{name: RerankOptions.checks[name] for name in ("alpha", "beta", "prune_to", "missing")},
    }
