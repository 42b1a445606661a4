"""A function as a first stage."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from latewood.common.types import Id
from latewood.errors import InvalidInputError
from latewood.forms.candidates import read_candidates
from latewood.forms.ids import plain_ids
from latewood.forms.values import count_of, shown
from latewood.rerank.first_stages.protocol import name_of, refuse_async, texts_of

_OF_MODELS = ("encode_query", "encode", "forward", "predict")
"""What models have that can be called, and that give no candidates: torch's modules, encoders, rerankers."""


class CallableFirstStage:
    """Any function `(query, k) -> candidates`, in a form that `FirstStage` lists.

    Parameters
    ----------
    function : callable
        May give more than k candidates: the k best are taken, or the first k where there are no scores. What it raises
        passes through.
    """

    def __init__(self, function: Callable[[str, int], Any]) -> None:
        if not callable(cast("object", function)) or isinstance(function, type):
            message = (
                f"{shown(function)} is no first stage: it needs search and search_batch, or be a function "
                "(query, k) -> candidates"
            )
            raise InvalidInputError(message)
        model = next((name for name in _OF_MODELS if callable(getattr(function, name, None))), None)
        if model is not None:
            message = (
                f"a {type(function).__name__} is a model (it has {model!r}) and no first stage: it knows no documents; "
                "SparseEncoderFirstStage.from_texts(model, ids, texts) makes one of a sparse model"
            )
            raise InvalidInputError(message)
        refuse_async(function, name_of(function))
        _check_parameters(function)
        self.function = function

    def __repr__(self) -> str:
        return f"{type(self).__name__}({getattr(self.function, '__qualname__', shown(self.function))})"

    def search(self, query: str, k: int) -> tuple[Sequence[Id], Sequence[float] | None]:
        """Give at most k ids and their scores, best first; None for scores where the function gives none."""
        (text,) = texts_of([query], "the query")
        depth = count_of(k, "k")
        where = f"the candidates of {name_of(self)} for query {text[:60]!r}"
        ids, scores = read_candidates(self.function(text, depth), where)
        keys = plain_ids(ids)
        if scores is None:
            return keys[:depth], None
        order = np.argsort(-scores, kind="stable")[:depth].tolist()
        return [keys[position] for position in order], scores[order].tolist()

    def search_batch(self, queries: Sequence[str], k: int) -> list[tuple[Sequence[Id], Sequence[float] | None]]:
        """One query after the other."""
        return [self.search(query, k) for query in texts_of(queries, "queries")]


def _check_parameters(function: Callable[..., Any]) -> None:
    """Refuse a function that cannot be called with a query and a number; what hides its parameters passes."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind("", 1)
    except TypeError as error:
        message = (
            f"a first stage is a function (query, k) -> candidates; {name_of(function)} takes {signature}: {error}"
        )
        raise InvalidInputError(message) from error
