"""From a list of pictures to splits: what is left out is named, boxes are cut, clusters stay whole."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clip_lite.data.pairs import PairTable, Record
from clip_lite.data.reading import Entry, Reading, Skips, assemble, divided
from clip_lite.errors import CommandError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(path: Path, colour: tuple[int, int, int] = RED) -> Path:
    Image.new("RGB", (20, 20), colour).save(path)
    return path


def entry(path: Path, name: str | None = None, **more: object) -> Entry:
    own = name or path.name
    return Entry(path, Record(own, (), {}, own), **more)  # type: ignore[arg-type]


def test_pictures_stay_with_their_records_when_others_are_left_out(tmp_path: Path) -> None:
    colours = {"r": RED, "g": GREEN, "b": BLUE}
    paths = {name: picture(tmp_path / f"{name}.png", colour) for name, colour in colours.items()}
    (tmp_path / "bad.png").write_bytes(b"")
    listed = {
        "train": [
            entry(tmp_path / "missing.png"),
            entry(paths["r"]),
            entry(tmp_path / "bad.png"),
            entry(paths["g"]),
        ],
        "val": [],
        "test": [entry(paths["r"]), entry(paths["b"])],
    }
    skips = Skips()
    splits = assemble(listed, Reading(size=8, skip_limit=0.5), skips, source="mine")
    found = {split: [record.id for record in table.records] for split, table in splits.items()}
    assert found == {"train": ["r.png", "g.png"], "val": [], "test": ["b.png"]}
    for split, names in {"train": "rg", "test": "b"}.items():
        for place, name in enumerate(names):
            assert splits[split][place].image[:, 4, 4].tolist() == list(colours[name])
    counts = skips.counts(6)
    assert counts["ids that were there before"] == 1
    assert counts["pictures that are missing"] == 1
    assert sum(counts.values()) == 3 + 6


def test_nothing_left_out_counts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    skips = Skips()
    assemble({"test": [entry(picture(tmp_path / "a.png"))]}, Reading(size=8), skips, source="mine")
    assert skips.counts(1) == {}
    assert "left out" not in capsys.readouterr().out


def test_too_many_left_out_name_the_first_five_and_why(tmp_path: Path) -> None:
    listed = {
        "test": [entry(tmp_path / f"no{n}.png") for n in range(7)] + [entry(picture(tmp_path / "a.png"))]
    }
    with pytest.raises(CommandError) as caught:
        assemble(listed, Reading(size=8, skip_limit=0.5), Skips(), source="mine")
    line = str(caught.value)
    assert line.startswith("mine: 7 of 8 cannot be used, more than data.skip_limit 0.5")
    assert all(f"no{n}.png (pictures that are missing)" in line for n in range(5))
    assert "no5" not in line
    assert line.endswith(" ...")
    assert caught.value.exit_code == 1


def test_what_the_source_left_out_counts_towards_the_limit(tmp_path: Path) -> None:
    listed = {"test": [entry(picture(tmp_path / f"{n}.png")) for n in range(3)]}
    skips = Skips()
    skips.add("rows without a caption", "row 4")
    assemble(listed, Reading(size=8, skip_limit=0.25), skips, source="mine")
    with pytest.raises(CommandError, match=r"1 of 4 .*row 4 \(rows without a caption\)"):
        assemble(listed, Reading(size=8, skip_limit=0.24), skips, source="mine")


def _quarters(path: Path, orientation: int = 1) -> Path:
    """Upright 60 x 40: upper left red, upper right green, below blue."""
    image = Image.new("RGB", (60, 40), BLUE)
    image.paste(RED, (0, 0, 30, 20))
    image.paste(GREEN, (30, 0, 60, 20))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {
        1: None,
        3: Image.Transpose.ROTATE_180,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
    }
    turn = turned[orientation]
    (image if turn is None else image.transpose(turn)).save(path, exif=exif)
    return path


class Whole:
    """A model's own preparation, which sees the part alone."""

    size = 8

    def __call__(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.resize((8, 8), Image.Resampling.NEAREST)).transpose(2, 0, 1)


