"""Point values of the group metrics from fairlearn, whose definitions a reader can look up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
from sklearn.metrics import accuracy_score

from evaluation.bias.group_rates import Answers


def fairlearn_values(answers: Answers) -> dict[str, float]:
    """Point values by row, from ``MetricFrame`` on distinct observations weighted by how often they occur.

    Without compared classes there are those of accuracy alone; without any prediction of one, no ratio.
    """
    seen = np.stack([answers.groups, answers.target, answers.predicted, answers.correct])
    (group, target, predicted, correct), weight = np.unique(seen, axis=1, return_counts=True)
    features = answers.names[group].astype(str)

    def frame(metrics: dict[str, Callable], true: np.ndarray, said: np.ndarray) -> MetricFrame:
        weights = {metric: {"sample_weight": weight} for metric in metrics}
        return MetricFrame(
            metrics=metrics,
            y_true=true.astype(int),
            y_pred=said.astype(int),
            sensitive_features=features,
            sample_params=weights,
        )

    accuracy = frame({"accuracy": accuracy_score}, np.ones(len(weight)), correct)
    values = {
        "worst_group_accuracy": float(accuracy.group_min()["accuracy"]),
        "accuracy_gap": float(accuracy.difference()["accuracy"]),
    }
    if not len(answers.classes):
        return values
    metrics = {"selection": selection_rate, "true": true_positive_rate, "false": false_positive_rate}
    frames = [frame(metrics, target == each, predicted == each) for each in range(len(answers.classes))]
    gaps = np.array([each.difference()[list(metrics)] for each in frames], dtype=np.float64)
    predicted_ever = [each for each in frames if each.by_group["selection"].max() > 0]
    values["demographic_parity_difference"] = float(gaps[:, 0].max())
    if predicted_ever:
        ratios = [float(each.ratio()["selection"]) for each in predicted_ever]
        values["demographic_parity_ratio"] = min(ratios)
    values["equalized_odds_difference"] = float(gaps[:, 1:].max())
    values["equal_opportunity_difference"] = float(gaps[:, 1].max())
    return values
