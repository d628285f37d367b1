"""The report's sentences, written from the numbers and never saying more than their intervals allow."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, radians

from evaluation.report import wording
from evaluation.results import AuditResult, Estimate

OFF, ON, RANDOM = "eraser off", "eraser on", "random direction"
ATTACKER_KINDS = {"the linear attacker": ("logistic",), "nonlinear attackers": ("rbf_svm", "mlp")}
RECALLS = {"image-to-text": "retrieval/i2t_recall_10", "text-to-image": "retrieval/t2i_recall_10"}


def summary(result: AuditResult) -> tuple[str, str, str]:
    """What changed, what attackers still find, what it cost; all on the ``test`` split."""
    return leakage(result, split="test"), attackers(result, split="test"), retrieval(result, split="test")


def _row(result: AuditResult, name: str, system: str, split: str) -> Estimate | None:
    try:
        return result.find(name, system=system, split=split)
    except KeyError:
        return None


def _joined(items: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))


def _place(split: str) -> str:
    return "" if split == "test" else f" on {wording.split_label(split)}"


def leakage(result: AuditResult, *, split: str) -> str:
    """Leakage from the image embedding with the eraser off and on, and under the random control."""
    name = f"leakage/{wording.attribute_name(result)}/embedding/max"
    off, on = _row(result, name, OFF, split), _row(result, name, ON, split)
    change, control = (_row(result, f"{name}_change", system, split) for system in (ON, RANDOM))
    subject = (
        f"leakage of {wording.perceived(result)} from the image embedding{_place(split)} (maximum over attackers)"
    )
    if off and on:
        clauses = [_movement(subject, off=off, on=on, change=change), _remainder(on)]
    elif only := off or on:
        clauses = [f"The {subject} is {wording.estimate(only)} with the {only.system}{_facts(None, only)}"]
        clauses += [_remainder(only), "" if on else "no eraser was measured"]
    else:
        return f"The {subject} was not measured."
    if (result.model.get("eraser") or {}).get("changes_images") is False:
        clauses.append("the eraser leaves image embeddings as they are, so their leakage cannot change")
    clauses.append(_control(control, change))
    return "; ".join(filter(None, clauses)) + "."


def _movement(subject: str, *, off: Estimate, on: Estimate, change: Estimate | None) -> str:
    """From eraser off to eraser on, in the words the interval of the change allows."""
    before, after, facts = wording.estimate(off), wording.estimate(on), _facts(change, on)
    match wording.verdict(change) if change else "untested":
        case "lower":
            verb = "was reduced" if not on.higher_is_better else "fell"
            return f"{subject[:1].upper()}{subject[1:]} {verb} from {before} to {after}{facts}"
        case "higher":
            verb = "increased" if not on.higher_is_better else "rose"
            return f"{subject[:1].upper()}{subject[1:]} {verb} from {before} to {after}{facts}"
        case "not shown":
            return f"No change in the {subject} could be shown: {before} with the {OFF}, {after} with it on{facts}"
    return (
        f"The {subject} is {before} with the {OFF} and {after} with it on, "
        f"a difference without an interval{facts}"
    )


def _facts(change: Estimate | None, level: Estimate) -> str:
    facts = [f"change {wording.estimate(change)}"] if change else []
    facts += [f"chance {wording.chance(level)}"] if level.null is not None else []
    return f" ({'; '.join(facts)})" if facts else ""


def _remainder(row: Estimate) -> str:
    """Whether what is left can be told from chance."""
    above, band = wording.above_null(row), wording.null_band(row)
    yardstick = f"its null band {band}" if band else "chance"
    if above is None:
        return "no null was computed to compare it with"
    return f"it stays above {yardstick}" if above else f"it cannot be told from {yardstick}"


def _control(control: Estimate | None, change: Estimate | None) -> str:
    """What removing a random direction did, and whether that takes the credit from the eraser."""
    if control is None:
        return ""
    shown = wording.verdict(control)
    if change and shown == "lower" == wording.verdict(change):
        return f"removing a random direction instead also reduced it, by {wording.estimate(control)}"
    return f"removing a random direction instead changed it by {wording.estimate(control)}"


def attackers(result: AuditResult, *, split: str) -> str:
    """Which attackers, linear and nonlinear, still find the attribute in the image embedding."""
    attribute, what = wording.attribute_name(result), wording.perceived(result)
    prefix = f"leakage/{attribute}/embedding/"
    system = ON if result.select(prefix, split=split, system=ON) else OFF
    found, lost, unknown = [], [], []
    for kind, names in ATTACKER_KINDS.items():
        rows = [row for name in names if (row := _row(result, prefix + name, system, split))]
        for above, kinds in ((True, found), (False, lost), (None, unknown)):
            same = [row for row in rows if wording.above_null(row) is above]
            if same:
                kinds.append(f"{kind} ({', '.join(_attacker(row) for row in same)})")
    clauses = []
    if found:
        clauses.append(f"{_joined(found)} still {_verb(found, 'find')} {what} above chance")
    if lost and found:
        clauses.append(f"{_joined(lost)} cannot be told from chance")
    if lost and not found:
        clauses.append(
            f"{_joined(lost)} cannot be told from chance, "
            "which bounds these attackers on this many pictures and does not show that nothing is left"
        )
    if unknown:
        clauses.append(f"{_joined(unknown)} had no null to compare with")
    if not clauses:
        return f"What single attackers find of {what}{_place(split)} was not measured."
    return f"With the {system}, {'; '.join(clauses)}."


def _attacker(row: Estimate) -> str:
    attacker = row.name.rsplit("/", 1)[-1]
    return f"{wording.ATTACKERS[attacker]} {wording.estimate(row)}"


def _verb(subjects: Sequence[str], verb: str) -> str:
    return f"{verb}s" if len(subjects) == 1 and subjects[0].startswith("the linear") else verb


def retrieval(result: AuditResult, *, split: str) -> str:
    """What the eraser cost in recall at 10, both directions."""
    clauses = []
    for direction, name in RECALLS.items():
        off, on = _row(result, name, OFF, split), _row(result, name, ON, split)
        subject = f"{direction} recall at 10{_place(split)}"
        if off and on:
            clauses.append(_movement(subject, off=off, on=on, change=_row(result, f"{name}_change", ON, split)))
        elif only := off or on:
            clauses.append(f"The {subject} is {wording.estimate(only)} with the {only.system}{_facts(None, only)}")
    if not clauses:
        return f"Retrieval{_place(split)} was not measured."
    return "; ".join([clauses[0], *(text[:1].lower() + text[1:] for text in clauses[1:])]) + "."


def fitted(result: AuditResult) -> str:
    """What a linear attacker finds on the very data the eraser was fitted on; empty if not measured."""
    name = f"leakage/{wording.attribute_name(result)}/embedding_fitted/logistic"
    off, on = _row(result, name, OFF, "train"), _row(result, name, ON, "train")
    if on is None:
        return ""
    before = f" ({wording.estimate(off)} with it off)" if off else ""
    above = wording.above_null(on)
    meaning = {
        True: "so even there the erasure leaves something to a linear attacker",
        False: "which cannot be told from chance: what a linear attacker finds on other data comes from "
        "estimating the directions on a finite sample and from the shift between samples",
        None: "without a null to compare it with",
    }[above]
    return (
        f"On the data the eraser was fitted on, a linear attacker reaches {wording.estimate(on)} with the "
        f"eraser on{before}, {meaning}."
    )


def geometry(result: AuditResult) -> str:
    """What the cross-modal angle means for this model; empty if not measured."""
    name = f"geometry/{wording.attribute_name(result)}/cross_modal_angle"
    angle = next((row for row in result.select(name, split="test") or result.select(name)), None)
    if angle is None:
        return ""
    share = cos(radians(angle.value)) ** 2
    return (
        f"The text direction and the image direction of the attribute are {wording.estimate(angle)} apart, so "
        f"removing the text direction alone takes out {wording.decimal(100 * share, 1)}% of the squared length "
        "of the image direction."
    )