@pytest.mark.parametrize("prepare", [None, Whole()])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_boxes_are_of_the_upright_picture(tmp_path: Path, orientation: int, prepare: Whole | None) -> None:
    path = _quarters(tmp_path / "a.png", orientation)
    boxes = {
        "red": (2, 2, 26, 16),
        "green": (32, 0, 28, 20),
        "blue": (0, 21, 60, 19),
        "cut": (50, 22, 500, 500),
    }
    listed = {"test": [entry(path, name, box=box) for name, box in boxes.items()]}
    table = assemble(listed, Reading(size=8, prepare=prepare), Skips(), source="mine")["test"]
    for place, colour in enumerate((RED, GREEN, BLUE, BLUE)):
        inner = table[place].image[:, 1:-1, 1:-1]  # resizing looks a pixel beyond the edge
        assert inner.reshape(3, -1).T.unique(dim=0).tolist() == [list(colour)]


@pytest.mark.parametrize("box", [(60, 0, 5, 5), (-9, 0, 9, 5), (0, 0, 0.5, 9), (0, 0, -4, -4)])
def test_a_box_that_holds_no_pixel_is_left_out_and_counted(
    tmp_path: Path, box: tuple[float, float, float, float]
) -> None:
    path = _quarters(tmp_path / "a.png")
    skips = Skips()
    listed = {"test": [entry(path, "out", box=box), entry(path, "in", box=(31, 1, 9, 9))]}
    table = assemble(listed, Reading(size=8, skip_limit=0.5), skips, source="mine")["test"]
    assert [record.id for record in table.records] == ["in"]
    assert table[0].image[:, 0, 0].tolist() == list(GREEN)
    [(reason, number), _] = skips.counts(2).items()
    assert "box" in reason
    assert number == 1


def test_some_pictures_may_have_a_box_and_others_none(tmp_path: Path) -> None:
    path = _quarters(tmp_path / "a.png")
    listed = {"test": [entry(path, "part", box=(0, 0, 30, 20)), entry(path, "whole")]}
    table = assemble(listed, Reading(size=8), Skips(), source="mine")["test"]
    assert table[0].image[:, 1:-1, 1:-1].reshape(3, -1).T.unique(dim=0).tolist() == [list(RED)]
    assert len(table[1].image.reshape(3, -1).T.unique(dim=0)) > 1


def _people(clusters: int, each: int) -> list[Entry]:
    return [
        Entry(Path(f"{c}-{n}.jpg"), Record(f"{c}-{n}", (), {}, f"person{c}"))
        for n in range(each)
        for c in range(clusters)
    ]


def test_clusters_stay_whole_and_shares_are_about_those_asked_for() -> None:
    entries = _people(100, 3)
    splits = divided(entries, {"val": 0.1, "test": 0.25}, seed=0, rest="train")
    assert list(splits) == ["train", "val", "test"]
    clusters = {split: {e.record.cluster for e in own} for split, own in splits.items()}
    assert Counter({split: len(own) for split, own in clusters.items()}) == {
        "train": 65,
        "val": 10,
        "test": 25,
    }
    assert len(set.union(*clusters.values())) == 100
    assert sorted(e for own in splits.values() for e in own) == sorted(entries)
    for own in splits.values():
        assert own == [e for e in entries if e in own]


def test_the_same_seed_divides_alike_in_any_order() -> None:
    entries = _people(40, 2)
    first, again, other = (
        divided(own, {"val": 0.2}, seed=seed, rest="train")
        for own, seed in ((entries, 3), (entries[::-1], 3), (entries, 4))
    )
    assert {e.record.id for e in first["val"]} == {e.record.id for e in again["val"]}
    assert {e.record.id for e in first["val"]} != {e.record.id for e in other["val"]}


def test_the_check_finds_what_the_table_could_not_decode(tmp_path: Path) -> None:
    """Cut anywhere, a picture is either left out or decodes at full size."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    entries = [entry(picture(tmp_path / "good.png"))]
    for form in ("JPEG", "PNG", "WEBP"):
        for progressive in (False, True):
            out = io.BytesIO()
            Image.fromarray(noise).save(out, form, **({"progressive": progressive} if form == "JPEG" else {}))
            for tenth in range(1, 10):
                path = tmp_path / f"{form}{progressive}{tenth}"
                path.write_bytes(out.getvalue()[: len(out.getvalue()) * tenth // 10])
                entries.append(entry(path))
    skips = Skips()
    table: PairTable = assemble({"test": entries}, Reading(size=80, skip_limit=1), skips, source="mine")[
        "test"
    ]
    assert len(skips) > 30
    assert table.pixels(slice(None)).shape == (len(entries) - len(skips), 3, 80, 80)
