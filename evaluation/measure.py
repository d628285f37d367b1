"""What an audit measures of one model: chosen metrics, p-values corrected, examples; no interpretation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from clip_lite.describe import describe_corpus
from clip_lite.progress import say
from debias.attributes import ProtectedAttribute
from evaluation.bias.attackers import ATTACKERS
from evaluation.inference import holm_by_family
from evaluation.metrics import NEEDS, Metric
from evaluation.pictures.examples import choose_examples
from evaluation.pictures.shown import Examples
from evaluation.population import caption_noise, describe_attribute
from evaluation.results import AuditResult, Estimate
from evaluation.systems import Bench


class Measured(NamedTuple):
    """What an audit found.

    ``images_changed`` says whether the edit changes what the model gives for some image, ``seconds`` how long
    each metric took, ``failed`` why a metric broke off, ``empty`` what one without rows would have needed.
    """

    rows: tuple[Estimate, ...]
    examples: Examples
    images_changed: bool
    seconds: Mapping[str, float]
    failed: Mapping[str, str]
    empty: Mapping[str, str]


def measure(
    bench: Bench,
    attribute: ProtectedAttribute | None,
    metrics: Mapping[str, Metric],
    *,
    examples: int,
) -> Measured:
    """Rows of the chosen metrics and example pictures, on every test split.

    Attackers and probes are trained on the train split and scored on test splits, which share no cluster with
    it. p-values are corrected by family, see ``adjusted``. A metric that fails costs no other metric's rows.
    """
    rows: list[Estimate] = []
    seconds: dict[str, float] = {}
    failed: dict[str, str] = {}
    empty: dict[str, str] = {}
    for name, metric in metrics.items():
        say(f"audit: {name}")
        begin = time.perf_counter()
        try:
            found = _checked(metric(bench, attribute), rows)
            rows += found
            if not found:
                empty[name] = (
                    f"nothing to measure, it needs {NEEDS.get(name, 'what this corpus does not have')}"
                )
                say(f"audit: {name}: {empty[name]}")
        except (Exception, SystemExit) as error:  # a person's own function may raise anything
            failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
            say(f"audit: {name} failed: {failed[name]}")
        seconds[name] = round(time.perf_counter() - begin, 1)
    return Measured(
        adjusted(rows),
        _examples(bench, attribute, examples, failed),
        bench.images_changed,
        seconds,
        failed,
        empty,
    )


def _examples(
    bench: Bench, attribute: ProtectedAttribute | None, count: int, failed: dict[str, str]
) -> Examples:
    """What people look at; where that fails, nothing, and why in ``failed``."""
    say("audit: examples")
    try:
        return choose_examples(bench, attribute, count)
    except Exception as error:  # Grad-CAM runs through towers of any library
        failed["examples"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        say(f"audit: examples failed: {failed['examples']}")
        return Examples()


def _checked(found: object, before: Sequence[Estimate]) -> list[Estimate]:
    if not (isinstance(found, list) and all(isinstance(row, Estimate) for row in found)):
        raise TypeError("a metric returns a list of evaluation.results.Estimate")
    known: set[str] = {row.key for row in before}
    for row in found:
        if row.key in known:
            raise ValueError(f"there is a row {row.key} already")
        known.add(row.key)
    return found


def audit_result(
    measured: Measured,
    bench: Bench,
    attribute: ProtectedAttribute | None,
    *,
    model: Mapping[str, Any],
    run: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
) -> AuditResult:
    """The rows with where they come from.

    Args:
        model, run, training: what ``clip_lite.describe`` says of them.
    """
    noise = caption_noise(bench.corpus, attribute)
    test = bench.tables[bench.tests[0]]
    return AuditResult(
        rows=measured.rows,
        examples=measured.examples,
        attribute=describe_attribute(attribute, bench.corpus),
        data=describe_corpus(bench.corpus, image_size=test.pixels(slice(0, 1)).shape[-1])
        | {"label_noise": noise.to_json() if noise else None},
        model={**model, "image_features_changed": measured.images_changed},
        training=training or {},
        provenance={
            **run,
            "attackers": list(ATTACKERS),
            "metrics": list(measured.seconds),
            "prompt_sets": [
                prompts.describe() for prompts in bench.prompts if "labelling" in measured.seconds
            ],
            "seconds": dict(measured.seconds),
            "failed": dict(measured.failed),
            "empty": dict(measured.empty),
        },
    )


def adjusted(rows: Sequence[Estimate]) -> tuple[Estimate, ...]:
    """The rows with Holm's p-values over each family of tests.

    A family is what a reader looks through at once: the rows of one system on one split whose names share the
    first part. With B permutations no adjusted p-value lies below m / (1 + B) for m tests: 1,000 are enough
    for families of up to 50 tests to reach .05.
    """
    families = [(row.name.split("/")[0], row.system, row.split) for row in rows]
    found = holm_by_family([row.p_value for row in rows], families)
    return tuple(replace(row, p_adjusted=p_value) for row, p_value in zip(rows, found, strict=True))
