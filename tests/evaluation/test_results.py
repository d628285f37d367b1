"""The audit's file: round trip, versions, refusals."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.pictures.shown import Examples, HeatMap, Picture, Ranking, Rankings
from evaluation.results import AuditResult, Estimate


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
    ranked = Ranking(query="a", off=("x",), moved=0.5)
    examples = Examples(
        pictures={"a": Picture(webp_base64="", captions=("é <b>",), group="woman")},
        by_picture=Rankings(items=(ranked,), of=3, median=0.1),
        by_text=Rankings(items=(replace(ranked, on=("y",)),), of=1),
        heat=(HeatMap(picture="a", group="woman", text="t", off="x"),),
        notes=("none",),
    )
    return AuditResult(
        rows=(row(low=0.6, high=0.8, p_value=0.001), row(system="eraser on", value=0.6)),
        attribute={"name": "gender"},
        data={"splits": {"test": {"pictures": 3}}},
        model={"eraser": None},
        training={},
        provenance={"seed": 0},
        examples=examples,
    )


def test_round_trip(result: AuditResult, tmp_path: Path) -> None:
    result.save(tmp_path / "audit.json")
    assert AuditResult.from_json((tmp_path / "audit.json").read_text()) == result
    assert AuditResult.load(tmp_path / "audit.json") == result
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.json", "draws.npz"]


def test_draws_are_kept_beside_the_json(result: AuditResult, tmp_path: Path) -> None:
    draws = np.array([0.5, np.nan, 0.7])
    rows = (replace(result.rows[0], draws=draws), result.rows[1])
    replace(result, rows=rows).save(tmp_path / "audit.json")
    assert "draws" not in (tmp_path / "audit.json").read_text()
    back = AuditResult.load(tmp_path / "audit.json").rows
    np.testing.assert_allclose(back[0].draws, draws, rtol=1e-6)
    assert back[1].draws is None
    (tmp_path / "draws.npz").unlink()
    assert AuditResult.load(tmp_path / "audit.json").rows[0].draws is None


def test_what_users_get_is_the_eraser_on_where_there_is_one(result: AuditResult) -> None:
    assert result.delivered == "eraser on"
    assert replace(result, rows=result.rows[:1]).delivered == "eraser off"


@pytest.mark.parametrize("text", ["{}", "[]", '{"schema_version": 1}'])
def test_other_versions_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="this release reads 3"):
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


@pytest.mark.parametrize("text", ['{"schema_version": 3}', '{"schema_version": 3, "rows": [{"odd": 1}]}'])
def test_what_is_no_audit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an audit of schema version 3"):
        AuditResult.from_json(text)


def test_the_main_numbers_come_first_in_mlflow(audit: AuditResult) -> None:
    numbers = audit.metrics()
    delivered = audit.find("leakage/gender/embedding/max", system="eraser on")
    assert sorted(numbers)[0].startswith("audit/")
    assert numbers["audit/leakage_max"] == delivered.value
    assert numbers["audit/leakage_max_ci_high"] == delivered.high
    assert numbers["audit/leakage_max_n"] == delivered.n
    assert numbers["audit/leakage_max_change"] < 0
    off = replace(audit, rows=tuple(row for row in audit.rows if row.system != "eraser on")).metrics()
    assert off["audit/leakage_max"] == audit.find("leakage/gender/embedding/max", system="eraser off").value
    assert "audit/leakage_max_change" not in off
