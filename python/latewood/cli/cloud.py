"""The commands between folders and object storage."""

from pathlib import Path
from typing import Any

import click

from latewood.cli.outcome import command, tell
from latewood.cli.parameters import COUNT, EXISTING, PATH, not_empty
from latewood.cloud.cleaning import clean as clean_store
from latewood.cloud.generations import CLUSTER, newest
from latewood.cloud.store import Store
from latewood.cluster import publishing
from latewood.cluster.manifest import generations
from latewood.cluster.sharded import ShardedIndex
from latewood.errors import InvalidInputError
from latewood.index.index import Index


@command("publish")
@click.argument("path", type=EXISTING)
@click.argument("url", callback=not_empty)
@click.option("--repair", is_flag=True, help="Put all files up again, where the store has damaged some.")
def publish(path: Path, url: str, repair: bool, as_json: bool) -> None:
    """Put the newest commit of an index or a cluster at URL in object storage, such as s3://bucket/news."""
    if generations(path):
        generation = publishing.publish(path, url, repair=repair)
    else:
        generation = Index.open(path).publish(url, repair=repair)
    tell({"url": url, "generation": generation}, as_json, lambda: f"generation {generation} is at {url}")


@command("pull")
@click.argument("url", callback=not_empty)
@click.option("--generation", type=click.IntRange(1), help="By default the newest that is published.")
@click.option("--cache-dir", type=PATH, help="Where indexes from object storage are kept.")
def pull(url: str, generation: int | None, cache_dir: Path | None, as_json: bool) -> None:
    """Bring the index or the cluster that is published at URL to this machine, or what is new of it."""
    with _opened(url, generation, cache_dir) as index:
        told = {"path": index.path, "generation": index.generation, "documents": len(index)}
    message = "generation {generation} with {documents} documents is at {path}"
    tell(told, as_json, lambda: message.format(**told))


def _opened(url: str, generation: int | None, cache_dir: Path | None) -> Index | ShardedIndex:
    there = newest(Store(url))
    if there is None or there.kind != CLUSTER:
        return Index.open(url, generation=generation, cache_dir=cache_dir)
    if generation is not None:
        message = f"{url} holds a cluster, of which the newest generation alone is brought here; leave out --generation"
        raise InvalidInputError(message)
    return ShardedIndex.open(url, replicas=0, cache_dir=cache_dir)


@command("clean")
@click.argument("url", callback=not_empty)
@click.option("--keep", type=COUNT, default=2, show_default=True, help="The newest commits that stay.")
@click.option(
    "--older-than",
    metavar="SECONDS",
    type=float,
    default=86_400.0,
    show_default=True,
    help="How long a file must have been there that no commit needs; somebody may be publishing younger ones.",
)
def clean(url: str, as_json: bool, **options: Any) -> None:
    """Remove older commits of what is published at URL, and files that none of the others needs."""
    removed = clean_store(url, **options)
    tell({"url": url, "removed": removed}, as_json, lambda: f"removed {removed} objects from {url}")
