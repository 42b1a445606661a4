"""BEIR folders, TREC runs and metrics."""

import gzip
import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latewood import Hit
from latewood.errors import InvalidInputError, StorageError
from latewood.evaluate import compare_runs, evaluate_run, load_beir, read_qrels, read_run, write_run


def write_beir(folder: Path, *, packed: bool = False) -> Path:
    (folder / "qrels").mkdir(parents=True)
    corpus = [
        {"_id": "d1", "title": "One", "text": "first"},
        {"_id": "d2", "title": "", "text": "second", "metadata": {}},
    ]
    queries = [{"_id": "1", "text": "what"}, {"_id": "2", "text": "unjudged"}]
    for name, entries in (("corpus", corpus), ("queries", queries)):
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        if packed:
            (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / f"{name}.jsonl").write_text(text + "\n")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\td2\t1\n1\td1\t0\n")
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_beir_folder(tmp_path: Path, packed: bool) -> None:
    collection = load_beir(write_beir(tmp_path / "beir", packed=packed))
    assert collection.corpus == {"d1": {"title": "One", "text": "first"}, "d2": {"title": "", "text": "second"}}
    assert collection.texts() == ["One first", "second"]
    assert collection.queries == {"1": "what"}
    assert collection.qrels == {"1": {"d2": 1, "d1": 0}}


def test_broken_folders(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "beir")
    with pytest.raises(InvalidInputError, match="it has: test"):
        load_beir(folder, "dev")
    with pytest.raises(InvalidInputError, match="No such file"):
        load_beir(tmp_path)
    for line, words in (
        ("{", "line 1: not JSON"),
        ("[]", "line 1: a list"),
        ('{"text": "x"}', "line 1: the key '_id'"),
    ):
        (folder / "corpus.jsonl").write_text(line + "\n")
        with pytest.raises(InvalidInputError, match=words):
            load_beir(folder)
    for name, key in (("corpus", '"d1"'), ("queries", "1")):
        path = write_beir(tmp_path / name) / f"{name}.jsonl"
        path.write_text(path.read_text() * 2)
        assert load_beir(path.parent).queries == {"1": "what"}, "the same again is no other"
        path.write_text(path.read_text() + f'{{"_id": {key}, "text": "another"}}')
        with pytest.raises(InvalidInputError, match=f"{name}.jsonl: the id '{key.strip(chr(34))}' stands twice"):
            load_beir(path.parent)
    (folder / "queries.jsonl.gz").write_bytes(b"not gzip")
    (folder / "queries.jsonl").unlink()
    (folder / "corpus.jsonl").write_text("")
    with pytest.raises(InvalidInputError, match="queries"):
        load_beir(folder)


SCORES = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.just(-math.inf)


@given(st.lists(SCORES, min_size=1, max_size=30))
def test_a_run_keeps_its_ranking(tmp_path_factory: pytest.TempPathFactory, scores: list[float]) -> None:
    """Ties, equal documents and infinities: evaluation tools that sort again see the same ranking."""
    path = tmp_path_factory.mktemp("run") / "run.txt"
    ordered = sorted(scores, reverse=True)
    hits = [Hit(f"z{len(ordered) - rank}", score, rank) for rank, score in enumerate(ordered, start=1)]
    write_run(path, {"q": hits})
    written = [line.split() for line in path.read_text().splitlines()]
    values = [float(fields[4]) for fields in written]
    assert all(better > worse for better, worse in pairwise(values))
    assert all(math.isfinite(value) for value in values)
    assert list(read_run(path)["q"]) == [hit.id for hit in hits]


def test_runs(tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    run = {"q1": {"a": 1.0, "b": 3.5}, "q2": {"c": -2.0}}
    write_run(path, run, tag="test")
    assert path.read_text().splitlines()[0] == "q1 Q0 b 1 3.5 test"
    assert read_run(path) == {"q1": {"b": 3.5, "a": 1.0}, "q2": {"c": -2.0}}
    with pytest.raises(InvalidInputError, match="blanks"):
        write_run(path, {"q": {"two words": 1.0}})
    for text, words in (
        ("q Q0 d 1", "line 1: 4 fields"),
        ("q Q0 d one 1.0 t", "line 1"),
        ("q Q0 d 1 1.0 t\nq Q0 d 2 0.5 t", "twice"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidInputError, match=words):
            read_run(path)


def test_judgements(tmp_path: Path) -> None:
    path = tmp_path / "qrels.txt"
    path.write_text("q1 0 d1 2\nq1 0 d2 -1\n")
    assert read_qrels(path) == {"q1": {"d1": 2, "d2": -1}}
    for text, words in (("a b", "2 fields"), ("h h h\nq d x", "line 2")):
        path.write_text(f"query-id corpus-id score\n{text}\n" if words == "2 fields" else text)
        with pytest.raises(InvalidInputError, match=words):
            read_qrels(path)


def test_ids_with_blanks_in_judgements_of_beir(tmp_path: Path) -> None:
    path = tmp_path / "qrels.tsv"
    path.write_text("query-id\tcorpus-id\tscore\nq 1\td1\t1\nq2 \tpage 3\t2\r\n")
    assert read_qrels(path) == {"q 1": {"d1": 1}, "q2": {"page 3": 2}}
    path.write_text("q1\t0\td1\t1\n")
    assert read_qrels(path) == {"q1": {"d1": 1}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("q1 0 d1 1.0\n", r"line 1: .*'1\.0'"),
        ("q1\td1\tnan\n", "line 1: .*'nan'"),
        (
            "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t1\nq1\td1\t0\n",
            "line 4: document 'd1' has another relevance",
        ),
    ],
)
def test_no_judgement_is_lost_in_silence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "qrels"
    path.write_text("q1 0 d1 1\nq1 0 d1 1\n")
    assert read_qrels(path) == {"q1": {"d1": 1}}
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=words):
        read_qrels(path)


