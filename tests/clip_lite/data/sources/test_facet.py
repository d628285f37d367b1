"""FACET from its folder: people in boxes, and one label out of what annotators chose."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clip_lite.data.sources.facet import COLUMNS, load_facet
from clip_lite.errors import CommandError, UsageError
from debias.attributes import ProtectedAttribute
from tests.clip_lite.data.sources.labelled import (
    assert_well_made,
    edit,
    labels,
    reading,
    records,
    sizes,
    truncate,
    write_pictures,
)

HEADER = [*COLUMNS, "class2", "gender_presentation_na", "age_presentation_na", "hair_color_na"]
NAMES = [f"sa_{n}.jpg" for n in range(20)]


def _person(number: int, **said: Any) -> dict[str, Any]:
    box = {"x": 2.0, "y": 3.0, "width": 20.0, "height": 24.0}
    plain = {"filename": NAMES[number % 20], "person_id": 1000 + number, "class1": "computer_user"}
    return {**dict.fromkeys(HEADER, 0), **plain, "bounding_box": box, "class2": "", **said}


def _write(root: Path, people: list[dict[str, Any]]) -> Path:
    file = root / "annotations" / "annotations.csv"
    file.parent.mkdir(exist_ok=True)
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, HEADER)
        writer.writeheader()
        writer.writerows(people)
    return file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two people in each of ten pictures, one in each of the others."""
    root = tmp_path / "facet"
    write_pictures(root / "images", NAMES)
    _write(root, [_person(number) for number in range(30)])
    return root


def test_each_person_is_a_picture_and_those_of_one_photograph_stay_together(root: Path) -> None:
    corpus = load_facet(root, reading())
    assert_well_made(corpus)
    assert sum(sizes(corpus).values()) == 30
    found = records(corpus)
    assert (found["1003"].cluster, found["1023"].cluster) == ("sa_3.jpg", "sa_3.jpg")
    assert found["1003"].attributes == {"role": "computer user"}
    assert corpus.role == "role"
    assert any("evaluation only" in limit for limit in corpus.limits)
    assert load_facet(root, reading(seed=1)).digest != corpus.digest


def test_only_the_box_of_a_person_is_seen(root: Path) -> None:
    halves = np.zeros((30, 40, 3), dtype=np.uint8)
    halves[:, 20:] = 255
    Image.fromarray(halves).save(root / "images" / "sa_0.jpg", quality=100)
    left, right = ({"x": x, "y": 0, "width": 16, "height": 30} for x in (0, 24))
    people = [_person(n) for n in range(1, 20)]
    _write(root, [_person(0, bounding_box=left), _person(20, bounding_box=right), *people])
    corpus = load_facet(root, reading())
    seen = {
        record.id: float(table[place].image.float().mean())
        for table in corpus.splits.values()
        for place, record in enumerate(table.records)
    }
    assert seen["1000"] < 20
    assert seen["1020"] > 235


@pytest.mark.parametrize(
    ("said", "attribute", "label"),
    [
        ({"gender_presentation_masc": 1}, "gender", "masc"),
        ({"gender_presentation_fem": 1}, "gender", "fem"),
        ({"gender_presentation_non_binary": 1}, "gender", "non_binary"),
        ({"gender_presentation_na": 1}, "gender", None),
        ({"gender_presentation_masc": 1, "gender_presentation_fem": 1}, "gender", None),
        ({"age_presentation_middle": 1}, "age", "middle"),
        ({"age_presentation_na": 1}, "age", None),
        ({"skin_tone_3": 3, "skin_tone_4": 2, "skin_tone_9": 1}, "skin_tone", "monk 3.5"),
        ({"skin_tone_2": 1, "skin_tone_3": 3, "skin_tone_10": 1}, "skin_tone", "monk 3"),
        ({"skin_tone_5": 3, "skin_tone_6": 3}, "skin_tone", "monk 5.5"),
        ({"skin_tone_7": 1, "skin_tone_8": 1, "skin_tone_na": 2}, "skin_tone", None),
        ({"skin_tone_10": "2.0", "skin_tone_9": ""}, "skin_tone", "monk 10"),
    ],
)
def test_labels_follow_the_stated_rules(
    root: Path, said: dict[str, Any], attribute: str, label: str | None
) -> None:
    _write(root, [_person(0, **said), *(_person(n) for n in range(1, 20))])
    assert labels(load_facet(root, reading()), attribute)["1000"] == label


def test_a_median_on_the_cut_belongs_to_neither_tone() -> None:
    tone = ProtectedAttribute.load("skin_tone")
    groups = [tone.group_in({"skin_tone": f"monk {value}"}) for value in ("5", "5.5", "6")]
    assert groups == ["light", "monk 5.5", "dark"]


def test_pictures_may_lie_in_numbered_parts(root: Path) -> None:
    expected = load_facet(root, reading()).digest
    for place, name in enumerate(NAMES):
        part = root / f"imgs_{place % 3 + 1}"
        part.mkdir(exist_ok=True)
        (root / "images" / name).rename(part / name)
    (root / "images").rmdir()
    assert load_facet(root, reading()).digest == expected


def test_what_cannot_be_used_is_left_out_and_counted(root: Path) -> None:
    people = [_person(n) for n in range(30)]
    people[0]["bounding_box"] = "{'x': 1, 'y':"
    people[1]["bounding_box"] = {"x": 900.0, "y": 3.0, "width": 20.0, "height": 24.0}
    people[2]["person_id"] = 1004
    people[3]["bounding_box"] = '{"x": 2.0, "y": 3.0, "width": 20.0, "height": 24.0}'
    _write(root, people)
    truncate(root / "images" / "sa_19.jpg")
    corpus = load_facet(root, reading())
    left = {str(1000 + n) for n in range(30)} - set(records(corpus))
    assert left == {"1000", "1001", "1002", "1019"}
    assert corpus.skipped["rows without a picture, a person's number or a box"] == 1
    assert corpus.skipped["ids that were there before"] == 1
    assert sum(corpus.skipped.values()) == 30 + 4


def test_missing_columns_and_pictures_are_named(root: Path) -> None:
    edit(root / "annotations" / "annotations.csv", "skin_tone_7", "tone_7")
    with pytest.raises(CommandError, match=r"annotations\.csv has no column skin_tone_7; expected filename"):
        load_facet(root, reading())
    (root / "images").rename(root / "pictures")
    with pytest.raises(UsageError, match=r"images is missing; expected annotations/annotations\.csv"):
        load_facet(root, reading())
