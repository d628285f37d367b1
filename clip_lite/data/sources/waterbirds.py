"""Waterbirds as it lies on disk: pictures in folders by species and ``metadata.csv``."""

from __future__ import annotations

from pathlib import Path

from clip_lite.data.pairs import Corpus, Record
from clip_lite.data.reading import About, Entry, Reading, Skips
from clip_lite.data.sources.label_files import labelled_corpus, needed, rows_of, said

ABOUT = About(
    title="Waterbirds",
    layout="metadata.csv and the pictures' folders (or both in waterbird_complete95_forest2water2/)",
    url="https://github.com/kohpangwei/group_DRO",
    licence="made of CUB-200-2011 and Places: see the pages of both",
)
METADATA = ("metadata.csv", "waterbird_complete95_forest2water2/metadata.csv")
COLUMNS = ("img_filename", "y", "split", "place")
SPLITS = {"0": "train", "1": "val", "2": "test"}
BIRDS = {"0": "landbird", "1": "waterbird"}
BACKGROUNDS = {"0": "land", "1": "water"}
LIMITS = (
    "Birds were cut out of photographs and pasted on other backgrounds: labels are exact, and pictures are "
    "not natural.",
    "Kind of bird and background go together in 95 of 100 training pictures and are independent in val and "
    "test: what holds in one split need not hold in the other.",
    "It says what a model makes of backgrounds, nothing about people.",
)


def load_waterbirds(root: Path, reading: Reading) -> Corpus:
    """Waterbirds in its own splits ``train``, ``val`` and ``test``.

    Attributes are ``bird`` ("landbird", "waterbird"), which is the class of probe and zero-shot prompts, and
    ``background`` ("land", "water"); another code than 0 or 1 is kept as it is written. Source: Sagawa, Koh,
    Hashimoto and Liang, ICLR 2020.

    Args:
        reading: ``annotations`` stands in for ``metadata.csv``.

    Raises:
        UsageError: ``metadata.csv`` is missing.
        CommandError: it has not these columns, or too many pictures cannot be used.
    """
    skips = Skips()
    file = reading.annotations or needed(root, METADATA, ABOUT)
    folder = root if reading.annotations else file.parent
    listed: dict[str, list[Entry]] = {split: [] for split in SPLITS.values()}
    for number, row in enumerate(rows_of(file, COLUMNS, skips), start=1):
        name, split = row["img_filename"], SPLITS.get(row["split"])
        if not name or split is None:
            skips.add(
                "rows without a picture or with another split than 0, 1 and 2", f"{file.name} row {number}"
            )
            continue
        labels = said(
            bird=BIRDS.get(row["y"], row["y"]), background=BACKGROUNDS.get(row["place"], row["place"])
        )
        listed[split].append(Entry(folder / name, Record(name, (), labels, name)))
    return labelled_corpus(
        "waterbirds",
        ABOUT,
        listed,
        reading,
        skips,
        attribution="Sagawa, Koh, Hashimoto and Liang, ICLR 2020, of CUB-200-2011 and Places",
        limits=LIMITS,
        classification="bird",
        role="bird",
    )
