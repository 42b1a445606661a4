"""Whatever the command line is given, it answers in a line: every parameter of every command, all kinds of files."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Index
from support import HashEncoder

click = pytest.importorskip("click")
click_testing = pytest.importorskip("click.testing")

DIM = 48
NUMBERS = ["0", "-1", "abc", "1.5", "1e3", "nan", "", "99999999999999999999", "9" * 5000]
DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    from latewood.encode import protocol

    real = protocol.as_encoder
    for place in ("latewood.index.index", "latewood.index.encoding"):
        monkeypatch.setattr(f"{place}.as_encoder", lambda name: HashEncoder() if name == "hash" else real(name))


def npz(path: Path, **arrays: Any) -> None:
    np.savez(path, **arrays)


def one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def half(path: Path) -> None:
    npz(path, values=np.ones((9, DIM), np.float32))
    os.truncate(path, 900)


JSON_LINES: dict[str, bytes] = {
    "deep": f'{{"id": "x", "text": "x", "metadata": {DEEP}}}'.encode(),
    "huge integer": b'{"id": %s, "text": "x"}' % (b"9" * 5000),
    "no JSON": b"{",
    "no object": b"null",
    "a text that is a number": b'{"id": "x", "text": 5}',
    "an id that is a list": b'{"id": ["x"], "text": "x"}',
    "an id that is true": b'{"id": true, "text": "x"}',
    "latin-1": '{"id": "x", "text": "ö"}'.encode("latin-1"),
    "binary": bytes(range(256)) * 20,
    "NUL": b"\0\0\0",
    "two of one id": b'{"id": "x", "text": "x"}\n' * 2,
}
DOCUMENT_LINES: dict[str, bytes] = {
    **JSON_LINES,
    "no id": b'{"text": "x"}',
    "an id beyond 64 bits": b'{"id": %s, "text": "x"}' % (b"9" * 30),
    "a lone surrogate": b'{"id": "\\ud800", "text": "x"}',
    "metadata that is a list": b'{"id": "x", "text": "x", "metadata": [1]}',
    "metadata that is an empty list": b'{"id": "x", "text": "x", "metadata": []}',
    "metadata that is false": b'{"id": "x", "text": "x", "metadata": false}',
    "metadata that is NaN": b'{"id": "x", "text": "x", "metadata": {"a": NaN}}',
    "metadata that is deep": b'{"id": "x", "text": "x", "metadata": %s}' % (b'{"a":' * 300 + b"1" + b"}" * 300),
    "vectors that are ragged": b'{"id": "x", "vectors": [[1, 2], [1]]}',
    "vectors that are a number": b'{"id": "x", "vectors": 5}',
    "vectors of strings": b'{"id": "x", "vectors": [["1"]]}',
    "vectors of null": b'{"id": "x", "vectors": [[null]]}',
    "vectors of huge integers": b'{"id": "x", "vectors": [[%s]]}' % (b"9" * 400),
    "vectors of another size": b'{"id": "x", "vectors": [[1, 2]]}',
    "vectors that are infinite": json.dumps({"id": "x", "vectors": [[1e400] * DIM]}).encode(),
    "an integer in an index of strings": b'{"id": 5, "text": "x"}',
}
ARCHIVES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 20),
    "a folder": lambda path: path.mkdir(),
    "one array": one_array,
    "objects": lambda path: npz(path, values=np.array([object()])),
    "nothing": npz,
    "integers": lambda path: npz(path, values=np.ones((2, DIM), dtype=np.int64)),
    "text": lambda path: npz(path, values=np.array([["a"] * DIM])),
    "one dimension": lambda path: npz(path, values=np.ones(DIM, np.float32)),
    "no dimension": lambda path: npz(path, values=np.float32(1)),
    "another size": lambda path: npz(path, values=np.ones((2, 7), np.float32)),
    "NaN": lambda path: npz(path, values=np.full((2, DIM), np.nan, np.float32)),
    "offsets of text": lambda path: npz(path, values=np.ones((2, DIM), np.float32), offsets=np.array(["a"])),
    "offsets that fall": lambda path: npz(path, values=np.ones((2, DIM), np.float32), offsets=np.array([0, 2, 1])),
    "lengths of floats": lambda path: npz(path, values=np.ones((2, DIM), np.float32), lengths=np.array([1.5])),
    "ids of two dimensions": lambda path: npz(path, values=np.ones((1, DIM), np.float32), ids=np.ones((1, 1))),
    "one id without a dimension": lambda path: npz(path, values=np.ones((1, DIM), np.float32), ids=np.array(3)),
    "too few ids": lambda path: npz(path, values=np.ones((1, DIM), np.float32), ids=np.array([], dtype=np.int64)),
    "ids of bytes": lambda path: npz(path, values=np.ones((1, DIM), np.float32), ids=np.array([b"a"])),
    "half": half,
}
RUNS: dict[str, bytes] = {
    "latin-1": "q Q0 dö 1 1.0 t".encode("latin-1"),
    "binary": bytes(range(256)) * 20,
    "NaN": b"q Q0 fox 1 nan t",
    "no number": b"q Q0 fox 1 x t",
    "no rank": b"q Q0 fox 1.5 1.0 t",
    "huge rank": b"q Q0 fox %s 1.0 t" % (b"9" * 5000),
    "too few fields": b"q Q0 fox",
    "a document twice": b"q Q0 fox 1 1.0 t\nq Q0 fox 2 0.5 t",
    "NUL": b"q Q0 fo\0x 1 1.0 t",
}
JUDGEMENTS: dict[str, bytes] = {
    "latin-1": "q 0 dö 1".encode("latin-1"),
    "binary": bytes(range(256)) * 20,
    "empty": b"",
    "a header alone": b"query-id\tcorpus-id\tscore\n",
    "no number": b"q 0 a 1\nq 0 a x",
    "huge": b"q 0 a 1%s" % (b"0" * 30),
    "beyond all levels": b"q 0 a 2000000",
    "digits without end": b"q 0 a %s" % (b"9" * 5000),
    "NUL": b"q 0 a\0b 1",
    "too many fields": b"q 0 a 1\n1 2 3 4 5",
}


def files(folder: Path, suffix: str, contents: dict[str, bytes]) -> list[Path]:
    """A file for each content, a missing one, and a folder."""
    paths = [folder / f"{name}{suffix}" for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.write_bytes(content)
    (folder / f"folder{suffix}").mkdir(exist_ok=True)
    return [*paths, folder / f"folder{suffix}", folder / f"missing{suffix}"]


def archives(folder: Path) -> list[Path]:
    paths = [folder / f"{name}.npz" for name in ARCHIVES]
    for path, make in zip(paths, ARCHIVES.values(), strict=True):
        make(path)
    return paths


def folders(folder: Path) -> list[Path]:
    """BEIR folders that are none."""
    made = []
    for name, corpus, queries, qrels in [
        ("no corpus", None, b'{"_id": "q", "text": "x"}', b""),
        ("no queries", b'{"_id": "d", "text": "x"}', None, b""),
        ("no split", b'{"_id": "d", "text": "x"}', b'{"_id": "q", "text": "x"}', None),
        ("an id null", b'{"_id": null, "text": "x"}', b'{"_id": null, "text": "x"}', b""),
    ]:
        (folder / name / "qrels").mkdir(parents=True)
        for file, content in (("corpus.jsonl", corpus), ("queries.jsonl", queries), ("qrels/test.tsv", qrels)):
            if content is not None:
                (folder / name / file).write_bytes(content)
        made.append(folder / name)
    return made


def no_index(folder: Path) -> list[Path]:
    (folder / "file").write_text("x")
    (folder / "empty").mkdir(exist_ok=True)
    return [folder / "file", folder / "empty", folder / "missing"]


def outputs(folder: Path) -> list[Any]:
    (folder / "file").write_text("x")
    return ["", folder, folder / "missing" / "run.txt", folder / "file" / "run.txt"]


ADDRESSES = ["", "news", "s3://", "ftp://a/b", "s3://a?key=b"]


def token_files(folder: Path) -> list[Path]:
    """Files with tokens, of which none can be used."""
    made = []
    for name, content in [
        ("short", b"read short"),
        ("scope", b"admin aaaaaaaaaaaaaaaaaaaaaaaa"),
        ("words", b"read aaaaaaaaaaaaaaaaaaaaaaaa b"),
        ("bytes", b"read \xff\xfe" + b"a" * 30),
        ("alone", b"aaaaaaaaaaaaaaaaaaaaaaaa"),
        ("nothing", b""),
        ("a remark", b"# read aaaaaaaaaaaaaaaaaaaaaaaa\n\n"),
    ]:
        made.append(folder / name)
        made[-1].write_bytes(content)
    return [*made, folder / "missing", folder]


FILTERS = ["{", "[]", "5", "null", '"a"', DEEP, '{"a":' * 200 + "1" + "}" * 200, '{"n": NaN}', '{"n": 1e400}']
FILTERS += ['{"n": {"gt": []}}', '{"n": {"nope": 1}}', '{"n": %s}' % ("9" * 5000), '{"a": "\udcff"}', ""]
FILTERS += ['{"$or": [{"n": 1}]}', '{"or": 1}', '{"n": 1, "n": 2}', '{"not":' * 100 + "{}" + "}" * 100]

OBJECTS = ["{", "[]", "5", "null", '"a"', DEEP, '{"n": NaN}', '{"a": "\udcff"}', "", '{"n": 1, "n": 2}']
FLOATS = ["x", "nan", "inf", ""]

# Of each parameter that takes any value at all: what it must refuse.
BAD: dict[tuple[str, str], Callable[[Path], list[Any]]] = {
    ("create", "path"): lambda folder: ["", no_index(folder)[0], no_index(folder)[0] / "inside"],
    ("create", "dim"): lambda _: [*NUMBERS, "4097"],
    ("create", "encoder"): lambda folder: [folder, ""],
    ("create", "centroids"): lambda _: NUMBERS,
    ("create", "codec_from"): no_index,
    ("create", "seed"): lambda _: [number for number in NUMBERS if number != "0"],
    ("create", "train_after"): lambda _: [number for number in NUMBERS if number != "0"],
    ("import", "source"): lambda folder: [folder, *no_index(folder)],
    ("import", "path"): lambda folder: ["", no_index(folder)[0], no_index(folder)[0] / "inside"],
    ("import", "id_field"): lambda _: ["", "nope", "page"],
    ("import", "text_field"): lambda _: ["", "page"],
    ("import", "encoder"): lambda folder: [folder, ""],
    ("import", "threads"): lambda _: NUMBERS,
    ("add", "path"): no_index,
    ("add", "source"): lambda folder: [
        *files(folder, ".jsonl", DOCUMENT_LINES),
        *archives(folder),
        *folders(folder)[:1],
    ],
    ("add", "encoder"): lambda folder: [folder, ""],
    ("add", "threads"): lambda _: NUMBERS,
    ("delete", "path"): no_index,
    ("delete", "ids"): lambda _: ["nope", "", "\udcff"],
    ("delete", "filter"): lambda _: [*FILTERS, "{}", '{"and": []}'],
    ("update", "path"): no_index,
    ("update", "ids"): lambda _: ["nope", "", "\udcff"],
    ("update", "filter"): lambda _: [*FILTERS, "{}", '{"and": []}'],
    ("update", "metadata"): lambda _: [*OBJECTS, '{"n": 1e400}'],
    ("search", "path"): no_index,
    ("search", "query"): lambda _: ["", " "],
    ("search", "queries"): lambda folder: [
        *files(folder, ".jsonl", JSON_LINES),
        *archives(folder),
        *folders(folder)[:3],
    ],
    ("search", "encoder"): lambda folder: [folder, ""],
    ("search", "k"): lambda _: NUMBERS,
    ("search", "filter"): lambda _: FILTERS,
    ("search", "group_by"): lambda _: ["\udcff"],
    ("search", "offset"): lambda _: NUMBERS[1:],
    ("search", "min_score"): lambda _: FLOATS,
    ("search", "recall"): lambda _: ["0", "-1", "2", *FLOATS],
    ("search", "deviations"): lambda _: FLOATS,
    ("search", "max_scored"): lambda _: NUMBERS,
    ("search", "probes"): lambda _: NUMBERS,
    ("search", "threshold"): lambda _: FLOATS,
    ("search", "run_path"): outputs,
    ("search", "threads"): lambda _: NUMBERS,
    ("rerank", "path"): no_index,
    ("rerank", "candidates"): lambda folder: files(folder, ".txt", RUNS),
    ("rerank", "queries"): lambda folder: [
        *files(folder, ".jsonl", JSON_LINES),
        *archives(folder),
        *folders(folder)[:3],
    ],
    ("rerank", "encoder"): lambda folder: [folder, ""],
    ("rerank", "k"): lambda _: NUMBERS,
    ("rerank", "filter"): lambda _: FILTERS,
    ("rerank", "group_by"): lambda _: ["\udcff"],
    ("rerank", "offset"): lambda _: NUMBERS[1:],
    ("rerank", "min_score"): lambda _: FLOATS,
    ("rerank", "alpha"): lambda _: ["-1", *FLOATS],
    ("rerank", "beta"): lambda _: NUMBERS,
    ("rerank", "prune_to"): lambda _: NUMBERS,
    ("rerank", "run_path"): outputs,
    ("rerank", "threads"): lambda _: NUMBERS,
    ("eval", "run_paths"): lambda folder: files(folder, ".txt", RUNS),
    ("eval", "qrels"): lambda folder: [*files(folder, ".txt", JUDGEMENTS), folders(folder)[2]],
    ("eval", "metrics"): lambda _: [
        "",
        "x",
        "nDCG@0",
        "P@0",
        "P",
        "nDCG@99999999999999999999",
        "RR(",
        "P@True",
        "RBP(p=2)",
    ],
    ("eval", "plot_path"): outputs,
    ("explain", "path"): lambda folder: [*no_index(folder), "s3://"],
    ("explain", "query"): lambda _: ["\udcff"],
    ("explain", "ids"): lambda _: ["nobody", "", "\udcff"],
    ("explain", "encoder"): lambda folder: [folder, ""],
    ("explain", "k"): lambda _: NUMBERS,
    ("explain", "filter"): lambda _: FILTERS,
    ("explain", "html_path"): outputs,
    ("publish", "path"): no_index,
    ("publish", "url"): lambda _: ADDRESSES,
    ("clean", "url"): lambda _: ADDRESSES,
    ("clean", "keep"): lambda _: NUMBERS,
    ("clean", "older_than"): lambda _: ["-1", "x", "nan", "inf", ""],
    ("pull", "url"): lambda folder: [*ADDRESSES, (folder / "nothing").as_uri()],
    ("pull", "generation"): lambda _: NUMBERS,
    ("pull", "cache_dir"): lambda folder: [*no_index(folder)[:1], "", folder / "file" / "cache"],
    ("serve", "indexes"): lambda folder: [*no_index(folder), "=x", "a/b=x", "name=", "", "name=s3://"],
    ("serve", "host"): lambda _: ["0.0.0.0", "", "no such host", "192.0.2.1"],
    ("serve", "uds"): lambda folder: ["", str(folder), f"{folder}/none/socket"],
    ("serve", "port"): lambda _: ["-1", "65536", "x", ""],
    ("serve", "workers"): lambda _: [*NUMBERS, "100000"],
    ("serve", "encoder"): lambda folder: [folder, ""],
    ("serve", "token_file"): token_files,
    ("serve", "hosts"): lambda _: [""],
    ("serve", "timeout"): lambda _: ["0", "-1", "x", "nan", "inf", ""],
    ("serve", "images"): lambda folder: no_index(folder)[::2],
    ("tune", "path"): no_index,
    ("tune", "queries"): lambda folder: [
        *no_index(folder),
        *files(folder, ".jsonl", JSON_LINES),
        *archives(folder),
        *folders(folder)[:3],
    ],
    ("tune", "encoder"): lambda folder: [folder, ""],
    ("tune", "recall"): lambda _: ["0", "-1", "1.1", *FLOATS],
    ("tune", "k"): lambda _: NUMBERS,
    ("tune", "threads"): lambda _: NUMBERS,
    ("export", "path"): no_index,
    ("export", "target"): lambda folder: ["", folder, folder / "x.csv", folder / "missing" / "x.npz"],
    ("export", "filter"): lambda _: FILTERS,
    ("info", "path"): no_index,
    ("check", "path"): no_index,
    ("recover", "path"): no_index,
    ("recover", "generation"): lambda _: NUMBERS,
    ("compact", "path"): no_index,
    ("compact", "threads"): lambda _: NUMBERS,
    ("demo", "data"): lambda folder: [*folders(folder)[:3], *no_index(folder)],
    ("demo", "encoder"): lambda folder: [folder, ""],
    ("demo", "port"): lambda _: ["-1", "65536", "x", ""],
}


def commands() -> dict[str, Any]:
    from latewood.cli.commands import cli

    return dict(cli.commands)


def free_parameters() -> set[tuple[str, str]]:
    """Those that are no flag and no choice, which click checks."""
    return {
        (name, parameter.name)
        for name, command in commands().items()
        for parameter in command.params
        if not getattr(parameter, "is_flag", False) and not isinstance(parameter.type, click.Choice)
    }


def test_every_parameter_is_in_the_table() -> None:
    assert set(BAD) == free_parameters()


@pytest.fixture
def good(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """For each command parameters with which it works."""
    place = tmp_path / "good"
    place.mkdir()
    index = Index.create(place / "index", encoder=HashEncoder())
    index.add(["fox", "owl"], texts=["a quick fox", "an old owl"], metadata=[{"n": 1}, None])
    (place / "documents.jsonl").write_text('{"id": "new", "text": "a new one"}\n')
    (place / "queries.jsonl").write_text('{"id": "q", "text": "fox"}\n')
    (place / "run.txt").write_text("q Q0 fox 1 2.0 t\nq Q0 owl 2 1.0 t\n")
    (place / "qrels.txt").write_text("q 0 fox 1\n")
    published = (place / "published").as_uri()
    index.publish(published)
    asked = {"path": place / "index", "encoder": "hash"}
    candidates = {"candidates": place / "run.txt", "queries": place / "queries.jsonl", "k": "1"}
    return {
        "create": {"path": tmp_path / "created", "dim": "8"},
        "import": {
            "source": Path(__file__).parent / "golden" / "elsewhere" / "fast-plaid",
            "path": tmp_path / "imported",
        },
        "add": {**asked, "source": place / "documents.jsonl"},
        "delete": {"path": place / "index", "ids": "fox"},
        "update": {"path": place / "index", "ids": "fox", "metadata": '{"n": 2}'},
        "search": {**asked, "query": "fox"},
        "rerank": {**asked, **candidates},
        "tune": {**asked, "queries": place / "queries.jsonl", "k": "1"},
        "eval": {"run_paths": place / "run.txt", "qrels": place / "qrels.txt"},
        "explain": {**asked, "query": "fox"},
        "publish": {"path": place / "index", "url": (place / "store").as_uri()},
        "clean": {"url": published},
        "pull": {"url": published, "cache_dir": tmp_path / "cache"},
        "serve": {"port": "0", "indexes": place / "index"},
        "export": {"path": place / "index", "target": tmp_path / "exported.npz"},
        "info": {"path": place / "index"},
        "check": {"path": place / "index"},
        "recover": {"path": place / "index"},
        "compact": {"path": place / "index"},
        "demo": {"data": place},
    }


def call(command: str, values: dict[str, Any]) -> Any:
    from latewood.cli.commands import cli

    parts: list[str] = []
    positional: list[str] = []
    for parameter in commands()[command].params:
        if parameter.name in values:
            value = os.fspath(values[parameter.name])
            if isinstance(parameter, click.Argument):
                positional.append(value)
            else:
                parts += [parameter.opts[0], value]
    return click_testing.CliRunner().invoke(cli, [command, *parts, "--", *positional])


@pytest.mark.parametrize("command", sorted({name for name, _ in BAD} - {"demo", "serve"}))
def test_the_good_calls_are_good(good: dict[str, dict[str, Any]], command: str) -> None:
    result = call(command, good[command])
    assert result.exit_code == 0, result.output


def without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


@pytest.mark.parametrize(("command", "name"), sorted(BAD), ids=str)
def test_bad_values_are_told_in_a_line(
    good: dict[str, dict[str, Any]], tmp_path: Path, command: str, name: str
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    values = good[command]
    if (command, name) == ("search", "queries"):
        values = without(values, "query")
    if (command, name) in (("delete", "filter"), ("update", "filter")):
        values = without(values, "ids")
    if (command, name) == ("create", "encoder"):
        values = without(values, "dim")
    if (command, name) == ("serve", "uds"):
        values = without(values, "port")
    if (command, name) == ("demo", "encoder"):
        values = {"data": folders(bad)[0]}
    for value in BAD[command, name](bad):
        result = call(command, {**values, name: value})
        place = f"{name}={str(value)[:80]!r}: {result.output[:500]}"
        assert result.exit_code in (1, 2), place
        assert result.exception is None or isinstance(result.exception, SystemExit), place
        assert "internal error" not in result.output, place
        assert "Traceback" not in result.output, place
        if result.exit_code == 1:
            assert result.stderr.startswith("latewood: "), place
            assert result.stderr.count("\n") == 1, place
        assert result.stdout == "", place
    assert len(Index.open(good["info"]["path"])) == 2, "nothing was changed"


def test_choices_and_unknown_options(good: dict[str, dict[str, Any]]) -> None:
    for command, made in commands().items():
        for parameter in made.params:
            if isinstance(parameter.type, click.Choice):
                assert call(command, {**good[command], parameter.name: "nonsense"}).exit_code == 2
        assert click_testing.CliRunner().invoke(made, ["--nonsense"]).exit_code == 2


def test_a_byte_order_mark_is_no_part_of_a_file(good: dict[str, dict[str, Any]]) -> None:
    for command, name in (("add", "source"), ("rerank", "queries"), ("rerank", "candidates"), ("eval", "qrels")):
        path = Path(good[command][name])
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        result = call(command, good[command])
        assert result.exit_code == 0, result.output
    assert "1.0000" in call("eval", good["eval"]).output


def test_empty_files_are_nothing_to_do(good: dict[str, dict[str, Any]]) -> None:
    for command, name in (("add", "source"), ("rerank", "candidates"), ("eval", "run_paths")):
        Path(good[command][name]).write_bytes(b"")
        assert call(command, good[command]).exit_code == 0


def test_an_unforeseen_error_is_a_line_too(good: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        message = "two\nlines"
        raise ZeroDivisionError(message)

    monkeypatch.setattr(Index, "info", broken)
    result = call("info", good["info"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "latewood: internal error: ZeroDivisionError: two lines; please report it with the command that led here\n"
    )


def test_a_run_that_cannot_be_written_leaves_the_old_one(good: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    output = tmp_path / "output.txt"
    output.write_text("old")
    output.chmod(0o640)
    (tmp_path / "queries.jsonl").write_text('{"id": "two words", "text": "fox"}\n')
    values = {**without(good["search"], "query"), "queries": tmp_path / "queries.jsonl", "run_path": output}
    result = call("search", values)
    assert (result.exit_code, output.read_text()) == (1, "old")
    assert "two words" in result.output
    assert call("search", {**values, "queries": good["rerank"]["queries"]}).exit_code == 0
    assert output.read_text().startswith("q Q0 fox 1 ")
    assert output.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "output.txt", "queries.jsonl"]
    link = tmp_path / "link.txt"
    link.symlink_to(output)
    assert call("search", {**values, "queries": good["rerank"]["queries"], "run_path": link}).exit_code == 0
    assert link.is_symlink()


# ── as a process ─────────────────────────────────────────────────────────────────────────────────────────────────────

SLOW = """
import signal, sys, time
from latewood import Index
# Tests that a shell runs in the background ignore Ctrl-C, and so would this process.
signal.signal(signal.SIGINT, signal.default_int_handler)
Index.info = lambda self: print("ready", flush=True) or time.sleep(30)
sys.argv = ["latewood", "info", sys.argv[1]]
from latewood.cli import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes as POSIX has them")
def test_interrupts_and_pipes_end_quietly(good: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    path = os.fspath(good["info"]["path"])
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (130, "latewood: interrupted\n")

    vectors = tmp_path / "vectors.npz"
    npz(vectors, values=np.ones((4000, DIM), np.float32), lengths=np.ones(4000, np.int64))
    command = [sys.executable, "-m", "latewood", "search", path, "--queries", os.fspath(vectors), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("{")
        process.stdout.close()
        told = process.stderr.read()
        assert process.wait(timeout=60) == 141
    assert told == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
@pytest.mark.parametrize("command", ["info", "--help"])
def test_an_output_that_takes_nothing(good: dict[str, dict[str, Any]], command: str) -> None:
    arguments = [command, *([os.fspath(good["info"]["path"])] if command == "info" else [])]
    with Path("/dev/full").open("w") as full:
        finished = subprocess.run(
            [sys.executable, "-m", "latewood", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert finished.returncode == 1
    assert finished.stderr.count("\n") == 1
    assert "space" in finished.stderr


def test_a_terminal_without_the_letters(good: dict[str, dict[str, Any]]) -> None:
    index = Index.open(good["info"]["path"], encoder=HashEncoder())
    index.upsert(["fox"], texts=["ein Füchslein \ufffd ≠ 狐"])
    query = good["info"]["path"].parent / "query.npz"
    npz(query, values=np.ones((1, DIM), np.float32))
    finished = subprocess.run(
        [sys.executable, "-m", "latewood", "search", os.fspath(index.path), "--queries", os.fspath(query)],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        encoding="latin-1",
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "Füchslein \\ufffd \\u2260 \\u72d0" in finished.stdout


def test_what_programs_read_is_utf_8(good: dict[str, dict[str, Any]]) -> None:
    index = Index.open(good["info"]["path"], encoder=HashEncoder())
    index.upsert(["caf\xe9"], texts=["na\xefve \U0001f989"])
    query = good["info"]["path"].parent / "query.npz"
    npz(query, values=np.ones((1, DIM), np.float32))
    asked = [sys.executable, "-m", "latewood", "search", os.fspath(index.path), "--queries", os.fspath(query)]

    def told(*more: str) -> bytes:
        environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
        return subprocess.run([*asked, *more], env=environment, stdout=subprocess.PIPE, check=True).stdout

    hits = json.loads(told("--json").decode())["hits"]
    assert next(hit["text"] for hit in hits if hit["id"] == "caf\xe9") == "na\xefve \U0001f989"
    assert " caf\xe9 " in told("--run", "-").decode()
