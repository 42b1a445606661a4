"""Page images: a checkpoint of ColPali's class, tiny and with random weights, goes into an index as text does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Index, maxsim
from latewood.encode import SentenceTransformersEncoder, fingerprint
from latewood.errors import InvalidInputError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
package = pytest.importorskip("sentence_transformers")
image = pytest.importorskip("PIL.Image")
tokenizers = pytest.importorskip("tokenizers")

PATCHES = 9
"""Of a page, three by three."""
WORDS = ["Question", ":", "Describe", "the", "image", ".", "where", "is", "red", "page", "total"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformersEncoder:
    folder = tmp_path_factory.mktemp("pages") / "tiny-colpali"
    save_colpali(folder)
    return SentenceTransformersEncoder(str(folder), device="cpu")


def save_colpali(folder: Path) -> None:
    """Write a checkpoint as those of the Hub are laid out: weights and a processor."""
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<image>"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )
    size = {"height": 12, "width": 12}
    pictures = SiglipImageProcessorPil(size=size, image_seq_length=PATCHES)
    processor = transformers.ColPaliProcessor(image_processor=pictures, tokenizer=tokenizer)
    processor.save_pretrained(folder)
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "hidden_size": 32}
    text = {**layers, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": len(tokenizer), "model_type": "gemma"}
    vision = {**layers, "image_size": 12, "patch_size": 4, "projection_dim": 32, "model_type": "siglip_vision_model"}
    pali = transformers.PaliGemmaConfig(
        text_config=text, vision_config=vision, projection_dim=32, image_token_id=processor.image_token_id
    )
    torch.manual_seed(5)
    config = transformers.ColPaliConfig(vlm_config=pali, embedding_dim=16)
    transformers.ColPaliForRetrieval(config).eval().save_pretrained(folder)


def page(seed: int) -> Any:
    colours = np.random.default_rng(seed).integers(0, 255, (3, 3, 3), dtype=np.uint8)
    return image.fromarray(colours).resize((60, 80), image.Resampling.NEAREST)


def test_pages_are_indexed_and_searched(encoder: SentenceTransformersEncoder, tmp_path: Path) -> None:
    pages = [page(seed) for seed in range(12)]
    vectors = encoder.encode_document(pages)
    assert {part.shape[1] for part in vectors} == {16}
    assert all(len(part) > PATCHES for part in vectors), "the patches, and the prompt that the processor adds"
    index = Index.create(tmp_path / "index", encoder=encoder)
    index.add(range(12), vectors=vectors, metadata=[{"file": f"{number}.png"} for number in range(12)])
    assert (index.dim, index.info()["tokens"]) == (16, sum(map(len, vectors)))

    question = "where is the red page"
    wanted = maxsim(encoder.encode_query([question]), vectors)[0]
    hits = index.search(question, k=12)
    assert sorted(hit.id for hit in hits) == list(range(12))
    for hit in hits:
        assert hit.score == pytest.approx(wanted[hit.id], rel=0.01)
    assert hits[0].metadata == {"file": f"{hits[0].id}.png"}
    for number in range(12):
        assert index.search(vectors[number], k=1)[0].id == number, "a page finds itself"

    reopened = Index.open(index.path, encoder=encoder)
    assert [hit.id for hit in reopened.search(question, k=3)] == [hit.id for hit in hits[:3]]
    assert fingerprint(encoder)["dim"] == 16


def test_pages_are_no_texts(encoder: SentenceTransformersEncoder, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", encoder=encoder)
    with pytest.raises(InvalidInputError, match="not a str"):
        index.add([0], texts=[page(0)])
