"""``mlflow.models.evaluate(..., evaluators="clip_lite_bias")`` on embeddings with and without a leak."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from evaluation.bias.attackers import ATTACKERS
from evaluation.bias.leakage import Sample, attack
from evaluation.inference import Inference
from evaluation.mlflow_plugin.evaluator import BiasEvaluator
from evaluation.mlflow_plugin.metric import leakage_metric
from evaluation.results import AuditResult
from evaluation.setting import Setting

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # inside MLflow's own imports
    import mlflow.models
    import mlflow.pyfunc
    from mlflow.models.evaluation import evaluator_registry  # noqa: F401

N, DIM = 240, 6
MAX = "test/eraser_off/leakage/gender/embedding/max"
DRAWS = {"resamples": 100, "permutations": 100}
SMALL: dict[str, Any] = {"attribute": "gender", "clusters": "picture", "attackers": ["logistic"], **DRAWS}

pytestmark = [  # inside MLflow
    pytest.mark.filterwarnings("ignore:Starting with pandas version 4"),
    pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.drop"),
    pytest.mark.filterwarnings("ignore:.*integer column:UserWarning"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.set_experiment("plugin")
        yield folder
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _in_the_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store)
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    mlflow.set_experiment("plugin")


def planted(effect: float, seed: int = 0) -> pd.DataFrame:
    """Two rows a picture; dimension 0 tells the group by ``effect`` standard deviations."""
    rng = np.random.default_rng(seed)
    woman = np.repeat(rng.permutation(N // 2) % 2, 2)
    x = rng.normal(size=(N, DIM))
    x[:, 0] += effect * woman
    return pd.DataFrame(
        {
            "embedding": list(x),
            "gender": np.where(woman, "woman", "man"),
            "picture": np.repeat(np.arange(N // 2), 2).astype(str),
        }
    )


def evaluate(data: Any, config: dict[str, Any] | None = None, **options: Any) -> Any:
    given = {"predictions": "embedding", "targets": "gender", "model_type": "embedding"} | options
    return mlflow.models.evaluate(
        data=data, evaluators="clip_lite_bias", evaluator_config=SMALL if config is None else config, **given
    )


def test_the_plugin_is_registered() -> None:
    (found,) = entry_points(group="mlflow.model_evaluator", name="clip_lite_bias")
    assert found.load() is BiasEvaluator
    assert "clip_lite_bias" in mlflow.models.list_evaluators()


def test_a_planted_leak_is_found_logged_and_kept() -> None:
    with mlflow.start_run() as run:
        found = evaluate(planted(2.0), SMALL | {"attackers": list(ATTACKERS)})
    result = AuditResult.from_json(
        Path(
            mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="audit.json")
        ).read_text()
    )
    row = result.find("leakage/gender/embedding/max", system="eraser off")
    assert row.low is not None
    assert row.null_high is not None
    assert row.value > 0.75
    assert row.low > row.null_high
    assert row.p_value == pytest.approx(1 / 101)
    assert row.n_clusters == N // 2 // 3
    assert {each.name.rsplit("/", 1)[1] for each in result.rows} == {*ATTACKERS, "max"}
    assert found.metrics == result.metrics()
    assert found.metrics[f"{MAX}_ci_low"] == row.low
    assert found.metrics[f"{MAX}_n"] == row.n == N // 3
    logged = mlflow.get_run(run.info.run_id).data.metrics
    assert logged == pytest.approx(found.metrics)
    assert result.provenance["mlflow"] == {"run_id": run.info.run_id}
    assert "perceived gender" in found.artifacts["report.html"].content
    assert found.artifacts["audit.json"].content["attribute"]["groups"] == ["man", "woman"]


def test_what_mlflow_returns_can_be_saved_and_read(tmp_path: Path) -> None:
    found = evaluate(planted(2.0))
    found.save(tmp_path)
    again = type(found).load(tmp_path)
    assert again.metrics == found.metrics
    assert again.artifacts["report.html"].content == found.artifacts["report.html"].content


def test_removing_the_leaking_direction_removes_it_and_a_random_one_does_not() -> None:
    frame = planted(2.0)
    x = np.stack(frame["embedding"])
    random = np.random.default_rng(1).normal(size=DIM)
    random[0] = 0.0
    random /= np.linalg.norm(random)
    values = {}
    for name, direction in (("leak", np.eye(DIM)[0]), ("random", random)):
        edited = frame.assign(embedding=list(x - np.outer(x @ direction, direction)))
        values[name] = evaluate(edited).metrics
    before = evaluate(frame).metrics
    assert values["leak"][MAX] < 0.6 < values["random"][f"{MAX}_ci_low"]
    assert values["random"][MAX] == pytest.approx(before[MAX], abs=0.05)


def test_numbers_are_those_of_the_audits_leakage() -> None:
    frame = planted(1.0)
    clusters = frame["picture"].to_numpy(dtype=str)
    side = np.where(np.arange(N) < N // 2, "train", "openmoji")
    side[-20:] = "val"
    found = evaluate(frame.assign(side=side), SMALL | {"split": "side", "attackers": ["logistic", "knn"]})
    x, labels = np.stack(frame["embedding"]), frame["gender"].to_numpy(dtype=str)
    samples = {
        name: Sample(x[side == name], labels[side == name], clusters[side == name])
        for name in ("train", "openmoji")
    }
    direct = attack(
        samples["train"],
        {"openmoji": samples["openmoji"]},
        seed=0,
        attackers={name: ATTACKERS[name] for name in ("logistic", "knn")},
    )
    at = Setting(
        clusters=samples["openmoji"].clusters,
        split="openmoji",
        system="eraser off",
        inference=Inference(**DRAWS),
    )
    rows = direct.estimates("gender/embedding", at=at)
    assert set(found.metrics) == {row.key + end for row in rows for end in ("", "_ci_low", "_ci_high", "_n")}
    for row in rows:
        assert found.metrics[row.key] == row.value
        assert found.metrics[f"{row.key}_ci_high"] == row.high
        assert found.metrics[f"{row.key}_n"] == N // 2 - 20


def test_every_way_to_give_embeddings_gives_the_same_numbers() -> None:
    frame = planted(1.0)
    x = np.stack(frame["embedding"])
    columns = pd.DataFrame(x, columns=[f"e{i}" for i in range(DIM)])
    wide = pd.concat([columns, frame[["gender", "picture"]]], axis=1)
    alone = {key: value for key, value in SMALL.items() if key != "clusters"}
    ways = {
        "vectors": evaluate(frame),
        "lists": evaluate(frame.assign(embedding=x.tolist())),
        "columns": evaluate(wide, predictions=None),
        "dataset": evaluate(
            mlflow.data.from_pandas(frame, targets="gender", predictions="embedding"),  # type: ignore[attr-defined]
            predictions=None,
            targets=None,
        ),
        "function": evaluate(wide, predictions=None, model=lambda given: given.to_numpy() * 1.0),
        "table": evaluate(
            wide,
            predictions="vector",
            model=lambda given: pd.DataFrame({"vector": list(given.to_numpy()), "norm": 1.0}),
        ),
    }
    for way, found in ways.items():
        assert found.metrics == pytest.approx(ways["vectors"].metrics), way
    labels = frame["gender"].to_numpy(dtype=str)
    array = evaluate(x, alone, predictions=None, targets=labels)
    assert array.metrics == evaluate(columns.assign(gender=labels), alone, predictions=None).metrics
    assert array.metrics != ways["vectors"].metrics


class Doubled(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined, misc]
    """Embeds by doubling."""

    def predict(self, model_input: pd.DataFrame) -> np.ndarray:
        return 2.0 * model_input.to_numpy()


def test_a_logged_model_is_linked_with_its_numbers() -> None:
    frame = planted(1.0)
    wide = pd.DataFrame(np.stack(frame["embedding"]), columns=[f"e{i}" for i in range(DIM)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow, about type hints and pickles
        with mlflow.start_run():
            logged = mlflow.pyfunc.log_model(
                name="doubled",
                python_model=Doubled(),
                signature=mlflow.models.infer_signature(wide),
                pip_requirements=[],
            )
        data = wide.assign(gender=frame["gender"], picture=frame["picture"])
        with mlflow.start_run() as run:
            found = evaluate(data, model=logged.model_uri, predictions=None)
    assert found.metrics[MAX] == pytest.approx(evaluate(data, predictions=None).metrics[MAX])
    model = mlflow.get_logged_model(logged.model_id)
    assert {metric.key for metric in model.metrics} >= set(found.metrics)
    assert {metric.run_id for metric in model.metrics} == {run.info.run_id}


ONE_ROW = """
import mlflow, pandas as pd
found = mlflow.models.evaluate(
    data=pd.DataFrame({"embedding": [[1.0, 2.0]], "gender": ["woman"]}), predictions="embedding",
    targets="gender", model_type="embedding", evaluators="clip_lite_bias",
    evaluator_config={"attribute": "gender"},
)
assert (found.metrics, found.artifacts) == ({}, {})
"""


def test_one_row_is_passed_over_in_one_line(tmp_path: Path) -> None:
    """In a process of its own: MLflow switches loggers off while it sets up a new store."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    env |= {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    done = subprocess.run(
        [sys.executable, "-c", ONE_ROW], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    said = [line for line in done.stderr.splitlines() if "clip_lite_bias" in line]
    assert len(said) == 1
    assert said[0].endswith("clip_lite_bias: one row says nothing of groups, so nothing is measured")


