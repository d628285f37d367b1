"""Tables of the model card: what is leaked, what is kept, and how groups fare, before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from evaluation.report import facts, wording
from evaluation.report.grids import Grid, Line
from evaluation.report.layout import cost_grids, family_grids, family_words
from evaluation.report.markdown import Markdown, address, table
from evaluation.results import OFF, ON, AuditResult, Estimate

CONTEXT = {("pixels", "pixels"): "from pixels", ("features", "untrained tower"): "from an untrained tower"}
RANDOM = "random direction"
COLUMNS = (OFF, ON, f"change, {ON}")
GROUPS = ("groups", "ranking")
LEFT_TO_THE_REPORT = ("R@1", "R@5", "top 5")


class Titled(NamedTuple):
    """A table and what it is about."""

    title: str
    body: Markdown


def leakage(result: AuditResult) -> Iterator[Titled]:
    """By held-out split: attackers of the embedding down, systems across, what to compare with below."""
    attribute = wording.attribute_name(result)
    for split in _held_out(result):
        rows = {
            (row.name.split("/")[2], row.name.split("/")[3], row.system): row
            for row in result.select(f"leakage/{attribute}/", split=split)
            if row.name.count("/") == 3 and not row.group
        }
        attackers = wording.ordered(
            (name for where, name, _ in rows if where == "embedding" and not name.endswith("_change")),
            wording.ATTACKERS,
        )
        measured = {system for where, _, system in rows if where == "embedding"}
        systems = [name for name in (OFF, ON, RANDOM) if name in measured]
        lines = [
            [
                wording.ATTACKERS.get(name, wording.plain(name)),
                *(_cell(rows.get(("embedding", name, system))) for system in systems),
                _chance(rows.get(("embedding", name, result.delivered))),
            ]
            for name in attackers
        ]
        for (where, system), words in CONTEXT.items():
            if row := rows.get((where, "max", system)):
                lines.append([f"max, {words}", _cell(row), *[""] * (len(systems) - 1), _chance(row)])
        if systems:
            first = next(row for (where, _, _), row in rows.items() if where == "embedding")
            clusters = "" if first.n_clusters is None else f" in {first.n_clusters:,} clusters"
            about = f"{wording.split_label(split)}, n = {first.n:,}{clusters}"
            yield Titled(about, table(["attacker", *systems, "chance"], lines))


def utility(result: AuditResult) -> Iterator[Titled]:
    """By split: what the model can do before and after."""
    for grid in cost_grids(result):
        shown = [line for line in grid.lines if not line.label.endswith(LEFT_TO_THE_REPORT)]
        yield from _titled(grid, shown)


def groups(result: AuditResult) -> Iterator[Titled]:
    """By family and split: predictions and rankings by group."""
    families = family_grids(result)
    for family in GROUPS:
        for grid in families.get(family, ()):
            for table_ in _titled(grid, grid.lines):
                yield table_._replace(title=f"{family_words(family)[0]}: {table_.title}")


def eraser(result: AuditResult) -> facts.Facts:
    """The eraser, and what the gate said of every one that was fitted."""
    gates = []
    for gate in facts.gates(result):
        said = f"{gate.decision} ({gate.meaning})" if gate.meaning else gate.decision
        numbers = [f"{label}: {number}" for label, number in gate.numbers]
        other = ["on other data than were audited"] if facts.judged_elsewhere(result) else []
        gates.append((f"Gate, {gate.name}", "; ".join([said, *other, *gate.reasons, *numbers])))
    return facts.eraser(result) + gates


def sources(result: AuditResult) -> Markdown | None:
    """Where the pictures come from; None where the audit does not say."""
    lines = [
        [
            own.name,
            own.version,
            own.licence,
            own.pictures,
            own.attribution,
            address(own.href) if own.href else own.url,
        ]
        for own in facts.sources(result)
    ]
    header = ["source", "version", "licence", "pictures", "attribution", "address"]
    return table(header, lines, numbers=False) if lines else None


def _held_out(result: AuditResult) -> list[str]:
    found = (row.split for row in result.select("leakage/"))
    return [split for split in wording.ordered(found, wording.SPLITS) if split not in ("train", "val")]


def _titled(grid: Grid, lines: Sequence[Line]) -> Iterator[Titled]:
    places = {column: place for place, column in enumerate(grid.columns) if column in COLUMNS}
    filled = [
        [
            f"{line.section}: {line.label}",
            *(_cell(line.cells[place]) for place in places.values()),
            "; ".join(
                [_chance(line.reference), *(f"{row.system} {wording.chance(row)}" for row in line.apart)]
            ),
        ]
        for line in lines
        if any(line.cells[place] for place in places.values())
    ]
    if filled:
        about = f"{wording.split_label(grid.split)}, {grid.counts()}"
        yield Titled(about, table([grid.corner, *places, "chance"], filled))


def _cell(row: Estimate | None) -> str:
    return wording.estimate(row) if row else ""


def _chance(row: Estimate | None) -> str:
    return f"{wording.chance(row)} {wording.null_band(row)}".strip()
