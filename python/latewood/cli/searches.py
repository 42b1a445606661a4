"""The commands that ask: search, rerank, eval."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click

from latewood.cli.inputs import Queries, ids_of_index, read_queries
from latewood.cli.outcome import command, side_by_side, table, tell, written
from latewood.cli.parameters import (
    COUNT,
    INDEX,
    OUTPUT,
    RUN,
    SOURCE,
    STDOUT,
    encoder_option,
    filter_option,
    identical_option,
    library_options,
    not_empty,
)
from latewood.evaluate import DEFAULT_METRICS, compare_runs, dataset_qrels, read_qrels, read_run, write_run
from latewood.evaluate.comparison import rows_of
from latewood.evaluate.metrics import evaluated, without_identical_id
from latewood.evaluate.trec import Qrels, run_text
from latewood.index.feedback import Feedback, Mode
from latewood.index.index import Index
from latewood.index.options import RerankKeywords, RerankOptions, SearchKeywords, SearchOptions
from latewood.index.results import Hits
from latewood.show.plots import check_format, measures
from latewood.show.terminal import printable


@command("search")
@click.argument("path", type=INDEX)
@click.argument("query", required=False)
@click.option(
    "--queries",
    type=SOURCE,
    help="Queries: a JSONL file (id, text), - for such lines of the standard input, a BEIR folder, or an .npz.",
)
@encoder_option
@click.option("-k", default=10, show_default=True, type=COUNT, help="Hits for each query, or groups with --group-by.")
@filter_option
@library_options(SearchKeywords, SearchOptions)
@click.option("--feedback", "mode", type=click.Choice(get_args(Mode)), help="Search twice, expanding queries.")
@click.option(
    "--run", "run_path", type=RUN, help="Write a TREC run here (- for the standard output) instead of printing hits."
)
@identical_option
def search(
    path: Path,
    query: str | None,
    queries: Path | None,
    encoder: str | None,
    k: int,
    mode: Mode | None,
    run_path: Path | None,
    keep_identical_ids: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Search for QUERY, or for all of --queries."""
    if (query is None) == (queries is None):
        message = "give a QUERY or --queries, one of the two"
        raise click.UsageError(message)
    options["feedback"] = Feedback(mode=mode) if mode is not None else None
    given = Queries(["query"], [query or ""]) if queries is None else read_queries(queries)
    index = Index.open(path, encoder=encoder)
    if not given.are_documents or keep_identical_ids:
        hits = index.search_batch(given.asked, k, with_documents=run_path is None, **options)
        _output(dict(zip(given.ids, hits, strict=True)), run_path, as_json, single=queries is None)
        return
    if options["group_by"] is not None:
        message = "--group-by keeps a query's own document as the best of its group; add --keep-identical-ids"
        raise click.UsageError(message)
    # The hit that is left out may stand on a page before.
    first = options.pop("offset")
    hits = index.search_batch(given.asked, first + k + 1, with_documents=run_path is None, **options)
    found = {
        key: own.with_hits(without_identical_id(key, own)[first : first + k])
        for key, own in zip(given.ids, hits, strict=True)
    }
    _output(found, run_path, as_json, single=False)


@command("rerank")
@click.argument("path", type=INDEX)
@click.option("--run", "candidates", type=SOURCE, required=True, help="First-stage candidates: a TREC run.")
@click.option("--queries", type=SOURCE, required=True, help="As for search.")
@encoder_option
@click.option("-k", type=COUNT, help="Hits for each query, or groups with --group-by; all candidates by default.")
@filter_option
@library_options(RerankKeywords, SearchOptions, RerankOptions)
@click.option(
    "--output", "run_path", type=RUN, help="Write a TREC run here (- for the standard output) instead of printing hits."
)
@identical_option
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
    index = Index.open(path, encoder=encoder)
    pairs = {
        query: list(zip(ids_of_index(index, entry), entry.values(), strict=True)) for query, entry in found.items()
    }
    asked = dict(zip(given.ids, given.asked, strict=True))
    hits = index.rerank_run(asked, pairs, with_documents=run_path is None, **options)
    _output(hits, run_path, as_json, single=False)


