"""The report's sentences, written from the numbers and never saying more than their intervals allow."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, radians

from evaluation.report import wording
from evaluation.results import AuditResult, Estimate

OFF, ON, RANDOM = "eraser off", "eraser on", "random direction"
ATTACKER_KINDS = {
    "the linear attacker": ("logistic",),
    "nonlinear attackers": ("rbf_svm", "mlp", "gradient_boosting", "knn"),
}
TASKS = {"zero_shot": "zero-shot accuracy", "probe": "probe accuracy", "grounding": "visual grounding"}
CHANGE = "_change"
RECALLS = {"image-to-text": "retrieval/i2t_recall_10", "text-to-image": "retrieval/t2i_recall_10"}


def summary(result: AuditResult) -> tuple[str, str, str]:
    """What leaks and what the edit changed, what is still found and by whom, what it cost; on ``test``."""
    found = attackers(result, split="test") or "No attacker was compared with chance."
    return leakage(result, split="test"), found, cost(result, split="test")


def context(result: AuditResult) -> str:
    """What was audited and what the words of the summary mean; empty where no leakage was measured."""
    name = f"leakage/{wording.attribute_name(result)}/embedding/max"
    row = _row(result, name, result.delivered, "test")
    if row is None:
        return ""
    groups = _joined([str(group) for group in result.attribute.get("groups") or ()])
    items = "" if row.n_clusters is None else f" of {row.n_clusters:,} items"
    said = [
        f"Audited on {row.n:,} test pictures{items} of {result.data.get('name') or 'an unnamed corpus'}, in "
        f"groups ({groups}) that are perceived or read from text, not anyone's own account.",
        "An attacker is a classifier trained to tell the group from what the model gives for a picture.",
    ]
    if eraser := result.model.get("eraser"):
        said.append(
            f"The eraser ({eraser.get('method')}, rank {eraser.get('rank')}) takes directions out of that; "
            "as many random directions are its control."
        )
    return " ".join(said)


def mitigation(result: AuditResult) -> str:
    """What was done about the attribute in training and after it; empty where the audit does not know.

    Systems share the training: what reworded captions and the like changed is no difference between them.
    """
    told = (str(result.training.get(key) or "") for key in ("captions", "matching", "term"))
    trained = [words.partition(": ")[0] for words in told if words]
    eraser = result.model.get("eraser") or {}
    gates = [f"{name}: {verdict['decision']}" for name, verdict in (result.model.get("gate") or {}).items()]
    clauses = []
    if trained:
        clauses.append(f"trained with mitigation ({'; '.join(trained)})")
    if eraser:
        clauses.append(f"eraser {eraser.get('method')} of rank {eraser.get('rank')}")
    if gates:
        clauses.append(f"the gate before the eraser said {', '.join(gates)}")
    if trained:
        clauses.append(
            "every system of this report but pixels and the untrained tower shares that training, so compare "
            "with a run without --debias for what it changed and cost"
        )
    return _sentence(clauses) if trained or gates else ""


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
    where = f"the image embedding{_place(split)} (maximum over attackers)"
    subject = f"leakage of {wording.perceived(result)} from {where}"
    if off and on:
        clauses = [_movement(subject, off=off, on=on, change=change), _remainder(on), _start(off, on)]
    elif only := off or on:
        clauses = [_level(subject, only), _remainder(only), "" if on else "no eraser was measured"]
    else:
        return f"{_capital(subject)} was not measured."
    if on and result.model.get("image_features_changed") is False:
        clauses.append(
            "the edit changes no image feature (texts alone, or nothing), so leakage cannot change"
        )
    clauses.append(_control(control, change))
    return _sentence(clauses)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(clauses: Sequence[str]) -> str:
    return f"{_capital('; '.join(filter(None, clauses)))}."


def _level(subject: str, row: Estimate) -> str:
    return f"{subject} is {wording.estimate(row)} with the {row.system}{_facts(None, row)}"


def _movement(subject: str, *, off: Estimate, on: Estimate, change: Estimate | None) -> str:
    """From eraser off to eraser on, in the words the interval of the change allows."""
    before, after, facts = wording.estimate(off), wording.estimate(on), _facts(change, on)
    match wording.verdict(change) if change else "untested":
        case "lower":
            verb = "fell" if on.higher_is_better else "was reduced"
            return f"{subject} {verb} from {before} to {after}{facts}"
        case "higher":
            verb = "rose" if on.higher_is_better else "increased"
            return f"{subject} {verb} from {before} to {after}{facts}"
        case "not shown":
            return (
                f"no change could be shown in {subject}: {before} with the {OFF}, {after} with it on{facts}"
            )
    return f"{subject} is {before} with the {OFF} and {after} with it on, a difference not tested{facts}"


def _facts(change: Estimate | None, level: Estimate) -> str:
    facts = [f"change {wording.estimate(change)}"] if change else []
    facts += [f"chance {wording.chance(level)}"] if level.null is not None else []
    return f" ({'; '.join(facts)})" if facts else ""


def _remainder(row: Estimate) -> str:
    """Whether what is left can be told from chance."""
    beyond, band = wording.beyond_chance(row), wording.null_band(row)
    if beyond is None:
        return "no null was computed to compare it with"
    if beyond:
        return f"it lies above its null band {band}" if band else "it lies above chance"
    return f"it cannot be told from chance{f' (null band {band})' if band else ''}"


def _start(off: Estimate, on: Estimate) -> str:
    """Said where there was nothing to take away that could be told from chance."""
    if wording.beyond_chance(off) is not False:
        return ""
    either = "either" if wording.beyond_chance(on) is False else "before"
    return f"with the {OFF} it could not be told from chance {either}"


def _control(control: Estimate | None, change: Estimate | None) -> str:
    """What removing random directions did, and whether that takes the credit from the eraser."""
    if control is None:
        return ""
    shown = wording.verdict(control)
    if change and shown == "lower" == wording.verdict(change):
        return f"removing random directions instead also reduced it, by {wording.estimate(control)}"
    return f"removing random directions instead changed it by {wording.estimate(control)}"


def attackers(result: AuditResult, *, split: str) -> str:
    """Which attackers, linear and nonlinear, still find the attribute; empty if no attacker was measured."""
    attribute, what = wording.attribute_name(result), wording.perceived(result)
    prefix = f"leakage/{attribute}/embedding/"
    system = ON if result.select(prefix, split=split, system=ON) else OFF
    found: list[str] = []
    lost: list[str] = []
    unknown: list[str] = []
    for kind, names in ATTACKER_KINDS.items():
        rows = [row for name in names if (row := _row(result, prefix + name, system, split))]
        for beyond, kinds in ((True, found), (False, lost), (None, unknown)):
            same = [row for row in rows if wording.beyond_chance(row) is beyond]
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
    return f"With the {system}{_place(split)}, {'; '.join(clauses)}." if clauses else ""


def _attacker(row: Estimate) -> str:
    attacker = row.name.rsplit("/", 1)[-1]
    return f"{wording.ATTACKERS[attacker]} {wording.estimate(row)}"


def _verb(subjects: Sequence[str], verb: str) -> str:
    return f"{verb}s" if len(subjects) == 1 and subjects[0].startswith("the linear") else verb


def cost(result: AuditResult, *, split: str) -> str:
    """What the edit cost: in recall at 10, both directions, else in the first task there is."""
    clauses = [_kept(result, f"{way} recall at 10", name, split) for way, name in RECALLS.items()]
    if not any(clauses):
        clauses = [_kept(result, label, name, split) for label, name in _tasks(result, split)[:1]]
    filled = list(filter(None, clauses))
    return _sentence(filled) if filled else f"Utility{_place(split)} was not measured."


def _kept(result: AuditResult, subject: str, name: str, split: str) -> str:
    off, on = _row(result, name, OFF, split), _row(result, name, ON, split)
    subject += _place(split)
    if off and on:
        return _movement(subject, off=off, on=on, change=_row(result, f"{name}_change", ON, split))
    only = off or on
    return _level(subject, only) if only else ""


def _tasks(result: AuditResult, split: str) -> list[tuple[str, str]]:
    """Label and name of what the model can do, without telling the attribute itself."""
    own = f"zero_shot/{wording.attribute_name(result)}_"
    names = dict.fromkeys(
        row.name
        for family in TASKS
        for row in result.select(f"{family}/", split=split)
        if row.higher_is_better and not row.name.endswith(CHANGE) and not row.name.startswith(own)
    )
    return [(f"{TASKS[name.split('/')[0]]} ({wording.metric_label(name)})", name) for name in names]


def fitted(result: AuditResult) -> str:
    """What a linear attacker finds on the very data the eraser was fitted on; empty if not measured."""
    name = f"leakage/{wording.attribute_name(result)}/embedding_fitted/logistic"
    off, on = _row(result, name, OFF, "train"), _row(result, name, ON, "train")
    if on is None:
        return ""
    before = f" ({wording.estimate(off)} with it off)" if off else ""
    details = (result.model.get("eraser") or {}).get("details") or {}
    kept = (
        f", {details['held_out']:,} of whose vectors were kept for the gate,"
        if details.get("held_out")
        else ","
    )
    meaning = {
        True: "so even there the erasure leaves something to a linear attacker",
        False: "which cannot be told from chance: what a linear attacker finds on other data comes from "
        "estimating the directions on a finite sample and from the shift between samples",
        None: "without a null to compare it with",
    }[wording.beyond_chance(on)]
    return (
        f"On the data the eraser was fitted on{kept} a linear attacker reaches {wording.estimate(on)} with "
        f"the eraser on{before}, {meaning}."
    )


def geometry(result: AuditResult) -> str:
    """What the cross-modal angle means for this model; empty if not measured."""
    name = f"geometry/{wording.attribute_name(result)}/cross_modal_angle"
    angle = next((row for row in result.select(name, split="test") or result.select(name)), None)
    if angle is None:
        return ""
    share, most, least = (_share(degrees) for degrees in (angle.value, angle.low, angle.high))
    span = f" [{least}, {most}]" if angle.low is not None else ""
    random = f" (random directions: {wording.chance(angle)} {wording.null_band(angle)})" if angle.null else ""
    return (
        f"The text direction and the difference between the groups' mean image embeddings are "
        f"{wording.estimate(angle)} apart{random}, so removing the text direction alone takes out "
        f"{share}%{span} of the squared length of that difference."
    )


def _share(degrees: float | None) -> str:
    """Per cent of a squared length that lies along a line at this angle."""
    return "" if degrees is None else f"{100 * cos(radians(degrees)) ** 2:.0f}"
