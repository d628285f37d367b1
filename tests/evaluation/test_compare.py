"""``python -m evaluation.compare``: configurations, seeds, files, table, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml

from clip_lite.errors import UsageError
from clip_lite.tracking import tracked_run
from evaluation.compare import COMPARISON, PAGE, main
from evaluation.comparing.configurations import configurations
from evaluation.comparing.stored import stored_audit, stored_audits
from evaluation.comparing.trade_off import trade_off
from evaluation.results import AuditResult

Saver = Callable[..., Path]


@pytest.fixture
def save(audit: AuditResult, tmp_path: Path) -> Saver:
    """``save(name, seed=…, shift=…, **settings)``: a finished run in a folder, its model a bit better."""

    def saved(name: str, *, seed: int = 0, shift: float = 0.0, **settings: object) -> Path:
        rng = np.random.default_rng([seed, len(name)])
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        common = np.random.default_rng(5).normal(0, 0.03, 300)
        rows = []
        for row in audit.rows:
            moved = shift + rng.normal(0, 0.002) if row.system == "eraser on" else 0.0
            value = row.value + moved
            bounds = {"low": min(row.low, value), "high": max(row.high, value)} if row.low is not None else {}
            own = None if row.name.endswith("_change") else value + common + rng.normal(0, 0.005, 300)
            rows.append(replace(row, value=value, draws=own, **bounds))  # type: ignore[arg-type]
        model = {**audit.model, "digest": name}
        replace(audit, rows=tuple(rows), model=model).save(folder / "audit.json")
        (folder / "config.yaml").write_text(yaml.safe_dump({"seed": seed, "output": str(folder), **settings}))
        return folder

    return saved


def run(*argv: object) -> None:
    main([str(arg) for arg in argv])


def test_two_runs(save: Saver, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, better = save("plain", debias=None), save("better", debias="gender", shift=-0.1)
    out = tmp_path / "out"
    run(plain, better, "--output", out, "--track", "false")
    written = json.loads((out / COMPARISON).read_text())
    assert [each["name"] for each in written["configurations"]] == ["debias none", "debias gender"]
    leak = next(row for row in written["differences"] if row["name"] == "leakage/gender/embedding/max")
    assert leak["value"] == pytest.approx(-0.1, abs=0.01)
    assert leak["paired"]
    assert leak["low"] < leak["value"] < leak["high"] < 0
    assert leak["p_adjusted"] < 0.05
    printed = capsys.readouterr().out
    assert "Leakage, strongest attacker, is lower in debias gender than in debias none" in printed
    assert "trained once" in printed
    page = (out / PAGE).read_text()
    assert page.count("<script") == 1  # its own
    assert page.count("<img") >= 2


def test_seeds_are_found_and_averaged(save: Saver, tmp_path: Path) -> None:
    runs = [
        save(f"{kind}-{seed}", seed=seed, debias=kind) for kind in ("none", "gender") for seed in (0, 1, 2)
    ]
    one, other = configurations([str(path) for path in runs])
    assert [len(one.runs), len(other.runs)] == [3, 3]
    run(*runs, "--output", tmp_path / "out", "--track", "false")
    row = json.loads((tmp_path / "out" / COMPARISON).read_text())["differences"][0]
    mean = np.mean(
        [stored_audit(str(path)).result.find(row["name"], system="eraser on").value for path in runs[:3]]
    )
    assert row["before"] == pytest.approx(mean)


def test_seeds_of_a_single_configuration_are_compared_one_by_one(
    save: Saver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [save(f"seed{seed}", seed=seed, debias="gender") for seed in (0, 1)]
    run(*runs, "--output", tmp_path / "out", "--track", "false")
    written = json.loads((tmp_path / "out" / COMPARISON).read_text())
    assert written["seeds_of_one_configuration"]
    assert "All runs are seeds of one configuration" in capsys.readouterr().out


def test_names_before_the_equals_sign_group_runs(save: Saver) -> None:
    runs = [save(name, seed=place) for place, name in enumerate("abc")]
    found = configurations([f"plain={runs[0]}", f"plain={runs[1]}", f"edited={runs[2]}"])
    assert [(each.name, len(each.runs)) for each in found] == [("plain", 2), ("edited", 1)]


def test_a_folder_of_runs_stands_for_all_of_them(save: Saver, tmp_path: Path) -> None:
    save("b", debias="x"), save("a", debias="y")
    assert [each.name for each in stored_audits(str(tmp_path / "runs"))] == ["a", "b"]


def test_a_sweep_has_its_front_and_hypervolumes(save: Saver, tmp_path: Path) -> None:
    for strength in (0.5, 1.0):
        save(
            f"s{strength}",
            debias="gender",
            mitigation={"method": "caption_leace", "strength": strength},
            shift=-0.05 * strength,
        )
    found = configurations([str(tmp_path / "runs")])
    assert [each.name for each in found] == ["strength 0.5", "strength 1.0"]
    plane = trade_off(found)
    assert plane is not None
    assert [point.strength for point in plane.points] == [0.5, 1.0]
    assert any(point.front for point in plane.points)
    for each in plane.hypervolumes:
        assert each.low is not None
        assert each.high is not None
        assert each.low <= each.value <= each.high


def test_the_first_run_is_the_reference_whatever_its_kind(save: Saver, tmp_path: Path) -> None:
    one, other = save("a", debias="x"), save("b", debias="y")
    run(other / "audit.json", one, "--output", tmp_path / "out", "--track", "false")
    written = json.loads((tmp_path / "out" / COMPARISON).read_text())
    assert written["configurations"][0]["name"] == "debias y"


def test_hostile_names_stay_text(save: Saver, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    run(f"{hostile}={save('a')}", f"b={save('b')}", "--output", tmp_path / "out", "--track", "false")
    page = (tmp_path / "out" / PAGE).read_text()
    assert page.count("<script") == 1  # its own
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "at least two runs"),
        (["{one}"], "at least two runs"),
        (["{one}", "nowhere"], "no audit nowhere: expected the folder"),
        (["{one}", "{empty}"], "holds no audit.json"),
        (["{one}", "{one}"], "audit the same model"),
        (["{one}", "{broken}"], "cannot be read: audit schema version"),
        (["{one}", "{other}", "--output", "{done}"], "holds another comparison"),
        (["{one}", "{other}", "--colour", "red"], "colour"),
    ],
)
def test_bad_input_is_one_line(
    argv: list[str], said: str, save: Saver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {name: tmp_path / name for name in ("empty", "broken", "done")}
    for folder in places.values():
        folder.mkdir()
    (places["broken"] / "audit.json").write_text('{"schema_version": 1}')
    (places["done"] / COMPARISON).write_text("{}")
    places |= {"one": save("one", debias="x"), "other": save("other", debias="y")}
    with pytest.raises(UsageError, match=said):
        main([word.format(**places) for word in argv])


def test_audits_that_share_no_number_are_refused(save: Saver, audit: AuditResult, tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    apart.mkdir()
    rows = tuple(replace(row, name=f"other/{row.name}") for row in audit.rows)
    replace(audit, rows=rows).save(apart / "audit.json")
    with pytest.raises(UsageError, match="shares no number"):
        run(save("one"), apart, "--track", "false")


def test_runs_that_mlflow_keeps(save: Saver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    ids = []
    for name in ("plain", "better"):
        folder = save(name, debias=name, shift=-0.1 * (name == "better"))
        with tracked_run(
            experiment="compare", name=name, tags={}, folder=folder, system_metrics=False
        ) as one:
            for file in ("audit.json", "draws.npz", "config.yaml"):
                one.log_artifact(folder / file)
            ids.append(one.run_id)
    run(ids[0], f"runs:/{ids[1]}", "--output", "out", "--tracking.experiment", "compare")
    written = json.loads((tmp_path / "out" / COMPARISON).read_text())
    assert [each["name"] for each in written["configurations"]] == ["debias plain", "debias better"]
    assert all(row["paired"] for row in written["differences"])
    (found,) = mlflow.search_runs(
        experiment_names=["compare"], filter_string="tags.kind = 'comparison'", output_format="list"
    )
    assert found.data.metrics["hypervolume/all"] == pytest.approx(
        written["trade_off"]["hypervolumes"][0]["value"]
    )
    listed = {item.path for item in mlflow.MlflowClient().list_artifacts(found.info.run_id)}
    assert {COMPARISON, PAGE} <= listed
    with pytest.raises(UsageError, match="cannot be had from MLflow"):
        run(ids[0], "0" * 32, "--output", "other")
