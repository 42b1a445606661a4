"""The commands, one function each: read, call the library, print."""

import json
import os
import re
import sys
from collections.abc import Callable
from functools import wraps
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import click

from latewood.cli.inputs import Queries, document_batches, read_queries, read_vectors
from latewood.common.progress import progress_bar
from latewood.errors import CorruptIndexError, InvalidInputError, LatewoodError
from latewood.evaluate import DEFAULT_METRICS, evaluate_run, read_qrels, read_run, write_run
from latewood.evaluate.metrics import without_identical_id
from latewood.forms.values import shown
from latewood.index.results import Hit

ADD_CHUNK = 1024
INTERRUPTED = 128 + 2
BROKEN_PIPE = 128 + 13


def _not_empty(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty name, which an unset variable of a shell would be."""
    if value == "":
        message = "it is empty"
        raise click.BadParameter(message, context, parameter)
    return value


class _NewPath(click.Path):
    """A path that need not exist, but is one: the empty one would be the working folder."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        return super().convert(value or self.fail("it is empty", parameter, context), parameter, context)


class _Output(_NewPath):
    """A file to write at the end: that its folder takes one is found out before the work."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        path = super().convert(value, parameter, context)
        folder = Path(os.fsdecode(path)).absolute().parent
        if not os.access(folder, os.W_OK | os.X_OK) or not folder.is_dir():
            self.fail(f"{os.fsdecode(folder)!r} is no folder that can be written to", parameter, context)
        return path


PATH = _NewPath(path_type=Path)
EXISTING = click.Path(path_type=Path, exists=True)
OUTPUT = _Output(path_type=Path, dir_okay=False, writable=True)
COUNT = click.IntRange(min=1, max=2**62)


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
        failure = _Failure(str(error))
        failure.show()
        code = failure.exit_code
    _let_go_of_output()
    sys.exit(code if isinstance(code, int) else 0)


def _let_go_of_output() -> None:
    """Drop what could not be written, or the interpreter tries again at its end and complains on its own."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Failure(click.ClickException):
    """One line on standard error, exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"latewood: {' '.join(self.format_message().split())}", file=file, err=file is None)


def _reports_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except BrokenPipeError:
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        except KeyboardInterrupt:
            click.echo("latewood: interrupted", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (LatewoodError, OSError) as error:
            raise _Failure(str(error)) from error
        # A user has no use for a traceback; what happened is said for whoever mends it.
        except Exception as error:
            message = (
                f"internal error: {type(error).__name__}: {error}; please report it with the command that led here"
            )
            raise _Failure(message) from error

    return wrapped


def _print_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        from latewood._core import __version__, simd_level

        click.echo(f"latewood {__version__} ({simd_level()})")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version)
def cli() -> None:
    """Late interaction on ordinary processors: index, search and rerank token vectors."""


def _command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    def decorate(function: Callable[..., Any]) -> click.Command:
        with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(_reports_errors(function))
        return cli.command(name)(with_json)

    return decorate


def _print(value: Any, as_json: bool, text: Callable[[], str]) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, default=str) if as_json else text())


def _table(mapping: dict[str, Any]) -> str:
    width = max((len(key) for key in mapping), default=0)
    return "\n".join(f"{key:<{width}}  {_short(value)}" for key, value in mapping.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (dict, list)) else str(value)


def _open(path: Path, encoder: str | None, *, check_encoder: bool = True) -> Any:
    from latewood.index.index import Index

    return Index.open(path, encoder=encoder, check_encoder=check_encoder)


_encoder_option = click.option(
    "--encoder",
    metavar="NAME",
    callback=_not_empty,
    help="Multi-vector model for text, a name or folder; 'recorded': the one the index names.",
)
_queries_option = click.option(
    "--queries", type=EXISTING, help="Queries: a JSONL file (id, text), a BEIR folder, or an .npz of vectors."
)
_k_option = click.option("-k", default=10, show_default=True, type=COUNT, help="Hits for each query.")
_filter_option = click.option(
    "--filter",
    "condition",
    metavar="JSON",
    help='Conditions on metadata, such as \'{"lang": "en"}\' (docs/filters.md).',
)
_threads_option = click.option("--threads", type=COUNT, help="All processors by default.")
_identical_option = click.option(
    "--keep-identical-ids",
    is_flag=True,
    help="Of a BEIR folder: keep the hit that has its query's own id, which BEIR leaves out.",
)


@_command("create")
@click.argument("path", type=PATH)
@click.option("--dim", type=COUNT, help="Dimensions of a token vector; the encoder's by default.")
@click.option(
    "--encoder",
    metavar="NAME",
    callback=_not_empty,
    help="Multi-vector model of the index; without --dim, the one inside the wheel.",
)
@click.option("--codec", type=click.Choice(["residual", "flat"]), default="residual", show_default=True)
@click.option("--bits", type=click.Choice(["1", "2", "4", "8"]), default="4", show_default=True)
@click.option("--centroids", type=COUNT, help="A power of two; chosen from the data by default.")
@click.option("--seed", default=42, show_default=True, type=click.IntRange(min=0, max=2**64 - 1))
@click.option(
    "--train-after",
    default=65_536,
    show_default=True,
    type=click.IntRange(min=0, max=2**64 - 1),
    help="Tokens before training.",
)
def create(path: Path, bits: str, as_json: bool, **options: Any) -> None:
    """Create an empty index at PATH."""
    from latewood.index.index import Index

    index = Index.create(path, bits=int(bits), **options)  # type: ignore[arg-type]
    _print({"path": index.path, "dim": index.dim}, as_json, lambda: f"created {index.path}, {index.dim} dimensions")


@_command("add")
@click.argument("path", type=EXISTING)
@click.argument("source", type=EXISTING)
@_encoder_option
@click.option("--upsert", is_flag=True, help="Replace documents whose ids exist.")
@click.option(
    "--on-empty",
    type=click.Choice(["keep", "skip", "error"]),
    default="keep",
    show_default=True,
    help="What becomes of documents without text: no search finds those that are kept.",
)
@_threads_option
def add(path: Path, source: Path, encoder: str | None, upsert: bool, as_json: bool, **options: Any) -> None:
    """Add the documents of SOURCE: a JSONL file (id, text, metadata, vectors), a BEIR folder, or an .npz of vectors."""
    index = _open(path, encoder)
    count = 0
    with index.writer(show_progress=False) as writer, progress_bar(0, "adding", show_progress=None) as bar:
        store = writer.upsert if upsert else writer.add
        if source.suffix == ".npz":
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
    _print(
        {"added": count, "empty": empty, "documents": len(index)},
        as_json,
        lambda: f"added {count}{told}; the index has {len(index)} documents",
    )


@_command("delete")
@click.argument("path", type=EXISTING)
@click.argument("ids", nargs=-1)
@_filter_option
@click.option(
    "--missing",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="What to do about an id that the index does not hold.",
)
def delete(path: Path, ids: tuple[str, ...], condition: str | None, missing: Any, as_json: bool) -> None:
    """Delete documents by IDS, or all whose metadata match --filter."""
    if bool(ids) == (condition is not None):
        message = "give IDS or --filter, one of the two"
        raise click.UsageError(message)
    filtered = _read_filter(condition)
    index = _open(path, None)
    count = index.delete(_ids_of_index(index, ids) if ids else None, filter=filtered, missing=missing)
    _print(
        {"deleted": count, "documents": len(index)},
        as_json,
        lambda: f"deleted {count}; the index has {len(index)} documents",
    )


@_command("search")
@click.argument("path", type=EXISTING)
@click.argument("query", required=False)
@_queries_option
@_encoder_option
@_k_option
@_filter_option
@click.option("--gather", type=click.Choice(["exact", "flood", "postings"]))
@click.option("--candidates", type=COUNT)
@click.option("--feedback", "mode", type=click.Choice(["ranker", "reranker"]), help="Search twice, expanding queries.")
@click.option("--run", "run_path", type=OUTPUT, help="Write a TREC run here instead of printing hits.")
@_identical_option
@_threads_option
def search(
    path: Path,
    query: str | None,
    queries: Path | None,
    encoder: str | None,
    k: int,
    condition: str | None,
    mode: Any,
    run_path: Path | None,
    keep_identical_ids: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Search for QUERY, or for all of --queries."""
    from latewood.index.feedback import Feedback

    if (query is None) == (queries is None):
        message = "give a QUERY or --queries, one of the two"
        raise click.UsageError(message)
    options["filter"] = _read_filter(condition)
    options["feedback"] = Feedback(mode=mode) if mode is not None else None
    given = Queries(["query"], [query or ""]) if queries is None else read_queries(queries)
    index = _open(path, encoder)
    leave_out = given.are_documents and not keep_identical_ids
    hits = index.search_batch(given.asked, k + int(leave_out), with_documents=run_path is None, **options)
    found = dict(zip(given.ids, hits, strict=True))
    if leave_out:
        found = {key: without_identical_id(key, own)[:k] for key, own in found.items()}
    _output(found, run_path, as_json, single=queries is None)


@_command("rerank")
@click.argument("path", type=EXISTING)
@click.option("--run", "candidates", type=EXISTING, required=True, help="First-stage candidates: a TREC run.")
@click.option("--queries", type=EXISTING, required=True, help="As for search.")
@_encoder_option
@click.option("-k", type=COUNT, help="Hits for each query; all candidates by default.")
@click.option("--alpha", type=float, help="Candidate pruning by first-stage scores.")
@click.option("--beta", type=COUNT, help="Early exit after this many candidates without success.")
@click.option("--missing", type=click.Choice(["error", "skip"]), default="error", show_default=True)
@click.option("--output", "run_path", type=OUTPUT, help="Write a TREC run here instead of printing hits.")
@_identical_option
@_threads_option
def rerank(
    path: Path,
    candidates: Path,
    queries: Path,
    encoder: str | None,
    run_path: Path | None,
    keep_identical_ids: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Rerank a first stage's TREC run."""
    given = read_queries(queries)
    found = read_run(candidates)
    if given.are_documents and not keep_identical_ids:
        found = {key: {id_: score for id_, score in entry.items() if id_ != key} for key, entry in found.items()}
    index = _open(path, encoder)
    lists = {query: (_ids_of_index(index, list(entry)), list(entry.values())) for query, entry in found.items()}
    pairs = {query: list(zip(ids, scores, strict=True)) for query, (ids, scores) in lists.items()}
    hits = index.rerank_batch(
        dict(zip(given.ids, given.asked, strict=True)), pairs, with_documents=run_path is None, **options
    )
    _output(hits, run_path, as_json, single=False)


@_command("eval")
@click.argument("run_path", metavar="RUN", type=EXISTING)
@click.argument("qrels", type=EXISTING)
@click.option("--metric", "metrics", multiple=True, help="As ir-measures names them; may be repeated.")
@click.option(
    "--keep-identical-ids", is_flag=True, help="Count the hit that has its query's own id, which BEIR leaves out."
)
def evaluate(run_path: Path, qrels: Path, metrics: tuple[str, ...], keep_identical_ids: bool, as_json: bool) -> None:
    """Evaluate a TREC run with QRELS: a TREC or BEIR judgement file, or a BEIR folder."""
    judgements = read_qrels(qrels / "qrels" / "test.tsv" if qrels.is_dir() else qrels)
    values = evaluate_run(
        read_run(run_path),
        judgements,
        metrics or DEFAULT_METRICS,
        ignore_identical_ids=False if keep_identical_ids else None,
    )
    _print(values, as_json, lambda: _table(values))


@_command("info")
@click.argument("path", type=EXISTING)
def info(path: Path, as_json: bool) -> None:
    """Show counts, sizes, codec and encoder of an index."""
    values = _open(path, None).info()
    _print(values, as_json, lambda: _table(values))


@_command("check")
@click.argument("path", type=EXISTING)
@click.pass_context
def check(context: click.Context, path: Path, as_json: bool) -> None:
    """Verify every checksum and count; exit code 1 if there are problems."""
    try:
        problems = _open(path, None).check()
    except CorruptIndexError as error:
        problems = [str(error)]
    _print({"problems": problems}, as_json, lambda: "\n".join(problems) or "no problems")
    if problems:
        context.exit(1)


@_command("recover")
@click.argument("path", type=EXISTING)
@click.option("--generation", type=click.IntRange(min=1), help="The commit to go back to; the newest that is whole.")
def recover(path: Path, generation: int | None, as_json: bool) -> None:
    """Go back to an older commit for good, where the newest is damaged or not wanted."""
    from latewood.index.index import Index

    before = generation or "the newest generation that is whole"
    index = Index.recover(path, generation=generation)
    _print(
        {"generation": index.generation, "documents": len(index)},
        as_json,
        lambda: f"went back to {before}, which is generation {index.generation} now; it has {len(index)} documents",
    )


@_command("compact")
@click.argument("path", type=EXISTING)
@_threads_option
def compact(path: Path, threads: int | None, as_json: bool) -> None:
    """Rewrite an index as one segment without deleted documents."""
    index = _open(path, None)
    index.compact(threads=threads)
    _print({"documents": len(index)}, as_json, lambda: f"compacted; the index has {len(index)} documents")


@_command("demo")
@click.option("--data", type=EXISTING, help="A BEIR folder or archive; SciFact by default.")
@click.option(
    "--encoder",
    metavar="NAME",
    callback=_not_empty,
    help="Multi-vector model, or 'minilm'; the one inside the wheel by default.",
)
@click.pass_context
def demo(context: click.Context, data: Path | None, encoder: str | None, as_json: bool) -> None:
    """Index a small collection of abstracts, compare search, reranking and BM25, and show hits."""
    from importlib import import_module

    main: Callable[..., int] = import_module("latewood.cli.demo").main
    context.exit(main(data=str(data) if data is not None else None, json=as_json, encoder=encoder))


def _output(found: dict[str, list[Hit]], run_path: Path | None, as_json: bool, *, single: bool) -> None:
    if run_path is not None:
        write_run(run_path, found)
        count = sum(len(hits) for hits in found.values())
        summary = {"run": str(run_path), "queries": len(found), "hits": count}
        _print(summary, as_json, lambda: f"wrote {count} hits of {len(found)} queries to {run_path}")
        return
    for query, hits in found.items():
        if as_json:
            value = [_hit_json(hit) for hit in hits]
            click.echo(json.dumps(value if single else {"query": query, "hits": value}, ensure_ascii=False))
            continue
        if not single:
            click.echo(f"# {query}")
        for hit in hits:
            click.echo(f"{hit.rank:>3}  {hit.score:9.4f}  {hit.id}  {_line(hit.text)}".rstrip())


def _hit_json(hit: Hit) -> dict[str, Any]:
    # JSON has no infinities; a document without tokens has no score.
    score = hit.score if hit.score > float("-inf") else None
    return {"id": hit.id, "score": score, "rank": hit.rank, "text": hit.text, "metadata": hit.metadata}


def _line(text: str | None, width: int = 100) -> str:
    plain = " ".join((text or "").split())
    return plain if len(plain) <= width else plain[: width - 1] + "…"


def _read_filter(value: str | None) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        condition = json.loads(value, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        message = f"--filter is not JSON that can be read: {error}"
        raise click.UsageError(message) from error
    if not isinstance(condition, dict):
        message = f'--filter is a JSON {type(condition).__name__}; give an object such as \'{{"lang": "en"}}\''
        raise click.UsageError(message)
    return condition


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members; of two with one name, JSON readers drop the first without a word."""
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            message = f'{shown(name)} stands twice in one object; put both under "and"'
            raise ValueError(message)
        members[name] = value
    return members


def _ids_of_index(index: Any, ids: Any) -> list[Any]:
    """Ids from a text file or command line, as the index has them: integers where its ids are integers."""
    import numpy as np

    if not isinstance(index.ids(), np.ndarray) or not len(index):
        return list(ids)
    wrong = next((key for key in ids if not re.fullmatch("-?[0-9]{1,19}", key)), None)
    if wrong is not None:
        message = f"this index has integer ids of 64 bits, and {wrong!r} is none"
        raise InvalidInputError(message)
    return [int(key) for key in ids]
