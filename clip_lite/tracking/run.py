"""A run as MLflow shows it, with its journal on disk: begun, gone on with, ended, brought up to date."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow.entities import DatasetInput, Metric, Param, RunTag

from clip_lite.data.pairs import Corpus
from clip_lite.errors import CommandError
from clip_lite.progress import say
from clip_lite.stopping import Stopped
from clip_lite.tracking.datasets import MANIFEST, dataset_input, describe_splits
from clip_lite.tracking.journal import Journal, Point, flatten
from clip_lite.tracking.store import (
    FAILURES,
    mlflow,
    store_uri,
    unusable,
    use_store,
    why,
    without_password,
)

EXPERIMENT_KIND = ("mlflow.experimentKind", "custom_model_development")  # the UI's view for trained models
PARENT = "mlflow.parentRunId"
UPLOAD = "python -m clip_lite.upload"

AboutData = Callable[[str], tuple[str, str] | None]
"""The key of a number to name and digest of the data that it is about."""


@dataclass
class Run:
    """An MLflow run and its journal.

    Everything is written to the journal first. When the store fails, that is said once, nothing is sent any
    more, and the journal says that the store is behind.

    Attributes:
        resumed: whether it goes on with a run that the store has.
        lost: why the store was given up; None while it answers.
    """

    run_id: str
    experiment: str
    tracking_uri: str
    journal: Journal
    resumed: bool = False
    lost: str | None = None

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

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags to filter by."""
        self.journal.note(tags=tags)
        self._send(lambda: self.send_tags(tags))

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log a nested mapping as dotted parameters; one that a resumed run has keeps its value."""
        spelled = {key: str(value) for key, value in flatten(params)}
        self.journal.note(params=spelled | self.journal.read()["params"])
        if not self.resumed:
            self._send(lambda: self._batch(params=[Param(*item) for item in spelled.items()]))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers, at a step of training or of the whole run."""
        numbers = {key: float(value) for key, value in metrics.items()}
        now, step = int(time.time() * 1000), step or 0
        self.journal.add(numbers, step=step, timestamp=now)
        self._send(lambda: self.send_points([Point(key, value, now, step) for key, value in numbers.items()]))

    def log_corpus(self, corpus: Corpus) -> None:
        """Log every split as a dataset input with its digest, and one manifest; a resumed run has them."""
        self.set_tags({"data_digest": corpus.digest})
        if self.journal.read()["datasets"]:
            return
        self.journal.note(datasets=describe_splits(corpus, self.journal.folder))
        self._send(lambda: mlflow.MlflowClient().log_inputs(self.run_id, self._datasets()))
        self.log_artifact(self.journal.folder / MANIFEST, under=MANIFEST.parent.name)

    def log_artifact(self, path: Path, under: str = "") -> None:
        """Copy a file or a folder into the run, under a path of the run's artifacts."""
        own = self.journal.folder
        entry = {"path": str(path.relative_to(own) if path.is_relative_to(own) else path), "under": under}
        if entry not in (kept := self.journal.read()["artifacts"]):
            self.journal.note(artifacts=[*kept, entry])
        self._send(lambda: self.send_file(path, under))

    def send_points(
        self,
        points: Sequence[Point],
        *,
        model_id: str | None = None,
        dataset: AboutData | None = None,
    ) -> None:
        """Send numbers to MLflow, of the run or of one of its models too; it keeps one copy of equal ones."""
        metrics = []
        for point in points:
            name, digest = (dataset(point.key) if dataset else None) or (None, None)
            metrics.append(Metric(*point, model_id, name, digest, self.run_id))
        self._batch(metrics=metrics)

    def send_tags(self, tags: Mapping[str, str]) -> None:
        """Send tags that no journal needs to know."""
        self._batch(tags=[RunTag(key, value) for key, value in tags.items()])

    def send_file(self, path: Path, under: str = "") -> None:
        """Send a file or a folder, if it is there."""
        if path.exists():
            mlflow.MlflowClient().log_artifact(self.run_id, str(path), under or None)

    def catch_up(self) -> None:
        """Send what the journal holds and MLflow lacks.

        Raises:
            MlflowException, OSError: the store fails.
        """
        kept = self.journal.read()
        if not (self.resumed or kept["behind"]):
            return
        there = mlflow.MlflowClient().get_run(self.run_id).data
        self._batch(
            params=[Param(*item) for item in kept["params"].items() if item[0] not in there.params],
            tags=[RunTag(*item) for item in kept["tags"].items() if there.tags.get(item[0]) != item[1]],
            metrics=[Metric(*point) for point in self.journal.points()],
        )
        mlflow.MlflowClient().log_inputs(self.run_id, self._datasets())
        for entry in kept["artifacts"]:
            self.send_file(self.journal.folder / entry["path"], entry["under"])
        self.journal.note(behind=False)

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """A block that talks to MLflow; if the store fails in it, the block ends there and that is said."""
        try:
            yield
        except FAILURES as error:
            if self.lost:
                return
            self.lost = why(error, self.tracking_uri)
            self.journal.note(behind=True)
            shown = without_password(self.tracking_uri)
            say(f"MLflow store {shown} failed, going on with all of it kept on disk: {self.lost}")

    def how_to_upload(self) -> str:
        """What is to be done after the store was lost."""
        shown = without_password(self.tracking_uri)
        return (
            f"MLflow store {shown} failed ({self.lost}), what is on disk is kept; upload it with: "
            f"{UPLOAD} {shlex.quote(str(self.journal.folder))}"
        )

    def _datasets(self) -> list[DatasetInput]:
        return [dataset_input(entry) for entry in self.journal.read()["datasets"]]

    def _batch(self, **what: Sequence[Any]) -> None:
        mlflow.MlflowClient().log_batch(self.run_id, **what, synchronous=True)

    def _send(self, action: Callable[[], Any]) -> None:
        if self.lost is None:
            with self.reaching():
                action()


