"""LEACE on a million rows of width 512: ``python tests/benchmarks/fit_moments.py [ROWS]``, about 3 minutes.

Eight chunks of 8,192 float32 rows, two groups, stream over and over, so that making them is not timed. What
cannot be avoided: each chunk cast to float64 (into memory that is kept) and xᵀx in float64 by ``torch.mm``.
Ours: ``LeaceFitter.update`` of the same chunks and the closing eigendecomposition, its time shared out over
the turns that the two take, a twentieth of the rows at a time. Before that, the memory of the fit at a tenth
of the rows and at all of them: the peak resident set beyond code and chunks, each in a process of its own
(Linux).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from common import machine, ratio

from debias import LeaceFitter

ROWS, CHUNK, DIM, TURNS = 1_000_000, 8192, 512, 20
GOAL = 1.3
Chunks = list[tuple[Tensor, Tensor]]


def chunks() -> Chunks:
    """Rows whose group shifts the mean."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(8):
        z = torch.randint(2, (CHUNK,), generator=generator)
        made.append((torch.randn(CHUNK, DIM, generator=generator).add_(0.1 * z[:, None]), z))
    return made


def stream(made: Chunks, rows: int) -> Chunks:
    """As many chunks as hold ``rows``."""
    return list(islice(cycle(made), -(-rows // CHUNK)))


def bare(parts: Chunks, exact: Tensor) -> None:
    """The casts and the products."""
    for x, _ in parts:
        exact.copy_(x)
        torch.mm(exact.mT, exact)


def compare(rows: int) -> None:
    """Print seconds of both and their ratio."""
    made, exact, fitter = chunks(), torch.empty(CHUNK, DIM, dtype=torch.float64), LeaceFitter(DIM, 2)
    parts = stream(made, rows // TURNS)

    def fit() -> None:
        for x, z in parts:
            fitter.update(x, z)

    runs = {"bare": lambda: bare(parts, exact), "fit": fit}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    bare(made, exact)
    for _ in range(TURNS):
        for name, run in runs.items():
            taken[name].append(seconds(run))
    closing = seconds(lambda: fitter.eraser)
    taken["fit"] = [turn + closing / TURNS for turn in taken["fit"]]
    total = {name: sum(turns) for name, turns in taken.items()}
    print(f"{int(fitter.moments.n)} rows of width {DIM}: casts and products {total['bare']:.1f} s, ", end="")
    print(f"fit {total['fit']:.1f} s, of which eigendecomposition {closing:.2f} s")
    print(f"fit / casts and products: {ratio(taken, 'fit', 'bare')}, goal {GOAL}")


def seconds(run: Callable[[], object]) -> float:
    """How long it takes."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def peak(rows: int) -> float:
    """MiB that a fit holds at most, beyond what was there before it."""
    parts, fitter = stream(chunks(), rows), LeaceFitter(DIM, 2)
    _ = LeaceFitter(4, 2).update(torch.eye(4), torch.tensor([0, 1, 0, 1])).eraser  # loads code
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    for x, z in parts:
        fitter.update(x, z)
    assert fitter.eraser.rank == 1
    return resident("VmHWM") - before


def resident(key: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def main(rows: int) -> None:
    """Print both measurements."""
    print(machine())
    for n in (rows // 10, rows):
        command = [sys.executable, __file__, str(n), "peak"]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(f"memory of a fit on {n} rows: {float(found):.0f} MiB")
    compare(rows)


if __name__ == "__main__":
    chosen = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    if sys.argv[2:] == ["peak"]:
        print(peak(chosen))
    else:
        main(chosen)
