"""PyTerrier itself: pipelines, experiments, inspection and artifacts with the adapter's transformers."""

import json
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyterrier")

import pandas as pd
import pyterrier as pt

from latewood import Index, Reranker
from latewood.errors import DuplicateIdError, IndexNotFoundError, InvalidInputError, UnknownIdError
from latewood.integrations.pyterrier import LatewoodIndex, Retriever, Scorer, TextLoader
from support import REPOSITORY, TEXTS, HashEncoder

TOPICS = pd.DataFrame(
    {"qid": ["q1", "q2"], "query": ["capital of france", "late wood of a tree"], "source": ["a", "b"]}
)
QRELS = pd.DataFrame({"qid": ["q1", "q2"], "docno": ["paris", "rings"], "label": [1, 1]})


def documents() -> Iterator[dict[str, Any]]:
    for place, (name, text) in enumerate(TEXTS.items()):
        yield {"docno": name, "text": text, "place": place}


@pytest.fixture
def artifact(tmp_path: Path) -> LatewoodIndex:
    return LatewoodIndex(tmp_path / "artifact", encoder=HashEncoder(), meta=["place"]).index(documents())


def candidates(queries: pd.DataFrame = TOPICS) -> pd.DataFrame:
    """All documents for each query, in the order of `TEXTS`, with a column of another stage."""
    frame = queries.merge(pd.DataFrame({"docno": list(TEXTS), "text": list(TEXTS.values())}), how="cross")
    return frame.assign(score=[-float(place) for place in range(len(frame))], rank=0, other="kept")


def pairs(frame: pd.DataFrame, qid: str) -> list[tuple[str, float]]:
    own = frame[frame["qid"] == qid]
    assert own["rank"].tolist() == list(range(len(own)))
    return list(zip(own["docno"], own["score"], strict=True))


def hits(index: Index, query: str, **options: Any) -> list[tuple[Any, float]]:
    return [(hit.id, hit.score) for hit in index.rerank(query, list(TEXTS), **options)]


def test_columns_and_order(artifact: LatewoodIndex) -> None:
    found = artifact.retriever(3)(TOPICS)
    assert found.columns.tolist() == ["qid", "query", "source", "docno", "score", "rank"]
    scored = artifact.scorer()(candidates())
    assert scored.columns.tolist() == ["qid", "query", "source", "docno", "text", "other", "score", "rank"]
    for frame in (found, scored):
        assert frame["score"].dtype == np.float64
        assert frame["rank"].dtype == np.int64
        assert frame.index.tolist() == list(range(len(frame)))
    for qid, query in zip(TOPICS["qid"], TOPICS["query"], strict=True):
        expected = hits(artifact.index_obj(), query)
        assert pairs(scored, qid) == expected
        assert pairs(found, qid) == expected[:3]
    assert set(scored["other"]) == {"kept"}
    assert scored[scored["qid"] == "q2"]["source"].tolist() == ["b"] * len(TEXTS)


def test_a_pipeline_of_all_of_them(artifact: LatewoodIndex) -> None:
    reranker = Scorer(model=Reranker(HashEncoder()))
    pipeline = artifact.retriever(4) >> artifact.text_loader() >> reranker % 2
    found = pipeline(TOPICS)
    for qid, query in zip(TOPICS["qid"], TOPICS["query"], strict=True):
        names = [name for name, _ in hits(artifact.index_obj(), query)[:4]]
        texts = [TEXTS[name] for name in names]
        expected = [(names[one["corpus_id"]], one["score"]) for one in Reranker(HashEncoder()).rank(query, texts, 2)]
        assert pairs(found, qid) == expected
    assert found["text"].tolist() == [TEXTS[name] for name in found["docno"]]
    assert found["place"].tolist() == [list(TEXTS).index(name) for name in found["docno"]]
    assert artifact.retriever(2, include_text=True)(TOPICS)["text"].tolist() == [
        TEXTS[name] for name in artifact.retriever(2)(TOPICS)["docno"]
    ]


def test_queries_and_documents_come_as_vectors(artifact: LatewoodIndex) -> None:
    encoder = HashEncoder()
    queries = TOPICS.assign(query="not read", query_embs=encoder.encode_query(TOPICS["query"].tolist()))
    frame = candidates(queries)
    by_id = artifact.scorer()(frame)
    found = artifact.retriever(5)(queries)
    by_vectors = Scorer()(frame.assign(text="not read", doc_embs=encoder.encode_document(frame["text"].tolist())))
    by_text = Scorer(model=encoder)(candidates())
    for qid, query in zip(TOPICS["qid"], TOPICS["query"], strict=True):
        assert pairs(by_id, qid) == pairs(found, qid) == hits(artifact.index_obj(), query)
        assert pairs(by_vectors, qid) == pairs(by_text, qid)