@command("eval")
@click.argument("run_paths", metavar="RUN...", type=SOURCE, nargs=-1, required=True)
@click.argument("qrels", callback=not_empty)
@click.option("--metric", "metrics", multiple=True, help="As ir-measures names them; may be repeated.")
@click.option(
    "--compare", is_flag=True, help="Tell for each other run whether it differs from the first by more than chance."
)
@click.option("--plot", "plot_path", type=OUTPUT, help="Draw the measures of all runs here, as a picture.")
@click.option("--per-query", is_flag=True, help="Print the values of each query, as a table with tabs.")
@click.option(
    "--keep-identical-ids", is_flag=True, help="Count the hit that has its query's own id, which BEIR leaves out."
)
def evaluate(
    run_paths: tuple[Path, ...],
    qrels: str,
    metrics: tuple[str, ...],
    compare: bool,
    plot_path: Path | None,
    per_query: bool,
    keep_identical_ids: bool,
    as_json: bool,
) -> None:
    """Evaluate TREC runs with QRELS: a TREC or BEIR judgement file, a BEIR folder, or a data set of ir_datasets.

    One of the runs, or the judgements, may be - for the standard input.
    """
    if compare and (per_query or len(run_paths) < 2):
        message = "--compare takes two runs or more, and prints a table of its own, without --per-query"
        raise click.UsageError(message)
    if plot_path is not None:
        check_format(plot_path)
    judgements = _judgements(qrels)
    runs = {name: read_run(path) for name, path in _named(run_paths).items()}
    measured, ignored = metrics or DEFAULT_METRICS, False if keep_identical_ids else None

    def draw(means: Mapping[str, Mapping[str, float]]) -> None:
        if plot_path is not None:
            measures(means).figure.savefig(plot_path, dpi=150)

    if compare:
        comparison = compare_runs(runs, judgements, measured, ignore_identical_ids=ignored)
        draw(comparison.means)
        value = asdict(comparison)
        del value["per_query"]
        tell(value, as_json, lambda: str(comparison))
        return
    found = {name: evaluated(run, judgements, measured, ignored) for name, run in runs.items()}
    draw({name: values.means for name, values in found.items()})
    if per_query:
        rows = rows_of({name: values.per_query for name, values in found.items()})
        tell(rows, as_json, lambda: "\n".join("\t".join(map(str, row)) for row in [rows[0], *map(dict.values, rows)]))
    elif len(found) == 1:
        (values,) = found.values()
        tell(values.means, as_json, lambda: table(values.means))
    else:
        means = {name: values.means for name, values in found.items()}
        tell(means, as_json, lambda: side_by_side(means))


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Call runs by their files, or by their whole paths where two files have one name."""
    stems = {path.stem for path in paths}
    names = [path.stem if len(stems) == len(paths) else str(path) for path in paths]
    if len(set(names)) < len(paths):
        message = "one run is given twice"
        raise click.UsageError(message)
    return dict(zip(names, paths, strict=True))


def _judgements(given: str) -> Qrels:
    """Read judgements; what is no path is the name of a data set."""
    path = Path("/dev/stdin" if given == "-" else given)
    if path.is_dir():
        return read_qrels(path / "qrels" / "test.tsv")
    return read_qrels(path) if path.exists() else dataset_qrels(given)


def _output(found: Mapping[str, Hits], run_path: Path | None, as_json: bool, *, single: bool) -> None:
    _tell_what_was_idle(found.values())
    if run_path == STDOUT:
        # As in a file: whoever reads a run reads UTF-8.
        click.echo(run_text(found).encode(), nl=False)
        return
    if run_path is not None:
        write_run(run_path, found)
        count = sum(len(hits) for hits in found.values())
        summary = {"run": str(run_path), "queries": len(found), "hits": count}
        tell(summary, as_json, lambda: f"wrote {count} hits of {len(found)} queries to {run_path}")
        return
    for query, hits in found.items():
        if as_json:
            value = hits.to_dicts()
            click.echo(written(value if single else {"query": query, "hits": value}))
            continue
        if not single:
            click.echo(f"# {query}")
        for hit in hits:
            line = f"{hit.rank:>3}  {hit.score:9.4f}  {hit.id}  {_line(hit.text)}"
            click.echo(printable(line).rstrip())


def _tell_what_was_idle(found: Iterable[Hits]) -> None:
    """Name the options that were given and could have no effect on this index: all queries have one plan."""
    names = next((hits.plan.without_effect for hits in found), ())
    if names:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        click.echo(f"latewood: without effect on this index: {options}", err=True)


def _line(text: str | None, width: int = 100) -> str:
    plain = " ".join((text or "").split())
    return plain if len(plain) <= width else plain[: width - 1] + "…"
