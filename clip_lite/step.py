"""One update of the weights: forward, backward, clipping, optimiser, schedule; on one process or many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from clip_lite.config import OptimizerConfig
from clip_lite.data.batches import Batch
from clip_lite.distributed import rank, world_size
from clip_lite.objective import Objective, total, unmoved_batch_norm, whole_batch
from clip_lite.optimizer import Lookahead, make_optimizer, warmup_cosine
from clip_lite.precision import resolve_precision


class Step:
    """Optimiser, LookAhead, schedule and loss scaling of an objective.

    Args:
        steps: length of the whole training, for the schedule.
        accumulation: parts in which a batch runs.
        seed: with the number of the step and the rank it determines what random layers draw.
    """

    def __init__(
        self,
        objective: Objective,
        config: OptimizerConfig,
        *,
        steps: int,
        accumulation: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.objective = objective
        self.wrapped: nn.Module = objective
        if world_size() > 1:
            self.wrapped = DistributedDataParallel(objective)
        self.accumulation, self.seed, self.clip_norm = accumulation, seed, config.clip_norm
        self.trained = [p for p in objective.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(objective, config)
        self.lookahead = (
            Lookahead(self.trained, alpha=config.lookahead_alpha, k=config.lookahead_steps)
            if config.lookahead
            else None
        )
        factor = warmup_cosine(steps, config.warmup_fraction)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
        self.scaler = torch.amp.GradScaler(
            device.type, enabled=resolve_precision(device, objective.precision) == "float16"
        )

    def __call__(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """Update with this process's share of batch ``number`` of the training.

        Returns the loss, its terms, the gradient norm before clipping, logit scale and learning rate, as
        scalars on the device: reading them is the caller's choice, for it waits for the device.
        """
        scale = self.objective.model.logit_scale.detach().exp()
        rate = scale.new_full((), float(self.schedule.get_last_lr()[0]))
        self.optimizer.zero_grad(set_to_none=True)
        terms = self._backward(batch, number)
        self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.trained, self.clip_norm)
        scale_before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.get_scale() >= scale_before:  # else float16 overflowed and no weight has moved
            if self.lookahead:
                self.lookahead.step()
            self.schedule.step()
        seen = {"gradient_norm": norm, "logit_scale": scale, "learning_rate": rate}
        return {"loss": total(terms), **terms, **seen}

    def _backward(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """Leave the gradient of the batch's loss on the parameters; returns the detached terms."""
        parts = [batch] if self.accumulation == 1 else list(batch.parts(self.accumulation))
        seeds = [self._seed(number, place) for place in range(len(parts))]
        if len(parts) > 1 and self.objective.uses_batch:
            terms, cotangents = whole_batch(self.objective, parts, seeds, self.scaler.scale)
            with unmoved_batch_norm(self.objective):
                for place, part in enumerate(parts):
                    torch.manual_seed(seeds[place])
                    with self._synchronised(place == len(parts) - 1):
                        self.wrapped(part, cotangents[place])["carried"].backward()
            return terms
        sums: dict[str, Tensor] = {}
        for place, part in enumerate(parts):
            torch.manual_seed(seeds[place])
            with self._synchronised(place == len(parts) - 1):
                terms = {name: term / len(parts) for name, term in self.wrapped(part).items()}
                self.scaler.scale(total(terms)).backward()
            sums = {name: sums.get(name, 0.0) + term.detach() for name, term in terms.items()}
        return sums

    def _synchronised(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients are averaged over the processes with the last part only."""
        if isinstance(self.wrapped, DistributedDataParallel) and not last:
            return self.wrapped.no_sync()
        return nullcontext()

    def _seed(self, number: int, place: int) -> int:
        entropy = (self.seed, number, rank(), place)
        return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)

    @property
    def scaled(self) -> bool:
        """Whether the loss is scaled for float16: a gradient may then overflow, and its step is left out."""
        return self.scaler.is_enabled()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the weights of a frozen text tower, which come from their source."""
        weights = self.objective.state_dict()
        if self.objective.model.text_tower.frozen:
            weights = {n: w for n, w in weights.items() if not n.startswith("model.text_tower.")}
        return {
            "weights": weights,
            "optimizer": self.optimizer.state_dict(),
            "lookahead": self.lookahead.state_dict() if self.lookahead else None,
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        own = self.objective.state_dict()
        self.objective.load_state_dict({**own, **state["weights"]})
        self.optimizer.load_state_dict(state["optimizer"])
        if self.lookahead:
            self.lookahead.load_state_dict(state["lookahead"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])


def clip_gradients(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients down to the global norm ``limit``; returns the norm before.

    On a CPU, where looking at the norm waits for nothing, gradients below the limit are left alone.
    """
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if norm.device.type != "cpu" or not norm <= limit:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm
