from __future__ import annotations

import base64
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from evaluation.pictures.shown import Examples, HeatMap, Picture, Ranking, Rankings
from evaluation.report import figures, layout, render_html, write_report
from evaluation.results import AuditResult
from tests.evaluation.report.odd_audits import MAPPINGS, empty, poisoned

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>[red]$x_1$\n'
LONG, WORDS = "x" * 10_000, "a long caption " * 700
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Tags with attributes, and the text of each section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = defaultdict(str)
        self.open: list[str] = []
        self.section = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = str(dict(attrs)["id"])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text[self.section] += data.replace("\xa0", " ")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def html(audit: AuditResult) -> str:
    return render_html(audit)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_page_is_self_contained_and_well_formed(html: str, page: Page) -> None:
    assert page.open == []
    assert {"link", "iframe", "object", "video", "source"}.isdisjoint(tag for tag, _ in page.tags)
    assert all(str(image["src"]).startswith("data:image/") for image in page.all("img"))
    assert all(str(image["href"]).startswith("data:image/") for image in page.all("image"))
    assert all(str(use["href"]).startswith("#picture-") for use in page.all("use"))
    assert "url(" not in html
    assert "@import" not in html
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none'")


def test_the_one_script_is_allowed_by_its_digest_and_no_other(html: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].endswith(f"; script-src 'sha256-{digest}'")


def test_page_has_semantics(page: Page) -> None:
    assert len(page.all("h1")) == len(page.all("nav")) == len(page.all("main")) == 1
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    anchors = [str(link["href"])[1:] for link in page.all("a") if str(link["href"]).startswith("#")]
    assert anchors[0] == "summary"  # the skip link
    assert len(anchors) == 12
    assert set(anchors) <= set(identifiers)
    assert len(page.all("caption")) == len(page.all("table")) > 10
    assert all(header.get("scope") in {"col", "row", "rowgroup"} for header in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.tags if tag in {"h1", "h2", "h3", "h4"}]
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_regions_that_scroll_can_be_reached_and_have_names_of_their_own(html: str, page: Page) -> None:
    regions = [own for own in page.all("div") if own.get("role") == "region"]
    assert all(own["tabindex"] == "0" for own in regions)
    captions = dict(re.findall(r'<caption id="([^"]+)"><span>(.*?)</span>', html))
    names = [captions[str(own["aria-labelledby"])] for own in regions]
    assert len(names) == len(set(names)) == len(page.all("table"))


def test_every_picture_has_its_own_text(page: Page) -> None:
    texts = [str(image["alt"]) for image in page.all("img")]
    assert len(texts) == 1 + 2 + 2 + 2
    assert all(texts)
    assert len(set(texts)) == len(texts)
    assert all(own["aria-label"] for own in page.all("svg") if own.get("role") == "img")
    assert all(own.get("role") == "img" or own.get("aria-hidden") for own in page.all("svg"))


def test_a_picture_is_stored_once_however_often_it_is_shown(audit: AuditResult, html: str) -> None:
    for number, picture in enumerate(audit.examples.pictures.values()):
        assert html.count(picture.webp_base64) == 1
        assert html.count(f'href="#picture-{number}"') >= 2


def test_rendering_is_reproducible(audit: AuditResult, html: str) -> None:
    assert render_html(audit) == html


def test_everything_from_outside_is_escaped(audit: AuditResult) -> None:
    mappings: dict[str, Any] = {item: poisoned(getattr(audit, item), HOSTILE) for item in MAPPINGS}
    mappings["data"]["sources"].append({"name": "bad", "url": "javascript:alert(1)"})
    rows = tuple(
        replace(row, system=HOSTILE, group=HOSTILE, split=HOSTILE, name=f"{row.name}{HOSTILE}")
        for row in audit.rows[:8]
    )
    ranking = Ranking(query=HOSTILE, off=(HOSTILE, LONG, WORDS), on=(LONG, HOSTILE), moved=0.5)
    examples = Examples(
        pictures={HOSTILE: Picture(webp_base64=HOSTILE, captions=(HOSTILE, LONG), group=HOSTILE)},
        by_picture=Rankings(items=(ranking,), of=1, median=0.5),
        by_text=Rankings(items=(replace(ranking, off=(HOSTILE,)),), of=1, median=0.5),
        heat=(HeatMap(picture=HOSTILE, group=HOSTILE, text=HOSTILE, off=HOSTILE, on=HOSTILE),),
        notes=(HOSTILE,),
    )
    page = Page(render_html(replace(audit, rows=rows, examples=examples, **mappings)))
    assert page.all("script") == [{}]  # its own
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert all(str(link["href"]).startswith(("#", "http")) for link in page.all("a"))
    assert "javascript:alert(1)" in page.text["trained"]
    assert page.text["examples"].count(HOSTILE) >= 8
    assert LONG in page.text["examples"]
    assert WORDS in page.text["examples"]


