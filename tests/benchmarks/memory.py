"""Peak memory of training against batch size: ``python tests/benchmarks/memory.py``, about 3 minutes.

Each batch size in a process of its own: the default towers in float32 (the widest case), two steps, the
peak of the resident set. The last line is the straight line through them and how far a point lies from it.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from common import built_from, configured, machine

BATCHES = (32, 64, 128, 256, 512)


def peak(batch_size: int) -> float:
    """MiB that this process ever held."""
    built, _ = built_from(configured(training={"batch_size": batch_size, "precision": "float32"}))
    batches = built.batches.epoch(1)
    for number in range(2):
        built.step(next(batches), number)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print a table and the line through it."""
    command = [sys.executable, __file__]
    found = [
        float(
            subprocess.run([*command, str(n)], check=True, capture_output=True, text=True).stdout.split()[-1]
        )
        for n in BATCHES
    ]
    for n, mib in zip(BATCHES, found, strict=True):
        print(f"batch {n:4d}: {mib:7.0f} MiB")
    slope, intercept = np.polyfit(BATCHES, found, 1)
    off = np.abs(np.polyval((slope, intercept), BATCHES) - found) / found
    print(
        f"peak = {intercept:.0f} MiB + {slope:.2f} MiB a pair; no point is further off than {off.max():.1%}"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(peak(int(sys.argv[1])))
    else:
        print(machine())
        main()
