"""CelebA from its folder: forty attributes, published splits, identities."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_lite.data.sources.celeba import load_celeba
from clip_lite.errors import CommandError, UsageError
from tests.clip_lite.data.sources.labelled import (
    assert_well_made,
    edit,
    reading,
    records,
    sizes,
    truncate,
    windows,
    write_pictures,
)

COLUMNS = ("5_o_Clock_Shadow", "Blond_Hair", "Male", "Young")
NAMES = [f"{n:06d}.jpg" for n in range(1, 31)]


def _signs(n: int) -> tuple[int, ...]:
    return (1 if n % 5 == 0 else -1, 1 if n % 3 == 0 else -1, 1 if n % 2 == 0 else -1, 1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """As published: a trailing blank after the names, two blanks before a positive sign."""
    root = tmp_path / "celeba"
    write_pictures(root / "img_align_celeba", NAMES)
    rows = [f"{name} " + " ".join(f"{sign:2d}" for sign in _signs(n)) for n, name in enumerate(NAMES)]
    head = [str(len(NAMES)), " ".join(COLUMNS) + " "]
    (root / "list_attr_celeba.txt").write_text("\n".join([*head, *rows]) + "\n")
    partition = [f"{name} {min(2, n // 10)}" for n, name in enumerate(NAMES)]
    (root / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    return root


def test_signs_become_words_and_splits_are_the_published_ones(root: Path) -> None:
    corpus = load_celeba(root, reading())
    assert_well_made(corpus)
    assert sizes(corpus) == {"train": 10, "val": 10, "test": 10}
    assert [record.id for record in corpus.splits["test"].records] == NAMES[20:]
    assert records(corpus)["000007.jpg"].attributes == {
        "gender": "male",
        "5_o_clock_shadow": "no",
        "blond_hair": "yes",
        "young": "yes",
    }
    assert corpus.classification == "blond_hair"
    assert {record.cluster for record in records(corpus).values()} == set(NAMES)


def test_pictures_of_one_identity_are_one_cluster_where_the_file_is_there(root: Path) -> None:
    lines = [f"{name} {n // 5}" for n, name in enumerate(NAMES)]
    (root / "identity_CelebA.txt").write_text("\n".join(lines) + "\n")
    corpus = load_celeba(root, reading())
    assert_well_made(corpus)
    assert records(corpus)["000007.jpg"].cluster == "identity 1"


def test_the_layout_of_the_official_download_gives_the_same(root: Path) -> None:
    expected = load_celeba(root, reading()).digest
    for name, folder in (
        ("list_attr_celeba.txt", "Anno"),
        ("list_eval_partition.txt", "Eval"),
        ("img_align_celeba", "Img"),
    ):
        (root / folder).mkdir()
        (root / name).rename(root / folder / name)
    assert load_celeba(root, reading()).digest == expected


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(root: Path) -> None:
    expected = load_celeba(root, reading()).digest
    windows(root / "list_attr_celeba.txt")
    windows(root / "list_eval_partition.txt")
    assert load_celeba(root, reading()).digest == expected


def test_what_cannot_be_used_is_left_out_and_counted(root: Path) -> None:
    edit(root / "list_attr_celeba.txt", "000001.jpg  1  1  1  1", "000001.jpg  1  1")
    edit(root / "list_eval_partition.txt", "000002.jpg 0\n", "")
    truncate(root / "img_align_celeba" / "000003.jpg")
    (root / "img_align_celeba" / "000004.jpg").unlink()
    corpus = load_celeba(root, reading())
    assert set(NAMES) - set(records(corpus)) == {f"00000{n}.jpg" for n in (1, 2, 3, 4)}
    assert corpus.skipped["rows without 4 of 1 and -1"] == 1
    assert corpus.skipped["pictures that list_eval_partition.txt puts in none of 0, 1 and 2"] == 1
    assert corpus.skipped["pictures that are missing"] == 1
    assert corpus.skipped["total"] == 30


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("list_attr_celeba.txt", "30\n", "40\n", "ends after 30 of the 40 pictures"),
        (
            "list_attr_celeba.txt",
            "30\n5_o",
            "5_o",
            "holds no attributes of CelebA; expected a line with the num",
        ),
        ("list_attr_celeba.txt", " Male ", " Sex ", "holds no attributes of CelebA"),
        (
            "list_eval_partition.txt",
            "000009.jpg 0",
            "000009.jpg",
            "row 9 is '000009.jpg', expected a picture and",
        ),
    ],
)
def test_a_file_of_another_form_is_named(root: Path, name: str, old: str, new: str, said: str) -> None:
    edit(root / name, old, new)
    with pytest.raises(CommandError, match=said):
        load_celeba(root, reading())


def test_a_missing_file_is_a_wrong_request(root: Path) -> None:
    (root / "list_eval_partition.txt").unlink()
    with pytest.raises(UsageError, match=r"list_eval_partition\.txt is missing; expected list_attr_celeba"):
        load_celeba(root, reading())
