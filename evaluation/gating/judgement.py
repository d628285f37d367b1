"""What a release gate finds: every row that its rules speak of, and whether it breaks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from clip_lite.errors import UsageError
from evaluation.comparing.differences import Difference, delivered_rows, differences
from evaluation.gating.matching import dotted, listed, matching, reachable, refuse_beyond
from evaluation.gating.rules import Row, Rule
from evaluation.results import AuditResult

WRITTEN = ("name", "split", "system", "group", "unit", "value", "low", "high", "p_value", "p_adjusted", "n")
WRITTEN_OF_DIFFERENCES = ("before", "after", "paired")


class Judged(NamedTuple):
    """One row under one rule."""

    rule: Rule
    row: Row
    number: float
    broken: bool


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of all rules; ``baseline`` says what differences were measured from."""

    rules: tuple[Rule, ...]
    judged: tuple[Judged, ...]
    baseline: Mapping[str, Any] | None = None

    @property
    def broken(self) -> tuple[Judged, ...]:
        """The rows that break a rule."""
        return tuple(item for item in self.judged if item.broken)

    @property
    def passed(self) -> bool:
        """Whether no rule is broken."""
        return not self.broken

    @property
    def word(self) -> str:
        """``passed`` or ``failed``."""
        return "passed" if self.passed else "failed"

    @property
    def summary(self) -> str:
        """How many rules and rows were judged, and how many of them failed."""
        rules, rows = len(self.rules), len(self.judged)
        if self.passed:
            return f"{_counted(rules, 'rule')}, {_counted(rows, 'row')}"
        failing = len({item.rule for item in self.broken})
        return f"{failing} of {_counted(rules, 'rule')}, {len(self.broken)} of {_counted(rows, 'row')}"

    def to_json(self) -> dict[str, Any]:
        """Verdict, baseline, and every rule with the rows it was held against."""
        return {
            "verdict": self.word,
            "baseline": dict(self.baseline) if self.baseline else None,
            "rules": [
                {
                    "rule": rule.text,
                    "threshold": rule.threshold,
                    "broken": any(item.rule is rule for item in self.broken),
                    "rows": [_plain(item) for item in self.judged if item.rule is rule],
                }
                for rule in self.rules
            ],
        }


def _plain(item: Judged) -> dict[str, Any]:
    fields = WRITTEN + (WRITTEN_OF_DIFFERENCES if isinstance(item.row, Difference) else ())
    return {field: getattr(item.row, field) for field in fields} | {
        "read": item.number,
        "broken": item.broken,
    }


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def judge(
    rules: Sequence[Rule], result: AuditResult, baseline: AuditResult | None = None
) -> tuple[Judged, ...]:
    """Every row that some rule speaks of, with whether it breaks the rule.

    Without a place, a rule speaks of what a user of the model gets (``result.delivered``), on all test splits
    and of all groups.

    Args:
        baseline: what regressions are measured from.

    Raises:
        UsageError: naming every rule that no row answers, or whose threshold no row can reach, and every
            regression of which one of the audits has rows that the other has not.
    """
    moved = differences([baseline], [result]) if baseline else []
    judged: list[Judged] = []
    wrong: list[str] = []
    for rule in rules:
        try:
            judged += _judged(rule, moved if rule.regression else result.rows, result.delivered)
            if rule.regression and baseline:
                _refuse_gaps(rule, moved, result, baseline)
        except UsageError as error:
            wrong.append(str(error))
    if wrong:
        raise UsageError("; ".join(wrong))
    return tuple(judged)


def _judged(rule: Rule, rows: Sequence[Row], delivered: str) -> Iterator[Judged]:
    chosen = matching(rule, rows, delivered)
    if len(units := {row.unit for row in chosen}) > 1 and rule.reading not in ("p", "n"):
        raise UsageError(
            f"--fail-if {rule.text!r} compares {listed(units)} with one number: name fewer rows than "
            f"{listed({dotted(row.name) for row in chosen})}"
        )
    for row in chosen:
        number = rule.read(row)
        if number is None:
            lacking = "p-value" if rule.reading == "p" else "interval"
            raise UsageError(
                f"--fail-if {rule.text!r} needs the {lacking} of {dotted(row.name)}[{row.split}, "
                f"{row.system}], which has none: judge its value, or name other rows"
            )
        refuse_beyond(rule, *reachable(rule, row), row.unit)
        yield Judged(rule, row, number, rule.broken_by(number))


def _refuse_gaps(rule: Rule, moved: Sequence[Row], result: AuditResult, baseline: AuditResult) -> None:
    """Refuse to compare a part of what a rule names, as if the rest were as good."""
    compared = {(row.name, row.split, row.group) for row in moved}
    for audit, other in ((result, "the baseline"), (baseline, "the audit")):
        rows = [replace(row, system=result.delivered) for row in delivered_rows(audit).values()]
        for row in matching(rule, rows, result.delivered):
            if (row.name, row.split, row.group) not in compared:
                place = ", ".join(filter(None, (row.split, row.group)))
                raise UsageError(
                    f"--fail-if {rule.text!r}: {other} has no {dotted(row.name)}[{place}] to compare; "
                    "name other rows, or a place"
                )
