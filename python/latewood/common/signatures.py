"""Signatures for people: what a function takes as `**options` shows in `help` and editors like any other parameter."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])


def shows(source: Callable[..., Any]) -> Callable[[_Function], _Function]:
    """Make the signature of a function show the keyword-only parameters of `source` in place of `**options`."""

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        own = {name: one for name, one in signature.parameters.items() if one.kind is not one.VAR_KEYWORD}
        more = [
            one
            for name, one in inspect.signature(source).parameters.items()
            if one.kind is one.KEYWORD_ONLY and name not in own
        ]
        shown = signature.replace(parameters=[*own.values(), *more])
        function.__signature__ = shown  # type: ignore[attr-defined]
        return function

    return decorate
