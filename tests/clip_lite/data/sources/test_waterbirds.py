"""Waterbirds from its folder: birds, backgrounds and the published splits."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_lite.data.sources.waterbirds import load_waterbirds
from clip_lite.errors import CommandError, UsageError
from debias.attributes import ProtectedAttribute
from evaluation.population import check_auditable
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

HEADER = "img_id,img_filename,y,split,place,place_filename"
NAMES = [f"{n % 3 + 1:03d}.Black_footed_Albatross/Albatross_{n:04d}_796136.jpg" for n in range(24)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "waterbird_complete95_forest2water2"
    rows = [(n + 1, name, n % 2, n % 3, n // 2 % 2, f"/o/ocean/{n:08d}.jpg") for n, name in enumerate(NAMES)]
    write_csv(root / "metadata.csv", HEADER, rows)
    write_pictures(root, NAMES)
    return root


def test_codes_become_words_and_splits_are_the_published_ones(root: Path) -> None:
    corpus = load_waterbirds(root, reading())
    assert_well_made(corpus)
    assert sizes(corpus) == {"train": 8, "val": 8, "test": 8}
    assert [record.id for record in corpus.splits["val"].records] == NAMES[1::3]
    found = records(corpus)
    assert found[NAMES[2]].attributes == {"bird": "landbird", "background": "water"}
    assert found[NAMES[5]].attributes == {"bird": "waterbird", "background": "land"}
    assert (corpus.classification, corpus.role) == ("bird", "bird")


def test_backgrounds_are_groups_of_the_shipped_attribute(root: Path) -> None:
    check_auditable(load_waterbirds(root, reading()), ProtectedAttribute.load("background"))


def test_the_folder_above_and_a_table_elsewhere_give_the_same(root: Path, tmp_path: Path) -> None:
    expected = load_waterbirds(root, reading()).digest
    assert load_waterbirds(tmp_path, reading()).digest == expected
    table = (root / "metadata.csv").rename(tmp_path / "mine.csv")
    assert load_waterbirds(root, reading(annotations=table)).digest == expected


def test_windows_line_ends_change_nothing(root: Path) -> None:
    expected = load_waterbirds(root, reading()).digest
    windows(root / "metadata.csv")
    assert load_waterbirds(root, reading()).digest == expected


def test_unknown_codes_are_kept_and_an_unknown_split_is_left_out(root: Path) -> None:
    edit(root / "metadata.csv", f"1,{NAMES[0]},0,0,0", f"1,{NAMES[0]},7,0,")
    edit(root / "metadata.csv", f"2,{NAMES[1]},1,1,0", f"2,{NAMES[1]},1,3,0")
    truncate(root / NAMES[2])
    corpus = load_waterbirds(root, reading())
    assert records(corpus)[NAMES[0]].attributes == {"bird": "7"}
    assert not {NAMES[1], NAMES[2]} & set(records(corpus))
    assert corpus.skipped["rows without a picture or with another split than 0, 1 and 2"] == 1
    assert corpus.skipped["total"] == 24


def test_missing_files_and_columns_are_named(root: Path) -> None:
    edit(root / "metadata.csv", "split,place,", "fold,where,")
    with pytest.raises(
        CommandError, match=r"metadata\.csv has no column split, place; expected img_filename"
    ):
        load_waterbirds(root, reading())
    (root / "metadata.csv").unlink()
    with pytest.raises(
        UsageError, match=r"metadata\.csv is missing; expected metadata\.csv and the pictures"
    ):
        load_waterbirds(root, reading())
