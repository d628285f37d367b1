"""A training on the small corpus, built as the command builds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from clip_lite.build import Built, build
from clip_lite.config import TrainConfig
from clip_lite.data.pairs import Corpus
from clip_lite.fit import Training
from clip_lite.model import DualEncoder
from tests.clip_lite.tracked_runs import Done, Packages, Shown, World

CPU = torch.device("cpu")
Configure = Callable[..., TrainConfig]


@pytest.fixture
def configure(text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """``configure(training={"epochs": 3})``: small settings, and changes to them by group."""
    monkeypatch.setenv("CLIP_LITE_CACHE", str(tmp_path / "cache"))
    base: dict[str, dict[str, Any]] = {
        "data": {"image_size": 32},
        "model": {"embedding_dim": 32, "text_tower": str(text_folder)},
        "training": {"epochs": 2, "batch_size": 32, "precision": "float32", "device": "cpu"},
    }

    def make(seed: int = 0, **groups: dict[str, Any]) -> TrainConfig:
        config = TrainConfig(seed=seed)
        for name in base.keys() | groups.keys():
            changed = replace(getattr(config, name), **{**base.get(name, {}), **groups.get(name, {})})
            setattr(config, name, changed)
        return config

    return make


@dataclass
class Recorder:
    """Hooks that keep everything in memory."""

    recalls: list[float] = field(default_factory=lambda: [0.5])
    stop_at: int | None = None
    states: list[tuple[int, bool, dict[str, Any]]] = field(default_factory=list)
    logged: dict[int, dict[str, float]] = field(default_factory=dict)
    steps: int = 0

    def validate(self, model: DualEncoder) -> Mapping[str, float]:
        assert not model.training
        place = min(sum(1 for step in self.logged if "val/i2t_recall_10" in self.logged[step]), 99)
        return {"i2t_recall_10": self.recalls[min(place, len(self.recalls) - 1)]}

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self.logged.setdefault(step, {}).update(numbers)

    def keep(self, state: Mapping[str, Any], step: int, *, best: bool) -> str:
        copied = {"step": _copied(state["step"]), "progress": _copied(state["progress"])}
        self.states.append((step, best, copied))
        return f"runs/x/step-{step}"

    def stopping(self) -> bool:
        self.steps += 1
        return self.stop_at is not None and self.steps >= self.stop_at


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def training_of(
    config: TrainConfig, corpus: Corpus, hooks: Recorder, saved: Mapping[str, Any] | None = None
) -> tuple[Training, Built]:
    built = build(config, corpus.splits["train"].sample(200), CPU)
    training = Training(
        built.step,
        built.batches,
        epochs=config.training.epochs,
        batch_size=config.training.batch_size,
        checkpoint=config.checkpoint,
        hooks=hooks,
        saved=saved,
    )
    return training, built


@dataclass(frozen=True)
class Live:
    """A training whose MLflow server answered all the time."""

    world: World
    done: Done
    folder: Path
    experiment: str

    @property
    def shown(self) -> Shown:
        """What the server has of it."""
        assert self.world.store is not None
        return Shown.of(self.world.store, self.experiment)


@pytest.fixture(scope="session")
def live(
    emoji_packages: Packages, text_folder: Path, mlflow_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Live:
    """One training, registered as ``emoji-encoder`` on the server that tests share."""
    world = World(tmp_path_factory.mktemp("live"), emoji_packages, text_folder, mlflow_url)
    done = world.train("--output=out", "--tracking.experiment=live", "--tracking.register=emoji-encoder")
    assert done.code == 0, done.err
    return Live(world, done, world.folder / "out", "live")