def test_metrics() -> None:
    pytest.importorskip("ir_measures")
    qrels = {"1": {"a": 1}, "2": {"b": 1}}
    run = {"1": {"x": 2.0, "a": 1.0}, "2": {"b": 5.0}}
    values = evaluate_run(run, qrels, ["RR@10", "R@100", "nDCG@10"])
    assert values == pytest.approx({"RR@10": 0.75, "R@100": 1.0, "nDCG@10": (1 / math.log2(3) + 1) / 2})
    hits = {"1": [Hit("x", 1.0, 1), Hit("a", 1.0, 2)], "2": [Hit("b", -math.inf, 1)]}
    assert evaluate_run(hits, qrels, ["RR@10"]) == {"RR@10": 0.75}
    assert evaluate_run({"1": {"a": 1.0}}, qrels, ["RR"])["RR"] == 0.5, "a judged query without hits counts"
    with pytest.raises(InvalidInputError, match="nDCGG"):
        evaluate_run(run, qrels, ["nDCGG@10"])
    with pytest.raises(InvalidInputError, match="judgements"):
        evaluate_run(run, {})


@pytest.mark.parametrize("metric", ["ERR@3", "nDCG(dcg='exp-log2')@3", "nDCG@3", "AP", "Compat(p=0.8)", "Judged@2"])
def test_metrics_do_not_depend_on_what_ids_look_like(metric: str) -> None:
    queries = {"1": "01", "2": "1", "3": "1 1", "4": "q"}
    documents = {"10": "a b", "11": "a", "12": "a\n", "13": "ü"}

    def renamed(entries: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {
            queries[query]: {documents[key]: value for key, value in entry.items()} for query, entry in entries.items()
        }

    qrels = {"1": {"10": 2, "11": 0}, "2": {"10": 1, "12": 1}, "3": {"13": 1}}
    run = {"2": {"11": 3.0, "12": 2.0}, "1": {"12": 3.0, "10": 2.0, "11": 1.0}, "4": {"10": 1.0}}
    plain = compare_runs({"own": run, "same": run}, qrels, [metric])
    found = compare_runs({"own": renamed(run), "same": renamed(run)}, renamed(qrels), [metric])
    assert found.means == plain.means
    own = plain.per_query["own"][metric]
    assert found.per_query["own"] == {metric: {queries[query]: value for query, value in own.items()}}
    assert plain.means["own"][metric] > 0


def test_a_query_that_is_a_document() -> None:
    """BEIR and MTEB leave out the hit with the query's own id, in ArguAna and Quora."""
    pytest.importorskip("ir_measures")
    run = {"d1": {"d1": 9.0, "d2": 1.0}, "d2": {"d3": 1.0}}
    hits = {"d1": [Hit("d1", 9.0, 1), Hit("d2", 1.0, 2)], "d2": [Hit("d3", 1.0, 1)]}
    qrels = {"d1": {"d2": 1}, "d2": {"d3": 1}}
    for found in (run, hits):
        assert evaluate_run(found, qrels, ["RR@10"]) == {"RR@10": 1.0}
        assert evaluate_run(found, qrels, ["RR@10"], ignore_identical_ids=False) == {"RR@10": 0.75}
        assert evaluate_run(found, qrels, ["RR@10"], ignore_identical_ids=True) == {"RR@10": 1.0}
    judged = {"d1": {"d1": 1, "d2": 1}}
    assert evaluate_run(run, judged, ["R@10"]) == {"R@10": 1.0}, "relevant to itself: equal ids are chance"
    asked = evaluate_run(run, judged, ["R@10"], ignore_identical_ids=True)
    assert asked == {"R@10": 0.5}, "as BEIR: left out all the same, and the judgements stay"
    zero = {"d1": {"d1": 0, "d2": 1}}
    assert evaluate_run(run, zero, ["RR@10"]) == {"RR@10": 1.0}
    integers = {1: [Hit(1, 2.0, 1), Hit(2, 1.0, 2)]}
    assert evaluate_run(integers, {1: {2: 1}}, ["RR@10"]) == {"RR@10": 1.0}  # type: ignore[arg-type, dict-item]
    assert list(run["d1"]) == ["d1", "d2"], "what is given is not changed"


def test_empty_runs_and_ties() -> None:
    pytest.importorskip("ir_measures")
    qrels = {"1": {"a": 1}}
    empty: list[dict[str, Any]] = [{}, {"1": {}}, {"1": []}, {"2": {"a": 1.0}}]
    for run in empty:
        assert evaluate_run(run, qrels, ["RR@10", "nDCG@10"]) == {"RR@10": 0.0, "nDCG@10": 0.0}
    assert evaluate_run({"1": {"b": 1.0, "a": 1.0}}, qrels, ["RR@10"]) == {"RR@10": 0.5}, "ties as they are given"
    assert evaluate_run({"1": {"b": math.inf, "a": -math.inf}}, qrels, ["RR@10"]) == {"RR@10": 0.5}


NAN = math.nan


@pytest.mark.parametrize(
    "run",
    [
        None,
        "run.txt",
        [{"a": 1.0}],
        {"1": None},
        {"1": "a"},
        {"1": {"a": NAN}},
        {"1": {"a": "x"}},
        {"1": {"a": None}},
        {"1": {None: 1.0}},
        {"1": {1.5: 1.0}},
        {"1": {"a": 1.0, 1: 2.0}},
        {"1": [Hit("a", NAN, 1)]},
        {"1": [Hit("a", 2.0, 1), Hit("a", 1.0, 2)]},
        {"1": {"a": 1.0}, 1: {"a": 1.0}},
        {None: {"a": 1.0}},
        {"1": {"\ud800": 1.0}},
        {"1": {"a\0b": 1.0}},
    ],
    ids=repr,
)
def test_bad_runs(tmp_path: Path, run: Any) -> None:
    pytest.importorskip("ir_measures")
    with pytest.raises(InvalidInputError):
        evaluate_run(run, {"1": {"a": 1}})
    with pytest.raises(InvalidInputError):
        write_run(tmp_path / "run.txt", run)
    assert list(tmp_path.iterdir()) == []


BAD_OPTIONS: dict[str, list[Any]] = {
    "qrels": [
        None,
        [],
        "x",
        {},
        {"1": None},
        {"1": [("a", 1)]},
        *({"1": {"a": value}} for value in (None, "1", 1.0, True, NAN, 10**30, -(10**7))),
        {"1": {None: 1}},
        {1.5: {"a": 1}},
        {"1": {"\ud800": 1}},
    ],
    "metrics": [None, "nDCG@10", 5, [], [None], [5], ["P@0"], ["P"], ["nDCG@10", "x"], {"P@1"}],
    "ignore_identical_ids": [0, 1, "no"],
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_evaluations(name: str) -> None:
    pytest.importorskip("ir_measures")
    for value in BAD_OPTIONS[name]:
        options: dict[str, Any] = {"run": {"1": {"a": 1.0}}, "qrels": {"1": {"a": 1}}, name: value}
        with pytest.raises(InvalidInputError):
            evaluate_run(**options)


def test_what_is_no_path_and_no_split(tmp_path: Path) -> None:
    bad: list[Any] = [None, 5, ["x"], 1.5, "a\0b", tmp_path / "missing"]
    for path in bad:
        for read in (read_run, read_qrels, load_beir):
            with pytest.raises(InvalidInputError):
                read(path)
    for path in bad[:5]:
        with pytest.raises((InvalidInputError, StorageError)):
            write_run(path, {"q": {"a": 1.0}})
    with pytest.raises(StorageError, match="missing"):
        write_run(tmp_path / "missing" / "run.txt", {"q": {"a": 1.0}})
    folder = write_beir(tmp_path / "beir")
    splits: list[Any] = [None, 5, "", "../qrels/test", "a\0b", ["test"]]
    for split in splits:
        with pytest.raises(InvalidInputError, match="split"):
            load_beir(folder, split)
    tags: list[Any] = ["", "two words", None, 1.5]
    for tag in tags:
        with pytest.raises(InvalidInputError):
            write_run(tmp_path / "run.txt", {"q": {"a": 1.0}}, tag=tag)
    assert load_beir(str(folder)).queries == load_beir(folder).queries


def test_a_pipe_is_written_to_as_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        write_run(pipe, {"q": {"a": 1.0}})
        assert read.result() == "q Q0 a 1 1.0 latewood\n"
    assert pipe.is_fifo()
    # As a shell's >(command) has it.
    source, sink = os.pipe()
    with os.fdopen(source) as reader:
        with os.fdopen(sink, "w"):
            write_run(f"/dev/fd/{sink}", {"q": {"a": 1.0}})
        assert reader.read() == "q Q0 a 1 1.0 latewood\n"
