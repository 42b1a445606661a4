"""Every accepted form of token vectors, and what is said about those that are not."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from latewood import Ragged
from latewood.errors import DimensionError, InvalidInputError
from latewood.forms.ragged import to_ragged
from latewood.forms.weights import split_weights
from strategies import ragged

torch = pytest.importorskip("torch")


def arrays(*lengths: int, dim: int = 4, dtype: Any = np.float32) -> list[Any]:
    generator = np.random.default_rng(1)
    return [generator.standard_normal((length, dim)).astype(dtype) for length in lengths]


def assert_same(result: Ragged, parts: list[Any]) -> None:
    assert result.values.dtype == np.float32
    assert result.values.flags.c_contiguous
    assert result.offsets.dtype == np.int64
    assert len(result) == len(parts)
    for got, wanted in zip(result, parts, strict=True):
        np.testing.assert_array_equal(got, np.asarray(wanted, dtype=np.float32))


@given(ragged(min_tokens=0))
def test_every_form_means_the_same(wanted: Ragged) -> None:
    parts = list(wanted)
    width = max(wanted.lengths.max(), 1)
    padded = np.full((len(parts), width, wanted.dim), 99.0, dtype=np.float32)
    for row, part in zip(padded, parts, strict=True):
        row[: len(part)] = part
    mask = np.arange(width) < wanted.lengths[:, None]
    forms: list[tuple[Any, dict[str, Any]]] = [
        (wanted, {}),
        (parts, {}),
        (tuple(parts), {}),
        ([torch.from_numpy(part) for part in parts], {}),
        (wanted.values, {"offsets": wanted.offsets}),
        (wanted.values, {"lengths": wanted.lengths}),
        (wanted.values, {"lengths": wanted.lengths.tolist()}),
        (torch.from_numpy(wanted.values), {"offsets": torch.from_numpy(wanted.offsets)}),
        (padded, {"mask": mask}),
        (padded, {"mask": mask.astype(np.int64)}),
        (padded, {"lengths": wanted.lengths}),
        (torch.from_numpy(padded), {"mask": torch.from_numpy(mask)}),
        (list(padded), {"mask": list(mask)}),
    ]
    for data, options in forms:
        assert_same(to_ragged(data, allow_empty=True, **options), parts)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", "<f8"])
def test_numpy_types(dtype: Any) -> None:
    parts = arrays(3, 2, dtype=dtype)
    assert_same(to_ragged(parts), [part.astype(np.float32) for part in parts])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_torch_types(dtype: str) -> None:
    parts = [torch.from_numpy(part).to(getattr(torch, dtype)) for part in arrays(3, 2)]
    assert_same(to_ragged(parts), [part.float().numpy() for part in parts])
    flat = to_ragged(torch.cat(parts), lengths=[3, 2])
    assert_same(flat, [part.float().numpy() for part in parts])


def test_tensors_with_gradients_strides_and_views() -> None:
    base = torch.arange(24.0).reshape(6, 4).requires_grad_()
    assert_same(to_ragged(base[::2]), [base.detach().numpy()[::2]])
    assert_same(to_ragged(base.T), [base.detach().numpy().T])
    column_major = np.asfortranarray(arrays(5)[0])
    assert_same(to_ragged(column_major), [column_major])


def test_tensor_of_another_device() -> None:
    """A stand-in for a CUDA tensor: it can be read only after `.cpu()`."""
    array = arrays(3)[0]
    on_cpu = torch.from_numpy(array)

    def refuse() -> None:
        message = "can't convert cuda:0 device type tensor to numpy"
        raise TypeError(message)

    far = SimpleNamespace(dtype=torch.float32, numpy=refuse)
    far.detach = lambda: far
    far.cpu = lambda: on_cpu
    assert_same(to_ragged(far), [array])


def test_a_single_array_is_one_item() -> None:
    array = arrays(5)[0]
    assert_same(to_ragged(array.tolist()), [array])
    assert_same(to_ragged([array.tolist(), array.tolist()]), [array, array])
    result = to_ragged(array)
    assert result.offsets.tolist() == [0, 5]


def test_nothing_is_copied_when_the_layout_fits() -> None:
    array = arrays(6)[0]
    padded = array.reshape(2, 3, 4)
    tensor = torch.from_numpy(array)
    for result in (
        to_ragged(array),
        to_ragged([array]),
        to_ragged(array, lengths=[2, 4]),
        to_ragged(padded),
        to_ragged(tensor),
        to_ragged(Ragged(array, np.array([0, 6]))),
    ):
        assert np.shares_memory(result.values, array)


def test_arrow() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parts = arrays(3, 0, 2)
    flat = np.concatenate(parts)
    vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat.ravel()), 4)
    for kind in (pyarrow.ListArray, pyarrow.LargeListArray):
        column = kind.from_arrays([0, 3, 3, 5], vectors)
        result = to_ragged(column, allow_empty=True)
        assert_same(result, parts)
        assert np.shares_memory(result.values, np.asarray(vectors.values))
        assert_same(to_ragged(column[1:], allow_empty=True), parts[1:])
        assert_same(to_ragged(pyarrow.chunked_array([column, column[2:]]), allow_empty=True), [*parts, parts[2]])
    half = pyarrow.array([[[1.0, 2.0]]], type=pyarrow.list_(pyarrow.list_(pyarrow.float16(), 2)))
    assert_same(to_ragged(half), [np.array([[1.0, 2.0]])])
    with pytest.raises(InvalidInputError, match="fixed_size_list"):
        to_ragged(pyarrow.array([[1.0, 2.0]]))
    with pytest.raises(InvalidInputError, match="null"):
        to_ragged(pyarrow.array([None, [[1.0, 2.0]]], type=pyarrow.list_(pyarrow.list_(pyarrow.float32(), 2))))


def test_arrow_of_another_library() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    kind = pyarrow.list_(pyarrow.list_(pyarrow.float32(), 2))
    column = pyarrow.array([[[1.0, 2.0], [3.0, 4.0]]], type=kind)

    class Foreign:
        def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
            return column.__arrow_c_array__(requested_schema)

    assert_same(to_ragged(Foreign()), [np.array([[1.0, 2.0], [3.0, 4.0]])])


@pytest.mark.parametrize(
    ("data", "options", "error", "words"),
    [
        (np.zeros((3, 4), dtype=np.int64), {}, InvalidInputError, "int64"),
        (torch.zeros((3, 4), dtype=torch.int8), {}, InvalidInputError, "int8"),
        (np.zeros((3, 4), dtype=bool), {}, InvalidInputError, "bool"),
        (np.zeros((3, 4), dtype=complex), {}, InvalidInputError, "complex"),
        (np.zeros(4, dtype=np.float32), {}, InvalidInputError, "shape"),
        (["text"], {}, InvalidInputError, "position 0 is text"),
        ([np.zeros(4, dtype=np.float32)], {}, InvalidInputError, "position 0.*pass the"),
        ([[[1.0, 2.0], [3.0]]], {}, InvalidInputError, "position 0"),
        ([[1.0, 2.0], [3.0]], {}, InvalidInputError, "not an array"),
        ([[1, 2], [3, 4]], {}, InvalidInputError, "int64"),
        ([*arrays(2), *arrays(2, dim=5)], {}, DimensionError, "position 1 has 5 dimensions, 4"),
        (arrays(2, 2), {"dim": 8}, DimensionError, "8 are expected"),
        (arrays(2)[0], {"dim": 8}, DimensionError, "8 are expected"),
        (arrays(2, 0, 2), {}, InvalidInputError, "position 1 has no tokens"),
        (arrays(2, 2), {"names": ["a"]}, InvalidInputError, "1 ids"),
        (arrays(2, 0), {"names": ["a", "b"]}, InvalidInputError, "'b' has no tokens"),
        (arrays(4)[0], {"offsets": [0, 3]}, InvalidInputError, "offsets"),
        (arrays(4)[0], {"offsets": [1, 4]}, InvalidInputError, "offsets"),
        (arrays(4)[0], {"offsets": [0, 3, 2, 4]}, InvalidInputError, "offsets"),
        (arrays(4)[0], {"offsets": []}, InvalidInputError, "empty"),
        (arrays(4)[0], {"offsets": [0.0, 4.0]}, InvalidInputError, "integer"),
        (arrays(4)[0], {"lengths": [5, -1]}, InvalidInputError, "negative"),
        (arrays(4)[0], {"lengths": [4], "offsets": [0, 4]}, InvalidInputError, "both"),
        (arrays(2, 2), {"offsets": [0, 2, 4]}, InvalidInputError, "list of arrays"),
        (np.zeros((2, 3, 4)), {"mask": np.ones((2, 4))}, InvalidInputError, r"\(2, 3\)"),
        (np.zeros((2, 3, 4)), {"mask": np.full((2, 3), -1e9)}, InvalidInputError, "mask holds -1000000000.0; say True"),
        (np.zeros((2, 3, 4)), {"mask": np.full((2, 3), -np.inf)}, InvalidInputError, "mask holds -inf"),
        (np.zeros((2, 3, 4)), {"mask": np.full((2, 3), -1)}, InvalidInputError, "mask holds -1; say True"),
        (np.zeros((2, 3, 4)), {"lengths": [4, 1]}, InvalidInputError, "lengths"),
        (object(), {}, InvalidInputError, "object"),
    ],
)
def test_refusals(data: Any, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        to_ragged(data, **options)


def test_nothing_at_all() -> None:
    assert len(to_ragged([])) == 0
    assert to_ragged([[]], allow_empty=True).offsets.tolist() == [0, 0]
    assert to_ragged([np.zeros((0, 4), np.float32)], dim=4, allow_empty=True).values.shape == (0, 4)


def test_items_by_position() -> None:
    result = to_ragged(arrays(2, 3))
    assert len(result[-1]) == 3
    with pytest.raises(IndexError):
        result[2]


def test_weights() -> None:
    queries = to_ragged(arrays(2, 3))
    assert split_weights(None, queries) is None
    for form in (np.arange(5.0), list(range(5)), [[0, 1], [2, 3, 4]], [np.arange(2.0), torch.arange(2.0, 5.0)]):
        weights = split_weights(form, queries)
        assert weights is not None
        np.testing.assert_array_equal(weights, np.arange(5, dtype=np.float32))
    for wrong in (np.ones(4), [[1, 2], [3]]):
        with pytest.raises(InvalidInputError, match="weights"):
            split_weights(wrong, queries)
