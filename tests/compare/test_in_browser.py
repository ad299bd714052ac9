"""The page in a real browser: on a phone and a desk, by day and by night.

The screenshots are left in the folder of the run (`--basetemp`), to be looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from celery_postgres.compare.report import page

from .browser import Browser, installed
from .hostile import hostile
from .sample import NAMES, sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PHONE, DESK = 360, 1280

#: Colours as the browser computes them: of the paper, of a card, of its text, and of each contender's line.
COLOURS = """(() => {
    const colour = (selector, property) => getComputedStyle(document.querySelector(selector))[property];
    return {
        paper: colour("body", "backgroundColor"),
        card: colour("figure", "backgroundColor"),
        ink: colour("figure h3", "color"),
        faint: colour("figure .unit", "color"),
        lines: [0, 1, 2].map(index => colour(`.large g.c${index} .line`, "stroke")),
        dashes: [0, 1, 2].map(index => colour(`.large g.c${index} .line`, "strokeDasharray")),
    };
})()"""

#: What stands out of the window and is in no box that can be scrolled.
SPILT = """[...document.body.querySelectorAll("*")]
    .filter(one => !one.closest(".scroll") && one.getBoundingClientRect().right > WIDTH + 0.5)
    .map(one => one.outerHTML.slice(0, 100))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = installed()
    if program is None:
        pytest.skip("not run: Chromium is not installed (apt-get install chromium)")
    with Browser(program) as browser:
        yield browser


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    page.write(sample(), path)
    return path


def requests(browser: Browser) -> list[str]:
    """What the page asked for, whether it got it or not."""
    return [
        event.params["request"]["url"]
        for event in browser.events
        if event.method == "Network.requestWillBeSent"
    ]


def complaints(browser: Browser) -> list[Any]:
    """What the browser has to say about the page: refused by its policy, not found, not understood."""
    return [
        event.params
        for event in browser.events
        if event.method in {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"}
    ]


def luminance(colour: str) -> float:
    """How bright `rgb(…)` is, as WCAG has it."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_page_fits_and_asks_for_nothing(browser: Browser, shown: Path, width: int, scheme: str) -> None:
    browser.open(shown, width, scheme)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate(SPILT.replace("WIDTH", str(width))) == []
    picture = shown.with_name(f"{width}-{scheme}.png")
    browser.screenshot(picture)
    assert picture.stat().st_size > 50_000  # an empty page has a tenth
    assert requests(browser) == [shown.as_uri()]
    assert complaints(browser) == []


def test_schemes_differ_and_both_can_be_read(browser: Browser, shown: Path) -> None:
    """The contenders stand out from their card and from one another, also by their dashes."""
    found = {}
    for scheme in ("light", "dark"):
        browser.open(shown, DESK, scheme)
        found[scheme] = colours = browser.evaluate(COLOURS)
        assert contrast(colours["ink"], colours["card"]) > 7
        assert contrast(colours["faint"], colours["card"]) > 4.5
        assert all(contrast(line, colours["card"]) > 3 for line in colours["lines"])
        assert len(set(colours["lines"])) == len(set(colours["dashes"])) == len(NAMES)
    light, dark = found["light"], found["dark"]
    assert luminance(light["paper"]) > 0.8
    assert luminance(dark["paper"]) < 0.05
    assert not set(light["lines"]) & set(dark["lines"])


def test_wide_tables_scroll_in_their_own_box(browser: Browser, shown: Path) -> None:
    """With the head of the row in sight, and by the keyboard."""
    browser.open(shown, PHONE, "light")
    box = "[...document.querySelectorAll('.scroll')].find(one => one.querySelector('.glance'))"
    assert browser.evaluate(f"{box}.scrollWidth > {box}.clientWidth")
    before = browser.evaluate(f"{box}.querySelector('tbody th').getBoundingClientRect().left")
    browser.evaluate(f"{box}.focus(), {box}.scrollLeft = 1000")
    assert browser.evaluate(f"{box}.scrollLeft") > 50
    assert browser.evaluate(f"{box}.querySelector('tbody th').getBoundingClientRect().left") == before
    assert browser.evaluate(f"document.activeElement === {box}")


def test_words_in_the_plots_are_large_enough_on_a_phone(browser: Browser, shown: Path) -> None:
    browser.open(shown, PHONE, "light")
    smallest = browser.evaluate(
        "Math.min(...[...document.querySelectorAll('.plot text')].map(one => "
        "parseFloat(getComputedStyle(one).fontSize) * one.getScreenCTM().a))"
    )
    assert smallest > 9


def test_paper_is_white_and_holds_everything(browser: Browser, shown: Path) -> None:
    """Printed by night as by day, on A4."""
    browser.open(shown, 703, "dark", media="print")
    assert browser.evaluate(COLOURS)["card"] == "rgb(255, 255, 255)"
    assert browser.evaluate("document.documentElement.scrollWidth") == 703
    boxes = "[...document.querySelectorAll('.scroll')]"
    assert browser.evaluate(f"{boxes}.filter(one => one.scrollWidth > one.clientWidth + 1).length") == 0


def test_hostile_words_run_nothing_and_fit(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    page.write(hostile(sample()), path)
    browser.open(path, PHONE, "light")
    assert browser.evaluate("document.documentElement.scrollWidth") == PHONE
    assert browser.evaluate("document.scripts.length + document.images.length") == 0
    assert requests(browser) == [path.as_uri()]
    assert complaints(browser) == []


@pytest.mark.parametrize("policy", [True, False])
def test_policy_holds_back_what_slips_in(browser: Browser, shown: Path, tmp_path: Path, policy: bool) -> None:
    """With it, nothing is sent; and with it or without, the tests above would notice."""
    text = shown.read_text().replace("<main>", '<main><img alt="" src="http://slipped-in.example/x.png">')
    if not policy:
        text = text.replace("Content-Security-Policy", "X-No-Policy")
    path = tmp_path / "slipped.html"
    path.write_text(text)
    browser.open(path, DESK, "light")
    assert "http://slipped-in.example/x.png" in requests(browser)
    assert complaints(browser)
    refused = [
        event.params.get("blockedReason")
        for event in browser.events
        if event.method == "Network.loadingFailed"
    ]
    assert refused == (["csp"] if policy else [None])
