"""Two tiny trainings, audited and logged to a served MLflow store by the project's own command."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from evaluation.report.files import AUDIT
from evaluation.results import AuditResult
from tests.clip_lite.tracked_runs import World

EXPERIMENT = "browser"
AUDITED = {"first": "null", "second": "[retrieval, leakage]"}  # by every metric; by the fewest to compare


class Trained(NamedTuple):
    """A run's folder and its id in MLflow."""

    folder: Path
    run_id: str


def train_two(world: World) -> list[Trained]:
    """Runs of two seeds in one experiment."""
    runs = []
    for seed, (name, metrics) in enumerate(AUDITED.items()):
        done = world.train(
            f"--output={name}",
            f"--seed={seed}",
            f"--audit.metrics={metrics}",
            f"--tracking.experiment={EXPERIMENT}",
            "--training.epochs=2",
        )
        assert done.code == 0, done.err
        provenance = AuditResult.load(world.folder / name / AUDIT).provenance
        runs.append(Trained(world.folder / name, provenance["mlflow"]["run_id"]))
    return runs
