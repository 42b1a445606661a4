"""Signatures for people: what a function takes as `**options` shows in `help` and editors like any other parameter."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import wraps
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])


def shows(source: Callable[..., Any]) -> Callable[[_Function], _Function]:
    """Make the signature of a function show the keyword-only parameters of `source` in place of `**options`.

    A keyword that is none of them is a `TypeError` of the function itself, which names the one that may be meant.
    """

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        own = {name: one for name, one in signature.parameters.items() if one.kind is not one.VAR_KEYWORD}
        more = [
            one
            for name, one in inspect.signature(source).parameters.items()
            if one.kind is one.KEYWORD_ONLY and name not in own
        ]
        shown = signature.replace(parameters=[*own.values(), *more])
        known = frozenset(shown.parameters)

        @wraps(function)
        def checked(*arguments: Any, **options: Any) -> Any:
            if not known.issuperset(options):
                raise _unknown(function.__qualname__, options, shown.parameters)
            return function(*arguments, **options)

        @wraps(function)
        async def checked_when_awaited(*arguments: Any, **options: Any) -> Any:
            return await checked(*arguments, **options)

        made: Any = checked_when_awaited if inspect.iscoroutinefunction(function) else checked
        made.__signature__ = shown
        return made  # type: ignore[no-any-return]

    return decorate


def _unknown(function: str, given: Iterable[str], known: Iterable[str]) -> TypeError:
    names = [name for name in known if name != "self"]
    wrong = next(name for name in given if name not in names)
    return TypeError(f"{function}() got an unexpected keyword argument {wrong!r}; {meant(wrong, names)}")


def meant(wrong: str, names: Sequence[str]) -> str:
    """Tell which of the names that there are one that is none of them may stand for, or all of them."""
    near = get_close_matches(wrong, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(names)}"
