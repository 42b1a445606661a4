"""The page in a real browser: what a reader does, and what he must see."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytest.importorskip("playwright.sync_api", reason="the page is tested in a browser: pip install playwright")

import uvicorn

from chromium import chromium
from latewood import Index
from latewood.serve import Settings, application

HOSTILE = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> & \"quotes\" 'and' </p></li></ol>"
    "<style>*{display:none}</style> <svg onload=window.hacked=3> javascript:window.hacked=4 \u202e evil tree \u0000 end"
)
TEXTS = {
    "rings": "A tree grows one ring each year, and the rings tell how old the tree is.",
    "wood": "Latewood is the dense part of a tree ring, formed late in the growing season.",
    "owls": "Owls hunt at night. They sleep in old trees by day.",
    "hebrew": "עץ means tree in Hebrew, and שנה means year.",
    "chinese": "树木 tree 年轮 ring 很老",
    "accents": "The a\u0301rbol is a tree in Spanish 🌳; its rings are anillos.",
    "long": "Nothing to see in here. " * 60 + "But at the end an old tree with many rings stands.",
    HOSTILE: HOSTILE,
    **{f"filler-{n}": f"A note on ships, number {n}, and on harbours." for n in range(8)},
}
METADATA: dict[str, dict[str, Any]] = {
    "rings": {"lang": "en", "year": 1990, "seen": True, "author": {"name": "Ann"}, "and": "more"},
    "wood": {"lang": "en", "year": 2001, "seen": False, "author": {"name": "Bo"}},
    "owls": {"lang": "en", "year": 2010},
    "hebrew": {"lang": "he", "year": 2010},
    "chinese": {"lang": "zh", "year": 1990},
    HOSTILE: {"lang": HOSTILE, HOSTILE: "x"},
}
QUERY = "how old is a tree"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        with chromium() as browser:
            yield browser
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@contextmanager
def serving(indexes: Mapping[str, Any], port: int = 0, **options: Any) -> Iterator[str]:
    """Serve indexes from a thread, and give the address."""
    config = uvicorn.Config(
        application(indexes, **options), host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Index]:
    folder = tmp_path_factory.mktemp("page")
    made = {}
    kinds: dict[str, Literal[1, 8]] = {"fine": 8, "coarse": 1}
    for name, bits in kinds.items():
        made[name] = Index.create(folder / name, bits=bits, train_after=0, centroids=16)
        made[name].add(list(TEXTS), texts=list(TEXTS.values()), metadata=[METADATA.get(key) for key in TEXTS])
    return made


@pytest.fixture(scope="module")
def address(indexes: dict[str, Index]) -> Iterator[str]:
    with serving(indexes) as address:
        yield address


class Reader:
    """A page of the browser, which must ask for nothing elsewhere and have no error."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.address = address
        self.faults: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", self._refuse)
        self.page.on("request", self._note)

    def _hear(self, told: Any) -> None:
        if told.type in ("error", "warning"):
            self.faults.append(told.text)

    def _refuse(self, dialog: Any) -> None:
        self.faults.append(dialog.message)
        dialog.dismiss()

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:")):
            self.faults.append(f"asked for {request.url}")

    def open(self, query: str | None = QUERY, **kept: Any) -> Any:
        said = {"q": query or "", **{name: json.dumps(value) for name, value in kept.items()}}
        self.page.goto(f"{self.address}/#" + "&".join(f"{name}={quote(value)}" for name, value in said.items()))
        wait(self.page, "document.activeElement.id === 'query'")
        if query:
            self.page.wait_for_selector(".found > *, .problem:not([hidden])")
        return self.page

    def ids(self, pane: int = 0) -> list[str]:
        found = self.page.locator(".pane").nth(pane).locator(".hit")
        return [one.get_attribute("data-id") for one in found.all()]


@pytest.fixture
def reader(browser: Any, address: str) -> Iterator[Reader]:
    reader = Reader(browser, address)
    yield reader
    reader.context.close()
    assert reader.faults == []


def wait(page: Any, expression: str, arg: Any = None) -> None:
    """Wait until an expression is true. Playwright's own way evaluates text in the page, whose policy forbids it."""
    for _ in range(1000):
        if page.evaluate(expression, arg):
            return
        page.wait_for_timeout(20)
    pytest.fail(f"never true: {expression} of {arg}")


