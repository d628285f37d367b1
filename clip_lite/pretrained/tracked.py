"""Models that MLflow keeps: artifacts of runs, logged models and registered ones."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from clip_lite.errors import CommandError, UsageError

SCHEMES = ("runs:/", "models:/")


@contextmanager
def downloaded(uri: str) -> Iterator[Path]:
    """A folder with what ``runs:/RUN_ID/PATH`` or ``models:/...`` names; it is gone after the block.

    The store is ``MLFLOW_TRACKING_URI`` if set, else ``mlflow.db`` in the current folder.

    Raises:
        CommandError: the store cannot be used.
        UsageError: it has nothing of that name.
    """
    from clip_lite import tracking  # MLflow takes seconds to import

    shown = tracking.without_password(tracking.store_uri())
    try:
        store = tracking.use_store()
    except tracking.FAILURES as error:
        raise CommandError(f"MLflow store {shown} cannot be used: {error}") from error
    with tempfile.TemporaryDirectory(prefix="clip-lite-") as scratch:
        try:
            found = tracking.mlflow.artifacts.download_artifacts(
                artifact_uri=uri, dst_path=scratch, tracking_uri=store
            )
        except tracking.FAILURES as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"{uri} cannot be had from MLflow store {shown}: {reason}") from error
        yield packed(Path(found))


def packed(folder: Path) -> Path:
    """The model in a folder that MLflow has packed as a pyfunc; any other folder is itself."""
    note = folder / "MLmodel"
    if not note.is_file():
        return folder
    flavours = yaml.safe_load(note.read_text(encoding="utf-8")).get("flavors", {})
    data = flavours.get("python_function", {}).get("data")
    return folder / data if data else folder
