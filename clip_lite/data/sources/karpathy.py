"""Karpathy's splits (Karpathy and Fei-Fei 2015): a JSON with captions and split of every picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from clip_lite.data.reading import Skips
from clip_lite.data.sources.label_files import json_object
from clip_lite.data.sources.listed import spoken, stays_inside
from clip_lite.errors import CommandError

SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}


class Karpathy(NamedTuple):
    """One picture: ``name`` is its path as the file gives it, ``number`` COCO's id where there is one."""

    name: str
    split: str
    captions: tuple[str, ...]
    number: int | None


def read_karpathy(file: Path, *, dataset: str, skips: Skips) -> list[Karpathy]:
    """The pictures of ``dataset_coco.json`` or ``dataset_flickr30k.json``, in its order.

    COCO's *restval*, the part of val2014 that is in neither val nor test, joins ``train``, as is usual. A
    picture without a caption, of another split, or without a file name is left out and counted.

    Args:
        file: the JSON.
        dataset: what its key ``dataset`` says: "coco", "flickr30k".
        skips: what is left out is added.

    Raises:
        CommandError: another file, or one of another data set.
    """
    expected = f"Karpathy's dataset_{dataset}.json with images and dataset: {dataset}"
    content = json_object(file, expected)
    if content.get("dataset", dataset) != dataset or not isinstance(content.get("images"), list):
        about = f"dataset {content['dataset']!r}" if "dataset" in content else f"keys {', '.join(content)}"
        raise CommandError(f"{file} holds {about}; expected {expected}")
    return list(_pictures(content["images"], skips))


def _pictures(images: list[Any], skips: Skips) -> Iterator[Karpathy]:
    for place, image in enumerate(images):
        own = image if isinstance(image, dict) else {}
        name = "/".join(str(own[key]) for key in ("filepath", "filename") if own.get(key))
        sentences = own.get("sentences")
        captions = spoken(
            sentence.get("raw")
            for sentence in (sentences if isinstance(sentences, list) else ())
            if isinstance(sentence, dict)
        )
        split = own.get("split")
        if not own.get("filename") or not stays_inside(name):
            skips.add("entries without the name of a file", f"images[{place}] {name}".rstrip())
        elif not isinstance(split, str) or split not in SPLITS:
            skips.add(f"pictures of no split of {', '.join(SPLITS)}", name)
        elif not captions:
            skips.add("pictures without a caption", name)
        else:
            number = own.get("cocoid")
            yield Karpathy(name, SPLITS[split], captions, number if isinstance(number, int) else None)
