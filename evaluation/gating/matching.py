"""Which rows a gate's rule speaks of, and which rules no row can answer."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import combinations

from clip_lite.errors import UsageError
from evaluation.comparing.differences import CHANGE, Difference
from evaluation.gating.rules import Row, Rule

NOT_TESTED_ON = ("train", "val")

# Families all of whose rows but changes are shares, from 0 to 1; of retrieval, those in fractions are.
SHARES = ("leakage", "leakage_auc", "zero_shot", "probe", "probe_ap", "grounding")
RANKED = ("retrieval", "neutral_retrieval")
ENDS: Mapping[str, tuple[float, float]] = {"fraction": (-1, 1), "cosine": (-1, 1), "degrees": (0, 180)}


def matching(rule: Rule, rows: Sequence[Row], delivered: str) -> list[Row]:
    """The rows that a rule speaks of.

    Raises:
        UsageError: there is none; the message names what comes nearest.
    """
    named = [row for row in rows if rule.names(row.name)]
    if not named:
        raise UsageError(_no_such_name(rule, rows))
    asked: dict[str, set[str]] = {"split": set(), "system": set(), "group": set()}
    for word in rule.place:
        kinds = [kind for kind in asked if any(getattr(row, kind) == word for row in named)]
        if not kinds:
            raise UsageError(f"--fail-if {rule.text!r}: no row in {word!r}, there are {_places(named)}")
        asked[kinds[0]].add(word)
    asked["system"] = asked["system"] or {delivered}
    asked["split"] = asked["split"] or {row.split for row in named if row.split not in NOT_TESTED_ON}
    chosen = [
        row
        for row in named
        if all(getattr(row, kind) in words for kind, words in asked.items() if words or kind != "group")
    ]
    if not chosen:
        place = ", ".join(rule.place) or f"{delivered}, test splits"
        raise UsageError(
            f"--fail-if {rule.text!r}: no row in [{place}], name one of {_places(named)}, in brackets"
        )
    return chosen


def reachable(rule: Rule, row: Row) -> tuple[float, float]:
    """Smallest and largest number that the rule's reading of such a row can have."""
    if rule.reading == "p":
        return 0, 1
    if rule.reading == "n":
        return 0, math.inf
    low, high = ENDS.get(row.unit, (-math.inf, math.inf))
    family = row.name.split("/")[0]
    if row.unit == "fraction" and family in (*SHARES, *RANKED):
        low = 0
    elif not all(low <= number <= high for number in _levels(row)):
        return -math.inf, math.inf  # a unit that somebody's own metric left at its default
    width = high - low
    return (-width, width) if rule.regression or row.name.endswith(CHANGE) else (low, high)


def _levels(row: Row) -> tuple[float, ...]:
    return (row.before, row.after) if isinstance(row, Difference) else (row.value,)


def refuse_beyond(rule: Rule, low: float, high: float, unit: str) -> None:
    """Refuse a rule that every number from ``low`` to ``high`` breaks, or that none does.

    Raises:
        UsageError: it is one.
    """
    if rule.broken_by(low) != rule.broken_by(high):
        return
    never = "always" if rule.broken_by(low) else "never"
    percent = unit == "fraction" and 1 <= abs(rule.threshold) <= 100 and rule.reading not in ("p", "n")
    hint = f"; write {rule.threshold:g}% as {rule.threshold / 100:g}" if percent else ""
    if rule.threshold < 0 <= low:
        hint = "; write '- baseline' after the name for a difference"
    what = {"p": "a p-value", "n": "a count"}.get(rule.reading, f"its number, in {unit},")
    raise UsageError(
        f"--fail-if {rule.text!r} would {never} fail: {what} lies between {low:g} and {high:g}{hint}"
    )


def refuse_early(rules: Iterable[Rule], families: Collection[str] | None) -> None:
    """Refuse what no audit can answer, before one is made.

    Args:
        families: first parts of the names of the rows that will be measured; None where they are not known.

    Raises:
        UsageError: naming every rule of another family, or with a threshold that shares cannot reach.
    """
    wrong: list[str] = []
    for rule in rules:
        family = rule.parts[0]
        if families is not None and family not in families:
            near = get_close_matches(family, families, n=3) or sorted(families)
            wrong.append(
                f"--fail-if {rule.text!r}: the chosen metrics give no row that begins with {family!r}, "
                f"expected {listed(near)}"
            )
        elif family in SHARES and rule.reading not in ("p", "n"):
            low = -1 if rule.regression or rule.parts[-1].endswith(CHANGE) else 0
            try:
                refuse_beyond(rule, low, 1, "fraction")
            except UsageError as error:
                wrong.append(str(error))
    if wrong:
        raise UsageError("; ".join(wrong))


def _no_such_name(rule: Rule, rows: Iterable[Row]) -> str:
    names = {row.name for row in rows}
    spelled = {
        ".".join((first, *some))
        for first, *rest in (name.split("/") for name in names)
        for some in combinations(rest, min(len(rule.parts) - 1, len(rest)))
    }
    near = get_close_matches(".".join(rule.parts), sorted(spelled), n=3, cutoff=0.6)
    families = listed(name.split("/")[0] for name in names) or "nothing: there are no rows"
    hint = f"nearest are {', '.join(near)}" if near else f"rows begin with {families}"
    where = "no difference from the baseline" if rule.regression else "no row"
    return f"--fail-if {rule.text!r}: {where} is named {'.'.join(rule.parts)}; {hint}"


def _places(rows: Sequence[Row]) -> str:
    kinds = {f"{kind}s": {getattr(row, kind) for row in rows} - {""} for kind in ("split", "system", "group")}
    return "; ".join(f"{kind} {listed(words)}" for kind, words in kinds.items() if words)


def dotted(name: str) -> str:
    """The name of a row as rules spell it."""
    return name.replace("/", ".") if "." not in name else name


def listed(words: Iterable[str], limit: int = 8) -> str:
    """Words in alphabetical order, the first ``limit`` of them."""
    distinct = sorted(set(words))
    more = f" and {len(distinct) - limit} more" if len(distinct) > limit else ""
    return ", ".join(distinct[:limit]) + more
