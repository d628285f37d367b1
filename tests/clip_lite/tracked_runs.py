"""Small trainings with MLflow, in this process, whose corpus and text tower need no network."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import LoggedModel
from mlflow.entities import Run as MlflowRun

from clip_lite import train, upload
from clip_lite.cli import guarded
from clip_lite.data.sources.emoji import Style, load_emoji
from clip_lite.data.sources.npm import Package
from evaluation import audit

Packages = tuple[Path, tuple[Style, ...], Package]
EPOCHS = 3
FLAGS = [
    "--debias=gender",
    "--data.image_size=32",
    "--data.test_fraction=0.3",
    "--data.val_fraction=0.3",
    "--model.embedding_dim=16",
    "--model.image_tower=resnet18",
    f"--training.epochs={EPOCHS}",
    "--training.batch_size=32",
    "--training.device=cpu",
    "--training.precision=float32",
    "--mitigation.force=true",
    "--audit.resamples=100",
    "--audit.permutations=100",
    "--audit.examples=2",
    "--audit.metrics=[retrieval, leakage]",
]
AUDIT_FLAGS = [
    "--data.test_fraction=0.3",
    "--data.val_fraction=0.3",
    "--resamples=100",
    "--permutations=100",
    "--examples=2",
    "--device=cpu",
    "--metrics=retrieval",
]


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class World:
    """A folder in which commands are given, and the store that they use; ``None``: ``mlflow.db`` there."""

    folder: Path
    packages: Packages
    text_folder: Path
    store: str | None

    def train(self, *flags: str, patches: Mapping[str, Any] | None = None) -> Done:
        argv = [*FLAGS, f"--model.text_tower={self.text_folder}", *flags]
        return self._run(lambda: train.main(argv), patches or {})

    def audit(self, *flags: str, patches: Mapping[str, Any] | None = None, store: str | None = None) -> Done:
        return self._run(lambda: audit.main([*AUDIT_FLAGS, *flags]), patches or {}, store)

    def upload(self, *flags: str, store: str | None = None) -> Done:
        return self._run(lambda: upload.main(list(flags)), {}, store)

    def _run(self, main: Callable[[], None], patches: Mapping[str, Any], store: str | None = None) -> Done:
        cache, styles, names = self.packages
        out, err, chosen = io.StringIO(), io.StringIO(), store or self.store
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            loader = functools.partial(load_emoji, cache=cache, styles=styles, names=names)
            patch.setattr("clip_lite.data.corpora.load_emoji", loader)
            patch.setenv("CLIP_LITE_CACHE", str(self.folder / "cache"))
            patch.chdir(self.folder)
            if chosen:
                patch.setenv("MLFLOW_TRACKING_URI", chosen)
            else:
                patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            for name, value in patches.items():
                patch.setattr(name, value)
            return Done(guarded(main), out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Shown:
    """All that MLflow has of one run, without what differs between two equal runs."""

    run: MlflowRun
    models: Mapping[str, LoggedModel]
    history: Mapping[str, list[tuple[int, float]]]
    files: frozenset[str]
    datasets: frozenset[tuple[str, str, str]]

    @classmethod
    def of(cls, store: str, experiment: str) -> Shown:
        """The one run of an experiment."""
        client = mlflow.MlflowClient(store)
        number = client.get_experiment_by_name(experiment).experiment_id
        (found,) = client.search_runs([number])
        run = client.get_run(found.info.run_id)  # a search leaves out which models went in
        keys = [key for key in run.data.metrics if not key.startswith("system/")]
        return cls(
            run=run,
            models={model.name: model for model in client.search_logged_models([number])},
            history={
                key: sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, key))
                for key in keys
            },
            files=frozenset(_files(client, run.info.run_id, None)),
            datasets=frozenset(
                (item.tags[0].value, item.dataset.name, item.dataset.digest)
                for item in run.inputs.dataset_inputs
            ),
        )


def _files(client: mlflow.MlflowClient, run_id: str, path: str | None) -> list[str]:
    found = []
    for item in client.list_artifacts(run_id, path):
        found += _files(client, run_id, item.path) if item.is_dir else [item.path]
    return found
