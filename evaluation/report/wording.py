"""Names and numbers in print: one spelling for the HTML report, its figures and the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from evaluation.results import AuditResult, Estimate

MINUS = "−"
SYSTEMS = {
    "majority answer": "always the commonest group, whatever the picture",
    "pixels": "no model at all: what the picture itself shows",
    "untrained tower": "the same image tower with random weights",
    "eraser off": "the trained model as it is",
    "eraser on": "the trained model with the attribute directions suppressed",
    "random direction": "as many random directions removed instead: the control of the eraser",
}
REPRESENTATIONS = {
    "majority": "No picture",
    "pixels": "Pixels",
    "features": "Tower features",
    "embedding": "Image embedding",
}
ATTACKERS = {
    "logistic": "logistic",
    "rbf_svm": "RBF SVM",
    "mlp": "MLP",
    "gradient_boosting": "boosting",
    "knn": "k-NN",
    "max": "max",
}
SPLITS = {
    "test": "Test",
    "openmoji": "OpenMoji (style shift)",
    "train": "Train",
    "val": "Validation",
}
METRICS = {
    "cross_modal_angle": "Cross-modal angle",
    "cosine_kept": "Cosine kept (before · after)",
}
COUNTED = ("classes", "cells")
SHORT_UNITS = {"standard deviations": "sd"}
ENDS = {"_knn_accuracy": "k-NN", "_sgd_accuracy": "SGD", "_iou50": "IoU ≥ .5", "_pointing": "pointing game"}
SKEWS = {
    "worst_max_skew": "Worst MaxSkew",
    "max_skew": "MaxSkew",
    "min_skew": "MinSkew",
    "ndkl": "NDKL",
}
ARROWS = {"i2t": "Image → text", "t2i": "Text → image"}

UTILITY = ("retrieval/", "neutral_retrieval/", "zero_shot/", "probe/", "probe_ap/", "grounding/")
SIGNIFICANT = 0.05
MORE_DIGITS = 3  # where rounding would hide the sign
ROUNDING = 1e-9  # a difference of equal numbers is hardly ever exactly 0

Verdict = Literal["lower", "higher", "not shown", "untested"]


def ordered(keys: Iterable[str], known: Iterable[str]) -> list[str]:
    """Distinct ``keys``: those in ``known`` first and in its order, the rest as they came."""
    present = dict.fromkeys(keys)
    first = [key for key in known if key in present]
    return first + [key for key in present if key not in first]


def attribute_name(result: AuditResult) -> str:
    """Key of the audited attribute, as in ``leakage/{attribute}/…``; empty where none was audited."""
    leakage = (row.name.split("/")[1] for row in result.select("leakage/") if row.name.count("/") == 3)
    return str(result.attribute.get("name") or next(leakage, ""))


def perceived(result: AuditResult) -> str:
    """``perceived gender``: labels come from names and drawings, never from people themselves."""
    name = spaced(attribute_name(result))
    return f"perceived {name}" if name else "a protected attribute"


def spaced(key: str) -> str:
    """``skin_tone`` → ``skin tone``, ``gender_x_age`` → ``gender × age``."""
    return key.replace("_x_", " × ").replace("_", " ")


def plain(key: str) -> str:
    """``skin_tone`` → ``Skin tone``."""
    if key == "mlflow":
        return "MLflow"
    text = spaced(key)
    return text[:1].upper() + text[1:]


def metric_label(name: str) -> str:
    """Label of a metric name without its ``_change``."""
    if recall := re.fullmatch(r"(?:neutral_)?retrieval/(i2t|t2i)_recall_(\d+)", name):
        return f"{ARROWS[recall[1]]}, R@{recall[2]}"
    if median := re.fullmatch(r"(?:neutral_)?retrieval/(i2t|t2i)_median_rank", name):
        return f"{ARROWS[median[1]]}, median rank"
    if skew := re.fullmatch(r"ranking/.+/(worst_max_skew|max_skew|min_skew|ndkl)_(\d+)", name):
        return f"{SKEWS[skew[1]]}@{skew[2]}"
    if top := re.fullmatch(r"zero_shot/(.+)_top(\d+)", name):
        return f"{plain(top[1])}, top {top[2]}"
    last = name.rsplit("/", 1)[-1]
    for end, words in ENDS.items():
        if last.endswith(end):
            return f"{plain(last.removesuffix(end))}, {words}"
    return METRICS.get(last) or ATTACKERS.get(last) or plain(last)


def split_label(split: str) -> str:
    """Label of a split."""
    return SPLITS.get(split, plain(split))


@dataclass(frozen=True)
class _Style:
    scale: float
    digits: int
    suffix: str = ""


def _in_points(row: Estimate) -> bool:
    return row.unit == "fraction" and row.name.startswith(UTILITY)


def _style(row: Estimate) -> _Style:
    change = row.name.endswith("_change")
    if row.unit == "degrees":
        return _Style(1, 1 + change, "°")
    if row.unit == "rank":
        return _Style(1, 1)
    if row.unit in COUNTED:
        return _Style(1, 0, f" {row.unit}")
    if _in_points(row):
        return _Style(100, 1 + change, "" if change else "%")
    if row.unit == "fraction":
        return _Style(1, 3 if change or row.name.startswith(("geometry/", "labelling/")) else 2)
    return _Style(1, 2 + change + (row.unit == "cosine"), f" {SHORT_UNITS.get(row.unit, row.unit)}")


def number(row: Estimate, raw: float, *, more: int = 0) -> str:
    """``raw`` as ``row`` prints its numbers, without the unit: ``.78``, ``−.041``, ``30.4``.

    Proper fractions have no zero before the point; nothing prints as minus zero. Changes carry one digit
    more than levels, and ``more`` digits on request.
    """
    style = _style(row)
    text = f"{abs(scaled(row, raw)):.{style.digits + more}f}"
    sign = MINUS if raw < 0 and float(text) else ""
    return sign + (text.removeprefix("0") if row.unit == "fraction" and style.scale == 1 else text)


def scaled(row: Estimate, raw: float) -> float:
    """``raw`` in the unit ``row`` is printed in: fractions of utility metrics become per cent."""
    return raw * _style(row).scale


def value(row: Estimate) -> str:
    """Point estimate with its unit."""
    return number(row, row.value) + _style(row).suffix


def interval(row: Estimate) -> str:
    """``[low, high]``, empty where no interval is defined."""
    if row.low is None or row.high is None:
        return ""
    return f"[{_bound(row, row.low)}, {_bound(row, row.high)}]"


def _bound(row: Estimate, raw: float) -> str:
    """An end of an interval; of a change with as many digits as show on which side of 0 it lies."""
    digits = range(MORE_DIGITS + 1) if row.name.endswith("_change") and abs(raw) > ROUNDING else (0,)
    printed = [number(row, raw, more=more) for more in digits]
    return next((text for text in printed if text.strip(f"{MINUS}.0")), printed[0])


def estimate(row: Estimate) -> str:
    """``value [low, high]``; differences of percentages say that they are points."""
    points = "points" if _in_points(row) and row.name.endswith("_change") else ""
    return " ".join(filter(None, (value(row), interval(row), points)))


def chance(row: Estimate | None) -> str:
    """The null value with its unit, empty where there is none."""
    return "" if row is None or row.null is None else number(row, row.null) + _style(row).suffix


def null_band(row: Estimate | None) -> str:
    """``[low, high]`` of the null distribution, empty where there is none."""
    if row is None or row.null_low is None or row.null_high is None:
        return ""
    return f"[{number(row, row.null_low)}, {number(row, row.null_high)}]"


def beyond_chance(row: Estimate) -> bool | None:
    """Whether the value lies outside the central 95% of its null, on the side that its p-value speaks of.

    An angle is corrected for noise and its null is not, so there the p-value decides, which rests on the
    uncorrected angle.

    Without a band the interval decides, by excluding the null or not. ``None`` where neither is defined.
    """
    if row.unit == "degrees":
        return None if row.p_value is None else row.p_value < SIGNIFICANT
    if row.null_low is not None and row.null_high is not None:
        outside = not row.null_low <= row.value <= row.null_high
        return outside and (row.value > row.null_high if row.p_value is None else row.p_value < SIGNIFICANT)
    if row.low is not None and row.null is not None:
        return row.low > row.null
    return None


def verdict(change: Estimate) -> Verdict:
    """What the interval of a difference allows one to say."""
    if change.low is None or change.high is None:
        return "untested"
    if change.high < -ROUNDING:
        return "lower"
    return "higher" if change.low > ROUNDING else "not shown"
