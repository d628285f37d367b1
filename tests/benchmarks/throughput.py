"""The training loop against its bare arithmetic: ``python tests/benchmarks/throughput.py [emoji|jpeg]``.

Pairs per second of the real loop (order, decoding, augmentation, captions, step with clipping and schedule,
numbers read) over those of forward, backward and optimiser of the same towers on one batch in memory. They
take turns in one process; the ratio is the median over rounds.

emoji: the default (ResNet-18 at 64 px, cached MiniLM features, batch 64); about 3 minutes.
jpeg:  a COCO folder of 640x480 JPEGs made from two photographs, ResNet-50 at 224 px, cached MiniLM features,
       batch 16; about 6 minutes.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

sys.path.insert(0, str(Path(__file__).parent))
from common import bare_step, built_from, configured, loop_steps, machine, ratio, take_turns

GOAL = 0.97
PICTURES = 200


def coco_folder(root: Path) -> Path:
    """640×480 JPEGs at quality 90 cut from the two photographs that scikit-learn ships, with captions."""
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(photograph) for photograph in load_sample_images().images]
    (root / "annotations").mkdir(parents=True)
    for split, count in (("train2017", PICTURES), ("val2017", 4)):
        (root / split).mkdir()
        images, annotations = [], []
        for number in range(count):
            photograph = photographs[number % 2]
            x, y = (rng.random(2) * 60).tolist()
            part = photograph.resize((640, 480), box=(x, y, x + 560, y + 360))
            part.save(root / split / f"{number}.jpg", quality=90)
            images.append({"id": number, "file_name": f"{number}.jpg"})
            annotations.append({"id": number, "image_id": number, "caption": f"photograph number {number}"})
        content = {"images": images, "annotations": annotations}
        (root / "annotations" / f"captions_{split}.json").write_text(json.dumps(content))
    return root


def measure(name: str, root: Path) -> str:
    """Bare seconds over the loop's, per step."""
    if name == "emoji":
        config, steps, rounds = configured(), 2, 60
    else:
        config = configured(
            data={"source": "coco", "root": coco_folder(root), "image_size": 224},
            model={"image_tower": "resnet50", "small_images": False},
            training={"batch_size": 16},
            augment={"crop_scale": 0.2, "jitter": (0.4, 0.4, 0.4, 0.1)},
        )
        steps, rounds = 1, 24
    built, _ = built_from(config)
    one = bare_step(built, next(built.batches.epoch(1)))

    def bare() -> None:
        for _ in range(steps):
            one()

    taken = take_turns({"bare": bare, "loop": loop_steps(built, steps)}, rounds=rounds)
    pairs_in_round = config.training.batch_size * steps
    speeds = {run: pairs_in_round / statistics.median(seconds) for run, seconds in taken.items()}
    print(f"{name}: bare {speeds['bare']:.1f} pairs/s, loop {speeds['loop']:.1f} pairs/s")
    return ratio(taken, "bare", "loop")


if __name__ == "__main__":
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        for chosen in sys.argv[1:] or ["emoji", "jpeg"]:
            found = measure(chosen, Path(scratch))
            print(f"training loop / bare arithmetic, {chosen}: {found}, goal {GOAL}")