def wait_until(page: Any, true: Callable[[], bool]) -> None:
    """Wait until something is true here."""
    for _ in range(1000):
        if true():
            return
        page.wait_for_timeout(20)
    pytest.fail("never true")


def ids_of(hits: Any) -> list[str]:
    # What HTML cannot hold is shown as a character that it can.
    return [str(hit.id).replace("\0", "\N{REPLACEMENT CHARACTER}") for hit in hits]


def wait_for_ids(reader: Reader, wanted: list[str], pane: int = 0) -> None:
    wait(
        reader.page,
        "([pane, ids]) => JSON.stringify([...document.querySelectorAll(`.pane:nth-child(${pane + 1}) .hit`)]"
        ".map((hit) => hit.dataset.id)) === ids",
        [pane, json.dumps(wanted, ensure_ascii=False, separators=(",", ":"))],
    )


# ── searching ──


def test_results_follow_what_is_typed(reader: Reader, indexes: dict[str, Index]) -> None:
    page = reader.open(None)
    assert page.locator(".hit").count() == 0
    page.locator("#query").press_sequentially("owls at night", delay=20)
    expected = indexes["coarse"].search("owls at night", 10)
    wait_for_ids(reader, ids_of(expected))
    assert page.locator("#status").inner_text() == "10 hits"
    shown = [float(score) for score in page.locator(".hit .score").all_inner_texts()]
    assert shown == pytest.approx([hit.score for hit in expected], abs=1e-4)
    page.locator("#query").fill("")
    wait(page, "document.querySelectorAll('.hit').length === 0")
    page.locator("#query").fill("ships")
    page.locator("#k").fill("3")
    wait_for_ids(reader, ids_of(indexes["coarse"].search("ships", 3)))
    page.locator("#k").fill("1000")
    wait(page, "document.getElementById('status').textContent.includes('from 1 to 100')")


def test_what_is_typed_before_the_page_is_ready_is_kept(reader: Reader, indexes: dict[str, Index]) -> None:
    held: list[Any] = []
    reader.page.route("**/v1/indexes", lambda route: held.append(route))  # noqa: PLW0108  playwright marks what it calls
    settings = quote(json.dumps([{"index": "fine", "gather": "exact"}]))
    reader.page.goto(f"{reader.address}/#q=ships&settings={settings}")
    wait(reader.page, "document.activeElement.id === 'query'")
    reader.page.keyboard.type(QUERY[:5])
    reader.page.wait_for_timeout(100)
    reader.page.keyboard.type(QUERY[5:])
    held.pop().continue_()
    wait_for_ids(reader, ids_of(indexes["fine"].search(QUERY, 10, gather="exact")))
    assert reader.page.locator("#query").input_value() == QUERY


def test_a_late_answer_to_an_old_question_is_dropped(reader: Reader, indexes: dict[str, Index]) -> None:
    page = reader.open(None)
    held: list[Any] = []

    def hold(route: Any) -> None:
        if json.loads(route.request.post_data)["query"] == "owls":
            held.append(route)
        else:
            route.continue_()

    page.route("**/hits", hold)
    page.locator("#query").fill("owls")
    page.wait_for_timeout(200)
    page.locator("#query").fill("dense wood")
    expected = ids_of(indexes["coarse"].search("dense wood", 10))
    wait_for_ids(reader, expected)
    assert len(held) == 1
    # It was given up already, or is answered now; either way nothing changes.
    held[0].continue_()
    page.wait_for_timeout(200)
    assert reader.ids() == expected


def test_the_address_keeps_what_is_asked(reader: Reader, indexes: dict[str, Index]) -> None:
    kept = {"filters": [{"field": "lang", "operator": "eq", "value": "en"}], "settings": [{"index": "fine"}]}
    page = reader.open(QUERY, k=2, **kept)
    expected = ids_of(indexes["fine"].search(QUERY, 2, filter={"lang": "en"}))
    wait_for_ids(reader, expected)
    page.reload()
    wait_for_ids(reader, expected)
    page.evaluate("location.hash = '#q=owls&filters=nonsense&settings=%5B%7B%22index%22%3A%22fine%22%7D%5D'")
    wait_for_ids(reader, ids_of(indexes["fine"].search("owls", 10)))


