"""What the check of pictures remembers: decoded once, anew when a file changes, right for any rows."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clip_lite.data import checking
from clip_lite.data.checking import unreadable
from clip_lite.data.encoded import EncodedPictures
from clip_lite.data.reading import FileStore


class Counting(FileStore):
    """Counts how often each row is read."""

    def __init__(self, paths: list[Path]) -> None:
        super().__init__(paths)
        self.reads: Counter[int] = Counter()

    def read(self, row: int) -> bytes:
        self.reads[row] += 1
        return super().read(row)


def png(value: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (12, 10), (value, 0, 0)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    """Ten pictures, of which 3 and 7 are none."""
    paths = [tmp_path / f"{n}.png" for n in range(10)]
    for n, path in enumerate(paths):
        path.write_bytes(b"nothing" if n in (3, 7) else png(n))
    return Counting(paths)


def check(store: FileStore, rows: list[int], boxes: np.ndarray | None = None) -> dict[int, str]:
    return unreadable(
        EncodedPictures(store, size=8, workers=2, boxes=boxes), np.array(rows, dtype=np.int64), "mine"
    )


def test_every_picture_is_read_once_and_never_again(store: Counting) -> None:
    found = check(store, list(range(10)))
    assert list(found) == [3, 7]
    assert all("JPEG" in reason for reason in found.values())
    assert store.reads == Counter(range(10))
    assert check(store, list(range(10))) == found
    assert store.reads == Counter(range(10))


def test_rows_of_a_part_are_named_as_they_are_in_the_store(store: Counting) -> None:
    assert list(check(store, [2, 3, 5, 7])) == [3, 7]
    assert list(check(store, [9, 7, 1])) == [7]
    assert check(store, [0, 9]) == {}
    assert check(store, []) == {}


def test_a_file_that_changes_is_looked_at_again(store: Counting) -> None:
    assert list(check(store, list(range(10)))) == [3, 7]
    store.paths[3].write_bytes(png())
    store.paths[4].write_bytes(b"gone bad")
    assert list(check(store, list(range(10)))) == [4, 7]


def test_another_box_is_another_question(store: Counting) -> None:
    boxes = np.array([[0, 0, 5, 5]] * 10, dtype=float)
    assert list(check(store, [0, 1, 2], boxes)) == []
    boxes[1] = [50, 50, 5, 5]
    found = check(store, [0, 1, 2], boxes)
    assert list(found) == [1]
    assert "outside the picture" in found[1]


def test_what_else_is_wrong_is_asked_of_pictures_that_can_be_read(store: Counting) -> None:
    asked: list[int] = []

    def odd(row: int) -> str | None:
        asked.append(row)
        return "odd" if row % 2 else None

    pictures = EncodedPictures(store, size=8, workers=1)
    found = unreadable(pictures, np.arange(10), "mine", also=odd)
    assert {row for row, reason in found.items() if reason == "odd"} == {1, 5, 9}
    assert sorted(asked) == [0, 1, 2, 4, 5, 6, 8, 9]
    assert unreadable(pictures, np.arange(10), "mine", also=odd) == found
    assert len(asked) == 8


class Interrupted(FileStore):
    """Ctrl-C at row 8."""

    def read(self, row: int) -> bytes:
        if row == 8:
            raise KeyboardInterrupt
        return super().read(row)


def test_an_interrupted_check_goes_on_where_it_was(store: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "REMEMBERED", 4)
    with pytest.raises(KeyboardInterrupt):
        check(Interrupted(store.paths), list(range(10)))
    assert list(check(store, list(range(10)))) == [3, 7]
    assert store.reads == Counter([8, 9])
