"""PHASE from its folder: whole pictures, captions, and labels where one person is annotated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clip_lite.data.sources.phase import load_phase
from clip_lite.errors import CommandError, UsageError
from debias.attributes import ProtectedAttribute
from tests.clip_lite.data.sources.labelled import (
    assert_well_made,
    reading,
    records,
    sizes,
    truncate,
    write_pictures,
)

REGIONS = "phase_gcc_{}_regions_20221101.json"


def _person(number: int) -> dict[str, Any]:
    answers = {
        "age": ("child", "young", "senior")[number % 3],
        "gender": ("male", "female", "disagreement")[number % 3],
        "skintone": ("lighter", "darker")[number % 2],
        "ethnicity": ("east_asian", "white")[number % 2],
        "emotion": "neutral",
        "activity": "posing",
    }
    return {"region": [1, 2, 20, 25], "annotations": answers}


def _said(number: int) -> dict[str, Any]:
    people = {f"person{n}": _person(number) for n in range(1, 3 if number % 4 == 0 else 2)}
    return {"caption": f"naïve picture {number}", **people}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pictures without an ending; every fourth shows two people."""
    root = tmp_path / "phase"
    for split, numbers in (("train", range(100, 120)), ("val", range(200, 210))):
        write_pictures(root / split, map(str, numbers))
        content = {str(number): _said(number) for number in numbers}
        (root / REGIONS.format(split)).write_text(json.dumps(content))
    return root


def change(root: Path, split: str, **pictures: Any) -> None:
    file = root / REGIONS.format(split)
    file.write_text(json.dumps(json.loads(file.read_text()) | pictures), encoding="utf-8-sig")


def test_one_pair_for_each_picture_and_one_person_for_an_audit(root: Path) -> None:
    corpus = load_phase(root, reading(val_fraction=0.2))
    assert_well_made(corpus, captioned=True)
    assert sizes(corpus) == {"train": 16, "val": 4, "test": 10}
    found = records(corpus)
    assert found["train/101"].captions == ("naïve picture 101",)
    assert found["train/101"].attributes == {
        "one_person": "yes",
        "age": "senior",
        "gender": "disagreement",
        "skin_tone": "darker",
        "race": "white",
        "emotion": "neutral",
        "activity": "posing",
    }
    assert found["val/204"].attributes == {"one_person": "no"}
    assert corpus.audited(found["train/101"])
    assert not corpus.audited(found["val/204"])


def test_underscores_of_ethnicity_are_known_to_the_shipped_attribute(root: Path) -> None:
    record = records(load_phase(root, reading()))["train/102"]
    assert ProtectedAttribute.load("race*skin_tone").group_in(record.attributes) == "east asian & light"


def test_pictures_may_lie_below_images_and_files_in_a_folder(root: Path) -> None:
    expected = load_phase(root, reading()).digest
    for folder in ("images", "phase_annotations"):
        (root / folder).mkdir()
    for split in ("train", "val"):
        (root / split).rename(root / "images" / split)
        (root / REGIONS.format(split)).rename(root / "phase_annotations" / REGIONS.format(split))
    assert load_phase(root, reading()).digest == expected


def test_files_without_captions_make_a_corpus_without(root: Path) -> None:
    for split, numbers in (("train", range(100, 120)), ("val", range(200, 210))):
        change(root, split, **{str(n): {"person1": _person(n)} for n in numbers})
    assert_well_made(load_phase(root, reading()), captioned=False)


def test_what_cannot_be_used_is_left_out_and_counted(root: Path) -> None:
    change(root, "train", **{"103": {"caption": " ", "person1": _person(3)}, "104": {"caption": "nobody"}})
    (root / "val" / "201").unlink()
    truncate(root / "val" / "202")
    corpus = load_phase(root, reading())
    assert not {"train/103", "train/104", "val/201", "val/202"} & set(records(corpus))
    assert corpus.skipped["pictures without a caption"] == 1
    assert corpus.skipped["pictures without an annotated person"] == 1
    assert corpus.skipped["pictures that are missing"] == 1
    assert corpus.skipped["total"] == 30


def test_answers_of_every_worker_are_refused_by_name(root: Path) -> None:
    every = {"person1": {"region": [1, 2, 20, 25], "annotations": [_person(1)["annotations"]] * 3}}
    change(root, "val", **{"205": every})
    with pytest.raises(CommandError, match=r"'205': annotations of person1 are a list, expected an object"):
        load_phase(root, reading())


def test_damaged_and_missing_files_are_named(root: Path) -> None:
    file = root / REGIONS.format("train")
    file.write_text('{"100": ')
    with pytest.raises(
        CommandError, match=r"regions_20221101\.json cannot be read as JSON .* expected an obj"
    ):
        load_phase(root, reading())
    file.write_text("[]")
    with pytest.raises(
        CommandError, match=r"regions_20221101\.json holds a list; expected an object of pict"
    ):
        load_phase(root, reading())
    file.unlink()
    with pytest.raises(UsageError, match=r"phase_gcc_train_regions_\*\.json is missing; expected phase_gcc"):
        load_phase(root, reading())
