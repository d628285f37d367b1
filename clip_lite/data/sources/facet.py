"""FACET as it lies on disk: photographs and a CSV with one row for each annotated person."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from clip_lite.data.pairs import Corpus, Record
from clip_lite.data.reading import About, Entry, Reading, Skips
from clip_lite.data.sources.label_files import labelled_corpus, needed, rows_of, said, three_ways

ABOUT = About(
    title="FACET",
    layout="annotations/annotations.csv, and the pictures in images/ or in imgs_1/, imgs_2/ and so on",
    url="https://ai.meta.com/datasets/facet/",
    licence="Meta's licence for research: evaluation only, no training on the annotations; see the data "
    "set's page",
)
GENDERS = ("masc", "fem", "non_binary")
AGES = ("young", "middle", "older")
TONES = range(1, 11)
UNSURE = 2  # of three annotators, who could not tell a tone
COLUMNS = (
    "filename",
    "person_id",
    "class1",
    "bounding_box",
    *(f"gender_presentation_{gender}" for gender in GENDERS),
    *(f"age_presentation_{age}" for age in AGES),
    *(f"skin_tone_{tone}" for tone in TONES),
    "skin_tone_na",
)
LIMITS = (
    "Gender presentation and age are what one trained annotator saw, and skin tone what three did, who each "
    "chose two or more neighbouring tones: nobody was asked. Tones depend on light.",
    "FACET is for evaluation only: its authors forbid training on the annotations. An audit fits its "
    "attackers, and an eraser if one is fitted here, on a part of them. That is meant as measurement of a "
    "model that is already there: read the licence first, and put nothing fitted here to use.",
    "Photographs were chosen for 52 kinds of occupation and pastime: not a sample of any population. Only "
    "those people are marked who fit one of them; a person's second kind is not counted as right.",
)


def load_facet(root: Path, reading: Reading) -> Corpus:
    """FACET, one picture for each marked person, in splits drawn by ``reading.seed`` by photograph.

    Only the person's box is looked at. Attributes: ``role`` is ``class1`` with blanks for underscores;
    ``gender`` ("masc", "fem", "non_binary") and ``age`` ("young": under 25, "middle", "older": over 65) are
    there where exactly one was marked; ``skin_tone`` is the median of all Monk tones that annotators chose,
    "monk 3" or, between two, "monk 3.5", and is not there where nobody chose one or two annotators could not
    tell. Source: Gustafson et al., ICCV 2023.

    Args:
        reading: ``annotations`` stands in for ``annotations/annotations.csv``.

    Raises:
        UsageError: the CSV or every folder of pictures is missing.
        CommandError: the CSV has not these columns, or too many people cannot be used.
    """
    skips = Skips()
    file = reading.annotations or needed(root, ["annotations/annotations.csv", "annotations.csv"], ABOUT)
    first, folder_of = _pictures(root)
    entries = []
    for number, row in enumerate(rows_of(file, COLUMNS, skips), start=1):
        name, person, box = row["filename"], row["person_id"], _box(row["bounding_box"])
        if name and person and box:
            record = Record(person, (), _attributes(row), name)
            entries.append(Entry(folder_of.get(name, first) / name, record, box))
        else:
            skips.add("rows without a picture, a person's number or a box", f"{file.name} row {number}")
    return labelled_corpus(
        "facet",
        ABOUT,
        three_ways(entries, reading),
        reading,
        skips,
        attribution="Gustafson et al.: FACET, ICCV 2023",
        limits=LIMITS,
        role="role",
    )


def _pictures(root: Path) -> tuple[Path, dict[str, Path]]:
    """The first folder of pictures, and file name → the folder it is in."""
    parts = sorted(path for path in root.glob("imgs_*") if path.is_dir())
    folders = [needed(root, ["images", *(part.name for part in parts)], ABOUT), *parts]
    folder_of: dict[str, Path] = {}
    for folder in folders:
        for path in folder.iterdir():
            folder_of.setdefault(path.name, folder)
    return folders[0], folder_of


def _box(text: str) -> tuple[float, float, float, float] | None:
    """Left, upper, width, height of ``{"x": …, "y": …, "width": …, "height": …}``, whichever its quotes."""
    try:
        said = ast.literal_eval(text)
        return float(said["x"]), float(said["y"]), float(said["width"]), float(said["height"])
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        return None


def _attributes(row: Mapping[str, str]) -> dict[str, str]:
    return said(
        role=row["class1"].replace("_", " "),
        gender=_only(row, "gender_presentation", GENDERS),
        age=_only(row, "age_presentation", AGES),
        skin_tone=_tone(row),
    )


def _only(row: Mapping[str, str], column: str, values: tuple[str, ...]) -> str:
    """The value that is marked, "" where none or more than one is."""
    marked = [value for value in values if _count(row[f"{column}_{value}"])]
    return marked[0] if len(marked) == 1 else ""


def _tone(row: Mapping[str, str]) -> str:
    chosen = [tone for tone in TONES for _ in range(_count(row[f"skin_tone_{tone}"]))]
    if not chosen or _count(row["skin_tone_na"]) >= UNSURE:
        return ""
    return f"monk {median(chosen):g}"


def _count(cell: str) -> int:
    """How often something was marked; 0 where the cell holds no number."""
    try:
        return int(float(cell))
    except (ValueError, OverflowError):
        return 0
