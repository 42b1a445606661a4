"""What people look at: HTML that shows a text and runs nothing, shaded terminals, plots."""

import json
import re
import unicodedata
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latewood import Explanation, Feedback, Index
from latewood.encode.nano import has_nano
from latewood.errors import InvalidInputError
from latewood.show import html, plots, terminal
from latewood.show.matches import matches_of

HOSTILE = (
    "<script>alert(1)</script>",
    "</mark></p></style><img src=x onerror=alert(1)>",
    "\" onfocus=alert(1) autofocus x='",
    "&lt;b&gt; &amp; &#x3c;",
    "\u202egnp.exe\u202c \u2066 \u2069",
    "a\ud800b",
    "nul\0 bell\a escape\x1b[31m",
    "<!-- --> ]]> {{x}} ${x}",
)
SCRIPTS = (
    "A tree grows one ring each year.",
    "Straße, naïve café: Ünïcödé — “quoted”",
    "樹木は毎年一つの年輪を作る。",
    "الشجرة تنمو حلقة واحدة كل عام",
    "עץ גדל טבעת אחת בכל שנה",
    "ต้นไม้เติบโตหนึ่งวงต่อปี",
    "e\u0301 👩‍👩‍👧 🇩🇪 emoji",
)


class Reader(HTMLParser):
    """Reads elements, attributes, and the text of what has the class "text"."""

    def __init__(self, fragment: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._inside = 0
        self.feed(fragment)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "p":
            self._inside = int(("class", "text") in attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag == "p":
            self._inside = 0

    def handle_data(self, data: str) -> None:
        self.text += data if self._inside else ""


KNOWN_TAGS = {"p", "span", "svg", "rect", "title", "mark", "ol", "li", "bdi", "dl", "div", "dt", "dd"}
KNOWN_ATTRIBUTES = {
    *("class", "data-q", "data-id", "tabindex", "title", "dir", "viewbox", "preserveaspectratio", "role"),
    *("aria-label", "x", "y", "width", "height"),
}


def assert_harmless(fragment: str) -> Reader:
    found = Reader(fragment)
    assert set(found.tags) <= KNOWN_TAGS
    assert {name for name, _ in found.attributes} <= KNOWN_ATTRIBUTES
    fragment.encode("utf-8")
    return found


def plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_a_text_runs(text: str) -> None:
    matrix = np.array([[0.5, 0.2], [0.1, 0.9]], np.float32)
    explanation = Explanation(
        text, matrix, (text, "b"), (text, text), query_text=text, document_text=text, document_spans=((0, 2), (2, 5))
    )
    found = assert_harmless(explanation.to_html())
    assert found.text == plain(text)
    hit = {"id": text, "score": 1.0, "rank": 1, "text": text, "metadata": {text: [text]}, "explained": None}
    assert assert_harmless(html.listed([{**hit, "stage_scores": {text: 0.5}}])).text == plain(text)
    page = html.standalone(text, explanation.to_html())
    assert page.count("<script") == 1
    assert "<img" not in page
    assert "\x1b[31m" not in terminal.shaded(matrix, text, ((0, 2), (2, 5)), colour=False)


@st.composite
def explained_texts(draw: Any) -> Any:
    marks = st.sampled_from("ae\u0301\u0e35\u200d\ufe0f\U0001f469")
    text = draw(st.text(max_size=40) | st.text(marks, max_size=40))
    count = draw(st.integers(1, 8))
    edge = st.integers(-2, 45)
    spans = [draw(st.tuples(edge, edge)) for _ in range(count)]
    queries = draw(st.integers(1, 6))
    cells = draw(st.lists(st.floats(-1, 1, width=32), min_size=queries * count, max_size=queries * count))
    return text, spans, np.array(cells, np.float32).reshape(queries, count)


@given(explained_texts())
def test_any_spans_of_any_text(drawn: Any) -> None:
    text, spans, matrix = drawn
    found = matches_of(matrix, text, spans)
    assert "".join(text[part.first : part.last] for part in found.parts) == text
    everything = [*found.parts, *found.without_span]
    assert sorted(query for part in everything for query in part.queries) == list(range(len(matrix)))
    assert sum(part.adds for part in everything) == pytest.approx(float(matrix.max(axis=1).sum()), abs=1e-5)
    shown = html.explained(matrix, text=text, spans=spans, query_tokens=None, document_tokens=None)
    assert assert_harmless(shown).text == plain(text)
    bare = terminal.shaded(matrix, text, spans, colour=True)
    assert len(re.sub(r"\x1b\[[0-9;]*m", "", bare)) == len(text)


def test_every_query_token_leads_to_its_answer() -> None:
    matrix = np.array([[0.9, 0.1, 0.2], [0.1, 0.8, 0.2], [0.2, 0.7, 0.1]], np.float32)
    found = Reader(
        html.explained(
            matrix,
            text="one two",
            spans=[(0, 3), (4, 7), (0, 0)],
            query_tokens=list("abc"),
            document_tokens=list("xyz"),
        )
    )
    marked = [value for name, value in found.attributes if name == "data-q"]
    # The query's tokens, the bar's parts, and the two marks.
    assert marked == ["0", "1", "2", "0", "1", "2", "0", "1 2"]


def test_a_text_without_spans_and_spans_without_a_text() -> None:
    matrix = np.array([[0.9, 0.1]], np.float32)
    without = html.explained(matrix, text="one two", spans=None, query_tokens=["q"], document_tokens=["one", "two"])
    assert Reader(without).text == "one two"
    assert ">one<" in without
    tokens = html.explained(matrix, text=None, spans=None, query_tokens=None, document_tokens=["one", "two"])
    assert ">one<" in tokens
    assert "two" in tokens
    empty = html.explained(np.zeros((2, 0), np.float32), text="", spans=[], query_tokens=None, document_tokens=None)
    assert_harmless(empty)
    # As its hit has it.
    assert 'aria-label="score -inf, of 2 query tokens"' in empty
    with pytest.raises(InvalidInputError, match="not stored"):
        Explanation("a", matrix).to_text()


@pytest.mark.parametrize(
    ("text", "span", "seen"),
    [
        ("le cafe\u0301 noir", (3, 7), "cafe\u0301"),
        ("\u0e1b\u0e35 x", (0, 1), "\u0e1b\u0e35"),
        ("\u0938\u093e\u0932", (1, 2), "\u0938\u093e"),
        ("a \U0001f469\u200d\U0001f467 b", (4, 5), "\U0001f469\u200d\U0001f467"),
        ("\u0301x", (0, 1), "\u0301"),
    ],
)
def test_a_part_is_what_a_reader_sees_as_one(text: str, span: tuple[int, int], seen: str) -> None:
    found = matches_of(np.ones((1, 1), np.float32), text, [span])
    assert [text[part.first : part.last] for part in found.parts if part.tokens] == [seen]


def test_many_marks_take_no_time() -> None:
    text = "a" + "\u0301" * 200_000
    spans = [(place, place + 1) for place in range(0, len(text), 200)]
    found = matches_of(np.eye(len(spans), dtype=np.float32), text, spans)
    assert max(part.last - part.first for part in found.parts if part.tokens) <= 62


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Index:
    if not has_nano():
        pytest.skip("the model latewood/nano-en is not in this source tree yet")
    index = Index.create(tmp_path_factory.mktemp("trees") / "index")
    texts = [*SCRIPTS, "ring " * 700 + "wood"]
    index.add([f"t{number}" for number in range(len(texts))], texts=texts, long="windows")
    return index


def test_spans_are_where_their_tokens_stand(trees: Index) -> None:
    for number in range(len(SCRIPTS) + 1):
        why = trees.explain("Which RING of the year, é?", f"t{number}")
        for text, tokens, spans in (
            (why.query_text, why.query_tokens, why.query_spans),
            (why.document_text, why.document_tokens, why.document_spans),
        ):
            assert text is not None
            assert tokens is not None
            assert spans is not None
            assert len(tokens) == len(spans)
            for token, (first, last) in zip(tokens, spans, strict=True):
                if token in ("[CLS]", "[SEP]"):
                    assert (first, last) == (0, 0)
                elif token == "[UNK]":
                    assert first < last
                else:
                    assert folded(text[first:last]) == token.removeprefix("##")
        assert sum(why.contributions.tolist()) == pytest.approx(why.score, rel=1e-5)
    # The last word of a text of several windows.
    end = trees.explain("wood", f"t{len(SCRIPTS)}")
    assert end.document_spans is not None
    assert end.document_text is not None
    place = end.document_spans[-2]
    assert end.document_text[slice(*place)] == "wood"


def folded(text: str) -> str:
    """As the tokenizer does it: small letters, without accents."""
    parts = unicodedata.normalize("NFD", text.lower())
    return "".join(letter for letter in parts if unicodedata.category(letter) != "Mn")


def test_metadata_are_shown_as_the_json_that_they_are() -> None:
    given = {"seen": True, "none": None, "in": {"a": [1.5, "x\u6771"]}, "text": "True", "date": "2024-01-01"}
    hit = {"id": 1, "score": 1.0, "rank": 1, "text": None, "metadata": given, "explained": None}
    shown = re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", html.listed([hit]))
    assert {name: unescape(value) for name, value in shown} == {
        "seen": "true",
        "none": "null",
        "in": '{"a": [1.5, "x\u6771"]}',
        "text": "True",
        "date": "2024-01-01",
    }


def test_no_hits_are_told(tmp_path: Path) -> None:
    hits = Index.create(tmp_path / "empty", dim=8).search(np.eye(8, dtype="float32"))
    assert "no hits" in hits._repr_html_()


def test_hits_show_themselves(trees: Index) -> None:
    hits = trees.search("one ring each year", 5)
    shown = hits._repr_html_()
    assert shown.startswith('<div class="latewood"><style>')
    assert "<script" not in shown
    fragment = hits.to_html(explained=2)
    assert fragment.count('class="bar"') == 2
    assert fragment.count('class="hit"') == 5
    assert_harmless(fragment)
    import pickle

    again = pickle.loads(pickle.dumps(hits))
    assert again.to_html().count('class="hit"') == 5, "hits without an index show their texts alone"
    assert_harmless(hits[0].explain()._repr_html_().split("</style>")[1].removesuffix("</div>"))
    vectors = trees.search(trees.vectors(["t0"])[0], 2)
    assert_harmless(vectors.to_html())


def test_what_feedback_added_has_no_characters(tmp_path: Path) -> None:
    if not has_nano():
        pytest.skip("the model latewood/nano-en is not in this source tree yet")
    index = Index.create(tmp_path / "index", train_after=64)
    index.add(list(range(20)), texts=[f"{text} Number {number}." for number in range(4) for text in SCRIPTS[:5]])
    own = len(index.search("one ring each year", 1)[0].explain().matrix)
    why = index.search("one ring each year", 1, feedback=Feedback(documents=3))[0].explain()
    assert why.query_spans is not None
    assert len(why.query_spans) == len(why.matrix) > own
    assert set(why.query_spans[own:]) == {(0, 0)}
    assert_harmless(why.to_html())


def test_a_page_of_patches_has_neither_tokens_nor_text(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).standard_normal((1030, 16), dtype=np.float32)
    index = Index.create(tmp_path / "pages", dim=16)
    index.add(["page"], vectors=[drawn], metadata=[{"image": "page.png"}])
    hits = index.search(drawn[:5], 1)
    shown = hits.to_html()
    assert_harmless(shown)
    assert shown.count("document token") == 1030
    assert "[" not in re.sub("<[^>]*>", "", hits[0].explain().to_html())


def test_plots(trees: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    why = trees.search("What costs $5 or $x_1$?", 1)[0].explain()
    axes = why.plot()
    axes.figure.savefig(tmp_path / "heat.png")
    assert (tmp_path / "heat.png").stat().st_size > 5000
    labels = [label.get_text().replace("\\$", "$") for label in axes.get_yticklabels()]
    assert tuple(labels) == why.query_tokens
    own = plt.figure().add_subplot()
    assert Explanation("a$b", np.zeros((2, 3), np.float32)).plot(own) is own
    Explanation("none", np.zeros((2, 0), np.float32)).plot().figure.savefig(tmp_path / "none.png")
    plt.close("all")


@pytest.mark.parametrize("count", [1, 2, 12])
def test_runs_of_long_names_fit_into_the_picture(count: int, tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    names = [f"a run of a rather long name with $ and _, number {number}" for number in range(count)]
    axes = plots.measures({name: {"nDCG@10": 0.5, "R@100": 0.0, "RR@10": 1.0} for name in names})
    figure = axes.figure
    figure.savefig(tmp_path / "runs.png")
    (legend,) = figure.legends
    edges, whole = legend.get_window_extent(), figure.bbox
    assert edges.x0 >= 0
    assert edges.x1 <= whole.x1
    assert edges.y1 <= axes.get_window_extent().y0
    assert axes.get_window_extent().height > 100
    assert [label.get_text().replace("\\$", "$") for label in legend.get_texts()] == names
    plt.close("all")


def test_the_command(trees: Index, tmp_path: Path) -> None:
    click_testing = pytest.importorskip("click.testing")
    from latewood.cli.commands import cli

    runner = click_testing.CliRunner()
    shown = runner.invoke(cli, ["explain", trees.path, "one ring each year", "-k", "1"])
    assert shown.exit_code == 0
    assert "[ring]" in shown.output
    assert "\x1b" not in shown.output
    out = tmp_path / "out.html"
    written = runner.invoke(cli, ["explain", trees.path, "one ring each year", "--html", str(out), "--id", "t2"])
    assert written.exit_code == 0, written.output
    page = out.read_text(encoding="utf-8")
    assert SCRIPTS[2][:2] in re.sub("<[^>]*>", "", page)
    assert "http" not in page.replace("http://www.w3.org", "")
    told = runner.invoke(cli, ["explain", trees.path, "one ring", "--json", "-k", "2"])
    rows = json.loads(told.output)
    assert len(rows) == 2
    assert sum(row["adds"] for row in rows[0]["rows"]) == pytest.approx(rows[0]["score"], rel=1e-5)
    assert runner.invoke(cli, ["explain", trees.path, "x", "--id", "nobody"]).exit_code == 1


def test_the_command_with_what_is_odd(tmp_path: Path) -> None:
    """An id that would command the terminal, and a document without tokens."""
    if not has_nano():
        pytest.skip("the model latewood/nano-en is not in this source tree yet")
    click_testing = pytest.importorskip("click.testing")
    from latewood.cli.commands import cli

    runner = click_testing.CliRunner()
    index = Index.create(tmp_path / "odd")
    index.add(["red\x1b[31m\u202e", "empty"], texts=["A tree\x1b[2J ring.", ""])
    shown = runner.invoke(cli, ["explain", index.path, "ring"])
    assert shown.exit_code == 0, shown.output
    assert "red [31m" in shown.output
    assert not {"\x1b", "\u202e"} & set(shown.output)
    searched = runner.invoke(cli, ["search", index.path, "a tree ring"])
    assert searched.exit_code == 0
    assert "red" in searched.output
    assert not {"\x1b", "\u202e"} & set(searched.output)
    told = runner.invoke(cli, ["explain", index.path, "ring", "--id", "empty", "--json"])
    assert told.exit_code == 0, told.output
    (row,) = json.loads(told.output, parse_constant=pytest.fail)
    assert row["score"] is None
    assert {one["adds"] for one in row["rows"]} == {None}


def test_eval_draws_its_measures(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    click_testing = pytest.importorskip("click.testing")
    from latewood.cli.commands import cli

    runner = click_testing.CliRunner()
    for name, score in (("one", 2.0), ("two", 0.5)):
        (tmp_path / f"{name}.txt").write_text(f"q Q0 a 1 {score} x\nq Q0 b 2 0.4 x\n")
    (tmp_path / "qrels.txt").write_text("q 0 b 1\n")
    runs = [str(tmp_path / "one.txt"), str(tmp_path / "two.txt"), str(tmp_path / "qrels.txt")]
    for place, more in (("plain.png", []), ("compared.svg", ["--compare"]), ("each.PDF", ["--per-query"])):
        drawn = runner.invoke(cli, ["eval", *runs, "--plot", str(tmp_path / place), *more])
        assert drawn.exit_code == 0, drawn.output
        assert (tmp_path / place).stat().st_size > 1000
    named = runner.invoke(cli, ["eval", *runs, "--plot", str(tmp_path / "picture.doc")])
    assert named.exit_code == 1
    assert ".png" in named.output
    assert not (tmp_path / "picture.doc").exists()
    matplotlib.pyplot.close("all")
