"""``python -m evaluation.gate`` and ``--fail-if`` of an audit: exit codes, what is printed, what is kept."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from rich.console import Console

from clip_lite.cli import guarded
from clip_lite.tracking import tracked_run
from evaluation import audit as audit_command
from evaluation import gate
from evaluation.gating.judgement import Verdict, judge
from evaluation.gating.rules import Rule
from evaluation.metrics import families
from evaluation.report.verdict import print_verdict
from evaluation.results import AuditResult

ROOT = Path(__file__).parent.parent.parent
Said = pytest.CaptureFixture[str]
Swap = Callable[..., AuditResult]
STRICT, LOOSE = "leakage.gender.max > 0.70", "leakage.gender.max > 0.90"


@pytest.fixture(scope="module", autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One MLflow store for all tests here: making one takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield


@pytest.fixture
def run(audit: AuditResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an audit."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/new")
    folder.mkdir(parents=True)
    audit.save(folder / "audit.json")
    return folder


def held(*argv: str) -> int:
    return guarded(lambda: gate.main(list(argv)))


def kept(folder: Path) -> Any:
    return json.loads((folder / "gate.json").read_text())


def test_a_gate_that_passes_says_so_in_one_line(run: Path, capsys: Said) -> None:
    assert held(str(run), "--fail-if", LOOSE, "--fail-if", "retrieval.i2t_recall_10[test] < 0.1") == 0
    said = capsys.readouterr()
    assert said.out == "gate passed: 2 rules, 3 rows\n"
    assert said.err == ""
    written = kept(run)
    assert (written["verdict"], written["baseline"]) == ("passed", None)
    assert [rule["rule"] for rule in written["rules"]] == [LOOSE, "retrieval.i2t_recall_10[test] < 0.1"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", written["created"])


def test_a_broken_rule_is_exit_code_3_and_the_rows(run: Path, capsys: Said) -> None:
    assert held("--fail_if", STRICT, f"--fail-if={LOOSE}", str(run / "audit.json")) == 3
    said = capsys.readouterr()
    assert said.out == (
        "gate: leakage.gender.max > 0.70 fails: leakage/gender/embedding/max [test, eraser on] is "
        "0.74 [0.67, 0.81], n 466; must not be > 0.7\n"
    )
    assert said.err == "error: gate failed: 1 of 2 rules, 1 of 4 rows\n"
    assert [rule["broken"] for rule in kept(run)["rules"]] == [True, False]
    assert [path.name for path in run.glob("gate*")] == ["gate.json"]


def test_rules_of_yaml_and_of_flags_hold_together(run: Path, capsys: Said) -> None:
    Path("gate.yaml").write_text(f"fail_if:\n- {LOOSE}\n- leakage.gender.max.low[test, eraser off] > 0.5\n")
    assert held(str(run), "--config=gate.yaml") == 3
    assert held(str(run), "--config=gate.yaml", "--fail-if", STRICT) == 3
    said = capsys.readouterr()
    assert "1 of 2 rules" in said.err.splitlines()[0]
    assert "2 of 3 rules" in said.err.splitlines()[1]


def test_a_terminal_gets_a_table(audit: AuditResult) -> None:
    rules = (Rule.parse(STRICT), Rule.parse("leakage.gender.max.p[test] < 0.05"))
    console = Console(force_terminal=True, width=200, record=True, file=io.StringIO())
    print_verdict(Verdict(rules=rules, judged=judge(rules, audit)), console)
    text = console.export_text()
    assert all(text.count(f"Fails: {rule.text}") == 1 for rule in rules)
    assert "group" not in text
    assert re.search(
        r"leakage/gender/embedding/max +test +eraser on +0\.74 \[0\.67, 0\.81\] +466 +> 0\.7", text
    )
    assert "0.74 [0.67, 0.81], p 0.001" in text


def test_a_number_that_rounds_to_the_threshold_is_shown_in_full(
    audit: AuditResult, swap: Swap, capsys: Said
) -> None:
    near = swap(replace(audit.find("leakage/gender/embedding/max", system="eraser on"), value=0.70000001))
    rules = (Rule.parse(STRICT),)
    print_verdict(Verdict(rules=rules, judged=judge(rules, near)), Console(highlight=False))
    assert "is 0.70000001 [" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "needs a rule: --fail-if"),
        (["--fail-if", "leakage"], "--fail-if 'leakage' is no rule"),
        (["--fail-if", "leakage > 60"], "write 60% as 0.6"),
        (["--fail-if", "leakage.gneder.max > 0.6"], "nearest are leakage.gender.max"),
        (["--fail-if", "leakage - baseline > 0"], "--fail-if 'leakage - baseline > 0' needs --baseline RUN"),
        (["--fail-if", LOOSE, "--baseline", "runs/new"], "--baseline runs/new: no rule reads it"),
        (["--fail-if", "leakage - baseline > 0", "--baseline", "nowhere"], "no audit nowhere"),
        (["--fail-if", LOOSE, "--fail-iff", LOOSE], "--fail_iff"),
        (["--fail-if", LOOSE, "runs/other"], "runs/other"),
    ],
)
def test_wrong_usage_is_one_line_and_no_verdict(run: Path, argv: list[str], said: str, capsys: Said) -> None:
    assert held(str(run), *argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error
    assert not (run / "gate.json").exists()


def test_a_missing_run_and_an_old_audit_are_named(run: Path, capsys: Said) -> None:
    assert held("--fail-if", LOOSE) == 2
    assert "run" in capsys.readouterr().err
    (run / "audit.json").write_text('{"schema_version": 1}')
    assert held(str(run), "--fail-if", LOOSE) == 2
    assert "schema version is 1" in capsys.readouterr().err


def test_a_failed_metric_is_named_where_its_rows_are_missing(
    run: Path, audit: AuditResult, capsys: Said
) -> None:
    provenance = {**audit.provenance, "failed": {"ranking": "ValueError: no"}}
    replace(audit, provenance=provenance).save(run / "audit.json")
    assert held(str(run), "--fail-if", "ranking.gender.max_skew_10 > 1") == 2
    assert "metrics that failed in the audit: ranking" in capsys.readouterr().err
    assert held(str(run), "--fail-if", LOOSE) == 0


def test_a_regression_is_measured_from_the_baseline(
    run: Path, audit: AuditResult, swap: Swap, capsys: Said
) -> None:
    better = swap(
        replace(audit.find("retrieval/i2t_recall_10", system="eraser on"), value=0.35, low=0.3, high=0.4)
    )
    Path("runs/old").mkdir()
    better.save(Path("runs/old/audit.json"))
    rule = "retrieval.i2t_recall_10 - baseline < -0.02"
    assert held(str(run), "--baseline=runs/old", "--fail-if", rule) == 3
    said = capsys.readouterr().out
    assert "retrieval/i2t_recall_10 [test, eraser on] is −0.058 [" in said
    assert "note:" not in said
    baseline = kept(run)["baseline"]
    assert (baseline["name"], baseline["data_digest"], baseline["same_data"]) == (
        "runs/old",
        "sha256:51ab77",
        True,
    )
    moved = kept(run)["rules"][0]["rows"][0]
    assert (moved["before"], moved["after"], moved["broken"]) == (0.35, pytest.approx(0.292), True)
    assert held("runs/old", f"--baseline={run}", "--fail-if", rule) == 0


def test_a_baseline_of_other_data_is_said_to_be_unpaired(run: Path, audit: AuditResult, capsys: Said) -> None:
    Path("runs/old").mkdir()
    replace(audit, data={**audit.data, "digest": "sha256:other"}).save(Path("runs/old/audit.json"))
    rule = "leakage.gender.max[test].high - baseline > 0"
    assert held(str(run), "--baseline=runs/old", "--fail-if", rule) == 3
    said = capsys.readouterr().out
    assert "note: runs/old was audited on other data (sha256:other, here sha256:51ab77): unpaired" in said
    assert "] unpaired, n 466" in said
    assert kept(run)["baseline"]["same_data"] is False


def tracked(folder: Path) -> str:
    with tracked_run(experiment="gates", name="one", tags={}, folder=folder, system_metrics=False) as active:
        for name in ("audit.json", "draws.npz"):
            active.log_artifact(folder / name)
    return active.run_id


def tag(run_id: str) -> str | None:
    return mlflow.get_run(run_id).data.tags.get("gate")


def test_the_verdict_is_a_tag_and_a_file_of_the_tracked_run(run: Path, capsys: Said) -> None:
    run_id = tracked(run)
    assert held(str(run), "--fail-if", STRICT) == 3
    assert tag(run_id) == "failed"
    kept_there = mlflow.artifacts.load_dict(f"runs:/{run_id}/gate.json")
    assert kept_there == kept(run)
    assert held(f"runs:/{run_id}", "--fail-if", LOOSE) == 0
    assert tag(run_id) == "passed"
    assert kept(run)["verdict"] == "failed"


def test_a_dead_store_costs_no_verdict_and_the_journal_has_it(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    tracked(run)

    def dead(*_: object, **__: object) -> None:
        raise gate.CommandError("MLflow store x cannot be used: gone")

    monkeypatch.setattr(gate, "annotate", dead)
    assert held(str(run), "--fail-if", STRICT) == 3
    said = capsys.readouterr()
    assert "note: the verdict is not in MLflow: MLflow store x cannot be used: gone" in said.out
    assert "gate failed" in said.err
    journal = json.loads((run / "tracking.json").read_text())
    assert journal["tags"]["gate"] == "failed"
    assert {"path": "gate.json", "under": ""} in journal["artifacts"]
    assert held(str(run), "--fail-if", LOOSE) == 0
    journal = json.loads((run / "tracking.json").read_text())
    assert [entry["path"] for entry in journal["artifacts"]].count("gate.json") == 1


def test_a_folder_that_cannot_be_written_costs_no_verdict(run: Path, capsys: Said) -> None:
    (run / "gate.json").mkdir()
    assert held(str(run), "--fail-if", STRICT) == 3
    assert held(str(run), "--fail-if", LOOSE) == 0
    assert capsys.readouterr().out.count("note: the verdict is not in gate.json: ") == 2


SMALL = [
    "--model=model",
    "--data.test_fraction=0.3",
    "--data.val_fraction=0.15",
    "--resamples=100",
    "--permutations=100",
    "--examples=0",
    "--device=cpu",
    "--output=out",
    "--metrics=[retrieval]",
    "--format=json",
]


def audited(*argv: str) -> int:
    return guarded(lambda: audit_command.main([*SMALL, *argv]))


@pytest.mark.usefixtures("saved_model")
def test_an_audit_is_written_and_logged_before_it_is_judged(capsys: Said) -> None:
    rules = ("--fail-if", "retrieval.i2t_recall_10 >= 0.0001", "--fail-if=retrieval.i2t_recall_1.n < 1")
    assert audited(*rules) == 3
    said = capsys.readouterr()
    assert said.err.endswith("error: gate failed: 1 of 2 rules, 2 of 4 rows\n")
    assert AuditResult.load(Path("out/audit.json")).rows
    assert "- retrieval.i2t_recall_10 >= 0.0001" in Path("out/config.yaml").read_text()
    assert kept(Path("out"))["verdict"] == "failed"
    found = mlflow.search_runs(experiment_names=["clip-lite"], output_format="list")[0]
    assert (found.data.tags["gate"], found.info.status) == ("failed", "FINISHED")
    assert mlflow.artifacts.load_dict(f"runs:/{found.info.run_id}/gate.json")["verdict"] == "failed"

    baseline = ("--baseline=out", "--fail-if=retrieval.i2t_recall_10 - baseline < 0", "--track=false")
    assert audited(*baseline, "--output=again") == 0
    assert "gate passed: 1 rule, 2 rows" in capsys.readouterr().out
    rows = kept(Path("again"))["rules"][0]["rows"]
    assert [(row["value"], row["paired"]) for row in rows] == [(0.0, True)] * 2


@pytest.mark.usefixtures("saved_model")
def test_a_rule_that_no_measured_row_answers_keeps_the_audit(capsys: Said) -> None:
    assert audited("--fail-if=retrieval.i2t_recall_9 < 0.1", "--track=false") == 2
    assert "nearest are retrieval.i2t_recall_" in capsys.readouterr().err
    assert AuditResult.load(Path("out/audit.json")).rows
    assert not Path("out/gate.json").exists()
    assert held("out", "--fail-if=retrieval.i2t_recall_10 < 0.0001") in (0, 3)


@pytest.mark.usefixtures("saved_model")
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--fail-if=retrieval"], "is no rule"),
        (
            ["--fail-if=leakage.gender.max > 0.6"],
            "no row that begins with 'leakage', expected neutral_retrieval",
        ),
        (["--metrics=[leakage]", "--fail-if=leakage.gender.max > 60"], "write 60% as 0.6"),
        (["--fail-if=retrieval - baseline < 0"], "needs --baseline RUN"),
        (["--fail-if=retrieval - baseline < 0", "--baseline=nowhere"], "no audit nowhere"),
        (["--baseline=nowhere"], "--baseline nowhere: no rule reads it"),
    ],
)
def test_an_audit_refuses_before_it_reads_a_picture(
    argv: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("nothing is read")

    monkeypatch.setattr(audit_command, "load_corpus", never)
    assert audited(*argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
    assert not Path("out").exists()


def test_families_of_ones_own_metric_are_not_known() -> None:
    assert families(["retrieval", "my.metric"]) is None
    assert families(["retrieval", "context"]) == {"retrieval", "neutral_retrieval", "leakage", "leakage_auc"}


def test_every_rule_that_is_shown_can_be_read() -> None:
    shown = {
        path.name: re.findall(r"--fail[-_]if[ =]('[^']+'|\"[^\"]+\"|\S+)", path.read_text())
        for path in (ROOT / "README.md", *sorted((ROOT / "configs").rglob("*.yaml")))
    }
    rules = [Rule.parse(shlex.split(text)[0]) for texts in shown.values() for text in texts]
    assert shown["README.md"], "README.md shows a release gate"
    assert any(rule.regression for rule in rules)
    assert gate.DESCRIPTION.count("--fail-if '") >= 2
    for text in re.findall(r"--fail-if '([^']+)'", gate.DESCRIPTION + audit_command.DESCRIPTION):
        assert Rule.parse(text).text == text
