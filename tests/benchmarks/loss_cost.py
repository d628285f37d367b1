"""Time and memory of the JSD loss beside InfoNCE: ``python tests/benchmarks/loss_cost.py``, about a minute.

Forward and backward in float32, width 512, one negative each. Time is the median of repeats that take turns
in one process. Memory is the peak of a process that runs the loss once, less the peak of one that holds the
embeddings and their gradients, which both losses need; each in a process of its own, after both losses ran
on eight pairs, so that code that is loaded on first use counts for neither.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from clip_lite.losses import ContrastiveLoss, InfoNCELoss, JSDLoss
from clip_lite.negatives import Picked

WIDTH = 512
BATCHES = (256, 512, 1024, 2048, 4096, 8192)
GOAL = 40
LOSSES: dict[str, ContrastiveLoss] = {"infonce": InfoNCELoss(), "jsd": JSDLoss()}


def embeddings(n: int) -> list[Tensor]:
    """Pictures, captions, scale."""
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(n, WIDTH, generator=generator) for _ in range(2)]
    return [x.requires_grad_() for x in (*(F.normalize(x, dim=-1) for x in made), torch.tensor(1 / 0.07))]


def prepare(name: str, inputs: list[Tensor]) -> Callable[[], None]:
    """One forward and backward pass, or for "inputs" only what it leaves."""
    image, text, scale = inputs
    rows = (torch.arange(len(text))[:, None] - 1) % len(text)

    def run() -> None:
        for x in inputs:
            x.grad = None
        if name == "inputs":
            image.grad, text.grad = torch.ones_like(image), torch.ones_like(text)
            return
        negatives = Picked(text, rows) if name == "jsd" else None
        torch.stack(list(LOSSES[name](image, text, negatives, scale).values())).sum().backward()

    return run


def times(n: int) -> dict[str, float]:
    """Median seconds of each loss."""
    inputs = embeddings(n)
    runs = {name: prepare(name, inputs) for name in LOSSES}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(3 if n > 2048 else 9):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def peak(name: str, n: int) -> float:
    """MiB that this process ever held."""
    for small in LOSSES:
        prepare(small, embeddings(8))()
    prepare(name, embeddings(n))()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(n: int) -> dict[str, float]:
    """MiB of each loss beyond embeddings and gradients."""

    def alone(name: str) -> float:
        command = [sys.executable, __file__, "--peak", name, "--batch", str(n)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    held = alone("inputs")
    return {name: alone(name) - held for name in LOSSES}


def main() -> None:
    """Print the table, or the peak of one process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peak", choices=["inputs", *LOSSES], help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak(arguments.peak, arguments.batch))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, width {WIDTH}, float32")
    print("batch   InfoNCE ms    JSD ms   InfoNCE MiB   JSD MiB")
    # memory first: a process inherits the peak of the one that starts it
    for n, mib in [(n, memory(n)) for n in BATCHES]:
        seconds = times(n)
        print(
            f"{n:5d} {seconds['infonce'] * 1e3:12.1f} {seconds['jsd'] * 1e3:9.2f} "
            f"{mib['infonce']:13.1f} {mib['jsd']:9.1f}"
        )
    faster, leaner = seconds["infonce"] / seconds["jsd"], mib["infonce"] / mib["jsd"]
    print(f"JSD / InfoNCE at {n}: time 1/{faster:.0f}, memory 1/{leaner:.0f} (goal 1/{GOAL})")


if __name__ == "__main__":
    main()
