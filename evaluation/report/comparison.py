"""A comparison as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluation.comparing.comparison import Comparison
from evaluation.comparing.trade_off import Coordinate, TradeOff
from evaluation.report import comparison_words as words
from evaluation.report import figures, wording
from evaluation.report.grids import Entry, pivot
from evaluation.report.html import environment
from evaluation.report.scatter import Point, Span, scatter
from evaluation.writing import write_text

PER_CENT = 100
FEW = 2  # points that can stand by their names
PLOTTED = {
    "leakage": ("balanced accuracy", "Leakage against the reference: left of the line less is found."),
    "utility": ("points of per cent", "Utility against the reference: left of the line the model does less."),
}


def write_comparison(comparison: Comparison, path: Path, *, made: Mapping[str, Any]) -> None:
    """Write the comparison as one HTML file that asks for nothing from elsewhere.

    Args:
        comparison: what was found.
        path: of the file; a reader never sees half of it.
        made: ``created`` and ``versions``.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    names = [each.name for each in comparison.configurations[1:]]
    title = (
        f"{names[0]} against {comparison.reference.name}"
        if len(names) == 1
        else (f"{len(names)} configurations against {comparison.reference.name}")
    )
    html = (
        environment()
        .get_template("comparison.html.j2")
        .render(
            title=title,
            made=made,
            comparison=comparison,
            summary=words.summary(comparison),
            headlines=words.headlines(comparison),
            families=words.families(comparison),
            trade_off=comparison.trade_off,
            trade_off_figures=_trade_off_figures(comparison.trade_off),
            hypervolumes=words.hypervolumes(comparison.trade_off),
            difference_figures=list(_difference_figures(comparison)),
            words=words,
        )
    )
    write_text(path, html)


def _trade_off_figures(trade_off: TradeOff | None) -> list[figures.Picture]:
    if trade_off is None:
        return []
    points = [
        Point(
            label=f"{each.strength:g}" if len(trade_off.points) > FEW else figures.short(each.configuration),
            x=_span(each.leakage, 1),
            y=_span(each.utility, PER_CENT),
            series=each.method,
            front=each.front,
        )
        for each in trade_off.points
    ]
    by_strength = ", numbers are strengths" if len(trade_off.points) > FEW else ""
    return [
        scatter(
            points,
            x_axis="leakage, strongest attacker",
            y_axis=f"{trade_off.utility}, %",
            caption=f"What each configuration keeps and what it leaves to an attacker{by_strength}.",
        )
    ]


def _span(place: Coordinate, scale: float) -> Span:
    low, high = (None if end is None else scale * end for end in (place.low, place.high))
    return Span(scale * place.value, low, high)


def _difference_figures(comparison: Comparison) -> Iterator[figures.Picture]:
    """Forest plots of the headline differences, those of one unit together."""
    rows = [row for block in words.headlines(comparison) for row in block.rows if row.unit == "fraction"]
    for kind, (axis, caption) in PLOTTED.items():
        useful = kind == "utility"
        own = [row for row in rows if row.name.startswith(wording.UTILITY if useful else "leakage/")]
        grid = pivot(
            (
                Entry(
                    section=words.title_of(row),
                    label=figures.short(row.configuration),
                    column="difference",
                    row=words.as_change(row),
                )
                for row in own
            ),
            split=words.MAIN_SPLIT,
            corner="",
            columns=["difference"],
        )
        if grid:
            yield figures.dot_plot(grid, axis=axis, caption=caption, limits=figures.shared_limits([grid]))