def test_a_long_caption_is_folded_and_stays_in_reach(audit: AuditResult) -> None:
    shown = dict(audit.examples.pictures)
    first = next(iter(shown))
    shown[first] = replace(shown[first], captions=(LONG,))
    html = render_html(replace(audit, examples=replace(audit.examples, pictures=shown)))
    pattern = r'<details class="long"><summary><bdi>(x+)</bdi>…</summary><bdi>(x+)</bdi></details>'
    folded = re.search(pattern, html)
    assert folded is not None
    assert (len(folded[1]), len(folded[2])) == (120, 10_000)
    assert all(len(str(own["aria-label"])) < 200 for own in Page(html).all("svg") if "aria-label" in own)


def test_a_name_is_no_formula_and_no_line_break_in_a_figure(audit: AuditResult) -> None:
    names = dict.fromkeys(row.system for row in audit.rows)
    renamed = tuple(replace(row, system=f"$x_1$ $\\frac${HOSTILE} {row.system}") for row in audit.rows)
    assert len(names) > 3
    assert "</html>" in render_html(replace(audit, rows=renamed))


def test_empty_audit_still_makes_a_page() -> None:
    page = Page(render_html(empty()))
    assert "was not measured" in page.text["summary"]
    assert "What it cost" not in page.text["cost"]
    assert page.all("img") == page.all("svg") == []
    assert "nan" not in "".join(page.text.values()).lower().replace("provenance", "")


def test_any_missing_key_only_leaves_a_gap(audit: AuditResult) -> None:
    for item in MAPPINGS:
        mapping = getattr(audit, item)
        for key in mapping:
            rest = {other: value for other, value in mapping.items() if other != key}
            partial: dict[str, Any]
            for partial in ({item: rest}, {item: {key: None}}):
                assert "</html>" in render_html(empty(**partial))
    hollow = empty(
        data={"splits": {"test": {}}, "sources": [{}], "limits": []},
        model={"eraser": {}},
        training={"curve": [{}], "stages": {"train": None}, "config": {}},
    )
    assert "</html>" in render_html(hollow)


def test_missing_rows_only_leave_a_gap(audit: AuditResult) -> None:
    for prefix, section in (("leakage/", "leakage"), ("geometry/", "geometry")):
        rest = tuple(row for row in audit.rows if not row.name.startswith(prefix))
        assert "not measured" in Page(render_html(empty(rows=rest))).text[section]
    bare = tuple(
        replace(row, low=None, high=None, null=None, null_low=None, null_high=None) for row in audit.rows
    )
    assert ".78" in Page(render_html(empty(rows=bare))).text["leakage"]


PRINTED = (
    (
        "leakage/gender/embedding/max",
        "eraser on",
        0.123,
        {"summary": ".12 [.11, .13]", "tradeoff": "[.11, .13]"},
    ),
    ("leakage/gender/pixels/max", "pixels", 0.223, {"tradeoff": "[.21, .23]"}),
    ("leakage/gender/embedding/logistic", "eraser on", 0.323, {"summary": "[.31, .33]"}),
    (
        "leakage/gender/embedding/max_change",
        "random direction",
        0.423,
        {"summary": ".423* [.413, .433]", "leakage": ".423* [.413, .433]"},
    ),
    ("probe/subgroup_accuracy", "eraser off", 0.523, {"summary": "52.3% [51.3, 53.3]"}),
    ("leakage/gender/features/mlp", "eraser off", 0.623, {"leakage": "[.61, .63]"}),
    ("retrieval/t2i_recall_10", "eraser on", 0.723, {"summary": "72.3% [71.3, 73.3]"}),
    ("zero_shot/role_top5", "random direction", 0.823, {"cost": "82.3%"}),
    ("geometry/gender/cosine_kept", "eraser on", 0.923, {"geometry": "[.913, .933]"}),
)


