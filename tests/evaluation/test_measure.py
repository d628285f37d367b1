"""What an audit does around its metrics: many tests, failures that cost nothing else, provenance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clip_lite.data.pairs import Corpus
from debias.attributes import ProtectedAttribute
from evaluation.inference import Inference, holm
from evaluation.measure import adjusted, audit_result, measure
from evaluation.pictures.shown import Examples
from evaluation.results import AuditResult, Estimate
from evaluation.systems import Bench, Subject
from tests.evaluation.test_systems import Colours


def row(name: str, p_value: float | None = None) -> Estimate:
    return Estimate(
        name=name, value=0.5, n=10, split="test", system="eraser off", higher_is_better=False, p_value=p_value
    )


@pytest.fixture(scope="module")
def bench(corpus: Corpus) -> Bench:
    encoder = Colours()
    subject = Subject(encoder=encoder, erasers={}, untrained=encoder, device=torch.device("cpu"))
    return Bench.prepare(subject, corpus, Inference(resamples=20, permutations=20, seed=3))


def test_p_values_are_corrected_by_family_system_and_split_in_their_order() -> None:
    rows = [
        row("leakage/a", 0.01),
        row("ranking/a", 0.04),
        row("leakage/b", 0.02),
        row("leakage/c"),
        row("leakage_auc/a", 0.03),
        row("leakage/d", 0.5),
        replace(row("leakage/a", 0.01), system="pixels"),
        replace(row("leakage/a", 0.01), split="openmoji"),
    ]
    found = adjusted(rows)
    assert [each.name for each in found] == [each.name for each in rows]
    expected = holm(np.array([0.01, 0.02, 0.5]))
    assert [found[place].p_adjusted for place in (0, 2, 5)] == pytest.approx(expected)
    assert found[0].p_adjusted == pytest.approx(0.03)
    assert [found[place].p_adjusted for place in (1, 3, 4, 6, 7)] == [0.04, None, 0.03, 0.01, 0.01]


def test_a_metric_that_fails_costs_no_other_metric_its_rows(
    bench: Bench, gender: ProtectedAttribute, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(*_: object) -> list[Estimate]:
        raise ZeroDivisionError("by\nzero")

    metrics = {
        "mine.fine": lambda own, attribute: [row(f"mine/{attribute.name}/{len(own.tests)}", 0.02)],
        "mine.breaks": breaks,
        "mine.talks": lambda *_: ["no estimate"],
        "last": lambda *_: [row("last/x")],
    }
    measured = measure(bench, gender, metrics, examples=2)  # type: ignore[arg-type]
    assert [each.name for each in measured.rows] == ["mine/gender/2", "last/x"]
    assert measured.failed == {
        "mine.breaks": "ZeroDivisionError: by zero",
        "mine.talks": "TypeError: a metric returns a list of evaluation.results.Estimate",
    }
    assert list(measured.seconds) == list(metrics)
    assert "audit: mine.breaks failed: ZeroDivisionError: by zero" in capsys.readouterr().out
    assert len(measured.examples.by_picture.items) == 2
    result = audit_result(measured, bench, gender, model={"digest": "x"}, run={"seed": 3})
    assert result.provenance["failed"] == measured.failed
    assert result.model == {"digest": "x", "image_features_changed": False}
    assert result.data["splits"]["test"]["pictures"] == len(bench.tables["test"])
    assert AuditResult.from_json(result.to_json()) == result


def test_examples_that_fail_cost_no_rows(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("a tower\nof its own")

    monkeypatch.setattr("evaluation.measure.choose_examples", breaks)
    measured = measure(bench, None, {"mine": lambda *_: [row("mine/x")]}, examples=2)
    assert [each.name for each in measured.rows] == ["mine/x"]
    assert measured.examples == Examples()
    assert measured.failed == {"examples": "RuntimeError: a tower of its own"}
    assert "examples failed" in capsys.readouterr().out
