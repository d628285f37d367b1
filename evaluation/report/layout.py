"""The report's tables: which rows of an audit go where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from evaluation.report import wording
from evaluation.report.grids import CHANGE, Entry, Grid, pivot
from evaluation.results import AuditResult, Estimate

COST_SECTIONS = {
    "retrieval": "Retrieval, captions as written",
    "neutral_retrieval": "Retrieval, captions that name no group",
    "zero_shot": "Zero-shot",
    "probe": "Probes of frozen features",
    "grounding": "Visual grounding",
    "probe_ap": "Average precision by class",
}
# family → title and what a reader should know
BIAS_FAMILIES = {
    "leakage_auc": (
        "Leakage as area under the curve",
        "How well an attacker ranks pictures by group, whatever threshold it takes. Chance is .50.",
    ),
    "leakage_bits": (
        "Usable information",
        "Bits about the group that an attacker gains per picture, less what it gains from shuffled labels.",
    ),
    "ranking": (
        "Who is ranked first",
        "Skew of the groups among the first pictures for prompts that name no group. A maximum over groups "
        "is above zero without any bias: compare with chance, not with zero. Intervals of changes are bounds "
        "that hold whichever group leads: wide where groups tie.",
    ),
    "labelling": (
        "What people are called",
        "How often pictures of each group get a label that is not human or of crime, and whom a search for a "
        "profession shows first. Rates belong to one list of labels: compare models under the same list. "
        "Gaps are maxima, above zero without any bias: compare with chance. Of a profession the group "
        "furthest above its share before any edit is shown; of 40 some lie outside chance by chance, and "
        "Worst max skew, in the table of who is ranked first, tests all at once.",
    ),
    "association": (
        "Association",
        "Whether pictures of one group lie nearer to one set of words. An effect size counts standard "
        "deviations; the difference of cosines beside it says how large that is.",
    ),
    "editing": (
        "Concept editing",
        "Mean cosine of the pictures of each group that rank first for prompts of each group.",
    ),
    "groups": (
        "The task by group",
        "Differences are maxima over groups and classes, above zero without any bias: compare with chance. "
        "Classes too rare in some group, or in too few clusters, are left out and counted; with none left "
        "there is no row. Intervals of changes are bounds that hold whichever groups differ most.",
    ),
    "amplification": (
        "Bias amplification",
        "Whether predictions tell more about the group than labels of equal accuracy would. Directional rows "
        "need classes and groups that go together in the training labels: cells counts them, and with none "
        "there is nothing to amplify.",
    ),
}
OPEN_FAMILIES = ("ranking", "groups")  # a reader of ten minutes sees these; the others are folded
ELSEWHERE = {"leakage", "geometry", *COST_SECTIONS}
FITTED = "_fitted"


@dataclass(frozen=True)
class _Leak:
    row: Estimate
    attribute: str
    representation: str
    attacker: str


def _leaks(result: AuditResult) -> list[_Leak]:
    """Leakage rows with their names taken apart, in the order of the report."""
    found = [
        _Leak(row, *parts) for row in result.select("leakage/") if len(parts := row.name.split("/")[1:]) == 3
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


def _of_attribute(label: str, attribute: str, result: AuditResult) -> str:
    """The label, naming the attribute where it is not the audit's own."""
    return label if attribute == wording.attribute_name(result) else f"{label}: {wording.spaced(attribute)}"


def _representation(leak: _Leak, result: AuditResult) -> str:
    name = wording.REPRESENTATIONS.get(leak.representation, wording.plain(leak.representation))
    return _of_attribute(name, leak.attribute, result)


def _with_group(label: str, row: Estimate) -> str:
    return f"{label}, {row.group}" if row.group else label


def _splits(rows: Iterable[Estimate]) -> list[str]:
    return wording.ordered((row.split for row in rows), wording.SPLITS)


def leakage_grids(result: AuditResult) -> list[Grid]:
    """Per split: representation and system down, attackers across."""
    leaks = [
        leak
        for leak in _leaks(result)
        if not leak.attacker.endswith(CHANGE) and not leak.representation.endswith(FITTED)
    ]
    grids = (
        pivot(
            (
                Entry(
                    section=_representation(leak, result),
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


def _system_grid(leaks: list[_Leak], result: AuditResult) -> Grid | None:
    """Split and representation down, systems across."""
    order = {split: place for place, split in enumerate(_splits(leak.row for leak in leaks))}
    return pivot(
        (
            Entry(
                section=wording.split_label(leak.row.split),
                label=_with_group(_representation(leak, result), leak.row),
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
    """Differences in leakage, strongest attacker, to the eraser being off."""
    leaks = [leak for leak in _leaks(result) if leak.attacker == f"max{CHANGE}"]
    return _system_grid(leaks, result)


def fitted_grid(result: AuditResult) -> Grid | None:
    """What a linear attacker finds on the data the eraser was fitted on."""
    leaks = [
        replace(leak, representation=leak.representation.removesuffix(FITTED))
        for leak in _leaks(result)
        if leak.representation.endswith(FITTED)
    ]
    return _system_grid(leaks, result)


def cost_grids(result: AuditResult) -> list[Grid]:
    """Per split: utility metrics down, systems and their changes across."""
    rows = [row for row in result.rows if row.name.split("/")[0] in COST_SECTIONS]
    systems = wording.ordered((row.system for row in rows), wording.SYSTEMS)
    columns = [*systems, *(f"change, {system}" for system in systems)]
    grids = (
        pivot(
            (
                Entry(
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


def family_grids(result: AuditResult) -> dict[str, list[Grid]]:
    """Per family of bias metrics that was measured, and split: metrics down, systems across.

    A family that is none of ours, of a person's own metric, comes last.
    """
    found: dict[str, list[Grid]] = {}
    own = (family for row in result.rows if (family := row.name.split("/")[0]) not in ELSEWHERE)
    for family in wording.ordered([*BIAS_FAMILIES, *own], BIAS_FAMILIES):
        rows = result.select(f"{family}/")
        systems = wording.ordered((row.system for row in rows), wording.SYSTEMS)
        columns = [*systems, *(f"change, {system}" for system in systems)]
        grids = [
            pivot(
                (_family_entry(row) for row in rows if row.split == split),
                split=split,
                corner="Metric",
                columns=columns,
            )
            for split in _splits(rows)
        ]
        if filled := [grid for grid in grids if grid]:
            found[family] = filled
    return found


def family_words(family: str) -> tuple[str, str]:
    """Title of a family, and what a reader should know of it."""
    return BIAS_FAMILIES.get(family, (wording.plain(family), "A metric of one's own."))


def _family_entry(row: Estimate) -> Entry:
    name = row.name.removesuffix(CHANGE)
    return Entry(
        section=", ".join(wording.plain(part) for part in name.split("/")[1:-1]),
        label=_with_group(wording.metric_label(name), row),
        column=f"change, {row.system}" if row.name.endswith(CHANGE) else row.system,
        row=row,
    )


def geometry_grid(result: AuditResult) -> Grid | None:
    """Angles and cosines by split and system."""
    rows = result.select("geometry/")
    return pivot(
        (
            Entry(
                section=wording.split_label(row.split),
                label=_of_attribute(wording.metric_label(row.name), row.name.split("/")[1], result),
                column=row.system,
                row=row,
            )
            for split in _splits(rows)
            for row in rows
            if row.split == split
        ),
        split="",
        corner="Measure",
        columns=wording.SYSTEMS,
    )
