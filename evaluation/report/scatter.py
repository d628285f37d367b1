"""Two measures against each other: what an edit keeps and what it leaves to an attacker, with the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.report import wording
from evaluation.report.figures import (
    COLOURS,
    MARKERS,
    NAME_LENGTH,
    QUIET,
    STYLE,
    WIDTH_IN,
    Picture,
    data_uri,
    short,
)

HEIGHT_IN = 3.4
RING = 11
X_LINE, Y_LINE = 44, 36  # letters of a line along the axes
MARK_AT = 0.03  # of the height of the axes


class Span(NamedTuple):
    """A number with its interval, in the unit of its axis; ``None`` where there is no interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Point:
    """A system: ``x`` is better low (leakage), ``y`` better high (utility).

    ``series`` gives colour and marker, ``front`` says that no other point is better in both.
    """

    label: str
    x: Span
    y: Span
    series: str = ""
    front: bool = False


def scatter(
    points: Sequence[Point],
    *,
    x_axis: str,
    y_axis: str,
    caption: str,
    marks: Mapping[str, Span] | None = None,
    series: Sequence[str] = (),
) -> Picture:
    """Points with interval crosses, those of the front ringed and joined.

    Args:
        points: at least one.
        x_axis, y_axis: labels of the axes with units.
        caption: what the figure shows, printed under it.
        marks: systems of which only x is known, as labelled vertical lines.
        series: order of the series; those not named follow as they come.
    """
    names = wording.ordered((point.series for point in points), series)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
        axes = figure.subplots()
        for name in names:
            _draw_series(axes, [point for point in points if point.series == name], names.index(name), name)
        _draw_front(axes, points)
        for place, (label, span) in enumerate((marks or {}).items()):
            _draw_mark(axes, label, span, height=MARK_AT * (place + 1))
        axes.set_xlabel(fill(f"← better: {short(x_axis, 2 * NAME_LENGTH)}", X_LINE))
        axes.set_ylabel(fill(f"{short(y_axis, 2 * NAME_LENGTH)}: better →", Y_LINE))
        axes.margins(0.12)
        axes.grid(color="#eef0f3", linewidth=0.8)
        axes.set_axisbelow(True)
        figure.legend(loc="outside upper left", ncols=3, frameon=False, handletextpad=0.4, columnspacing=1.2)
        return Picture(uri=data_uri(figure), alt=_alt(points, marks or {}, caption), caption=caption)


def _draw_series(axes: Axes, points: Sequence[Point], place: int, name: str) -> None:
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    for point in points:
        for span, ends in ((point.x, axes.hlines), (point.y, axes.vlines)):
            other = point.y if span is point.x else point.x
            if span.low is not None and span.high is not None:
                ends(other.value, span.low, span.high, color=colour, linewidth=1.2, zorder=3)
    x, y = [point.x.value for point in points], [point.y.value for point in points]
    axes.plot(x, y, marker, color=colour, markersize=6, label=short(name) or None, zorder=4)
    for point in points:
        if point.label == name:  # the legend says so
            continue
        axes.annotate(
            short(point.label),
            (point.x.value, point.y.value),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=9,
            zorder=5,
        )


def _draw_front(axes: Axes, points: Sequence[Point]) -> None:
    best = sorted((point.x.value, point.y.value) for point in points if point.front)
    if not best:
        return
    x, y = np.array(best).T
    axes.step(x, y, where="post", color=QUIET, linewidth=1, linestyle=(0, (4, 2)), zorder=2)
    (rings,) = axes.plot(x, y, "o", markersize=RING, label="front", zorder=4)
    rings.set(markerfacecolor="none", markeredgecolor=QUIET)


def _draw_mark(axes: Axes, label: str, span: Span, *, height: float) -> None:
    axes.axvline(span.value, color=QUIET, linewidth=1, linestyle=":", zorder=1)
    if span.low is not None and span.high is not None:
        ends = axes.get_xaxis_transform()
        axes.plot([span.low, span.high], [height, height], color=QUIET, linewidth=1.2, transform=ends)
    axes.annotate(
        short(label),
        (span.value, height),
        xycoords=("data", "axes fraction"),
        xytext=(3, 5),
        textcoords="offset points",
        rotation=90,
        va="bottom",
        fontsize=9,
        color=QUIET,
    )


def _alt(points: Sequence[Point], marks: Mapping[str, Span], caption: str) -> str:
    best = [f"{point.label} ({point.x.value:.3g}, {point.y.value:.3g})" for point in points if point.front]
    front = f" On the front (x, y): {'; '.join(best)}." if best else ""
    alone = f" Vertical lines: {', '.join(f'{name} at {span.value:.3g}' for name, span in marks.items())}."
    return (
        f"Scatter plot of {len(points)} points with 95% intervals. {caption}{front}{alone if marks else ''} "
        "The table below holds every number."
    )
