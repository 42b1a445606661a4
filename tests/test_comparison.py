"""Runs side by side, the paired randomisation test, and judgements by the names of ir_datasets."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from latewood.errors import InvalidInputError, LatewoodError
from latewood.evaluate import Comparison, compare_runs, dataset_qrels, evaluate_run, write_run
from support import run_python

click_testing = pytest.importorskip("click.testing")
ir_datasets = pytest.importorskip("ir_datasets")

NAME = "latewood-tests/tiny"


def drawn(
    seed: int, *, luck: float, queries: int = 40
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, int]]]:
    """Draw a run in which the relevant document of each query has a better score by `luck`."""
    generator = np.random.default_rng(seed)
    run = {}
    for query in range(queries):
        scores = {f"d{number}": float(generator.normal()) for number in range(12)}
        scores["d0"] += luck
        run[f"q{query}"] = scores
    return run, {f"q{query}": {"d0": 1, "d1": 0} for query in range(queries)}


def test_a_comparison_has_what_each_run_has_alone() -> None:
    first, qrels = drawn(1, luck=0.5)
    second, _ = drawn(2, luck=2.5)
    del second["q3"]
    found = compare_runs({"first": first, "second": second, "third": first}, qrels)
    assert isinstance(found, Comparison)
    for name, run in (("first", first), ("second", second)):
        assert found.means[name] == evaluate_run(run, qrels)
        for metric, values in found.per_query[name].items():
            assert list(values) == list(qrels)
            assert np.mean(list(values.values())) == pytest.approx(found.means[name][metric])
            for query in ("q3", "q7"):
                alone = evaluate_run({query: run.get(query, {})}, {query: qrels[query]}, [metric])
                assert values[query] == pytest.approx(alone[metric])
    assert "first" not in found.differences
    told = found.differences["second"]["nDCG@10"]
    assert told.mean == pytest.approx(found.means["second"]["nDCG@10"] - found.means["first"]["nDCG@10"])
    assert told.p < 0.01
    assert told.better + told.equal + told.worse == len(qrels)
    assert told.better > told.worse > 0
    same = found.differences["third"]["RR@10"]
    assert (same.mean, same.p, same.equal) == (0, 1, len(qrels))
    assert all(name in str(found) for name in ("first", "second", "third", "nDCG@10"))


@pytest.mark.parametrize("queries", [3, 10, 40])
def test_p_values_are_those_of_scipy(queries: int) -> None:
    first, qrels = drawn(3, luck=1.0, queries=queries)
    second, _ = drawn(4, luck=1.6, queries=queries)
    found = compare_runs({"a": first, "b": second}, qrels, ["RR"], permutations=20_000)
    one, two = (np.array(list(found.per_query[name]["RR"].values())) for name in "ab")
    wanted = stats.permutation_test(
        (two, one),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(5),
    )
    allowed = 1e-9 if 2**queries <= 20_000 else 4 * np.sqrt(0.25 / 20_000)
    assert found.differences["b"]["RR"].p == pytest.approx(wanted.pvalue, abs=allowed)


def test_how_few_queries_tell_nothing() -> None:
    for queries in (1, 5, 6):
        qrels = {f"q{number}": {"d0": 1} for number in range(queries)}
        better = {query: {"d0": 2.0, "d1": 1.0} for query in qrels}
        worse = {query: {"d0": 1.0, "d1": 2.0} for query in qrels}
        found = compare_runs({"worse": worse, "better": better}, qrels, ["RR"])
        assert found.differences["better"]["RR"].p == 2 / 2**queries


def test_chance_gives_small_p_values_as_often_as_it_says() -> None:
    p = []
    for seed in range(60):
        first, qrels = drawn(seed, luck=1.0, queries=20)
        second, _ = drawn(1000 + seed, luck=1.0, queries=20)
        found = compare_runs({"a": first, "b": second}, qrels, ["RR"], permutations=400)
        p.append(found.differences["b"]["RR"].p)
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_a_seed_gives_the_same_again_in_any_order_of_queries() -> None:
    first, qrels = drawn(1, luck=0.5)
    second, _ = drawn(2, luck=1.0)

    def p(**options: Any) -> float:
        return compare_runs({"a": first, "b": second}, qrels, **options).differences["b"]["AP"].p

    assert p(seed=3) == p(seed=3) == p(seed=3, metrics=iter(["AP"]))
    assert p(seed=3) != p(seed=4)
    assert p(seed=3) == pytest.approx(p(seed=4), abs=0.05)
    assert compare_runs({"b": second, "a": first}, qrels).differences["a"]["AP"].p == p()


def test_what_cannot_be_compared() -> None:
    run, qrels = drawn(1, luck=1.0)
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        ({"a": run}, {}, "at least two"),
        ({}, {}, "at least two"),
        ([run, run], {}, "at least two"),
        ({"a": run, "b": 5}, {}, "run 'b'"),
        ({"a": run, "b": run}, {"metrics": ["nope"]}, "nope"),
        ({"a": run, "b": run}, {"metrics": "nDCG@10"}, "metrics"),
        ({"a": run, "b": run}, {"metrics": []}, "no metric"),
        ({"a": run, "b": run}, {"permutations": 0}, "permutations"),
        ({"a": run, "b": run}, {"seed": -1}, "seed"),
        ({"a": run, "b": run}, {"seed": True}, "seed"),
        ({"a": run, "b": run}, {"ignore_identical_ids": "yes"}, "ignore_identical_ids"),
    ]
    for runs, options, words in wrong:
        with pytest.raises(InvalidInputError, match=words):
            compare_runs(runs, qrels, **options)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[str]:
    """A data set that ir_datasets knows for the time of a test, and that lies in a file."""
    from ir_datasets.datasets.base import Dataset
    from ir_datasets.formats import TrecQrels, TsvQueries
    from ir_datasets.util import LocalDownload

    (tmp_path / "qrels.txt").write_text("q0 0 d0 1\nq0 0 d1 0\nq1 0 d0 2\n")
    (tmp_path / "queries.tsv").write_text("q0\tone\nq1\ttwo\n")
    queries = TsvQueries(LocalDownload(tmp_path / "queries.tsv"), lang="en")
    qrels = TrecQrels(LocalDownload(tmp_path / "qrels.txt"), {1: "relevant", 0: "not"})
    gone = TrecQrels(LocalDownload(tmp_path / "missing.txt"), {})
    made = {NAME: Dataset(queries, qrels), f"{NAME}/queries": Dataset(queries), f"{NAME}/gone": Dataset(gone)}
    for name, dataset in made.items():
        ir_datasets.registry.register(name, dataset)
    yield NAME
    for name in made:
        del ir_datasets.registry._registered[name]


def test_judgements_of_a_data_set(tiny: str) -> None:
    assert dataset_qrels(tiny) == {"q0": {"d0": 1, "d1": 0}, "q1": {"d0": 2}}
    for name, words in (
        ("latewood-tests/nope", "knows no data set"),
        (f"{tiny}/queries", "has no judgements"),
        (f"{tiny}/gone", "cannot be read"),
        ("", "knows no data set"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            dataset_qrels(name)
    with pytest.raises(LatewoodError):
        dataset_qrels(5)  # type: ignore[arg-type]


def test_a_missing_package_is_named() -> None:
    code = """
