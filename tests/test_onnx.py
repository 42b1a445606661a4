"""Text by onnxruntime: ONNX exports of multi-vector models against the same models in torch, and wrong inputs."""

import json
import pickle
import random
import shutil
import string
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Index, Reranker
from latewood.encode import Encoded, OnnxEncoder, SentenceTransformersEncoder, as_encoder, fingerprint
from latewood.errors import EncoderError, EncoderMismatchError, InvalidInputError, MissingDependencyError
from support import TEXTS, run_python

pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")

STRINGS = [
    "",
    " ",
    "?!...",
    "Late interaction compares every query token with every document token.",
    "Un été à Zürich — naïve façade, “quotes”",
    "日本の首都は東京です。",
    "a [MASK] and a [SEP] inside of a text",
    "tab\tand\nnewline\r\nand\x00null",
    "emoji 🌲🦉 and a flag 🇫🇷",
    "word " * 400,
    "," * 400,
    *(" ".join(text.split()[:count]) for text in TEXTS.values() for count in (1, 2, 3, 5, 8)),
    *(f"{number} {chr(97 + number)} is {'very ' * (3 * number)}long" for number in range(14)),
]


def test_there_are_fifty_strings() -> None:
    assert len(STRINGS) == 50


# -- tiny models with random weights


def tiny_model(folder: Path, **options: Any) -> Any:
    """Make a `MultiVectorEncoder`: a BERT of two layers, a projection, and what `options` says."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    package = pytest.importorskip("sentence_transformers")
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    folder.mkdir()
    torch.manual_seed(7)
    words = sorted({word for text in TEXTS.values() for word in text.split()})
    pieces = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase), *string.digits]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[Q]", *pieces, *string.punctuation, *words]
    vocabulary = list(dict.fromkeys(vocabulary))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(
        vocab={word: number for number, word in enumerate(vocabulary)}, model_max_length=64
    )
    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).eval().save_pretrained(folder)
    settings = {
        key: options.pop(key) for key in ("query_length", "document_length", "query_expansion") if key in options
    }
    dense = options.pop("dense", {"out_features": 16, "bias": True, "activation_function": torch.nn.Tanh()})
    modules = [
        Transformer(str(folder), **settings),
        Dense(32, module_input_name="token_embeddings", **dense),
        MultiVectorMask(**options.pop("mask", {"skiplist_words": list(string.punctuation)})),
        Normalize(module_input_name="token_embeddings"),
    ]
    return package.MultiVectorEncoder(modules=modules, device="cpu", **options)


def exported(tmp_path: Path, **options: Any) -> tuple[Any, Path]:
    pytest.importorskip("onnxscript")
    from onnx_models import save_with_graph

    model = tiny_model(tmp_path / "source", **options)
    return model, save_with_graph(model, tmp_path / "model")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model with lengths and prompts."""
    return exported(
        tmp_path_factory.mktemp("tiny"),
        query_length=12,
        document_length=24,
        prompts={"query": "what is ", "document": "the "},
    )


def assert_equal_to_torch(model: Any, encoder: OnnxEncoder) -> None:
    """Cut as sentence-transformers cuts, and in windows as our wrapper of it has them."""
    windows = SentenceTransformersEncoder(model)
    for ours, theirs, in_windows in (
        (encoder.encode_query, model.encode_query, windows.encode_query),
        (encoder.encode_document, model.encode_document, windows.encode_document),
    ):
        cut = theirs(STRINGS, convert_to_numpy=True, show_progress_bar=False)
        for got, wanted in ((ours(STRINGS, long="cut"), cut), (ours(STRINGS), in_windows(STRINGS))):
            assert len(got) == len(wanted)
            for text, one, other in zip(STRINGS, got, wanted, strict=True):
                assert one.dtype == np.float32
                assert one.shape == other.shape, text
                np.testing.assert_allclose(one, other, atol=1e-3, err_msg=text)
        assert max(map(len, ours(STRINGS))) > max(map(len, cut)), "something was divided"


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "expansion": {"query_length": None, "query_expansion": {"strategy": "fixed", "length": 16}},
    "attended": {"query_expansion": {"strategy": "fixed", "length": 16, "attend": True}},
    "floor": {"query_length": 32, "query_expansion": {"strategy": "min", "length": 12, "token": "[UNK]"}},
    "skipped": {"mask": {"skiplist_words": ["the", "of", "nowhere", "?"], "skiplist_tasks": ["query", "document"]}},
    "kept": {"mask": {"keep_only_token_ids": list(range(6, 40))}},
    "residual": {"dense": {"out_features": 24, "bias": False, "use_residual": True}, "document_length": 40},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_vectors_are_those_of_torch(variant: str, tmp_path: Path) -> None:
    model, folder = exported(tmp_path, **VARIANTS[variant])
    assert_equal_to_torch(model, OnnxEncoder(folder))