def test_beside_mlflows_own_evaluator_and_with_metrics_of_ones_own() -> None:
    frame = planted(2.0)

    def width(predictions: pd.Series, targets: pd.Series, metrics: Any) -> float:
        return float(len(predictions.iloc[0]))

    with mlflow.start_run() as run:
        found = mlflow.models.evaluate(
            data=frame.rename(columns={"picture": "clusters"}),
            predictions="embedding",
            targets="gender",
            evaluators=["default", "clip_lite_bias"],
            evaluator_config={"clip_lite_bias": SMALL | {"clusters": "clusters"}},
            extra_metrics=[
                mlflow.models.make_metric(eval_fn=width, greater_is_better=True, name="width"),
                leakage_metric("gender", attackers=["logistic"], **DRAWS),
            ],
        )
    assert found.metrics["width"] == DIM
    assert found.metrics[f"leakage_gender/{MAX}"] == found.metrics[MAX] > 0.7
    assert found.metrics[f"leakage_gender/{MAX}_ci_low"] == found.metrics[f"{MAX}_ci_low"]
    assert mlflow.get_run(run.info.run_id).data.metrics.keys() == found.metrics.keys()


def test_the_metric_passes_the_call_on_one_row() -> None:
    frame = planted(1.0)
    metric = leakage_metric("gender", attackers=["logistic"], **DRAWS)
    assert metric(predictions=frame["embedding"][:1], targets=frame["gender"][:1]) is None
    mapped = mlflow.models.evaluate(
        data=frame,
        predictions="embedding",
        targets="gender",
        evaluators="default",
        evaluator_config={"col_mapping": {"clusters": "picture"}},
        extra_metrics=[metric],
    )
    assert mapped.metrics[f"leakage_gender/{MAX}"] == evaluate(frame).metrics[MAX]


def test_who_did_not_ask_for_it_does_not_get_it() -> None:
    assert not BiasEvaluator.can_evaluate(model_type="classifier", evaluator_config={})
    data = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "y": [0, 1, 0, 1], "said": [0, 1, 1, 1]})
    found = mlflow.models.evaluate(data=data, targets="y", predictions="said", model_type="regressor")
    assert not any("leakage" in name for name in found.metrics)


def test_what_is_wrong_is_said_in_one_line() -> None:
    frame = planted(1.0)
    for config, said in (
        ({"cluster": "picture"}, "clip_lite_bias: there is no 'cluster' in evaluator_config"),
        ({"clusters": "stem"}, "clip_lite_bias: 'clusters' names 'stem', the data have picture"),
        ({"resamples": 0}, "clip_lite_bias: 'resamples' is 0"),
    ):
        with pytest.raises(MlflowException) as caught:
            evaluate(frame, SMALL | config)
        assert str(caught.value).startswith(said)
        assert "\n" not in str(caught.value)
    with pytest.raises(MlflowException, match="could not be evaluated by any"):
        evaluate(frame, {"clusters": "picture"})
