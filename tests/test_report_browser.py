"""The report in a real browser: it renders, reads by keyboard, filters, asks for nothing, and runs no text.

Needs Chromium and Playwright's Python package; no browser of Playwright's own is downloaded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from report_world import (
    HOSTILE,
    S,
    T,
    opened,
    reading_of,
    style_gap,
    trace_of,
    world,
    write_readings,
    write_traces,
)
from weft.cli.show import visible
from weft.records import Span, Status
from weft.report.writing import write_report

playwright = pytest.importorskip(
    "playwright.sync_api", reason="no Playwright: pip install -e '.[dev]' brings it", exc_type=ImportError
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: install it (apt-get install chromium, or Google Chrome)"
)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Open]:
    """Opens a page from disk; at the end: it said nothing on the console and asked for nothing."""
    said: list[str] = []
    asked: list[str] = []
    contexts: list[Any] = []

    def visit(path: Path, *, at: str = "", scheme: str = "light", width: int = 1280) -> Any:
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: asked.append(request.url.partition("#")[0]))
        page.goto(path.as_uri() + at)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert said == []
    assert all(url.startswith("file:") and url.endswith(".html") for url in asked), asked
    assert len(asked) == len(contexts)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a folder with two strategies, readings, a rejected trace and both results."""
    folder = tmp_path_factory.mktemp("browser")
    page = folder / "report.html"
    write_report([world(folder / "run")], page, title="A report")
    return page


def ids(page: Any) -> list[str]:
    return list(page.locator("#list .id").all_text_contents())


def current(page: Any) -> str:
    return str(page.locator("#list [aria-current=true] .id").text_content())


def choose(page: Any, name: str, value: str) -> None:
    page.select_option(f"#{name}", value)


@contextmanager
def settled(page: Any) -> Iterator[None]:
    """Leaves when the browser has drawn what was asked for."""
    yield
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_it_renders(visit: Open, report: Path) -> None:
    page = visit(report)
    assert page.title() == "A report · Weft report"
    assert page.locator("h1").text_content() == "A report"
    assert len(ids(page)) == 25
    assert page.locator("#place").text_content() == "1 of 25"
    for heading in ("Texts", "Style gap", "Reward gap", "What made this"):
        assert page.get_by_role("heading", name=heading, exact=True, level=2).count() == 1
    assert page.locator("svg.plot").count() > 15
    broken = page.evaluate(
        "[...document.querySelectorAll('svg')].filter((one) => !one.getBBox().width).length"
    )
    assert broken == 0
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((one) => +one.tagName[1])")
    assert all(after - before <= 1 for before, after in pairwise(levels)), "no level is left out"
    unnamed = """[...document.querySelectorAll('button, input, select')]
      .filter((one) => !one.textContent.trim() && !one.labels?.length && !one.ariaLabel).length"""
    assert page.evaluate(unnamed) == 0
    named = page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(named) == len(set(named))


def test_numbers_lie_folded_below_their_plots(visit: Open, report: Path) -> None:
    page = visit(report)
    figure = page.locator("figure", has_text="By author").first
    assert not figure.locator("table").is_visible()
    figure.locator("summary").press("Enter")
    assert figure.locator("table").is_visible()
    assert "0.175" in figure.locator("table").inner_text()


def test_filters(visit: Open, report: Path) -> None:
    page = visit(report)
    choose(page, "source", "tessy")
    assert len(ids(page)) == 13
    choose(page, "status", "length")
    assert ids(page) == ["q0#1"]
    assert "thinking met the limit of 40 tokens" in page.locator("#pane").inner_text()
    page.click("#clear")
    assert len(ids(page)) == 25
    choose(page, "flag", "outlier")
    assert ids(page) == ["q3#0"]
    choose(page, "flag", "=right")
    assert len(ids(page)) == 24
    page.click("#clear")
    page.fill("#min", "0.8")
    assert {"teacher-only"} == {one.split(" ")[0] for one in page.locator("#list .of").all_text_contents()}
    page.fill("#max", "0.9")
    means = [float(one.split("·")[1].split()[0]) for one in page.locator("#list .of").all_text_contents()]
    assert all(0.8 <= mean <= 0.9 for mean in means)
    page.click("#clear")
    page.fill("#q", "Q11")
    assert ids(page) == ["q11#0", "q11#0"]
    page.fill("#q", "no text says this")
    assert ids(page) == []
    assert page.locator("#place").text_content() == "none of 25"
    assert "No text matches" in page.locator("#pane").inner_text()


