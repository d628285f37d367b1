"""The audit's file: round trip, versions, refusals."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.results import AuditResult, Estimate, Example


def row(**changes: object) -> Estimate:
    fields = {
        "name": "leakage/gender/embedding/max",
        "value": 0.7,
        "n": 100,
        "split": "test",
        "system": "eraser off",
        "higher_is_better": False,
        **changes,
    }
    return Estimate(**fields)  # type: ignore[arg-type]


@pytest.fixture
def result() -> AuditResult:
    example = Example(id="a", png_base64="", captions=("é <b>",), top_off=("x",), top_on=())
    return AuditResult(
        rows=(row(low=0.6, high=0.8, p_value=0.001), row(system="eraser on", value=0.6)),
        attribute={"name": "gender"},
        data={"splits": {"test": {"pictures": 3}}},
        model={"eraser": None},
        training={},
        provenance={"seed": 0},
        examples=(example,),
    )


def test_round_trip(result: AuditResult, tmp_path: Path) -> None:
    result.save(tmp_path / "audit.json")
    assert AuditResult.from_json((tmp_path / "audit.json").read_text()) == result
    assert [path.name for path in tmp_path.iterdir()] == ["audit.json"]


@pytest.mark.parametrize("text", ["{}", "[]", '{"schema_version": 1}'])
def test_other_versions_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="this release reads 2"):
        AuditResult.from_json(text)


def test_find_names_what_is_missing(result: AuditResult) -> None:
    assert result.find("leakage/gender/embedding/max", system="eraser on").value == 0.6
    with pytest.raises(
        KeyError, match="no row 'leakage/gender/embedding/max' for system 'pixels', split 'val'"
    ):
        result.find("leakage/gender/embedding/max", system="pixels", split="val")


def test_select_by_prefix_split_and_system(result: AuditResult) -> None:
    assert len(result.select("leakage/gender")) == 2
    assert len(result.select("leakage/gender", split="test", system="eraser on")) == 1
    assert result.select("leakage/gender", split="openmoji") == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_json_cannot_carry_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="low is"):
        row(low=value)


def test_key_is_a_name_that_mlflow_accepts() -> None:
    key = replace(row(), group="man").key
    assert key == "test/eraser_off/leakage/gender/embedding/max/man"
    assert re.fullmatch(r"[\w/. -]+", key)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"value": "high"}, "value is 'high', expected a finite number"),
        ({"value": None}, "value is None"),
        ({"p_value": 7.0}, "p_value is 7.0, expected 0 to 1"),
        ({"n": -3}, "n is -3, expected a count"),
        ({"low": 0.9, "high": 0.1}, "low 0.9 is above high 0.1"),
        ({"name": ""}, "needs a name"),
        ({"value": np.float32("nan")}, "expected a finite number"),
    ],
)
def test_rows_that_make_no_sense_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        row(**changed)


def test_numbers_of_numpy_become_plain() -> None:
    made = row(value=np.float32(0.5), n=np.int64(3), p_value=np.float64(0.25))
    assert [type(number) for number in (made.value, made.n, made.p_value)] == [float, int, float]


@pytest.mark.parametrize("text", ['{"schema_version": 2}', '{"schema_version": 2, "rows": [{"odd": 1}]}'])
def test_what_is_no_audit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an audit of schema version 2"):
        AuditResult.from_json(text)
