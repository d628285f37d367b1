"""PHASE as it lies on disk: pictures of Google Conceptual Captions and JSON files about people in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clip_lite.data.pairs import Corpus, Record
from clip_lite.data.reading import About, Entry, Reading, Skips, with_val
from clip_lite.data.sources.label_files import json_object, labelled_corpus, needed
from clip_lite.errors import CommandError, UsageError

ABOUT = About(
    title="PHASE",
    layout="phase_gcc_train_regions_*.json, phase_gcc_val_regions_*.json, and the pictures, named as in "
    "these files, in train/ and val/ (or images/train/ and images/val/)",
    url="https://github.com/noagarcia/phase",
    licence="research only; pictures belong to their owners, see the data set's page",
)
EXPECTED = 'an object of pictures, each with "person1" and so on, of which each has "annotations"'
PERSON = re.compile(r"person\d+")
NAMES = {"ethnicity": "race", "skintone": "skin_tone"}  # others are called as in the files
ONE = "one_person"
LIMITS = (
    "Age, gender, skin tone, ethnicity, emotion and activity are what most of three crowd workers saw in a "
    'detected person; "disagreement" and "unsure" are no group. Nobody was asked.',
    "Pictures with exactly one annotated person are audited, and others may be in them that the detector "
    "missed or the workers were not shown.",
    "Captions are alt texts of the web that were cleaned by machine, and speak of the picture, not of the "
    "person.",
    'Ethnicity is kept under the name race, so that the attribute of that name finds it; "young" is from 15 '
    "to 29 years and belongs to no group of the shipped attribute age.",
)


def load_phase(root: Path, reading: Reading) -> Corpus:
    """PHASE: ``train``, ``val`` (a share of its training pictures) and ``test`` (its validation pictures).

    One pair for each picture, whole, with its caption where the files have captions. Where exactly one person
    is annotated, the picture is audited (``one_person`` is "yes") and has that person's labels as the file
    writes them: ``gender``, ``age``, ``skin_tone``, ``race`` (the file's ``ethnicity``), ``emotion``,
    ``activity``. Pictures with more people have no labels and serve retrieval. Source: Garcia, Hirota, Wu and
    Nakashima, CVPR 2023.

    Raises:
        UsageError: a file or a folder is missing.
        CommandError: a file has another form, or too many pictures cannot be used.
    """
    skips = Skips()
    content = {split: json_object(_file(root, split), EXPECTED) for split in ("train", "val")}
    captioned = any(_caption(said) for own in content.values() for said in own.values())
    train, test = (_listed(root, split, content[split], captioned, skips) for split in ("train", "val"))
    return labelled_corpus(
        "phase",
        ABOUT,
        {**with_val(train, reading), "test": test},
        reading,
        skips,
        attribution="Garcia, Hirota, Wu and Nakashima: Uncurated Image-Text Datasets, CVPR 2023",
        limits=LIMITS,
        audited=ONE,
        captioned=captioned,
    )


def _file(root: Path, split: str) -> Path:
    """The newest file of majority labels, in the folder or in one below it."""
    pattern = f"phase_gcc_{split}_regions_*.json"
    if files := [*root.glob(pattern), *root.glob(f"*/{pattern}")]:
        return max(files, key=lambda path: (path.name, str(path)))
    raise UsageError(f"data.root {root}: {pattern} is missing; expected {ABOUT.layout}")


def _listed(root: Path, split: str, content: Mapping[str, Any], captioned: bool, skips: Skips) -> list[Entry]:
    folder = needed(root, [split, f"images/{split}"], ABOUT)
    entries = []
    for name, said in content.items():
        people = _people(said, name)
        caption = _caption(said)
        if not people:
            skips.add("pictures without an annotated person", name)
        elif captioned and not caption:
            skips.add("pictures without a caption", name)
        else:
            labels = {ONE: "no"} if len(people) > 1 else {ONE: "yes", **_labels(people[0])}
            item = f"{split}/{name}"
            entries.append(Entry(folder / name, Record(item, (caption,) if caption else (), labels, item)))
    return entries


def _people(said: Any, name: str) -> list[Mapping[str, Any]]:
    """Annotations of the people of a picture, by their numbers.

    Raises:
        CommandError: they have another form, such as that of the files with every worker's answers.
    """
    people: list[Mapping[str, Any]] = []
    for key, person in said.items() if isinstance(said, dict) else ():
        if PERSON.fullmatch(key) and isinstance(person, dict) and "annotations" in person:
            if not isinstance(person["annotations"], dict):
                raise CommandError(
                    f"picture {name!r}: annotations of {key} are a {type(person['annotations']).__name__}, "
                    "expected an object of one answer each, as phase_gcc_*_regions_*.json has them"
                )
            people.append(person["annotations"])
    return people


def _caption(said: Any) -> str:
    return str(said.get("caption") or "").strip() if isinstance(said, dict) else ""


def _labels(annotations: Mapping[str, Any]) -> dict[str, str]:
    return {NAMES.get(key, key): str(value) for key, value in annotations.items() if value not in (None, "")}
