"""A comparison on a terminal: tables for people, plain lines for logs and pipes."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluation.comparing.comparison import Comparison
from evaluation.report.comparison_words import Block, change, headlines, hypervolumes, level, p_value, summary


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the headline differences and the hypervolumes; plain lines where there is no terminal."""
    for block in headlines(comparison):
        if console.is_terminal:
            console.print(_table(block))
        else:
            console.print(block.title, markup=False, highlight=False, soft_wrap=True)
            for line in _plain_lines(block):
                console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    for sentence in (*summary(comparison), *hypervolumes(comparison.trade_off)):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _table(block: Block) -> Table:
    table = Table(title=Text(block.title, "bold"), title_justify="left", box=SIMPLE_HEAD, show_edge=False)
    for name in ("", "reference", "here", "difference", "p, Holm"):
        table.add_column(name, justify="right" if name else "left", overflow="fold")
    for row in block.rows:
        table.add_row(
            Text(row.configuration),
            level(row, row.before),
            level(row, row.after),
            Text(change(row)),
            p_value(row),
        )
    return table


def _plain_lines(block: Block) -> Iterator[str]:
    for row in block.rows:
        p_text = f"; p {p_value(row)} after Holm" if row.p_adjusted is not None else ""
        paired = "" if row.paired else "; not paired"
        yield (
            f"{row.configuration}: {level(row, row.before)} to {level(row, row.after)}, change {change(row)}"
            f"{p_text}{paired}"
        )
