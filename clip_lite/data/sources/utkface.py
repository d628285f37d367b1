"""UTKFace as it lies on disk: faces whose file names say age, gender and race."""

from __future__ import annotations

import re
from pathlib import Path

from clip_lite.data.pairs import Corpus, Record
from clip_lite.data.reading import About, Entry, Reading, Skips
from clip_lite.data.sources.label_files import labelled_corpus, three_ways
from clip_lite.errors import UsageError

ABOUT = About(
    title="UTKFace",
    layout="[age]_[gender]_[race]_[date&time].jpg, or .jpg.chip.jpg, in the folder, in UTKFace/ or in "
    "part1/ to part3/",
    url="https://susanqq.github.io/UTKFace/",
    licence="non-commercial research only; pictures belong to their owners, see the data set's page",
)
FOLDERS = ((".",), ("UTKFace",), ("part1", "part2", "part3"))
NAME = re.compile(r"(?P<age>\d{1,3})_(?P<gender>[01])_(?P<race>[0-4])_\d.*")
GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "Others")
BANDS = ((3, "0-2"), (10, "3-9"), *((top, f"{top - 10}-{top - 1}") for top in range(20, 71, 10)))
OLDEST = "more than 70"
LIMITS = (
    "Age, gender and race were guessed by a model and looked over by one annotator: nobody was asked. Some "
    "are wrong, and it is not known how many.",
    '"Asian" does not tell East from Southeast Asian, and "Others" is whoever fits no other of five words: '
    "the shipped attribute race, whose groups are FairFace's, counts neither.",
    "Faces collected on the web: not a sample of any population. The same person may be in several pictures, "
    "in different splits.",
)


def load_utkface(root: Path, reading: Reading) -> Corpus:
    """UTKFace in splits drawn by ``reading.seed``.

    Attributes are ``gender`` ("male", "female"), ``race`` ("White", "Black", "Asian", "Indian", "Others"),
    ``age_years`` as the name says it, and ``age``, FairFace's band of it ("20-29", "more than 70"). A file
    whose name lacks one of the three is left out and counted; the published set has a few. Source: Zhang,
    Song and Qi, CVPR 2017.

    Raises:
        UsageError: no such folder has a picture.
        CommandError: too many pictures cannot be used.
    """
    skips = Skips()
    entries = []
    for path in _files(root):
        if said := NAME.fullmatch(path.name):
            entries.append(Entry(path, Record(path.name, (), _attributes(said), path.name)))
        else:
            skips.add("files whose name does not say age, gender and race", path.name)
    return labelled_corpus(
        "utkface",
        ABOUT,
        three_ways(entries, reading),
        reading,
        skips,
        attribution="Zhang, Song and Qi: Age Progression/Regression by CAAE, CVPR 2017",
        limits=LIMITS,
    )


def band_of(age: int) -> str:
    """FairFace's band of an age in years."""
    return next((band for top, band in BANDS if age < top), OLDEST)


def _files(root: Path) -> list[Path]:
    """Pictures of the first of the layouts that has any, by name."""
    for folders in FOLDERS:
        files = [path for folder in folders for path in (root / folder).glob("*") if _is_picture(path)]
        if files:
            return sorted(files, key=lambda path: path.name)
    raise UsageError(f"data.root {root}: no picture in it; expected {ABOUT.layout}")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() == ".jpg" and not path.name.startswith(".")


def _attributes(said: re.Match[str]) -> dict[str, str]:
    age = int(said["age"])
    return {
        "age": band_of(age),
        "age_years": str(age),
        "gender": GENDERS[int(said["gender"])],
        "race": RACES[int(said["race"])],
    }
