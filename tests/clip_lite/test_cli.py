"""Configuration from flags and YAML, and errors in one line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from clip_lite.cli import guarded, parse, shipped_config
from clip_lite.config import TrainConfig
from clip_lite.config_checks import problems
from clip_lite.errors import CommandError, GateFailed, UsageError


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


@dataclass
class Small:
    """A command with words and a list.

    Attributes:
        run: what a word stands for.
        fail_if: a list.
        level: a number.
    """

    run: str
    fail_if: list[str] = field(default_factory=list)
    level: int = 0


def small(*argv: str) -> Small:
    return parse(Small, argv, prog="small", description="", words="run", repeatable=("fail_if",))[0]


def test_dashes_and_underscores_spell_the_same_option() -> None:
    assert read("--data.test-fraction", "0.25").data.test_fraction == 0.25
    assert read("--data.test_fraction=0.25").data.test_fraction == 0.25
    assert read("--debias=half-way").debias == "half-way"
    assert small("a-b", "--fail-if=x-y", "--fail_if", "z_w - v").fail_if == ["x-y", "z_w - v"]


def test_a_repeatable_option_adds_to_the_list_of_the_yaml(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("fail_if:\n- a[b, c] > 1\n- d > 2\n")
    given = small("r", "--config", str(file), "--fail-if", "e > 3", "--level=4", "--fail-if", "[f, g]")
    assert given == Small(run="r", fail_if=["a[b, c] > 1", "d > 2", "e > 3", "f", "g"], level=4)
    file.write_text("run: from yaml\nfail_if: [a > 1]\n")
    assert small("--config", str(file)) == Small(run="from yaml", fail_if=["a > 1"])


@pytest.mark.parametrize(
    "argv", [("r", "--level", "4"), ("--level", "4", "r"), ("--level=4", "r"), ("--run=r", "--level=4")]
)
def test_a_word_is_told_from_the_value_of_an_option(argv: tuple[str, ...]) -> None:
    assert small(*argv) == Small(run="r", level=4)


def test_words_where_there_should_be_none_or_one_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: read("stray")) == 2
    assert "stray" in capsys.readouterr().err
    assert guarded(lambda: small("--level=4")) == 2
    assert "run" in capsys.readouterr().err


def test_a_failed_gate_has_an_exit_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise GateFailed("gate failed: 1 of 2 rules")

    assert guarded(fail) == 3
    assert capsys.readouterr().err == "error: gate failed: 1 of 2 rules\n"
