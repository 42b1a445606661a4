"""The encoder inside the wheel, which is what text gets by default."""

from pathlib import Path

import numpy as np
import pytest

from latewood import Index, Reranker
from latewood.encode import OnnxEncoder, as_encoder, nano_en
from latewood.encode.nano import NAME, has_nano
from latewood.errors import EncoderMismatchError, EncoderRequiredError
from support import TEXTS, HashEncoder, run_python

pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytestmark = pytest.mark.skipif(not has_nano(), reason="the model latewood/nano-en is not in this source tree yet")


def test_the_model() -> None:
    encoder = nano_en()
    assert as_encoder(NAME) is encoder
    assert isinstance(encoder, OnnxEncoder)
    assert encoder.name == NAME
    assert encoder.revision
    encoded = encoder.encode_document(["a dog", "word " * 1000])
    short, long = encoded
    assert (short.shape, len(long)) == ((4, encoder.dim), 1002)
    assert encoded.truncated.tolist() == [False, False]
    cut = encoder.encode_document(["a dog", "word " * 1000], long="cut")
    np.testing.assert_array_equal(cut[0], short)
    assert (len(cut[1]), cut.truncated.tolist()) == (300, [False, True])
    np.testing.assert_allclose(np.linalg.norm(long, axis=1), 1.0, atol=1e-3)


def test_neighbours_do_not_matter() -> None:
    encoder = nano_en()
    texts = [*TEXTS.values(), "word " * 200, "word " * 999]
    for text, together in zip(texts, encoder.encode_document(texts), strict=True):
        np.testing.assert_array_equal(encoder.encode_document([text])[0], together)


def test_text_without_a_word_about_encoders(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index")
    index.add(list(TEXTS), texts=list(TEXTS.values()))
    question = "Which city is the seat of the German government?"
    assert index.search(question, 1)[0].id == "berlin"
    recorded = index.recorded_encoder
    assert recorded is not None
    assert recorded["name"] == NAME
    reopened = Index.open(index.path)
    assert reopened.search(question, 1)[0].id == "berlin", "no encoder= either: this one is part of the library"
    explanation = reopened.search("capital", 1)[0].explain()
    assert explanation.query_tokens is not None
    assert "capital" in explanation.query_tokens
    assert isinstance(Index.open(index.path, encoder="recorded").encoder, OnnxEncoder)


def test_the_reranker() -> None:
    documents = list(TEXTS.values())
    ranked = Reranker().rank("german capital", documents, top_k=1, return_documents=True)
    assert ranked[0]["text"] == TEXTS["berlin"]


def test_other_encoders_are_kept_apart(tmp_path: Path) -> None:
    own = Index.create(tmp_path / "own")
    with pytest.raises(EncoderMismatchError, match="hash"):
        own.use_encoder(HashEncoder(dim=own.dim))
    other = Index.create(tmp_path / "other", encoder=HashEncoder(dim=own.dim))
    with pytest.raises(EncoderMismatchError, match=NAME):
        Index.open(other.path, encoder=NAME)
    with pytest.raises(EncoderRequiredError, match="hash"):
        Index.open(other.path).search("fox")


def test_another_revision_is_refused(tmp_path: Path) -> None:
    class Older(HashEncoder):
        def __init__(self) -> None:
            super().__init__(dim=64, name=NAME)
            self.revision = "long ago"

    index = Index.create(tmp_path / "index", encoder=Older())
    with pytest.raises(EncoderMismatchError, match="revision"):
        Index.open(index.path).search("fox")
    index.add(["a"], vectors=[np.ones((1, 64), np.float32)])
    assert Index.open(index.path).search(np.ones((1, 64), np.float32), 1)[0].id == "a", "vectors go on"


def test_the_missing_extra_is_named(tmp_path: Path) -> None:
    code = """
import json, sys
sys.modules["onnxruntime"] = None
import latewood
from latewood.errors import MissingDependencyError
messages = []
for call in (lambda: latewood.Index.create(sys.argv[1]), lambda: latewood.Reranker().rank("a", ["b"])):
    try:
        call()
    except MissingDependencyError as error:
        messages.append(str(error))
print(json.dumps(messages))
"""
    messages = run_python(code, tmp_path / "index")
    assert len(messages) == 2
    assert all("pip install 'latewood[text]'" in message for message in messages)
    assert "pass dim=" in messages[0]
    assert not (tmp_path / "index").exists()
