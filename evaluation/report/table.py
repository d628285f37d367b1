"""The audit's main numbers on a terminal: tables for people, plain lines for logs and pipes."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluation.report import wording
from evaluation.report.grids import Grid, Line, cost_grids, leakage_grids
from evaluation.results import AuditResult, Estimate

WIDE = 118
NARROW_COLUMNS = ("eraser off", "eraser on", "random direction", "change, eraser on")


def print_summary(result: AuditResult, console: Console | None = None) -> None:
    """Print leakage by system and attacker, and what the eraser cost, per split.

    On a terminal of less than ``WIDE`` columns intervals go under their values and the cost table keeps
    ``NARROW_COLUMNS``. Where the output is no terminal every estimate is one plain line.
    """
    console = console or Console(highlight=False)
    tables = [(f"Leakage of {wording.perceived(result)}, balanced accuracy", leakage_grids(result))]
    tables.append(("Cost of the eraser", cost_grids(result)))
    for title, grids in tables:
        for grid in grids:
            heading = f"{title}: {wording.split_label(grid.split)}"
            if console.is_terminal:
                console.print(_table(grid, heading, wide=console.width >= WIDE))
            else:
                _print_plain(console, grid, heading)


def _table(grid: Grid, title: str, *, wide: bool) -> Table:
    if not wide and "eraser off" in grid.columns:
        grid = grid.keep(NARROW_COLUMNS)
    table = Table(title=Text(title, "bold"), title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column(Text(grid.corner))
    for column in (*grid.columns, "chance"):
        table.add_column(Text(column), justify="right")
    for section, lines in grid.sections():
        table.add_row(Text(section, "bold"))
        for line in lines:
            table.add_row(f"  {line.label}", *(_cell(cell, wide) for cell in line.cells), _chance(line, wide))
        table.add_section()
    return table


def _cell(row: Estimate | None, wide: bool) -> Text:
    if row is None:
        return Text("")
    return Text.assemble(wording.value(row), " " if wide else "\n", (wording.interval(row), "dim"))


def _chance(line: Line, wide: bool) -> Text:
    reference = line.reference
    gap = " " if wide else "\n"
    return Text(f"{wording.chance(reference)}{gap}{wording.null_band(reference)}".rstrip(), "dim")


def _print_plain(console: Console, grid: Grid, heading: str) -> None:
    for text in (heading, *_plain_lines(grid)):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _plain_lines(grid: Grid) -> Iterable[str]:
    for line in grid.lines:
        for column, cell in zip(grid.columns, line.cells, strict=True):
            if cell:
                null = wording.chance(cell)
                known = f"  chance {null} {wording.null_band(cell)}".rstrip() if null else ""
                yield f"  {line.section} | {line.label} | {column}: {wording.estimate(cell)}{known}"
