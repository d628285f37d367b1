"""Retrieval ranks in blocks beside the full matrix: ``python tests/benchmarks/retrieval_cost.py``, 2 minutes.

5,000 images, five captions each, width 512, both directions. The full matrix is scored once in float64, each
direction is ranked from it, and the ranks must be the same. Time is the median of rounds that take turns in
one process. Memory is the peak of a process that ranks once, less the peak of one that only holds the
embeddings.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from common import machine, ratio, take_turns

from evaluation.utility.retrieval_ranks import retrieval_ranks

IMAGES, CAPTIONS, WIDTH = 5000, 5, 512
TIE = 1e-12
ROUNDS = 5


def embeddings() -> tuple[np.ndarray, np.ndarray]:
    """Images ``(n, d)`` and their noisy captions ``(5n, d)``, at unit length."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((IMAGES, WIDTH))
    text = np.repeat(image, CAPTIONS, axis=0) + 6 * rng.standard_normal((IMAGES * CAPTIONS, WIDTH))
    return tuple(x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text))  # type: ignore[return-value]


def blocks(image: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of both directions as the audit makes them."""
    ranks = retrieval_ranks(image, text, list(np.arange(len(text)).reshape(-1, CAPTIONS)))
    return ranks.i2t.rank, ranks.t2i.rank


def matrix(image: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same from all scores at once."""
    scores = image @ text.T
    own = np.repeat(np.eye(IMAGES, dtype=bool), CAPTIONS, axis=1)
    found = []
    for axis in (1, 0):
        best = np.where(own, scores, -np.inf).max(axis=axis, keepdims=True)
        found.append(1 + np.count_nonzero((scores >= best - TIE) & ~own, axis=axis))
    return found[0], found[1]


WAYS = {"inputs": lambda image, text: None, "blocks": blocks, "matrix": matrix}


def peak(name: str) -> float:
    """MiB that this process ever held."""
    WAYS[name](*embeddings())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory() -> dict[str, float]:
    """MiB of each way beyond the embeddings, in processes of their own."""
    found = {
        name: float(
            subprocess.run(
                [sys.executable, __file__, name], check=True, capture_output=True, text=True
            ).stdout
        )
        for name in WAYS
    }
    return {name: found[name] - found["inputs"] for name in ("blocks", "matrix")}


def main() -> None:
    """Print both ratios."""
    print(f"{machine()}; {IMAGES} x {IMAGES * CAPTIONS} x {WIDTH}, float64")
    held = memory()  # first: a process inherits the peak of the one that starts it
    inputs = embeddings()
    same = all(np.array_equal(*pair) for pair in zip(blocks(*inputs), matrix(*inputs), strict=True))
    print(f"ranks are the same: {same}")
    taken = take_turns({"blocks": lambda: blocks(*inputs), "matrix": lambda: matrix(*inputs)}, rounds=ROUNDS)
    for name, seconds in taken.items():
        print(f"{name}: {np.median(seconds):.2f} s, {held[name]:.0f} MiB beyond the embeddings")
    print(f"time, blocks / matrix: {ratio(taken, 'blocks', 'matrix')}")
    print(f"memory, blocks / matrix: {held['blocks'] / held['matrix']:.3f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(peak(sys.argv[1]))
    else:
        main()
