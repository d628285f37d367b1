"""The metrics of an audit by name: ours, and a person's own."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps

from clip_lite.errors import UsageError
from debias.attributes import ProtectedAttribute
from evaluation.bias.from_images import context_metrics, geometry_metrics, leakage_metrics
from evaluation.bias.from_labels import labelling_metrics
from evaluation.bias.from_predictions import amplification_metrics, group_metrics
from evaluation.bias.from_prompts import association_metrics, editing_metrics, ranking_metrics
from evaluation.results import Estimate
from evaluation.systems import Bench
from evaluation.utility import suite as utility

Metric = Callable[[Bench, ProtectedAttribute | None], list[Estimate]]


def _of_attribute(metric: Callable[[Bench, ProtectedAttribute], list[Estimate]]) -> Metric:
    """No rows where no attribute is audited."""

    @wraps(metric)
    def rows(bench: Bench, attribute: ProtectedAttribute | None) -> list[Estimate]:
        return metric(bench, attribute) if attribute else []

    return rows


OF_ATTRIBUTE: Mapping[str, Metric] = {
    "context": _of_attribute(context_metrics),
    "leakage": _of_attribute(leakage_metrics),
    "geometry": _of_attribute(geometry_metrics),
    "ranking": _of_attribute(ranking_metrics),
    "association": _of_attribute(association_metrics),
    "editing": _of_attribute(editing_metrics),
    "labelling": _of_attribute(labelling_metrics),
    "groups": _of_attribute(group_metrics),
    "amplification": _of_attribute(amplification_metrics),
}
METRICS: Mapping[str, Metric] = {
    "retrieval": utility.retrieval_metrics,
    "zero_shot": utility.zero_shot_metrics,
    "probe": utility.probe_metrics,
    "grounding": utility.grounding_metrics,
    **OF_ATTRIBUTE,
}
NEED_TEXT = frozenset(
    {"retrieval", "zero_shot", "grounding", "ranking", "association", "editing", "labelling"}
)
ON_REQUEST: Mapping[str, Metric] = {
    "sgd_probe": utility.sgd_probe_metrics,
    "svm_probe": utility.svm_probe_metrics,
}


# What a metric needs of a corpus: without it there are no rows, which is no failure.
NEEDS: Mapping[str, str] = {
    "retrieval": "captions",
    "zero_shot": "roles, or a protected attribute",
    "probe": "classes or objects",
    "sgd_probe": "classes",
    "svm_probe": "classes or objects, on both sides of the split",
    "grounding": "captions or phrases with boxes, and a tower that Grad-CAM can read",
    "ranking": "roles or captions, neutral words of the attribute, and more than 10 pictures of people",
    "editing": "10 pictures of each group",
    "labelling": "a model with a text tower",
    "groups": "roles or classes that several groups share",
    "amplification": "classes",
}


# First parts of the names of a metric's rows, where they are others than the metric's own name.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "retrieval": ("retrieval", "neutral_retrieval"),
    "probe": ("probe", "probe_ap"),
    "sgd_probe": ("probe",),
    "svm_probe": ("probe", "probe_ap"),
    "context": ("leakage", "leakage_auc"),
    "leakage": ("leakage", "leakage_auc", "leakage_bits"),
    "labelling": ("labelling", "ranking"),
}


def families(metrics: Iterable[str]) -> set[str] | None:
    """First parts of the names of the rows that metrics give; None where one is a person's own."""
    names = list(metrics)
    if any(name not in METRICS and name not in ON_REQUEST for name in names):
        return None
    return {family for name in names for family in FAMILIES.get(name, (name,))}


def describe_metrics() -> str:
    """Every metric with the first line of its docstring, for ``--help``."""
    lines = [f"  {name}: {(metric.__doc__ or '').splitlines()[0]}" for name, metric in METRICS.items()]
    asked = [f"  {name}: {(metric.__doc__ or '').splitlines()[0]}" for name, metric in ON_REQUEST.items()]
    return "\n".join([*lines, "On request, for they take long (svm_probe 10 minutes on a core):", *asked])


def chosen_metrics(
    names: Sequence[str] | None, *, key: str, attribute: ProtectedAttribute | None
) -> dict[str, Metric]:
    """Metrics by name, ``METRICS`` where ``names`` is None; ``package.module.function`` is a person's own.

    An own metric is called as ``function(bench, attribute)``, the attribute being None where none is audited,
    and returns a list of ``Estimate``.

    Raises:
        UsageError: a metric of an attribute where none is audited, a name of no metric, a module that cannot
            be imported, or a function of other arguments.
    """
    if names is None:
        return dict(METRICS)
    if attribute is None and (needing := [name for name in names if name in OF_ATTRIBUTE]):
        raise UsageError(f"{key}: {', '.join(needing)} need a protected attribute, and none is audited")
    if not names:
        raise UsageError(f"{key} is empty, expected some of {', '.join(METRICS)}")
    known = {**METRICS, **ON_REQUEST}
    return {name: known.get(name) or _own(name, key) for name in names}


def _own(name: str, key: str) -> Metric:
    module, _, attribute = name.rpartition(".")
    if not module:
        raise UsageError(
            f"{key}: {name!r} is no metric, expected {', '.join((*METRICS, *ON_REQUEST))} or your own "
            "package.module.function"
        )
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (Exception, SystemExit) as error:  # a person's own file may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"{key}: {name!r}: {module!r} cannot be imported: {reason}") from error
    if not callable(found):
        raise UsageError(f"{key}: {name!r}: {module} has no function {attribute!r}")
    try:
        inspect.signature(found).bind("bench", "attribute")
    except (TypeError, ValueError) as error:
        raise UsageError(f"{key}: {name!r} cannot be called with (bench, attribute): {error}") from error
    return found
