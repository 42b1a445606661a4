"""The command that serves."""

import os
from pathlib import Path

import click
from click.core import ParameterSource

from latewood.cli.outcome import command, tell
from latewood.cli.parameters import COUNT, PATH, encoder_option
from latewood.common.files import at_home

READ_TOKENS, WRITE_TOKENS = "LATEWOOD_READ_TOKENS", "LATEWOOD_WRITE_TOKENS"
"""Environment variables with tokens, divided by spaces."""


@command("serve")
@click.argument("indexes", metavar="[NAME=FOLDER]...", nargs=-1)
@click.option("--host", default="127.0.0.1", show_default=True, help="Any other than this machine's own needs tokens.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65_535), help="0 for any that is free.")
@click.option(
    "--uds",
    type=PATH,
    help="Serve at a Unix socket of this path, and at no port; without tokens only for who owns this process.",
)
@click.option("--workers", default=1, show_default=True, type=COUNT, help="Processes.")
@encoder_option
@click.option(
    "--tokens",
    "token_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=f"Bearer tokens: a line for each, 'read TOKEN' or 'write TOKEN'. Or by {READ_TOKENS} and {WRITE_TOKENS}.",
)
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="A name it is asked under; may be repeated.")
@click.option("--read-only", is_flag=True, help="Nobody may change an index.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds that a request may take.")
@click.option("--log-queries", is_flag=True, help="Let the log tell what was asked.")
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of the pictures that the page shows; metadata name them as 'image'.",
)
def serve(
    indexes: tuple[str, ...],
    host: str,
    port: int,
    uds: Path | None,
    workers: int,
    encoder: str | None,
    token_file: Path | None,
    hosts: tuple[str, ...],
    read_only: bool,
    timeout: float,
    log_queries: bool,
    images: Path | None,
    as_json: bool,
) -> None:
    """Serve indexes over HTTP, and rerank texts; docs/serving.md tells how it is asked.

    An index is given as NAME=FOLDER, or as a FOLDER that has its name.
    """
    from latewood.serve import Settings, run

    given = click.get_current_context().get_parameter_source
    if uds is not None and {given("host"), given("port")} != {ParameterSource.DEFAULT}:
        message = "--uds is served at no port; leave out --host and --port"
        raise click.UsageError(message)
    reading, writing = _tokens(token_file)
    settings = Settings(
        timeout=timeout,
        read_tokens=reading,
        write_tokens=writing,
        read_only=read_only,
        hosts=hosts,
        log_queries=log_queries,
        images=None if images is None else str(images),
    )
    folders = _folders(indexes)

    def ready(address: str) -> None:
        names = ", ".join(folders) or "a reranker"
        tell({"address": address, "indexes": list(folders)}, as_json, lambda: f"latewood serves {names} at {address}")

    run(folders, host=host, port=port, uds=uds, workers=workers, encoder=encoder, settings=settings, ready=ready)


def _folders(given: tuple[str, ...]) -> dict[str, str]:
    """Read names and folders."""
    folders: dict[str, str] = {}
    for one in given:
        name, equals, folder = one.partition("=")
        # Folders on the way may have an equals sign in their names.
        if not equals or "/" in name:
            # The name of `.` is that of where it leads.
            name, folder = at_home(one).resolve().name, one
        if name in folders:
            message = f"two indexes are called {name!r}"
            raise click.UsageError(message)
        folders[name] = folder
    return folders


def _tokens(file: Path | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read the tokens of who may read and of who may write."""
    found = {"read": os.environ.get(READ_TOKENS, "").split(), "write": os.environ.get(WRITE_TOKENS, "").split()}
    # What is no text makes no token; some programs put a mark before it, which says that it is UTF-8.
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines() if file else []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or words[0] not in found:
            # The line may be a token, which is nothing for a screen.
            message = f"{file}, line {number}: it must be 'read TOKEN' or 'write TOKEN'"
            raise click.UsageError(message)
        found[words[0]].append(words[1])
    if file is not None and not any(found.values()):
        message = f"{file} has no token, and without one everybody may ask: write 'read TOKEN' or 'write TOKEN' in it"
        raise click.UsageError(message)
    return tuple(found["read"]), tuple(found["write"])
