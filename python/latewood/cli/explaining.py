"""The command that shows why."""

import os
import sys
from pathlib import Path

import click

from latewood.cli.inputs import ids_of_index
from latewood.cli.outcome import command, tell
from latewood.cli.parameters import COUNT, INDEX, OUTPUT, encoder_option, filter_option
from latewood.index.index import Index
from latewood.index.results import finite
from latewood.show import html
from latewood.show.terminal import printable


@command("explain")
@click.argument("path", type=INDEX)
@click.argument("query")
@click.option("--id", "ids", multiple=True, help="A document to explain, instead of the best; may be repeated.")
@encoder_option
@click.option("-k", default=3, show_default=True, type=COUNT, help="How many of the best documents to explain.")
@filter_option
@click.option("--html", "html_path", type=OUTPUT, help="Write a page that needs no server here.")
def explain(
    path: Path,
    query: str,
    ids: tuple[str, ...],
    encoder: str | None,
    k: int,
    filter: dict[str, object] | None,  # noqa: A002
    html_path: Path | None,
    as_json: bool,
) -> None:
    """Show which parts of documents answer QUERY, and how much each adds."""
    index = Index.open(path, encoder=encoder)
    if ids:
        hits = index.rerank(query, ids_of_index(index, dict.fromkeys(ids, 0.0)), filter=filter)
    else:
        hits = index.search(query, k, filter=filter)
    if html_path is not None:
        html_path.write_text(html.standalone(query, hits.to_html(explained=len(hits))), encoding="utf-8")
        tell({"html": str(html_path), "hits": len(hits)}, as_json, lambda: f"wrote {len(hits)} hits to {html_path}")
        return
    explanations = [hit.explain() for hit in hits]
    if as_json:
        rows = [
            {
                **hit.to_dict(),
                "rows": [{"query_token": q, "document_token": d, "adds": finite(adds)} for q, d, adds in one.rows()],
            }
            for hit, one in zip(hits, explanations, strict=True)
        ]
        tell(rows, as_json, str)
        return
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for hit, one in zip(hits, explanations, strict=True):
        click.echo(f"{hit.rank:>3}  {hit.score:9.4f}  {printable(str(hit.id))}")
        click.echo(one.to_text(colour=colour) if one.document_text is not None else printable(str(one)))
        click.echo()
