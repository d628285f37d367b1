"""A corpus as a COCO Captions folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from clip_lite.data.pairs import Corpus, PairTable, Record
from clip_lite.data.shard_writer import encoded_picture, picture_ending
from clip_lite.progress import track

YEAR = "2017"
SPLITS = {"train": "train", "val": "train", "test": "val"}  # COCO knows no third split of its own


def write_coco(corpus: Corpus, out: Path) -> None:
    """``annotations/captions_*2017.json`` and picture folders; train and val together are COCO's train.

    Pictures are written as they are stored. Attributes, clusters and ids that COCO has no place for are
    further keys of an image's entry, which ``load_coco`` reads and other readers pass over.
    """
    names = {split: SPLITS.get(split, split) for split in corpus.splits}
    for name in dict.fromkeys(names.values()):
        tables = [corpus.splits[split] for split, own in names.items() if own == name]
        _write_split(tables, out, f"{name}{YEAR}")


def _write_split(tables: list[PairTable], out: Path, split: str) -> None:
    folder, annotations = out / split, out / "annotations"
    folder.mkdir(parents=True)
    annotations.mkdir(exist_ok=True)
    written: dict[str, Record] = {}
    pairs = [(table, place) for table in tables for place in range(len(table))]
    for table, place in track(pairs, f"writing {split}", len(pairs)):
        record, encoded = table.records[place], encoded_picture(table, place)
        name = _file_name(record, split, picture_ending(encoded, record.id))
        with (folder / name).open("xb") as file:
            file.write(encoded)
        written[name] = record
    images = [
        {"id": number, "file_name": name, **_extra(written[name], f"{split}/{name}")}
        for number, name in sorted(zip(_numbers(list(written)), written, strict=True))
    ]
    captions = [
        {"image_id": image["id"], "caption": text}
        for image in images
        for text in written[image["file_name"]].captions
    ]
    content = {"images": images, "annotations": [{"id": i, **c} for i, c in enumerate(captions, start=1)]}
    target = annotations / f"captions_{split}.json"
    target.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _numbers(names: list[str]) -> list[int]:
    """The numbers that COCO's file names are, else 1, 2, 3 ..."""
    stems = [name.partition(".")[0] for name in names]
    if all(re.fullmatch("[0-9]+", stem) for stem in stems) and len(set(map(int, stems))) == len(stems):
        return [int(stem) for stem in stems]
    return list(range(1, len(names) + 1))


def _file_name(record: Record, split: str, ending: str) -> str:
    """The name that COCO gave it, or one made of its id."""
    folder, _, name = record.id.rpartition("/")
    if folder == split and re.fullmatch(r"[\w-]+\.\w+", name):
        return name
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', record.id)}.{ending}"


def _extra(record: Record, name: str) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if record.id != name:
        extra["pair_id"] = record.id
    if record.cluster != record.id:
        extra["cluster"] = record.cluster
    if record.attributes:
        extra["attributes"] = dict(record.attributes)
    return extra