def test_prompts_and_lengths(tiny: tuple[Any, Path]) -> None:
    model, folder = tiny
    encoder = OnnxEncoder(folder, batch_tokens=40)
    assert_equal_to_torch(model, encoder)
    assert (encoder.dim, encoder.prompts) == (16, {"query": "what is ", "document": "the "})
    theirs = SentenceTransformersEncoder(model)
    for text in ("which tree, ring?", "a dog"):
        assert encoder.query_tokens(text) == theirs.query_tokens(text)
        assert encoder.document_tokens(text) == theirs.document_tokens(text)
    for text in (" ".join(TEXTS.values()), "which tree, ring? " * 9):
        assert encoder.query_tokens(text) == theirs.query_tokens(text)
        assert encoder.document_tokens(text) == theirs.document_tokens(text)
    cut = encoder.encode_document(STRINGS, long="cut")
    assert cut.truncated.tolist() == theirs.encode_document(STRINGS, long="cut").truncated.tolist()  # type: ignore[attr-defined]
    assert 2 <= cut.truncated.sum() <= 30
    assert max(map(len, cut)) <= 24


def test_activations(tmp_path: Path) -> None:
    from latewood.encode.onnx_modules import _ACTIVATIONS

    torch = pytest.importorskip("torch")
    values = np.linspace(-30, 30, 101, dtype=np.float32)
    for name, function in _ACTIVATIONS.items():
        wanted = getattr(torch.nn, name)()(torch.from_numpy(values)).numpy()
        np.testing.assert_allclose(function(values), wanted, atol=1e-6, err_msg=name)


def test_an_index_of_torch_opens_with_onnx(tiny: tuple[Any, Path], tmp_path: Path) -> None:
    model, folder = tiny
    both = shutil.copytree(folder, tmp_path / "model")
    theirs = SentenceTransformersEncoder(model)
    model.latewood_name = str(both)
    try:
        index = Index.create(tmp_path / "index", encoder=theirs)
        index.add(list(TEXTS), texts=list(TEXTS.values()))
        wanted = [(hit.id, round(hit.score, 2)) for hit in index.search("capital of france")]
        reopened = Index.open(index.path, encoder=both)
        assert isinstance(reopened.encoder, OnnxEncoder)
        assert [(hit.id, round(hit.score, 2)) for hit in reopened.search("capital of france")] == wanted
    finally:
        del model.latewood_name


# -- the plain layout


