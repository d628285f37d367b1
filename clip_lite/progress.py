"""Progress for people: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
PLAIN_EVERY_S = 20.0

console = Console(highlight=False, quiet=os.environ.get("RANK", "0") != "0")  # of many processes, one speaks


def say(text: str) -> None:
    """Print one plain line, above a running bar if there is one."""
    console.print(text, markup=False, soft_wrap=True)


@contextmanager
def progress_bar(description: str, total: int, *, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """Yield ``advance(steps, note)``; ``note`` is shown beside the bar (loss, pairs/s).

    The bar begins at ``done``. Where the output is no terminal, a line is printed at most every
    ``PLAIN_EVERY_S`` seconds.
    """
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(description, total=total, completed=done, note="")
            yield lambda steps, note: bar.update(task, advance=steps, note=note)
        return

    last = time.monotonic()

    def advance(steps: int, note: str) -> None:
        nonlocal done, last
        done += steps
        if time.monotonic() - last >= PLAIN_EVERY_S:
            last = time.monotonic()
            say(f"{description} {done}/{total} {note}".rstrip())

    yield advance


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Iterate ``items`` under a progress bar."""
    with progress_bar(description, total) as advance:
        for item in items:
            yield item
            advance(1, "")