@pytest.mark.parametrize(
    ("field", "operator", "value", "filter_"),
    [
        ("lang", "eq", "en", {"lang": "en"}),
        ("lang", "ne", "en", {"lang": {"ne": "en"}}),
        ("year", "gte", "2001", {"year": {"gte": 2001}}),
        ("seen", "eq", "true", {"seen": True}),
        ("author.name", "prefix", "A", {"author.name": {"prefix": "A"}}),
        (r"\and", "eq", "more", {r"\and": "more"}),
    ],
)
def test_filters_are_those_of_the_index(
    reader: Reader, indexes: dict[str, Index], field: str, operator: str, value: str, filter_: dict[str, Any]
) -> None:
    page = reader.open()
    page.get_by_role("button", name="Add a filter").click()
    row = page.locator("#filters li")
    row.locator("select").nth(0).select_option(field)
    row.locator("select").nth(1).select_option(operator)
    row.locator("input").fill(value)
    expected = ids_of(indexes["coarse"].search(QUERY, 10, filter=filter_))
    wait_for_ids(reader, expected)
    row.get_by_role("button", name="Remove").click()
    wait_for_ids(reader, ids_of(indexes["coarse"].search(QUERY, 10)))


@pytest.mark.parametrize(
    ("operator", "value"),
    [("eq", 2**53 + 1), ("eq", 2**53), ("gt", 2**53), ("eq", 10**30), ("lte", -(10**400)), ("eq", 0.1), ("eq", 1e300)],
)
def test_numbers_are_the_readers_to_the_last_digit(
    browser: Any, numbers: tuple[str, Index], operator: str, value: float
) -> None:
    address, index = numbers
    reader = Reader(browser, address)
    reader.open("tree", filters=[{"field": "n", "operator": operator, "value": str(value)}])
    wait_for_ids(reader, ids_of(index.search("tree", 10, filter={"n": {operator: value}})))
    offered = reader.page.locator("datalist option").evaluate_all("all => all.map(one => one.value)")
    whole = {str(number) for number in NUMBERS if isinstance(number, int)}
    assert whole <= set(offered)
    reader.context.close()
    assert reader.faults == []


NUMBERS = [2**53 - 1, 2**53, 2**53 + 1, 2**64, 10**30, 10**30 + 1, -(10**400), 0.1, 1e300]


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Index]]:
    index = Index.create(tmp_path_factory.mktemp("numbers") / "index")
    count = len(NUMBERS)
    index.add([f"d{n}" for n in range(count)], texts=["a tree"] * count, metadata=[{"n": n} for n in NUMBERS])
    with serving({"index": index}) as address:
        yield address, index


