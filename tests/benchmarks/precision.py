"""bfloat16 autocast with channels last against float32: ``python tests/benchmarks/precision.py [EPOCHS]``.

Step time of the default towers on a batch in memory, taken in turns; then, from one seed, a training of
EPOCHS (default 3) in each precision and the difference of their recalls on the validation pictures, with a
95% bootstrap interval by stem. About 6 minutes.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from common import built_from, configured, machine, ratio, take_turns, whole_step

from clip_lite.data.corpora import load_corpus
from evaluation.embed import caption_index, embed

CPU = torch.device("cpu")


def speed() -> None:
    """Print milliseconds a step, and their ratio."""
    runs = {}
    for precision in ("float32", "bfloat16"):
        built, _ = built_from(configured(training={"precision": precision}))
        batch = next(built.batches.epoch(1))
        if precision == "float32":
            built.model.to(memory_format=torch.contiguous_format)
            batch = replace(batch, images=batch.images.contiguous())
        runs[precision] = whole_step(built, batch)
    taken = take_turns(runs, rounds=20)
    print(", ".join(f"{name} {statistics.median(own) * 1e3:.0f} ms" for name, own in taken.items()))
    print(f"float32 contiguous / bfloat16 + channels last: {ratio(taken, 'float32', 'bfloat16')}")


def hits(precision: str, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Which validation pictures have a caption of theirs among the first ten; and their stems."""
    config = configured(training={"precision": precision, "epochs": epochs})
    corpus = load_corpus(config.data)
    built, _ = built_from(config)
    number = 0
    for epoch in range(1, epochs + 1):
        for batch in built.batches.epoch(epoch):
            built.step(batch, number)
            number += 1
    model = built.model.eval()
    table = corpus.splits["val"].where(corpus.canonical)
    captions, relevant = caption_index([record.captions for record in table.records])
    scores = embed(model, table, "validating", device=CPU).embedding @ model.encode_text(captions).numpy().T
    first = np.argsort(-scores, axis=1)[:, :10]
    hit = [bool(set(own.tolist()) & set(top.tolist())) for own, top in zip(relevant, first, strict=True)]
    return np.array(hit, dtype=float), table.clusters


def quality(epochs: int) -> None:
    """Print both recalls and the interval of their difference."""
    narrow, stems = hits("bfloat16", epochs)
    wide, _ = hits("float32", epochs)
    names, place = np.unique(stems, return_inverse=True)
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(2000):
        weight = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[place]
        differences.append(np.average(narrow - wide, weights=weight))
    low, high = np.quantile(differences, (0.025, 0.975))
    print(
        f"recall@10 image to text after {epochs} epochs, seed 0, {len(narrow)} pictures, {len(names)} stems: "
        f"bfloat16 {narrow.mean():.3f}, float32 {wide.mean():.3f}, difference {(narrow - wide).mean():+.3f} "
        f"[{low:+.3f}, {high:+.3f}]"
    )


if __name__ == "__main__":
    print(machine())
    speed()
    quality(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
