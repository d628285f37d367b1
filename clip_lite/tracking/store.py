"""The MLflow store: where it is, whether it answers, what it raises when it does not."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from pathlib import Path
from textwrap import shorten
from urllib.parse import urlsplit, urlunsplit

from clip_lite.errors import CommandError

DEFAULT_STORE = "mlflow.db"  # where a bare "mlflow ui" looks
CONNECT_TIMEOUT_S = 10
WIDTH = 200  # of what MLflow says
# Where a person has not set them; MLflow's own let every request to a dead server last for minutes.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations inside MLflow's own imports
    import mlflow
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

FAILURES = (MlflowException, SQLAlchemyError, OSError, ImportError)  # the last: a database without driver


def use_store() -> str:
    """Make MLflow use the store, quietly and without trying for minutes; returns its address.

    Raises:
        MlflowException, OSError: it cannot be reached, or is none that MLflow knows.
    """
    for noisy in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    uri = store_uri()
    check_reachable(uri)
    mlflow.set_tracking_uri(uri)
    return uri


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


def check_store() -> None:
    """Find out before long work whether the store can be used.

    Raises:
        CommandError: it cannot.
    """
    try:
        use_store()
        mlflow.search_experiments(max_results=1)
    except FAILURES as error:
        raise unusable(error) from error


def unusable(error: Exception) -> CommandError:
    """What to raise where nothing has been written yet."""
    uri = store_uri()
    return CommandError(f"MLflow store {without_password(uri)} cannot be used: {why(error, uri)}")


def why(error: Exception, uri: str) -> str:
    """The reason in one line: that the server is gone, if it is, else the first line of what MLflow says."""
    try:
        check_reachable(uri)
    except OSError as gone:
        return str(gone)
    return shorten((str(error).strip().splitlines() or [type(error).__name__])[0], WIDTH, placeholder=" …")
