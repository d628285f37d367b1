"""The command killed, stopped and continued: on a COCO folder, in processes of its own."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.clip_lite.coco_folder import FLAGS, write_coco_folder

STEPS = 3 * (128 // 16)


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco_folder(tmp_path_factory.mktemp("coco"))


def start(
    folder: Path, coco: Path, text: Path, *more: str, launcher: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    flags = [*FLAGS, f"--data.root={coco}", f"--model.text_tower={text}", *more]
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "clip_lite.train", *flags],
        cwd=folder,
        env={**environment, "CLIP_LITE_CACHE": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, coco: Path, text: Path, *more: str, **how: tuple[str, ...]) -> tuple[int, str, str]:
    process = start(folder, coco, text, *more, **how)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def wait_for_step(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Until a checkpoint of that step, or of a later one, is on disk."""
    while not any(int(p.stem[5:]) >= step for p in folder.glob("out/checkpoints/step-*.pt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def logged(folder: Path) -> dict[int, set[float]]:
    """Losses in the MLflow store, by step."""
    found: dict[int, set[float]] = {}
    with sqlite3.connect(folder / "mlflow.db") as store:
        for step, value in store.execute("select step, value from metrics where key = 'train/loss'"):
            found.setdefault(step, set()).add(value)
    store.close()
    return found


def statuses(folder: Path) -> list[str]:
    with sqlite3.connect(folder / "mlflow.db") as store:
        found = [status for (status,) in store.execute("select status from runs")]
    store.close()
    return found


@pytest.fixture(scope="module")
def straight(coco: Path, text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("straight")
    code, _, err = run(folder, coco, text_folder, "--debias=gender", "--output=out")
    assert code == 0, err
    return folder


def numbers(folder: Path) -> tuple[object, object]:
    """Rows of the audit, and mean loss and validation of every epoch."""
    audit = json.loads((folder / "out" / "audit.json").read_text())
    curve = [{k: v for k, v in e.items() if k != "pairs_per_second"} for e in audit["training"]["curve"]]
    return audit["rows"], curve


def test_killed_at_a_random_step_and_resumed_equals_uninterrupted(
    coco: Path, text_folder: Path, straight: Path, tmp_path: Path
) -> None:
    """Twice SIGKILL, then to the end: the same losses, the same audit, one MLflow run."""
    flags = ("--debias=gender", "--output=out", "--resume=auto")
    first = random.randrange(1, STEPS // 2)
    for step in (first, random.randrange(first + 1, STEPS - 1)):
        process = start(tmp_path, coco, text_folder, *flags)
        wait_for_step(tmp_path, step, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    code, out, err = run(tmp_path, coco, text_folder, *flags)
    assert code == 0, err
    assert "resuming out" in out
    assert logged(tmp_path) == logged(straight)
    assert all(len(values) == 1 for values in logged(tmp_path).values())
    assert numbers(tmp_path) == numbers(straight)
    assert statuses(tmp_path) == ["FINISHED"]

    code, out, _ = run(tmp_path, coco, text_folder, *flags)
    assert code == 0
    assert "the run is complete" in out


def test_sigterm_writes_a_checkpoint_in_mid_epoch_and_exits_0(
    coco: Path, text_folder: Path, straight: Path, tmp_path: Path
) -> None:
    flags = ("--debias=gender", "--output=out", "--checkpoint.every_steps=5")
    process = start(tmp_path, coco, text_folder, *flags)
    wait_for_step(tmp_path, 5, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    stopped = next(line for line in out.splitlines() if line.startswith("stopped at step"))
    assert "--resume out" in stopped
    assert statuses(tmp_path) == ["KILLED"]
    code, _, err = run(tmp_path, coco, text_folder, "--debias=gender", "--resume=out")
    assert code == 0, err
    assert logged(tmp_path) == logged(straight)
    assert numbers(tmp_path) == numbers(straight)


def test_another_configuration_is_not_resumed(coco: Path, text_folder: Path, straight: Path) -> None:
    code, _, err = run(straight, coco, text_folder, "--resume=out", "--optimizer.learning_rate=0.5")
    assert code == 2
    assert "optimizer.learning_rate (0.001 there, 0.5 here)" in err
    assert "debias (gender there, None here)" in err
    assert err.count("\n") == 1
    code, _, err = run(straight, coco, text_folder, "--resume=nowhere")
    assert code == 2
    assert "--resume nowhere: no run there" in err


def test_torchrun_trains_on_two_processes_and_resumes(coco: Path, text_folder: Path, tmp_path: Path) -> None:
    two = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    flags = ("--output=out", "--debias=gender", "--objective.loss=infonce", "--model.text_training=trained")
    process = start(tmp_path, coco, text_folder, *flags, "--resume=auto", launcher=two)
    wait_for_step(tmp_path, 4, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert not (tmp_path / "out" / "report.html").exists()
    code, out, err = run(tmp_path, coco, text_folder, *flags, "--resume=auto", launcher=two)
    assert code == 0, err
    assert out.count("epoch 3/3") == 1  # one process speaks
    assert out.count("report: ") == 1
    assert sorted(logged(tmp_path)) == list(range(10, STEPS + 1, 10))
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert audit["training"]["processes"] == 2
    assert statuses(tmp_path) == ["FINISHED"]
