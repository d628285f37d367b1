"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from clip_lite.allocator import kept_memory
from clip_lite.config import CheckpointConfig
from clip_lite.data.batches import Batches
from clip_lite.distributed import any_rank, average, barrier, is_main
from clip_lite.errors import CommandError, UsageError
from clip_lite.model import DualEncoder
from clip_lite.progress import progress_bar, say
from clip_lite.step import Step
from clip_lite.stopping import Stopped

LOG_EVERY = 10
BESIDE = ("_ci_low", "_ci_high", "_n")  # numbers that say how sure another one is


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training pictures gave."""

    epoch: int
    step: int
    loss: float
    pairs_per_second: float
    validation: Mapping[str, float]

    def summary(self) -> dict[str, float]:
        """Flat numbers for a curve."""
        speed = round(self.pairs_per_second, 1)
        return {
            "epoch": self.epoch,
            "step": self.step,
            "loss": self.loss,
            "pairs_per_second": speed,
            **{f"val_{k}": v for k, v in self.validation.items()},
        }


class Hooks(Protocol):
    """What the composition root adds to the loop. Rank 0 calls it, except for ``stopping``."""

    def validate(self, model: DualEncoder) -> Mapping[str, float]:
        """Numbers of a model in evaluation mode, higher is better, after every epoch."""

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Keep named numbers of a step."""

    def keep(self, state: Mapping[str, Any], step: int, *, best: bool) -> str:
        """Write a checkpoint; returns where it lies."""

    def stopping(self) -> bool:
        """Whether this process was asked to stop."""


@dataclass
class Progress:
    """Where a training stands; all of it is in every checkpoint."""

    step: int = 0
    losses: list[float] = field(default_factory=list)  # of the running epoch
    seconds: float = 0.0  # of the running epoch
    epochs: list[Epoch] = field(default_factory=list)
    best: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Progress:
        """What ``state_dict`` gave."""
        return cls(**{**state, "epochs": [Epoch(**epoch) for epoch in state["epochs"]]})


