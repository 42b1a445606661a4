"""The command line, in process by click's runner and once as a process."""

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Feedback, Index
from latewood.encode.nano import has_nano
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

    for place in ("latewood.index.index", "latewood.index.encoding"):
        monkeypatch.setattr(f"{place}.as_encoder", as_encoder)


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


def ask(index: Index, **options: Any) -> list[Any]:
    return index.search("lazy dog and a quick fox", **options).to_dicts()


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--group-by", "words"], {"group_by": "words"}),
        (["--rescore", "float16"], {"rescore": "float16"}),
        (["--rescore", "off"], {"rescore": "off"}),
        (["--offset", 2, "-k", 2], {"offset": 2, "k": 2}),
        (["--length-normalize"], {"length_normalize": True}),
        (["--length-normalize", "--min-score", 0.3], {"length_normalize": True, "min_score": 0.3}),
        (["--gather", "flood", "--max-scored", 1, "-k", 1], {"gather": "flood", "max_scored": 1, "k": 1}),
        (
            ["--gather", "postings", "--probes", 1, "--threshold", 0.1, "-k", 2],
            {"gather": "postings", "probes": 1, "threshold": 0.1, "k": 2},
        ),
        (["--threads", 1, "--filter", '{"words": 6}'], {"threads": 1, "filter": {"words": 6}}),
    ],
    ids=str,
)
def test_options_of_a_search_are_those_of_the_library(
    texts: Path, tmp_path: Path, words: list[Any], options: dict[str, Any]
) -> None:
    path = tmp_path / "trained"
    run("create", path, "--encoder", "hash", "--train-after", 0, "--keep-vectors", "float16", "--bits", 1)
    run("add", path, tmp_path / "texts.jsonl", "--encoder", "hash")
    search = ("search", path, "lazy dog and a quick fox", "--encoder", "hash", "--json")
    found = json.loads(run(*search, *words))
    assert found == ask(Index.open(path, encoder=HashEncoder()), **options)
    assert found


def test_options_of_a_rerank_are_those_of_the_library(texts: Path, tmp_path: Path) -> None:
    queries = write_jsonl(tmp_path / "queries.jsonl", [{"id": "q", "text": "lazy dog and a quick fox"}])
    first = tmp_path / "first.txt"
    candidates = {key: float(-place) for place, key in enumerate(TEXTS)}
    write_run(first, {"q": candidates})
    index = Index.open(texts, encoder=HashEncoder())
    rerank = ("rerank", texts, "--run", first, "--queries", queries, "--encoder", "hash", "--json")
    for words, options in (
        (["--group-by", "words"], {"group_by": "words"}),
        (["--offset", 1, "-k", 2], {"offset": 1, "k": 2}),
        (["--length-normalize", "--min-score", 0.3], {"length_normalize": True, "min_score": 0.3}),
        (["--filter", '{"words": {"lt": 9}}', "-k", 1], {"filter": {"words": {"lt": 9}}, "k": 1}),
        (["-k", 1, "--alpha", 0.5, "--beta", 2], {"k": 1, "alpha": 0.5, "beta": 2}),
    ):
        found = json.loads(run(*rerank, *words))["hits"]
        assert found == index.rerank("lazy dog and a quick fox", candidates, **options).to_dicts()
        assert found


@pytest.mark.parametrize(("command", "function"), [("search", Index.search_batch), ("rerank", Index.rerank_run)])
def test_names_and_defaults_are_those_of_the_library(command: str, function: Any) -> None:
    from latewood.cli.commands import cli

    options = {option.opts[0].lstrip("-").replace("-", "_"): option for option in cli.commands[command].params}
    elsewhere = {"self", "queries", "run", "ids", "weights", "with_documents"}
    asked = {name: one for name, one in inspect.signature(function).parameters.items() if name not in elsewhere}
    assert set(asked) <= set(options)
    for name, parameter in asked.items():
        default = parameter.default
        # click has no value of its own for "nothing was given" in all its versions.
        assert json.dumps(options[name].default, default=lambda _: None) == json.dumps(default), name
        assert getattr(options[name], "help", None), name


def test_options_without_effect_are_told(texts: Path) -> None:
    from latewood.cli.commands import cli

    search = ["search", str(texts), "lazy dog", "--encoder", "hash", "--json"]
    plain = click_testing.CliRunner().invoke(cli, search)
    given = click_testing.CliRunner().invoke(cli, [*search, "--probes", "4", "--group-by", "nowhere"])
    assert (given.exit_code, given.stdout) == (0, plain.stdout)
    assert given.stderr == "latewood: without effect on this index: --probes, --group-by\n"
    assert plain.stderr == ""


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
    pages = [json.loads(run(*search, "--offset", page, "--json"))["hits"] for page in range(3)]
    assert [[(hit["id"], hit["rank"]) for hit in page] for page in pages] == [[("d2", 1)], [("d3", 2)], []]
    assert "--keep-identical-ids" in run(*search, "--group-by", "page", code=2)
    rerank = ("rerank", path, "--run", result, "--queries", folder, "--encoder", "hash", "-k", 1, "--json")
    assert json.loads(run(*rerank))["hits"][0]["id"] == "d2"
    assert json.loads(run(*rerank, "--keep-identical-ids"))["hits"][0]["id"] == "d1"
    pytest.importorskip("ir_measures")
    evaluate = ("eval", result, folder, "--metric", "nDCG@10", "--json")
    assert json.loads(run(*evaluate)) == {"nDCG@10": 1.0}
    assert json.loads(run(*evaluate, "--keep-identical-ids"))["nDCG@10"] < 0.7


def test_creating_what_is_there(texts: Path) -> None:
    create = ("create", texts, "--encoder", "hash")
    assert "already" in run(*create, code=1)
    assert "pass one of them" in run(*create, "--exist-ok", "--overwrite", code=1)
    assert json.loads(run(*create, "--exist-ok", "--json")) == {"path": str(texts), "dim": 48, "documents": 5}
    assert run(*create, "--overwrite") == f"index {texts}: 48 dimensions, 0 documents\n"


def test_long_texts(texts: Path, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "more.jsonl", [{"id": "long", "text": "owl " * 100}])
    # The hash encoder has no limit, and no say in what becomes of long texts.
    assert "long" in run("add", texts, source, "--encoder", "hash", "--long", "cut", code=1)
    run("add", texts, source, "--encoder", "hash", "--long", "cuts", code=2)
    if has_nano():
        run("create", tmp_path / "nano")
        run("add", tmp_path / "nano", write_jsonl(source, [{"id": "long", "text": "owl " * 999}]), "--long", "cut")
        assert json.loads(run("info", tmp_path / "nano", "--json"))["truncated_documents"] == 1


def test_update_metadata(texts: Path) -> None:
    def metadata() -> dict[Any, Any]:
        return {document.id: document.metadata for document in Index.open(texts).documents(list(TEXTS))}

    words = {key: {"words": len(text.split())} for key, text in TEXTS.items()}
    told = json.loads(run("update", texts, "fox", "paris", "--set", '{"seen": {"by": "me", "at": 1}}', "--json"))
    assert told == {"updated": 2, "documents": 5}
    seen = {"seen": {"by": "me", "at": 1}}
    assert metadata() == {**words, "fox": {**words["fox"], **seen}, "paris": {**words["paris"], **seen}}
    run("update", texts, "--filter", '{"seen.by": "me"}', "--set", '{"seen": {"at": null}, "words": null}')
    assert metadata() == {**words, "fox": {"seen": {"by": "me"}}, "paris": {"seen": {"by": "me"}}}
    run("update", texts, "fox", "--set", '{"n": 1}', "--replace")
    assert metadata()["fox"] == {"n": 1}
    assert run("update", texts, "nope", "fox", "--set", "{}", "--missing", "skip").startswith("updated 1;")
    for arguments, code in (
        (["fox"], 2),
        (["fox", "--set", "[]"], 2),
        (["--set", "{}"], 1),
        (["fox", "--filter", '{"n": 1}', "--set", "{}"], 1),
        (["nope", "--set", "{}"], 1),
        (["--filter", "{}", "--set", "{}"], 1),
    ):
        run("update", texts, *arguments, code=code)
    assert metadata()["fox"] == {"n": 1}


def test_info_check_compact(texts: Path) -> None:
    assert json.loads(run("info", texts, "--json"))["documents"] == 5
    assert "documents" in run("info", texts)
    assert json.loads(run("check", texts, "--json")) == {"problems": []}
    assert run("check", texts) == "no problems\n"
    run("delete", texts, "fox")
    assert "4 documents" in run("compact", texts)
    assert "0" in run("delete", texts, "fox", "--missing", "skip")


def test_tune(texts: Path) -> None:
    told = json.loads(run("tune", texts, "--recall", "0.9", "-k", "2", "--json"))
    assert (told["target"], told["k"], told["queries"], told["documents"]) == (0.9, 2, 5, 5)
    assert Index.open(texts, encoder="hash").search("fox", 2).plan.tuned_documents == 5
    assert "0.95 of the 3 best; nothing was measured" in run("tune", texts, "--recall", "0.95", "-k", "3")
    assert "at most 1" in run("tune", texts, "--recall", "2", code=1)


