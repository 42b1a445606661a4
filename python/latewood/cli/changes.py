"""The commands that change an index: create, import, add, update, delete, tune, recover, compact."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click

from latewood.cli.inputs import document_batches, ids_of_index, read_queries
from latewood.cli.outcome import command, table, tell
from latewood.cli.parameters import (
    COUNT,
    EXISTING,
    PATH,
    SOURCE,
    Decorator,
    encoder_option,
    filter_option,
    json_object,
    missing_option,
    not_empty,
    threads_option,
)
from latewood.common.progress import progress_bar
from latewood.common.types import KeepVectors
from latewood.encode.protocol import OnEmpty
from latewood.encode.windows import Long
from latewood.exchange.files import ARCHIVES, read_vectors
from latewood.exchange.imports import import_index
from latewood.index.index import Index

ADD_CHUNK = 1024


bits_option: Decorator = click.option("--bits", type=click.Choice(["1", "2", "4", "8"]), help="4 by default.")
codec_option: Decorator = click.option("--codec", type=click.Choice(["residual", "flat"]), help="residual by default.")
keep_vectors_option: Decorator = click.option(
    "--keep-vectors",
    type=click.Choice(get_args(KeepVectors)),
    help="Keep the vectors beside their codes, for scores without the codes' error.",
)
exist_ok_option: Decorator = click.option(
    "--exist-ok", is_flag=True, help="Take the index that is at PATH already as it is, if there is one."
)
overwrite_option: Decorator = click.option(
    "--overwrite", is_flag=True, help="Put an index in the place of one that is at PATH already."
)


@command("create")
@click.argument("path", type=PATH)
@click.option("--dim", type=COUNT, help="Dimensions of a token vector; the encoder's by default.")
@click.option(
    "--encoder",
    metavar="NAME",
    callback=not_empty,
    help="Multi-vector model of the index; without --dim, the one inside the wheel.",
)
@codec_option
@bits_option
@click.option("--centroids", type=COUNT, help="For good; by default chosen from the data, and grown with them.")
@click.option("--seed", type=click.IntRange(min=0, max=2**64 - 1), help="42 by default.")
@click.option(
    "--train-after", type=click.IntRange(min=0, max=2**64 - 1), help="Tokens before training; 65,536 by default."
)
@click.option("--codec-from", type=EXISTING, help="An index whose trained codec this one begins with.")
@keep_vectors_option
@click.option("--fde", is_flag=True, help="Keep a fixed dimensional encoding of each document, for --gather fde.")
@exist_ok_option
@overwrite_option
def create(path: Path, bits: str | None, as_json: bool, **options: Any) -> None:
    """Create an empty index at PATH."""
    index = Index.create(path, bits=bits and int(bits), **options)  # type: ignore[arg-type]
    tell(
        {"path": index.path, "dim": index.dim, "documents": len(index)},
        as_json,
        lambda: f"index {index.path}: {index.dim} dimensions, {len(index)} documents",
    )


@command("import")
@click.argument("source", type=EXISTING)
@click.argument("path", type=PATH)
@click.option("--id-field", metavar="NAME", callback=not_empty, help="Field of the metadata that is a document's id.")
@click.option("--text-field", metavar="NAME", callback=not_empty, help="Field of the metadata that is its text.")
@click.option("--metadata/--no-metadata", default=True, help="Whether to take over metadata, by default.")
@click.option("--encoder", metavar="NAME", callback=not_empty, help="Multi-vector model that made the vectors.")
@codec_option
@bits_option
@keep_vectors_option
@exist_ok_option
@overwrite_option
@threads_option
def import_(source: Path, path: Path, bits: str | None, as_json: bool, **options: Any) -> None:
    """Make an index at PATH of SOURCE: a folder of fast-plaid, PyLate, next-plaid or colbert-ai, or a file of vectors.

    Files are tables with a column of lists of vectors (.parquet, .arrow, .lance), or archives (.npz, .safetensors).
    """
    index = import_index(source, path, bits=bits and int(bits), **options)
    tell(
        {"path": index.path, "dim": index.dim, "documents": len(index)},
        as_json,
        lambda: f"index {index.path}: {index.dim} dimensions, {len(index)} documents",
    )


@command("add")
@click.argument("path", type=EXISTING)
@click.argument("source", type=SOURCE)
@encoder_option
@click.option("--upsert", is_flag=True, help="Replace documents whose ids exist.")
@click.option(
    "--on-empty",
    type=click.Choice(get_args(OnEmpty)),
    default="keep",
    show_default=True,
    help="What becomes of documents without text: no search finds those that are kept.",
)
@click.option(
    "--long",
    type=click.Choice(get_args(Long)),
    help="What becomes of texts with more tokens than the encoder takes; by default it divides them into windows "
    "(docs/long_texts.md).",
)
@threads_option
def add(path: Path, source: Path, encoder: str | None, upsert: bool, as_json: bool, **options: Any) -> None:
    """Add documents of SOURCE: JSONL (id, text, metadata, vectors), a BEIR folder, or vectors (.npz, .safetensors).

    With - for SOURCE, lines of JSONL come from the standard input.
    """
    index = Index.open(path, encoder=encoder)
    count = 0
    with index.writer(show_progress=False) as writer, progress_bar(0, "adding", show_progress=None) as bar:
        store = writer.upsert if upsert else writer.add
        if source.suffix in ARCHIVES:
            ids, vectors = read_vectors(source)
            store(ids, vectors=vectors, **options)
            count = len(ids)
        else:
            for batch in document_batches(source, ADD_CHUNK):
                store(**batch.arguments(), **options)
                count += len(batch)
                bar.update(len(batch))
    empty = writer.empty
    count -= empty if options["on_empty"] == "skip" else 0
    told = f" ({empty} empty: {'left out' if options['on_empty'] == 'skip' else 'kept'})" if empty else ""
    tell(
        {"added": count, "empty": empty, "documents": len(index)},
        as_json,
        lambda: f"added {count}{told}; the index has {len(index)} documents",
    )


@command("update")
@click.argument("path", type=EXISTING)
@click.argument("ids", nargs=-1)
@filter_option
@click.option(
    "--set",
    "metadata",
    metavar="JSON",
    callback=json_object,
    required=True,
    help="Fields to set; null takes a field away, and objects inside are joined in the same way.",
)
@click.option("--replace", is_flag=True, help="Let --set take the place of all metadata that a document had.")
@missing_option
def update(path: Path, ids: tuple[str, ...], metadata: dict[str, Any], as_json: bool, **options: Any) -> None:
    """Change the metadata of documents by IDS, or of all whose metadata match --filter, and nothing else."""
    index = Index.open(path)
    count = index.update_metadata(ids_of_index(index, ids) if ids else None, metadata, **options)
    tell(
        {"updated": count, "documents": len(index)},
        as_json,
        lambda: f"updated {count}; the index has {len(index)} documents",
    )


@command("delete")
@click.argument("path", type=EXISTING)
@click.argument("ids", nargs=-1)
@filter_option
@missing_option
def delete(path: Path, ids: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Delete documents by IDS, or all whose metadata match --filter."""
    index = Index.open(path)
    count = index.delete(ids_of_index(index, ids) if ids else None, **options)
    tell(
        {"deleted": count, "documents": len(index)},
        as_json,
        lambda: f"deleted {count}; the index has {len(index)} documents",
    )


