"""Several configurations side by side: paired differences with corrected p-values; no interpretation.

A configuration is what runs share that differ in their seed alone. Compared is what a user of each model
gets: the system with its eraser, where it has one. p-values are Holm's over a family of tests: the rows of
one split whose names share the first part, in all configurations that are compared with the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from evaluation.inference import holm_by_family
from evaluation.inference.across_runs import Contrast, Reading, contrast, spread
from evaluation.results import AuditResult, Estimate

CHANGE = "_change"

Key = tuple[str, str, str]  # name, split, group


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One number of a configuration against the reference.

    Attributes:
        name, split, group, unit, higher_is_better: as of the rows that are compared.
        configuration: whose number it is.
        system: what was measured of it.
        before, after: of the reference and of this configuration, each the mean over its seeds.
        value: after minus before, ``low`` and ``high`` its 95% interval; ``None`` where nothing is known to
            judge by.
        p_value: two-sided, of no difference; ``p_adjusted`` after Holm's correction over its family.
        paired: whether both were measured on the same items with the same resamples.
        by: what the interval is made of: ``items`` or ``seeds``.
        n: observations; ``n_clusters``: independent ones; of the run with the fewest.
    """

    name: str
    split: str
    group: str
    unit: str
    higher_is_better: bool
    configuration: str
    system: str
    before: float
    after: float
    value: float
    low: float | None
    high: float | None
    p_value: float | None
    p_adjusted: float | None
    paired: bool
    by: str
    n: int
    n_clusters: int | None


def differences(
    before: Sequence[AuditResult], after: Sequence[AuditResult], *, configuration: str = ""
) -> list[Difference]:
    """What ``after`` has otherwise than ``before``; each the audits of the seeds of one configuration.

    Rows that not all audits have are left out.

    Raises:
        ValueError: no audit.
    """
    return compared(before, {configuration: after})


def compared(
    reference: Sequence[AuditResult], others: Mapping[str, Sequence[AuditResult]]
) -> list[Difference]:
    """Differences of each configuration to the reference, p-values corrected over all of them.

    Raises:
        ValueError: no audit of some configuration.
    """
    if not (reference and all(others.values())):
        raise ValueError("a configuration needs at least one audit")
    own = [delivered_rows(result) for result in reference]
    found: list[Difference] = []
    rows = {name: [delivered_rows(result) for result in results] for name, results in others.items()}
    for key in own[0]:
        present = {name: each for name, each in rows.items() if all(key in run for run in each)}
        if not all(key in run for run in own) or not present:
            continue
        readings = {name: [reading(run[key]) for run in each] for name, each in present.items()}
        base = [reading(run[key]) for run in own]
        between = spread([base, *readings.values()])
        for name, each in present.items():
            same = _same_items([*reference, *others[name]], [*own, *each], key)
            made = contrast(base, readings[name], same_items=same, between=between)
            found.append(_difference(name, [run[key] for run in (*own, *each)], made))
    families = [(row.name.split("/")[0], row.split) for row in found]
    adjusted = holm_by_family([row.p_value for row in found], families)
    return [replace(row, p_adjusted=p_value) for row, p_value in zip(found, adjusted, strict=True)]


def delivered_rows(result: AuditResult) -> dict[Key, Estimate]:
    """What a user of the model gets, by name, split and group, without changes within the audit."""
    return {
        (row.name, row.split, row.group): row
        for row in result.rows
        if row.system == result.delivered and not row.name.endswith(CHANGE)
    }


def reading(row: Estimate) -> Reading:
    """A row as a reading of one run."""
    clusters = row.n if row.n_clusters is None else row.n_clusters
    return Reading(value=row.value, low=row.low, high=row.high, draws=row.draws, clusters=clusters)


def _same_items(results: Iterable[AuditResult], rows: Iterable[Mapping[Key, Estimate]], key: Key) -> bool:
    data = {result.data.get("digest") for result in results}
    sizes = {(run[key].n, run[key].n_clusters) for run in rows}
    return None not in data and len(data) == len(sizes) == 1


def _difference(configuration: str, rows: Sequence[Estimate], found: Contrast) -> Difference:
    """What was found of one number; ``rows`` are those of all runs, the last one of the configuration."""
    fewest = min(rows, key=lambda row: row.n if row.n_clusters is None else row.n_clusters)
    last = rows[-1]
    return Difference(
        name=last.name,
        split=last.split,
        group=last.group,
        unit=last.unit,
        higher_is_better=last.higher_is_better,
        configuration=configuration,
        system=last.system,
        p_adjusted=None,
        n=fewest.n,
        n_clusters=fewest.n_clusters,
        **vars(found),
    )
