"""Metrics by name: ours, a person's own, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from clip_lite.config import AuditConfig
from clip_lite.errors import UsageError
from debias import ProtectedAttribute
from evaluation.metrics import METRICS, chosen_metrics

GENDER = ProtectedAttribute.load("gender")


def test_all_of_ours_by_default_and_some_by_name() -> None:
    assert list(chosen_metrics(None, key="--metrics", attribute=GENDER)) == list(METRICS)
    assert list(chosen_metrics(["leakage", "retrieval"], key="--metrics", attribute=GENDER)) == [
        "leakage",
        "retrieval",
    ]


def test_help_names_every_metric() -> None:
    assert AuditConfig.__doc__
    assert all(name in AuditConfig.__doc__ for name in METRICS)


def test_an_own_metric_is_one_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_metrics.py").write_text("def count(bench, attribute):\n    return [bench, attribute]\n")
    monkeypatch.syspath_prepend(tmp_path)
    chosen = chosen_metrics(["own_metrics.count"], key="--metrics", attribute=GENDER)
    assert chosen["own_metrics.count"](1, 2) == [1, 2]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("leakag", "'leakag' is no metric, expected retrieval, zero_shot"),
        ("nowhere.at_all", "'nowhere' cannot be imported"),
        ("json.nothing", "json has no function 'nothing'"),
        ("json.JSONDecodeError", "cannot be called with"),
        ("os.getcwd", "cannot be called with"),
    ],
)
def test_what_is_no_metric_is_one_line_with_the_key(name: str, said: str) -> None:
    with pytest.raises(UsageError, match="--metrics: .*" + said):
        chosen_metrics([name], key="--metrics", attribute=GENDER)


def test_an_empty_choice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"audit\.metrics is empty"):
        chosen_metrics([], key="audit.metrics", attribute=GENDER)


def test_a_metric_of_an_attribute_needs_one() -> None:
    with pytest.raises(UsageError, match="--metrics: leakage need a protected attribute"):
        chosen_metrics(["retrieval", "leakage"], key="--metrics", attribute=None)
    assert list(chosen_metrics(None, key="--metrics", attribute=None)) == list(METRICS)


@pytest.mark.parametrize("body", ["def f(:", "raise RuntimeError('x')", "1 / 0", "raise SystemExit(3)"])
def test_an_own_file_that_does_not_run_is_one_line(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breaks.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "breaks", raising=False)
    with pytest.raises(UsageError, match="'breaks' cannot be imported"):
        chosen_metrics(["breaks.f"], key="--metrics", attribute=GENDER)
