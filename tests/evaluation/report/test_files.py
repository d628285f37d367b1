"""The files of an audit, and ``--format`` of ``python -m evaluation.audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pytest
from huggingface_hub import ModelCard

from clip_lite.cli import guarded
from evaluation import audit as command
from evaluation.report.files import write_audit
from evaluation.results import AuditResult

FORMATS: list[tuple[list[Any], list[str]]] = [
    (["json"], []),
    (["html"], ["report.html"]),
    (["card", "json"], ["README.md"]),
    (["html", "card", "json"], ["report.html", "README.md"]),
]
SMALL = [
    "--model=model",
    "--metrics=retrieval",
    "--data.test_fraction=0.3",
    "--data.val_fraction=0.15",
    "--resamples=100",
    "--permutations=100",
    "--examples=1",
    "--device=cpu",
]
Said = pytest.CaptureFixture[str]


def run(*argv: str) -> int:
    return guarded(lambda: command.main([*SMALL, *argv]))


def names(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


@pytest.mark.parametrize(("formats", "made"), FORMATS)
def test_the_files_that_were_asked_for_are_written(
    audit: AuditResult, tmp_path: Path, formats: list[Any], made: list[str]
) -> None:
    written = write_audit(audit, tmp_path, formats)
    assert [path.name for path in written] == ["audit.json", "draws.npz", *made]
    assert sorted(written) == sorted(tmp_path.iterdir())
    assert AuditResult.load(written[0]).rows == audit.rows


def test_a_report_that_fails_costs_no_audit(audit: AuditResult, tmp_path: Path) -> None:
    (tmp_path / "report.html.partial").mkdir()
    with pytest.raises(IsADirectoryError):
        write_audit(audit, tmp_path)
    assert AuditResult.load(tmp_path / "audit.json").rows == audit.rows


def test_the_command_writes_and_logs_what_was_asked_for(
    saved_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert run("--format=card", "--output=card") == 0
    assert f"audit: {Path('card/audit.json').resolve()}" in capsys.readouterr().out
    assert {"audit.json", "README.md"} <= names("card")
    assert "report.html" not in names("card")
    (logged,) = mlflow.search_runs(experiment_names=["clip-lite"], output_format="list")
    files = {file.path for file in mlflow.MlflowClient().list_artifacts(logged.info.run_id)}
    assert {"audit.json", "draws.npz", "README.md", "config.yaml"} <= files
    assert "report.html" not in files
    card = ModelCard.load("card/README.md")
    assert "python -m evaluation.audit --model=model --metrics=retrieval" in card.text
    assert {own.metric_type for own in card.data.eval_results} >= {"retrieval/i2t_recall_10"}

    assert run("--format=[json]", "--output=json", "--track=false") == 0
    assert names("json").isdisjoint({"report.html", "README.md"})
    assert run("--output=all", "--track=false") == 0
    assert {"audit.json", "report.html", "README.md"} <= names("all")


def test_another_format_is_refused_in_one_line(saved_model: Path, capsys: Said) -> None:
    assert run("--format=pdf", "--output=pdf") == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert "--format" in said
    assert "pdf" in said
    assert "card" in said
    assert not Path("pdf").exists()
