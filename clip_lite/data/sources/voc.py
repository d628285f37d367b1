"""Pascal VOC, as it lies in VOCdevkit: pictures with all the classes that they show."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from clip_lite.data.pairs import Corpus, Record
from clip_lite.data.reading import About, Entry, Reading, Skips, with_val
from clip_lite.data.sources.label_files import labelled_corpus, needed
from clip_lite.data.sources.listed import lines_of
from clip_lite.errors import CommandError, UsageError

ABOUT = About(
    title="Pascal VOC: photographs with every object of 20 classes marked",
    layout="VOCdevkit/VOC2007 or VOC2012 with ImageSets/Main/*.txt, Annotations/*.xml, JPEGImages/*.jpg",
    url="http://host.robots.ox.ac.uk/pascal/VOC/",
    licence="pictures under Flickr's terms of use; see the data set's page",
)
OBJECTS = "objects"
LATER = re.compile(r"20(08|09|10|11|12)$")  # years whose test labels were never published
LIMITS = (
    "Classes are what annotators marked in photographs from Flickr: not a sample of any population.",
    "A class of which all objects are difficult to see is a negative when probes are trained, and neither "
    "right nor wrong in a test.",
    "Nothing is known of the people in the pictures: an audit of a protected attribute needs labels of your "
    "own.",
)


def load_voc(root: Path, reading: Reading) -> Corpus:
    """Pascal VOC with splits ``train``, ``val`` and ``test``.

    2007: ``trainval.txt`` is train, a share of it val, and ``test.txt`` is test. Of later years, or where
    ``test.txt`` is not there, ``train.txt`` is train and val, and ``val.txt`` is test. The attribute
    ``objects`` holds classes, joined by ``;``, of which one object at least is not difficult,
    ``objects_unsure`` those of which all are (Everingham et al. 2010).

    Args:
        root: ``VOC2007``, ``VOC2012`` or another year's folder, or one that holds ``VOCdevkit`` or that.
        reading: how pictures are read.

    Raises:
        UsageError: something of the layout is missing, or there are two years.
        CommandError: a list of pictures that is empty, or too many pictures that cannot be used.
    """
    year, skips = _year(root), Skips()
    lists = year / "ImageSets" / "Main"
    published = (lists / "test.txt").is_file() and not LATER.search(year.resolve().name)
    names = ("trainval", "test") if published else ("train", "val")
    train, test = (_entries(year, needed(lists, [f"{name}.txt"], ABOUT), skips) for name in names)
    return labelled_corpus(
        "voc",
        ABOUT,
        {**with_val(train, reading), "test": test},
        reading,
        skips,
        attribution="Everingham, Van Gool, Williams, Winn and Zisserman; pictures by their authors on Flickr",
        limits=(f"{year.resolve().name}: {names[0]} is train and val, {names[1]} is test.", *LIMITS),
        objects=OBJECTS,
    )


def _year(root: Path) -> Path:
    """The folder of one year."""
    for folder in (root, root / "VOCdevkit"):
        if (folder / "ImageSets" / "Main").is_dir():
            return folder
        years = sorted(path for path in folder.glob("VOC20*") if (path / "ImageSets" / "Main").is_dir())
        if len(years) > 1:
            found = ", ".join(path.name for path in years)
            raise UsageError(f"data.root {root} holds {found}: name one, --data.root {years[0]}")
        if years:
            return years[0]
    raise UsageError(f"data.root {root} holds no Pascal VOC; expected {ABOUT.layout}")


def _entries(year: Path, file: Path, skips: Skips) -> list[Entry]:
    """The pictures that a list names, with their classes."""
    names = [line.split()[0] for line in lines_of(file) if line.strip()]
    if not names:
        raise CommandError(f"{file} names no picture; expected one name, without .jpg, on each line")
    entries = []
    for name in names:
        if Path(name).name != name:
            skips.add("names that are no plain name", f"{file.name}: {name}")
            continue
        annotation = year / "Annotations" / f"{name}.xml"
        try:
            attributes = _classes(annotation)
        except FileNotFoundError:
            skips.add("annotations that are missing", annotation)
        except (OSError, ValueError, ElementTree.ParseError) as error:
            skips.add(f"annotations that cannot be read ({error})", annotation)
        else:
            picture = f"JPEGImages/{name}.jpg"
            entries.append(Entry(year / picture, Record(picture, (), attributes, picture)))
    return entries


def _classes(annotation: Path) -> dict[str, str]:
    """Sure and unsure classes of a picture.

    Raises:
        ValueError: another kind of XML, or one that declares entities, which could unfold without end.
    """
    text = annotation.read_text(encoding="utf-8-sig")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("a document type is declared")
    objects = ElementTree.fromstring(text)
    if objects.tag != "annotation":
        raise ValueError(f"<{objects.tag}> where <annotation> is expected")
    sure, every = set(), set()
    for thing in objects.findall("object"):
        name = (thing.findtext("name") or "").strip()
        if not name or ";" in name:
            raise ValueError("an object without a name")
        every.add(name)
        if (thing.findtext("difficult") or "0").strip() != "1":
            sure.add(name)
    return {OBJECTS: ";".join(sorted(sure)), f"{OBJECTS}_unsure": ";".join(sorted(every - sure))}
