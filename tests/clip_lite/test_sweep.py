"""The whole sweep, its trainings in processes of their own: to the end, stopped, killed, gone on with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from clip_lite.errors import CommandError
from clip_lite.sweep_jobs import locked
from evaluation.results import AuditResult
from tests.clip_lite.coco_folder import FLAGS, write_coco_folder

SWEPT = [*FLAGS, "--debias=gender", "--output=out"]


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco_folder(tmp_path_factory.mktemp("coco"))


def start(folder: Path, coco: Path, text: Path, *more: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "clip_lite.sweep",
            *SWEPT,
            f"--data.root={coco}",
            f"--model.text_tower={text}",
            *more,
        ],
        cwd=folder,
        env={**environment, "CLIP_LITE_CACHE": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, coco: Path, text: Path, *more: str) -> tuple[int, str, str]:
    process = start(folder, coco, text, *more)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def family(folder: Path) -> tuple[Run, dict[str, Run]]:
    """The one sweep in the store, and its children by name."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    where = [client.get_experiment_by_name("clip-lite").experiment_id]
    (parent,) = client.search_runs(where, "tags.kind = 'sweep'")
    children = client.search_runs(where, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    named = {child.info.run_name: child for child in children}
    assert len(named) == len(children)
    return parent, named


def audits(folder: Path) -> dict[str, float]:
    """When each finished cell was audited."""
    return {path.parent.name: path.stat().st_mtime for path in folder.glob("out/cells/*/audit.json")}


def test_two_methods_and_two_strengths_in_one_command(coco: Path, text_folder: Path, tmp_path: Path) -> None:
    grid = ("--methods=[caption_leace, text_pca]", "--strengths=[0, 1]", "--jobs=2")
    code, out, err = run(tmp_path, coco, text_folder, *grid, "--training.epochs=1")
    assert code == 0, err
    assert "3 cells in out, 0 of them finished; to do: trainings 1, audits 3, 2 at a time" in out
    line = r"text_pca-s1.00-seed0: leakage, strongest attacker 0\.\d+, mean recall at 10 [01]\.\d+ \(\d+ s\)"
    assert re.search(line, out)
    before = audits(tmp_path)
    assert set(before) == {"unedited-seed0", "caption_leace-s1.00-seed0", "text_pca-s1.00-seed0"}
    results = {name: AuditResult.load(tmp_path / "out" / "cells" / name / "audit.json") for name in before}
    assert {name for name, result in results.items() if "weights" not in result.training} == {
        "unedited-seed0"
    }
    delivered = {name: result.delivered for name, result in results.items()}
    assert delivered.pop("unedited-seed0") == "eraser off"
    assert set(delivered.values()) == {"eraser on"}

    parent, children = family(tmp_path)
    assert set(children) == set(before)
    assert {each.info.status for each in (parent, *children.values())} == {"FINISHED"}
    assert children["text_pca-s1.00-seed0"].data.params["mitigation.method"] == "text_pca"
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text())
    volumes = {each["method"]: each["value"] for each in comparison["trade_off"]["hypervolumes"]}
    assert parent.data.metrics["hypervolume/all"] == pytest.approx(volumes["all"])
    assert (tmp_path / "out" / "comparison.html").exists()


def held(folder: Path) -> bool:
    try:
        with locked(folder):
            return False
    except CommandError:
        return True


def test_stopped_then_killed_it_goes_on_and_repeats_nothing(
    coco: Path, text_folder: Path, tmp_path: Path
) -> None:
    flags = ("--methods=[text_pca]", "--strengths=[0, 1]", "--audit.metrics=[retrieval]")
    cells = tmp_path / "out" / "cells"
    process = start(tmp_path, coco, text_folder, *flags)
    while not any(cells.glob("unedited-seed0/checkpoints/step-*.pt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "asked to stop; go on with: python -m clip_lite.sweep" in out
    assert out.rstrip().endswith("--resume out")
    said = (cells / "unedited-seed0" / "log.txt").read_text()
    assert re.search(r"stopped at step \d+ of 24; go on with", said)
    parent, children = family(tmp_path)
    assert {each.info.status for each in (parent, *children.values())} == {"KILLED"}

    process = start(tmp_path, coco, text_folder, *flags)
    last = cells / "text_pca-s1.00-seed0" / "log.txt"
    while not last.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.communicate()
    finished = audits(tmp_path)["unedited-seed0"]
    assert held(tmp_path / "out")  # by the audit, which nobody waits for any more
    while held(tmp_path / "out"):
        time.sleep(0.1)
    code, out, err = run(tmp_path, coco, text_folder, *flags)
    assert code == 0, err
    assert "2 cells in out, 2 of them finished" in out
    assert audits(tmp_path)["unedited-seed0"] == finished
    again, children = family(tmp_path)
    assert again.info.run_id == parent.info.run_id
    assert set(children) == {"unedited-seed0", "text_pca-s1.00-seed0"}
    assert {each.info.status for each in (again, *children.values())} == {"FINISHED"}
    assert said in (cells / "unedited-seed0" / "log.txt").read_text()
