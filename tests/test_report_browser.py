"""The report in a real browser: it renders, reads by keyboard, filters, asks for nothing, and runs no text.

Needs Chromium and Playwright's Python package; no browser of Playwright's own is downloaded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from report_world import HOSTILE, S, T, reading_of, trace_of, world, write_readings, write_traces
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
    text = next(one for one in data["texts"] if one["source"] == "tessy")
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


def test_a_thousand_traces(visit: Open, tmp_path: Path) -> None:
    run = world(tmp_path / "run", 500, words=150)
    report = tmp_path / "report.html"
    written = write_report([run], report)
    assert written.of == 1001
    assert report.stat().st_size < 5_000_000
    page = visit(report)
    assert len(ids(page)) == written.texts > 900
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