def test_numbers_come_from_rows(audit: AuditResult, page: Page, swap: Callable[..., AuditResult]) -> None:
    rows = [
        replace(audit.find(name, system=system), value=value, low=value - 0.01, high=value + 0.01)
        for name, system, value, _ in PRINTED
    ]
    changed = Page(render_html(swap(*rows)))
    for *_, printed in PRINTED:
        for section, text in printed.items():
            assert text not in page.text[section]
            assert text in changed.text[section]


def test_figures_show_their_rows(audit: AuditResult, swap: Callable[..., AuditResult]) -> None:
    row = audit.find("leakage/gender/embedding/max", system="eraser on")

    def drawn(result: AuditResult) -> figures.Picture:
        grid = layout.leakage_grids(result)[0]
        return figures.dot_plot(grid, axis="accuracy", caption="Leakage.", limits=(0.0, 1.0))

    assert drawn(audit).uri == drawn(audit).uri
    assert drawn(audit).uri != drawn(swap(replace(row, value=0.99))).uri
    assert ".99" in drawn(swap(replace(row, value=0.99))).alt
    grids = layout.leakage_grids(audit)
    low, high = figures.shared_limits(grids)
    cells = [cell for grid in grids for line in grid.lines for cell in line.cells if cell]
    assert all(low < cell.low and cell.high < high for cell in cells if cell.low and cell.high)


def test_curve_skips_what_was_not_recorded() -> None:
    curve: list[dict[str, float | None]] = [
        {"epoch": 1, "loss": 2.0},
        {"epoch": 2, "loss": None},
        {"loss": 0.5},
    ]
    picture = figures.curve_plot(curve, series={"loss": "loss"}, axis="loss", caption="Loss.")
    assert picture is not None
    assert "2 in epoch 1 to 0.5 in epoch 3" in picture.alt
    assert figures.curve_plot(curve, series={"other": "other"}, axis="x", caption="x") is None


def test_report_is_written_whole_or_not_at_all(audit: AuditResult, html: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(audit, path)
    assert path.read_text(encoding="utf-8") == html
    broken = replace(audit, rows=(None,))  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        write_report(broken, path)
    assert path.read_text(encoding="utf-8") == html
    assert list(tmp_path.iterdir()) == [path]


def test_an_axis_in_per_cent_shows_no_ranks(audit: AuditResult) -> None:
    recall = audit.find("retrieval/i2t_recall_10", system="eraser on")
    rank = replace(recall, name="retrieval/i2t_median_rank", value=66.5, low=60.0, high=70.0, unit="rank")
    grid = layout.cost_grids(replace(audit, rows=(recall, rank)))[0]
    assert [line.label for line in grid.lines] == ["Image → text, R@10", "Image → text, median rank"]
    assert [line.label for line in grid.of_unit("fraction").lines] == ["Image → text, R@10"]


@pytest.mark.parametrize(
    ("model", "elsewhere"),
    [
        ({"gate": {"embedding": {"decision": "abstain", "reasons": []}}, "eraser": None}, False),
        ({"eraser": {"details": {"gate": {"decision": "act"}, "fitted_on": "d1"}}}, False),
        ({"eraser": {"details": {"gate": {"decision": "act"}, "fitted_on": "d2"}}}, True),
        ({"eraser": {"details": {"gate": {"decision": "act"}}}}, True),
        ({"eraser": {"details": {}}}, False),
    ],
)
def test_a_gate_that_judged_other_data_is_said_to_have(model: dict[str, Any], elsewhere: bool) -> None:
    given = empty(model=model, data={"splits": {"train": {"digest": "d1"}}})
    assert ("fitted and judged on other data" in render_html(given)) is elsewhere
