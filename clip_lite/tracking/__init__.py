"""All that knows MLflow."""

from clip_lite.tracking.journal import Journal, Point, flatten
from clip_lite.tracking.lookup import annotate, begun_run, has_run, logged_model_id, recorded_run
from clip_lite.tracking.run import Run, tracked_run
from clip_lite.tracking.store import (
    FAILURES,
    MlflowException,
    check_reachable,
    check_store,
    mlflow,
    store_uri,
    use_store,
    without_password,
)

__all__ = [
    "FAILURES",
    "Journal",
    "MlflowException",
    "Point",
    "Run",
    "annotate",
    "begun_run",
    "check_reachable",
    "check_store",
    "flatten",
    "has_run",
    "logged_model_id",
    "mlflow",
    "recorded_run",
    "store_uri",
    "tracked_run",
    "use_store",
    "without_password",
]