def test_fields_that_come_while_the_page_is_open_are_offered(browser: Any, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index")
    index.add(["a"], texts=["a tree"])
    with serving({"index": index}) as address:
        reader = Reader(browser, address)
        page = reader.open("tree")
        assert not page.locator("#add-filter").is_visible()
        Index.open(index.path).add(["b"], texts=["an old tree"], metadata=[{"colour": "green"}])
        page.locator("#query").press_sequentially("s")
        page.locator("#add-filter").click()
        page.locator("#filters li input").fill("green")
        wait_for_ids(reader, ["b"])
        assert page.locator("#holds").inner_text() == "index: 2 documents"
        reader.context.close()
        assert reader.faults == []


def test_several_filters_hold_together(reader: Reader, indexes: dict[str, Index]) -> None:
    page = reader.open(
        filters=[
            {"field": "year", "operator": "gte", "value": "1995"},
            {"field": "year", "operator": "lte", "value": "2005"},
        ]
    )
    wait_for_ids(reader, ids_of(indexes["coarse"].search(QUERY, 10, filter={"year": {"gte": 1995, "lte": 2005}})))
    page.get_by_role("button", name="Remove").first.click()
    wait_for_ids(reader, ids_of(indexes["coarse"].search(QUERY, 10, filter={"year": {"lte": 2005}})))


def test_settings_are_those_of_a_search(reader: Reader, indexes: dict[str, Index]) -> None:
    page = reader.open()
    page.locator(".choices summary").click()
    page.get_by_label("Only the best of each").select_option("lang")
    wait_for_ids(reader, ids_of(indexes["coarse"].search(QUERY, 10, group_by="lang")))
    page.get_by_label("Candidates by").select_option("exact")
    page.get_by_label("Divide by the query's tokens").check()
    wait(page, "document.querySelector('.took').textContent.includes('exact')")
    expected = indexes["coarse"].search(QUERY, 10, group_by="lang", gather="exact", length_normalize=True)
    wait(page, f"document.querySelector('.score').textContent === '{expected[0].score:.4f}'")
    assert "gather exact" in page.locator(".chosen").inner_text()


def test_what_the_library_refuses_is_told_in_its_words(reader: Reader, indexes: dict[str, Index]) -> None:
    page = reader.open(settings=[{"gather": "fde"}])
    with pytest.raises(Exception, match="fde") as refused:
        indexes["coarse"].search(QUERY, gather="fde")
    assert page.locator(".problem").inner_text() == str(refused.value)
    assert page.locator(".hit").count() == 0
    page.locator(".choices summary").click()
    page.get_by_label("Candidates by").select_option("")
    wait_for_ids(reader, ids_of(indexes["coarse"].search(QUERY, 10)))
    assert not page.locator(".problem").is_visible()
    reader.faults = [fault for fault in reader.faults if "422" not in fault]


def test_a_number_that_is_being_typed_is_not_asked_for(reader: Reader, indexes: dict[str, Index]) -> None:
    page = reader.open()
    page.locator("#k").fill("")
    wait(page, "document.getElementById('status').textContent.includes('from 1 to 100')")
    assert not page.locator(".problem").is_visible()
    page.locator("#k").fill("2")
    wait_for_ids(reader, ids_of(indexes["coarse"].search(QUERY, 2)))


def test_an_index_without_documents_and_one_of_one(browser: Any, tmp_path: Path) -> None:
    one = Index.create(tmp_path / "one")
    one.add(["only"], texts=["an old tree"])
    with serving({"empty": Index.create(tmp_path / "empty"), "one": one}) as address:
        reader = Reader(browser, address)
        page = reader.open()
        assert page.locator("#holds").inner_text() == "empty: 0 documents · one: 1 document"
        assert page.locator("#status").inner_text() == "nothing found"
        assert page.get_by_text("no hits").is_visible()
        page.locator("[name=index]").select_option("one")
        wait_for_ids(reader, ["only"])
        assert page.locator("#status").inner_text() == "1 hit"
        page.get_by_role("button", name="About the index").click()
        sections = page.locator("#about section")
        sections.nth(1).wait_for()
        assert "codec" not in sections.nth(0).inner_text()
        assert "codec" in sections.nth(1).inner_text()
        assert not page.locator("#about .problem").count()
        reader.context.close()
        assert reader.faults == []


def test_an_index_that_cannot_be_read_hides_no_other(browser: Any, indexes: dict[str, Index], tmp_path: Path) -> None:
    gone = Index.create(tmp_path / "gone", dim=8)
    with serving({"fine": indexes["fine"], "gone": gone}) as address:
        shutil.rmtree(gone.path)
        reader = Reader(browser, address)
        page = reader.open()
        wait_for_ids(reader, ids_of(indexes["fine"].search(QUERY, 10)))
        assert "gone holds no latewood index" in page.locator("#holds").inner_text()
        page.get_by_role("button", name="About the index").click()
        told = page.locator("#about")
        told.get_by_text("gone: gone holds no latewood index").wait_for()
        assert told.get_by_text("token vectors").first.is_visible()
        reader.context.close()


def test_a_service_that_has_gone_is_told(browser: Any, indexes: dict[str, Index]) -> None:
    with serving(indexes) as address:
        reader = Reader(browser, address)
        page = reader.open()
    page.locator("#query").fill("is anybody there")
    page.wait_for_selector(".problem:not([hidden])")
    assert "does not answer" in page.locator(".problem").inner_text()
    # It is told once, however often it is seen.
    page.evaluate(
        "() => { window.told = 0; new MutationObserver(() => window.told += 1).observe(document.querySelector('main'),"
        " { attributes: true, attributeFilter: ['hidden'], childList: true, characterData: true, subtree: true }); }"
    )
    faults = len(reader.faults)
    wait_until(page, lambda: len(reader.faults) > faults)
    assert page.evaluate("window.told") == 0
    # It comes back, with another index, and nobody has to ask again.
    with serving({"fine": indexes["fine"], "coarse": indexes["fine"]}, port=int(address.rpartition(":")[2])):
        wait_for_ids(reader, ids_of(indexes["fine"].search("is anybody there", 10)))
        assert not page.locator(".problem").is_visible()
    reader.context.close()


def test_what_was_entered_can_be_gone_back_to(reader: Reader, indexes: dict[str, Index]) -> None:
    page = reader.open(None, settings=[{"index": "fine"}])
    found = {query: ids_of(indexes["fine"].search(query, 10)) for query in ("owls", "ships", "dense wood")}
    for query in found:
        page.locator("#query").press_sequentially(query)
        wait_for_ids(reader, found[query])
        assert page.title() == f"{query} · latewood"
        for _ in range(2):
            page.keyboard.press("Enter")
        page.locator("#query").select_text()
    entries = page.evaluate("history.length")
    page.go_back()
    wait_for_ids(reader, found["ships"])
    page.go_back()
    wait_for_ids(reader, found["owls"])
    page.reload()
    wait_for_ids(reader, found["owls"])
    page.go_forward()
    wait_for_ids(reader, found["ships"])
    assert page.locator("#query").input_value() == "ships"
    # No letter is an entry of its own.
    assert entries == 4


def test_two_tabs_are_two_searches(reader: Reader, indexes: dict[str, Index]) -> None:
    page = reader.open("owls", settings=[{"index": "fine"}])
    with reader.context.expect_page() as opened:
        page.evaluate("window.open(location.href, '_blank', 'noopener')")
    other = opened.value
    # Until it has begun, its own query is put in beside what is typed.
    wait(other, "document.title.startsWith('owls')")
    other.locator("#query").fill("ships")
    wait(other, "document.title.startsWith('ships')")
    wait_for_ids(reader, ids_of(indexes["fine"].search("owls", 10)))
    assert "owls" in page.url
    assert "ships" in other.url


# ── why ──


def test_a_query_token_shows_its_best_match_in_every_hit(reader: Reader, indexes: dict[str, Index]) -> None:
    page = reader.open(QUERY, k=len(TEXTS))
    hits = indexes["coarse"].search(QUERY, len(TEXTS))
    wait_for_ids(reader, ids_of(hits))
    tokens = indexes["coarse"].encoder.query_tokens(QUERY)  # type: ignore[union-attr]
    assert page.locator(".q").all_inner_texts() == tokens
    for token in range(len(tokens)):
        by_keyboard = token % 2 == 0
        (page.locator(".q").nth(token).focus if by_keyboard else page.locator(".q").nth(token).hover)()
        shown = page.evaluate(
            "[...document.querySelectorAll('.hit')].map((hit) => [...hit.querySelectorAll('mark.on')]"
            ".map((mark) => [mark.textContent, mark.closest('.special') !== null]))"
        )
        for hit, marks in zip(hits, shown, strict=True):
            explanation = hit.explain()
            best = int(explanation.best[token])
            first, last = (explanation.document_spans or ())[best]
            (told, special), *others = marks
            assert not others
            assert special == (first == last)
            part = (explanation.document_tokens or ())[best] if special else (hit.text or "")[first:last]
            # Tokens that share characters, as those of one character's bytes, are one part.
            assert part.replace("\0", "\N{REPLACEMENT CHARACTER}") in told
    # What is shown is told in words too.
    page.locator(".q", has_text="tree").focus()
    told = page.locator(".hit").locator("mark.on").all_inner_texts()[:5]
    assert page.locator("#status").inner_text() == f"tree is answered best by {', '.join(told)}"
    page.keyboard.press("Escape")
    assert page.locator("mark.on").count() == 0
    assert page.locator("#status").inner_text() == f"{len(TEXTS)} hits"


def test_the_best_match_of_a_long_text_comes_into_sight(reader: Reader) -> None:
    page = reader.open("many rings", settings=[{"index": "fine"}])
    text = page.locator(".hit[data-id=long] .text")
    assert text.evaluate("text => text.scrollTop") == 0
    page.locator(".q", has_text="rings").focus()
    wait(
        page,
        "() => { const text = document.querySelector('.hit[data-id=long] .text'), box = text.getBoundingClientRect();"
        "const own = text.querySelector('mark.on').getBoundingClientRect();"
        "return own.top >= box.top && own.bottom <= box.bottom; }",
    )
    page.locator(".hit[data-id=long]").get_by_role("button", name="Whole text").click()
    assert text.evaluate("text => text.scrollHeight <= text.clientHeight + 2")


def test_the_bar_is_what_each_token_adds(reader: Reader, indexes: dict[str, Index]) -> None:
    page = reader.open()
    for place, hit in enumerate(indexes["coarse"].search(QUERY, 10)):
        bar = page.locator(".hit").nth(place).locator(".bar")
        widths = np.array([float(part.get_attribute("width")) for part in bar.locator("rect").all()])
        adds = hit.explain().contributions.clip(0)
        np.testing.assert_allclose(widths / widths.sum(), adds / adds.sum(), atol=1e-4)


def test_the_plan_and_the_stages_are_told(reader: Reader, indexes: dict[str, Index]) -> None:
    page = reader.open()
    plan = indexes["coarse"].search(QUERY, 10).plan
    page.locator(".how summary").click()
    told = page.locator(".figures").inner_text()
    assert plan.gather in told
    for words in ("encode the query", "score on codes", "explain the hits", "ms"):
        assert words in told


def test_two_indexes_side_by_side(reader: Reader, indexes: dict[str, Index]) -> None:
    page = reader.open(QUERY)
    page.get_by_label("Compare two settings").check()
    found = {name: ids_of(indexes[name].search(QUERY, 10)) for name in ("coarse", "fine")}
    for pane, name in enumerate(found):
        wait_for_ids(reader, found[name], pane)
        wait(page, "document.querySelectorAll('.moved').length === 20")
        exact = ids_of(indexes[name].search(QUERY, 10, gather="exact"))
        shared = len(set(exact) & set(found[name]))
        pane_ = page.locator(".pane").nth(pane)
        assert pane_.locator(".compared").inner_text() == f"Found {shared} of the exact top 10."
        other = found["fine" if name == "coarse" else "coarse"]
        for place, key in enumerate(found[name]):
            moved = pane_.locator(".hit").nth(place).locator(".moved > :first-child").inner_text()
            by = other.index(key) - place if key in other else None
            assert moved == ("new" if by is None else "=" if by == 0 else f"{'▲' if by > 0 else '▼'} {abs(by)}")
    page.get_by_label("Compare two settings").uncheck()
    wait(page, "document.querySelectorAll('.pane').length === 1")
    assert page.locator(".moved").count() == 0


def test_a_search_that_finds_less_than_the_exact_one_says_so(reader: Reader, indexes: dict[str, Index]) -> None:
    index = indexes["coarse"]
    few = {"gather": "flood", "max_scored": "1"}

    def shared(query: str) -> int:
        found = {hit.id for hit in index.search(query, 2, gather="flood", max_scored=1)}
        return len(found & {hit.id for hit in index.search(query, 2, gather="exact")})

    query = next(one for one in (QUERY, "ships at night", "many old notes", "year of wood", "ring") if shared(one) < 2)
    page = reader.open(query, k=2, settings=[{"index": "coarse", **few}, {"index": "coarse", "gather": "exact"}])
    wait(page, "document.querySelectorAll('.moved').length > 1")
    told = [f"Found {count} of the exact top 2." for count in (shared(query), 2)]
    assert page.locator(".compared").all_inner_texts() == told


def test_what_the_index_holds(reader: Reader, indexes: dict[str, Index]) -> None:
    page = reader.open()
    page.get_by_role("button", name="About the index").click()
    dialog = page.get_by_role("dialog")
    page.wait_for_selector("#about h3")
    for name, index in indexes.items():
        info = index.info()
        section = dialog.locator("section", has=page.get_by_role("heading", name=name, exact=True)).inner_text()
        for value in (info["documents"], info["tokens"], info["segments"], info["codec"]["centroid_count"]):
            assert f"{value:,}" in section
        for held in info["by_segment"]:
            assert f"{held['documents']:,} documents" in section
    dialog.get_by_role("button", name="Check every byte").first.click()
    wait(page, "document.querySelector('#about [role=status]').textContent === 'All files are whole.'")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


# ── who reads, and how ──


def test_texts_cannot_run(reader: Reader) -> None:
    page = reader.open("evil tree", k=len(TEXTS))
    page.wait_for_selector(".hit .metadata")
    page.get_by_role("button", name="Add a filter").click()
    shown = HOSTILE.replace("\0", "\N{REPLACEMENT CHARACTER}")
    texts = page.evaluate(
        "[...document.querySelectorAll('.hit')].map((hit) => [hit.dataset.id, hit.querySelector('.text').textContent])"
    )
    assert dict(texts)[shown] == shown
    names = page.locator("#filters select").first.evaluate("select => [...select.options].map((one) => one.value)")
    assert HOSTILE.replace("\r", "") in names or shown in names
    assert page.locator(".found :is(script, img, style, iframe, a)").count() == 0
    assert page.evaluate("window.hacked") is None
    # Even what got in would not run.
    page.evaluate("document.querySelector('.found').innerHTML = \"<img src='data:,' onerror='window.hacked = 5'>\"")
    page.wait_for_timeout(100)
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in fault for fault in reader.faults)
    reader.faults.clear()


