"""A table of estimates by line and column, which HTML, figures and terminal all draw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from evaluation.report import wording
from evaluation.results import ON, Estimate

CHANGE = "_change"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a grid; ``cells`` follow the grid's columns."""

    section: str
    label: str
    cells: tuple[Estimate | None, ...]

    @property
    def reference(self) -> Estimate | None:
        """The level whose null the line's chance column shows: the edited model's, else the last one's."""
        levels = self._levels()
        return next((row for row in reversed(levels) if row.system == ON), levels[-1] if levels else None)

    @property
    def apart(self) -> list[Estimate]:
        """Levels of other systems whose chance lies outside the null band of the reference."""
        reference = self.reference
        if reference is None or reference.null_low is None or reference.null_high is None:
            return []
        low, high = reference.null_low, reference.null_high
        others = [row for row in self._levels() if row.system != reference.system]
        return [row for row in others if row.null is not None and not low <= row.null <= high]

    def _levels(self) -> list[Estimate]:
        levels = [row for row in self.cells if row and row.null is not None]
        return [row for row in levels if not row.name.endswith(CHANGE)]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Estimates by line and column. ``columns`` are labels; change columns start with ``change``."""

    split: str
    corner: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]

    def sections(self) -> Iterator[tuple[str, list[Line]]]:
        """Consecutive lines of one section."""
        for section, lines in groupby(self.lines, key=lambda line: line.section):
            yield section, list(lines)

    def keep(self, columns: Iterable[str]) -> Grid:
        """The grid with these columns only, without lines left empty."""
        wanted = set(columns)
        kept = [i for i, column in enumerate(self.columns) if column in wanted]
        lines = (replace(line, cells=tuple(line.cells[i] for i in kept)) for line in self.lines)
        filled = tuple(line for line in lines if any(line.cells))
        return replace(self, columns=tuple(self.columns[i] for i in kept), lines=filled)

    def counts(self) -> str:
        """``n = 466 in 19 clusters``, or ranges where lines rest on different data."""
        rows = [row for line in self.lines for row in line.cells if row]
        clusters = [row.n_clusters for row in rows if row.n_clusters is not None]
        return f"n = {_range([row.n for row in rows])}" + (
            f" in {_range(clusters)} clusters" if clusters else ""
        )

    def levels(self) -> Grid:
        """The grid without its change columns."""
        return self.keep(column for column in self.columns if not column.startswith("change"))

    def of_unit(self, unit: str) -> Grid:
        """The grid without lines of another unit, so that one axis fits all."""
        lines = (line for line in self.lines if all(row.unit == unit for row in line.cells if row))
        return replace(self, lines=tuple(lines))


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One estimate and its place in a grid."""

    section: str
    label: str
    column: str
    row: Estimate


def pivot(entries: Iterable[Entry], *, split: str, corner: str, columns: Iterable[str]) -> Grid | None:
    """The grid of ``entries``: lines as they come, ``columns`` first and in that order; ``None`` if empty."""
    cells = {(entry.section, entry.label, entry.column): entry.row for entry in entries}
    if not cells:
        return None
    names = wording.ordered((column for *_, column in cells), columns)
    sections = dict.fromkeys(section for section, *_ in cells)
    lines = [
        key for section in sections for key in dict.fromkeys(key[:2] for key in cells) if key[0] == section
    ]
    return Grid(
        split=split,
        corner=corner,
        columns=tuple(names),
        lines=tuple(
            Line(
                section=section, label=label, cells=tuple(cells.get((section, label, name)) for name in names)
            )
            for section, label in lines
        ),
    )