@pytest.fixture(scope="module")
def plain(tiny: tuple[Any, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the wheel holds one: its graph is the transformer of `tiny`, so vectors are not of unit length."""
    folder = tmp_path_factory.mktemp("plain") / "model"
    folder.mkdir()
    shutil.copy(tiny[1] / "onnx" / "model.onnx", folder)
    if (data := tiny[1] / "onnx" / "model.onnx.data").exists():
        shutil.copy(data, folder)
    shutil.copy(tiny[1] / "tokenizer.json", folder)
    configure(folder)
    return folder


def configure(folder: Path, **changes: Any) -> None:
    config = {
        "name": "test/plain",
        "revision": "1",
        "dim": 32,
        "query_length": 10,
        "document_length": 20,
        "query_prefix": "",
        "document_prefix": "",
        "skip_punctuation": True,
        "do_query_expansion": False,
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def test_a_plain_folder(plain: Path) -> None:
    encoder = as_encoder(plain)
    assert isinstance(encoder, OnnxEncoder)
    assert repr(encoder) == "OnnxEncoder('test/plain')"
    known = fingerprint(encoder)
    assert [known[key] for key in ("name", "revision", "dim", "prompts")] == ["test/plain", "1", 32, {}]
    assert encoder.document_tokens("the dog!") == ["[CLS]", "the", "dog", "[SEP]"]
    assert encoder.query_tokens("the dog!") == ["[CLS]", "the", "dog", "!", "[SEP]"]
    assert len(encoder.encode_query(["dog " * 50], long="cut")[0]) == 10
    assert encoder.encode_document([]) == []
    copy = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(copy.encode_query(["dog"])[0], encoder.encode_query(["dog"])[0])


def test_query_expansion_of_a_plain_folder(plain: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(plain, tmp_path / "model")
    configure(folder, do_query_expansion=True)
    assert OnnxEncoder(folder).query_tokens("dog") == ["[CLS]", "dog", "[SEP]"] + 7 * ["[MASK]"]
    assert OnnxEncoder(folder).encode_query(["dog"])[0].shape == (10, 32)


def test_order_and_batches_do_not_matter(plain: Path) -> None:
    texts = [" ".join(random.Random(seed).choices(list(TEXTS), k=seed % 17)) for seed in range(70)]
    one, many = OnnxEncoder(plain, batch_tokens=1, threads=1), OnnxEncoder(plain, batch_tokens=200, threads=2)
    for alone, together in zip(one.encode_document(texts), many.encode_document(texts), strict=True):
        np.testing.assert_allclose(alone, together, atol=1e-5)


def test_texts_that_are_too_long_are_counted(plain: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", encoder=OnnxEncoder(plain, long="cut"))
    assert index.info()["truncated_documents"] == 0
    index.add(["short", "long", "longer"], texts=["a dog", "dog " * 30, "fox " * 90], metadata=[{"n": 1}, None, None])
    index.add(["exact"], texts=["dog " * 18])
    assert index.info()["truncated_documents"] == 2
    assert Index.open(index.path).info()["truncated_documents"] == 2, "it is kept on disk"
    index.upsert(["long"], texts=["a dog"])
    assert index.info()["truncated_documents"] == 1
    index.compact()
    reopened = Index.open(index.path)
    assert (reopened.info()["truncated_documents"], reopened.check()) == (1, [])
    reopened.delete(["longer"])
    assert reopened.info()["truncated_documents"] == 0
    reopened.add(["vectors"], vectors=[np.ones((40, 32), np.float32)])
    assert reopened.info()["truncated_documents"] == 0


def test_marks_survive_the_training_of_the_codec(plain: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", encoder=OnnxEncoder(plain, long="cut"), train_after=200, centroids=8)
    index.add(range(10), texts=["dog " * (10 * (number % 4)) + "fox" for number in range(10)])
    marked = index.info()["truncated_documents"]
    index.add(range(100, 120), texts=[f"fox {number}" for number in range(20)])
    assert index.info()["codec"]["kind"] == "residual"
    assert index.info()["truncated_documents"] == marked == 4


def test_wrong_texts(plain: Path, tmp_path: Path) -> None:
    encoder = OnnxEncoder(plain)
    with pytest.raises(InvalidInputError, match="pass \\[text\\]"):
        encoder.encode_query("dog")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="position 1 is a int"):
        encoder.encode_document(["dog", 5])  # type: ignore[list-item]
    with pytest.raises(InvalidInputError, match="position 0 is a NoneType"):
        encoder.encode_document([None])  # type: ignore[list-item]
    with pytest.raises(InvalidInputError, match="surrogates"):
        encoder.encode_document(["dog \ud800"])
    empty, blank = encoder.encode_document(["", " \n"])
    assert empty.shape == blank.shape == (2, 32), "[CLS] and [SEP]"
    index = Index.create(tmp_path / "index", encoder=encoder)
    with pytest.raises(InvalidInputError, match="'b' is a int"):
        index.add(["a", "b"], texts=["x", 5])  # type: ignore[list-item]
    with pytest.raises(InvalidInputError):
        index.search(5)


def test_another_encoder_is_refused(plain: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", encoder=plain)
    index.add(["dog"], texts=["dog"])
    changed = shutil.copytree(plain, tmp_path / "changed")
    for change in ({"revision": "2"}, {"query_prefix": "q: "}, {"document_length": 30}, {"name": "test/other"}):
        configure(changed, **change)
        with pytest.raises(EncoderMismatchError, match="check_encoder=False"):
            Index.open(index.path, encoder=changed)


def test_options_that_are_wrong(plain: Path) -> None:
    with pytest.raises(InvalidInputError, match="threads"):
        OnnxEncoder(plain, threads=0)
    with pytest.raises(InvalidInputError, match="batch_tokens"):
        OnnxEncoder(plain, batch_tokens=0)


def test_folders_that_are_wrong(plain: Path, tiny: tuple[Any, Path], tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="no folder"):
        OnnxEncoder(tmp_path / "nowhere")
    with pytest.raises(EncoderError, match=r"neither model\.onnx nor modules\.json"):
        OnnxEncoder(tmp_path)
    folder = shutil.copytree(plain, tmp_path / "plain")
    with pytest.raises(EncoderError, match=r"neither other\.onnx"):
        OnnxEncoder(folder, graph="other.onnx")
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(EncoderError, match="onnxruntime"):
        OnnxEncoder(folder).encode_query(["x"])
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(EncoderError, match=r"tokenizer\.json"):
        OnnxEncoder(folder).encode_query(["x"])
    (folder / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match=r"no tokenizer\.json"):
        OnnxEncoder(folder)
    for change in ({"dim": None}, {"dim": "32"}, {"query_length": 0}):
        configure(folder, **change)
        with pytest.raises(EncoderError, match=next(iter(change))):
            OnnxEncoder(folder)
    configure(folder, query_length=None, do_query_expansion=True)
    with pytest.raises(EncoderError, match="query_length"):
        OnnxEncoder(folder)
    (folder / "config.json").write_text("[", encoding="utf-8")
    with pytest.raises(EncoderError, match=r"config\.json"):
        OnnxEncoder(folder)
    wrong = shutil.copytree(plain, tmp_path / "wrong")
    configure(wrong, dim=48)
    with pytest.raises(EncoderError, match=r"gives 32 dimensions.*says 48"):
        OnnxEncoder(wrong).encode_query(["x"])


def _changed(folder: Path, path: str, **changes: Any) -> None:
    config = json.loads((folder / path).read_text(encoding="utf-8"))
    (folder / path).write_text(json.dumps({**config, **changes}), encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "changes", "words"),
    [
        ("config_sentence_transformers.json", {"model_type": "SentenceTransformer"}, "not a MultiVectorEncoder"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "fill-mask"),
        ("sentence_bert_config.json", {"modality_config": {"image": {}, "message": {}}}, "image, message"),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {}}}, "processing_kwargs"),
        ("sentence_bert_config.json", {"query_expansion": {"strategy": "often", "length": 8}}, "often"),
        ("1_Dense/config.json", {"activation_function": "torch.nn.modules.activation.GELU"}, "GELU"),
        ("1_Dense/config.json", {"module_input_name": "sentence_embedding"}, "sentence_embedding"),
        ("1_Dense/config.json", {"use_residual": True}, "residual"),
        ("3_Normalize/config.json", {"module_output_name": "other"}, "other"),
    ],
)
def test_models_that_are_not_supported(
    tiny: tuple[Any, Path], tmp_path: Path, path: str, changes: dict[str, Any], words: str
) -> None:
    folder = shutil.copytree(tiny[1], tmp_path / "model")
    _changed(folder, path, **changes)
    with pytest.raises(EncoderError, match=words):
        OnnxEncoder(folder)


def test_a_module_that_is_not_known(tiny: tuple[Any, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny[1], tmp_path / "model")
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    for reference in (
        "sentence_transformers.multi_vector_encoder.modules.token_pooling.HierarchicalTokenPooling",
        "somebody.elses.Normalize",
    ):
        entry = {"idx": 4, "name": "4", "path": "3_Normalize", "type": reference}
        (folder / "modules.json").write_text(json.dumps([*modules, entry]), encoding="utf-8")
        name = reference if reference.startswith("somebody") else "HierarchicalTokenPooling"
        with pytest.raises(EncoderError, match=f"the module {name} is not supported.*SentenceTransformersEncoder"):
            OnnxEncoder(folder)
    (folder / "modules.json").write_text(json.dumps(modules[1:]), encoding="utf-8")
    with pytest.raises(EncoderError, match="no Transformer"):
        OnnxEncoder(folder)


def test_graphs_by_name(tiny: tuple[Any, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny[1], tmp_path / "model")
    (folder / "onnx" / "model.onnx").rename(folder / "onnx" / "model_O3.onnx")
    wanted = OnnxEncoder(tiny[1]).encode_query(["dog"])[0]
    for options in ({}, {"graph": "model_O3.onnx"}):
        np.testing.assert_array_equal(OnnxEncoder(folder, **options).encode_query(["dog"])[0], wanted)  # type: ignore[arg-type]
    with pytest.raises(EncoderError, match=r"no onnx/nothing\.onnx.*backend='onnx'"):
        OnnxEncoder(folder, graph="nothing.onnx")


def test_pickled_weights_are_refused(tiny: tuple[Any, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny[1], tmp_path / "model")
    (folder / "1_Dense" / "model.safetensors").rename(folder / "1_Dense" / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="safe_serialization"):
        OnnxEncoder(folder)


def test_encoded_is_a_list() -> None:
    encoded = Encoded([np.ones((2, 3))], [True])
    assert isinstance(encoded, list)
    assert encoded.truncated.tolist() == [True]
    with pytest.raises(ValueError, match="1"):
        Encoded([np.ones((2, 3))], [])


# -- processes


def test_no_torch_is_loaded(plain: Path, tmp_path: Path) -> None:
    code = """
import json, sys
import latewood
index = latewood.Index.create(sys.argv[2], encoder=sys.argv[1])
index.add(["a", "b"], texts=["a dog", "a fox"])
assert index.search("fox", 1)[0].id in "ab"
assert latewood.Reranker(sys.argv[1]).rank("fox", ["dog", "fox"])
print(json.dumps([name for name in ("torch", "transformers", "sentence_transformers") if name in sys.modules]))
"""
    assert run_python(code, plain, tmp_path / "index") == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps such things in another place")
def test_nobody_is_told_of_its_use(plain: Path, tmp_path: Path) -> None:
    """By itself, onnxruntime keeps a number for this machine, and events to be sent, in the user's home."""
    code = """
import os, sys
os.environ.pop("ORT_DISABLE_TELEMETRY", None)
import latewood
latewood.encode.OnnxEncoder(sys.argv[1]).encode_query(["a dog"])
"""
    home = tmp_path / "home"
    home.mkdir()
    run_python(code, plain, environment={"HOME": str(home), "XDG_CACHE_HOME": str(home)})
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
def test_a_missing_package_is_named(package: str, plain: Path, tmp_path: Path) -> None:
    code = f"""
import json, sys
sys.modules[{package!r}] = None
from latewood.encode import OnnxEncoder
from latewood.errors import MissingDependencyError
try:
    OnnxEncoder(sys.argv[1])
except MissingDependencyError as error:
    print(json.dumps(str(error)))
"""
    message = run_python(code, plain)
    assert package in message
    assert "pip install 'latewood[text]'" in message


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system cannot fork")
def test_a_forked_child_encodes(plain: Path) -> None:
    code = """
import json, os, sys
from latewood.encode import OnnxEncoder
encoder = OnnxEncoder(sys.argv[1], threads=2)
wanted = encoder.encode_document(["dog " * 15] * 40)[0]
child = os.fork()
if child == 0:
    got = encoder.encode_document(["dog " * 15] * 40)[0]
    os._exit(0 if (got == wanted).all() else 1)
print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
"""
    assert run_python(code, plain) == 0


def test_missing_dependency_is_an_import_error() -> None:
    assert issubclass(MissingDependencyError, ImportError)


# -- the encoder inside the wheel


def test_vectors_need_no_encoder(tmp_path: Path) -> None:
    vectors = [np.ones((2, 8), np.float32), -np.ones((2, 8), np.float32)]
    assert Reranker().rank(vectors[0], vectors)[0]["corpus_id"] == 0
    assert Index.create(tmp_path / "index", dim=8).recorded_encoder is None
