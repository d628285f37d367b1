"""Rank, world size and reductions over the processes that torchrun starts; all of it works with one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from clip_lite.errors import CommandError, UsageError

T = TypeVar("T")
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started, over gloo on CPUs and NCCL on CUDA; leave them at the end.

    Yields this process's device: on CUDA the one of its ``LOCAL_RANK``. Started without torchrun, ``device``.

    Raises:
        UsageError: half of torchrun's environment, or more processes than CUDA devices.
    """
    if "RANK" not in os.environ:
        yield device
        return
    missing = [name for name in TORCHRUN if name not in os.environ]
    if missing:
        raise UsageError(
            f"RANK is set but {', '.join(missing)} is not: start several processes with torchrun"
        )
    if device.type == "cuda":
        local, devices = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= devices:
            raise UsageError(f"LOCAL_RANK is {local} with {devices} CUDA devices: lower --nproc-per-node")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
    else:
        dist.init_process_group("gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if _started() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _started() else 1


def is_main() -> bool:
    """Whether this is process 0: the one that writes and speaks."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


def gather(x: Tensor) -> Tensor:
    """Rows of all processes in their order, ``(n, …)`` → ``(world·n, …)``; every process has the same shape.

    Differentiable: the gradient of this process's rows is the sum over all processes of what they did with
    them. So where each process minimises the mean over its own rows, averaging the weights' gradients over
    processes, as DistributedDataParallel does, gives the gradient of the mean over all rows.
    """
    return x if world_size() == 1 else _Gather.apply(x)


def average(x: Tensor) -> Tensor:
    """Mean over processes, without gradient."""
    x = x.detach()
    if world_size() == 1:
        return x
    total = x.clone()
    dist.all_reduce(total)
    return total / world_size()


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag holds on some process; waits for the device."""
    if world_size() == 1:
        return flag
    raised = torch.tensor(int(flag), device=device)
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return bool(raised.item())


@contextmanager
def main_first() -> Iterator[None]:
    """Process 0 runs the block before the others do: what it leaves in a cache, they find."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def on_main(work: Callable[[], T]) -> T:
    """What process 0 makes of ``work``, on all of them; its errors too."""
    if world_size() == 1:
        return work()
    outcome: list[Any] = [None, None]
    if is_main():
        try:
            outcome[0] = work()
        except CommandError as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return cast(T, outcome[0])


def _started() -> bool:
    return dist.is_available() and dist.is_initialized()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        rows = x.new_empty((world_size() * len(x), *x.shape[1:]))
        dist.all_gather_single(rows, x.contiguous())
        return rows

    @staticmethod
    @once_differentiable
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        own = gradient.new_empty((len(gradient) // world_size(), *gradient.shape[1:]))
        dist.reduce_scatter_single(own, gradient.contiguous())
        return own
