"""Configurations that cannot be meant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clip_lite.config import TrainConfig
from clip_lite.config_checks import problems


def found(**groups: dict[str, Any]) -> list[str]:
    config = TrainConfig()
    for name, changes in groups.items():
        setattr(config, name, replace(getattr(config, name), **changes))
    return list(problems(config))


def test_the_default_is_fine_and_all_problems_are_named_at_once() -> None:
    assert found() == []
    said = found(
        training={"epochs": 0}, optimizer={"learning_rate": 0.0, "warmup_fraction": 1.0}, data={"fraction": 0}
    )
    assert said == [
        "training.epochs is 0, expected at least 1",
        "optimizer.learning_rate is 0.0, expected above 0",
        "data.fraction is 0, expected above 0, up to 1",
        "optimizer.warmup_fraction is 1.0, expected from 0 to below 1",
    ]


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"objective": {"loss": "infonce", "negatives": "hard"}}, "infonce contrasts with the whole batch"),
        ({"objective": {"negatives_per_pair": 4}}, "for several take rolled, hard or cached"),
        (
            {"objective": {"negatives": "cached"}, "model": {"text_training": "trained"}},
            "objective.negatives cached needs model.text_training frozen",
        ),
        ({"training": {"accumulation": 3}}, "training.accumulation is 3, expected a divisor"),
        ({"training": {"accumulation": 64}}, "parts of at least two pairs"),
        ({"augment": {"jitter": (0.1, 0.1, 2.0, 0.1)}}, "augment.jitter"),
        ({"optimizer": {"momentum": 1.5}}, "optimizer.momentum is 1.5, expected from 0 to 1"),
        ({"checkpoint": {"best_by": "i2t_recall_1"}}, "checkpoint.best_by is 'i2t_recall_1'"),
    ],
)
def test_contradictions(groups: dict[str, dict[str, Any]], said: str) -> None:
    (only,) = found(**groups)
    assert said in only