def test_it_fits_a_narrow_window(browser: Any, address: str) -> None:
    reader = Reader(browser, address, viewport={"width": 320, "height": 640})
    one: list[dict[str, str]] = [{}]
    for settings in (one, [{"index": "fine"}, {"index": "coarse"}]):
        page = reader.open("evil tree", settings=settings, k=len(TEXTS))
        page.wait_for_selector(".hit")
        page.get_by_role("button", name="Add a filter").click()
        for summary in page.locator("summary").all():
            summary.click()
        page.get_by_role("button", name="Whole text").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        page.reload()
    page.get_by_role("button", name="About the index").click()
    page.wait_for_selector("#about h3")
    assert page.evaluate("document.getElementById('about').scrollWidth") <= 320
    reader.context.close()


@pytest.mark.parametrize("size", [(1280, 720), (640, 512), (320, 256)], ids=str)
def test_the_query_leaves_room_for_its_hits(browser: Any, address: str, size: tuple[int, int]) -> None:
    """However long it is, and at a zoom of 200 and 400 %: what has the focus can be seen."""
    width, height = size
    reader = Reader(browser, address, viewport={"width": width, "height": height})
    page = reader.open("how many rings has a very old tree, and what do they tell " * 6)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for _ in range(10):
        page.keyboard.press("ArrowDown")
        # A point of its first line, and whose it is.
        assert page.evaluate(
            "() => { const { left, top } = document.activeElement.querySelector('.id').getBoundingClientRect();"
            "return document.elementFromPoint(left + 2, top + 2)?.closest('.hit') === document.activeElement; }"
        )
    page.keyboard.press("ArrowUp")
    reader.context.close()
    assert reader.faults == []


