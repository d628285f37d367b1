"""COCO's pictures with Zhao et al.'s labels: captions of the one, labels of the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clip_lite.data.sources.coco_gender import load_coco_gender
from clip_lite.errors import CommandError, UsageError
from debias.attributes import ProtectedAttribute
from tests.clip_lite.data.sources.labelled import (
    assert_well_made,
    edit,
    reading,
    records,
    sizes,
    truncate,
    windows,
    write_csv,
    write_pictures,
)

HEADER = "id,skin,ratio,bb_skin,bb_gender,split"
NUMBERS = range(42, 82)
GENDERS = ("Male", "Female", "Unsure")


def _item(number: int) -> str:
    return f"val2014/COCO_val2014_{number:012d}.jpg"


def _captions() -> dict[str, Any]:
    """Of more pictures than are labelled, as COCO's file is."""
    numbers = [*NUMBERS, 900]
    images = [{"id": n, "file_name": Path(_item(n)).name, "license": 1} for n in numbers]
    texts = [
        {"id": 5 * n + k, "image_id": n, "caption": f"text {k} of {n} "} for n in numbers for k in range(5)
    ]
    return {"info": {}, "licenses": [], "images": images, "annotations": texts}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    write_pictures(root, map(_item, NUMBERS))
    rows = [(n, "['Light']", 1.0, ("Light", "Dark")[n % 2], GENDERS[n % 3], "val") for n in NUMBERS]
    write_csv(root / "images_val2014.csv", HEADER, rows)
    (root / "annotations").mkdir()
    (root / "annotations" / "captions_val2014.json").write_text(json.dumps(_captions()))
    return root


def test_labelled_pictures_come_with_their_captions(root: Path) -> None:
    corpus = load_coco_gender(root, reading(val_fraction=0.1, test_fraction=0.25))
    assert_well_made(corpus, captioned=True)
    assert sizes(corpus) == {"train": 26, "val": 4, "test": 10}
    record = records(corpus)[_item(43)]
    assert record.captions == tuple(f"text {place} of 43" for place in range(5))
    assert record.attributes == {"gender": "Female", "skin_tone": "Dark"}
    assert ProtectedAttribute.load("gender*skin_tone").group_in(record.attributes) == "woman & dark"


def test_unsure_is_kept_and_is_no_group(root: Path) -> None:
    record = records(load_coco_gender(root, reading()))[_item(44)]
    assert record.attributes["gender"] == "Unsure"
    assert ProtectedAttribute.load("gender").group_in(record.attributes) == "Unsure"


def test_the_table_may_lie_elsewhere_with_windows_line_ends(root: Path, tmp_path: Path) -> None:
    expected = load_coco_gender(root, reading()).digest
    table = (root / "images_val2014.csv").rename(tmp_path / "zhao.csv")
    windows(table)
    assert load_coco_gender(root, reading(annotations=table)).digest == expected


def test_what_cannot_be_used_is_left_out_and_counted(root: Path) -> None:
    file = root / "annotations" / "captions_val2014.json"
    content = json.loads(file.read_text())
    content["annotations"] = [said for said in content["annotations"] if said["image_id"] != 50]
    content["annotations"].append({"id": 9999, "image_id": 50, "caption": "  "})
    content["annotations"].append({"id": 10_000, "image_id": 50, "caption": None})
    file.write_text(json.dumps(content))
    edit(root / "images_val2014.csv", "\n51,", "\n7777,")
    with (root / "images_val2014.csv").open("a") as table:
        table.write("52,['Light'],1.0,Light,Male,val\n")
    (root / _item(53)).unlink()
    truncate(root / _item(54))
    corpus = load_coco_gender(root, reading())
    assert {n for n in NUMBERS if _item(n) not in records(corpus)} == {50, 51, 53, 54}
    assert corpus.skipped["pictures without a caption"] == 1
    assert corpus.skipped["ids that captions_val2014.json does not know"] == 1
    assert corpus.skipped["ids that were there before"] == 1
    assert corpus.skipped["pictures that are missing"] == 1
    assert sum(corpus.skipped.values()) == 41 + 5


def test_files_of_another_form_are_named(root: Path) -> None:
    edit(root / "images_val2014.csv", "bb_gender", "gender")
    with pytest.raises(
        CommandError, match=r"images_val2014\.csv has no column bb_gender; expected id, bb_gend"
    ):
        load_coco_gender(root, reading())
    (root / "annotations" / "captions_val2014.json").write_text('{"images": [{"id": 1}], "annotations": []}')
    with pytest.raises(
        CommandError, match=r"holds no COCO captions \(KeyError: 'file_name'\); expected images"
    ):
        load_coco_gender(root, reading())
    (root / "annotations" / "captions_val2014.json").unlink()
    with pytest.raises(UsageError, match=r"captions_val2014\.json is missing; expected images_val2014\.csv"):
        load_coco_gender(root, reading())
