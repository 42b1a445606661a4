"""Arrays of every order, alignment, type and kind mean what numpy says they mean, wherever they are passed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import latewood
from latewood import Index, Ragged, _core
from latewood.encode import pool_tokens
from latewood.errors import InvalidInputError
from latewood.forms.ragged import to_ragged
from reference import maxsim as oracle

DIM = 32


class Subclass(np.ndarray):
    """As arrays mapped from files are."""


def unaligned(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(b"\0" + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(array.shape)


def read_only(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "transposed view": lambda array: array.T.copy().T,
    "every other row": lambda array: np.repeat(array, 2, axis=0)[::2],
    "every other column": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "backwards": lambda array: array[::-1].copy()[::-1],
    "one value for all rows": lambda array: np.broadcast_to(array[:1], array.shape),
    "unaligned": unaligned,
    "unaligned Fortran": lambda array: unaligned(array.T.copy()).T,
    "read-only": read_only,
    "subclass": lambda array: array.copy().view(Subclass),
    "Fortran subclass": lambda array: np.asfortranarray(array).view(Subclass),
    "masked, nothing hidden": np.ma.masked_array,
    "nested lists": lambda array: array.astype(np.float64).tolist(),
    "objects": lambda array: array.astype(object),
}
DTYPES = ("float32", "float16", "float64", ">f4", ">f2", ">f8", "longdouble")


def values(generator: np.random.Generator, tokens: int) -> np.ndarray:
    """Numbers that float16 holds, and whose products and sums float32 holds: no form may change a bit."""
    return generator.integers(-8, 9, (tokens, DIM)).astype(np.float32) / 4


@st.composite
def forms(draw: Any, *, lists: bool = True) -> tuple[Callable[[np.ndarray], Any], list[np.ndarray]]:
    """A form, and some arrays to put into it."""
    known = [name for name in LAYOUTS if lists or name != "nested lists"]
    layout, dtype = draw(st.sampled_from(known)), draw(st.sampled_from(DTYPES))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    arrays = [values(generator, tokens) for tokens in draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))]

    def form(array: np.ndarray) -> Any:
        return LAYOUTS[layout](array.astype(dtype))

    if layout == "one value for all rows":
        arrays = [np.repeat(array[:1], len(array), axis=0) for array in arrays]
    return form, arrays


def ragged(parts: list[np.ndarray]) -> Ragged:
    return Ragged(np.concatenate(parts), np.cumsum([0, *map(len, parts)]))


@given(forms(), st.booleans())
def test_maxsim(drawn: Any, of_query: bool) -> None:
    form, documents = drawn
    query = values(np.random.default_rng(1), 5)
    asked = form(np.repeat(query[:1], 5, axis=0)) if of_query else query
    wanted = [oracle(np.asarray(asked, dtype=np.float32), document) for document in documents]
    for given_documents in ([form(document) for document in documents], tuple(map(form, documents))):
        np.testing.assert_array_equal(latewood.maxsim(asked, given_documents)[0], wanted)
        pairs = latewood.maxsim_pairs([asked] * len(documents), given_documents)
        np.testing.assert_array_equal(pairs, wanted)
    for document, score in zip(documents, wanted, strict=True):
        assert latewood.maxsim(asked, form(document))[0, 0] == score


@given(forms(lists=False), st.permutations(range(3)))
def test_padded_batches_with_their_axes_anywhere(drawn: Any, axes: list[int]) -> None:
    form, parts = drawn
    batch = np.stack([np.resize(part, (6, DIM)) for part in parts])
    there = np.argsort(axes)
    form_of_batch = np.asarray(form(batch))
    moved = np.ascontiguousarray(form_of_batch.transpose(axes)).transpose(there)
    query = values(np.random.default_rng(2), 4)
    wanted = [oracle(query, document) for document in np.asarray(form_of_batch, dtype=np.float32)]
    np.testing.assert_array_equal(latewood.maxsim(query, moved)[0], wanted)
    np.testing.assert_array_equal(latewood.maxsim(query, list(moved))[0], wanted)
    np.testing.assert_array_equal(latewood.maxsim(moved, query)[:, 0], [oracle(q, query) for q in to_ragged(moved)])


@given(forms(lists=False), st.sampled_from(["int64", "int32", "uint8", ">i8", "list", "unaligned", "strided"]))
def test_ragged(drawn: Any, offsets_form: str) -> None:
    form, parts = drawn
    wanted = ragged(parts)
    offsets: Any = wanted.offsets
    if offsets_form == "list":
        offsets = offsets.tolist()
    elif offsets_form == "unaligned":
        offsets = unaligned(offsets)
    elif offsets_form == "strided":
        offsets = np.repeat(offsets, 2)[::2]
    else:
        offsets = offsets.astype(offsets_form)
    flat = form(wanted.values)
    got = Ragged(flat, offsets)
    np.testing.assert_array_equal(got.values, np.asarray(flat, dtype=np.float32))
    np.testing.assert_array_equal(got.offsets, wanted.offsets)
    for array, kind in ((got.values, np.float32), (got.offsets, np.int64)):
        assert type(array) is np.ndarray
        assert array.dtype == kind
        assert array.flags.c_contiguous
        assert array.flags.aligned
    assert [len(part) for part in got] == [len(part) for part in parts]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Index:
    index = Index.create(tmp_path_factory.mktemp("layouts") / "index", dim=DIM, codec="flat", bits=8)
    generator = np.random.default_rng(3)
    index.add(range(6), vectors=[values(generator, 4) for _ in range(6)])
    return index


@given(forms())
def test_queries_of_an_index(small: Index, drawn: Any) -> None:
    form, queries = drawn
    query = queries[0]
    assert small.search(form(query)) == small.search(query)
    assert small.search_batch([form(query) for query in queries]) == small.search_batch(queries)
    assert small.rerank(form(query), [4, 1, 2]) == small.rerank(query, [4, 1, 2])
    assert small.rerank_batch([form(query)], [[4, 1]]) == small.rerank_batch([query], [[4, 1]])
    np.testing.assert_array_equal(small.explain(form(query), 3).matrix, small.explain(query, 3).matrix)


@given(forms(lists=False))
def test_weights_and_first_stage_scores(small: Index, drawn: Any) -> None:
    form, (query, *_) = drawn
    weights = np.abs(query[:, 0])
    form_of_weights = form(weights)
    plain = np.asarray(form_of_weights, dtype=np.float32)
    assert small.search(query, weights=form_of_weights) == small.search(query, weights=plain)
    np.testing.assert_array_equal(
        small.explain(query, 1, weights=form_of_weights).matrix, small.explain(query, 1, weights=plain).matrix
    )
    scores = form(np.array([3.0, 1.0, 2.0], dtype=np.float32))
    options: dict[str, Any] = {"k": 1, "alpha": 0.1}
    assert small.rerank(query, [0, 1, 2], scores, **options) == small.rerank(
        query, [0, 1, 2], np.asarray(scores, dtype=np.float64).tolist(), **options
    )


@given(forms())
def test_documents_of_an_index(tmp_path_factory: pytest.TempPathFactory, drawn: Any) -> None:
    form, documents = drawn
    index = Index.create(tmp_path_factory.mktemp("documents") / "index", dim=DIM, codec="flat", bits=8)
    names = [str(number) for number in range(len(documents))]
    index.add(names, vectors=documents)
    index.add([f"formed {name}" for name in names], vectors=[form(document) for document in documents])
    wanted, got = index.vectors(names), index.vectors([f"formed {name}" for name in names])
    np.testing.assert_array_equal(got.values, wanted.values)


@given(forms())
def test_pooling(drawn: Any) -> None:
    form, parts = drawn
    wanted = pool_tokens(parts, fraction=0.5)
    np.testing.assert_array_equal(pool_tokens([form(part) for part in parts], fraction=0.5).values, wanted.values)


@pytest.mark.parametrize(
    "ids", [np.arange(4)[::2], np.arange(3, dtype=">i8"), unaligned(np.arange(3)), np.arange(3).view(Subclass)]
)
def test_ids(small: Index, ids: np.ndarray) -> None:
    assert [document.id for document in small.documents(ids)] == ids.tolist()
    assert small.contains(ids).all()


def test_documents_mapped_from_a_file(tmp_path: Path) -> None:
    """They are read where they lie, and column-major ones are not taken for others."""
    generator = np.random.default_rng(4)
    query, document = values(generator, 3), values(generator, 7)
    document.tofile(tmp_path / "row-major")
    document.T.copy().tofile(tmp_path / "column-major")
    mapped = [
        np.memmap(tmp_path / "row-major", np.float32, "r", shape=(7, DIM)),
        np.memmap(tmp_path / "column-major", np.float32, "r", shape=(7, DIM), order="F"),
    ]
    np.testing.assert_array_equal(latewood.maxsim(query, mapped), oracle(query, document))


def test_the_extension_borrows_nothing_else() -> None:
    """Whoever calls it: it refuses what the package would have converted."""
    query = values(np.random.default_rng(5), 4)
    offsets = np.array([0, 4])
    for wrong in (np.asfortranarray(query), unaligned(query), query[::-1]):
        with pytest.raises(InvalidInputError, match="C-contiguous and aligned"):
            _core.maxsim(wrong, offsets, query, offsets, False, "float32", None)
        with pytest.raises(InvalidInputError, match="C-contiguous and aligned"):
            _core.maxsim(query, offsets, wrong, offsets, False, "float32", None)
        with pytest.raises(InvalidInputError, match="C-contiguous and aligned"):
            _core.pool(wrong, offsets, "ward", count=2)
        assert _core.maxsim_arrays(query, offsets, [query, wrong], False, "float32", None) is None
        assert (
            _core.maxsim_arrays(query, offsets, [np.asfortranarray(wrong.astype(np.float16))], False, "float32", None)
            is None
        )
    with pytest.raises(InvalidInputError, match="offsets must be C-contiguous and aligned"):
        _core.maxsim(query, unaligned(offsets), query, offsets, False, "float32", None)


def hiding(array: Any) -> Any:
    masked = np.ma.masked_array(array)
    masked[-1] = np.ma.masked
    return masked


def test_a_mask_is_never_dropped(small: Index) -> None:
    """What a masked array hides is no value: it is refused wherever an array goes in."""
    query = values(np.random.default_rng(6), 4)
    masked = hiding(query.copy())
    weights, ids = hiding(np.ones(4)), hiding(np.arange(3))
    calls: list[Callable[[], Any]] = [
        lambda: latewood.maxsim(query, masked),
        lambda: latewood.maxsim(query, [query, masked]),
        lambda: latewood.maxsim(masked, query),
        lambda: latewood.maxsim(query, np.ma.stack([masked, masked])),
        lambda: latewood.maxsim(query, query[None], document_mask=hiding(np.ones((1, 4), bool))),
        lambda: latewood.maxsim_pairs([query], [masked]),
        lambda: latewood.maxsim(query, [list(masked)]),
        lambda: Ragged(masked, np.array([0, 4])),
        lambda: Ragged(query, hiding(np.array([0, 4]))),
        lambda: small.search(masked),
        lambda: small.search_batch([query, masked]),
        lambda: small.search(query, weights=weights),
        lambda: small.search(query, ids=ids),
        lambda: small.rerank(query, ids),
        lambda: small.rerank(query, [1, 2], hiding(np.ones(2))),
        lambda: small.explain(masked, 1),
        lambda: small.add([100], vectors=[masked]),
        lambda: pool_tokens(masked, count=2),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError, match="masked array that hides values"):
            call()
    assert len(small) == 6