import json, sys
sys.modules["ir_datasets"] = None
from latewood.errors import MissingDependencyError
from latewood.evaluate import dataset_qrels
try:
    dataset_qrels("beir/scifact/test")
except MissingDependencyError as error:
    print(json.dumps(str(error)))
"""
    assert "'latewood[datasets]'" in run_python(code)


def call(*words: Any) -> Any:
    from latewood.cli.commands import cli

    return click_testing.CliRunner().invoke(cli, ["eval", *map(str, words)])


def test_the_command_puts_runs_side_by_side(tmp_path: Path, tiny: str) -> None:
    runs = {"a": {"q0": {"d0": 1.0, "d1": 2.0}, "q1": {"d0": 1.0}}, "b": {"q0": {"d0": 2.0, "d1": 1.0}}}
    for name, run in runs.items():
        write_run(tmp_path / f"{name}.run", run)
    a, b = tmp_path / "a.run", tmp_path / "b.run"
    qrels = dataset_qrels(tiny)
    wanted = {name: evaluate_run(run, qrels, ["RR@10", "P@1"]) for name, run in runs.items()}
    metrics = ("--metric", "RR@10", "--metric", "P@1")
    assert json.loads(call(a, tiny, *metrics, "--json").output) == wanted["a"]
    assert json.loads(call(a, b, tiny, *metrics, "--json").output) == wanted
    assert call(a, b, tiny, *metrics).output.splitlines() == [
        "            a       b",
        "RR@10  0.7500  0.5000",
        "P@1    0.5000  0.5000",
    ]
    (tmp_path / "qrels.txt").write_text("q0 0 d0 1\nq0 0 d1 0\nq1 0 d0 2\n")
    assert json.loads(call(a, tmp_path / "qrels.txt", *metrics, "--json").output) == wanted["a"]

    table = call("--per-query", a, b, tiny, *metrics).output
    assert table.splitlines()[:3] == ["query\tmetric\ta\tb", "q0\tRR@10\t0.5\t1.0", "q1\tRR@10\t1.0\t0.0"]
    rows = json.loads(call("--per-query", a, tiny, *metrics, "--json").output)
    assert rows[0] == {"query": "q0", "metric": "RR@10", "a": 0.5}
    assert len(rows) == 4

    compared = json.loads(call("--compare", a, b, tiny, *metrics, "--json").output)
    assert compared["means"] == wanted
    # Two queries: of four ways to exchange their values, two differ as much as 0.5 - 1 does.
    assert compared["differences"]["b"]["RR@10"] == {"mean": -0.25, "p": 1.0, "better": 1, "equal": 0, "worse": 1}
    assert "difference" in call("--compare", a, b, tiny, *metrics).output
    (tmp_path / "other").mkdir()
    write_run(tmp_path / "other" / "a.run", runs["b"])
    assert str(tmp_path / "other" / "a.run") in json.loads(call(a, tmp_path / "other" / "a.run", tiny, "--json").output)


def test_wrong_use_of_the_command(tmp_path: Path, tiny: str) -> None:
    write_run(tmp_path / "a.run", {"q0": {"d0": 1.0}})
    a = tmp_path / "a.run"
    for words, code in (
        ((a,), 2),
        ((), 2),
        ((a, a, tiny), 2),
        (("--compare", a, tiny), 2),
        (("--compare", "--per-query", a, a, tiny), 2),
        ((a, "latewood-tests/nope"), 1),
        ((a, tmp_path / "missing.txt"), 1),
        ((a, ""), 2),
    ):
        result = call(*words)
        assert result.exit_code == code, (words, result.output)
        assert "internal error" not in result.output
