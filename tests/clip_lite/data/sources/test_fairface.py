"""FairFace from its folder: faces, labels and splits, and what is said of files of another form."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clip_lite.data.sources.fairface import load_fairface
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
    windows,
    write_csv,
    write_pictures,
)

HEADER = "file,age,gender,race,service_test"
AGES = ("0-2", "20-29", "more than 70")
RACES = ("White", "Latino_Hispanic", "East Asian", "Middle Eastern")


def _row(split: str, number: int) -> tuple[str, ...]:
    gender = ("Male", "Female")[number % 2]
    return f"{split}/{number}.jpg", AGES[number % 3], gender, RACES[number % 4], str(number % 2 == 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "fairface"
    for split, count in (("train", 20), ("val", 8)):
        rows = [_row(split, number) for number in range(1, count + 1)]
        write_csv(root / f"fairface_label_{split}.csv", HEADER, rows)
        write_pictures(root / "fairface-img-margin025-trainval", [row[0] for row in rows])
    return root


def test_its_validation_faces_are_the_test_and_a_share_of_training_is_held_out(root: Path) -> None:
    corpus = load_fairface(root, reading(val_fraction=0.2))
    assert_well_made(corpus)
    assert sizes(corpus) == {"train": 16, "val": 4, "test": 8}
    assert [record.id for record in corpus.splits["test"].records] == [f"val/{n}.jpg" for n in range(1, 9)]
    again = load_fairface(root, reading(val_fraction=0.2))
    assert again.digest == corpus.digest
    assert load_fairface(root, reading(val_fraction=0.2, seed=1)).digest != corpus.digest
    assert corpus.skipped == {}


def test_labels_are_as_written_and_known_to_the_attributes(root: Path) -> None:
    record = records(load_fairface(root, reading()))["train/5.jpg"]
    expected = {"age": "more than 70", "gender": "Female", "race": "Latino_Hispanic", "service_test": "False"}
    assert record.attributes == expected
    assert record.cluster == "train/5.jpg"
    both = ProtectedAttribute.load("gender*race")
    assert both.group_in(record.attributes) == "woman & latino"


@pytest.mark.parametrize("folder", [".", "fairface-img-margin125-trainval"])
def test_faces_may_lie_beside_the_labels_or_in_the_folder_of_the_wide_crop(root: Path, folder: str) -> None:
    expected = load_fairface(root, reading()).digest
    (root / folder).mkdir(exist_ok=True)
    for split in ("train", "val"):
        shutil.move(root / "fairface-img-margin025-trainval" / split, root / folder / split)
    assert load_fairface(root, reading()).digest == expected


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(root: Path) -> None:
    expected = load_fairface(root, reading()).digest
    for split in ("train", "val"):
        windows(root / f"fairface_label_{split}.csv")
    assert load_fairface(root, reading()).digest == expected


def test_a_label_of_no_list_is_kept_and_an_empty_one_is_none(root: Path) -> None:
    edit(root / "fairface_label_val.csv", "val/1.jpg,20-29,Female", "val/1.jpg,,Unknown")
    record = records(load_fairface(root, reading()))["val/1.jpg"]
    assert record.attributes["gender"] == "Unknown"
    assert "age" not in record.attributes
    assert ProtectedAttribute.load("gender").group_in(record.attributes) == "Unknown"


def test_what_cannot_be_used_is_left_out_and_counted(root: Path) -> None:
    folder = root / "fairface-img-margin025-trainval"
    (folder / "train" / "3.jpg").unlink()
    truncate(folder / "val" / "2.jpg")
    with (root / "fairface_label_train.csv").open("a") as file:
        file.write("train/4.jpg,0-2,Male,White,True\n,0-2,Male,White,True\n")
    corpus = load_fairface(root, reading())
    assert set(labels(corpus, "age")).isdisjoint({"train/3.jpg", "val/2.jpg"})
    assert sum(sizes(corpus).values()) == 26
    assert corpus.skipped["total"] == 30
    assert corpus.skipped["pictures that are missing"] == 1
    assert corpus.skipped["ids that were there before"] == 1
    assert corpus.skipped["rows that name no picture"] == 1
    assert sum(corpus.skipped.values()) == 30 + 4


def test_too_many_that_cannot_be_used_end_it_and_name_the_first_five(root: Path) -> None:
    for number in range(1, 8):
        (root / "fairface-img-margin025-trainval" / "train" / f"{number}.jpg").unlink()
    with pytest.raises(
        CommandError, match=r"7 of 28 cannot be used, more than data\.skip_limit 0\.2"
    ) as said:
        load_fairface(root, reading())
    assert str(said.value).count(".jpg (pictures that are missing)") == 5
    assert "\n" not in str(said.value)


def test_a_missing_column_is_named_in_one_line(root: Path) -> None:
    edit(root / "fairface_label_val.csv", HEADER, "file,age,sex,race,service_test")
    with pytest.raises(CommandError) as caught:
        load_fairface(root, reading())
    assert str(caught.value) == (
        f"{root}/fairface_label_val.csv has no column gender; expected file, age, gender, race, "
        "service_test, found file, age, sex, race, service_test"
    )


@pytest.mark.parametrize("name", ["fairface_label_val.csv", "fairface-img-margin025-trainval/train"])
def test_a_missing_part_of_the_layout_is_a_wrong_request(root: Path, name: str) -> None:
    path = root / name
    path.rename(root / "elsewhere")
    with pytest.raises(UsageError, match=f"{Path(name).name} is missing; expected fairface_label_train.csv"):
        load_fairface(root, reading())
