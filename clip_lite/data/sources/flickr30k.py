"""Flickr30k as it lies on disk: a folder of JPEGs and a text file of five captions each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from clip_lite.data.pairs import Corpus, Record
from clip_lite.data.reading import About, Entry, Reading, Skips
from clip_lite.data.sources.karpathy import read_karpathy
from clip_lite.data.sources.label_files import labelled_corpus, needed
from clip_lite.data.sources.listed import complete, lines_of, spoken, stays_inside

ABOUT = About(
    "Flickr30k",
    "flickr30k-images/*.jpg, results_20130124.token or results.csv",
    "https://shannon.cs.illinois.edu/DenotationGraph/",
    "research and education only; pictures under the terms of their Flickr authors, see the data set's page",
)
FOLDERS = ("flickr30k-images", "flickr30k_images")
CAPTIONS = ("results_20130124.token", "results.csv")
LIMITS = (
    "Groups are read from captions: what a crowd worker saw fit to mention, as perceived.",
    "Photographs of people and animals in action, from Flickr, captioned in English: not a sample of any "
    "population.",
    "Five captions of a picture are not independent; intervals resample pictures.",
)


def load_flickr30k(root: Path, reading: Reading) -> Corpus:
    """Flickr30k with splits ``train``, ``val`` and ``test``.

    ``reading.annotations`` may be Karpathy's ``dataset_flickr30k.json`` (1,000 pictures each for val and
    test), from which splits and captions are then taken; else pictures are divided by ``reading.seed``.

    Args:
        root: folder with ``flickr30k-images/`` or ``flickr30k_images/`` and, without Karpathy's file,
            ``results_20130124.token`` or ``results.csv``.
        reading: how pictures are read.

    Raises:
        UsageError: something of the layout is missing.
        CommandError: a file that is not what it should be, or too much is left out.
    """
    skips = Skips()
    pictures = needed(root, FOLDERS, ABOUT)
    listed: dict[str, list[Entry]] = defaultdict(list)
    if reading.annotations:
        for picture in read_karpathy(reading.annotations, dataset="flickr30k", skips=skips):
            listed[picture.split].append(_entry(pictures, picture.name, picture.captions))
    else:
        file = needed(root, CAPTIONS, ABOUT)
        for name, captions in _captions(file, skips).items():
            listed["train"].append(_entry(pictures, name, captions))
    return labelled_corpus(
        "flickr30k",
        ABOUT,
        complete(listed, reading, skips, source="flickr30k"),
        reading,
        skips,
        attribution="Young, Lai, Hodosh and Hockenmaier 2014; pictures by their Flickr authors",
        limits=LIMITS,
        captioned=True,
    )


def _entry(pictures: Path, name: str, captions: tuple[str, ...]) -> Entry:
    return Entry(pictures / name, Record(name, captions, {}, name))


def _captions(file: Path, skips: Skips) -> dict[str, tuple[str, ...]]:
    """Captions by the name of their picture, in the file's order; pictures without any are left out."""
    texts: dict[str, list[str]] = {}
    for name, text in _rows(file, skips):
        texts.setdefault(name, []).append(text)
    captions = {name: spoken(own) for name, own in texts.items()}
    for name in (name for name, own in captions.items() if not own):
        skips.add("pictures without a caption", name)
    return {name: own for name, own in captions.items() if own}


def _rows(file: Path, skips: Skips) -> Iterator[tuple[str, str]]:
    """Name and caption of every line: ``NAME#0<tab>caption``, or ``NAME| 0| caption`` after a header.

    A line without its separators is left out and counted: the published CSV has one.
    """
    table = file.suffix == ".csv"
    for place, line in enumerate(lines_of(file), start=1):
        if not line.strip() or (table and place == 1 and line.startswith("image_name")):
            continue
        head, number, text = _parts(line) if table else _token(line)
        if number.isdigit() and stays_inside(head):
            yield head, text
        else:
            skips.add(f"lines of {file.name} without picture, number and caption", f"line {place}")


def _parts(line: str) -> tuple[str, str, str]:
    name, number, text = [*(part.strip() for part in line.split("|", 2)), "", ""][:3]
    return name, number, text


def _token(line: str) -> tuple[str, str, str]:
    head, _, text = line.partition("\t")
    name, _, number = head.strip().rpartition("#")
    return name, number, text
