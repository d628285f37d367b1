"""What ``mlflow.models.evaluate`` was asked for: the configuration, and its data set as embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import pandas as pd

from evaluation.bias.attackers import ATTACKERS
from evaluation.inference import Inference
from evaluation.mlflow_plugin.embeddings import Given, vectors

MLFLOWS_OWN = ("col_mapping",)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What ``evaluator_config`` may hold.

    Attributes:
        attribute: what the groups are of, as it is to stand in the names of metrics.
        clusters: column of what belongs together (a picture with several crops, a person with several
            pictures) and is neither split nor resampled apart; None where every row stands for itself.
        split: column that says ``train`` of the rows that attackers learn from, ``val`` of rows to leave
            out, and anything else of held-out ones; None holds out a third of the clusters.
        attackers: some of ``evaluation.bias.attackers.ATTACKERS``.
        resamples, permutations: bootstrap resamples and draws of the null.
        seed: of the split, the attackers and the permutations.

    Raises:
        ValueError: naming the key.
    """

    attribute: str
    clusters: str | None = None
    split: str | None = None
    attackers: Sequence[str] = tuple(ATTACKERS)
    resamples: int = 1000
    permutations: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for key in ("attribute", "clusters", "split"):
            name = getattr(self, key)
            if not (name is None and key != "attribute") and not (isinstance(name, str) and name.strip()):
                raise ValueError(f"{key!r} is {name!r}, expected a name")
        if "/" in self.attribute:
            raise ValueError(f"'attribute' is {self.attribute!r}, expected a name without slashes")
        for key, least in (("resamples", 1), ("permutations", 1), ("seed", 0)):
            count = getattr(self, key)
            if not isinstance(count, int) or isinstance(count, bool) or count < least:
                raise ValueError(f"{key!r} is {count!r}, expected a whole number, at least {least}")
        listed = isinstance(self.attackers, Sequence) and not isinstance(self.attackers, str)
        if not listed or not self.attackers or not set(self.attackers) <= set(ATTACKERS):
            raise ValueError(f"'attackers' is {self.attackers!r}, expected a list of {', '.join(ATTACKERS)}")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """The configuration as MLflow hands it over.

        Raises:
            ValueError: naming the key.
        """
        known = [field.name for field in fields(cls)]
        given = {key: value for key, value in config.items() if key not in MLFLOWS_OWN}
        if unknown := [key for key in given if key not in known]:
            raise ValueError(f"there is no {unknown[0]!r} in evaluator_config, expected {', '.join(known)}")
        return cls(**given)

    @property
    def columns(self) -> list[str]:
        """Columns that are no part of an embedding."""
        return [name for name in (self.clusters, self.split) if name is not None]

    @property
    def inference(self) -> Inference:
        """How uncertainty is drawn."""
        return Inference(resamples=self.resamples, permutations=self.permutations, seed=self.seed)


def read(dataset: Any, asked: Asked, *, model: Any = None, output: str | None = None) -> Given:
    """Rows of an MLflow ``EvaluationDataset``, embedded by ``model`` where there is one.

    Args:
        dataset: features, targets and maybe predictions.
        asked: the configuration.
        model: its ``predict`` gives ``(n, d)`` for the features without ``asked.columns``.
        output: column of what the model gives, where that has several.

    Raises:
        ValueError: no groups, a column that is not there, or rows that are no vectors of one length.
    """
    if not dataset.has_targets:
        raise ValueError("targets is missing: it names the column of every row's perceived group")
    plain = isinstance(dataset.features_data, np.ndarray)
    table = pd.DataFrame(dataset.features_data, columns=dataset.feature_names if plain else None)
    for key in ("clusters", "split"):
        if (name := getattr(asked, key)) is not None and name not in table:
            raise ValueError(f"{key!r} names {name!r}, the data have {_shortened(table.columns)}")
    features = table.drop(columns=asked.columns)
    if model is not None:
        x = _of_model(model.predict(features.to_numpy() if plain else features), output)
    elif dataset.has_predictions:
        x = vectors(dataset.predictions_data, f"column {dataset.predictions_name!r}")
    else:
        x = _of_columns(features)
    return Given.of(
        x,
        dataset.labels_data,
        clusters=table[asked.clusters] if asked.clusters else None,
        split=table[asked.split] if asked.split else None,
        seed=asked.seed,
    )


def _of_columns(features: pd.DataFrame) -> np.ndarray:
    other = [name for name, kind in features.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    if other or features.empty:
        what = f"column {other[0]!r} holds no numbers" if other else "no column is left for an embedding"
        raise ValueError(
            f"{what}: predictions names a column of vectors, feature_names the columns of an embedding "
            "(and those of 'clusters' and 'split')"
        )
    return vectors(features.to_numpy(dtype=np.float64), "the embedding")


def _of_model(given: Any, output: str | None) -> np.ndarray:
    """What a model gave as ``(n, d)``: an array, a table of numbers or a column of vectors."""
    if isinstance(given, Mapping) or (isinstance(given, list) and given and isinstance(given[0], Mapping)):
        given = pd.DataFrame(given)
    if isinstance(given, pd.DataFrame):
        if output is not None and output not in given:
            raise ValueError(f"predictions names {output!r}, the model gave {_shortened(given.columns)}")
        if output is not None or given.shape[1] == 1:
            given = given[given.columns[0] if output is None else output]
        given = given.to_numpy()
    return vectors(given, "what the model gave")


def _shortened(columns: Sequence[Any], limit: int = 8) -> str:
    shown = ", ".join(map(str, columns[:limit])) or "no other column"
    return f"{shown} and {len(columns) - limit} more" if len(columns) > limit else shown
