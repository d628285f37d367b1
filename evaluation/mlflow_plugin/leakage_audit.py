"""An audit of embeddings that are given, without model or corpus: what attackers read from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from clip_lite.describe import describe_run
from evaluation.bias.attackers import ATTACKERS
from evaluation.bias.leakage import Sample, attack
from evaluation.measure import adjusted
from evaluation.mlflow_plugin.data import Asked
from evaluation.mlflow_plugin.embeddings import TRAIN, Given
from evaluation.results import OFF, AuditResult, Estimate
from evaluation.setting import Setting

LIMITS = (
    "Embeddings were given as they are: nothing is known here of the model, its training or its pictures.",
    "Groups are those of the data given; who perceived them, and how, is not recorded.",
)


def leakage_audit(
    given: Given, asked: Asked, *, data: Mapping[str, Any], mlflow: Mapping[str, Any]
) -> AuditResult:
    """Attackers trained on ``train`` and scored on every held-out split, as rows of an audit.

    Args:
        given: the embeddings.
        asked: attribute, attackers and draws.
        data: name and digest of the data set.
        mlflow: where MLflow keeps the audit.

    Raises:
        ValueError: a split with one group, or with a group that ``train`` does not hold.
    """
    samples = {split: _sample(given, split) for split in (TRAIN, *given.tests)}
    tests = {split: samples[split] for split in given.tests}
    attackers = {name: ATTACKERS[name] for name in asked.attackers}
    found = attack(samples[TRAIN], tests, seed=asked.seed, attackers=attackers)
    rows: list[Estimate] = []
    for split, sample in tests.items():
        at = Setting(clusters=sample.clusters, split=split, system=OFF, inference=asked.inference)
        rows += found.estimates(f"{asked.attribute}/embedding", at=at)
    run = describe_run([], prog="mlflow.models.evaluate", draws=asdict(asked.inference), mlflow=mlflow)
    return AuditResult(
        rows=adjusted(rows),
        attribute={
            "name": asked.attribute,
            "groups": list(found.groups),
            "label_source": "targets of the data given to MLflow",
        },
        data={
            **data,
            "splits": {
                split: {"pictures": len(sample.labels), "stems": len(np.unique(sample.clusters))}
                for split, sample in samples.items()
            },
            "limits": list(LIMITS),
        },
        model={
            "architecture": "embeddings given to mlflow.models.evaluate",
            "embedding_dim": given.x.shape[1],
        },
        training={},
        provenance=run | {"command": _call(asked), "attackers": list(attackers), "metrics": ["leakage"]},
    )


def _sample(given: Given, split: str) -> Sample:
    rows = given.split == split
    return Sample(given.x[rows], given.labels[rows], given.clusters[rows])


def _call(asked: Asked) -> str:
    config = {key: value for key, value in asdict(asked).items() if value is not None}
    return f"mlflow.models.evaluate(..., evaluators='clip_lite_bias', evaluator_config={config!r})"
