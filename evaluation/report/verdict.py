"""A gate's verdict on a terminal: a table per broken rule for people, plain lines for logs and pipes."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluation.comparing.differences import Difference
from evaluation.gating.judgement import Judged, Verdict
from evaluation.report.wording import MINUS

ROW, GROUP, N = "row", "group", "n"
WIDEST_ROW = 40
COLUMNS = (ROW, "split", "system", GROUP, "value [95% interval]", N, "fails if")


def print_verdict(verdict: Verdict, console: Console) -> None:
    """Print the failing rows, or in one line that there are none."""
    if verdict.passed:
        console.print(f"gate passed: {verdict.summary}", markup=False, soft_wrap=True)
        return
    for rule in dict.fromkeys(item.rule for item in verdict.broken):
        broken = [item for item in verdict.broken if item.rule == rule]
        if console.is_terminal:
            console.print(_table(broken))
            continue
        for item in broken:
            row, split, system, group, value, n, bound = _cells(item)
            place = ", ".join(filter(None, (split, system, group)))
            line = f"gate: {rule.text} fails: {row} [{place}] is {value}, n {n}; must not be {bound}"
            console.print(line, markup=False, soft_wrap=True)


def _table(broken: Sequence[Judged]) -> Table:
    """Of one rule; without a column of groups where no row is of one."""
    table = Table(
        title=Text(f"Fails: {broken[0].rule.text}", "bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    shown = [column for column in COLUMNS if column != GROUP or any(item.row.group for item in broken)]
    longest = min(max(len(item.row.name) for item in broken), WIDEST_ROW)
    for column in shown:
        table.add_column(
            column,
            overflow="fold",
            justify="right" if column == N else "left",
            min_width=longest if column == ROW else None,
        )
    for item in broken:
        cells = dict(zip(COLUMNS, _cells(item), strict=True))
        table.add_row(*(Text(cells[column]) for column in shown))
    return table


def _cells(item: Judged) -> tuple[str, ...]:
    """What ``COLUMNS`` say of a row."""
    rule, row = item.rule, item.row
    value = _number(row.value, item)
    if row.low is not None and row.high is not None:
        value += f" [{_number(row.low, item)}, {_number(row.high, item)}]"
    if isinstance(row, Difference) and not row.paired:
        value += " unpaired"
    if rule.reading == "p":
        value += f", p {_number(item.number, item)}"
    reading = "" if rule.reading == "value" else f"{rule.reading} "
    bound = f"{reading}{rule.operator} {rule.threshold:g}"
    return (row.name, row.split, row.system, row.group, value, f"{row.n:,}", bound)


def _number(number: float, item: Judged) -> str:
    """Four digits, or all where those would hide on which side of the threshold a number lies."""
    text = f"{number:.4g}"
    if item.rule.broken_by(float(text)) != item.rule.broken_by(number):
        text = repr(number)
    return text.replace("-", MINUS, 1) if text.startswith("-") else text
