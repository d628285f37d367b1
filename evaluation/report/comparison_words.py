"""The words and numbers of a comparison, which its table, its page and its figures share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from evaluation.comparing.comparison import Comparison
from evaluation.comparing.differences import Difference
from evaluation.comparing.trade_off import ALL, Hypervolume, TradeOff
from evaluation.report import wording
from evaluation.report.grids import CHANGE
from evaluation.report.layout import COST_SECTIONS, family_words
from evaluation.results import Estimate

MAIN_SPLIT = "test"
OTHER_DATA = (
    "These runs were audited on different data: what differs is the data as much as the models, nothing is "
    "paired, and no front is drawn."
)
HEADLINES = re.compile(
    r"leakage/[^/]+/embedding/(max|logistic)"
    r"|retrieval/(i2t|t2i)_recall_10"
    r"|zero_shot/.+_top1"
    r"|probe/.+_(accuracy|map)"
    r"|ranking/.+/worst_max_skew_\d+|ranking/[^/]+/max_skew_\d+"
    r"|groups/.+/(worst_group_accuracy|accuracy_gap|equalized_odds_difference)"
)


@dataclass(frozen=True)
class Block:
    """One number of all configurations: its name, and a difference for each."""

    title: str
    rows: tuple[Difference, ...]


def level(row: Difference, value: float) -> str:
    """A mean over seeds in print."""
    return wording.value(_as_row(row, row.name, value))


def change(row: Difference) -> str:
    """The difference with its interval in print."""
    return wording.estimate(as_change(row))


def p_value(row: Difference) -> str:
    """The corrected p-value: ``.031``, ``< .001``, nothing where there is none."""
    if row.p_adjusted is None:
        return ""
    return "< .001" if row.p_adjusted < 0.001 else f"{row.p_adjusted:.3f}".removeprefix("0")


def shown(row: Difference) -> bool:
    """Whether the difference is shown after correction."""
    return row.p_adjusted is not None and row.p_adjusted < wording.SIGNIFICANT


def blocks(rows: Iterable[Difference]) -> list[Block]:
    """Rows by what they measure, in order."""
    found: dict[str, list[Difference]] = {}
    for row in rows:
        found.setdefault(title_of(row), []).append(row)
    return [Block(title, tuple(own)) for title, own in found.items()]


def headlines(comparison: Comparison) -> list[Block]:
    """The numbers to look at first: of the test split, about all groups together."""
    return blocks(
        row
        for row in comparison.differences
        if row.split == MAIN_SPLIT and not row.group and HEADLINES.fullmatch(row.name)
    )


def families(comparison: Comparison) -> dict[str, list[Block]]:
    """Every number, by the title of its family."""
    found: dict[str, list[Difference]] = {}
    for row in comparison.differences:
        family = row.name.split("/")[0]
        title = "Leakage" if family == "leakage" else COST_SECTIONS.get(family) or family_words(family)[0]
        found.setdefault(title, []).append(row)
    return {title: blocks(rows) for title, rows in found.items()}


def summary(comparison: Comparison) -> list[str]:
    """What was compared, what differs after correction, and what the intervals know of."""
    reference = comparison.reference.name
    tested = [row for row in comparison.differences if row.p_adjusted is not None]
    found = [row for row in tested if shown(row)]
    first = (
        f"Of {len(tested):,} differences to {reference}, {len(found):,} are shown after Holm's correction."
    )
    leaks = [row for block in headlines(comparison) for row in block.rows if row.name.endswith("/max")]
    sentences = [] if comparison.one_corpus else [OTHER_DATA]
    sentences += [first, *(_leak_sentence(row, reference) for row in leaks[:4])]
    if comparison.same:
        sentences.append(
            "All runs are seeds of one configuration: what differs between them is how trainings differ by "
            "chance."
        )
    elif comparison.single:
        sentences.append(
            "Each configuration was trained once: the intervals hold the choice of test items and not how "
            "trainings differ by their seed."
        )
    return sentences


def _leak_sentence(row: Difference, reference: str) -> str:
    tested = f"; p {p_value(row)} after Holm's correction" if row.p_adjusted is not None else ""
    numbers = f"{level(row, row.before)} to {level(row, row.after)} (change {change(row)}{tested})"
    if not shown(row):
        return (
            f"No difference in leakage, strongest attacker, could be shown between {reference} and "
            f"{row.configuration}: {numbers}."
        )
    verb = "lower" if row.value < 0 else "higher"
    return f"Leakage, strongest attacker, is {verb} in {row.configuration} than in {reference}: {numbers}."


def hypervolumes(trade_off: TradeOff | None) -> list[str]:
    """A sentence for each method: how much of the plane its points cover."""
    if trade_off is None:
        return []
    return [_hypervolume(each) for each in trade_off.hypervolumes if each.points > 1]


def _hypervolume(found: Hypervolume) -> str:
    method = "all methods" if found.method == ALL else found.method
    interval = "" if found.low is None else f" [{found.low:.3f}, {found.high:.3f}]"
    return f"Hypervolume of {method} ({found.points} points): {found.value:.3f}{interval}."


def title_of(row: Difference) -> str:
    """What a difference is about: family, representation, metric, group and split."""
    family, *middle, _ = row.name.split("/")
    parts = [*(wording.REPRESENTATIONS.get(part) or wording.plain(part) for part in (family, *middle))]
    label = wording.metric_label(row.name)
    split = "" if row.split == MAIN_SPLIT else f" on {wording.split_label(row.split)}"
    return f"{', '.join(parts)}: {label}{f', {row.group}' if row.group else ''}{split}"


def as_change(row: Difference) -> Estimate:
    """The difference as a row of change."""
    return _as_row(row, row.name + CHANGE, row.value, low=row.low, high=row.high, null=0.0)


def _as_row(row: Difference, name: str, value: float, **fields: Any) -> Estimate:
    return Estimate(
        name=name,
        value=value,
        n=row.n,
        n_clusters=row.n_clusters,
        split=row.split,
        system=row.system,
        group=row.group,
        unit=row.unit,
        higher_is_better=row.higher_is_better,
        **fields,
    )
