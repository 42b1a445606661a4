"""What people look at: HTML that shows a text and runs nothing, shaded terminals, plots."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latewood import Explanation, Index
from latewood.encode.nano import has_nano
from latewood.errors import InvalidInputError
from latewood.show import html, terminal
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
    text = draw(st.text(max_size=40))
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
    with pytest.raises(InvalidInputError, match="not stored"):
        Explanation("a", matrix).to_text()


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
                elif token.isascii() and token.isalpha():
                    assert folded(text[first:last]) == token
        assert sum(why.contributions.tolist()) == pytest.approx(why.score, rel=1e-5)
    # The last word of a text of several windows.
    end = trees.explain("wood", f"t{len(SCRIPTS)}")
    assert end.document_spans is not None
    assert end.document_text is not None
    place = end.document_spans[-2]
    assert end.document_text[slice(*place)] == "wood"


def folded(text: str) -> str:
    """As the tokenizer does it: small letters, without accents."""
    import unicodedata

    parts = unicodedata.normalize("NFD", text.lower())
    return "".join(letter for letter in parts if unicodedata.category(letter) != "Mn")


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


def test_what_feedback_added_has_no_characters(trees: Index, tmp_path: Path) -> None:
    why = trees.search("one ring each year", 1)[0].explain()
    assert why.query_spans is not None
    assert len(why.query_spans) == len(why.matrix)


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
    import json

    rows = json.loads(told.output)
    assert len(rows) == 2
    assert sum(row["adds"] for row in rows[0]["rows"]) == pytest.approx(rows[0]["score"], rel=1e-5)
    assert runner.invoke(cli, ["explain", trees.path, "x", "--id", "nobody"]).exit_code == 1
