"""The report and the comparison, opened from disk in Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from evaluation.report import render_html
from evaluation.report.files import AUDIT
from evaluation.results import AuditResult
from tests.browser.checks import barriers, broken_images, complaints, sticking_out
from tests.browser.trained import Trained

Opened = Callable[..., Page]
WIDTHS = (390, 1400)
SCHEMES = ("light", "dark")
A4_INSIDE_MARGINS = 673  # CSS pixels of 210 mm less two margins of 16 mm
SCRIPT = "<script>alert(1)</script>"
BROKEN_OUT = '"><img src=x onerror=alert(1)>'
LONG = "unbroken" * 1250
SPACED = "a word " * 1428 + "last"


def _show(page: Page, path: Path) -> None:
    """Open a report with everything in it unfolded."""
    page.goto(path.as_uri())
    page.eval_on_selector_all("details", "all => all.forEach(each => each.open = true)")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_charts_are_shown_nothing_fails_and_it_fits(
    opened: Opened, written: Path, width: int, scheme: str
) -> None:
    page = opened(width, scheme)
    heard = complaints(page)
    _show(page, written)
    assert page.locator("figure img").count() >= 2
    assert broken_images(page) == []
    assert sticking_out(page) == []
    assert heard == []


def test_the_dark_scheme_is_dark(opened: Opened, report: Path) -> None:
    def lightness(scheme: str) -> int:
        page = opened(1400, scheme)
        _show(page, report)
        painted = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in re.findall(r"\d+", painted)[:3])

    assert lightness("dark") < 150 < 600 < lightness("light")


def test_axe_finds_no_barrier(opened: Opened, written: Path) -> None:
    page = opened()
    _show(page, written)
    assert barriers(page, but=["color-contrast"]) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_contrast_suffices(opened: Opened, written: Path, scheme: str) -> None:
    """With tables folded: thousands of cells take axe a minute, and some lie out of its sight."""
    page = opened(1400, scheme)
    page.goto(written.as_uri())
    assert barriers(page, rules=["color-contrast"]) == []


def test_every_link_and_table_is_reached_by_tab(opened: Opened, written: Path) -> None:
    page = opened(390)
    _show(page, written)
    reached = _tab_through(page)
    first = reached[0]
    assert first["href"].startswith("#"), "the first stop is a link past the navigation"
    assert all(stop["seen"] for stop in reached), "focus is visible wherever it goes"
    assert {stop["href"] for stop in reached} >= set(
        page.eval_on_selector_all("nav a", "links => links.map(link => link.getAttribute('href'))")
    )
    tables = page.locator(".scroll:visible").count()
    assert tables > 2
    assert sum("scroll" in stop["classes"] for stop in reached) == tables


def _tab_through(page: Page) -> list[dict[str, Any]]:
    """What has the focus after each Tab, until it leaves the page."""
    stops = []
    for _ in range(500):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            """() => { const now = document.activeElement, style = getComputedStyle(now);
              return now === document.body ? null : {href: now.getAttribute("href") ?? "",
                classes: now.className.split(" "),
                seen: style.outlineStyle !== "none" && now.getBoundingClientRect().width > 1}; }"""
        )
        if stop is None:
            return stops
        stops.append(stop)
    raise AssertionError("Tab does not get to the end of the page")


def test_a_wide_table_scrolls_by_arrow_keys(opened: Opened, report: Path) -> None:
    page = opened(390)
    _show(page, report)
    table = page.locator("#leakage .scroll").first
    table.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("table => table.scrollLeft > 0", arg=table.element_handle())


def test_a_section_link_leads_to_its_section(opened: Opened, report: Path) -> None:
    page = opened()
    _show(page, report)
    page.locator("nav a[href='#limits']").press("Enter")
    page.wait_for_function(
        "() => document.querySelector('#limits').getBoundingClientRect().top < innerHeight"
    )


def test_it_prints_to_a4_with_nothing_cut_off(opened: Opened, written: Path) -> None:
    page = opened(A4_INSIDE_MARGINS, "dark")
    _show(page, written)
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert sticking_out(page) == []
    printed = page.pdf(prefer_css_page_size=True)
    sizes = set(re.findall(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", printed))
    assert {(round(float(wide)), round(float(high))) for wide, high in sizes} == {(595, 842)}  # A4 in points
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 1


def _replaced(value: Any, new: Mapping[str, str]) -> Any:
    """JSON with some of its strings replaced, keys and values."""
    match value:
        case dict():
            return {new.get(key, key): _replaced(item, new) for key, item in value.items()}
        case list():
            return [_replaced(item, new) for item in value]
        case str():
            return new.get(value, value)
    return value


@pytest.fixture(scope="module")
def hostile(trained: list[Trained], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of an audit whose captions, group and model are written by somebody who means harm."""
    audit = json.loads((trained[0].folder / AUDIT).read_text())
    examples = audit["examples"]
    moved, prompt = examples["by_picture"]["items"][0], examples["by_text"]["items"][0]["query"]
    caption = examples["pictures"][moved["query"]]["captions"][0]
    from_outside = dict.fromkeys(("woman", audit["model"]["image_tower"], caption), SCRIPT)
    harm = from_outside | {prompt: BROKEN_OUT} | dict(zip(moved["off"], (LONG, SPACED), strict=False))
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    path.write_text(render_html(AuditResult.from_json(json.dumps(_replaced(audit, harm)))), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", WIDTHS)
def test_what_comes_from_outside_stays_text(opened: Opened, report: Path, hostile: Path, width: int) -> None:
    page = opened(width)
    _show(page, report)
    own = page.locator("script").count()
    heard = complaints(page)
    _show(page, hostile)
    assert page.locator("script").count() == own
    assert page.locator("img[src=x]").count() == 0
    assert broken_images(page) == []
    text = page.evaluate("document.body.textContent")
    for caption in (SCRIPT, BROKEN_OUT, LONG, SPACED):
        assert caption in text
    assert sticking_out(page) == []
    assert heard == []
