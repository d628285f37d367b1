"""Embedding files with a model of transformers: ``python tests/benchmarks/foreign_models.py``, 3 minutes.

The audit's own pass over JPEGs of 640 x 480 (decode, the library's resize and crop, tower) beside the tower
alone on a batch in memory, for untrained CLIP models at 224 px in float32; both take turns in one process.
Then what it costs to find out, once, that a picture can be decoded. ``configs/audit_*.yaml`` compute their
times from the pictures a second.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

sys.path.insert(0, str(Path(__file__).parent))
from common import machine, ratio, take_turns

from clip_lite.data.checking import unreadable
from clip_lite.data.encoded import EncodedPictures
from clip_lite.data.reading import FileStore
from clip_lite.pretrained.pictures import normalised
from clip_lite.pretrained.transformers_encoder import ProcessorPrepare

PICTURES, CHECKED, ROUNDS, WORKERS = 64, 1024, 5, 2


def photographs(folder: Path, count: int) -> list[Path]:
    """Smooth JPEGs of about 80 kB."""
    rng, paths = np.random.default_rng(0), []
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        out = io.BytesIO()
        small.resize((640, 480), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
        paths.append(folder / f"{number}.jpg")
        paths[-1].write_bytes(out.getvalue())
    return paths


def embedding(paths: list[Path], patch: int) -> None:
    """Print the ratio for one size of patch, and pictures a second."""
    processor = CLIPImageProcessor()
    prepare = ProcessorPrepare(processor, name="CLIP")
    pictures = EncodedPictures(FileStore(paths), size=prepare.size, workers=WORKERS, prepare=prepare)
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(vision_config={"patch_size": patch})).eval()
    memory = torch.zeros(PICTURES, 3, prepare.size, prepare.size)

    def whole() -> None:
        pixels = torch.from_numpy(pictures[np.arange(PICTURES)])
        with torch.inference_mode():
            model.get_image_features(
                pixel_values=normalised(pixels, processor.image_mean, processor.image_std)
            )

    def bare() -> None:
        with torch.inference_mode():
            model.get_image_features(pixel_values=memory)

    taken = take_turns({"whole": whole, "bare": bare}, rounds=ROUNDS)
    print(f"ViT-B/{patch}: files ÷ tower alone {ratio(taken, 'whole', 'bare')}, ", end="")
    print(f"{PICTURES / median(taken['whole']):.1f} pictures a second")


def main() -> None:
    """Run everything in a folder that is removed."""
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["CLIP_LITE_CACHE"] = scratch
        paths = photographs(Path(scratch), CHECKED)
        for patch in (32, 16):
            embedding(paths[:PICTURES], patch)
        pictures = EncodedPictures(FileStore(paths), size=224, workers=1)
        begin = time.perf_counter()
        unreadable(pictures, np.arange(CHECKED), "photographs")
        print(f"checking: {(time.perf_counter() - begin) / CHECKED * 1e3:.2f} ms of a core for a picture")


if __name__ == "__main__":
    main()
