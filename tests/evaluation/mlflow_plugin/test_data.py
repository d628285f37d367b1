"""What the MLflow plugin reads: its configuration, and embeddings however they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.data.evaluation_dataset import EvaluationDataset

from evaluation.mlflow_plugin.data import Asked, read
from evaluation.mlflow_plugin.embeddings import held_out

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.drop")  # inside MLflow

N, DIM = 240, 6
SMALL: dict[str, Any] = {"attribute": "gender", "clusters": "picture"}
X = np.random.default_rng(0).normal(size=(N, DIM))


def planted() -> pd.DataFrame:
    """Two rows a picture."""
    return pd.DataFrame(
        {
            "embedding": list(X),
            "gender": np.repeat(["man", "woman"] * (N // 4), 2),
            "picture": np.repeat(np.arange(N // 2), 2).astype(str),
        }
    )


def wide() -> EvaluationDataset:
    """A number a column, columns named by numbers."""
    frame = pd.concat([pd.DataFrame(X), planted()[["gender", "picture"]]], axis=1)
    return EvaluationDataset(frame, targets="gender")


class Model:
    """Gives what it was told to give, and keeps what it was asked."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def predict(self, features: pd.DataFrame) -> Any:
        self.asked = features.columns
        return self.given


def test_clusters_stay_together_and_groups_on_both_sides() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(30), 4).astype(str)
    labels = np.where(rng.random(120) < 0.2, "a", "b")
    split = held_out(labels, clusters, seed=3)
    assert not set(clusters[split == "train"]) & set(clusters[split == "test"])
    assert set(labels[split == "test"]) == {"a", "b"} == set(labels[split == "train"])
    assert 0.25 < np.mean(split == "test") < 0.42
    assert np.array_equal(split, held_out(labels, clusters, seed=3))
    assert not np.array_equal(split, held_out(labels, clusters, seed=4))


ONE = ["woman"] + ["man"] * (N - 1)
SIDES = {"split": "side"}
BAD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no 'cluster' in evaluator_config, expected attribute, clusters": ({"cluster": "picture"}, {}),
    "'attribute' is '', expected a name": ({"attribute": ""}, {}),
    "'attribute' is 'a/b', expected a name without slashes": ({"attribute": "a/b"}, {}),
    "'clusters' names 'stem', the data have picture": ({"clusters": "stem"}, {}),
    "'split' names 'side', the data have picture": ({"split": "side"}, {}),
    "'attackers' is .'tree'., expected a list of logistic": ({"attackers": ["tree"]}, {}),
    "'attackers' is 'mlp', expected a list": ({"attackers": "mlp"}, {}),
    "'resamples' is 0, expected a whole number, at least 1": ({"resamples": 0}, {}),
    "'seed' is 1.5, expected a whole number, at least 0": ({"seed": 1.5}, {}),
    "targets is missing": ({}, {"targets": None}),
    "targets is empty in 2 of 240 rows": ({}, {"gender": ["man", None] * 2 + ["man", "woman"] * 118}),
    "targets holds one group, man": ({}, {"gender": ["man"] * N}),
    "'clusters' is empty in 1 of 240 rows": ({}, {"picture": [None, *map(str, range(N - 1))]}),
    "group 'woman' lies in 1 of the 'clusters', a split needs 3": ({}, {"gender": ONE}),
    "vectors of different lengths: 5, 6": ({}, {"embedding": [np.zeros(5)] + [np.zeros(6)] * (N - 1)}),
    "NaN or infinity in 1 rows, the first is row 0": ({}, {"embedding": [[np.nan]] + [[0.0]] * (N - 1)}),
    "arrays of shape \\(\\) in its rows, expected vectors": ({}, {"embedding": np.arange(N) * 1.0}),
    "something else than vectors of numbers": ({}, {"embedding": [["a"]] * N}),
    "'split' holds test; expected 'train'": (SIDES, {"side": ["test"] * N}),
    "'clusters': 'train' and 'test' share 120 of them": (SIDES, {"side": ["train", "test"] * (N // 2)}),
    "'split': 'test' holds one cluster": (SIDES, {"side": ["train"] * (N - 2) + ["test"] * 2}),
    "column 'note' holds no numbers": ({}, {"predictions": None, "embedding": 1.0, "note": "x"}),
}  # fmt: skip


@pytest.mark.parametrize("said", BAD)
def test_bad_input_is_one_line_that_names_what_is_wrong(said: str) -> None:
    config, changed = BAD[said]
    names = {"targets": "gender", "predictions": "embedding"}
    names |= {key: value for key, value in changed.items() if key in names}
    frame = planted().assign(**{key: value for key, value in changed.items() if key not in names})
    with pytest.raises(ValueError, match=said) as caught:
        read(EvaluationDataset(frame, **names), Asked.of(SMALL | config))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "output", "said"),
    [
        (np.arange(N) * 1.0, None, "what the model gave holds arrays of shape \\(\\)"),
        (np.zeros((3, 2)), None, "there are 3 embeddings for 240 rows"),
        (pd.DataFrame({"a": [1.0]}), "b", "predictions names 'b', the model gave a"),
        (["text"] * N, None, "what the model gave holds something else than vectors"),
        (np.zeros((N, 0)), None, "expected vectors"),
    ],
)
def test_a_model_that_gives_no_embeddings_is_named(given: Any, output: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read(wide(), Asked.of(SMALL), model=Model(given), output=output)


@pytest.mark.parametrize(
    ("given", "output"),
    [
        (X, None),
        (X.tolist(), None),
        (pd.DataFrame(X), None),
        (pd.DataFrame({"v": list(X), "norm": 1.0}), "v"),
        ({"v": list(X)}, None),
        ([{"v": row, "norm": 1.0} for row in X], "v"),
    ],
)
def test_whatever_a_model_gives_is_read(given: Any, output: str | None) -> None:
    model = Model(given)
    assert np.array_equal(read(wide(), Asked.of(SMALL), model=model, output=output).x, X)
    assert list(model.asked) == list(range(DIM))  # neither groups nor clusters


def test_columns_of_an_array_have_names_too() -> None:
    clusters = np.repeat(np.arange(N // 2), 2)
    data = np.column_stack([X, clusters])
    names = [*"abcdef", "picture"]
    given = read(
        EvaluationDataset(data, targets=planted()["gender"].to_numpy(), feature_names=names), Asked.of(SMALL)
    )
    assert np.array_equal(given.x, X)
    assert len(np.unique(given.clusters)) == N // 2
