"""Figures as inline SVG, drawn on white; the style sheet inverts them where a reader prefers the dark."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from evaluation.report import wording
from evaluation.report.grids import CHANGE, Grid
from evaluation.results import Estimate

WIDTH_IN = 4.2
SLOT_IN = 0.145
NAME_LENGTH = 32
NO_CHANGE = "no difference"
EDGE = 0.015  # of the width of a figure
# Okabe and Ito's colours, which stay apart under colour blindness; marker shapes say the same in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#1d232b", "#CC79A7", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, QUIET, BAND = "#1d232b", "#68717d", "#dfe3e8"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": "#b7bec7",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "ytick.color": INK,
    "svg.hashsalt": "clip-lite",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure ready for ``<img>``: data URI, text alternative and caption."""

    uri: str
    alt: str
    caption: str


def short(name: str, length: int = NAME_LENGTH) -> str:
    """A name on one line that leaves room for the figure; tables hold it in full."""
    line = " ".join(name.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def shared_limits(grids: Iterable[Grid]) -> tuple[float, float]:
    """Horizontal limits that hold every value, interval and null of ``grids``, so that panels compare."""
    rows = [row for grid in grids for line in grid.lines for row in line.cells if row]
    numbers = [
        wording.scaled(row, number)
        for row in rows
        for number in (row.value, row.low, row.high, row.null, row.null_low, row.null_high)
        if number is not None
    ]
    low, high = min(numbers), max(numbers)
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin


def dot_plot(grid: Grid, *, axis: str, caption: str, limits: tuple[float, float]) -> Picture:
    """One dot with its interval per cell, on that cell's null band and chance mark.

    Args:
        grid: levels only; lines become rows of the plot, columns become colours.
        axis: label of the horizontal axis with its unit.
        caption: what the figure shows, printed under it.
        limits: ends of the horizontal axis.
    """
    with matplotlib.rc_context(STYLE):
        slots = sum(len(list(filter(None, line.cells))) + 1 for line in grid.lines) + 2 * len(
            list(grid.sections())
        )
        figure = Figure(figsize=(WIDTH_IN, 1.0 + SLOT_IN * slots), layout="constrained")
        axes = figure.subplots()
        _draw_lines(figure, axes, grid)
        axes.set_xlabel(axis)
        axes.grid(axis="x", color="#eef0f3", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlim(limits)
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        names = (*map(short, grid.columns), "chance", NO_CHANGE, "null band")
        ordered = [name for name in dict.fromkeys(names) if name in unique]
        figure.legend(
            [unique[name] for name in ordered],
            ordered,
            loc="outside upper left",
            ncols=3,
            frameon=False,
            handletextpad=0.3,
            columnspacing=1.2,
        )
        return Picture(uri=data_uri(figure), alt=_dot_plot_alt(grid, caption), caption=caption)


def _draw_lines(figure: Figure, axes: Axes, grid: Grid) -> None:
    place, ticks, names = 0.0, [], []
    left = blended_transform_factory(figure.transFigure, axes.transData)
    for section, lines in grid.sections():
        axes.text(
            EDGE,
            place + 0.2,
            short(section, 2 * NAME_LENGTH),
            transform=left,
            weight="bold",
            va="center",
            clip_on=False,
            in_layout=False,  # it stands on a line of its own, and may reach over labels
        )
        place += 1.6
        for line in lines:
            start = place
            for series, cell in enumerate(line.cells):
                if cell:
                    _draw_cell(axes, cell, place=place, series=series, label=short(grid.columns[series]))
                    place += 1
            ticks.append((start + place - 1) / 2)
            names.append(short(line.label))
            place += 0.8
        place += 0.6
    axes.set_yticks(ticks, names)
    axes.set_ylim(place - 0.6, -0.6)


def _draw_cell(axes: Axes, row: Estimate, *, place: float, series: int, label: str) -> None:
    colour, marker = COLOURS[series % len(COLOURS)], MARKERS[series % len(MARKERS)]
    if row.null_low is not None and row.null_high is not None:
        left, right = wording.scaled(row, row.null_low), wording.scaled(row, row.null_high)
        axes.barh(place, right - left, left=left, height=1.04, color=BAND, label="null band", zorder=1)
    if row.null is not None:
        null = wording.scaled(row, row.null)
        mark = NO_CHANGE if row.name.endswith(CHANGE) else "chance"
        axes.plot([null, null], [place - 0.52, place + 0.52], color=QUIET, linewidth=1, label=mark, zorder=2)
    if row.low is not None and row.high is not None:
        ends = [wording.scaled(row, row.low), wording.scaled(row, row.high)]
        axes.plot(ends, [place, place], color=colour, linewidth=1.5, solid_capstyle="butt", zorder=3)
    axes.plot(
        wording.scaled(row, row.value), place, marker, color=colour, markersize=4.5, label=label, zorder=4
    )


def _dot_plot_alt(grid: Grid, caption: str) -> str:
    cells = [(line, cell) for line in grid.lines for cell in line.cells if cell]
    line_high, high = max(cells, key=lambda item: item[1].value)
    line_low, low = min(cells, key=lambda item: item[1].value)
    return (
        f"Dot plot with 95% intervals. {caption} Highest: {line_high.section}, {line_high.label}, "
        f"{wording.estimate(high)}. Lowest: {line_low.section}, {line_low.label}, {wording.estimate(low)}. "
        "The table below holds every number."
    )


def curve_plot(
    curve: Sequence[Mapping[str, Any]],
    *,
    series: Mapping[str, str],
    axis: str,
    caption: str,
    scale: float = 1.0,
) -> Picture | None:
    """Values by epoch, one line per key of ``series`` (key → label); ``None`` where nothing was recorded."""
    points = {key: list(_points(curve, key, scale)) for key in series}
    drawn = {key: line for key, line in points.items() if line}
    if not drawn:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 2.7), layout="constrained")
        axes = figure.subplots()
        for index, (key, line) in enumerate(drawn.items()):
            epochs, values = zip(*line, strict=True)
            axes.plot(
                epochs, values, MARKERS[index] + "-", color=COLOURS[index], markersize=3.5, label=series[key]
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel(axis)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color="#eef0f3", linewidth=0.8)
        if len(drawn) > 1:
            axes.legend(frameon=False)
        ends = "; ".join(
            f"{series[key]} from {line[0][1]:.3g} in epoch {line[0][0]:g} to {line[-1][1]:.3g} in epoch "
            f"{line[-1][0]:g}"
            for key, line in drawn.items()
        )
        return Picture(uri=data_uri(figure), alt=f"Line plot. {caption} {ends}.", caption=caption)


def _points(curve: Sequence[Mapping[str, Any]], key: str, scale: float) -> Iterable[tuple[float, float]]:
    for index, record in enumerate(curve):
        if record.get(key) is not None:
            yield record.get("epoch", index + 1), scale * record[key]


def data_uri(figure: Figure) -> str:
    """The figure as SVG in a data URI, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
