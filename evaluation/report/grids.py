"""The report's tables as data: rows of an audit arranged by line and column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from evaluation.report import wording
from evaluation.results import AuditResult, Estimate

COST_SECTIONS = {"retrieval": "Retrieval", "zero_shot": "Zero-shot", "probe": "Linear probe"}
CHANGE = "_change"
FITTED = "_fitted"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a grid; ``cells`` follow the grid's columns."""

    section: str
    label: str
    cells: tuple[Estimate | None, ...]

    @property
    def reference(self) -> Estimate | None:
        """The last level of the line that has a null: what the line's chance column shows."""
        levels = (row for row in reversed(self.cells) if row and row.null is not None)
        return next((row for row in levels if not row.name.endswith(CHANGE)), None)


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
        kept = [i for i, column in enumerate(self.columns) if column in set(columns)]
        lines = (replace(line, cells=tuple(line.cells[i] for i in kept)) for line in self.lines)
        filled = tuple(line for line in lines if any(line.cells))
        return replace(self, columns=tuple(self.columns[i] for i in kept), lines=filled)

    def levels(self) -> Grid:
        """The grid without its change columns."""
        return self.keep(column for column in self.columns if not column.startswith("change"))


@dataclass(frozen=True, kw_only=True)
class _Entry:
    section: str
    label: str
    column: str
    row: Estimate


def _pivot(entries: Iterable[_Entry], *, split: str, corner: str, columns: Iterable[str]) -> Grid | None:
    cells = {(entry.section, entry.label, entry.column): entry.row for entry in entries}
    if not cells:
        return None
    names = wording.ordered((column for *_, column in cells), columns)
    sections = dict.fromkeys(section for section, *_ in cells)
    lines = [key for section in sections for key in dict.fromkeys(key[:2] for key in cells) if key[0] == section]
    return Grid(
        split=split,
        corner=corner,
        columns=tuple(names),
        lines=tuple(
            Line(section=section, label=label, cells=tuple(cells.get((section, label, name)) for name in names))
            for section, label in lines
        ),
    )


@dataclass(frozen=True)
class _Leak:
    row: Estimate
    attribute: str
    representation: str
    attacker: str


def _leaks(result: AuditResult) -> list[_Leak]:
    """Leakage rows with their names taken apart, in the order of the report."""
    found = [
        _Leak(row, *parts)
        for row in result.select("leakage/")
        if len(parts := row.name.split("/")[1:]) == 3
    ]
    main = wording.attribute_name(result)
    places = {
        "attribute": wording.ordered((leak.attribute for leak in found), [main]),
        "representation": wording.ordered((leak.representation for leak in found), wording.REPRESENTATIONS),
        "system": wording.ordered((leak.row.system for leak in found), wording.SYSTEMS),
    }
    return sorted(
        found,
        key=lambda leak: (
            places["attribute"].index(leak.attribute),
            places["representation"].index(leak.representation),
            places["system"].index(leak.row.system),
        ),
    )


def _representation(leak: _Leak, main: str) -> str:
    name = wording.REPRESENTATIONS.get(leak.representation, wording.plain(leak.representation))
    return name if leak.attribute == main else f"{name}: {leak.attribute.replace('_', ' ')}"


def _with_group(label: str, row: Estimate) -> str:
    return f"{label}, {row.group}" if row.group else label


def _splits(rows: Iterable[Estimate]) -> list[str]:
    return wording.ordered((row.split for row in rows), wording.SPLITS)


def leakage_grids(result: AuditResult) -> list[Grid]:
    """Per split: representation and system down, attackers across."""
    main = wording.attribute_name(result)
    leaks = [
        leak
        for leak in _leaks(result)
        if not leak.attacker.endswith(CHANGE) and not leak.representation.endswith(FITTED)
    ]
    grids = (
        _pivot(
            (
                _Entry(
                    section=_representation(leak, main),
                    label=_with_group(leak.row.system, leak.row),
                    column=wording.ATTACKERS.get(leak.attacker, wording.plain(leak.attacker)),
                    row=leak.row,
                )
                for leak in leaks
                if leak.row.split == split
            ),
            split=split,
            corner="System",
            columns=wording.ATTACKERS.values(),
        )
        for split in _splits(leak.row for leak in leaks)
    )
    return [grid for grid in grids if grid]


def _system_grid(leaks: list[_Leak], main: str) -> Grid | None:
    """Split and representation down, systems across."""
    order = {split: place for place, split in enumerate(_splits(leak.row for leak in leaks))}
    return _pivot(
        (
            _Entry(
                section=wording.split_label(leak.row.split),
                label=_with_group(_representation(leak, main), leak.row),
                column=leak.row.system,
                row=leak.row,
            )
            for leak in sorted(leaks, key=lambda leak: order[leak.row.split])
        ),
        split="",
        corner="Representation",
        columns=wording.SYSTEMS,
    )


def change_grid(result: AuditResult) -> Grid | None:
    """Differences in leakage to the eraser being off."""
    leaks = [leak for leak in _leaks(result) if leak.attacker.endswith(CHANGE)]
    return _system_grid(leaks, wording.attribute_name(result))


def fitted_grid(result: AuditResult) -> Grid | None:
    """What a linear attacker finds on the data the eraser was fitted on."""
    leaks = [
        replace(leak, representation=leak.representation.removesuffix(FITTED))
        for leak in _leaks(result)
        if leak.representation.endswith(FITTED)
    ]
    return _system_grid(leaks, wording.attribute_name(result))


def cost_grids(result: AuditResult) -> list[Grid]:
    """Per split: utility metrics down, systems and their changes across."""
    rows = [row for row in result.rows if row.name.split("/")[0] in COST_SECTIONS]
    systems = wording.ordered((row.system for row in rows), wording.SYSTEMS)
    columns = [*systems, *(f"change, {system}" for system in systems)]
    grids = (
        _pivot(
            (
                _Entry(
                    section=COST_SECTIONS[row.name.split("/")[0]],
                    label=_with_group(wording.metric_label(row.name.removesuffix(CHANGE)), row),
                    column=f"change, {row.system}" if row.name.endswith(CHANGE) else row.system,
                    row=row,
                )
                for section in COST_SECTIONS
                for row in rows
                if row.split == split and row.name.startswith(section)
            ),
            split=split,
            corner="Metric",
            columns=columns,
        )
        for split in _splits(rows)
    )
    return [grid for grid in grids if grid]


def geometry_grid(result: AuditResult) -> Grid | None:
    """Angles and cosines by split and system."""
    rows = sorted(result.select("geometry/"), key=lambda row: _splits(result.rows).index(row.split))
    return _pivot(
        (
            _Entry(
                section=wording.split_label(row.split),
                label=_with_group(wording.metric_label(row.name.removesuffix(CHANGE)), row),
                column=f"change, {row.system}" if row.name.endswith(CHANGE) else row.system,
                row=row,
            )
            for row in rows
        ),
        split="",
        corner="Measure",
        columns=wording.SYSTEMS,
    )
