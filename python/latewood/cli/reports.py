"""The commands that look: info, check, export, demo."""

from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import click

from latewood.cli.outcome import command, table, tell
from latewood.cli.parameters import EXISTING, INDEX, PATH, filter_option, not_empty
from latewood.common.types import Dtype
from latewood.errors import CorruptIndexError
from latewood.exchange.imports import export_index
from latewood.index.index import Index


@command("info")
@click.argument("path", type=INDEX)
def info(path: Path, as_json: bool) -> None:
    """Show counts, sizes, codec and encoder of an index."""
    values = Index.open(path).info()
    tell(values, as_json, lambda: table(values))


@command("check")
@click.argument("path", type=INDEX)
@click.pass_context
def check(context: click.Context, path: Path, as_json: bool) -> None:
    """Verify every checksum and count; exit code 1 if there are problems."""
    try:
        problems = Index.open(path).check()
    except CorruptIndexError as error:
        problems = [str(error)]
    tell({"problems": problems}, as_json, lambda: "\n".join(problems) or "no problems")
    if problems:
        context.exit(1)


@command("export")
@click.argument("path", type=INDEX)
@click.argument("target", type=PATH)
@click.option("--dtype", type=click.Choice(get_args(Dtype)), default="float32", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace the file that is at TARGET.")
@filter_option
def export(path: Path, target: Path, dtype: Dtype, overwrite: bool, as_json: bool, **chosen: Any) -> None:
    """Write the documents of an index to TARGET: .parquet, .arrow, .lance, .npz or .safetensors."""
    index = Index.open(path)
    ids = index.ids(**chosen)
    export_index(index, target, ids=ids, dtype=dtype, overwrite=overwrite)
    tell({"path": str(target), "documents": len(ids)}, as_json, lambda: f"wrote {len(ids)} documents to {target}")


@command("demo")
@click.option("--data", type=EXISTING, help="A BEIR folder; SciFact by default.")
@click.option(
    "--encoder",
    metavar="NAME",
    callback=not_empty,
    help="Multi-vector model, or 'minilm'; the one inside the wheel by default.",
)
@click.option("--serve", "served", is_flag=True, help="Serve the collection with a page to search it (extra 'serve').")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65_535), help="With --serve.")
@click.pass_context
def demo(
    context: click.Context, data: Path | None, encoder: str | None, served: bool, port: int, as_json: bool
) -> None:
    """Index a small collection of abstracts, compare search, reranking and BM25, and show hits; or serve it."""
    module = import_module("latewood.cli.demo")
    folder = str(data) if data is not None else None
    if not served:
        context.exit(module.main(data=folder, json=as_json, encoder=encoder))
    if encoder is not None:
        message = "--serve uses the encoder inside the wheel; leave --encoder out"
        raise click.UsageError(message)
    context.exit(module.serve(data=folder, as_json=as_json, port=port))
