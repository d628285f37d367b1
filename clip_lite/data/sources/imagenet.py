"""ImageNet and its further test sets, or any pictures in a folder for each class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torchvision.datasets import ImageFolder

from clip_lite.data.pairs import Corpus, Record
from clip_lite.data.reading import About, Entry, Reading, Skips, with_val
from clip_lite.data.sources.label_files import labelled_corpus
from clip_lite.errors import CommandError, UsageError
from clip_lite.progress import say

if TYPE_CHECKING:
    from timm.data import ImageNetInfo

ABOUT = About(
    title="ImageNet (ILSVRC 2012), ImageNet-V2, ImageNet-A, or a folder of your own for each class",
    layout="train/CLASS/*.JPEG, val/CLASS/*.JPEG; besides these imagenetv2-*-format-val/, imagenet-a/",
    url="https://www.image-net.org/download.php",
    licence="non-commercial research only, pictures by their authors; see the data set's page",
)
CLASS = "class"
FURTHER = {"imagenet_v2": "imagenetv2-*-format-val", "imagenet_a": "imagenet-a"}
LIMITS = (
    "Every picture has one label, though many show more than one thing, and some labels are wrong (Beyer et "
    "al. 2020).",
    "Pictures were found on the web by search words and chosen by crowd workers: not a sample of any "
    "population. Nothing is known of the people in them: an audit of a protected attribute needs labels of "
    "your own.",
    "Zero-shot prompts name the first word of each class's WordNet synset, not the names that CLIP's authors "
    "chose: published figures with those are higher.",
    "ImageNet-A holds pictures that a ResNet-50 gets wrong, so it is no fair measure of that model.",
)


def load_imagenet(root: Path, reading: Reading) -> Corpus:
    """Pictures by class: ``train``, ``val`` (a share of train), ``test`` (the folder ``val``), and others.

    ImageNet-V2 and ImageNet-A, where they lie in the folder too, are the test splits ``imagenet_v2`` and
    ``imagenet_a``; of several variants of V2 each is a split with its name. Folders are named by WordNet
    synset ("n01440764"), or by anything else, which is then the class's name. Every picture is decoded once
    at first use, about half an hour of a core for all of ImageNet.

    Args:
        root: holds ``train/`` and ``val/``, each with a folder for every class.
        reading: how pictures are read.

    Raises:
        UsageError: one of these is missing, or has no folders.
        CommandError: a split without pictures, a folder of ImageNet-V2 that is no class number, or too many
            pictures that cannot be used.
    """
    further = _further(root)
    for part in ("train", "val"):
        if not (root / part).is_dir():
            also = f" besides {', '.join(folder.name for folder in further.values())}" if further else ""
            what = (
                "probes and leakage attacks are trained on it" if part == "train" else "it is the test split"
            )
            raise UsageError(f"data.root {root}: {part}/ is missing{also}: {what}; expected {ABOUT.layout}")
    folders = {"train": root / "train", "test": root / "val", **further}
    files = {split: _files(folder) for split, folder in folders.items()}
    names = _names({synset for own in files.values() for synset in own})
    listed = {split: _entries(folders[split], own, names) for split, own in files.items()}
    for split, entries in listed.items():
        if not entries:
            raise CommandError(f"{folders[split]} holds no picture; expected {ABOUT.layout}")
    for split in further:
        listed[split] = _seen(listed[split], files["train"], names, split)
    train = with_val(listed.pop("train"), reading)
    return labelled_corpus(
        "imagenet",
        ABOUT,
        {**train, **listed},
        reading,
        Skips(),
        attribution="Russakovsky et al. 2015; V2: Recht et al. 2019; A: Hendrycks et al. 2021",
        limits=LIMITS,
        classification=CLASS,
        role=CLASS,
    )


def _further(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for split, pattern in FURTHER.items():
        folders = sorted(folder for folder in root.glob(pattern) if folder.is_dir())
        for folder in folders:
            variant = folder.name.removeprefix("imagenetv2-").removesuffix("-format-val")
            found[split if len(folders) == 1 else f"{split}_{variant}"] = folder
    return found


def _files(folder: Path) -> dict[str, list[str]]:
    """Paths of the pictures by class: WordNet synset or name of the folder."""
    try:
        listed = ImageFolder(str(folder), allow_empty=True)
    except FileNotFoundError as error:
        raise UsageError(f"{folder} has no folders; expected one for each class: {ABOUT.layout}") from error
    files: dict[str, list[str]] = {name: [] for name in listed.classes}
    for path, place in listed.samples:
        files[listed.classes[place]].append(path)
    if not folder.name.startswith("imagenetv2-"):
        return files
    return {_synset(folder / number): own for number, own in files.items()}


def _synset(folder: Path) -> str:
    """The class that ImageNet-V2 has under a number: the place among the sorted synsets."""
    from timm.data import ImageNetInfo

    known = ImageNetInfo()
    numbers = {str(place): synset for place, synset in enumerate(known.label_names())}
    if folder.name not in numbers:
        raise CommandError(f"{folder} is no class of ImageNet-V2; expected folders 0 to {len(numbers) - 1}")
    return numbers[folder.name]


def _names(synsets: Iterable[str]) -> dict[str, str]:
    """A name for people for each class: the synset's first word, with its meaning where two share it."""
    from timm.data import ImageNetInfo

    known = ImageNetInfo()
    first = Counter(_first_word(known, synset) for synset in known.label_names())
    names = {}
    for synset in sorted(synsets):
        try:
            names[synset] = _first_word(known, synset)
            detail = known.label_name_to_description(synset, detailed=True)
        except KeyError:
            names[synset] = synset
            continue
        if first[names[synset]] > 1:
            meaning = detail.partition(": ")[2].partition(";")[0]
            names[synset] = f"{names[synset]} ({meaning})"
    taken = Counter(names.values())
    return {synset: name if taken[name] == 1 else f"{name} ({synset})" for synset, name in names.items()}


def _first_word(known: ImageNetInfo, synset: str) -> str:
    return known.label_name_to_description(synset).partition(",")[0].strip()


def _entries(folder: Path, files: Mapping[str, list[str]], names: Mapping[str, str]) -> list[Entry]:
    start = len(str(folder)) + 1
    entries = []
    for synset, own in files.items():
        attributes = {CLASS: names[synset]}  # one for all, for there may be a million
        for path in own:
            name = f"{folder.name}/{path[start:].replace(os.sep, '/')}"
            entries.append(Entry(Path(path), Record(name, (), attributes, name)))
    return entries


def _seen(
    entries: list[Entry], train: Mapping[str, list[str]], names: Mapping[str, str], split: str
) -> list[Entry]:
    """The pictures of classes that train shows: of others no probe could know anything."""
    classes = {names[synset] for synset, own in train.items() if own}
    kept = [entry for entry in entries if entry.record.attributes[CLASS] in classes]
    if len(kept) < len(entries):
        say(f"imagenet: {split}: {len(entries) - len(kept):,} pictures of classes not in train are not used")
    return kept