def test_delete_by_filter(texts: Path) -> None:
    assert "neither of ids and filter" in run("delete", texts, code=1)
    assert "both of ids and filter" in run("delete", texts, "fox", "--filter", '{"words": 9}', code=1)
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


def test_documents_and_queries_are_piped_in(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")

    def piped(lines: list[dict[str, Any]], *arguments: str) -> Any:
        written = "".join(json.dumps(line) + "\n" for line in lines)
        command = [sys.executable, "-m", "latewood", *arguments, "--json"]
        return json.loads(subprocess.run(command, input=written, capture_output=True, text=True, check=True).stdout)

    index = Index.create(tmp_path / "piped")
    documents = [{"id": "owls ü", "text": "Owls hunt at night."}, {"id": "rings", "text": "A ring of a tree."}]
    assert piped(documents, "add", index.path, "-")["added"] == 2
    with pytest.raises(subprocess.CalledProcessError) as failed:
        piped([{"id": "a", "txt": "Text under another name."}], "add", index.path, "-")
    assert "document 'a' has neither 'text' nor 'vectors', but 'id', 'txt'" in failed.value.stderr
    assert Index.open(index.path).ids() == ["owls ü", "rings"]
    found = piped([{"id": "q", "text": "a tree"}], "search", index.path, "--queries", "-", "-k", "1")
    assert (found["query"], found["hits"][0]["id"]) == ("q", "rings")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes as POSIX has them")
def test_runs_are_piped_from_command_to_command(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"id": "q", "text": "a tree"}\n{"id": "r", "text": "an owl"}\n')
    index = Index.create(tmp_path / "index")
    index.add(["owls", "rings"], texts=["Owls hunt at night.", "A ring of a tree."])
    kept = tmp_path / "kept.run"
    kept.write_text("what was there\n")

    def call(*arguments: str, given: str = "") -> str:
        command = [sys.executable, "-m", "latewood", *map(str, arguments)]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=True, timeout=60).stdout

    asked = ("--queries", str(queries), "-k", "2")
    found = call("search", index.path, *asked, "--run", "-")
    assert [line.split()[0] for line in found.splitlines()] == list("qqrr")
    # It is the one that the process writes to, with what stands there already.
    with kept.open("a") as file:
        command = [sys.executable, "-m", "latewood", "search", index.path, *asked, "--run", "/dev/stdout"]
        subprocess.run(command, stdout=file, check=True, timeout=60)
    assert kept.read_text() == f"what was there\n{found}"
    reranked = call("rerank", index.path, "--run", "-", *asked, "--output", "-", given=found)
    assert sorted(line.split()[:3] for line in reranked.splitlines()) == sorted(
        line.split()[:3] for line in found.splitlines()
    )
    run = tmp_path / "a.run"
    run.write_text(reranked)
    first = reranked.split()[2]
    judged = f"q 0 {first} 1\n"
    for arguments, given in (([str(run), "-"], judged), (["-", str(tmp_path / "qrels")], reranked)):
        (tmp_path / "qrels").write_text(judged)
        assert json.loads(call("eval", *arguments, "--metric", "RR@10", "--json", given=given)) == {"RR@10": 1.0}


def test_an_address_is_no_path_of_a_new_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_jsonl(tmp_path / "texts.jsonl", [{"id": "owl", "text": "owl"}])
    assert "latewood publish" in run("create", "s3://bucket/news", "--dim", 4, code=2)
    assert "latewood publish" in run("import", source, "s3://bucket/news", code=2)
    assert list(tmp_path.iterdir()) == [source]


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


@pytest.mark.parametrize("more", [[], ["--upsert"]])
def test_a_file_names_a_document_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]) -> None:
    monkeypatch.setattr("latewood.cli.changes.ADD_CHUNK", 2)
    source = write_jsonl(tmp_path / "texts.jsonl", [{"id": key, "text": "fox"} for key in ("a", "b", "c", "a")])
    run("create", tmp_path / "index", "--encoder", "hash")
    told = run("add", tmp_path / "index", source, "--encoder", "hash", *more, code=1)
    assert f"{source}: two documents have the id 'a'" in told
    assert len(Index.open(tmp_path / "index")) == 0


def test_a_line_without_the_key_text_is_a_mistake(texts: Path, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "more.jsonl", [{"id": "x", "content": "owl"}, {"id": "y", "text": "owl"}])
    assert "'x' has neither 'text' nor 'vectors'" in run("add", texts, source, "--encoder", "hash", code=1)
