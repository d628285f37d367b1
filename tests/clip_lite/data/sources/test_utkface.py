"""UTKFace from its folder: labels in file names, some of them malformed."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_lite.data.sources.utkface import band_of, load_utkface
from clip_lite.errors import CommandError, UsageError
from tests.clip_lite.data.sources.labelled import (
    assert_well_made,
    labels,
    reading,
    records,
    sizes,
    truncate,
    write_pictures,
)

NAMES = [f"{3 * n + 1}_{n % 2}_{n % 5}_201701161745{n:05d}.jpg.chip.jpg" for n in range(30)]
MALFORMED = ("61_1_20170109142408075.jpg.chip.jpg", "53__0_20170116184028385.jpg", "39_3_1_2017010914.jpg")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "utk" / "UTKFace", NAMES)
    return tmp_path / "utk"


def test_file_names_say_the_labels(root: Path) -> None:
    corpus = load_utkface(root, reading(val_fraction=0.2, test_fraction=0.3))
    assert_well_made(corpus)
    assert sizes(corpus) == {"train": 15, "val": 6, "test": 9}
    record = records(corpus)[NAMES[8]]
    assert record.attributes == {"age": "20-29", "age_years": "25", "gender": "male", "race": "Indian"}
    assert set(labels(corpus, "gender").values()) == {"male", "female"}
    assert set(labels(corpus, "race").values()) == {"White", "Black", "Asian", "Indian", "Others"}


def test_the_seed_draws_the_splits_whatever_the_order_on_disk(root: Path) -> None:
    corpus = load_utkface(root, reading())
    for name in NAMES:
        path = root / "UTKFace" / name
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    assert load_utkface(root, reading()).digest == corpus.digest
    assert load_utkface(root, reading(seed=1)).digest != corpus.digest


@pytest.mark.parametrize(
    ("age", "band"),
    [
        *((0, "0-2"), (2, "0-2"), (3, "3-9"), (9, "3-9"), (10, "10-19"), (19, "10-19"), (20, "20-29")),
        *((59, "50-59"), (60, "60-69"), (69, "60-69"), (70, "more than 70"), (116, "more than 70")),
    ],
)
def test_ages_are_sorted_into_the_bands_of_fairface(age: int, band: str) -> None:
    assert band_of(age) == band


def test_malformed_names_are_left_out_and_counted_and_damaged_endings_are_not(root: Path) -> None:
    write_pictures(root / "UTKFace", MALFORMED)
    write_pictures(root / "UTKFace", ["55_0_0_20170116232725357jpg.chip.jpg", "24_0_1_2017011622 .jpg"])
    (root / "UTKFace" / "Thumbs.db").write_bytes(b"no picture")
    corpus = load_utkface(root, reading())
    assert set(records(corpus)) == {
        *NAMES,
        "55_0_0_20170116232725357jpg.chip.jpg",
        "24_0_1_2017011622 .jpg",
    }
    assert corpus.skipped == {"files whose name does not say age, gender and race": 3, "total": 35}


def test_a_truncated_picture_is_left_out_and_counted(root: Path) -> None:
    truncate(root / "UTKFace" / NAMES[4])
    corpus = load_utkface(root, reading())
    assert NAMES[4] not in records(corpus)
    assert sum(corpus.skipped.values()) == 30 + 1


def test_too_many_malformed_names_end_it(root: Path) -> None:
    write_pictures(root / "UTKFace", MALFORMED)
    with pytest.raises(CommandError, match=r"3 of 33 cannot be used, more than data\.skip_limit 0\.05: 39_3"):
        load_utkface(root, reading(skip_limit=0.05))


@pytest.mark.parametrize("folders", [["."], ["part1", "part2", "part3"]])
def test_pictures_may_lie_in_the_folder_itself_or_in_three_parts(tmp_path: Path, folders: list[str]) -> None:
    for place, folder in enumerate(folders):
        write_pictures(tmp_path / "wild" / folder, NAMES[place :: len(folders)])
    assert set(records(load_utkface(tmp_path / "wild", reading()))) == set(NAMES)


def test_a_folder_without_pictures_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no picture in it; expected \[age\]_\[gender\]_\[race\]"):
        load_utkface(tmp_path, reading())
