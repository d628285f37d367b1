"""COCO Captions as it lies on disk: a folder of JPEGs and a JSON of captions for each split."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clip_lite.data.encoded import EncodedPictures
from clip_lite.data.pairs import Corpus, Flag, PairTable, Record, plain_attributes
from clip_lite.errors import CommandError, UsageError
from clip_lite.progress import say

YEARS = ("2017", "2014")
LIMITS = (
    "Groups are read from captions: what an annotator saw fit to mention, as perceived. Label noise of "
    "20-30% has been reported.",
    "Photographs from Flickr, captioned by crowd workers in English: not a sample of any population.",
    "Five captions of a picture are not independent; intervals resample pictures.",
)


class FileStore:
    """Picture files by row."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, row: int) -> bytes:
        """The file's content."""
        return self.paths[row].read_bytes()

    def name(self, row: int) -> str:
        """The file's path."""
        return str(self.paths[row])

    def fingerprint(self, row: int) -> str:
        """Path, size and time of the last change."""
        seen = self.paths[row].stat()
        return f"{self.paths[row]}:{seen.st_size}:{seen.st_mtime_ns}"


def load_coco(root: Path, *, image_size: int, val_fraction: float, seed: int, workers: int) -> Corpus:
    """COCO Captions with splits ``train``, ``val`` (a share of train's pictures) and ``test`` (COCO's val).

    Args:
        root: folder with ``annotations/captions_{train,val}2017.json`` (or 2014) and ``train2017/``,
            ``val2017/``.
        image_size: side of the decoded pictures.
        val_fraction: share of the training pictures kept for validation.
        seed: of that choice.
        workers: threads that decode.

    Raises:
        UsageError: something of the layout is missing.
        CommandError: a JSON that holds no COCO captions, or none of its pictures has one.
    """
    year = _year(root)
    train_paths, train, licences = _read_split(root, f"train{year}")
    test_paths, test, _ = _read_split(root, f"val{year}")
    pictures = EncodedPictures(FileStore(train_paths + test_paths), size=image_size, workers=workers)
    clusters = sorted({record.cluster for record in train})
    order = np.random.default_rng(seed).permutation(len(clusters))
    held_out = {clusters[place] for place in order[: round(val_fraction * len(clusters))]}
    in_val = np.array([record.cluster in held_out for record in train])

    def part(rows: np.ndarray) -> PairTable:
        return PairTable(pictures, [train[row] for row in rows], rows)

    splits = {
        "train": part(np.flatnonzero(~in_val)),
        "val": part(np.flatnonzero(in_val)),
        "test": PairTable(pictures, test, np.arange(len(test)) + len(train)),
    }
    source = {
        "name": f"COCO Captions {year}",
        "version": year,
        "licence": licences or "per picture, see the annotation file",
        "url": "https://cocodataset.org",
        "attribution": "COCO Consortium: annotations CC-BY 4.0; pictures by their Flickr authors",
        "pictures": len(train) + len(test),
    }
    return Corpus(
        name="coco",
        splits=splits,
        sources=(source,),
        limits=LIMITS,
        audited=Flag(None),
        canonical=Flag(None),
    )


def _year(root: Path) -> str:
    for year in YEARS:
        if (root / "annotations" / f"captions_train{year}.json").is_file():
            return year
    wanted = root / "annotations" / f"captions_train{YEARS[0]}.json"
    raise UsageError(
        f"data.root {root}: {wanted} is missing; expected COCO's annotations/ and picture folders"
    )


def _read_split(root: Path, split: str) -> tuple[list[Path], list[Record], str]:
    """Paths and records of the pictures that have captions, by id, and the licences named in the file."""
    file = root / "annotations" / f"captions_{split}.json"
    folder = root / split
    for path, kind in ((file, file.is_file()), (folder, folder.is_dir())):
        if not kind:
            raise UsageError(
                f"data.root {root}: {path} is missing; expected COCO's annotations/ and {split}/"
            )
    dataset = _load(file)
    captions: dict[Any, list[str]] = defaultdict(list)
    for annotation in dataset["annotations"]:
        if text := str(annotation["caption"]).strip():
            captions[annotation["image_id"]].append(text)
    paths, records = [], []
    for image in sorted(dataset["images"], key=lambda image: image["id"]):
        if own := captions.get(image["id"]):
            name = f"{split}/{image['file_name']}"
            paths.append(folder / image["file_name"])
            pair = str(image.get("pair_id") or name)
            cluster = str(image.get("cluster") or pair)
            records.append(Record(pair, tuple(own), plain_attributes(image), cluster))
    if left_out := len(dataset["images"]) - len(records):
        say(f"{file.name}: {left_out} pictures without a caption are left out")
    if not records:
        raise CommandError(f"{file}: no picture has a caption")
    licences = sorted({str(item["name"]) for item in dataset.get("licenses", []) if "name" in item})
    return paths, records, "; ".join(licences)


def _load(file: Path) -> dict[str, Any]:
    from pycocotools.coco import COCO  # reads and checks the JSON; it prints as it does so

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            dataset = COCO(str(file)).dataset
        for image in dataset["images"]:
            if Path(image["file_name"]).name != image["file_name"]:
                raise ValueError(f"file_name {image['file_name']!r} is no plain name")
            image["id"]
        for annotation in dataset["annotations"]:
            annotation["image_id"], annotation["caption"]
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise CommandError(
            f"{file} holds no COCO captions ({type(error).__name__}: {error}); expected images with id and "
            "file_name, annotations with image_id and caption"
        ) from error
    return dict(dataset)
