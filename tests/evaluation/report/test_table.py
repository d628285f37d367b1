from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from evaluation.report import print_summary
from evaluation.results import AuditResult


def terminal(result: AuditResult, width: int) -> list[str]:
    stream = io.StringIO()
    print_summary(result, Console(file=stream, width=width, force_terminal=True, color_system=None))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_terminal_tables_fit(audit: AuditResult, width: int) -> None:
    lines = terminal(audit, width)
    assert max(map(len, lines)) <= width
    assert all(line.count("[") == line.count("]") for line in lines)
    assert any(".74" in line for line in lines)
    assert any("Image → text, R@10" in line for line in lines)
    beside = any(".74 [.67, .81]" in line for line in lines)
    assert beside == (width == 120)


def test_pipe_gets_one_plain_line_per_system(audit: AuditResult) -> None:
    stream = io.StringIO()
    print_summary(audit, Console(file=stream, width=40))
    lines = stream.getvalue().splitlines()
    (line,) = (line for line in lines[:9] if line.startswith("  Image embedding, eraser on:"))
    assert "logistic .53 [.46, .60]; " in line
    assert line.endswith("max .74 [.67, .81]; chance .52 [.46, .58]")
    assert "─" not in stream.getvalue()


def test_terminal_prints_markup_as_text(audit: AuditResult) -> None:
    rows = (replace(audit.rows[0], system="[red]x"),)
    assert any("[red]x" in line for line in terminal(replace(audit, rows=rows), 80))


def test_terminal_says_nothing_of_an_empty_audit(audit: AuditResult) -> None:
    assert terminal(replace(audit, rows=()), 80) == []
