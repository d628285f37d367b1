"""COCO Captions as it lies on disk: folders of JPEGs, and JSONs of captions and instances for each split."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from clip_lite.data.pairs import Corpus, Flag, Record, plain_attributes
from clip_lite.data.reading import About, Entry, Reading, Skips, assemble
from clip_lite.data.sources.coco_instances import Instances, read_instances
from clip_lite.data.sources.karpathy import read_karpathy
from clip_lite.data.sources.label_files import json_object
from clip_lite.data.sources.listed import complete, names_split, spoken
from clip_lite.errors import CommandError, UsageError

ABOUT = About(
    "COCO Captions",
    "annotations/captions_{train,val}2017.json, train2017/, val2017/ (or 2014); instances_*.json if there",
    "https://cocodataset.org",
    "annotations CC-BY 4.0; pictures under the terms of their Flickr authors",
)
YEARS = ("2017", "2014")
OBJECTS = "objects"
EXPECTED = "images with id and file_name, annotations with image_id and caption"
LIMITS = (
    "Groups are read from captions: what an annotator saw fit to mention, as perceived. Label noise of "
    "20-30% has been reported.",
    "Photographs from Flickr, captioned by crowd workers in English: not a sample of any population.",
    "Five captions of a picture are not independent; intervals resample pictures.",
    "Objects and people are those that annotators outlined: crowds, and what is none of the categories, are "
    "not counted.",
)


class _Listing(NamedTuple):
    """Entries by split, and what the annotation files say besides."""

    splits: dict[str, list[Entry]]
    version: str
    licences: str
    left_out: int


def load_coco(root: Path, reading: Reading) -> Corpus:
    """COCO Captions with splits ``train``, ``val`` (a share of train's pictures) and ``test`` (COCO's val).

    ``reading.annotations`` may be Karpathy's ``dataset_coco.json``, whose splits are then taken: train and
    restval, val, test. A picture's own key ``split``, as ``write_coco`` leaves it, stands above its file's.
    Pictures come by id, or in the order of Karpathy's file.

    Attributes are those that the file gives a picture and, where ``annotations/instances_*.json`` is there,
    those of ``read_instances``: ``objects``, ``objects_unsure``, ``people``, ``person_share``.

    Args:
        root: folder with ``annotations/captions_{train,val}2017.json`` (or 2014) and ``train2017/``,
            ``val2017/``; further ``captions_NAME2017.json`` with a folder ``NAME2017/`` are test splits.
        reading: how pictures are read.

    Raises:
        UsageError: something of the layout is missing.
        CommandError: a JSON that holds no COCO captions, none of its pictures has one, or too many are left
            out.
    """
    skips = Skips()
    listing = (
        _by_karpathy(root, reading.annotations, reading, skips)
        if reading.annotations
        else _by_file(root, reading, skips)
    )
    listed = complete(listing.splits, reading, skips, source="coco")
    total = sum(map(len, listed.values())) + len(skips)
    with_objects = any(OBJECTS in entry.record.attributes for own in listed.values() for entry in own)
    splits = assemble(listed, reading, skips, source="coco")
    source: dict[str, Any] = {
        "name": f"COCO Captions {listing.version}",
        "version": listing.version,
        "licence": listing.licences or "per picture, see the annotation file",
        "url": ABOUT.url,
        "attribution": "COCO Consortium: annotations CC-BY 4.0; pictures by their Flickr authors",
        "pictures": sum(map(len, splits.values())),
    }
    if listing.left_out:
        source["instances_left_out"] = listing.left_out
    return Corpus(
        name="coco",
        splits=splits,
        sources=(source,),
        limits=LIMITS,
        audited=Flag(None),
        canonical=Flag(None),
        objects=OBJECTS if with_objects else None,
        skipped=skips.counts(total),
    )


def _by_file(root: Path, reading: Reading, skips: Skips) -> _Listing:
    """Splits as the annotation files have them, train and val first."""
    year = _year(root)
    usual = {f"train{year}": "train", f"val{year}": "test"}
    further = (
        path.stem.removeprefix("captions_")
        for path in sorted((root / "annotations").glob(f"captions_?*{year}.json"))
    )
    usual |= {
        name: name.removesuffix(year) for name in further if name not in usual and (root / name).is_dir()
    }
    splits: dict[str, list[Entry]] = {split: [] for split in usual.values()}
    licences: set[str] = set()
    left_out = 0
    for name, split in usual.items():
        dataset, captions = _captions(root, name)
        instances = _instances(root, name, reading)
        left_out += instances.left_out
        licences |= {str(item["name"]) for item in dataset.get("licenses") or () if "name" in item}
        for own, entry in _entries(dataset["images"], captions, root / name, instances, skips):
            splits.setdefault(own or split, []).append(entry)
    return _Listing(splits, year, "; ".join(sorted(licences)), left_out)


def _by_karpathy(root: Path, file: Path, reading: Reading, skips: Skips) -> _Listing:
    """Karpathy's splits of COCO 2014."""
    pictures = read_karpathy(file, dataset="coco", skips=skips)
    folders = sorted({picture.name.rpartition("/")[0] for picture in pictures})
    if missing := [name for name in folders if not (root / name).is_dir()]:
        raise UsageError(
            f"data.root {root}: {root / missing[0]} is missing; expected the pictures that {file} lists"
        )
    instances = {name: _instances(root, name, reading) for name in folders}
    splits: dict[str, list[Entry]] = defaultdict(list)
    for picture in pictures:
        attributes = instances[picture.name.rpartition("/")[0]].attributes.get(picture.number, {})
        record = Record(picture.name, picture.captions, attributes, picture.name)
        splits[picture.split].append(Entry(root / picture.name, record))
    left_out = sum(own.left_out for own in instances.values())
    return _Listing(splits, "2014, Karpathy's splits", "", left_out)