@contextmanager
def tracked_run(
    *,
    experiment: str,
    name: str,
    tags: Mapping[str, str],
    folder: Path,
    resume: str | None = None,
    parent: str | None = None,
    journaled: bool = False,
    late: bool = False,
    system_metrics: bool = True,
) -> Iterator[Run]:
    """An MLflow run; it ends KILLED if the block is stopped, FAILED if it fails.

    The store is ``MLFLOW_TRACKING_URI`` if set, else ``mlflow.db`` (SQLite) in the current folder. A store
    that fails once the run has begun does not stop the block: the error comes after it.

    Args:
        folder: where the journal is kept.
        resume: id of a run to go on with.
        parent: id of the run in which this one is nested.
        journaled: the folder has a journal from earlier, which a new run is to catch up with.
        late: there are results already, so that a store which cannot be used is one that has failed.
        system_metrics: log use of processors, memory and disks.

    Raises:
        CommandError: the store cannot be used, does not have the run to resume or the parent, or failed
            before the end.
    """
    nested = {**tags, **({PARENT: parent} if parent else {})}
    try:
        run = _begun(experiment, name, nested, Journal(folder), resume, system_metrics)
    except FAILURES as error:
        if not late:
            raise unusable(error) from error
        run = Run("", experiment, store_uri(), Journal(folder), lost=why(error, store_uri()))
    if not (journaled or (resume and run.journal.begun)):
        run.journal.begin(experiment=experiment, name=name)
    begun = {without_password(run.tracking_uri): run.run_id} if run.run_id else {}
    nesting = {"parent": parent} if parent else {}
    run.journal.note(tags=tags, runs=begun, behind=journaled or run.lost is not None, **nesting)
    status = "FAILED"
    try:
        yield run
        status = "FAILED" if run.lost else "FINISHED"
    except Stopped:
        status = "KILLED"
        raise
    except CommandError as error:
        if run.lost:
            raise type(error)(f"{error}; {run.how_to_upload()}") from error
        raise
    finally:
        if run.run_id:
            with run.reaching():
                mlflow.end_run(status)
    if run.lost:
        raise CommandError(run.how_to_upload())


def _begun(
    experiment: str,
    name: str,
    tags: Mapping[str, str],
    journal: Journal,
    resume: str | None,
    system_metrics: bool,
) -> Run:
    uri = use_store()
    if PARENT in tags:
        mlflow.get_run(tags[PARENT])
    kind = mlflow.set_experiment(experiment).tags.get(EXPERIMENT_KIND[0])
    if kind is None:
        mlflow.set_experiment_tag(*EXPERIMENT_KIND)
    active = mlflow.start_run(
        run_id=resume, run_name=name, tags=dict(tags), log_system_metrics=system_metrics
    )
    return Run(str(active.info.run_id), experiment, uri, journal, resumed=resume is not None)