def test_on_paper_is_what_was_found(browser: Any, address: str) -> None:
    reader = Reader(browser, address, color_scheme="dark")
    page = reader.open(
        "many rings", filters=[{"field": "lang", "operator": "ne", "value": "zh"}], settings=[{"gather": "exact"}]
    )
    visible = "one => one.checkVisibility()"
    controls = page.locator("button, #k, #compare, .settings select, .how")
    page.locator(".choices summary").click()
    page.emulate_media(media="print")
    assert not any(controls.evaluate_all(f"all => all.map({visible})"))
    for shown in ("#query", "#filters li input", ".chosen", ".query .q", ".hit .score", ".hit .bar", ".hit .text"):
        assert page.locator(shown).first.evaluate(visible), shown
    # Dark ink on white paper, with the shades, and the whole of each text.
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("mark.w9").first.evaluate("mark => getComputedStyle(mark).printColorAdjust") == "exact"
    assert page.locator(".hit[data-id=long] .text").evaluate("text => text.scrollHeight <= text.clientHeight + 2")
    assert page.locator(".query").evaluate("one => getComputedStyle(one).position") == "static"
    reader.context.close()
    assert reader.faults == []


def test_everything_by_keyboard(reader: Reader, indexes: dict[str, Index]) -> None:
    page = reader.open(None)
    page.keyboard.type(QUERY)
    found = ids_of(indexes["coarse"].search(QUERY, 10))
    wait_for_ids(reader, found)

    def here() -> Any:
        return page.evaluate("document.activeElement.dataset.id ?? document.activeElement.id")

    for place in range(3):
        page.keyboard.press("ArrowDown")
        assert here() == found[place]
    page.keyboard.press("ArrowUp")
    assert here() == found[1]
    page.keyboard.press("Escape")
    assert here() == "query"
    # All controls in the order in which they are read, and none twice.
    stops = []
    while (stop := page.evaluate(STOP)) not in stops:
        stops.append(stop)
        page.keyboard.press("Tab")
    for wanted in ("k", "add-filter", "compare", "index", "summary", "tree", "hit"):
        assert wanted in stops, stops
    page.locator(".q").nth(1).focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == page.locator(".q").nth(2).inner_text()
    assert page.locator(".q.on").inner_text() == page.locator(".q").nth(2).inner_text()
    page.keyboard.press("Control+k")
    assert here() == "query"
    page.keyboard.type("owls")
    page.keyboard.press("Enter")
    wait_for_ids(reader, ids_of(indexes["coarse"].search("owls", 10)))


