"""What the store knows of runs and models that are there already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clip_lite.tracking.journal import Journal
from clip_lite.tracking.store import (
    FAILURES,
    mlflow,
    store_uri,
    unusable,
    use_store,
    without_password,
)


def recorded_run(folder: Path) -> str | None:
    """The id of the run that the folder's journal has on the store; None if it has none there.

    Raises:
        CommandError: the journal is damaged.
    """
    journal = Journal(folder)
    return journal.read()["runs"].get(without_password(store_uri())) if journal.begun else None


def logged_model_id(uri: str) -> str | None:
    """The id of the LoggedModel that an address names; None for a folder of a run, and any other address."""
    if not uri.startswith(("models:/", "runs:/")):
        return None
    try:
        found = mlflow.models.get_model_info(uri).model_id
    except FAILURES:  # nothing there that MLflow calls a model
        return None
    return str(found) if found else None


def annotate(run_id: str, *, tags: Mapping[str, str], texts: Mapping[str, str]) -> None:
    """Tag a run that has ended and add small files to it, by name.

    Raises:
        CommandError: the store cannot be reached or written, or has no such run.
    """
    try:
        use_store()
        client = mlflow.MlflowClient()
        for key, value in tags.items():
            client.set_tag(run_id, key, value)
        for name, text in texts.items():
            client.log_text(run_id, text, name)
    except FAILURES as error:
        raise unusable(error) from error


def has_run(run_id: str) -> bool:
    """Whether the store has that run.

    Raises:
        CommandError: the store cannot be used.
    """
    try:
        return bool(mlflow.get_run(run_id).info.lifecycle_stage == "active")
    except FAILURES as error:
        if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise unusable(error) from error


def begun_run(folder: Path, experiment: str) -> str | None:
    """``recorded_run``, if the store still has it in that experiment.

    Raises:
        CommandError: the store cannot be used.
    """
    run_id = recorded_run(folder)
    if run_id is None:
        return None
    try:
        info = mlflow.get_run(run_id).info
        named = mlflow.get_experiment(info.experiment_id).name
    except FAILURES as error:
        if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise unusable(error) from error
    return run_id if info.lifecycle_stage == "active" and named == experiment else None
