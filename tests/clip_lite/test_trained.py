"""``--trained``: the training of another run taken over, for another eraser or audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
import yaml

from clip_lite import train
from clip_lite.cli import guarded
from clip_lite.config import TrainConfig
from clip_lite.errors import UsageError
from clip_lite.model import DualEncoder
from clip_lite.runs import taken_over
from tests.clip_lite.test_train import small_world  # noqa: F401, a fixture

FLAGS = (
    "--debias=gender",
    "--training.epochs=1",
    "--mitigation.force=true",
    "--audit.metrics=[retrieval, geometry]",
    "--audit.examples=0",
)


def run(*argv: str) -> None:
    assert guarded(lambda: train.main(argv)) == 0


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def audit(folder: str) -> dict[str, Any]:
    return json.loads((Path(folder) / "audit.json").read_text())


def test_the_same_again_is_bit_equal_to_training_it_and_another_eraser_edits_the_same_model(
    small_world: list[str],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(*small_world, *FLAGS, "--output=a")
    again = (*small_world, *FLAGS, "--output=b", "--trained=a", "--resume=auto")
    with monkeypatch.context() as broken:
        broken.setattr(train, "measure", interrupt)
        assert guarded(lambda: train.main(again)) == 130
    run(*again)
    half = ("--mitigation.method=text_pca", "--mitigation.strength=0.5")
    run(*small_world, *FLAGS, *half, "--output=c", "--trained=a")
    run(*small_world, *FLAGS, "--mitigation.strength=0", "--output=d", "--trained=a")

    first, second, other, unedited = (audit(name) for name in "abcd")
    assert second["rows"] == first["rows"]
    weights = [DualEncoder.from_pretrained(Path(name) / "model").state_dict() for name in "ab"]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert second["training"]["curve"] == first["training"]["curve"]
    where = first["provenance"]["mlflow"]["run_id"]
    assert second["training"]["weights"] == f"trained by the run in a, MLflow run {where}"
    assert "weights" not in first["training"]

    own = second["provenance"]["mlflow"]["run_id"]
    assert own != where
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("clip-lite").experiment_id])
    assert [each.info.status for each in runs] == ["FINISHED"] * 4  # the interrupted one went on
    histories = [client.get_metric_history(each, "val/i2t_recall_10") for each in (where, own)]
    curves = [{(point.step, point.value) for point in history} for history in histories]
    assert curves[0] == curves[1]

    off = [
        [row for row in each["rows"] if row["system"] == "eraser off"] for each in (first, other, unedited)
    ]
    assert off[0] == off[1] == off[2]
    assert other["model"]["eraser"]["method"] == "text_pca"
    assert other["model"]["eraser"]["details"]["strength"] == 0.5
    assert not any(row["system"] == "eraser on" for row in unedited["rows"])


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of one epoch of two, as far as ``taken_over`` looks at it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "checkpoints").mkdir(parents=True)
    (tmp_path / "a" / "config.yaml").write_text(text(rate=0.1))
    state = {"format_version": 1, "progress": {"epochs": [{}]}, "mlflow_run": "r1"}
    torch.save(state, tmp_path / "a" / "checkpoints" / "step-000000001.pt")
    return tmp_path / "a"


def text(*, rate: float, **other: Any) -> str:
    return yaml.safe_dump({"seed": 0, "optimizer": {"learning_rate": rate}, **other})


def asking(epochs: int, trained: str = "a") -> TrainConfig:
    config = TrainConfig(trained=Path(trained))
    config.training.epochs = epochs
    return config


@pytest.mark.usefixtures("source")
def test_what_comes_after_training_may_differ() -> None:
    after = {"method": "text_pca", "strength": 0.5, "options": {"k": 1}, "force": True}
    wanted = text(rate=0.1, mitigation=after, audit={"metrics": ["leakage"]}, trained="a", output="b")
    saved = taken_over(asking(1), wanted)
    assert saved is not None
    assert saved["mlflow_run"] is None  # the new run has one of its own
    assert saved["origin"] == "trained by the run in a, MLflow run r1"
    assert taken_over(TrainConfig(), wanted) is None


@pytest.mark.parametrize(
    ("epochs", "trained", "wanted", "said"),
    [
        (1, "a", text(rate=0.7), r"--trained a: another training, .*learning_rate \(0.1 there, 0.7 here\)$"),
        (
            1,
            "a",
            text(rate=0.1, mitigation={"term": "hsic"}),
            r"differs in mitigation.term \(None there, hsic",
        ),
        (2, "a", text(rate=0.1), "--trained a: 1 of 2 epochs are done, finish it with --resume a"),
        (1, "nowhere", text(rate=0.1), "nowhere/config.yaml cannot be read: No such file"),
        (1, "second", text(rate=0.1), "--trained second: it took its own weights from a: name that run"),
        (1, "empty", text(rate=0.1), "--trained empty: 0 of 1 epochs are done"),
    ],
)
def test_another_training_or_an_unfinished_one_is_refused(
    source: Path, epochs: int, trained: str, wanted: str, said: str
) -> None:
    for name, more in (("second", {"trained": "a"}), ("empty", {})):
        (source.parent / name).mkdir()
        (source.parent / name / "config.yaml").write_text(text(rate=0.1, **more))
    with pytest.raises(UsageError, match=said):
        taken_over(asking(epochs, trained), wanted)
