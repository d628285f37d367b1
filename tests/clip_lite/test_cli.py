"""Configuration from flags and YAML, and errors in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_lite.cli import guarded, parse, shipped_config
from clip_lite.config import TrainConfig
from clip_lite.config_checks import problems
from clip_lite.errors import CommandError, UsageError


def read(*argv: str) -> TrainConfig:
    default = shipped_config("emoji.yaml")
    return parse(TrainConfig, argv, prog="train", description="", default_config=default)[0]


def test_default_is_the_shipped_file() -> None:
    config = read()
    assert config.data.source == "emoji"
    assert config.debias is None
    assert list(problems(config)) == []


def test_flags_override_yaml_and_yaml_round_trips(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("debias: gender\ntraining:\n  epochs: 3\n  batch_size: 8\n")
    config, text = parse(
        TrainConfig,
        ["--config", str(file), "--training.epochs", "5"],
        prog="train",
        description="",
        default_config=shipped_config("emoji.yaml"),
    )
    assert (config.debias, config.training.epochs, config.training.batch_size) == ("gender", 5, 8)
    again = tmp_path / "again.yaml"
    again.write_text(text)
    assert read("--config", str(again)) == config


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--training.epoch", "3"], "training.epoch"),
        (["--training.epochs", "many"], "training.epochs"),
        (["--config", "/no/such/file.yaml"], "/no/such/file.yaml"),
        (["--data.source", "imagenette"], "data.source"),
        (["--objective.negatives", "magic"], "objective.negatives"),
    ],
)
def test_usage_errors_name_the_key_in_one_line(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(lambda: read(*argv)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert error.startswith("error: ")


def test_unknown_key_in_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("training:\n  epoch: 3\n")
    assert guarded(lambda: read("--config", str(file))) == 2
    error = capsys.readouterr().err
    assert "epoch" in error
    assert error.count("\n") == 1


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(error: BaseException) -> int:
        def run() -> None:
            raise error

        return guarded(run)

    assert fail(CommandError("broke\nhere")) == 1
    assert fail(UsageError("wrong")) == 2
    assert fail(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.splitlines()[:2] == ["error: broke here", "error: wrong"]


def test_the_papers_recipe_is_a_whole_configuration() -> None:
    config, _ = parse(
        TrainConfig,
        ["--config", str(shipped_config("coco.yaml")), "--data.root", "/data/coco", "--debias", "gender"],
        prog="train",
        description="",
        default_config=shipped_config("emoji.yaml"),
    )
    assert list(problems(config)) == []
    assert (config.model.image_tower, config.model.embedding_dim) == ("resnet50", 2048)
    assert (config.model.text_training, config.model.text_pooling) == ("trained", "pooler")
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.text_learning_rate) == ("sgd", 0.2, 0.001)
    assert (optimizer.lookahead, optimizer.lookahead_alpha, optimizer.lookahead_steps) == (True, 0.5, 5)
    steps = config.training.epochs * (118_287 * (1 - config.data.val_fraction) // config.training.batch_size)
    assert steps == pytest.approx(250_000, rel=0.03)