STOP = """(() => {
  const one = document.activeElement;
  if (one.matches(".hit")) return "hit";
  return one.id || one.name || (one.matches(".q") ? one.textContent : one.localName);
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_of_accessibility_is_broken(browser: Any, address: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    reader = Reader(browser, address, color_scheme=scheme)
    page = reader.open(None)
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, colour[4:-1].split(", "))) > 380) == (scheme == "light")
    # Run from the driver, which no policy of the page binds.
    check(axe, page, "nothing asked")
    page = reader.open(QUERY, filters=[{"field": "lang", "operator": "eq", "value": "en"}])
    for summary in page.locator("summary").all():
        summary.click()
    check(axe, page, "hits")
    page.locator(".q").nth(2).focus()
    check(axe, page, "a token")
    page.get_by_label("Compare two settings").check()
    page.wait_for_selector(".moved")
    check(axe, page, "two settings")
    page.set_viewport_size({"width": 360, "height": 700})
    check(axe, page, "narrow")
    page.get_by_role("button", name="About the index").click()
    page.wait_for_selector("#about h3")
    check(axe, page, "about")
    reader.context.close()


def check(axe: Any, page: Any, state: str) -> None:
    found = axe.run(page)
    assert found.violations_count == 0, f"{state}: {found.generate_report()}"


def test_a_service_with_tokens_asks_for_one(browser: Any, indexes: dict[str, Index]) -> None:
    token = "reading-reading-reading"
    with serving({"fine": indexes["fine"]}, settings=Settings(read_tokens=(token,))) as address:
        reader = Reader(browser, address)
        page = reader.page
        page.goto(address)
        # The last but one is none that could be sent: neither the button nor Escape makes it the token.
        for given in ("a-wrong-one-of-some-length", "two words", "n\u00f6 \u201ctoken\u201d", f" {token} "):
            page.wait_for_selector("#enter[open]")
            page.get_by_label("Token").fill(given)
            page.get_by_role("button", name="Go on").click()
            page.keyboard.press("Escape")
        wait(page, "document.getElementById('holds').textContent !== ''")
        page.locator("#query").fill(QUERY)
        wait_for_ids(reader, ids_of(indexes["fine"].search(QUERY, 10)))
        # It is no part of what one may pass on.
        assert token not in page.url
        reader.context.close()


def test_pictures_are_shown_with_their_patches_shaded(browser: Any, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "pages").mkdir()
    image.new("RGB", (90, 60), "white").save(tmp_path / "pages" / "one.png")
    index = Index.create(tmp_path / "index", encoder="latewood/nano-en")
    generator = np.random.default_rng(1)
    vectors = generator.standard_normal((6, index.dim)).astype(np.float32)
    vectors[4] = index.encoder.encode_query(["owl"])[0][1]  # type: ignore[union-attr]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    metadata: list[dict[str, Any] | None] = [
        {"image": "pages/one.png", "patches": [2, 3]},
        {"image": "../secret.png"},
        None,
    ]
    index.add(["shown", "refused", "none"], vectors=[vectors, vectors, vectors], metadata=metadata)
    with serving({"pages": index}, settings=Settings(images=str(tmp_path))) as address:
        reader = Reader(browser, address)
        page = reader.open("owl")
        wait(page, "document.querySelector('.hit[data-id=shown] img').naturalWidth === 90")
        page.locator(".q", has_text="owl").focus()
        shades = page.locator(".hit[data-id=shown] canvas").evaluate(
            "canvas => [...canvas.getContext('2d').getImageData(0, 0, 3, 2).data].filter((_, at) => at % 4 === 3)"
        )
        assert int(np.argmax(shades)) == 4
        assert (
            page.locator(".hit[data-id=refused] figcaption").inner_text().startswith("the document's 'image' is no PNG")
        )
        assert page.locator(".hit[data-id=none] figure").count() == 0
        reader.context.close()