def test_reading_by_keyboard_alone(visit: Open, report: Path) -> None:
    page = visit(report)
    before = current(page)
    for key in ("j", "j", "k"):
        page.keyboard.press(key)
    assert current(page) == ids(page)[1] != before
    page.keyboard.press("2")
    assert page.locator("[data-view=surprise]").get_attribute("aria-checked") == "true"
    assert page.locator("#pane .text.by-surprise").count() == 2
    page.keyboard.press("3")
    assert page.locator("#pane .text.by-style").count() == 2
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("q2#")
    assert ids(page) == ["q2#0", "q2#0"]
    page.keyboard.press("j")
    assert page.input_value("#q") == "q2#j", "keys are text while one types"
    page.keyboard.press("Backspace")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
    page.keyboard.press("ArrowDown")
    assert page.locator("#place").text_content() == "2 of 2 (25 in all)"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('tok')"):
            break
    assert page.evaluate("document.activeElement.dataset.i") == "0"


def test_what_is_known_of_a_token(visit: Open, report: Path) -> None:
    page = visit(report)
    choose(page, "source", "tessy")
    data = json.loads(page.locator("#data").text_content())
    text = opened(next(one for one in data["texts"] if one["source"] == "tessy"))
    first = page.locator("#pane .tok").first
    first.focus()
    bar = page.locator("#details")
    assert f"surprise {text['n'][0] / 100:.2f} nats" in bar.inner_text()
    assert f"rank {text['r'][0]}" in bar.inner_text()
    assert f"entropy {text['e'][0] / 100:.2f} nats" in bar.inner_text()
    assert f"style {text['y'][0] / 100:.2f}" in bar.inner_text()
    assert "author student" in bar.inner_text()
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.i") == str(len(text["t"]) - 1)
    assert "style –" in bar.inner_text(), "of responses the boundary says nothing"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.i") == "1"
    page.locator("#pane .tok").nth(3).hover()
    assert f"surprise {text['n'][3] / 100:.2f} nats" in bar.inner_text()
    page.mouse.move(0, 0)
    assert f"surprise {text['n'][1] / 100:.2f} nats" in bar.inner_text(), "the focus is shown again"


def test_the_page_says_the_numbers_of_the_reading(visit: Open, tmp_path: Path) -> None:
    """To the precision that is stated, whatever they are: packed in Python, unpacked by the page."""
    trace = trace_of("q", spans=[Span(S, "a👩b" * 4), Span(T, "0123456789\u200b\x1b")], thinking=1)
    reading = replace(
        reading_of(trace, "a", size=1),
        nats=tuple(0.006 * 2.13**at for at in range(24)),
        ranks=tuple(max(1, 3**at - 1) for at in range(24)),
        entropies=tuple(0.37 * at for at in range(24)),
        style=tuple(at / 11 if at < 12 else None for at in range(24)),
    )
    assert reading.tokens == 24
    write_traces(tmp_path / "a.jsonl", [trace])
    write_readings(tmp_path / "r.jsonl", [reading])
    write_report([tmp_path], tmp_path / "report.html")
    page = visit(tmp_path / "report.html")
    tokens = page.locator("#pane .tok")
    assert tokens.all_text_contents() == [visible(character) for character in trace.text]
    tokens.first.focus()
    for at, (nats, rank, entropy, style) in enumerate(
        zip(reading.nats, reading.ranks or (), reading.entropies or (), reading.style or (), strict=True)
    ):
        assert page.evaluate("document.activeElement.dataset.i") == str(at)
        said = page.locator("#details b").all_text_contents()
        assert float(said[0].removesuffix(" nats")) == pytest.approx(nats, abs=0.005001)
        assert said[1] == f"{rank:,}"
        assert float(said[2].removesuffix(" nats")) == pytest.approx(entropy, abs=0.005001)
        assert said[3] == "–" if style is None else float(said[3]) == pytest.approx(style, abs=0.005001)
        page.keyboard.press("ArrowRight")


def test_the_students_own_texts_are_marked(visit: Open, report: Path, tmp_path: Path) -> None:
    own = replace(reading_of(trace_of("q0"), "student-only"))
    write_readings(tmp_path / "gap.readings.jsonl", [own, reading_of(trace_of("q0"), "tessy")])
    result = style_gap(readings="gap.readings.jsonl")
    (tmp_path / "gap.json").write_text(json.dumps(result.to_json()))
    write_report([tmp_path / "gap.json"], tmp_path / "report.html")
    page = visit(tmp_path / "report.html")
    named = "student-only (the student’s own)"
    assert page.locator("#source option").all_text_contents() == ["all", named, "tessy"]
    choose(page, "source", "student-only")
    assert named in page.locator("#list").inner_text()
    assert named in page.locator("#summary table").first.inner_text()
    assert page.locator("svg.plot text", has_text=named).count() > 3