@pytest.mark.parametrize("plan", ["linear", "tree"])
@pytest.mark.parametrize("batch_size", [None, 1])
@pytest.mark.filterwarnings("ignore:There are shared pipeline components")
def test_an_experiment(artifact: LatewoodIndex, plan: str, batch_size: int | None) -> None:
    first = artifact.retriever(4)
    systems = {
        "search": first,
        "again": first >> artifact.scorer(),
        "texts": first >> artifact.text_loader() >> Scorer(model=HashEncoder()),
        "cut": first >> artifact.scorer(num_results=1),
    }
    table = pt.Experiment(
        list(systems.values()), TOPICS, QRELS, ["recip_rank", "num_ret"],
        names=list(systems), plan=plan, batch_size=batch_size,
    )  # fmt: skip
    assert table["recip_rank"].tolist() == [1.0] * 4
    assert table["num_ret"].tolist() == [8, 8, 8, 2]


def test_frames_without_rows(artifact: LatewoodIndex) -> None:
    for transformer, given in (
        (artifact.retriever(3), TOPICS),
        (artifact.retriever(3, include_text=True), TOPICS),
        (artifact.scorer(), candidates()),
        (Scorer(model=HashEncoder()), candidates()),
        (artifact.text_loader(), candidates()),
    ):
        full, empty = transformer(given), transformer(given[:0])
        assert len(empty) == 0
        assert empty.columns.tolist() == full.columns.tolist()
        assert empty["docno"].dtype == full["docno"].dtype
        columns = given.columns.tolist()
        assert pt.inspect.transformer_outputs(transformer, columns) == full.columns.tolist()


def test_what_pyterrier_is_told(artifact: LatewoodIndex) -> None:
    assert pt.inspect.transformer_inputs(artifact.retriever()) == [["qid", "query_embs"], ["qid", "query"]]
    assert pt.inspect.transformer_inputs(artifact.scorer()) == [
        ["qid", "docno", "query_embs"],
        ["qid", "docno", "query"],
    ]
    assert ["qid", "docno", "query", "text"] in pt.inspect.transformer_inputs(Scorer(model=HashEncoder()))
    assert pt.inspect.indexer_inputs(artifact) == [["docno", "doc_embs"], ["docno", "text"]]
    with pytest.raises(pt.validate.InputValidationError, match="text"):
        Scorer(model=HashEncoder())(candidates().drop(columns="text"))
    with pytest.raises(pt.validate.InputValidationError, match="docno"):
        artifact.retriever()(candidates())
    long: Any = artifact.retriever(100)
    shorter = (long % 2).compile()
    assert isinstance(shorter, Retriever)
    assert shorter.num_results == 2
    short: Any = artifact.retriever(1)
    assert (short % 2).compile().num_results == 1
    copy = pt.inspect.transformer_apply_attributes(artifact.retriever(100), num_results=2)
    pd.testing.assert_frame_equal(copy(TOPICS), shorter(TOPICS))


def test_rows_of_one_document_stay_together(artifact: LatewoodIndex) -> None:
    frame = candidates(TOPICS[:1])
    twice = pd.concat([frame, frame.assign(other="again")])
    found = artifact.scorer()(twice)
    expected = [pair for pair in hits(artifact.index_obj(), TOPICS["query"][0]) for _ in range(2)]
    assert pairs(found, "q1") == expected
    assert found["other"].tolist() == ["kept", "again"] * len(TEXTS)


def test_options_reach_the_index(artifact: LatewoodIndex) -> None:
    index, query = artifact.index_obj(), TOPICS["query"][0]
    allowed = {"place": {"lt": 2}}
    found = (artifact.retriever(3, options={"filter": allowed}) >> artifact.scorer(options={"filter": {"place": 0}}))(
        TOPICS[:1]
    )
    assert pairs(found, "q1") == [(hit.id, hit.score) for hit in index.search(query, filter={"place": 0})]
    # Pruning goes by the first stage's scores: 0, -1, -2, ...
    pruned = artifact.scorer(num_results=1, options={"alpha": 0.0})(candidates(TOPICS[:1]))
    assert pairs(pruned, "q1") == [(hit.id, hit.score) for hit in index.rerank(query, ["fox"])]
    unknown = candidates(TOPICS[:1]).assign(docno=["fox", "x", "y", "z", "w"])
    with pytest.raises(UnknownIdError):
        artifact.scorer()(unknown)
    assert artifact.scorer(options={"missing": "skip"})(unknown)["docno"].tolist() == ["fox"]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda index: Retriever(index, 0), InvalidInputError),
        (lambda index: Retriever(index, options={"recall": 2}), InvalidInputError),
        (lambda index: Retriever(index, options=3), InvalidInputError),  # type: ignore[arg-type]
        (lambda index: Retriever(index, options={"nothing": 1}), InvalidInputError),
        (lambda index: Scorer(index, options={"nothing": 1}), InvalidInputError),
        (lambda index: Retriever(None), InvalidInputError),  # type: ignore[arg-type]
        (lambda index: Scorer(index, model="x"), InvalidInputError),
        (lambda index: Scorer(index, options={"alpha": -1}), InvalidInputError),
        (lambda index: Scorer(model=HashEncoder(), options={"alpha": 1}), InvalidInputError),
        (lambda index: Scorer(index, num_results=0), InvalidInputError),
        (lambda index: TextLoader(index, [3]), InvalidInputError),  # type: ignore[list-item]
        (lambda index: LatewoodIndex("x", nothing=3), InvalidInputError),
    ],
)
def test_what_does_not_fit_is_refused_at_once(artifact: LatewoodIndex, make: Any, error: Any) -> None:
    with pytest.raises(error):
        make(artifact.index_obj())


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Give the address of a server of a folder's files."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


