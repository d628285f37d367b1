"""Karpathy's splits of COCO: which split, which captions, and what is no entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clip_lite.data.reading import Reading, Skips
from clip_lite.data.sources.coco import load_coco
from clip_lite.data.sources.karpathy import read_karpathy
from clip_lite.errors import CommandError, UsageError
from tests.clip_lite.data.conftest import jpeg

SPLITS = {1: "train", 2: "restval", 3: "val", 4: "test", 5: "train", 6: "test"}


def entry(number: int, split: str, *captions: str) -> dict[str, Any]:
    folder = "train2014" if split == "train" else "val2014"
    sentences = [
        {"tokens": text.lower().split(), "raw": text, "imgid": number, "sentid": 10 * number + place}
        for place, text in enumerate(captions)
    ]
    return {
        "filepath": folder,
        "sentids": [sentence["sentid"] for sentence in sentences],
        "filename": f"COCO_{folder}_{number:012d}.jpg",
        "imgid": number,
        "split": split,
        "sentences": sentences,
        "cocoid": number,
    }


def images() -> list[dict[str, Any]]:
    return [
        entry(number, split, f"A cat, number {number}.", "", "Ein Käfer") for number, split in SPLITS.items()
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for picture in images():
        file = tmp_path / "coco" / picture["filepath"] / picture["filename"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(picture["imgid"]))
    return tmp_path / "coco"


def write(root: Path, pictures: list[Any], dataset: str = "coco") -> Path:
    file = root / "dataset_coco.json"
    content = json.dumps({"images": pictures, "dataset": dataset}, indent=1).replace("\n", "\r\n")
    file.write_bytes(b"\xef\xbb\xbf" + content.encode())
    return file


def test_restval_joins_train_and_captions_are_the_raw_ones(root: Path) -> None:
    corpus = load_coco(root, Reading(size=16, annotations=write(root, images())))
    ids = {split: [record.id for record in table.records] for split, table in corpus.splits.items()}
    assert ids == {
        "train": [
            "train2014/COCO_train2014_000000000001.jpg",
            "val2014/COCO_val2014_000000000002.jpg",
            "train2014/COCO_train2014_000000000005.jpg",
        ],
        "val": ["val2014/COCO_val2014_000000000003.jpg"],
        "test": ["val2014/COCO_val2014_000000000004.jpg", "val2014/COCO_val2014_000000000006.jpg"],
    }
    record = corpus.splits["val"].records[0]
    assert record.captions == ("A cat, number 3.", "Ein Käfer")
    assert record.cluster == record.id
    stored = (root / record.id).read_bytes()
    assert corpus.splits["val"].images.encoded_bytes(corpus.splits["val"].rows[0]) == stored  # type: ignore[attr-defined]


def test_objects_are_found_by_the_number_of_the_picture(root: Path) -> None:
    (root / "annotations").mkdir()
    content = {
        "images": [{"id": number, "width": 40, "height": 30} for number in (4, 6)],
        "categories": [{"id": 17, "name": "cat", "supercategory": "animal"}],
        "annotations": [{"id": 1, "image_id": 6, "category_id": 17, "area": 9.0, "iscrowd": 0}],
    }
    (root / "annotations" / "instances_val2014.json").write_text(json.dumps(content))
    corpus = load_coco(root, Reading(size=16, annotations=write(root, images())))
    assert corpus.splits["test"].attribute("objects").tolist() == ["", "cat"]
    assert corpus.objects == "objects"


def test_entries_that_name_nothing_to_use_are_left_out_and_counted(root: Path) -> None:
    bad = [
        entry(7, "test"),
        entry(8, "test", " "),
        entry(9, "testdev", "a cat"),
        {**entry(1, "test", "a cat"), "filepath": "../.."},
        {"split": "test"},
        "no entry",
        entry(4, "test", "the same picture again"),
        entry(99, "test", "a picture that is missing"),
    ]
    file = write(root, images() + bad)
    corpus = load_coco(root, Reading(size=16, annotations=file, skip_limit=0.6))
    assert sum(map(len, corpus.splits.values())) == 6
    assert corpus.skipped == {
        "pictures without a caption": 2,
        "pictures of no split of train, restval, val, test": 1,
        "entries without the name of a file": 3,
        "ids that were there before": 1,
        "pictures that are missing": 1,
        "total": 14,
    }
    with pytest.raises(CommandError, match=r"8 of 14 cannot be used, more than data\.skip_limit 0\.5"):
        load_coco(root, Reading(size=16, annotations=file, skip_limit=0.5))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "expected Karpathy's dataset_coco.json"),
        ('{"annotations": []}', "holds keys annotations; expected Karpathy's dataset_coco.json"),
        ('{"images": [], "dataset": "flickr30k"}', "holds dataset 'flickr30k'; expected .* dataset: coco"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    file = tmp_path / "dataset.json"
    file.write_text(content)
    with pytest.raises(CommandError, match=f"{file} .*{reason}"):
        read_karpathy(file, dataset="coco", skips=Skips())


def test_a_folder_of_pictures_that_is_missing_is_named(root: Path) -> None:
    (root / "val2014").rename(root / "val2017")
    with pytest.raises(UsageError, match=f"{root / 'val2014'} is missing"):
        load_coco(root, Reading(size=16, annotations=write(root, images())))
