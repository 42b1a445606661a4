"""All commands, and the way in and out of them."""

import sys
from io import TextIOWrapper

import click

from latewood.cli.changes import add, compact, create, delete, import_, recover, tune, update
from latewood.cli.cloud import clean, publish, pull
from latewood.cli.explaining import explain
from latewood.cli.outcome import INTERRUPTED, Failure, let_go_of_output
from latewood.cli.reports import check, demo, export, info
from latewood.cli.searches import evaluate, rerank, search
from latewood.cli.service import serve


def _print_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        from latewood._core import __version__, simd_level

        click.echo(f"latewood {__version__} ({simd_level()})")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version)
def cli() -> None:
    """Late interaction on ordinary processors: index, search and rerank token vectors."""


for _command in (
    create,
    import_,
    add,
    update,
    delete,
    search,
    rerank,
    evaluate,
    explain,
    tune,
    serve,
    info,
    check,
    export,
    publish,
    pull,
    clean,
    recover,
    compact,
    demo,
):
    cli.add_command(_command)


def run() -> None:
    """Run the command line.

    The exit code is 0, 1 for an error (one line on standard error), 2 for wrong usage, 130 for Ctrl-C, and 141, without
    a word, where nobody reads the output any more.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # What this terminal cannot show is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(standalone_mode=False, prog_name="latewood")
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        click.echo("latewood: interrupted", err=True)
        code = INTERRUPTED
    except OSError as error:
        # Of what click itself prints, such as the help.
        failure = Failure(str(error))
        failure.show()
        code = failure.exit_code
    let_go_of_output()
    sys.exit(code if isinstance(code, int) else 0)