class Training:
    """A training that can stop after any step and go on from there as if nothing had happened.

    Args:
        saved: state of an earlier process, to continue from.

    Raises:
        UsageError: fewer training pictures than one batch.
    """

    def __init__(
        self,
        step: Step,
        batches: Batches,
        *,
        epochs: int,
        batch_size: int,
        checkpoint: CheckpointConfig,
        hooks: Hooks,
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        if batches.per_epoch == 0:
            raise UsageError(
                f"training.batch_size is {batch_size}, but only {len(batches.table)} pictures to train on"
            )
        self.step, self.batches, self.epochs, self.batch_size = step, batches, epochs, batch_size
        self.checkpoint, self.hooks = checkpoint, hooks
        self.progress = Progress()
        self.last_kept = "none yet"
        if saved:
            step.load_state_dict(saved["step"])
            self.progress = Progress.from_state(saved["progress"])
            self.last_kept = f"the one of step {self.progress.step}"
        self.meter = Meter(batches.device, self._read)

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return self.epochs * self.batches.per_epoch

    def run(self) -> list[Epoch]:
        """Train to the end, which leaves the model in evaluation mode, trained now or earlier.

        Raises:
            CommandError: the loss is no longer finite.
            Stopped: ``hooks.stopping`` held; a checkpoint is written.
        """
        bar = progress_bar("training", self.total, done=self.progress.step)
        with kept_memory(), bar as advance:
            while self.progress.step < self.total:
                self._epoch(advance)
                if is_main():
                    say(self._line(self.progress.epochs[-1]))
        self.step.objective.eval()
        return self.progress.epochs

    def _epoch(self, advance: Callable[[int, str], None]) -> None:
        """The rest of the running epoch, then validation and checkpoint."""
        progress, per_epoch = self.progress, self.batches.per_epoch
        number, start = divmod(progress.step, per_epoch)
        self.step.objective.train()
        begin, before = time.perf_counter(), progress.seconds
        for batch in self.batches.epoch(number + 1, start):
            self.meter.add(progress.step + 1, self.step(batch, progress.step))
            progress.step += 1
            progress.seconds = before + time.perf_counter() - begin
            advance(1, self._note())
            if progress.step % per_epoch and self._interrupted():
                self._keep(best=False)
        self.meter.flush()
        self.step.objective.eval()
        validation = self.hooks.validate(self.step.objective.model) if is_main() else {}
        ended = Epoch(
            number + 1, progress.step, math.fsum(progress.losses) / per_epoch, self._speed(), dict(validation)
        )
        progress.epochs.append(ended)
        progress.losses, progress.seconds = [], 0.0
        if is_main():
            numbers = {f"val/{name}": value for name, value in validation.items()}
            self.hooks.log({**numbers, "train/pairs_per_second": ended.pairs_per_second}, progress.step)
        self._keep(best=self._improved(validation))
        barrier()

    def _interrupted(self) -> bool:
        """Whether a checkpoint is due in mid-epoch; after one for a request to stop, stop."""
        agreed = self.progress.step % self.meter.every == 0  # asking the other ranks waits for the device
        if agreed and any_rank(self.hooks.stopping(), self.batches.device):
            self._keep(best=False)
            raise Stopped(f"step {self.progress.step} of {self.total}")
        every = self.checkpoint.every_steps
        return every is not None and self.progress.step % every == 0

    def _improved(self, validation: Mapping[str, float]) -> bool:
        if self.checkpoint.best_by not in validation:
            return False
        value = validation[self.checkpoint.best_by]
        if self.progress.best is not None and value <= self.progress.best:
            return False
        self.progress.best = value
        return True

    def _keep(self, *, best: bool) -> None:
        self.meter.flush()
        if is_main():
            state = {"step": self.step.state_dict(), "progress": self.progress.state_dict()}
            self.last_kept = self.hooks.keep(state, self.progress.step, best=best)

    def _read(self, step: int, values: Mapping[str, float]) -> None:
        """Take the numbers of a step, in order; they may arrive some steps later."""
        checked = values["loss"] + (0.0 if self.step.scaled else values["gradient_norm"])
        if not math.isfinite(checked):
            raise CommandError(
                f"the loss is {values['loss']} (gradient norm {values['gradient_norm']}) at step {step} of "
                f"{self.total} (epoch {(step - 1) // self.batches.per_epoch + 1}), try a lower "
                f"optimizer.learning_rate; last good checkpoint: {self.last_kept}"
            )
        self.progress.losses.append(values["loss"])
        if step % LOG_EVERY == 0 and is_main():
            self.hooks.log({f"train/{name}": value for name, value in values.items()}, step)

    def _speed(self) -> float:
        """Pairs per second of the running epoch, over all processes."""
        steps = self.progress.step - len(self.progress.epochs) * self.batches.per_epoch
        return steps * self.batch_size / max(self.progress.seconds, 1e-9)

    def _note(self) -> str:
        recent = self.progress.losses[-50:]
        loss = f"loss {math.fsum(recent) / len(recent):.3f}  " if recent else ""
        return f"{loss}{self._speed():.0f} pairs/s"

    def _line(self, epoch: Epoch) -> str:
        numbers = "  ".join(
            f"{name} {value:.3f}" for name, value in epoch.validation.items() if not name.endswith(BESIDE)
        )
        speed = f"{epoch.pairs_per_second:.0f} pairs/s"
        return f"epoch {epoch.epoch}/{self.epochs}  loss {epoch.loss:.3f}  {speed}  val {numbers}"


class Meter:
    """Numbers of steps, averaged over the processes, read from the device a few steps at a time.

    Reading waits for the device; on a CPU there is nothing to wait for, and every step is read at once.
    """

    def __init__(self, device: torch.device, read: Callable[[int, Mapping[str, float]], None]) -> None:
        self.every = 1 if device.type == "cpu" else LOG_EVERY
        self.read = read
        self.waiting: list[tuple[int, dict[str, Tensor]]] = []

    def add(self, step: int, values: dict[str, Tensor]) -> None:
        """Take the scalars of a step."""
        self.waiting.append((step, values))
        if len(self.waiting) >= self.every:
            self.flush()

    def flush(self) -> None:
        """Read what is waiting."""
        if not self.waiting:
            return
        taken, self.waiting = self.waiting, []
        stacked = torch.stack([torch.stack(list(values.values())).float() for _, values in taken])
        for (step, values), row in zip(taken, average(stacked).tolist(), strict=True):
            self.read(step, dict(zip(values, row, strict=True)))
