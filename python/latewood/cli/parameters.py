"""Kinds of parameters, and those that several commands have."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import fields
from inspect import cleandoc
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

from latewood.cloud.store import is_url
from latewood.forms.values import shown
from latewood.index.options import RankingOptions

Decorator = Callable[[Any], Any]

STDOUT = Path("/dev/stdout")
"""Where a run goes that is written to the standard output."""


class _NewPath(click.Path):
    """A path that need not exist, but is one: the empty one would be the working folder."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        if is_url(value):
            self.fail(f"{value!r} is an address; give a path, which `latewood publish` takes", parameter, context)
        return super().convert(value or self.fail("it is empty", parameter, context), parameter, context)


class _Index(click.Path):
    """A folder, or an address, which stays a str."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        return value if is_url(value) else super().convert(value, parameter, context)


class _Output(_NewPath):
    """A file to write at the end: that its folder takes one is found out before the work."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        path = super().convert(value, parameter, context)
        if Path(path).exists() and not Path(path).is_file():
            # A pipe or device is written to where it is.
            return path
        folder = Path(os.fsdecode(path)).absolute().parent
        if not os.access(folder, os.W_OK | os.X_OK) or not folder.is_dir():
            self.fail(f"{os.fsdecode(folder)!r} is no folder that can be written to", parameter, context)
        return path


class _Source(click.Path):
    """What is read once from its start to its end; `-` is the standard input."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        return super().convert("/dev/stdin" if value == "-" else value, parameter, context)


class _Run(_Output):
    """A run to write at the end; `-` is the standard output, whatever that is connected with."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        named = value == "-" or str(value) == os.fspath(STDOUT)
        return STDOUT if named else super().convert(value, parameter, context)


PATH = _NewPath(path_type=Path)
EXISTING = click.Path(path_type=Path, exists=True)
SOURCE = _Source(path_type=Path, exists=True)
INDEX = _Index(path_type=Path, exists=True)
"""An index that is read: a folder, or an address in object storage."""
OUTPUT = _Output(path_type=Path, dir_okay=False, writable=True)
RUN = _Run(path_type=Path, dir_okay=False, writable=True)
COUNT = click.IntRange(min=1, max=2**62)


def not_empty(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty name, which an unset variable of a shell would be."""
    if value == "":
        message = "it is empty"
        raise click.BadParameter(message, context, parameter)
    return value


def json_object(context: click.Context, parameter: click.Parameter, value: str | None) -> dict[str, Any] | None:
    """Read a JSON object, of which no two members have one name."""
    if value is None:
        return None
    try:
        found = json.loads(value, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        message = f"not JSON that can be read: {error}"
        raise click.BadParameter(message, context, parameter) from error
    if not isinstance(found, dict):
        message = f'a JSON {type(found).__name__}; give an object such as \'{{"lang": "en"}}\''
        raise click.BadParameter(message, context, parameter)
    return found


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members; of two with one name, JSON readers drop the first without a word."""
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            message = f'{shown(name)} stands twice in one object; a filter has both under "and"'
            raise ValueError(message)
        members[name] = value
    return members


encoder_option: Decorator = click.option(
    "--encoder",
    metavar="NAME",
    callback=not_empty,
    help="Multi-vector model for text, a name or folder; 'recorded': the one the index names.",
)
filter_option: Decorator = click.option(
    "--filter",
    metavar="JSON",
    callback=json_object,
    help='Conditions on metadata, such as \'{"lang": "en"}\' (docs/filters.md).',
)
threads_option: Decorator = click.option("--threads", type=COUNT, help="All processors by default.")
missing_option: Decorator = click.option(
    "--missing",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="What to do about an id that the index does not hold.",
)
identical_option: Decorator = click.option(
    "--keep-identical-ids",
    is_flag=True,
    help="Of a BEIR folder: keep the hit that has its query's own id, which BEIR leaves out.",
)


def library_options(keywords: type, *values: type[RankingOptions]) -> Decorator:
    """Add an option for each keyword argument of a search or rerank that one word can give.

    Names, kinds, defaults and descriptions are those of the library, so that a new keyword needs no line here.

    Parameters
    ----------
    keywords : TypedDict
        The keyword arguments and their types.
    *values : type
        What the keyword arguments make: the last has the defaults, and the docstrings of all describe them.
    """
    told = {name: text for value in values for name, text in _described(value).items()}
    defaults = {field.name: field.default for field in fields(values[-1])}

    def decorate(function: Any) -> Any:
        for name, hint in reversed(get_type_hints(keywords).items()):
            kind = _kind(hint)
            if kind is None:
                continue
            flag = kind is bool
            function = click.option(
                f"--{name.replace('_', '-')}",
                type=None if flag else kind,
                is_flag=flag,
                default=defaults[name],
                show_default=not flag,
                help=told.get(name),
            )(function)
        return function

    return decorate


def _kind(hint: Any) -> Any:
    """Give click's type for a value that one word can give, or None for any other."""
    members = (hint,) if get_origin(hint) is Literal else get_args(hint) or (hint,)
    kinds = [member for member in members if member is not NoneType]
    if len(kinds) == 1 and get_origin(kinds[0]) is Literal:
        return click.Choice(get_args(kinds[0]))
    return kinds[0] if len(kinds) == 1 and kinds[0] in (bool, int, float, str) else None


def _described(value: type) -> dict[str, str]:
    """Give the descriptions of parameters in a numpy docstring, as plain text."""
    sections = re.findall(r"^(\w+) : .*\n((?: {4}.*\n?)+)", cleandoc(value.__doc__ or ""), re.MULTILINE)
    return {name: " ".join(text.replace("`", "").split()) for name, text in sections}
