"""Leakage as one of the ``extra_metrics`` of ``mlflow.models.evaluate``, beside MLflow's own evaluators."""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.metrics.base import MetricValue
from mlflow.models.evaluation.base import EvaluationMetric, make_metric

from evaluation.mlflow_plugin.data import Asked
from evaluation.mlflow_plugin.embeddings import Given, vectors
from evaluation.mlflow_plugin.leakage_audit import leakage_audit


def leakage_metric(attribute: str, **options: Any) -> EvaluationMetric:
    """The numbers of ``evaluators="clip_lite_bias"``, without its artifacts, under ``leakage_{attribute}/``.

    Columns ``clusters`` and ``split`` of the data are read as ``evaluation.mlflow_plugin.data.Asked`` says;
    ``evaluator_config={"col_mapping": {"clusters": "picture"}}`` gives them other names. MLflow first calls
    every metric on one row, of which nothing can be said: that call gives no number.

    Args:
        attribute: what ``targets`` are groups of; a Python name.
        options: ``attackers``, ``resamples``, ``permutations``, ``seed``.

    Raises:
        ValueError: an option that ``Asked`` refuses.
    """
    asked = Asked.of({"attribute": attribute, **options})

    def leakage(
        predictions: pd.Series,
        targets: pd.Series,
        clusters: pd.Series | None = None,
        split: pd.Series | None = None,
    ) -> MetricValue | None:
        if len(predictions) == 1:
            return None
        x = vectors(predictions, "predictions")
        given = Given.of(x, targets, clusters=clusters, split=split, seed=asked.seed)
        result = leakage_audit(given, asked, data={}, mlflow={})
        return MetricValue(aggregate_results=result.metrics())

    return make_metric(eval_fn=leakage, greater_is_better=False, name=f"leakage_{attribute}")
