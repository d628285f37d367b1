"""A corpus as a COCO folder: captions, and the class of each picture as an instance."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from clip_lite.data.encoded import FORMATS
from clip_lite.data.pairs import Corpus, PairTable, Record
from clip_lite.data.shard_writer import encoded_picture, picture_ending
from clip_lite.progress import track

YEAR = "2017"
LONGEST = 100  # characters of an id that go into the name of a file
SPLITS = {"train": "train", "val": "train", "test": "val"}  # COCO knows no third split of its own


class _Written(NamedTuple):
    """A picture that lies in its folder; ``size`` is its width and height."""

    record: Record
    split: str
    name: str
    size: tuple[int, int]


def write_coco(corpus: Corpus, out: Path) -> None:
    """``annotations/captions_*2017.json`` and picture folders; train and val together are COCO's train.

    Pictures are written as they are stored. Attributes, clusters, ids and splits that COCO has no place for
    are further keys of an image's entry, which ``load_coco`` reads and other readers pass over.

    Where the corpus has classes, ``annotations/instances_*2017.json`` has one annotation for each picture
    that has one: the class as its category, the whole picture as box and polygon.
    """
    names = {split: SPLITS.get(split, split) for split in corpus.splits}
    classes = _classes(corpus)
    for name in dict.fromkeys(names.values()):
        tables = {split: corpus.splits[split] for split, own in names.items() if own == name}
        folder = f"{name}{YEAR}"
        written = _write_pictures(tables, out / folder)
        images = _images(written, folder)
        _write_json(out / "annotations" / f"captions_{folder}.json", images, _captions(written, images))
        if corpus.classification:
            instances = _instances(written, images, corpus.classification, classes)
            about = {"categories": _categories(classes, corpus.classification)}
            _write_json(out / "annotations" / f"instances_{folder}.json", images, instances, **about)


def _write_pictures(tables: dict[str, PairTable], folder: Path) -> list[_Written]:
    """Write the pictures of some splits; returns them in the order of their numbers."""
    folder.mkdir(parents=True)
    written: dict[str, _Written] = {}
    pairs = [(split, table, place) for split, table in tables.items() for place in range(len(table))]
    for split, table, place in track(pairs, f"writing {folder.name}", len(pairs)):
        record, encoded = table.records[place], encoded_picture(table, place)
        name = _file_name(record, folder.name, picture_ending(encoded, record.id), written)
        with (folder / name).open("xb") as file:
            file.write(encoded)
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            written[name] = _Written(record, split, name, image.size)
    return list(written.values())


def _file_name(record: Record, folder: str, ending: str, taken: Iterable[str]) -> str:
    """The name that COCO gave it, or one made of its id; another one where that is taken."""
    own, _, name = record.id.rpartition("/")
    if not (own == folder and re.fullmatch(r"[\w-]+\.\w+", name)):
        name = f"{re.sub(r'[^A-Za-z0-9_-]+', '_', record.id)[-LONGEST:]}.{ending}"
    stem, _, suffix = name.rpartition(".")
    again = 1
    while name in taken:
        again += 1
        name = f"{stem}-{again}.{suffix}"
    return name


def _images(written: list[_Written], folder: str) -> list[dict[str, Any]]:
    numbers = _numbers(written, folder)
    return [
        {
            "id": number,
            "file_name": own.name,
            "width": own.size[0],
            "height": own.size[1],
            "split": own.split,
            **_extra(own.record, f"{folder}/{own.name}"),
        }
        for number, own in zip(numbers, written, strict=True)
    ]


def _numbers(written: list[_Written], folder: str) -> list[int]:
    """The numbers that COCO's file names are, else 1, 2, 3 ..., which keep the order of the pictures."""
    stems = [own.name.partition(".")[0] for own in written]
    named_by_coco = all(own.record.id == f"{folder}/{own.name}" for own in written)
    if named_by_coco and all(re.fullmatch("[0-9]+", stem) for stem in stems):
        numbers = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers):
            return numbers
    return list(range(1, len(written) + 1))


def _extra(record: Record, name: str) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if record.id != name:
        extra["pair_id"] = record.id
    if record.cluster != record.id:
        extra["cluster"] = record.cluster
    if record.attributes:
        extra["attributes"] = dict(record.attributes)
    return extra


def _captions(written: list[_Written], images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"image_id": image["id"], "caption": text}
        for image, own in zip(images, written, strict=True)
        for text in own.record.captions
    ]


def _class(record: Record, attribute: str) -> str | None:
    name = record.attributes.get(attribute)
    return name if name and name != "none" else None


def _classes(corpus: Corpus) -> dict[str, int]:
    """The number of each class, in the order of their names, the same in every split."""
    if not corpus.classification:
        return {}
    records = (record for table in corpus.splits.values() for record in table.records)
    names = {_class(record, corpus.classification) for record in records} - {None}
    return {str(name): number for number, name in enumerate(sorted(map(str, names)), start=1)}


def _categories(classes: dict[str, int], attribute: str) -> list[dict[str, Any]]:
    return [{"id": number, "name": name, "supercategory": attribute} for name, number in classes.items()]


def _instances(
    written: list[_Written], images: list[dict[str, Any]], attribute: str, classes: dict[str, int]
) -> list[dict[str, Any]]:
    """One annotation of the whole picture for each that has a class."""
    annotations = []
    for image, own in zip(images, written, strict=True):
        if name := _class(own.record, attribute):
            width, height = own.size
            annotations.append(
                {
                    "image_id": image["id"],
                    "category_id": classes[name],
                    "bbox": [0, 0, width, height],
                    "segmentation": [[0, 0, width, 0, width, height, 0, height]],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
    return annotations


def _write_json(
    target: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]], **further: Any
) -> None:
    """Images and annotations by number."""
    by_number = sorted(annotations, key=lambda annotation: annotation["image_id"])
    content = {
        "images": sorted(images, key=lambda image: image["id"]),
        "annotations": [{"id": number, **own} for number, own in enumerate(by_number, start=1)],
        **further,
    }
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
