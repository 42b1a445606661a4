"""The command line, in process by click's runner and once as a process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Feedback, Index
from latewood.evaluate import write_run
from strategies import make_corpus
from support import TEXTS, HashEncoder
from test_evaluate import write_beir

click_testing = pytest.importorskip("click.testing")
CORPUS = make_corpus(3, dim=32, documents=30, queries=3, document_tokens=(2, 8))


def run(*arguments: Any, code: int = 0) -> str:
    from latewood.cli.commands import cli

    result = click_testing.CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return str(result.stderr if code else result.stdout)


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--encoder hash` and the recorded name load the hash encoder."""
    from latewood.encode import protocol

    real = protocol.as_encoder

    def as_encoder(encoder: Any) -> Any:
        return HashEncoder() if encoder == "hash" else real(encoder)

    monkeypatch.setattr("latewood.index.as_encoder", as_encoder)


def write_jsonl(path: Path, entries: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def save_vectors(path: Path, vectors: list[Any], **arrays: Any) -> Path:
    np.savez(path, values=np.concatenate(vectors), lengths=[len(part) for part in vectors], **arrays)
    return path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """An index made by the command line from a JSONL file."""
    path = tmp_path / "index"
    source = write_jsonl(
        tmp_path / "texts.jsonl",
        [{"id": key, "text": text, "metadata": {"words": len(text.split())}} for key, text in TEXTS.items()],
    )
    assert "48 dimensions" in run("create", path, "--encoder", "hash")
    added = json.loads(run("add", path, source, "--encoder", "recorded", "--json"))
    assert added == {"added": 5, "empty": 0, "documents": 5}
    return path


def test_search_prints_hits(texts: Path) -> None:
    output = run("search", texts, "lazy dog", "--encoder", "recorded", "-k", 2)
    assert output.splitlines()[0].split()[0] == "1"
    assert "fox" in output.splitlines()[0]
    hits = json.loads(run("search", texts, "lazy dog", "--encoder", "hash", "--json"))
    assert hits[0]["id"] == "fox"
    assert hits[0]["text"] == TEXTS["fox"]
    assert hits[0]["metadata"] == {"words": 9}
    filtered = run("search", texts, "lazy dog", "--encoder", "hash", "--filter", '{"words": {"lt": 8}}', "--json")
    assert {hit["id"] for hit in json.loads(filtered)} == {"paris", "berlin"}


def test_search_with_feedback(texts: Path, tmp_path: Path) -> None:
    path = tmp_path / "trained"
    run("create", path, "--encoder", "hash", "--train-after", 0)
    source = write_jsonl(tmp_path / "again.jsonl", [{"id": key, "text": text} for key, text in TEXTS.items()])
    run("add", path, source, "--encoder", "hash")
    index = Index.open(path, encoder=HashEncoder())
    for mode in ("ranker", "reranker"):
        found = json.loads(run("search", path, "lazy dog", "--encoder", "hash", "--feedback", mode, "--json"))
        hits = index.search("lazy dog", feedback=Feedback(mode=mode))
        assert [hit["score"] for hit in found] == [hit.score for hit in hits]
    assert "train_after" in run("search", texts, "lazy dog", "--encoder", "hash", "--feedback", "ranker", code=1)
    run("search", path, "lazy dog", "--encoder", "hash", "--feedback", "twice", code=2)


def test_batches_runs_and_evaluation(texts: Path, tmp_path: Path) -> None:
    queries = write_jsonl(
        tmp_path / "queries.jsonl", [{"id": "q1", "text": "quick fox"}, {"id": "q2", "text": "france"}]
    )
    lines = run("search", texts, "--queries", queries, "--encoder", "hash", "--json").splitlines()
    assert [json.loads(line)["query"] for line in lines] == ["q1", "q2"]
    assert "# q2" in run("search", texts, "--queries", queries, "--encoder", "hash")
    first = tmp_path / "first.txt"
    run("search", texts, "--queries", queries, "--encoder", "hash", "--run", first)
    assert first.read_text().startswith("q1 Q0 fox 1 ")
    second = tmp_path / "second.txt"
    summary = json.loads(
        run("rerank", texts, "--run", first, "--queries", queries, "--encoder", "hash", "--output", second, "--json")
    )
    assert summary == {"run": str(second), "queries": 2, "hits": 10}
    assert second.read_text() == first.read_text()
    pruned = run(
        "rerank", texts, "--run", first, "--queries", queries, "--encoder", "hash", "-k", 1, "--alpha", 0, "--beta", 1
    )
    assert len(pruned.splitlines()) == 4
    qrels = tmp_path / "qrels.txt"
    qrels.write_text("q1 0 fox 1\nq2 0 paris 1\n")
    pytest.importorskip("ir_measures")
    assert json.loads(run("eval", second, qrels, "--metric", "RR@10", "--json")) == {"RR@10": 1.0}
    assert run("eval", second, qrels).startswith("nDCG@10")


def test_vectors_in(tmp_path: Path) -> None:
    path = tmp_path / "index"
    run("create", path, "--dim", 32, "--bits", 2, "--codec", "flat")
    half = CORPUS.documents[:15]
    run("add", path, save_vectors(tmp_path / "documents.npz", half, ids=np.arange(100, 115)))
    lines = [{"id": 200 + i, "vectors": part.tolist()} for i, part in enumerate(CORPUS.documents[15:])]
    run("add", path, write_jsonl(tmp_path / "rest.jsonl", lines))
    queries = save_vectors(tmp_path / "queries.npz", CORPUS.queries)
    found = [json.loads(line) for line in run("search", path, "--queries", queries, "-k", 3, "--json").splitlines()]
    hits = Index.open(path).search_batch(CORPUS.queries, 3)
    assert [[hit["id"] for hit in entry["hits"]] for entry in found] == [[hit.id for hit in own] for own in hits]
    candidates = tmp_path / "run.txt"
    write_run(candidates, {"0": {"100": 2.0, "201": 1.0}, "2": {"110": 1.0}})
    output = run("rerank", path, "--run", candidates, "--queries", queries)
    assert output.count("#") == 2
    assert json.loads(run("delete", path, "100", "201", "--json")) == {"deleted": 2, "documents": 28}
    assert "integer ids" in run("delete", path, "abc", code=1)


def test_beir_folder(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "beir")
    path = tmp_path / "index"
    run("create", path, "--encoder", "hash")
    run("add", path, folder, "--encoder", "hash")
    result = tmp_path / "run.txt"
    run("search", path, "--queries", folder, "--encoder", "hash", "--run", result)
    assert {line.split()[2] for line in result.read_text().splitlines()} == {"d1", "d2"}
    pytest.importorskip("ir_measures")
    assert "nDCG@10" in run("eval", result, folder)


def test_a_query_of_a_beir_folder_does_not_find_itself(tmp_path: Path) -> None:
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    texts = {"d1": "owls hunt at night", "d2": "owls", "d3": "trees"}
    write_jsonl(folder / "corpus.jsonl", [{"_id": key, "title": "", "text": text} for key, text in texts.items()])
    write_jsonl(folder / "queries.jsonl", [{"_id": "d1", "text": texts["d1"]}])
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nd1\td2\t1\n")
    path, result = tmp_path / "index", tmp_path / "run.txt"
    run("create", path, "--encoder", "hash")
    run("add", path, folder, "--encoder", "hash")
    search = ("search", path, "--queries", folder, "--encoder", "hash", "-k", 1)
    (hit,) = json.loads(run(*search, "--json"))["hits"]
    assert (hit["id"], hit["rank"]) == ("d2", 1)
    assert json.loads(run(*search, "--keep-identical-ids", "--json"))["hits"][0]["id"] == "d1"
    run(*search[:-1], 3, "--keep-identical-ids", "--run", result)
    assert [line.split()[2] for line in result.read_text().splitlines()] == ["d1", "d2", "d3"]
    rerank = ("rerank", path, "--run", result, "--queries", folder, "--encoder", "hash", "-k", 1, "--json")
    assert json.loads(run(*rerank))["hits"][0]["id"] == "d2"
    assert json.loads(run(*rerank, "--keep-identical-ids"))["hits"][0]["id"] == "d1"
    pytest.importorskip("ir_measures")
    evaluate = ("eval", result, folder, "--metric", "nDCG@10", "--json")
    assert json.loads(run(*evaluate)) == {"nDCG@10": 1.0}
    assert json.loads(run(*evaluate, "--keep-identical-ids"))["nDCG@10"] < 0.7


def test_info_check_compact(texts: Path) -> None:
    assert json.loads(run("info", texts, "--json"))["documents"] == 5
    assert "documents" in run("info", texts)
    assert json.loads(run("check", texts, "--json")) == {"problems": []}
    assert run("check", texts) == "no problems\n"
    run("delete", texts, "fox")
    assert "4 documents" in run("compact", texts)
    assert "0" in run("delete", texts, "fox", "--missing", "skip")


def test_delete_by_filter(texts: Path) -> None:
    run("delete", texts, code=2)
    run("delete", texts, "fox", "--filter", '{"words": 9}', code=2)
    run("delete", texts, "--filter", "{", code=2)
    run("delete", texts, "--filter", '{"words": {"gt": 1}, "words": {"lt": 7}}', code=2)
    assert "every document" in run("delete", texts, "--filter", "{}", code=1)
    assert "unknown operator" in run("delete", texts, "--filter", '{"words": {"under": 8}}', code=1)
    assert "missing=" in run("delete", texts, "--filter", '{"words": 9}', "--missing", "skip", code=1)
    assert len(Index.open(texts)) == 5
    condition = '{"or": [{"words": {"lt": 7}}, {"nowhere": {"exists": true}}]}'
    assert json.loads(run("delete", texts, "--filter", condition, "--json")) == {"deleted": 2, "documents": 3}
    assert sorted(Index.open(texts).ids()) == ["fox", "rings", "search"]


def test_check_finds_damage(texts: Path) -> None:
    from latewood.cli.commands import cli

    biggest = max(texts.iterdir(), key=lambda path: path.stat().st_size)
    whole = bytearray(biggest.read_bytes())
    whole[len(whole) // 2] ^= 255
    biggest.write_bytes(whole)
    for missing in (False, True):
        if missing:
            biggest.unlink()
        result = click_testing.CliRunner().invoke(cli, ["check", str(texts)])
        assert result.exit_code == 1
        assert biggest.name in result.stdout
    assert "generation 3 now; it has 0 documents" in run("recover", texts)
    run("add", texts, write_jsonl(texts.parent / "more.jsonl", [{"id": "a", "text": "b"}]), "--encoder", "hash")
    assert run("check", texts) == "no problems\n"


def test_errors_are_one_line(texts: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (("search", texts, "fox"), "recorded"),
        (("create", texts, "--dim", 8), "already"),
        (("create", tmp_path / "x", "--dim", 8, "--encoder", "hash"), "dim=8"),
        (("delete", texts, "nope"), "nope"),
        (("add", texts, write_jsonl(tmp_path / "bad.jsonl", [{"text": "x"}]), "--encoder", "hash"), "'_id'"),
        (("info", tmp_path), "index"),
    ):
        message = run(*arguments, code=1)
        assert len(message.splitlines()) == 1
        assert message.startswith("latewood: ")
        assert words in message


def test_wrong_usage(texts: Path) -> None:
    run("search", texts, code=2)
    run("search", texts, "fox", "--queries", texts, code=2)
    run("search", texts, "fox", "-k", 0, code=2)
    run("search", texts, "fox", "--encoder", "hash", "--filter", "{", code=2)
    run("info", texts / "nowhere", code=2)
    run("nonsense", code=2)


def test_an_error_leaves_nothing_behind(texts: Path, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "more.jsonl", [{"id": "new", "text": "x"}, {"id": "fox", "text": "again"}])
    run("add", texts, source, "--encoder", "hash", code=1)
    assert len(Index.open(texts)) == 5
    run("add", texts, source, "--encoder", "hash", "--upsert")
    assert len(Index.open(texts)) == 6


def test_as_a_process(texts: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "latewood", *arguments], capture_output=True, text=True, check=False
        )

    version = call("--version")
    assert version.returncode == 0
    assert version.stdout.startswith("latewood ")
    assert "search" in call("--help").stdout
    good = call("check", str(texts), "--json")
    assert (good.returncode, json.loads(good.stdout)) == (0, {"problems": []})
    bad = call("delete", str(texts), "nope")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.count("\n") == 1
    assert call("search").returncode == 2


def test_without_click() -> None:
    code = "import sys; sys.modules['click'] = None; from latewood.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "pip install 'latewood[cli]'" in result.stderr


@pytest.mark.parametrize("nothing", ["", " \n", None])
def test_empty_texts_are_counted(texts: Path, tmp_path: Path, nothing: str | None) -> None:
    source = write_jsonl(tmp_path / "more.jsonl", [{"id": "nothing", "text": nothing}, {"id": "owl", "text": "owl"}])
    add = ("add", texts, source, "--encoder", "hash")
    assert "'nothing' is empty" in run(*add, "--on-empty", "error", code=1)
    before = json.loads(run("info", texts, "--json"))["documents"]
    added = json.loads(run(*add, "--upsert", "--on-empty", "skip", "--json"))
    assert added == {"added": 1, "empty": 1, "documents": before + 1}
    assert "added 2 (1 empty: kept)" in run(*add, "--upsert")
    information = json.loads(run("info", texts, "--json"))
    assert (information["documents"], information["truncated_documents"]) == (before + 2, 0)
    assert "truncated_documents" in run("info", texts)


def test_a_line_without_the_key_text_is_a_mistake(texts: Path, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "more.jsonl", [{"id": "x", "content": "owl"}, {"id": "y", "text": "owl"}])
    assert "'x' is a NoneType" in run("add", texts, source, "--encoder", "hash", code=1)
