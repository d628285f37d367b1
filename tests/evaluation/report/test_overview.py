"""What a reader sees first: the main numbers, and utility against leakage with its front."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from evaluation.report import figures, overview
from evaluation.report.scatter import Point, Span, scatter
from evaluation.results import AuditResult

Swap = Callable[..., AuditResult]


def svg(picture: figures.Picture) -> ElementTree.Element:
    return ElementTree.fromstring(base64.b64decode(picture.uri.partition(",")[2]))


def point(label: str, x: float, y: float, *, front: bool = False) -> Point:
    spans = (Span(value, value - 0.1, value + 0.1) for value in (x, y))
    return Point(label=label, x=next(spans), y=next(spans), series=label, front=front)


def test_the_main_numbers_stand_before_and_after(audit: AuditResult) -> None:
    grid = overview.headline_grid(audit)
    assert grid is not None
    assert grid.columns == ("eraser off", "eraser on", "change, eraser on", "change, random direction")
    lines = {line.label: [cell and cell.value for cell in line.cells] for line in grid.lines}
    assert lines["Leakage, strongest attacker"] == [0.78, 0.74, -0.041, -0.002]
    assert lines["Leakage, linear attacker"] == [0.75, 0.53, None, None]
    assert lines["Image → text, R@10"] == pytest.approx([0.304, 0.292, -0.012, -0.003])
    assert [line.label for line in grid.lines if line.section == overview.UTILITY] == [
        "Image → text, R@10",
        "Text → image, R@10",
        "Zero-shot, role, top 1",
        "Probe, subgroup accuracy",
    ]


def test_ranking_and_groups_are_among_the_main_numbers(audit: AuditResult) -> None:
    some = audit.find("leakage/gender/embedding/max", system="eraser on")
    names = ("ranking/gender/max_skew_10", "ranking/gender/max_skew_100", "groups/gender/probe/accuracy_gap")
    rows = (
        *(replace(some, name=name) for name in names),
        replace(some, name="groups/gender/probe/accuracy", group="man"),
    )
    grid = overview.headline_grid(replace(audit, rows=(*audit.rows, *rows)))
    assert grid is not None
    labels = [line.label for line in grid.lines if line.section == overview.BIAS]
    assert labels[2:] == ["Ranking skew, first 10 pictures", "Largest gap between groups, probe accuracy"]


def test_without_an_edit_or_without_anything_the_main_numbers_shrink(audit: AuditResult) -> None:
    off = tuple(row for row in audit.rows if row.system == "eraser off")
    grid = overview.headline_grid(replace(audit, rows=off))
    assert grid is not None
    assert grid.columns == ("eraser off",)
    assert overview.headline_grid(replace(audit, rows=())) is None


def test_the_trade_off_places_systems_and_draws_the_front(audit: AuditResult, swap: Swap) -> None:
    found = overview.tradeoff(audit)
    assert found is not None
    assert found.utility == "mean recall at 10"
    lines = {line.system: line for line in found.lines}
    assert list(lines) == ["eraser off", "eraser on", "random direction", "pixels", "untrained tower"]
    assert tuple(lines["eraser on"].leakage) == pytest.approx((0.74, 0.67, 0.81))
    assert lines["eraser on"].utility is not None
    assert lines["eraser on"].utility.value == pytest.approx(100 * (0.292 + 0.275) / 2)
    assert [line.front for line in found.lines] == [True, True, False, None, None]
    assert lines["pixels"].utility is None
    assert "eraser on (0.74, 28.3)" in found.picture.alt
    assert "pixels at 0.84" in found.picture.alt
    worse = replace(audit.find("leakage/gender/embedding/max", system="eraser on"), value=0.79, high=0.85)
    beaten = overview.tradeoff(swap(worse))
    assert beaten is not None
    assert [line.front for line in beaten.lines][:3] == [True, False, False]


def test_without_captions_utility_is_the_first_task(audit: AuditResult) -> None:
    rows = tuple(row for row in audit.rows if "retrieval/" not in row.name)
    found = overview.tradeoff(replace(audit, rows=rows))
    assert found is not None
    assert found.utility == "Role, top 1"
    assert overview.tradeoff(replace(audit, rows=audit.select("leakage/"))) is None  # type: ignore[arg-type]


def test_every_point_is_drawn_with_its_crosses() -> None:
    alone = svg(scatter([point("a", 0.5, 0.5)], x_axis="x", y_axis="y", caption="Some."))
    crossed = svg(scatter([point("a", 0.5, 0.5), point("b", 0.6, 0.9)], x_axis="x", y_axis="y", caption="S."))
    count = {len(list(each.iter("{http://www.w3.org/2000/svg}path"))) for each in (alone, crossed)}
    assert len(count) == 2
    bare = replace(point("a", 0.5, 0.5), x=Span(0.5), y=Span(0.5))
    assert scatter([bare], x_axis="x", y_axis="y", caption="Some.").uri.startswith("data:image/svg+xml")


def test_a_figure_is_the_same_for_the_same_points_and_names_its_front() -> None:
    points = [point("a", 0.5, 0.5, front=True), point("b", 0.6, 0.4)]
    first, second = (scatter(points, x_axis="x", y_axis="y", caption="Some.") for _ in range(2))
    assert first == second
    assert first.alt.startswith(
        "Scatter plot of 2 points with 95% intervals. Some. On the front (x, y): a (0.5"
    )
    assert "b (" not in first.alt


@pytest.mark.parametrize("name", ["$x_1$ $\\frac$", "line\nbreak", "<b>&", "x" * 10_000, ""])
def test_any_name_can_be_drawn(name: str) -> None:
    points = [point(name, 0.5, 0.5, front=True), replace(point("b", 0.6, 0.4), label=name)]
    picture = scatter(points, x_axis=name, y_axis=name, caption=name, marks={name: Span(0.7, 0.6, 0.8)})
    width = float(svg(picture).attrib["width"].removesuffix("pt"))
    assert math.isclose(width, 72 * figures.WIDTH_IN, rel_tol=0.01)


def test_short_names_are_left_alone_and_long_ones_end_in_an_ellipsis() -> None:
    assert figures.short("eraser off") == "eraser off"
    assert figures.short("a\n b") == "a b"
    assert figures.short("x" * 50) == "x" * 31 + "…"
