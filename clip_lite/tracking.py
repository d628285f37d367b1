"""All that knows MLflow."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from clip_lite.data.pairs import Corpus
from clip_lite.errors import CommandError
from clip_lite.stopping import Stopped

DEFAULT_STORE = "mlflow.db"  # where a bare "mlflow ui" looks
CONNECT_TIMEOUT_S = 10
EXPERIMENT_KIND = ("mlflow.experimentKind", "custom_model_development")  # the UI's view for trained models

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations inside MLflow's own imports
    import mlflow
    import mlflow.data.pandas_dataset
    import pandas as pd
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError


@dataclass(frozen=True)
class Run:
    """An active MLflow run."""

    run_id: str
    experiment: str
    tracking_uri: str
    resumed: bool = False

    def where(self) -> dict[str, str]:
        """Store (without a password), experiment and run id."""
        return {
            "tracking_uri": without_password(self.tracking_uri),
            "experiment": self.experiment,
            "run_id": self.run_id,
        }

    def how_to_open(self) -> str:
        """What a person types or opens to see the run."""
        uri = without_password(self.tracking_uri)
        served = urlsplit(uri).scheme in {"http", "https"}
        return f"open {uri}" if served else f"mlflow ui --backend-store-uri {shlex.quote(uri)}"

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log a nested mapping as dotted parameters; a resumed run has them."""
        if not self.resumed:
            mlflow.log_params(dict(flatten(params)))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers, at a step of training or of the whole run."""
        mlflow.log_metrics(dict(metrics), step=step)

    def log_corpus(self, corpus: Corpus) -> None:
        """Log every split as a dataset input with its digest, and one manifest; a resumed run has them."""
        if self.resumed:
            return
        frames = []
        for split, table in corpus.splits.items():
            frame = pd.DataFrame(
                {
                    "id": [r.id for r in table.records],
                    "split": split,
                    "cluster": [r.cluster for r in table.records],
                    "captions": [" | ".join(r.captions) for r in table.records],
                    **{
                        key: table.attribute(key)
                        for key in sorted({name for r in table.records for name in r.attributes})
                    },
                }
            )
            frames.append(frame)
            dataset = mlflow.data.pandas_dataset.from_pandas(
                frame,
                source=CodeDatasetSource({"corpus": corpus.name, "split": split}),
                name=f"{corpus.name}-{split}",
                digest=table.digest[:32],
            )
            mlflow.log_input(dataset, context=split)
        mlflow.log_text(pd.concat(frames).to_csv(index=False), "data/manifest.csv")

    def log_model(self, folder: Path, metrics: Mapping[str, float], params: Mapping[str, Any]) -> str:
        """Log the saved model as a LoggedModel, and numbers for it and the run; returns its id."""
        model = mlflow.initialize_logged_model(
            name="clip-lite",
            source_run_id=self.run_id,
            model_type="image-text-encoder",
            params={key: str(value) for key, value in flatten(params)},
        )
        mlflow.MlflowClient().log_model_artifacts(model.model_id, str(folder))
        mlflow.log_metrics(dict(metrics), model_id=model.model_id)
        mlflow.finalize_logged_model(model.model_id, "READY")
        return model.model_id

    def log_artifact(self, path: Path) -> None:
        """Copy one file into the run."""
        mlflow.log_artifact(str(path))


@contextmanager
def tracked_run(
    *, experiment: str, name: str, tags: Mapping[str, str], resume: str | None = None
) -> Iterator[Run]:
    """An MLflow run with system metrics; it ends KILLED if the block is stopped, FAILED if it fails.

    The store is ``MLFLOW_TRACKING_URI`` if set, else ``mlflow.db`` (SQLite) in the current folder. ``resume``
    is the id of a run to go on with.

    Raises:
        CommandError: the store cannot be reached or written, or does not have the run to resume.
    """
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    uri = store_uri()
    shown = without_password(uri)
    try:
        check_reachable(uri)
        mlflow.set_tracking_uri(uri)
        kind = mlflow.set_experiment(experiment).tags.get(EXPERIMENT_KIND[0])
        if kind is None:
            mlflow.set_experiment_tag(*EXPERIMENT_KIND)
        active = mlflow.start_run(run_id=resume, run_name=name, tags=dict(tags), log_system_metrics=True)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise CommandError(f"MLflow store {shown} cannot be used: {_first_line(error)}") from error
    try:
        with active:
            yield Run(active.info.run_id, experiment, uri, resumed=resume is not None)
    except Stopped:
        mlflow.MlflowClient().set_terminated(active.info.run_id, "KILLED")
        raise
    except (MlflowException, SQLAlchemyError) as error:
        raise CommandError(
            f"MLflow store {shown} failed, what is on disk is kept: {_first_line(error)}"
        ) from error


def store_uri() -> str:
    """``MLFLOW_TRACKING_URI`` if set, else ``mlflow.db`` (SQLite) in the current folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(DEFAULT_STORE).resolve()}"


def without_password(uri: str) -> str:
    """The address as it may be shown: user and password, if any, left out."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def check_reachable(uri: str) -> None:
    """Raise ``OSError`` at once for what MLflow would try for minutes: a dead server, a folder not there."""
    parts = urlsplit(uri)
    if parts.scheme in {"http", "https"} and parts.hostname:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        socket.create_connection((parts.hostname, port), timeout=CONNECT_TIMEOUT_S).close()
    if parts.scheme == "sqlite" and not Path(parts.path[1:]).resolve().parent.is_dir():
        raise NotADirectoryError("its folder does not exist")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``{"a": {"b": 1}}`` → ``("a.b", 1)``."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
