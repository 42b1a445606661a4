"""MTEB itself: `mteb.evaluate` of retrieval and reranking tasks with the adapter's model."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mteb")

import mteb
from datasets import Dataset
from mteb.cache import ResultCache
from mteb.mocks.mock_tasks import MockMultilingualRetrievalTask, MockRetrievalDialogTask, MockRetrievalTask
from mteb.models.models_protocols import CrossEncoderProtocol, EncoderProtocol, SearchProtocol

from latewood import Index
from latewood.errors import EncoderMismatchError, InvalidInputError, LatewoodError
from latewood.integrations.mteb import LatewoodSearch
from support import TEXTS, HashEncoder

QUERIES = {"q1": "capital of france", "q2": "dense wood of a tree", "q3": "the lazy fox"}
RELEVANT = {"q1": {"paris": 1}, "q2": {"rings": 1}, "q3": {"fox": 1}}


CORPUS = [
    {"id": name, "title": "" if place % 2 else "berlin", "text": text}
    for place, (name, text) in enumerate(TEXTS.items())
]
READ = {row["id"]: f"{row['title']} {row['text']}".strip() for row in CORPUS}
"""What a model reads of each document."""
ASKED = [{"id": name, "text": text} for name, text in QUERIES.items()]
CANDIDATES = {"q1": ["fox", "paris", "berlin"], "q2": ["rings", "rings", "paris"], "q3": ["fox"]}


class Task(MockRetrievalTask):  # type: ignore[misc]
    """`TEXTS`, of which some have a title, and three queries."""

    metadata = MockRetrievalTask.metadata.model_copy(update={"eval_splits": ["test"]})
    top_ranked: dict[str, list[str]] | None = None

    def load_data(self, num_proc: int | None = None, **_: Any) -> None:
        split = {
            "corpus": Dataset.from_list(CORPUS),
            "queries": Dataset.from_list(ASKED),
            "relevant_docs": RELEVANT,
            "top_ranked": self.top_ranked,
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


class Reranking(Task):
    top_ranked = CANDIDATES


class CountingEncoder(HashEncoder):
    """Remembers what it has encoded."""

    def __init__(self) -> None:
        super().__init__(name="tests/counting")
        self.documents: list[str] = []
        self.queries: list[str] = []

    def encode_document(self, inputs: list[str], /) -> Any:
        self.documents += inputs
        return super().encode_document(inputs)

    def encode_query(self, inputs: list[str], /) -> Any:
        self.queries += inputs
        return super().encode_query(inputs)


def evaluate(model: LatewoodSearch, task: Any, predictions: Path, **options: Any) -> tuple[Any, Any]:
    """Give the measures, and the run that MTEB has kept of it."""
    result = mteb.evaluate(
        model, task, co2_tracker=False, prediction_folder=predictions, show_progress_bar=False,
        **{"cache": None, **options},
    )  # fmt: skip
    (file,) = predictions.glob("*_predictions.json")
    return result.task_results[0].scores["test"][0], json.loads(file.read_text())["default"]["test"]


def by_hand(query: str, document: str) -> float:
    encoder = HashEncoder()
    scores = encoder.encode_query([query])[0] @ encoder.encode_document([document])[0].T
    return float(scores.max(axis=1).sum())


def test_mteb_takes_it_for_a_search_model() -> None:
    model = LatewoodSearch(HashEncoder())
    assert isinstance(model, SearchProtocol)
    assert not isinstance(model, CrossEncoderProtocol)
    assert not isinstance(model, EncoderProtocol)


def test_retrieval_is_maxsim_of_what_models_read(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    scores, run = evaluate(LatewoodSearch(encoder, keep_vectors="float16"), Task(), tmp_path)
    assert sorted(encoder.documents) == sorted(READ.values())
    assert set(run) == set(QUERIES)
    for name, found in run.items():
        assert set(found) == set(READ)
        for key, score in found.items():
            assert score == pytest.approx(by_hand(QUERIES[name], READ[key]), abs=2e-3)
    assert scores["ndcg_at_10"] == 1.0


def test_reranking_encodes_only_what_is_reranked(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    _, run = evaluate(LatewoodSearch(encoder, keep_vectors="float16"), Reranking(), tmp_path)
    assert sorted(encoder.documents) == sorted(READ[key] for key in ("fox", "paris", "berlin", "rings"))
    assert {name: set(found) for name, found in run.items()} == {name: set(ids) for name, ids in CANDIDATES.items()}
    for name, found in run.items():
        for key, score in found.items():
            assert score == pytest.approx(by_hand(QUERIES[name], READ[key]), abs=2e-3)


def test_the_second_stage_of_another_model(tmp_path: Path) -> None:
    _, first = evaluate(LatewoodSearch(HashEncoder(), name="tests/first"), Task(), tmp_path / "first")
    task = Task().convert_to_reranking(tmp_path / "first", top_k=2)
    _, second = evaluate(LatewoodSearch(CountingEncoder()), task, tmp_path / "second")
    for name, found in first.items():
        best = sorted(found, key=lambda key: -found[key])[:2]
        assert set(second[name]) == set(best)


def test_a_folder_keeps_what_was_encoded(tmp_path: Path) -> None:
    reranked, whole = CountingEncoder(), CountingEncoder()
    evaluate(LatewoodSearch(reranked, folder=tmp_path / "kept"), Reranking(), tmp_path / "a")
    _, run = evaluate(LatewoodSearch(whole, folder=tmp_path / "kept"), Task(), tmp_path / "b")
    # An interrupted run would go on in the same way: with what is missing.
    assert sorted(reranked.documents + whole.documents) == sorted(READ.values())
    again = CountingEncoder()
    assert evaluate(LatewoodSearch(again, folder=tmp_path / "kept"), Task(), tmp_path / "c")[1] == run
    assert again.documents == []
    # Other settings have an index of their own.
    flat = CountingEncoder()
    evaluate(LatewoodSearch(flat, folder=tmp_path / "kept", codec="flat", bits=8), Task(), tmp_path / "d")
    assert len(flat.documents) == len(READ)
    with pytest.raises(EncoderMismatchError):
        evaluate(LatewoodSearch(HashEncoder(name="tests/counting", dim=32), folder=tmp_path / "kept"), Task(), tmp_path)


def test_an_index_is_temporary_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = LatewoodSearch(HashEncoder())
    for _ in range(2):
        evaluate(model, Task(), tmp_path / "run")
        assert len(list(tmp_path.glob("latewood-mteb-*"))) == 1
    model.close()
    assert list(tmp_path.glob("latewood-mteb-*")) == []
    with pytest.raises(LatewoodError, match="index"):
        model.search(Dataset.from_list(ASKED), top_k=3)
    evaluate(model, Task(), tmp_path / "run")
    del model
    assert list(tmp_path.glob("latewood-mteb-*")) == []


def test_results_are_kept_under_the_name_of_the_encoder_and_the_settings(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "cache")
    plain, flat = LatewoodSearch(CountingEncoder()), LatewoodSearch(CountingEncoder(), codec="flat")
    assert plain.mteb_model_meta.name == "tests/counting"
    assert plain.mteb_model_meta.revision == "1"
    assert plain.mteb_model_meta.embed_dim == 48
    assert plain.mteb_model_meta.model_type == ["late-interaction"]
    assert plain.mteb_model_meta.experiment_name != flat.mteb_model_meta.experiment_name
    evaluate(plain, Task(), tmp_path / "a", cache=cache)
    asked = CountingEncoder()
    mteb.evaluate(LatewoodSearch(asked), Task(), cache=cache, co2_tracker=False, show_progress_bar=False)
    assert asked.queries == [], "the result was there"
    assert LatewoodSearch(HashEncoder()).mteb_model_meta.name == "latewood/hash"
    assert LatewoodSearch(HashEncoder(), name="a/b", revision="7").mteb_model_meta.model_name_as_path() == "a__b"


@pytest.mark.filterwarnings("ignore:Conversations are a list of strings")
def test_subsets_and_conversations(tmp_path: Path) -> None:
    model = LatewoodSearch(HashEncoder(), folder=tmp_path / "kept")
    result = mteb.evaluate(
        model, MockMultilingualRetrievalTask(), cache=None, co2_tracker=False, show_progress_bar=False
    )
    assert {score["hf_subset"] for score in result.task_results[0].scores["test"]} == {"eng", "fra"}
    assert {path.parent.name for path in (tmp_path / "kept").rglob("NEWEST")} >= {"eng-test", "fra-test"}
    encoder = CountingEncoder()
    mteb.evaluate(
        LatewoodSearch(encoder), MockRetrievalDialogTask(), cache=None, co2_tracker=False, show_progress_bar=False
    )
    assert any("; " in query for query in encoder.queries), "a conversation is one text"


def test_options_of_a_search_and_settings_of_an_index(tmp_path: Path) -> None:
    model = LatewoodSearch(HashEncoder(), folder=tmp_path, options={"min_score": 2.0}, codec="flat")
    _, run = evaluate(model, Task(), tmp_path / "run")
    assert all(score >= 2.0 for found in run.values() for score in found.values())
    (index,) = (Index.open(path.parent) for path in tmp_path.rglob("NEWEST"))
    assert index.info()["codec"]["kind"] == "flat"
    for wrong in (
        {"options": {"recall": 2}},
        {"options": {"nothing": 2}},
        {"nothing": 1},
        {"name": "plain"},
        {"folder": 3},
    ):
        with pytest.raises(InvalidInputError):
            LatewoodSearch(HashEncoder(), **wrong)


def test_a_task_with_images_is_refused(tmp_path: Path) -> None:
    metadata = Task.metadata.model_copy(update={"modalities": ["text", "image"]})
    with pytest.raises(InvalidInputError, match="image"):
        LatewoodSearch(HashEncoder()).index(
            Dataset.from_list(CORPUS), task_metadata=metadata, hf_split="test", hf_subset="default"
        )