@command("tune")
@click.argument("path", type=EXISTING)
@click.option("--queries", type=SOURCE, help="As for search; by default the index's own documents stand in for some.")
@encoder_option
@click.option(
    "--recall", default=0.99, show_default=True, help="Share of the k best documents by codes that is to be found."
)
@click.option("-k", default=10, show_default=True, type=COUNT)
@threads_option
def tune(path: Path, queries: Path | None, encoder: str | None, as_json: bool, **options: Any) -> None:
    """Measure how thoroughly to look for a share of the best documents, and store it: searches then go by it."""
    index = Index.open(path, encoder=encoder)
    tuned = index.tune(None if queries is None else read_queries(queries).asked, **options)

    def told() -> str:
        found = f"searches look for {tuned.target} of the {tuned.k} best"
        if not tuned.curve:
            return f"{found}; nothing was measured, since so small an index scores every document"
        curve = table({str(deviations): recall for deviations, recall in tuned.curve})
        return f"{found}, as {tuned.queries} queries had it; recall by deviations:\n{curve}"

    tell(asdict(tuned), as_json, told)


@command("recover")
@click.argument("path", type=EXISTING)
@click.option("--generation", type=click.IntRange(min=1), help="The commit to go back to; the newest that is whole.")
def recover(path: Path, generation: int | None, as_json: bool) -> None:
    """Go back to an older commit for good, where the newest is damaged or not wanted."""
    before = generation or "the newest generation that is whole"
    index = Index.recover(path, generation=generation)
    tell(
        {"generation": index.generation, "documents": len(index)},
        as_json,
        lambda: f"went back to {before}, which is generation {index.generation} now; it has {len(index)} documents",
    )


@command("compact")
@click.argument("path", type=EXISTING)
@threads_option
def compact(path: Path, threads: int | None, as_json: bool) -> None:
    """Rewrite an index as one segment without deleted documents."""
    index = Index.open(path)
    index.compact(threads=threads)
    tell({"documents": len(index)}, as_json, lambda: f"compacted; the index has {len(index)} documents")
