"""The whole line, end to end, on a small corpus in the true format; and how it fails."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch

from clip_lite import train
from clip_lite.checkpoint import Checkpoints
from clip_lite.cli import guarded
from clip_lite.data.sources.emoji import Style, load_emoji
from clip_lite.data.sources.npm import Package
from clip_lite.model import DualEncoder
from evaluation.results import AuditResult

Packages = tuple[Path, tuple[Style, ...], Package]
SMALL = [
    "--data.image_size=32",
    "--data.test_fraction=0.3",
    "--data.val_fraction=0.15",
    "--model.embedding_dim=32",
    "--training.batch_size=32",
    "--audit.resamples=100",
    "--audit.permutations=100",
    "--audit.examples=3",
    "--audit.metrics=[retrieval, context, leakage]",
    "--training.device=cpu",
]


@pytest.fixture
def small_world(
    emoji_packages: Packages, text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The command's flags for a corpus and text tower that need no network, in a folder of its own."""
    cache, styles, names = emoji_packages
    loader = functools.partial(load_emoji, cache=cache, styles=styles, names=names)
    monkeypatch.setattr("clip_lite.data.corpora.load_emoji", loader)
    monkeypatch.setenv("CLIP_LITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return [*SMALL, f"--model.text_tower={text_folder}"]


def test_train_debias_audit_track_report(
    small_world: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*small_world, "--debias=gender", "--training.epochs=3", "--output=out", "--audit.metrics=null"]
    assert guarded(lambda: train.main(argv)) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2] == f"report: {tmp_path / 'out' / 'report.html'}"
    assert said[-1].startswith("compare runs: mlflow ui")

    result = AuditResult.from_json((tmp_path / "out" / "audit.json").read_text())
    assert {row.system for row in result.rows} == {
        "eraser off",
        "eraser on",
        "random direction",
        "majority answer",
        "pixels",
        "untrained tower",
    }
    assert {row.split for row in result.rows} == {"train", "test", "openmoji"}
    assert result.data["label_noise"]["disagreement"] == 0.0
    assert set(result.model["gate"]) == {"features", "embedding"}
    assert result.find("neutral_retrieval/i2t_recall_10", system="eraser on").n > 0
    assert len(result.examples.by_picture.items) == 3
    report = (tmp_path / "out" / "report.html").read_text()
    assert "noto artists" in report
    assert result.data["digest"] in report

    fitted = "leakage/gender/embedding_fitted/logistic"
    assert result.find(fitted, system="eraser off", split="train").value > 0.8
    assert result.find(fitted, system="random direction", split="train").value > 0.8
    erased = result.find(fitted, system="eraser on", split="train")
    assert erased.null_low <= erased.value <= erased.null_high

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.get_run(result.provenance["mlflow"]["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["training.epochs"] == "3"
    row = result.find("leakage/gender/embedding/max", system="eraser on")
    assert run.data.metrics[row.key] == pytest.approx(row.value)
    assert run.data.metrics[row.key + "_ci_high"] == pytest.approx(row.high)
    assert {f.path for f in client.list_artifacts(run.info.run_id)} >= {"audit.json", "report.html", "data"}
    assert {item.dataset.name for item in run.inputs.dataset_inputs} >= {"emoji-train", "emoji-test"}
    validated = client.get_metric_history(run.info.run_id, "val/i2t_recall_10")
    assert [metric.step for metric in validated] == [11, 22, 33, 33]  # the last is of the delivered model
    kept = client.search_logged_models([run.info.experiment_id])
    best = max(validated[:3], key=lambda metric: metric.value).step  # the first of equals
    steps = {22, best} - {33}  # the newest but the last, and the best
    assert {(model.name, model.status) for model in kept} == {
        ("clip-lite", "READY"),
        *((f"clip-lite-step-{step}", "READY") for step in steps),
    }

    loaded = DualEncoder.from_pretrained(tmp_path / "out" / "model")
    assert loaded.erase
    assert set(loaded.erasers) == {"features", "embedding"}


def test_same_seed_twice_gives_identical_numbers(small_world: list[str], tmp_path: Path) -> None:
    rows = []
    for name in ("a", "b"):
        argv = [*small_world, "--debias=gender", "--training.epochs=1", f"--output={name}"]
        argv += ["--audit.metrics=null"]
        assert guarded(lambda argv=argv: train.main(argv)) == 0
        rows.append(json.loads((tmp_path / name / "audit.json").read_text())["rows"])
    assert rows[0] == rows[1]


def test_text_pca_edits_embeddings_only(small_world: list[str], tmp_path: Path) -> None:
    argv = [
        *small_world,
        "--debias=gender",
        "--mitigation.method=text_pca",
        "--mitigation.force=true",
        "--training.epochs=1",
        "--output=out",
    ]
    assert guarded(lambda: train.main(argv)) == 0
    model = DualEncoder.from_pretrained(tmp_path / "out" / "model")
    assert set(model.erasers) == {"embedding"}


def test_an_intersection_is_suppressed_and_audited(small_world: list[str], tmp_path: Path) -> None:
    """Of gender and skin tone, down to metric names that MLflow takes."""
    argv = [*small_world, "--debias=gender*skin_tone", "--training.epochs=1", "--output=out"]
    assert guarded(lambda: train.main(argv)) == 0
    result = AuditResult.from_json((tmp_path / "out" / "audit.json").read_text())
    assert result.attribute["groups"] == ["man & light", "man & dark", "woman & light", "woman & dark"]
    row = result.find("leakage/gender_x_skin_tone/embedding/max", system="eraser off")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.get_run(result.provenance["mlflow"]["run_id"])
    assert run.data.metrics[row.key] == pytest.approx(row.value)
    assert run.info.run_name == "emoji-gender_x_skin_tone-caption_leace-seed0"
    model = DualEncoder.from_pretrained(tmp_path / "out" / "model")
    assert model.neutral is not None
    assert model.neutral("a dark-skinned woman") == "a person"


def test_captions_alone_mitigate_without_an_eraser(small_world: list[str], tmp_path: Path) -> None:
    argv = [
        *small_world,
        "--debias=gender",
        "--mitigation.method=none",
        "--training.epochs=1",
        "--output=out",
    ]
    assert guarded(lambda: train.main(argv)) == 0
    result = AuditResult.from_json((tmp_path / "out" / "audit.json").read_text())
    assert {row.system for row in result.rows} == {
        "eraser off",
        "majority answer",
        "pixels",
        "untrained tower",
    }
    assert "390 of 972 captions reworded" in result.training["captions"]
    assert "390 of 972 captions reworded" in (tmp_path / "out" / "report.html").read_text()
    model = DualEncoder.from_pretrained(tmp_path / "out" / "model")
    with torch.inference_mode():
        man, woman = model.encode_text(["a man role1", "a woman role1"])
    assert torch.equal(man, woman)


def test_without_debias_the_attribute_is_audited_and_nothing_is_erased(
    small_world: list[str], tmp_path: Path
) -> None:
    assert guarded(lambda: train.main([*small_world, "--training.epochs=1", "--output=out"])) == 0
    result = AuditResult.from_json((tmp_path / "out" / "audit.json").read_text())
    assert {row.system for row in result.rows} == {
        "eraser off",
        "majority answer",
        "pixels",
        "untrained tower",
    }
    assert result.model["eraser"] is None


def test_diverging_run_fails_in_one_line_and_keeps_the_checkpoint(
    small_world: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = Checkpoints.save

    def poisoned(self: Checkpoints, state: Mapping[str, Any], step: int, *, best: bool) -> Path:
        path = original(self, state, step, best=best)
        state["step"]["weights"]["model.logit_scale"].fill_(float("nan"))
        return path

    monkeypatch.setattr(Checkpoints, "save", poisoned)
    argv = [*small_world, "--debias=gender", "--training.epochs=2", "--output=out"]
    assert guarded(lambda: train.main(argv)) == 1
    error = capsys.readouterr().err
    assert "loss is nan" in error
    assert error.count("\n") == 1
    kept = Checkpoints(tmp_path / "out" / "checkpoints", keep=9).newest()
    assert kept is not None
    assert all(torch.isfinite(weight).all() for weight in kept["step"]["weights"].values())
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("clip-lite")
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED"]


def command(*argv: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clip_lite.train", *argv],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["--debias", "hair"], 2, "no attribute 'hair'"),
        (["--config", "missing.yaml"], 2, "missing.yaml"),
        (["--training.epochs", "many"], 2, "training.epochs"),
        (["--training.epochs", "0"], 2, "training.epochs is 0, expected at least 1"),
        (["--debias", "gender", "--output", "/dev/null/out"], 1, "/dev/null/out cannot be written"),
        (["--training.device", "abacus"], 2, "training.device 'abacus' cannot be used here"),
    ],
)
def test_bad_input_is_one_line_with_its_exit_code(
    argv: list[str], code: int, said: str, tmp_path: Path
) -> None:
    done = command(*argv, folder=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_results_of_another_run_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.yaml").write_text("kept")
    (tmp_path / "out" / "report.html").touch()
    done = command("--output", "out", folder=tmp_path)
    assert done.returncode == 2
    assert "--output out holds another run" in done.stderr
    assert (tmp_path / "out" / "config.yaml").read_text() == "kept"


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////dev/null/x.db",
        "sqlite:///no/such/folder/x.db",
        "sqlite:///damaged.db",
        "file:./mlruns",
        "nonsense://x",
        "http://127.0.0.1:9",
    ],
)
def test_unusable_mlflow_store_is_one_line(uri: str, tmp_path: Path) -> None:
    (tmp_path / "damaged.db").write_text("not a database" * 100)
    done = command("--output", "out", folder=tmp_path, MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 1
    assert f"MLflow store {uri} cannot be used" in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_network_and_no_cache(tmp_path: Path) -> None:
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\nexit 1\n")
    npm.chmod(0o755)
    done = command(
        "--debias",
        "gender",
        folder=tmp_path,
        CLIP_LITE_CACHE=str(tmp_path / "cache"),
        PATH=f"{npm.parent}:{os.environ['PATH']}",
    )
    assert done.returncode == 1
    assert "cannot fetch emojibase-data@17.0.0" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["npm"]


def test_help_teaches(tmp_path: Path) -> None:
    done = command("--help", folder=tmp_path)
    assert done.returncode == 0
    for part in (
        "--debias",
        "--mitigation.method",
        "peak of the schedule",
        "python -m clip_lite.train --debias gender",
    ):
        assert part in done.stdout
