"""What a reader sees first: the main numbers before and after the edit, and utility against leakage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evaluation.comparing import pareto
from evaluation.report import wording
from evaluation.report.figures import Picture
from evaluation.report.grids import CHANGE, Entry, Grid, pivot
from evaluation.report.scatter import Point, Span, scatter
from evaluation.results import OFF, ON, AuditResult, Estimate

RANDOM = "random direction"
COLUMNS = (OFF, ON, f"change, {ON}", f"change, {RANDOM}")
BIAS, UTILITY = "Bias: less is better", "Utility: more is better"
POINTS = (OFF, ON, RANDOM)
CONTEXT = {"pixels": "pixels", "untrained tower": "features"}
PER_CENT = 100


def headline_grid(result: AuditResult, *, split: str = "test") -> Grid | None:
    """The main numbers of a split: unedited, edited, paired change, and the change by random directions."""
    entries = (
        Entry(section=section, label=label, column=_column(row), row=row)
        for section, label, name in _headlines(result, split)
        for row in result.select(name, split=split)
        if row.name.removesuffix(CHANGE) == name and not row.group
    )
    grid = pivot(entries, split=split, corner="Measure", columns=COLUMNS)
    return grid.keep(COLUMNS) if grid else None


def _column(row: Estimate) -> str:
    return f"change, {row.system}" if row.name.endswith(CHANGE) else row.system


def _headlines(result: AuditResult, split: str) -> Iterator[tuple[str, str, str]]:
    """Section, label and name of the main rows."""
    attribute = wording.attribute_name(result)
    embedding = f"leakage/{attribute}/embedding"
    yield BIAS, "Leakage, strongest attacker", f"{embedding}/max"
    yield BIAS, "Leakage, linear attacker", f"{embedding}/logistic"
    for name in _first(result, f"ranking/{attribute}/max_skew_", split):
        yield BIAS, f"Ranking skew, first {name.rsplit('_', 1)[-1]} pictures", name
    for name in _first(result, f"ranking/{attribute}/professions/worst_max_skew_", split):
        yield BIAS, "Ranking skew, worst profession", name
    for task in ("role", "probe"):
        for name in _first(result, f"groups/{attribute}/{task}/accuracy_gap", split):
            yield BIAS, f"Largest gap between groups, {wording.plain(task).lower()} accuracy", name
    for way, arrow in wording.ARROWS.items():
        yield UTILITY, f"{arrow}, R@10", f"retrieval/{way}_recall_10"
    yield UTILITY, "Zero-shot, role, top 1", "zero_shot/role_top1"
    for name in _first(result, "probe/", split):
        yield UTILITY, f"Probe, {wording.metric_label(name).lower()}", name


def _first(result: AuditResult, prefix: str, split: str) -> list[str]:
    """The first name with a prefix, if there is one."""
    names = (row.name for row in result.select(prefix, split=split) if not row.name.endswith(CHANGE))
    return [name for name in [next(names, "")] if name]


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A system's line in the table of the trade-off; ``utility`` and ``front`` are None where unknown."""

    system: str
    leakage: Span
    utility: Span | None
    front: bool | None


@dataclass(frozen=True, kw_only=True)
class Tradeoff:
    """Utility against leakage: the figure, its lines, and what utility is."""

    picture: Picture
    lines: tuple[Placed, ...]
    utility: str


def tradeoff(result: AuditResult, *, split: str = "test") -> Tradeoff | None:
    """Systems by leakage of the image embedding and utility; None where either was not measured."""
    found = []
    for system in POINTS:
        leak = pareto.leakage_axis(result, system=system, split=split)
        use = pareto.utility_axis(result, system=system, split=split)
        if leak and use:
            found.append((system, leak, use))
    if not found:
        return None
    _, leakages, utilities = zip(*found, strict=True)
    best = pareto.front(*(np.array([axis.value for axis in axes]) for axes in (utilities, leakages)))
    lines = [
        Placed(system=system, leakage=_span(leak), utility=_span(use, PER_CENT), front=bool(on_front))
        for (system, leak, use), on_front in zip(found, best, strict=True)
    ]
    context = [
        Placed(system=system, leakage=Span(row.value, row.low, row.high), utility=None, front=None)
        for system, row in _context(result, split)
    ]
    label = _label(utilities[0].label)
    return Tradeoff(
        picture=_drawn(result, lines, context, label, split), lines=(*lines, *context), utility=label
    )


def _context(result: AuditResult, split: str) -> Iterator[tuple[str, Estimate]]:
    for system, representation in CONTEXT.items():
        name = f"leakage/{wording.attribute_name(result)}/{representation}/max"
        for row in result.select(name, split=split, system=system):
            if row.name == name:
                yield system, row


def _span(axis: pareto.Axis, scale: float = 1.0) -> Span:
    ends = (None if end is None else scale * end for end in (axis.low, axis.high))
    return Span(scale * axis.value, *ends)


def _label(name: str) -> str:
    """What utility is, in words: an axis is called by its words or by the name of its row."""
    return wording.metric_label(name) if "/" in name else name


def _drawn(
    result: AuditResult, lines: list[Placed], context: list[Placed], utility: str, split: str
) -> Picture:
    return scatter(
        [
            Point(
                label=line.system, series=line.system, x=line.leakage, y=line.utility, front=bool(line.front)
            )
            for line in lines
            if line.utility
        ],
        x_axis="leakage, strongest attacker",
        y_axis=f"{utility}, per cent",
        caption=f"{wording.split_label(split)}: utility against leakage of {wording.perceived(result)}.",
        marks={line.system: line.leakage for line in context},
    )


def span_text(span: Span, digits: int, suffix: str = "") -> tuple[str, str]:
    """Value and ``[low, high]`` in print, as ``wording`` prints them."""

    def printed(number: float) -> str:
        text = f"{abs(number):.{digits}f}"
        sign = wording.MINUS if number < 0 and float(text) else ""
        return sign + (text if suffix else text.removeprefix("0"))

    ends = "" if span.low is None or span.high is None else f"[{printed(span.low)}, {printed(span.high)}]"
    return printed(span.value) + suffix, ends
