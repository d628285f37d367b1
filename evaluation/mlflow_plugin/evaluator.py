"""The plugin of ``mlflow.models.evaluate``: leakage of any embeddings, logged to the run that evaluates them.

    mlflow.models.evaluate(
        data=frame,                     # an embedding and a perceived group in every row
        predictions="embedding",        # a column of vectors; without it all columns that are not named below
        targets="gender",
        model_type="embedding",         # any name but MLflow's own; None asks for extra_metrics
        evaluators="clip_lite_bias",
        evaluator_config={"attribute": "gender", "clusters": "picture"},
    )

MLflow loads this module with its own evaluators, in every program that evaluates anything, so it imports
nothing that takes long.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.models.evaluation.artifacts import JsonEvaluationArtifact, TextEvaluationArtifact
from mlflow.models.evaluation.base import EvaluationArtifact, EvaluationResult, ModelEvaluator
from mlflow.utils.time import get_current_time_millis

NAME = "clip_lite_bias"
ARTIFACTS: dict[str, tuple[type[EvaluationArtifact], Callable[[str], Any]]] = {
    "audit.json": (JsonEvaluationArtifact, json.loads),
    "report.html": (TextEvaluationArtifact, str),
}


class BiasEvaluator(ModelEvaluator):
    """How well attackers read perceived groups from embeddings, with intervals and a permutation null.

    ``evaluation.mlflow_plugin.data.Asked`` says what its configuration may hold.
    """

    @classmethod
    def can_evaluate(cls, *, evaluator_config: Mapping[str, Any], **_others: Any) -> bool:
        """Whether an attribute is named: without one, nobody asked for this evaluator."""
        return "attribute" in evaluator_config

    def evaluate(
        self,
        *,
        dataset: Any,
        run_id: str,
        evaluator_config: Mapping[str, Any],
        model: Any = None,
        predictions: str | None = None,
        model_id: str | None = None,
        **_others: Any,
    ) -> EvaluationResult:
        """Measure, log metrics (as ``AuditResult.metrics`` names them), ``audit.json`` and ``report.html``.

        Of a single row nothing can be said: the result is empty. Metrics and artifacts of a person's own are
        left to MLflow's evaluators.

        Raises:
            MlflowException: naming the key of the configuration, the column or the rows that are wrong.
        """
        from evaluation.mlflow_plugin.data import Asked, read
        from evaluation.mlflow_plugin.leakage_audit import leakage_audit  # takes seconds, see above
        from evaluation.report.files import write_audit

        kept = {"run_id": run_id} | ({"model_id": model_id} if model_id else {})
        data = {"name": str(dataset.name), "digest": str(dataset.digest or dataset.hash)}
        try:
            asked = Asked.of(evaluator_config)
            if len(dataset.features_data) == 1:
                say("%s: one row says nothing of groups, so nothing is measured", NAME)
                return EvaluationResult(metrics={}, artifacts={}, run_id=run_id)
            given = read(dataset, asked, model=model, output=predictions)
            result = leakage_audit(given, asked, data=data, mlflow=kept)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(f"{NAME}: {error}") from error
        with TemporaryDirectory() as folder:
            write_audit(result, Path(folder), ["html"])
            mlflow.log_artifacts(folder, run_id=run_id)
            artifacts = _artifacts(Path(folder), mlflow.get_run(run_id).info.artifact_uri)
        numbers = result.metrics()
        _log_metrics(numbers, dataset, run_id=run_id, model_id=model_id)
        return EvaluationResult(metrics=numbers, artifacts=artifacts, run_id=run_id)


def say(message: str, *values: object) -> None:
    """Warn where MLflow's own words go; it switches off loggers that are older than its store."""
    logging.getLogger(f"mlflow.{NAME}").warning(message, *values)


def _artifacts(folder: Path, logged_to: str) -> dict[str, EvaluationArtifact]:
    """What MLflow hands to the caller of the files that were logged."""
    return {
        name: kind(uri=f"{logged_to}/{name}", content=parsed((folder / name).read_text(encoding="utf-8")))
        for name, (kind, parsed) in ARTIFACTS.items()
    }


def _log_metrics(numbers: Mapping[str, float], dataset: Any, *, run_id: str, model_id: str | None) -> None:
    """To the run, linked with model and data set, as MLflow's own evaluators do."""
    shared = {
        "timestamp": get_current_time_millis(),
        "step": 0,
        "model_id": model_id,
        "dataset_name": dataset.name,
        "dataset_digest": dataset.digest,
        "run_id": run_id,
    }
    metrics = [Metric(key=key, value=value, **shared) for key, value in numbers.items()]
    mlflow.MlflowClient().log_batch(run_id, metrics=metrics)