def test_the_tab_key_stops_once_in_the_list(visit: Open, report: Path) -> None:
    page = visit(report)
    page.keyboard.press("j")
    page.locator("#side").focus()
    stops = []
    for _ in range(2):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.closest('#list, .tok')?.id"))
        assert page.evaluate("document.activeElement.getAttribute('aria-current')") in ("true", None)
    assert stops == ["list", ""], "the list, then the text's first token"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowDown")
    assert page.locator("#place").text_content() == "3 of 25"
    assert page.locator("#list [tabindex='0']").count() == 1
    assert page.evaluate("document.activeElement.tabIndex") == 0


def test_everything_can_be_reached_by_tab(visit: Open, report: Path) -> None:
    page = visit(report)
    wanted = page.evaluate(
        """(() => { const all = [...document.querySelectorAll('a[href], button, input, select, summary')]
          .filter((one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility());
          all.forEach((one, at) => { one.dataset.stop = at; }); return all.length; })()"""
    )
    seen = set()
    for _ in range(wanted + 40):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.dataset.stop"))
        outlined = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(f"document.activeElement === document.body || {outlined} !== 'none'")
        if len(seen - {None}) == wanted:
            break
    assert len(seen - {None}) == wanted > 30


def test_a_chosen_view_shows_where_colours_are_the_systems(browser: Any, report: Path) -> None:
    context = browser.new_context(forced_colors="active", reduced_motion="reduce")
    page = context.new_page()
    page.goto(report.as_uri())
    page.keyboard.press("2")

    def ground(selector: str) -> str:
        return str(page.locator(selector).first.evaluate("(one) => getComputedStyle(one).backgroundColor"))

    assert ground("[data-view=surprise]") != ground("[data-view=author]")
    assert ground("#list [aria-current=true]") != ground("#list button:not([aria-current])")
    assert len({ground(f"#legend .n{level}") for level in range(1, 9)}) == 8
    context.close()


@pytest.mark.parametrize("width", [1200, 1280])
def test_tables_are_not_cut_on_a_desk(visit: Open, report: Path, width: int) -> None:
    page = visit(report, width=width)
    for opened_too in (False, True):
        cut = page.evaluate(
            """[...document.querySelectorAll('.scroll:has(> table)')]
              .filter((one) => one.checkVisibility() && one.scrollWidth > one.clientWidth + 1)
              .map((one) => one.querySelector('caption').textContent)"""
        )
        assert cut == [], opened_too
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")


def test_authors_differ_without_colour(visit: Open, report: Path) -> None:
    page = visit(report)
    choose(page, "source", "tessy")
    looks = page.evaluate(
        """["s", "t"].map((who) => {
          const run = document.querySelector(`#pane .run.${who}`);
          return [getComputedStyle(run, "::before").content, getComputedStyle(run).textDecorationStyle,
                  getComputedStyle(run).textDecorationLine];
        })"""
    )
    assert looks == [['"S"', "solid", "none"], ['"T"', "dotted", "underline"]]
    assert page.locator("#legend").inner_text().split() == ["student", "teacher"]


def test_side_by_side(visit: Open, report: Path) -> None:
    page = visit(report)
    page.keyboard.press("s")
    assert page.locator("#side").get_attribute("aria-pressed") == "true"
    assert page.locator("#pane article h3").all_text_contents() == ["teacher-only", "tessy", "tessy"]
    tops = page.evaluate("[...document.querySelectorAll('#pane article')].map((one) => one.offsetTop)")
    assert len(set(tops)) == 1
    assert page.locator("#pane .current h3").text_content() == "teacher-only"
    page.keyboard.press("j")
    assert page.locator("#pane article").count() == 2
    page.locator("#pane article").nth(1).locator(".tok").nth(2).click()
    assert "author" in page.locator("#details").inner_text()


def test_side_by_side_of_many(visit: Open, tmp_path: Path) -> None:
    write_traces(tmp_path / "a.jsonl", [trace_of("q", sample) for sample in range(20)])
    write_report([tmp_path / "a.jsonl"], tmp_path / "report.html")
    page = visit(tmp_path / "report.html")
    page.keyboard.press("s")
    assert page.locator("#pane article").count() == 8
    for _ in range(12):
        page.keyboard.press("j")
    assert page.locator("#pane .current .meta").first.text_content() == "q#12"
    assert "Texts 9 to 16 of 20" in page.locator("#pane").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_the_address_keeps_the_place(visit: Open, report: Path) -> None:
    page = visit(report)
    choose(page, "source", "tessy")
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    page.keyboard.press("j")
    kept = page.evaluate("location.hash")
    again = visit(report, at=kept)
    assert current(again) == current(page) == "q1#0"
    assert again.input_value("#source") == "tessy"
    assert again.locator("[data-view=surprise]").get_attribute("aria-checked") == "true"


