"""Scenes of four pictures: whose box is whose, no cluster twice, the same seed the same scenes."""

from __future__ import annotations

import numpy as np
import pytest

from clip_lite.data.pairs import PairTable, Record
from evaluation.utility.grounding_scenes import compose

SIDE = 16


def table(count: int = 10, clusters: int = 5) -> PairTable:
    """Picture i is white but for a grey square, whose grey is i."""
    images = np.full((count, 3, SIDE, SIDE), 255, dtype=np.uint8)
    images[np.arange(count), :, 4:10, 2:12] = np.arange(count, dtype=np.uint8)[:, None, None, None]
    records = [Record(f"{i}", (f"grey {i}", "grey"), {}, f"c{i % clusters}") for i in range(count)]
    return PairTable(images, records, np.arange(count))


def test_the_box_bounds_what_the_phrase_names() -> None:
    pictures = table()
    scenes = compose(pictures, count=25, seed=0)
    assert isinstance(scenes.images, np.ndarray)
    assert scenes.images.shape == (25, 3, 2 * SIDE, 2 * SIDE)
    assert scenes.images.dtype == np.uint8
    assert scenes.rows.tolist() == list(range(25))
    pixels = np.round(scenes.boxes * 2 * SIDE).astype(int)
    for image, phrase, (x0, y0, x1, y1), cluster in zip(
        scenes.images, scenes.phrases, pixels, scenes.clusters, strict=True
    ):
        named = int(phrase.removeprefix("grey "))
        assert (image[:, y0:y1, x0:x1] == named).all()
        assert (image == named).sum() == 3 * (x1 - x0) * (y1 - y0) == 3 * 60
        assert cluster == pictures.records[named].cluster
        shown = {int(cell[0, 5, 5]) for cell in _cells(image)}
        assert len({pictures.records[each].cluster for each in shown}) == 4


def _cells(image: np.ndarray) -> list[np.ndarray]:
    return [half for part in np.split(image, 2, axis=1) for half in np.split(part, 2, axis=2)]


def test_every_picture_is_named_once_before_any_twice_and_in_all_cells() -> None:
    scenes = compose(table(), count=20, seed=0)
    assert sorted(scenes.phrases[:10]) == sorted(scenes.phrases[10:]) == [f"grey {i}" for i in range(10)]
    assert len({(int(2 * x), int(2 * y)) for x, y, *_ in scenes.boxes}) == 4


def test_the_same_seed_gives_the_same_scenes_and_another_others() -> None:
    first, again, other = (compose(table(), count=8, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.images, again.images)
    assert first.phrases == again.phrases
    assert not np.array_equal(first.images, other.images)


def test_a_picture_without_white_or_without_ink_fills_its_cell() -> None:
    pictures = table()
    pictures.images[:] = 128  # type: ignore[index]
    dark = compose(pictures, count=4, seed=0)
    pictures.images[:] = 255  # type: ignore[index]
    blank = compose(pictures, count=4, seed=0)
    for scenes in (dark, blank):
        assert ((scenes.boxes[:, 2:] - scenes.boxes[:, :2]) == 0.5).all()


def test_three_clusters_are_too_few() -> None:
    with pytest.raises(ValueError, match="four clusters, got 3"):
        compose(table(clusters=3), count=4, seed=0)
