"""A COCO Captions folder and WebDataset shards in their true formats, small."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clip_lite.cli import guarded
from clip_lite.data import prepare
from clip_lite.data.pairs import Corpus
from clip_lite.data.reading import Reading
from clip_lite.data.sources.webdataset import load_webdataset

TRAIN, VAL = 20, 8
PEOPLE = ("man", "woman")


def jpeg(seed: int, width: int = 40, height: int = 30) -> bytes:
    """A smooth picture that is another one for every seed."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    out = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=92)
    return out.getvalue()


def _split(root: Path, split: str, numbers: range) -> None:
    folder = root / split
    folder.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    for number in numbers:
        name = f"{number:012d}.jpg"
        (folder / name).write_bytes(jpeg(number))
        images.append({"id": number, "file_name": name, "license": 1, "width": 40, "height": 30})
        for place in range(5):
            text = f"A {PEOPLE[number % 2]}, photographed {place} times: number {number}."
            captions.append({"id": 5 * number + place, "image_id": number, "caption": text})
    content = {
        "info": {"year": 2017},
        "licenses": [{"id": 1, "name": "Attribution License", "url": "http://example.org/by"}],
        "images": images[::-1],
        "annotations": captions[::-1],
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"captions_{split}.json").write_text(json.dumps(content))


def png(value: int, size: int = 16) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (size, size), (value, 10, 20)).save(out, "PNG")
    return out.getvalue()


def write(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def pair(key: str, value: int) -> dict[str, bytes]:
    return {f"{key}.png": png(value), f"{key}.txt": f"caption {value}".encode()}


def shard(path: Path, values: range) -> Path:
    members: dict[str, bytes] = {}
    for value in values:
        members |= pair(f"{value:06d}", value)
    return write(path, members)


def run(*argv: object) -> int:
    return guarded(lambda: prepare.main([str(part) for part in argv]))


def load(root: Path, size: int = 32) -> Corpus:
    return load_webdataset(root, Reading(size=size))


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for each test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CLIP_LITE_CACHE", str(folder))
    return folder


@pytest.fixture
def coco_root(tmp_path: Path) -> Path:
    """20 training and 8 validation pictures of 40 x 30, five captions each, every second one of a woman."""
    root = tmp_path / "coco"
    _split(root, "train2017", range(1, TRAIN + 1))
    _split(root, "val2017", range(101, 101 + VAL))
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three training shards of 5, 4 and 6 pairs, and one each for val and test."""
    root = tmp_path / "shards"
    for number, values in enumerate((range(5), range(5, 9), range(9, 15))):
        shard(root / f"train-{number:06d}.tar", values)
    shard(root / "val-000000.tar", range(20, 23))
    shard(root / "test-000000.tar", range(30, 34))
    return root


@pytest.fixture
def shards(coco_root: Path, tmp_path: Path) -> Path:
    out = tmp_path / "shards"
    assert run("shards", "--source", "coco", "--root", coco_root, "--out", out, "--pairs-per-shard", 7) == 0
    return out
