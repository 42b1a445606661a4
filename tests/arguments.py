"""Kinds of arguments: for each, values that must be taken, and values that must be refused by a typed error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from latewood import FdeOptions, Feedback, Ragged
from support import HashEncoder

DIM = 16
HUGE = 2**80


@dataclass(frozen=True)
class Made:
    """A value that is used up, and made anew for each call."""

    make: Callable[[], Any]


class Hostile:
    """Raises from whatever it is asked."""

    def _refuse(self, *_: object) -> Any:
        message = "hostile"
        raise RuntimeError(message)

    __len__ = __iter__ = __repr__ = __bool__ = __getitem__ = __array__ = __fspath__ = __contains__ = _refuse


class HostileMapping(Mapping[str, Any]):
    """A mapping whose items cannot be had."""

    def __getitem__(self, key: str) -> Any:
        message = "hostile"
        raise RuntimeError(message)

    def __iter__(self) -> Any:
        return self["key"]

    def __len__(self) -> int:
        return 1


def nested(depth: int) -> Any:
    inner: Any = 1.0
    for _ in range(depth):
        inner = [inner]
    return inner


def masked(values: Any, hidden: Any) -> Any:
    return np.ma.masked_array(values, np.array(hidden, dtype=np.bool_))


@dataclass(frozen=True)
class Kind:
    """What a parameter takes and refuses; `options` are passed beside each value.

    `late`: some bad values are told only when a text is encoded.
    """

    good: tuple[Any, ...]
    bad: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...] = ()
    late: bool = False

    def __init__(self, good: Any = (), bad: Any = (), options: Any = (), *, late: bool = False) -> None:
        for name, value in (("good", tuple(good)), ("bad", tuple(bad)), ("options", tuple(options)), ("late", late)):
            object.__setattr__(self, name, value)

    def also(self, *, good: Any = (), bad: Any = (), late: bool | None = None) -> "Kind":
        """The same, but for these."""
        kept = [value for value in self.bad if not any(value is other for other in good)]
        return Kind([*self.good, *good], [*kept, *bad], self.options, late=self.late if late is None else late)

    def alongside(self, **options: Any) -> "Kind":
        """The same, with these arguments beside each value."""
        return Kind(self.good, self.bad, options.items(), late=self.late)


# fmt: off
_NO_NUMBER: list[Any] = [
    True, "3", b"3", "", [3], (3,), {}, {3}, object, 3j, Hostile(), np.array([3, 4]), np.timedelta64(3), nested(5000),
    np.bool_(True), np.str_("3"), Made(lambda: iter([3])), "\ud800", False, float("nan"), float("inf"), -float("inf"),
    np.float64("nan"), 10**5000,
]
COUNT = Kind(
    [1, 3, np.int64(3), np.uint8(2), np.int16(1)],
    [*_NO_NUMBER, None, 0, -1, -(2**63), -HUGE, 2**63, HUGE, 2.0, 1.5, np.float32(3), np.float64(2)],
)
OPTIONAL_COUNT = COUNT.also(good=[None])
SIZE = COUNT.also(good=[10**12, 2**62, 2**63 - 1])
OPTIONAL_SIZE = SIZE.also(good=[None])
FRACTION = Kind([None, 0.5, 1, np.float32(0.25), np.float64(1.0)], [*_NO_NUMBER, 0.0, 0, -0.5, 1.5, HUGE])
FACTOR = Kind([None, 1, 2.5, np.float32(2), np.int64(3), 1e30], [*_NO_NUMBER, 0.0, 0.5, -2])
THRESHOLD = Kind(
    [None, 0, -1, 0.5, np.float32(0.5), np.int8(-1), 3e38], [*_NO_NUMBER, 1e39, -1e39, np.float64(1e300), 10**400]
)
WEIGHT = Kind([0, 0.5, np.float32(1), np.int8(2)], [*_NO_NUMBER, None, -0.5, 1e39])
DIMENSIONS = Kind([None, DIM, np.int64(DIM)], [*_NO_NUMBER, 0, -1, 2.0, float(DIM), HUGE, 2**63, DIM + 1])
FLAG = Kind(
    [True, False, np.bool_(True)],
    [None, 0, 1, "yes", "", [], {}, 2.0, Hostile(), np.array([True, False]), HUGE, object, nested(5000)],
)
OPTIONAL_FLAG = FLAG.also(good=[None])
_NO_WORD: list[Any] = [
    "x", "", "SUM", b"sum", 3, True, ["sum"], {}, object, Hostile(), np.array(["sum", "mean"]), "\ud800", "a\0", HUGE,
]


def one_of(*words: str | None) -> Kind:
    return Kind([*words, np.str_(words[-1])], _NO_WORD if None in words else [*_NO_WORD, None])


OPTIONAL_TEXT = Kind([None], [5, b"x", True, [], {}, "\ud800", Hostile(), object])
PATH = Kind([], [None, True, 5, 1.5, "", "a\0b", b"a\0b", "\ud800", [], {}, object, Hostile(), HUGE, ["a"]])
ENCODER = Kind([HashEncoder(DIM)], [True, 5, b"x", "", "a\0b", "\ud800", {}, [], object(), Hostile(), HUGE, object])

QUERY = HashEncoder(DIM).encode_query(["a quick fox"])[0]
VECTORS = HashEncoder(DIM).encode_document(["a fox", "a quick brown dog"])
_NO_VECTORS: list[Any] = [
    True, 5, 0.5, b"x", {}, {"a": QUERY}, {1.0}, object, Hostile(), [None], [[None]], [["a"]], [[[None]]], [Hostile()],
    np.float32(3), np.array("x"), np.zeros((), np.float32), np.ones(DIM, np.float32), np.ones((2, DIM), np.int64),
    np.ones((2, DIM), np.complex64), np.ones((2, DIM), bool), np.array([[None] * DIM]), np.ones((2, DIM), "M8[s]"),
    np.zeros(2, [("a", "f4")]), np.ones((1, 1, 2, DIM), np.float32), np.full((2, DIM), np.nan, np.float32),
    np.full((2, DIM), 1e300), [[1.0] * DIM, [1.0]], [[[1.0]], 5], nested(5000), range(3), "\ud800",
    masked(QUERY, np.eye(*QUERY.shape)), np.array([[HUGE] * DIM]), [[HUGE] * DIM], [QUERY, "x"],
    memoryview(b"abc"), bytearray(b"abc"), [QUERY, np.ones((2, DIM + 1), np.float32)],
]
NO_ARRAYS = [value for value in _NO_VECTORS if getattr(value, "ndim", 0) != 2 or value.dtype.kind != "f"]
"""What is refused before the numbers are looked at."""
_QUERIES: list[Any] = [
    QUERY, QUERY.tolist(), QUERY.astype(np.float16), np.asfortranarray(QUERY), QUERY.astype(object), [QUERY], (QUERY,),
    Made(lambda: iter([QUERY])), {"a": QUERY}.values(), Ragged(QUERY, np.array([0, len(QUERY)])),
    QUERY.astype(">f8"), memoryview(QUERY.tobytes()).cast("f", QUERY.shape), np.ma.masked_array(QUERY),
]
_TEXTS: list[Any] = [
    ["a fox"], ("a", "b"), np.array(["a", "b"]), np.array(["a", "b"], object), Made(lambda: iter(["a"])),
    {"a": 1, "b": 2}.keys(), [np.str_("a")],
]
_NO_TEXTS: list[Any] = ["a fox", {"a", "b"}, ["a", None], ["a", 5], ["\ud800"], ["a", QUERY], b"a", bytearray(b"a")]
WRONG_DIM = np.ones((2, DIM + 1), np.float32)
# Without tokens, MaxSim is 0 or -inf, and there is nothing to search for.
VECTORS_ALONE = Kind([*_QUERIES, [], [QUERY, QUERY], [[]], QUERY[:0]], [*_NO_VECTORS, None, "text", ["text"]])
ONE_QUERY = Kind(
    [*_QUERIES, "a fox", np.str_("a fox")],
    [*_NO_VECTORS, None, WRONG_DIM, [], [[]], QUERY[:0], "", " ", [QUERY, QUERY], ["a", "b"], ["a", None]],
    late=True,
)
QUERIES = Kind(
    [*_QUERIES, *_TEXTS, [], [QUERY, QUERY]],
    [*_NO_VECTORS, *_NO_TEXTS, None, WRONG_DIM, [[]], [QUERY[:0]], [""]],
    late=True,
)
DOCUMENTS = Kind([*_QUERIES, *_TEXTS, [], [QUERY[:0]], ["", "a"]], [*_NO_VECTORS, *_NO_TEXTS, None, WRONG_DIM, ""],
late=True)
TEXTS = Kind([*_TEXTS, []], [*_NO_TEXTS, None, 5, True, {"a": 1}, [b"a"], [["a"]], Hostile(), QUERY,
object])
WEIGHTS = Kind(
    [
        None, [1.0, 0.5, 0.0], [1, 0, 1], np.ones(3), np.ones(3, np.float16), (1.0, 1.0, 1.0), [np.ones(3)],
        Made(lambda: iter([1.0, 2.0, 3.0])), np.array([1, 2, 3], object), np.ones((1, 3), np.float32), [True, False,
        True],
    ],
    [
        True, 5, "x", b"xyz", {}, {1.0, 2.0, 3.0}, [], [1.0], [1.0, -1.0, 1.0], [np.nan] * 3, [np.inf] * 3, [1e39] * 3,
        ["a", "b", "c"], [None] * 3, np.ones(4), [1j] * 3, Hostile(), [HUGE**20] * 3, nested(5000),
        object,
        masked(np.ones(3), [0, 1, 0]), np.ones(3, "M8[s]"), ["1", "2", "3"],
    ],
    late=True,
)
MASK = Kind(
    [None, [[1, 1, 0]], np.ones((1, 3), bool), [[True, False, True]], [np.ones(3)], Made(lambda: iter([[1, 1, 1]]))],
    [
        True, 5, "x", {}, [], [[1]], np.ones((2, 3)), [["a", "b", "c"]], [[None] * 3], [None], Hostile(),
                object, {1}, [[1.0, np.nan, 1.0]], masked(np.ones((1, 3)), [[0, 0, 1]]), nested(5000),
    ],
    {"queries": [QUERY], "documents": [QUERY]}.items(),
)
_NO_IDS: list[Any] = [
    5, True, "fox", b"fox", "", 1.5, object, Hostile(), [None], [1.5], [True], ["fox", 1], [b"fox"], ["\ud800"],
    [["fox"]], np.array([1.5]), np.array([True]), np.zeros((2, 2), int), np.array(1), nested(5000),
    [2**63],
    [HUGE], masked([1, 2], [0, 1]), np.array([1], "M8[s]"), [np.timedelta64(1)], [Hostile()],
    np.array([2**63], np.uint64), bytearray(b"fox"), [np.nan],
]
_IDS: list[Any] = [
    ["fox"], ("fox", "rings"), [], np.array(["fox"]), np.array(["fox"], object), Made(lambda: iter(["fox"])), {"fox"},
    {"fox": 1}.keys(), [np.str_("fox")],
]
IDS = Kind(_IDS, [*_NO_IDS, None, {"fox": 1}])
ONE_ID = Kind(["fox", np.str_("rings")], [None, True, 1.5, b"fox", ["fox"], {}, object, Hostile(), "\ud800", HUGE])
CANDIDATES = Kind(
    [*(ids for ids in _IDS if ids != {"fox"}), {"fox": 1.0, "rings": 2}, [("fox", 1.0), ("rings", np.float32(2))], {}],
    [
        *_NO_IDS, None, ["nobody"], ["fox", "fox"], {"fox": None}, {"fox": "x"}, {"fox": np.nan}, [("fox",)],
        [("fox", "x")], [("fox", 1.0), "rings"], [("fox", None)], {1.5: 1.0}, {"fox": "1"}, {"fox": HUGE**20},
    ],
    late=True,
)
CANDIDATE_LISTS = Kind(
    [
        [["fox"]], [{"fox": 1.0}], [[("fox", 1.0)]], (["fox"],), Made(lambda: iter([["fox"]])), np.array([["fox",
        "rings"]]),
        [np.array(["fox"])], {"a": ["fox"]}.values(), [[]],
    ],
    [
        None, 5, True, "fox", ["fox"], {}, {"fox": 1.0}, [], [["fox"], ["fox"]], [None], [5], [["fox", 1]], Hostile(),
        [["nobody"]], [Hostile()], object, {("fox",)}, np.array(1), [{"fox": "x"}], nested(5000), b"f",
    ],
    late=True,
)
SCORES = Kind(
    [None, [1.0, 2], np.ones(2), (1, 2), Made(lambda: iter([1, 2])), np.array([1, 2], object), [np.inf, 1e300]],
    [
        True, 5, "ab", b"ab", {}, {1.0, 2.0}, [1.0], [1.0, None], ["1", "2"], [np.nan, 1.0], [1j, 2], [HUGE**20, 1],
        object,
        Hostile(), masked([1.0, 2.0], [0, 1]), nested(5000),
    ],
    {"candidates": ["fox", "rings"]}.items(),
)
SCORE_LISTS = Kind(
    [None, [[1.0, 2]], np.ones((1, 2)), ([1, 2],), Made(lambda: iter([[1, 2]]))],
    [True, 5, "ab", {}, [1.0, 2.0], [[1.0]], [["1", "2"]], [[np.nan, 1]], Hostile(), object],
    {"candidates": [["fox", "rings"]]}.items(),
    late=True,
)
OFFSETS = Kind(
    [[0, 2], (0, 2), np.array([0, 2], np.uint8), np.array([0, 2], object)],
    [True, 5, "x", {}, [], [0], [0, 1], [1, 2], [0, 1, 2], [0.0, 2.0], [0, HUGE], [[0, 2]], [None], Hostile(), object,
    [0, -2]],
    {"candidates": ["fox", "rings"]}.items(),
    late=True,
)
_NO_MAPPING: list[Any] = [5, True, "ab", b"{}", [1], [("a", 1)], Hostile(), HostileMapping(), object, {1.5}]
_NO_JSON: list[Any] = [
    {"a": object()}, {"a": np.nan}, {"a": np.float32("nan")}, {"a": nested(100_000)}, {"a": nested(500)},
    {"a": Hostile()},
    {"a": "\ud800"}, {"\ud800": 1}, {("a", "b"): 1}, {"a": b"x"}, {"a": 1j}, {"a": {1, "x"}},
    {"a": np.datetime64("2020")},
    {"a": [object()]}, {"a": HostileMapping()},
]
FILTER = Kind(
    [
        None, {}, {"words": 6}, {"words": np.int64(6)}, {"words": {"gte": np.float32(2)}}, {"lang": {"en", "de"}},
        {"lang": np.array(["en"])}, {"lang": {"prefix": np.str_("e"), "contains": "en"}},
        {"and": [{"words": 6}, {"not": {"a.b": {"exists": True}}}], "or": ({"lang": "en"},)},
    ],
    [
        *_NO_MAPPING, *_NO_JSON, {"a": {"near": 1}}, {"$or": [{"a": 1}]}, {"or": {"a": 1}}, {"and": [1]},
        {"not": None}, {"not": 1}, {"a": {"exists": 1}}, {"a": {"prefix": 1}}, {"a": {"contains": []}}, {"a": {}},
        {"a": {"b": {"eq": 1}}}, {"or": [{"or": "x" * 10_000}]}, {"and": nested(60)}, {"a": {"x" * 10_000: 1}},
    ],
    late=True,
)
FILTER_ALONE = FILTER.also(good=[[None], [None, {}]], bad=[[5], [{"lang": {"near": 1}}]])
"""Before it is known how many queries there are."""
FILTERS = FILTER.also(good=[[None], [{}], ({"lang": "en"},)], bad=[[], [None, None], [5], [{"lang": {"near": 1}}]])
"""Of a call with one query: one filter, or a list with one for it."""
FIELD = Kind([None, "lang", "a.b", "", "nowhere"], [5, True, b"lang", ["lang"], {}, "\ud800", Hostile(), object])
NO_RUN: list[Any] = [None, 5, "q", [], ["a fox"], [("q", "a fox")], Hostile(), object]
FDE = Kind([*FLAG.good, FdeOptions(planes=2)], [*FLAG.bad, FdeOptions, {"planes": 2}])
FEEDBACK = Kind([None], [True, 3, "ranker", {}, Feedback, Hostile()])
NEW_IDS = Kind(
    [["x", "y"], ("x", "y"), np.array(["x", "y"]), Made(lambda: iter("xy")), {"x": 1, "y": 2}.keys()],
    [*_NO_IDS, None, {"x": 1, "y": 2}, ["x"], ["x", "x"], {"x", "y"}, [], ["x", "y", "z"]],
)
NEW_TEXTS = Kind(
    [None, ["a", "b"], ("a", "b"), np.array(["a", "b"]), Made(lambda: iter(["a", None])), ["", "b"]],
    [
        "ab", b"ab", 5, True, {"a": 1}, {"a", "b"}, ["a"], ["a", "b", "c"], ["a", 5], ["a", b"b"], ["a", "\ud800"],
        Hostile(),
        object, nested(5000), QUERY,
    ],
)
NEW_VECTORS = Kind(
    [
        VECTORS, tuple(VECTORS), Made(lambda: iter(VECTORS)), {1: VECTORS[0], 2: VECTORS[1]}.values(),
        np.ones((2, 3, DIM), np.float32), np.array([VECTORS[0], VECTORS[1][:1]], object),
        Ragged(np.concatenate(VECTORS), np.array([0, 2, 6])), [QUERY, QUERY[:0]],
    ],
    [*_NO_VECTORS, WRONG_DIM, "text", ["a", "b"], [], VECTORS[:1], [*VECTORS, QUERY]],
)
METADATA = Kind(
    [
        None, [None, {}], [{"n": np.int64(3)}, {"n": np.float32(0.5), "b": np.bool_(True)}], [{"a": nested(100)}, None],
        Made(lambda: iter([None, None])), [{"list": np.arange(3)}, {"a": {"b": None}}],
    ],
    [
        5, True, "ab", b"ab", {}, {"a": 1}, [{}], [{}, {}, {}], Hostile(), object, {1},
        *([{}, entry] for entry in (*_NO_MAPPING, *_NO_JSON)),
    ],
)
PAIRS = Kind(
    [
        [("a", "b")], ("a", "b"), ["a", "b"], [["a", "b"], ("c", "d")], [], np.array([["a", "b"]]),
        Made(lambda: iter([("a", "b")])),
    ],
    [
        None, 5, True, "ab", b"ab", {}, {"a": "b"}, {("a", "b")}, ["a"], ["a", "b", "c"], [("a",)], [("a", "b", "c")],
        [("a", 5)], [("a", None)], [5], [None], [("", "b")], [("a", "\ud800")], Hostile(), np.ones((2,
        2)),
        object, [Hostile()],
    ],
    late=True,
)
# fmt: on
