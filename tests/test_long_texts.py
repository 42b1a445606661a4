"""Texts longer than an encoder takes: windows against windows put together by hand, cuts, errors; and empty texts."""

import json
import pickle
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import latewood
from latewood import Index, Reranker
from latewood.encode import Encoded, OnnxEncoder, SentenceTransformersEncoder, encode_documents, encode_queries
from latewood.encode.nano import has_nano, nano_en
from latewood.encode.windows import OVERLAP, Row, divide
from latewood.errors import EncoderError, InvalidInputError, TextTooLongError
from latewood.evaluate import load_beir
from support import TEXTS, HashEncoder, run_python

onnxruntime = pytest.importorskip("onnxruntime")
tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("onnx")

from onnx_models import save_bytes_model  # noqa: E402  it needs onnx

LIMIT = 32
"""Tokens that the made model takes, [CLS] and [SEP] included."""

LONG: dict[str, str] = {
    "words": " ".join(f"{word} {number}" for number, word in enumerate(" ".join(TEXTS.values()).split())),
    "one over": "x" * (LIMIT - 1),
    "no boundary": "abcdefghij" * 30,
    "one letter": "a" * 500,
    "chinese": "東京は日本の首都である" * 20,
    "emoji": "🌲🦉🇫🇷" * 25,
    "combining": "e\u0301\u0323" * 60,
    "spaces": " " * 100 + "x" + "\n" * 100,
    "special": "[MASK] and [SEP] " * 10,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bytes_model(tmp_path_factory.mktemp("bytes") / "model", query_length=LIMIT, document_length=LIMIT)


def configured(folder: Path, target: Path, **changes: Any) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (target / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return target


# -- how tokens are divided


def windows_of(folder: Path, text: str, limit: int, prompt: str = "") -> tuple[Any, list[Row]]:
    encoding = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(prompt + text)
    return encoding, divide(0, encoding, limit, "windows", prompt=prompt)


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("limit", [3, 4, 7, LIMIT, 100])
def test_each_token_is_taken_once_and_each_window_fits(folder: Path, name: str, limit: int) -> None:
    encoding, rows = windows_of(folder, LONG[name], limit)
    taken = np.concatenate([row.tokens[row.first : row.last] for row in rows])
    np.testing.assert_array_equal(taken, np.arange(len(encoding)))
    room = limit - 2
    for row in rows:
        assert len(row.ids) == len(row.tokens) <= limit
        np.testing.assert_array_equal(row.ids, np.array(encoding.ids)[row.tokens])
        assert (row.tokens[0], row.tokens[-1]) == (0, len(encoding) - 1), "[CLS] and [SEP] are around each"
        assert (np.diff(row.tokens[1:-1]) == 1).all()
    if len(rows) > 1:
        assert len(rows) == -(-(len(encoding) - 2 - room // OVERLAP) // (room - room // OVERLAP)), "as few as will do"
        lengths = [len(row.ids) for row in rows]
        assert max(lengths) - min(lengths) <= room // OVERLAP // 2 + 1, "of about one length"
    for row, following in pairwise(rows):
        shared = len(np.intersect1d(row.tokens[1:-1], following.tokens[1:-1]))
        assert shared >= room // OVERLAP - room // OVERLAP // 2


def test_windows_start_with_words(folder: Path) -> None:
    encoding, rows = windows_of(folder, "is it so " * 40, 64)
    assert len(rows) > 5
    for row in rows[1:]:
        start = int(row.tokens[1])
        assert encoding.token_to_word(start) != encoding.token_to_word(start - 1)


def test_random_lengths_and_limits(folder: Path) -> None:
    generator = random.Random(3)
    for _ in range(200):
        text = "".join(generator.choices("ab c", k=generator.randrange(400)))
        encoding, rows = windows_of(folder, text, generator.randrange(3, 90))
        taken = np.concatenate([row.tokens[row.first : row.last] for row in rows])
        np.testing.assert_array_equal(taken, np.arange(len(encoding)))


# -- their vectors


def by_hand(folder: Path, text: str, limit: int, prompt: str = "") -> list[list[NDArray[np.float32]]]:
    """Vectors of each token of the text: those from the window that knows most of its neighbours, both if two do.

    Each window goes through the graph alone.
    """
    encoding, rows = windows_of(folder, text, limit, prompt)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    total = len(encoding)
    head = 1 + len(prompt)
    found: list[list[tuple[float, NDArray[np.float32]]]] = [[] for _ in range(total)]
    for number, row in enumerate(rows):
        given = {"input_ids": row.ids[None], "attention_mask": np.ones_like(row.ids)[None]}
        vectors = session.run(["token_embeddings"], given)[0][0]
        start, stop = int(row.tokens[head]), int(row.tokens[-2]) + 1
        for token, vector in zip(row.tokens.tolist(), vectors, strict=True):
            before = np.inf if number == 0 else token - start
            behind = np.inf if number == len(rows) - 1 else stop - 1 - token
            if token < head:
                before, behind = (np.inf, np.inf) if number == 0 else (-1, -1)
            if token == total - 1:
                before, behind = (np.inf, np.inf) if number == len(rows) - 1 else (-1, -1)
            found[token].append((min(before, behind), vector))
    return [[vector for known, vector in one if known == max(one, key=lambda pair: pair[0])[0]] for one in found]


def assert_by_hand(got: NDArray[np.float32], wanted: list[list[NDArray[np.float32]]]) -> None:
    assert len(got) == len(wanted)
    for one, choices in zip(got, wanted, strict=True):
        assert any(np.allclose(one, choice, atol=1e-4) for choice in choices)


@pytest.mark.parametrize("name", LONG)
def test_the_vectors_are_those_of_windows_by_hand(folder: Path, name: str) -> None:
    encoder = OnnxEncoder(folder, batch_tokens=100)
    for encode in (encoder.encode_document, encoder.encode_query):
        encoded = encode(["short", LONG[name], "also short"])
        assert_by_hand(encoded[1], by_hand(folder, LONG[name], LIMIT))
        assert encoded.truncated.tolist() == [False] * 3
        for short, at in (("short", 0), ("also short", 2)):
            np.testing.assert_allclose(encoded[at], encoder.encode_document([short])[0], atol=1e-5)


def test_a_prompt_is_in_each_window_and_kept_once(folder: Path, tmp_path: Path) -> None:
    prompt = "about: "
    model = configured(folder, tmp_path / "model", document_prefix=prompt)
    encoder = OnnxEncoder(model)
    _, rows = windows_of(folder, LONG["words"], LIMIT, prompt)
    # The last space goes with the next word in byte-level tokenizers, but each byte is a token here.
    assert all(row.tokens[: 1 + len(prompt)].tolist() == list(range(1 + len(prompt))) for row in rows)
    assert_by_hand(encoder.encode_document([LONG["words"]])[0], by_hand(folder, LONG["words"], LIMIT, prompt))
    assert encoder.document_spans(LONG["words"])[: 2 + len(prompt)] == [(0, 0)] * (1 + len(prompt)) + [(0, 1)]


def test_a_limit_without_room_for_text(folder: Path, tmp_path: Path) -> None:
    model = configured(folder, tmp_path / "model", document_prefix="a very long prompt that fills all: ")
    with pytest.raises(EncoderError, match=r"takes 32 tokens.*are 37: no room"):
        OnnxEncoder(model).encode_document(["text"])
    assert len(OnnxEncoder(model, long="cut").encode_document(["text"])[0]) == LIMIT


def test_a_text_that_fits_is_as_it_was(folder: Path) -> None:
    encoder = OnnxEncoder(folder, batch_tokens=1)
    exact = "x" * (LIMIT - 2)
    results = [encoder.encode_document([exact], long=long)[0] for long in ("windows", "cut", "error")]
    assert len(results[0]) == LIMIT
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize("name", LONG)
def test_labels_and_spans_are_those_of_the_vectors(folder: Path, name: str) -> None:
    encoder = OnnxEncoder(folder)
    text = LONG[name]
    count = len(encoder.encode_document([text])[0])
    whole = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text)
    assert encoder.document_tokens(text) == encoder.query_tokens(text) == whole.tokens
    assert encoder.document_spans(text) == whole.offsets
    assert len(whole.tokens) == count
    assert {at for first, last in whole.offsets for at in range(first, last)} == set(range(len(text)))
    cut = OnnxEncoder(folder, long="cut")
    assert cut.document_tokens(text) == [*whole.tokens[: LIMIT - 1], "[SEP]"]
    assert cut.document_spans(text) == [*whole.offsets[: LIMIT - 1], (0, 0)]


def test_a_query_is_expanded_only_if_it_fits(folder: Path, tmp_path: Path) -> None:
    model = configured(folder, tmp_path / "model", do_query_expansion=True)
    encoder = OnnxEncoder(model)
    assert encoder.query_tokens("dog") == ["[CLS]", *"dog", "[SEP]"] + ["[MASK]"] * (LIMIT - 5)
    assert len(encoder.encode_query(["dog"])[0]) == LIMIT
    text = LONG["no boundary"]
    together = encoder.encode_query(["dog", text, "fox"])
    assert "[MASK]" not in encoder.query_tokens(text)
    assert_by_hand(together[1], by_hand(folder, text, LIMIT))
    for short, at in (("dog", 0), ("fox", 2)):
        np.testing.assert_allclose(together[at], encoder.encode_query([short])[0], atol=1e-5)


def test_a_megabyte_stays_within_memory(folder: Path, tmp_path: Path) -> None:
    """A million tokens of 8 dimensions are 32 MB; what a run holds beside them is bounded by a batch."""
    model = configured(folder, tmp_path / "model", document_length=512)
    code = """
import json, resource, sys
sys.path.insert(0, sys.argv[2])
from latewood.encode import OnnxEncoder
encoder = OnnxEncoder(sys.argv[1])
encoder.encode_document(["warm"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
vectors = encoder.encode_document(["a" * 1_000_000])[0]
print(json.dumps([len(vectors), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""
    count, more = run_python(code, model, Path(latewood.__file__).parents[1])
    assert count == 1_000_002
    assert more < 600_000, "kilobytes"


# -- what is asked for


def test_cuts_are_marked_and_errors_name_the_text(folder: Path, tmp_path: Path) -> None:
    texts = ["dog", LONG["words"]]
    encoder = OnnxEncoder(folder)
    cut = encoder.encode_document(texts, long="cut")
    assert (cut.truncated.tolist(), len(cut[1])) == ([False, True], LIMIT)
    total = len(encoder.encode_document(texts)[1])
    with pytest.raises(
        TextTooLongError, match=rf"at position 1 has {total} tokens.*takes 32.*'windows'.*'cut'"
    ) as caught:
        encoder.encode_query(texts, long="error")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.tokens, again.limit, again.position, str(again)) == (total, LIMIT, 1, str(caught.value))
    with pytest.raises(TextTooLongError, match=r"the text of document 'b' has"):
        encode_documents(encoder, ["", "dog", LONG["words"]], names=["empty", "a", "b"], long="error")
    with pytest.raises(TextTooLongError, match=r"the text of query at position 2 has"):
        encode_queries(OnnxEncoder(folder, long="error"), ["dog", "fox", LONG["words"]])
    index = Index.create(tmp_path / "index", encoder=OnnxEncoder(folder, long="error"))
    with pytest.raises(TextTooLongError, match="'b'"):
        index.add(["a", "b"], texts=texts)
    assert len(index) == 0


def test_an_index_takes_documents_of_both_kinds(folder: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", encoder=OnnxEncoder(folder))
    index.add(["whole"], texts=[LONG["words"]])
    other = Index.open(index.path, encoder=OnnxEncoder(folder, long="cut"))
    other.add(["cut"], texts=[LONG["words"]])
    assert [len(one) for one in other.vectors(["whole", "cut"])][1] == LIMIT
    assert other.info()["truncated_documents"] == 1


def test_the_call_goes_before_the_encoder(folder: Path) -> None:
    text = LONG["words"]
    whole = OnnxEncoder(folder).encode_document([text])[0]
    for long in ("windows", "cut", "error"):
        encoder = pickle.loads(pickle.dumps(OnnxEncoder(folder, long=long)))
        np.testing.assert_array_equal(encoder.encode_document([text], long="windows")[0], whole)
        assert len(encode_documents(encoder, [text], long="cut").values) == LIMIT
    with pytest.raises(InvalidInputError, match="long must be one of 'windows', 'cut', 'error'"):
        OnnxEncoder(folder, long="shorten")  # type: ignore[arg-type]


def test_an_encoder_of_ones_own_is_asked_only_if_it_can_be() -> None:
    class Able(HashEncoder):
        def encode_document(self, inputs: list[str], /, *, long: str | None = None) -> Any:
            vectors = super().encode_document(inputs)
            cut = [long == "cut" and len(one) > 2 for one in vectors]
            return Encoded([one[:2] if mark else one for one, mark in zip(vectors, cut, strict=True)], cut)

    text = "one two three"
    assert len(encode_documents(Able(), [text], long="cut").values) == 2
    assert len(encode_documents(Able(), [text]).values) == 3
    assert len(encode_documents(HashEncoder(), [text]).values) == 3
    with pytest.raises(InvalidInputError, match=r"HashEncoder\.encode_document has no parameter long.*long=None"):
        encode_documents(HashEncoder(), [text], long="cut")
    with pytest.raises(InvalidInputError, match=r"Able\.encode_query has no parameter long"):
        encode_queries(Able(), [text], long="windows")


@pytest.mark.skipif(not has_nano(), reason="the model latewood/nano-en is not in this source tree yet")
def test_the_end_of_a_long_text_is_found(tmp_path: Path) -> None:
    padding = "The committee met on Tuesday and talked about the budget of the coming year. " * 60
    secret = "Beavers build dams from branches."
    question = "Which animal builds dams?"
    index = Index.create(tmp_path / "index")
    index.add(["end", "other"], texts=[padding + secret, padding])
    assert index.info()["truncated_documents"] == 0
    first, second = index.search(question, 2)
    assert first.id == "end"
    assert first.score > second.score
    explanation = first.explain()
    assert explanation.document_tokens is not None
    assert explanation.document_tokens[int(np.argmax(explanation.matrix[3]))] in ("build", "dams")
    documents = [padding, padding + secret]
    assert Reranker().rank(question, documents)[0]["corpus_id"] == 1
    cut = Reranker(nano_en(long="cut")).rank(question, documents)
    assert cut[0]["score"] == cut[1]["score"], "the ends of both are cut off"
    assert nano_en(long="cut") is nano_en(long="cut")
    assert nano_en() is nano_en(long="windows")


@pytest.mark.skipif(not has_nano(), reason="the model latewood/nano-en is not in this source tree yet")
def test_spans_show_the_text(tmp_path: Path) -> None:
    text = "Straße, ÉTÉ and 北京 (again). " * 80
    encoder = nano_en()
    spans = encoder.document_spans(text)
    assert len(spans) == len(encoder.encode_document([text])[0])
    told = "".join(text[first:last] for first, last in spans)
    assert told == text.replace(" ", "").replace(",", "").replace("(", "").replace(")", "").replace(".", "")


# -- through sentence-transformers


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from test_onnx import tiny_model

    folder = tmp_path_factory.mktemp("tiny")
    return tiny_model(folder / "source", document_length=24, query_length=12, prompts={"document": "the ", "query": ""})


TEXT = " ".join(TEXTS.values()) + " " + " ".join(reversed(list(TEXTS.values())))


def test_a_pooling_model_pools_the_whole_text(tiny: Any) -> None:
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    from latewood.train import CrispPooling

    plain = SentenceTransformersEncoder(tiny)
    vectors = plain.encode_document([TEXT, "a dog"])
    assert len(vectors[0]) > 2 * 24
    for pooling in (HierarchicalTokenPooling(3.0), CrispPooling(None, 5)):
        model = MultiVectorEncoder(modules=[*tiny, pooling], device="cpu", prompts=tiny.prompts)
        pooled = SentenceTransformersEncoder(model).encode_document([TEXT, "a dog"])
        torch = pytest.importorskip("torch")
        wanted = pooling.pool([torch.from_numpy(one) for one in vectors], task="document")
        for one, other in zip(pooled, wanted, strict=True):
            np.testing.assert_allclose(one, other.numpy(), atol=1e-5)
        query = SentenceTransformersEncoder(model).encode_query([TEXT])
        np.testing.assert_allclose(query[0], plain.encode_query([TEXT])[0], atol=1e-6)


def test_a_very_long_text_is_pooled_in_stretches(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    torch = pytest.importorskip("torch")
    monkeypatch.setattr("latewood.encode.pipeline.POOLED_TOGETHER", 30)
    pooling = HierarchicalTokenPooling(3.0)
    vectors = torch.from_numpy(SentenceTransformersEncoder(tiny).encode_document([TEXT])[0])
    stretches = torch.tensor_split(vectors, -(-len(vectors) // 30))
    assert len(stretches) > 2
    wanted = torch.cat(pooling.pool(list(stretches), task="document")).numpy()
    model = MultiVectorEncoder(modules=[*tiny, pooling], device="cpu", prompts=tiny.prompts)
    np.testing.assert_allclose(SentenceTransformersEncoder(model).encode_document([TEXT])[0], wanted, atol=1e-5)


def test_batches_and_the_side_of_padding_do_not_matter(tiny: Any) -> None:
    texts = [TEXT, "a dog", TEXT[:150], "word " * 40]
    wanted = SentenceTransformersEncoder(tiny).encode_document(texts)
    tiny.tokenizer.padding_side = "left"
    try:
        for size in (1, 3):
            got = SentenceTransformersEncoder(tiny, batch_size=size).encode_document(texts)
            for position in (0, 2, 3):
                np.testing.assert_allclose(got[position], wanted[position], atol=1e-5)
    finally:
        tiny.tokenizer.padding_side = "right"


def test_cuts_errors_and_prompts_of_sentence_transformers(tiny: Any, tmp_path: Path) -> None:
    encoder = SentenceTransformersEncoder(tiny, long="error")
    with pytest.raises(TextTooLongError, match="position 1"):
        encoder.encode_document(["a dog", TEXT])
    with pytest.raises(TextTooLongError, match="position 0"):
        encoder.encode_query([TEXT])
    cut = encoder.encode_query(["a dog", TEXT], long="cut")
    assert isinstance(cut, Encoded)
    assert (cut.truncated.tolist(), len(cut[1])) == ([False, True], 12)
    own = encoder.encode_document([TEXT], long="windows", prompt="of dog ")[0]
    named = SentenceTransformersEncoder(tiny)
    assert len(own) == len(named.encode_document([TEXT])[0]) + 1
    assert np.abs(own - named.encode_document(["dog " + TEXT], prompt="of ")[0][: len(own)]).max() > 0.01
    with pytest.raises(EncoderError, match="no prompt 'nothing', but 'query', 'document'"):
        named.encode_document([TEXT], prompt_name="nothing")
    scores = [Reranker(one).rank("dog", [TEXT, "a dog"])[0]["score"] for one in (named, OnnxLike(named))]
    assert scores[0] == pytest.approx(scores[1])


class OnnxLike:
    """Hands on, and is nothing that the reranker knows."""

    def __init__(self, inner: Any) -> None:
        self.encode_query = inner.encode_query
        self.encode_document = inner.encode_document


def test_where_tokens_cannot_be_told(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latewood.encode.pipeline.Pipeline.tokenized", lambda *_: None)
    encoder = SentenceTransformersEncoder(tiny)
    assert not isinstance(encoder.encode_document([TEXT]), Encoded)
    assert len(encoder.encode_document([TEXT])[0]) == 24
    with pytest.raises(EncoderError, match="cannot tell beforehand"):
        encoder.encode_document([TEXT], long="error")


# -- empty texts


NOTHING = ("", " \n", "\t\u2003")


@pytest.mark.parametrize("nothing", NOTHING)
def test_empty_texts_are_kept_skipped_or_refused(folder: Path, tmp_path: Path, nothing: str) -> None:
    encoder = OnnxEncoder(folder, long="cut")
    index = Index.create(tmp_path / "index", encoder=encoder)
    ids, texts = ["none", "long", "dog"], [nothing, LONG["words"], "dog"]
    with pytest.raises(InvalidInputError, match=r"the text of document 'none' is empty; .*on_empty='keep' or 'skip'"):
        index.add(ids, texts=texts, on_empty="error")
    assert len(index) == 0
    with index.writer() as writer:
        writer.add(ids, texts=texts, metadata=[{"n": 0}, {"n": 1}, {"n": 2}], on_empty="skip")
        assert writer.empty == 1
    assert index.ids() == ["long", "dog"]
    assert index.info()["truncated_documents"] == 1
    assert [one.metadata for one in index.documents(["long", "dog"])] == [{"n": 1}, {"n": 2}]
    with index.writer() as writer:
        writer.add(["none"], texts=[nothing])
        writer.upsert(["more", "dog"], texts=[nothing, nothing], on_empty="skip")
        assert writer.empty == 3
    assert index.ids() == ["long", "dog", "none"]
    assert {hit.id for hit in index.search("dog")} == {"long", "dog"}
    assert index.documents(["none"])[0].text == nothing
    hits = index.rerank("dog", ["none", "dog"])
    assert (hits[-1].id, hits[-1].score) == ("none", -np.inf)
    with pytest.raises(InvalidInputError, match="the text of query at position 0 is empty; there is nothing"):
        index.search(nothing)
    index.add(["last"], texts=[nothing])
    assert len(index) == 4


def test_vectors_of_empty_texts(folder: Path) -> None:
    encoder = OnnxEncoder(folder)
    texts = ["", "dog", " ", "fox"]
    kept, skipped = encode_documents(encoder, texts), encode_documents(encoder, texts, on_empty="skip")
    assert kept.lengths.tolist() == [0, 5, 0, 5]
    assert skipped.lengths.tolist() == [5, 5]
    np.testing.assert_array_equal(kept.values, skipped.values)
    with pytest.raises(InvalidInputError, match="position 0 is empty"):
        encode_documents(encoder, texts, on_empty="error")
    with pytest.raises(InvalidInputError, match="position 1 is empty"):
        encode_queries(encoder, ["dog", ""])


def test_nothing_but_empty_texts(folder: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", encoder=folder)
    index.add(["a", "b"], texts=["", " "], on_empty="skip")
    assert len(index) == 0
    index.add(["a", "b"], texts=["", " "])
    assert (len(index), index.search("dog")) == (2, [])


def test_empty_texts_of_a_reranker(folder: Path) -> None:
    ranked = Reranker(folder).rank("dog", ["", "fox", "dog"])
    assert (ranked[-1]["corpus_id"], ranked[-1]["score"]) == (0, -np.inf)
    assert Reranker(folder).rank("dog", ["", " "])[0]["score"] == -np.inf
    with pytest.raises(InvalidInputError, match="empty"):
        Reranker(folder).rank("", ["dog"])


def test_vectors_without_tokens_go_the_same_way(tmp_path: Path) -> None:
    nothing = np.zeros((0, 4), np.float32)
    vectors = [nothing, np.ones((2, 4), np.float32), nothing, 2 * np.ones((1, 4), np.float32)]
    for on_empty, ids in (("keep", [0, 1, 2, 3]), ("skip", [1, 3])):
        index = Index.create(tmp_path / on_empty, dim=4)
        with index.writer() as writer:
            writer.add(range(4), vectors=vectors, texts=list("abcd"), on_empty=on_empty)  # type: ignore[arg-type]
            assert writer.empty == 2
        assert index.ids().tolist() == ids  # type: ignore[union-attr]
        assert [one.text for one in index.documents([1, 3])] == ["b", "d"]
        assert index.search(np.ones((1, 4), np.float32), 1)[0].id == 3
    with pytest.raises(InvalidInputError, match="no tokens"):
        index.add([7], vectors=[nothing], on_empty="error")


def test_a_text_of_which_nothing_is_scored_is_empty(tmp_path: Path) -> None:
    class Quiet(HashEncoder):
        def encode_document(self, inputs: list[str], /) -> Any:
            return [np.zeros((0, self.dim), np.float32) if text == "!" else one for text, one in self._pairs(inputs)]

        def _pairs(self, inputs: list[str]) -> Any:
            return zip(inputs, super().encode_document(inputs), strict=True)

    index = Index.create(tmp_path / "index", encoder=Quiet())
    index.add(["a", "b"], texts=["!", "dog"], on_empty="skip")
    assert index.ids() == ["b"]
    index.add(["a"], texts=["!"])
    assert len(index) == 2
    with pytest.raises(InvalidInputError, match="'c' has no tokens"):
        index.add(["c"], texts=["!"], on_empty="error")


def test_a_beir_folder_with_empty_documents(folder: Path, tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = [
        {"_id": "a", "title": "", "text": "dog"},
        {"_id": "b", "title": None, "text": None},
        {"_id": "c", "text": " "},
        {"_id": "d", "title": "fox", "text": ""},
    ]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "dog"}\n', encoding="utf-8")
    collection = load_beir(tmp_path)
    assert collection.empty() == ["b", "c"]
    index = Index.create(tmp_path / "index", encoder=folder)
    index.add(list(collection.corpus), texts=collection.texts())
    assert (len(index), index.search("dog", 1)[0].id) == (4, "a")


def test_the_tokens_of_a_text_that_was_cut_are_named(tmp_path: Path) -> None:
    if not has_nano():
        pytest.skip("the model latewood/nano-en is not in this source tree yet")
    text = " ".join(f"word{n} in a row" for n in range(200))
    count = 0
    for long in ("cut", "windows"):
        index = Index.create(tmp_path / long)
        index.add(["long"], texts=[text], long=long)
        told = index.search("word7", k=1)[0].explain()
        tokens, spans = told.document_tokens, told.document_spans
        assert tokens is not None
        assert spans is not None
        count = told.matrix.shape[1]
        assert len(tokens) == len(spans) == count
        for token, (first, last) in zip(tokens, spans, strict=True):
            assert text[first:last] == ("" if token.startswith("[") else token.removeprefix("##"))
    encoder = index.encoder
    assert isinstance(encoder, OnnxEncoder)
    # What is given is the caller's own.
    encoder.document_tokens(text).clear()
    assert len(encoder.document_tokens(text)) == len(encoder.document_spans(text)) == count
    assert len(encoder.document_tokens(text, long="cut")) < count