def test_an_outlier_opens_in_the_reader(visit: Open, report: Path) -> None:
    page = visit(report)
    choose(page, "source", "tessy")
    with settled(page):
        page.locator("a", has_text="q3#0").click()
    assert current(page) == "q3#0"
    assert page.locator("#pane h3").text_content() == "q3#0"
    assert page.input_value("#source") == ""
    assert page.evaluate("document.getElementById('reader').getBoundingClientRect().top") < 400


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(visit: Open, report: Path, scheme: str) -> None:
    page = visit(report, scheme=scheme)

    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light, dark = "rgb(255, 255, 255)", "rgb(20, 24, 29)"
    assert ground() == (light if scheme == "light" else dark)
    page.click("#theme")
    assert (page.locator("#theme-name").text_content(), ground()) == ("light", light)
    page.click("#theme")
    assert (page.locator("#theme-name").text_content(), ground()) == ("dark", dark)
    page.emulate_media(media="print")
    assert ground() == light, "paper is white"
    assert page.locator("#list").is_hidden()


@pytest.mark.parametrize("width", [360, 1280])
def test_no_width_makes_the_page_scroll_sideways(visit: Open, report: Path, width: int) -> None:
    page = visit(report, width=width)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    for key in ("", "s", "2"):
        if key:
            page.keyboard.press(key)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_hostile_text_runs_nothing(visit: Open, tmp_path: Path) -> None:
    spans = [Span(S, HOSTILE), Span(T, "z" * 1_000_000), Span(S, HOSTILE)]
    traces = [
        trace_of(
            HOSTILE,
            spans=spans,
            thinking=1,
            question=HOSTILE,
            strategy=HOSTILE,
            extra=json.dumps({"verdict": HOSTILE}),
        ),
        trace_of("other", status=Status.FOREIGN_TAG, reason=HOSTILE),
        trace_of("read", spans=[Span(S, HOSTILE)], thinking=0),
    ]
    path = write_traces(tmp_path / "a.jsonl", traces)
    write_readings(tmp_path / "r.jsonl", [reading_of(traces[2], "a", size=3)])
    report = tmp_path / "report.html"
    write_report([tmp_path], report, title=HOSTILE)
    for width in (360, 1280):
        page = visit(report, width=width)
        assert page.title() == f"{visible(HOSTILE)} · Weft report"
        text = page.locator("#pane .text:not(.prompt)").first.text_content()
        assert text == visible(HOSTILE)
        assert "characters left out" in page.locator("#pane").inner_text()
        for key in ("2", "3", "s", "j", "j", "1"):
            page.keyboard.press(key)
        assert page.locator("#pane .text:not(.prompt)").first.text_content() == visible(HOSTILE)
        assert page.locator("img, iframe, object, embed, [onerror]").count() == 0
        assert page.locator("script").count() == 2
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.fill("#q", "<script>")
        assert len(ids(page)) == 2
    assert path.stat().st_size > 1_000_000 > report.stat().st_size


HOSTILE_PLACES = (
    "#t=__proto__&view=toString&source=constructor",
    "#view=__proto__&t=%E0%A4%A",
    f"#t=tessy/q1%230&view=constructor&side=1&min=abc&flag=%3D%3Cimg%3E&q={'a' * 5000}",
    "#t=%3Cimg%20src=x%20onerror=alert(1)%3E",
)


@pytest.mark.parametrize("place", HOSTILE_PLACES)
def test_an_address_cannot_do_more_than_name_a_place(visit: Open, report: Path, place: str) -> None:
    page = visit(report, at=place)
    assert page.locator("img").count() == 0
    page.click("#clear")
    assert len(ids(page)) == 25
    assert page.locator("#list [aria-current=true]").count() == 1
    assert page.locator("[aria-checked=true]").text_content() == "Author"


