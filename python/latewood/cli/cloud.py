"""The commands between folders and object storage."""

from pathlib import Path

import click

from latewood.cli.outcome import command, tell
from latewood.cli.parameters import EXISTING, PATH, not_empty
from latewood.index.index import Index


@command("publish")
@click.argument("path", type=EXISTING)
@click.argument("url", callback=not_empty)
def publish(path: Path, url: str, as_json: bool) -> None:
    """Put the newest commit of an index at URL in object storage, such as s3://bucket/news."""
    generation = Index.open(path).publish(url)
    tell({"url": url, "generation": generation}, as_json, lambda: f"generation {generation} is at {url}")


@command("pull")
@click.argument("url", callback=not_empty)
@click.option("--generation", type=click.IntRange(1), help="By default the newest that is published.")
@click.option("--cache-dir", type=PATH, help="Where indexes from object storage are kept.")
def pull(url: str, generation: int | None, cache_dir: Path | None, as_json: bool) -> None:
    """Bring the index that is published at URL to this machine, or what is new of it."""
    index = Index.open(url, generation=generation, cache_dir=cache_dir)
    told = {"path": index.path, "generation": index.generation, "documents": len(index)}
    tell(told, as_json, lambda: f"generation {index.generation} with {len(index)} documents is at {index.path}")