# ── the artifact ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_indexing_vectors_and_adding_more(tmp_path: Path) -> None:
    encoder = HashEncoder()
    artifact = LatewoodIndex(tmp_path / "vectors", codec="flat")
    with pytest.raises(IndexNotFoundError):
        artifact.retriever()
    names = list(TEXTS)
    artifact.index({"docno": name, "doc_embs": encoder.encode_document([TEXTS[name]])[0]} for name in names[:3])
    assert artifact.index_obj().info()["codec"]["kind"] == "flat"
    artifact.index([{"docno": name, "doc_embs": encoder.encode_document([TEXTS[name]])[0]} for name in names[3:]])
    assert list(artifact.index_obj().ids()) == names
    with pytest.raises(DuplicateIdError, match="fox"):
        artifact.index([{"docno": "fox", "doc_embs": np.ones((2, 48), dtype=np.float32)}])
    artifact.index([{"docno": "new", "doc_embs": np.ones((2, 48), dtype=np.float32)}], overwrite=True)
    assert list(artifact.index_obj().ids()) == ["new"]


def test_a_frame_and_a_pipeline_are_indexed(artifact: LatewoodIndex, tmp_path: Path) -> None:
    frame = LatewoodIndex(tmp_path / "frame", encoder=HashEncoder(), meta=["place"]).index(pd.DataFrame(documents()))
    pipeline = pt.apply.text(lambda row: row["text"].upper()) >> LatewoodIndex(
        tmp_path / "pipeline", encoder=HashEncoder()
    )
    loaded = pt.text.get_text(pipeline.index(documents()), "text")(candidates())
    assert loaded["text"].tolist() == [text.upper() for text in TEXTS.values()] * 2
    pd.testing.assert_frame_equal(frame.retriever(3)(TOPICS), artifact.retriever(3)(TOPICS))
    every = pt.text.get_text(frame)(candidates())
    assert every["place"].tolist() == list(range(len(TEXTS))) * 2


def test_indexing_is_all_or_nothing(tmp_path: Path) -> None:
    artifact = LatewoodIndex(tmp_path / "index", encoder=HashEncoder())

    def broken() -> Iterator[dict[str, Any]]:
        for place in range(1500):
            yield {"docno": f"d{place}", "text": "a fox"}
        message = "the source broke"
        raise OSError(message)

    with pytest.raises(OSError, match="the source broke"):
        artifact.index(broken())
    assert len(artifact.index(documents()).index_obj()) == len(TEXTS)
    assert len(LatewoodIndex(tmp_path / "none", encoder=HashEncoder()).index([]).index_obj()) == 0
    with pytest.raises(pt.validate.InputValidationError):
        artifact.index([{"name": "x"}])


def test_an_artifact_is_found_and_packed(
    artifact: LatewoodIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the entry points that the wheel has: here a package that has the same stands for it."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    package = tmp_path / "site" / "stand_in-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: stand-in\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
            for group, entries in project["entry-points"].items()
        )
    )
    monkeypatch.syspath_prepend(package.parent)
    expected = artifact.retriever(3)(TOPICS)
    loaded = pt.Artifact.load(str(artifact.path), encoder=HashEncoder())
    assert isinstance(loaded, LatewoodIndex)
    pd.testing.assert_frame_equal(loaded.retriever(3)(TOPICS), expected)

    monkeypatch.setenv("PYTERRIER_HOME", str(tmp_path / "home"))
    packed = artifact.build_package(str(tmp_path / "packed.tar.lz4"), verbose=False)
    assert json.loads(Path(f"{packed}.json").read_text())["total_size"] > 0
    with served(tmp_path) as address:
        again = pt.Artifact.from_url(f"{address}/{Path(packed).name}", encoder=HashEncoder())
    assert isinstance(again, LatewoodIndex)
    assert again.path != artifact.path
    pd.testing.assert_frame_equal(again.retriever(3)(TOPICS), expected)
    with pytest.raises(ValueError, match="No implementation found"):
        pt.Artifact.load(str(tmp_path))
