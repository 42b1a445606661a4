"""Fewer vectors for a text: token vectors that point about the same way become their mean."""

from typing import Any, Literal, get_args

from latewood import _core
from latewood.common.types import VectorInput
from latewood.errors import InvalidInputError
from latewood.forms.ragged import Ragged, to_ragged
from latewood.forms.values import choice_of, count_of, flag_of, number_of, optional, share_of, threads_of

PoolingMethod = Literal["kmeans", "ward"]


def pool_tokens(
    vectors: VectorInput,
    method: PoolingMethod = "kmeans",
    *,
    count: int | None = None,
    fraction: float | None = None,
    factor: float | None = None,
    protected: int = 0,
    normalize: bool = True,
    mask: Any = None,
    threads: int | None = None,
) -> Ragged:
    """Pool the token vectors of each text; exactly one of `count`, `fraction` and `factor` says how far.

    A text that has no more vectors than it may keep is left as it is. The result for a text depends on nothing but
    that text.

    Parameters
    ----------
    vectors : list of [tokens, dim] arrays, padded [items, tokens, dim] array, [tokens, dim] array, or Ragged
        Any form that `latewood.to_ragged` takes.
    method : {"kmeans", "ward"}
        Spherical k-means from a farthest-first start, which is what `latewood.train.CrispPooling` trains for
        (CRISP, arXiv 2505.11471), or Ward's linkage as in sentence-transformers' `HierarchicalTokenPooling`
        (arXiv 2409.14683): equal to it with `protected=1`. "ward" expects vectors of unit length.
    count : int, optional
        Vectors of a text at most, protected ones among them.
    fraction : float, optional
        Share of a text's vectors to keep, above 0 and at most 1, rounded down, at least one.
    factor : float, optional
        Pool about this many vectors into one, at least 1; the `pool_factor` of sentence-transformers.
    protected : int
        The first so many vectors of a text, such as that of `[CLS]`, are kept as they are.
    normalize : bool
        Scale all vectors that come out to unit length.
    mask : array [items, tokens], optional
        Tokens whose entry is False or 0 do not count.
    threads : int, optional
        As many as this process may use at once by default. The result does not depend on it.

    Returns
    -------
    Ragged
        float32. k-means numbers clusters by their first tokens, Ward as scipy does.

    Raises
    ------
    InvalidInputError
        Not exactly one budget or one out of range, vectors that are not finite floats of a fitting shape, or a text of
        more than 8,192 vectors to pool.
    """
    choice_of(method, "method", get_args(PoolingMethod))
    if sum(budget is not None for budget in (count, fraction, factor)) != 1:
        message = "give exactly one of count, fraction and factor"
        raise InvalidInputError(message)
    options: dict[str, Any] = {
        "count": optional(count_of, count, "count"),
        "fraction": optional(share_of, fraction, "fraction"),
        "factor": optional(number_of, factor, "factor", least=1.0),
        "protected": count_of(protected, "protected", least=0),
        "normalize": flag_of(normalize, "normalize"),
        "threads": threads_of(threads),
    }
    ragged = to_ragged(vectors, mask=mask, kind="item", allow_empty=True)
    if ragged.dim == 0:
        return ragged
    return Ragged(*_core.pool(ragged.values, ragged.offsets, method, **options))
