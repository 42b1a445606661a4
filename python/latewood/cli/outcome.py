"""How a command ends: what it prints, and the line and exit code of what goes wrong."""

import codecs
import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from latewood.errors import LatewoodError

INTERRUPTED = 128 + 2
BROKEN_PIPE = 128 + 13


class Failure(click.ClickException):
    """One line on standard error, exit code 1."""

    def show(self, file: Any = None) -> None:
        """Print the line."""
        click.echo(f"latewood: {' '.join(self.format_message().split())}", file=file, err=file is None)


def command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a function: with the flag --json, and errors as one line."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(_reports_errors(function))
        return click.command(name)(with_json)

    return decorate


def _reports_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except BrokenPipeError:
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        except KeyboardInterrupt:
            click.echo("latewood: interrupted", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (LatewoodError, OSError) as error:
            raise Failure(str(error)) from error
        # A user has no use for a traceback; what happened is said for whoever mends it.
        except Exception as error:
            message = (
                f"internal error: {type(error).__name__}: {error}; please report it with the command that led here"
            )
            raise Failure(message) from error

    return wrapped


def let_go_of_output() -> None:
    """Drop what could not be written, or the interpreter tries again at its end and complains on its own."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(value: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print a result, as JSON or as text."""
    click.echo(written(value) if as_json else text())


def written(value: Any) -> str:
    """Write JSON, which is read as UTF-8: where the output is in something else, with the escapes that JSON has."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return json.dumps(value, ensure_ascii=codecs.lookup(encoding).name != "utf-8", default=str)


def table(mapping: dict[str, Any]) -> str:
    """Put names and values below each other."""
    width = max((len(key) for key in mapping), default=0)
    return "\n".join(f"{key:<{width}}  {_short(value)}" for key, value in mapping.items())


def side_by_side(columns: dict[str, dict[str, float]]) -> str:
    """Put values of the same names beside each other, a column for each mapping."""
    names = list(next(iter(columns.values())))
    first = max(map(len, names))
    lines = [f"{'':<{first}}  " + "  ".join(f"{column:>6}" for column in columns)]
    for name in names:
        cells = "  ".join(f"{values[name]:>{max(len(column), 6)}.4f}" for column, values in columns.items())
        lines.append(f"{name:<{first}}  {cells}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (dict, list)) else str(value)