def test_reading_goes_on_where_the_address_may_not_change(browser: Any, report: Path) -> None:
    """Firefox and Safari refuse it to whoever asks often; frames that are sandboxed always."""
    context = browser.new_context()
    page = context.new_page()
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.add_init_script("history.replaceState = () => { throw new DOMException('no', 'SecurityError'); };")
    page.goto(report.as_uri())
    for _ in range(3):
        page.keyboard.press("j")
    assert page.locator("#place").text_content() == "4 of 25"
    assert page.evaluate("location.hash") == ""
    assert said == []
    context.close()


def test_names_for_those_who_hear_the_page(visit: Open, report: Path) -> None:
    page = visit(report)
    for role, name in (
        ("searchbox", "Search"),
        ("combobox", "Source"),
        ("group", "Surprise, nats per token"),
        ("spinbutton", "from"),
        ("radio", "Surprise"),
        ("list", "Texts that match"),
        ("region", "Text"),
        ("img", "Surprise by source"),
        ("table", "What was read"),
        ("navigation", "Sections"),
    ):
        assert page.get_by_role(role, name=name, exact=True).first.is_visible(), (role, name)
    assert page.get_by_role("radio", checked=True).inner_text() == "Author"
    assert page.get_by_role("button", name="Side by side", pressed=False).count() == 1


def test_what_is_put_into_the_page_is_not_run(browser: Any, report: Path) -> None:
    """The page's policy, not its good manners: markup that got in asks for nothing and runs nothing."""
    context = browser.new_context()
    page = context.new_page()
    failed: list[str] = []
    page.goto(report.as_uri())
    page.on("requestfailed", lambda request: failed.append(request.failure))
    page.evaluate(
        """() => {
          window.seen = [];
          addEventListener('securitypolicyviolation', (event) => window.seen.push(event.effectiveDirective));
          document.body.insertAdjacentHTML('beforeend',
            '<img src="http://127.0.0.1:9/a"><p id="in" style="color: red" onclick="window.ran = 1">x</p>'
            + '<iframe src="http://127.0.0.1:9/b"></iframe><a ping="http://127.0.0.1:9/c">y</a>');
          const script = document.createElement('script');
          script.textContent = 'window.ran = 1';
          document.body.append(script);
          document.getElementById('in').click();
          fetch('http://127.0.0.1:9/d').catch(() => 0);
        }"""
    )
    # The browser says what it blocked when it comes to it, not within a number of frames.
    page.wait_for_function(
        "(all) => all.every((one) => window.seen.includes(one))",
        arg=["img-src", "script-src-elem", "script-src-attr", "style-src-attr", "connect-src"],
    )
    assert page.evaluate("window.ran") is None
    assert set(failed) == {"csp"}, "none was sent"
    context.close()


def test_a_million_marks_on_one_letter(visit: Open, tmp_path: Path) -> None:
    traces = [trace_of("a"), trace_of("b", spans=[Span(S, "x" + "\u0301" * 1_000_000)], thinking=0)]
    write_traces(tmp_path / "a.jsonl", traces)
    write_report([tmp_path], tmp_path / "report.html")
    page = visit(tmp_path / "report.html")
    with settled(page):
        page.keyboard.press("j")
    assert "combining marks>" in page.locator("#pane").inner_text()
    assert page.locator("#pane .tok").first.evaluate("(one) => one.textContent.length") < 100


def test_ids_that_objects_have(visit: Open, tmp_path: Path) -> None:
    names = ("__proto__", "constructor", "toString")
    readings = [
        replace(reading_of(trace_of(f"q{at}"), name), sample=name, prompt=name)
        for at, name in enumerate(names)
    ]
    write_readings(tmp_path / "r.jsonl", readings)
    write_report([tmp_path], tmp_path / "report.html")
    page = visit(tmp_path / "report.html")
    assert ids(page) == list(names)
    for name in names:
        choose(page, "source", name)
        assert page.locator("#pane h3").text_content() == name


def test_a_thousand_traces(visit: Open, tmp_path: Path) -> None:
    """Of some 330 tokens each, with all that is known of each token."""
    run = world(tmp_path / "run", 500, words=500)
    report = tmp_path / "report.html"
    written = write_report([run], report)
    assert written.of == written.texts == 1001
    assert report.stat().st_size < 5_000_000
    page = visit(report)
    assert len(ids(page)) == 1001
    assert page.locator("#pane .tok").count() > 300
    page.keyboard.press("j")
    assert current(page) == "q1#0"
    choose(page, "source", "tessy")
    page.fill("#q", "q499")
    assert ids(page) == ["q499#0"]
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    assert page.locator("#pane article").count() == 2


def test_without_scripts_the_figures_are_there(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("svg.plot").count() > 15
    assert page.locator("noscript").count() == 1
    assert page.locator("#app").is_hidden()
    context.close()
