"""FairFace as it lies on disk: two CSV files of labels and faces in ``train/`` and ``val/``."""

from __future__ import annotations

from pathlib import Path

from clip_lite.data.pairs import Corpus, Record
from clip_lite.data.reading import About, Entry, Reading, Skips, with_val
from clip_lite.data.sources.label_files import labelled_corpus, needed, rows_of, said

ABOUT = About(
    title="FairFace",
    layout="fairface_label_train.csv, fairface_label_val.csv, train/ and val/ (or both of these in "
    "fairface-img-margin025-trainval/ or fairface-img-margin125-trainval/)",
    url="https://github.com/joojs/fairface",
    licence="CC BY 4.0",
)
PICTURES = ("", "fairface-img-margin025-trainval/", "fairface-img-margin125-trainval/")
COLUMNS = ("file", "age", "gender", "race", "service_test")
LIMITS = (
    "Age, gender and race are what crowd workers saw in a cropped face, three for each, of fixed lists with "
    "two genders and seven races: nobody was asked who they are.",
    "Faces were cut out of Flickr photographs and chosen so that the seven races are about equally frequent: "
    "not a sample of any population.",
    "What is found on faces need not hold for whole photographs.",
)


def load_fairface(root: Path, reading: Reading) -> Corpus:
    """FairFace: ``train``, ``val`` (a share of its training faces) and ``test`` (its validation faces).

    Attributes are ``age``, ``gender``, ``race`` and ``service_test`` as the files write them: "more than 70",
    "Male", "Latino_Hispanic", "True". Source: Karkkainen and Joo, WACV 2021.

    Raises:
        UsageError: a file or a folder is missing.
        CommandError: a file of labels has not these columns, or too many faces cannot be used.
    """
    skips = Skips()
    train, test = (_listed(root, split, skips) for split in ("train", "val"))
    return labelled_corpus(
        "fairface",
        ABOUT,
        {**with_val(train, reading), "test": test},
        reading,
        skips,
        attribution="Karkkainen and Joo: FairFace, WACV 2021; pictures of YFCC-100M by their Flickr authors",
        limits=LIMITS,
    )


def _listed(root: Path, split: str, skips: Skips) -> list[Entry]:
    """The faces of a file of labels, whose names begin with the folder they are in: "train/1.jpg"."""
    file = needed(root, [f"fairface_label_{split}.csv"], ABOUT)
    folder = needed(root, [f"{pictures}{split}" for pictures in PICTURES], ABOUT).parent
    entries = []
    for number, row in enumerate(rows_of(file, COLUMNS, skips), start=1):
        if name := row.pop("file"):
            entries.append(Entry(folder / name, Record(name, (), said(**row), name)))
        else:
            skips.add("rows that name no picture", f"{file.name} row {number}")
    return entries
