from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from evaluation.report import figures, layout, render_html, write_report
from evaluation.results import AuditResult, Estimate, Example

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>[red]$x_'
MAPPINGS = ("attribute", "data", "model", "training", "provenance")
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


def empty(*, rows: tuple[Estimate, ...] = (), **mappings: Any) -> AuditResult:
    blank: dict[str, Any] = {item: {} for item in MAPPINGS}
    return AuditResult(rows=rows, **(blank | mappings))


def poisoned(value: Any) -> Any:
    """The same structure with ``HOSTILE`` for every string and as one more key of every mapping."""
    if isinstance(value, dict):
        safe = {key: poisoned(item) for key, item in value.items()}
        return safe | {HOSTILE: next(iter(safe.values()))}
    if isinstance(value, list | tuple):
        return [poisoned(item) for item in value]
    return HOSTILE if isinstance(value, str) else value


@pytest.fixture(scope="module")
def html(audit: AuditResult) -> str:
    return render_html(audit)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_page_is_self_contained_and_well_formed(html: str, page: Page) -> None:
    assert page.open == []
    assert {"script", "link", "iframe", "object", "video", "source"}.isdisjoint(tag for tag, _ in page.tags)
    assert all(str(image["src"]).startswith("data:image/") for image in page.all("img"))
    assert "url(" not in html
    assert "@import" not in html
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none'")


def test_page_has_semantics(page: Page) -> None:
    assert len(page.all("h1")) == len(page.all("nav")) == len(page.all("main")) == 1
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    anchors = [str(link["href"])[1:] for link in page.all("a") if str(link["href"]).startswith("#")]
    assert len(anchors) == 11
    assert set(anchors) <= set(identifiers)
    assert len(page.all("caption")) == len(page.all("table")) == 10
    assert all(header.get("scope") in {"col", "row", "rowgroup"} for header in page.all("th"))


def test_every_picture_has_its_own_text(audit: AuditResult, page: Page) -> None:
    texts = [image["alt"] for image in page.all("img")]
    assert len(texts) == 2 + 2 + 2 + len(audit.examples)
    assert all(texts)
    assert len(set(texts)) == len(texts)


def test_rendering_is_reproducible(audit: AuditResult, html: str) -> None:
    assert render_html(audit) == html


def test_everything_from_outside_is_escaped(audit: AuditResult) -> None:
    mappings: dict[str, Any] = {item: poisoned(getattr(audit, item)) for item in MAPPINGS}
    mappings["data"]["sources"].append({"name": "bad", "url": "javascript:alert(1)"})
    rows = tuple(
        replace(row, system=HOSTILE, group=HOSTILE, split=HOSTILE, name=f"{row.name}{HOSTILE}")
        for row in audit.rows[:8]
    )
    example = Example(
        id=HOSTILE,
        png_base64=HOSTILE,
        captions=(HOSTILE, "x" * 10_000),
        top_off=(HOSTILE,),
        top_on=(HOSTILE,),
    )
    page = Page(render_html(replace(audit, rows=rows, examples=(example,), **mappings)))
    assert page.all("script") == []
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert all(str(link["href"]).startswith(("#", "http")) for link in page.all("a"))
    assert "javascript:alert(1)" in page.text["trained"]
    assert HOSTILE in page.text["examples"]
    assert "x" * 10_000 in page.text["examples"]


def test_empty_audit_still_makes_a_page() -> None:
    page = Page(render_html(empty()))
    assert "was not measured" in page.text["summary"]
    assert "What it cost" not in page.text["cost"]
    assert page.all("img") == []
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


@pytest.mark.parametrize(
    ("name", "system", "section", "printed"),
    [
        ("leakage/gender/embedding/max", "eraser on", "summary", ".12 [.11, .13]"),
        ("leakage/gender/features/mlp", "eraser off", "leakage", "[.11, .13]"),
        ("leakage/gender/embedding/max_change", "random direction", "leakage", ".123* [.113, .133]"),
        ("retrieval/t2i_recall_10", "eraser on", "summary", "12.3% [11.3, 13.3]"),
        ("zero_shot/role_top5", "random direction", "cost", "12.3%"),
        ("geometry/gender/cosine_kept", "eraser on", "geometry", "[.113, .133]"),
    ],
)
def test_numbers_come_from_rows(
    audit: AuditResult,
    page: Page,
    swap: Callable[..., AuditResult],
    name: str,
    system: str,
    section: str,
    printed: str,
) -> None:
    row = replace(audit.find(name, system=system), value=0.123, low=0.113, high=0.133)
    assert printed not in page.text[section]
    assert printed in Page(render_html(swap(row))).text[section]


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
