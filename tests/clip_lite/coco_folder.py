"""A COCO Captions folder from nothing: JPEGs in which man and woman, role and place can be seen; and a short
training on it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ROLES = ("cook", "rider", "player", "walker")
# of python -m clip_lite.train, besides data.root and a text tower
FLAGS = [
    "--data.source=coco",
    "--data.image_size=32",
    "--data.val_fraction=0.2",
    "--model.embedding_dim=16",
    "--training.batch_size=16",
    "--training.epochs=3",
    "--training.device=cpu",
    "--training.precision=float32",
    "--audit.resamples=100",
    "--audit.metrics=[retrieval, leakage]",
    "--audit.permutations=100",
    "--audit.examples=2",
    "--checkpoint.every_steps=1",
]
PEOPLE = {"man": (40, 60, 200), "woman": (200, 60, 40), "person": (120, 120, 120)}


def write_coco_folder(
    root: Path, *, train: int = 160, val: int = 60, size: tuple[int, int] = (64, 48)
) -> Path:
    """Write ``annotations/`` and ``train2017/``, ``val2017/`` with five captions a picture."""
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    number = 0
    for split, pictures in (("train2017", train), ("val2017", val)):
        (root / split).mkdir()
        images, annotations = [], []
        for _ in range(pictures):
            number += 1
            who, role = list(PEOPLE)[number % 3], ROLES[int(rng.integers(len(ROLES)))]
            name = f"{number:012d}.jpg"
            _picture(who, role, size, rng).save(root / split / name, quality=90)
            images.append(
                {"id": number, "file_name": name, "width": size[0], "height": size[1], "license": 1}
            )
            texts = (
                f"A {who} {role}.",
                f"{role} on the left",
                f"the {who}",
                f"a {role}, a {who}",
                f"{who} at work",
            )
            annotations += [
                {"id": 10 * number + i, "image_id": number, "caption": text} for i, text in enumerate(texts)
            ]
        content = {
            "info": {"description": "test"},
            "licenses": [{"id": 1, "name": "Attribution License", "url": "https://example.org"}],
            "images": images,
            "annotations": annotations,
        }
        (root / "annotations" / f"captions_{split}.json").write_text(json.dumps(content))
    return root


def _picture(who: str, role: str, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", size, tuple(int(v) for v in rng.integers(150, 256, size=3)))
    draw, (width, height) = ImageDraw.Draw(image), size
    x, y = width * (0.3 + 0.3 * rng.random()), height * (0.3 + 0.2 * rng.random())
    draw.ellipse((x, y, x + width * 0.25, y + height * 0.4), fill=PEOPLE[who])
    place = ROLES.index(role)
    draw.rectangle(
        (width * 0.2 * place, height * 0.8, width * 0.2 * place + width * 0.15, height * 0.95),
        fill=(0, 90 + 40 * place, 0),
    )
    return image
