"""Zhao et al.'s labels of people in COCO's validation pictures of 2014, beside these and their captions."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from clip_lite.data.pairs import Corpus, Record
from clip_lite.data.reading import About, Entry, Reading, Skips
from clip_lite.data.sources.label_files import json_object, labelled_corpus, needed, rows_of, said, three_ways
from clip_lite.data.sources.listed import spoken
from clip_lite.errors import CommandError

ABOUT = About(
    title="COCO with gender and skin tone",
    layout="images_val2014.csv, annotations/captions_val2014.json and val2014/",
    url="https://princetonvisualai.github.io/imagecaptioning-bias/",
    licence="labels on request to their authors; COCO's captions CC BY 4.0; pictures under Flickr licences, "
    "each its own",
)
COLUMNS = ("id", "bb_gender", "bb_skin")
EXPECTED = "images with id and file_name, annotations with image_id and caption"
LIMITS = (
    "Gender and skin tone are what workers of Amazon Mechanical Turk saw, from two genders and "
    'Fitzpatrick\'s six types, of which 1 to 3 are "Light" and 4 to 6 "Dark": nobody was asked.',
    "A picture's labels are collapsed from those of the people marked in it; others may be in it, and "
    "captions may speak of them.",
    "Photographs from Flickr, most of light-skinned people and of men: not a sample of any population.",
    "Five captions of a picture are not independent; intervals resample pictures.",
)


def load_coco_gender(root: Path, reading: Reading) -> Corpus:
    """The labelled pictures of COCO's val2014 with their captions, in splits drawn by ``reading.seed``.

    Attributes are ``gender`` and ``skin_tone``, the file's ``bb_gender`` and ``bb_skin``, as it writes them:
    "Male", "Female", "Light", "Dark", and others such as "Unsure", which are no group. Source: Zhao, Wang and
    Russakovsky, ICCV 2021.

    Args:
        reading: ``annotations`` stands in for ``images_val2014.csv``.

    Raises:
        UsageError: a file or the folder of pictures is missing.
        CommandError: a file has another form, or too many pictures cannot be used.
    """
    skips = Skips()
    names = ["images_val2014.csv", "annotations/images_val2014.csv"]
    file = reading.annotations or needed(root, names, ABOUT)
    folder = needed(root, ["val2014", "images/val2014"], ABOUT)
    captions_file = needed(root, ["annotations/captions_val2014.json", "captions_val2014.json"], ABOUT)
    name_of, captions_of = _captions(captions_file)
    entries = []
    for row in rows_of(file, COLUMNS, skips):
        number = row["id"]
        if number not in name_of:
            skips.add(f"ids that {captions_file.name} does not know", number or "an empty one")
        elif not captions_of[number]:
            skips.add("pictures without a caption", name_of[number])
        else:
            item = f"val2014/{name_of[number]}"
            labels = said(gender=row["bb_gender"], skin_tone=row["bb_skin"])
            entries.append(Entry(folder / name_of[number], Record(item, captions_of[number], labels, item)))
    return labelled_corpus(
        "coco_gender",
        ABOUT,
        three_ways(entries, reading),
        reading,
        skips,
        attribution="Zhao, Wang and Russakovsky: Racial Biases in Image Captioning, ICCV 2021; COCO "
        "Consortium; pictures by their Flickr authors",
        limits=LIMITS,
        captioned=True,
    )


def _captions(file: Path) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """File name and captions of each picture by its number; an empty caption is none.

    Raises:
        CommandError: it is no such file of COCO's.
    """
    content = json_object(file, EXPECTED)
    captions: dict[str, list[Any]] = defaultdict(list)
    try:
        names = {str(image["id"]): str(image["file_name"]) for image in content["images"]}
        for annotation in content["annotations"]:
            captions[str(annotation["image_id"])].append(annotation["caption"])
    except (KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CommandError(f"{file} holds no COCO captions ({reason}); expected {EXPECTED}") from error
    return names, {number: spoken(captions[number]) for number in names}
