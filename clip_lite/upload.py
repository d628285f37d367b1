"""Bring the results of a run or an audit to MLflow: ``python -m clip_lite.upload FOLDER``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clip_lite.cli import guarded, parse
from clip_lite.errors import UsageError
from clip_lite.progress import say
from clip_lite.publish import PUBLISHED, audit_digest, publish_folder
from clip_lite.sweep_folder import CELLS
from clip_lite.tracking import Journal, begun_run, check_store, has_run, mlflow, tracked_run
from clip_lite.tracking.journal import TRACKING
from evaluation.report.files import AUDIT
from evaluation.results import AuditResult

PROG = "python -m clip_lite.upload"
DESCRIPTION = f"""Bring the results in a folder to MLflow, where the store failed before it had all of them,
or to another store: parameters, tags, numbers with their steps, data sets, models, audit and report.

  {PROG} runs/NAME
      goes on with the run that was begun there; makes one where the store has none
  MLFLOW_TRACKING_URI=http://host:5000 {PROG} audits/NAME
      to another store
  {PROG} sweeps/NAME
      a sweep with all its cells

Running it twice does no harm. Use of processors and memory is not kept on disk and is not uploaded.

Exit codes: 0 done, 1 the store failed, 2 wrong usage. Errors are one line.
"""


@dataclass
class Where:
    """Where MLflow finds the run. The store is MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.

    Attributes:
        experiment: MLflow experiment; null takes that in which it was begun.
        run_name: MLflow run; null takes the name that it was given.
        register: registered model of which the delivered model becomes a version; null takes what the
            training was asked for.
    """

    experiment: str | None = None
    run_name: str | None = None
    register: str | None = None


@dataclass
class UploadCommand:
    """Bring results to MLflow.

    Attributes:
        folder: of a training, an audit or a sweep.
        tracking: where MLflow finds it.
    """

    folder: Path
    tracking: Where = field(default_factory=Where)


def main(argv: Sequence[str]) -> None:
    """Read the journal → find the run or begin one → publish the folder; of a sweep, each cell's too."""
    config, _ = parse(UploadCommand, argv, prog=PROG, description=DESCRIPTION, words="folder")
    checked_folder(config.folder)
    check_store()
    run_id = upload(config.folder, config.tracking)
    for cell in sorted((config.folder / CELLS).glob(f"*/{TRACKING}")):
        upload(cell.parent, config.tracking, parent=run_id)


def upload(folder: Path, where: Where, *, parent: str | None = None) -> str:
    """Bring a folder to its run, which is nested in ``parent``, else where it was; returns the run's id.

    Raises:
        UsageError: no results there.
        CommandError: the store failed.
    """
    journal, result = checked_folder(folder)
    kept = journal.read()
    experiment = where.experiment or kept["experiment"]
    run_id = begun_run(folder, experiment)
    if run_id and where.register is None and holds_all(run_id, folder):
        say(f"nothing to upload, MLflow run {run_id} has all of {folder}")
        return run_id
    before = kept["parent"]
    asked = kept["params"].get("tracking.register", "None")
    with tracked_run(
        experiment=experiment,
        name=where.run_name or kept["name"],
        tags=kept["tags"],
        folder=folder,
        resume=run_id,
        parent=parent or (before if before and has_run(before) else None),
        journaled=True,
        system_metrics=False,
    ) as run:
        if result:
            publish_folder(result, run, name=where.register or (asked if asked != "None" else None))
        else:
            with run.reaching():
                run.catch_up()
    say(f"uploaded {folder} to MLflow run {run.run_id}: {run.how_to_open()}")
    return run.run_id


def checked_folder(folder: Path) -> tuple[Journal, AuditResult | None]:
    """The journal of a folder, and its audit where it has one.

    Raises:
        UsageError: no results there, or an audit that this release cannot read.
    """
    journal = Journal(folder)
    if not journal.begun:
        raise UsageError(f"{folder} holds no results to upload, expected {TRACKING}")
    if not (folder / AUDIT).is_file():
        say(f"no {AUDIT} in {folder}, uploading what there is")
        return journal, None
    try:
        return journal, AuditResult.load(folder / AUDIT)
    except ValueError as error:
        raise UsageError(f"{folder / AUDIT}: {error}") from error


def holds_all(run_id: str, folder: Path) -> bool:
    """Whether a run has everything that the folder holds."""
    said = mlflow.get_run(run_id).data.tags.get(PUBLISHED)
    return (folder / AUDIT).is_file() and said == audit_digest(folder)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