def _year(root: Path) -> str:
    for year in YEARS:
        if (root / "annotations" / f"captions_train{year}.json").is_file():
            return year
    wanted = root / "annotations" / f"captions_train{YEARS[0]}.json"
    raise UsageError(
        f"data.root {root}: {wanted} is missing; expected COCO's annotations/ and picture folders"
    )


def _instances(root: Path, name: str, reading: Reading) -> Instances:
    file = root / "annotations" / f"instances_{name}.json"
    return read_instances(file, skip_limit=reading.skip_limit) if file.is_file() else Instances({}, 0)


def _entries(
    images: list[dict[str, Any]],
    captions: dict[Any, tuple[str, ...]],
    folder: Path,
    instances: Instances,
    skips: Skips,
) -> Iterator[tuple[str | None, Entry]]:
    """The split that a picture names itself, and the picture, by id; those without a caption are left out."""
    for image in sorted(images, key=lambda image: image["id"]):
        name = f"{folder.name}/{image['file_name']}"
        if own := captions.get(image["id"]):
            pair = str(image.get("pair_id") or name)
            attributes = {**instances.attributes.get(image["id"], {}), **plain_attributes(image)}
            record = Record(pair, own, attributes, str(image.get("cluster") or pair))
            yield image.get("split"), Entry(folder / image["file_name"], record)
        else:
            skips.add("pictures without a caption", name)


def _captions(root: Path, name: str) -> tuple[dict[str, Any], dict[Any, tuple[str, ...]]]:
    """The content of a file of captions, and the captions by the id of their picture, in its order."""
    file, folder = root / "annotations" / f"captions_{name}.json", root / name
    for path, there in ((file, file.is_file()), (folder, folder.is_dir())):
        if not there:
            raise UsageError(f"data.root {root}: {path} is missing; expected COCO's annotations/ and {name}/")
    content = json_object(file, f"COCO captions: {EXPECTED}")
    try:
        index = _indexed(content)
        sorted(image["id"] for image in content["images"])
        for image in content["images"]:
            if Path(image["file_name"]).name != image["file_name"]:
                raise ValueError(f"file_name {image['file_name']!r} is no plain name")
            if not names_split(image.get("split", "train")):
                raise ValueError(f"split {image['split']!r} is no plain name")
        captions = {
            number: own
            for number, annotations in index.imgToAnns.items()
            if (own := spoken(annotation["caption"] for annotation in annotations))
        }
        if "annotations" not in content:
            raise KeyError("annotations")
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(
            f"{file} holds no COCO captions ({type(error).__name__}: {error}); expected {EXPECTED}"
        ) from error
    if not captions:
        raise CommandError(f"{file}: no picture has a caption")
    return content, captions


def _indexed(content: dict[str, Any]) -> Any:
    """pycocotools' index; it prints as it makes one."""
    from pycocotools.coco import COCO

    index = COCO()
    index.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        index.createIndex()
    return index
