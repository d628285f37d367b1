"""The audit's main numbers on a terminal: tables for people, plain lines for logs and pipes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import replace

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from evaluation.report import wording
from evaluation.report.grids import CHANGE, Grid, Line
from evaluation.report.layout import BIAS_FAMILIES, cost_grids, family_grids, family_words, leakage_grids
from evaluation.results import AuditResult, Estimate

LEFT_TO_THE_REPORT = ("R@1", "R@5", "top 5")
# of the families of bias metrics, by the end of a row's name
SHOWN = (
    "/max",
    "/logistic",
    "skew_10",
    "skew_100",
    "/effect_size",
    "/interaction",
    "/worst_group_accuracy",
    "/accuracy_gap",
    "/equalized_odds_difference",
    "/demographic_parity_difference",
    "/leakage_amplification",
    "_to_task",
    "_to_attribute",
)
NARROW_COLUMNS = ("eraser off", "eraser on", "random direction", "change, eraser on")
HEADING_WIDTH = 12
UNBOUNDED = 10_000


def print_summary(result: AuditResult, console: Console | None = None) -> None:
    """Print leakage by system and attacker, main rows of other bias metrics, and what the eraser cost.

    A terminal gets the widest of three layouts that fits: intervals beside their values, under them, and
    under them with ``NARROW_COLUMNS`` only. Anything else gets one plain line per line of a table.
    """
    console = console or Console()
    for title, grid in _titled(result):
        if console.is_terminal:
            console.print(_fitting(grid, title, console))
            console.line()
        else:
            for text in (title, *_plain_lines(grid)):
                console.print(text, markup=False, highlight=False, soft_wrap=True)


def _titled(result: AuditResult) -> Iterator[tuple[str, Grid]]:
    for grid in leakage_grids(result):
        yield (
            f"Leakage of {wording.perceived(result)} (balanced accuracy, 95% intervals)\n{_about(grid)}",
            grid,
        )
    for family, grids in family_grids(result).items():
        for grid in grids:
            lines = tuple(line for line in grid.lines if _shown(line))
            if lines:
                title = f"{family_words(family)[0]} (95% intervals)\n{_about(grid)}"
                yield title, replace(grid, lines=lines)
    for grid in cost_grids(result):
        lines = tuple(line for line in grid.lines if not line.label.endswith(LEFT_TO_THE_REPORT))
        yield (
            f"Utility (per cent, changes in points, 95% intervals)\n{_about(grid)}",
            replace(grid, lines=lines),
        )


def _shown(line: Line) -> bool:
    names = [row.name.removesuffix(CHANGE) for row in line.cells if row]
    if not all(name.startswith(tuple(BIAS_FAMILIES)) for name in names):
        return True
    return all(name.endswith("/max" if name.startswith("leakage_auc/") else SHOWN) for name in names)


def _about(grid: Grid) -> str:
    return f"{wording.split_label(grid.split)}, {grid.counts()}"


def _fitting(grid: Grid, title: str, console: Console) -> Table:
    narrow = grid.keep(NARROW_COLUMNS) if set(NARROW_COLUMNS) & set(grid.columns) else grid
    for layout, gap, space in ((grid, " ", 1), (grid, "\n", 1), (narrow, "\n", 0)):
        table = _table(layout, gap, space=space)
        if (
            Measurement.get(console, console.options.update(max_width=UNBOUNDED), table).maximum
            <= console.width
        ):
            break
    table.title = Text(title, "bold")
    return table


def _table(grid: Grid, gap: str, *, space: int) -> Table:
    table = Table(title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, space, 0, 0))
    table.add_column(Text(grid.corner))
    for column in (*grid.columns, "chance"):
        table.add_column(Text(textwrap.fill(column, HEADING_WIDTH)), justify="right")
    for section, lines in grid.sections():
        table.add_row(Text(section, "italic"))
        for line in lines:
            cells = (_cell(cell, gap) for cell in line.cells)
            table.add_row(Text(f" {line.label}"), *cells, Text(_chance(line, gap), "dim"))
    return table


def _cell(row: Estimate | None, gap: str) -> Text:
    if row is None:
        return Text("")
    return Text.assemble(wording.value(row), gap, (wording.interval(row), "dim"))


def _chance(line: Line, gap: str) -> str:
    others = [f"{row.system} {wording.chance(row)}" for row in line.apart]
    parts = (wording.chance(line.reference), wording.null_band(line.reference), *others)
    return gap.join(filter(None, parts))


def _plain_lines(grid: Grid) -> Iterator[str]:
    for line in grid.lines:
        cells = zip(grid.columns, line.cells, strict=True)
        parts = [f"{column} {wording.estimate(cell)}" for column, cell in cells if cell]
        if chance := _chance(line, " "):
            parts.append(f"chance {chance}")
        yield f"  {line.section}, {line.label}: {'; '.join(parts)}"
