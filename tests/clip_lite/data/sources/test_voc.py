"""Pascal VOC as VOCdevkit holds it: classes, difficult ones, splits of both years, and what is broken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from clip_lite.data.pairs import Corpus
from clip_lite.data.reading import Reading
from clip_lite.data.sources.voc import load_voc
from clip_lite.errors import CommandError, UsageError
from tests.clip_lite.data.conftest import jpeg

Objects = tuple[tuple[str, int], ...]  # name and difficult
TRAIN: Mapping[str, Objects] = {
    f"{n:06d}": (("dog", 0), ("person", 1), ("person", 0), ("dog", 0)) for n in range(5, 15)
}
VAL: Mapping[str, Objects] = {f"{n:06d}": (("tvmonitor", 1), ("person", 0)) for n in range(15, 20)}
TEST: Mapping[str, Objects] = {f"{n:06d}": (("sheep", 0), ("cow", 1)) for n in range(1, 5)}


def xml(name: str, objects: Objects) -> str:
    things = "".join(
        f"""
	<object>
		<name>{label}</name>
		<pose>Left</pose>
		<truncated>1</truncated>
		<difficult>{difficult}</difficult>
		<bndbox><xmin>4</xmin><ymin>4</ymin><xmax>35</xmax><ymax>25</ymax></bndbox>
		<part><name>head</name><bndbox><xmin>4</xmin></bndbox></part>
	</object>"""
        for label, difficult in objects
    )
    return f"""<annotation>
	<folder>VOC2007</folder>
	<filename>{name}.jpg</filename>
	<source><database>The VOC2007 Database</database><flickrid>33</flickrid></source>
	<owner><flickrid>someone</flickrid><name>?</name></owner>
	<size><width>40</width><height>30</height><depth>3</depth></size>
	<segmented>0</segmented>{things}
</annotation>
"""


def add(year: Path, split: str, pictures: Mapping[str, Objects]) -> None:
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (year / folder).mkdir(parents=True, exist_ok=True)
    (year / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in pictures))
    for name, objects in pictures.items():
        (year / "Annotations" / f"{name}.xml").write_text(xml(name, objects))
        (year / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg(int(name)))


def devkit(root: Path, year: str = "VOC2007") -> Path:
    """The folder of one year as it is unpacked; of 2007 with its test."""
    folder = root / "VOCdevkit" / year
    add(folder, "train", TRAIN)
    add(folder, "val", VAL)
    add(folder, "trainval", {**TRAIN, **VAL})
    (folder / "ImageSets" / "Main" / "dog_train.txt").write_text("000005  1\n000006 -1\n")
    if year == "VOC2007":
        add(folder, "test", TEST)
    return folder


def load(root: Path, **changed: float) -> Corpus:
    return load_voc(root, Reading(size=16, **{"val_fraction": 0.2, **changed}))  # type: ignore[arg-type]


def numbers(corpus: Corpus, split: str) -> list[int]:
    return [int(Path(record.id).stem) for record in corpus.splits[split].records]


def test_2007_trains_on_trainval_and_is_tested_on_its_test(tmp_path: Path) -> None:
    corpus = load(devkit(tmp_path))
    assert list(corpus.splits) == ["train", "val", "test"]
    assert len(corpus.splits["val"]) == 3
    assert sorted(numbers(corpus, "train") + numbers(corpus, "val")) == list(range(5, 20))
    assert numbers(corpus, "test") == [1, 2, 3, 4]
    assert (corpus.objects, corpus.captioned, corpus.classification) == ("objects", False, None)
    assert corpus.splits["test"].pixels(slice(None)).shape == (4, 3, 16, 16)
    assert corpus.skipped == {}


@pytest.mark.parametrize("without_test", ["year", "file"])
def test_without_a_published_test_val_is_the_test(tmp_path: Path, without_test: str) -> None:
    folder = devkit(tmp_path, "VOC2012" if without_test == "year" else "VOC2007")
    lists = folder / "ImageSets" / "Main"
    if without_test == "year":
        (lists / "test.txt").write_text("2008_000001\n")  # of the challenge, without annotations
    else:
        (lists / "test.txt").unlink()
    corpus = load(folder)
    assert sorted(numbers(corpus, "train") + numbers(corpus, "val")) == list(range(5, 15))
    assert numbers(corpus, "test") == list(range(15, 20))


def test_a_class_is_unsure_only_where_all_its_objects_are_difficult(tmp_path: Path) -> None:
    corpus = load(devkit(tmp_path))
    said = {
        int(Path(record.id).stem): (record.attributes["objects"], record.attributes["objects_unsure"])
        for table in corpus.splits.values()
        for record in table.records
    }
    assert said[1] == ("sheep", "cow")
    assert said[5] == ("dog;person", "")
    assert said[15] == ("person", "tvmonitor")


def test_the_folder_may_be_the_year_or_hold_it(tmp_path: Path) -> None:
    year = devkit(tmp_path)
    digests = {load(root).digest for root in (tmp_path, tmp_path / "VOCdevkit", year)}
    assert len(digests) == 1
    devkit(tmp_path, "VOC2012")
    with pytest.raises(UsageError, match=r"holds VOC2007, VOC2012: name one, --data.root .*VOC2007"):
        load(tmp_path)


def test_another_folder_or_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"data.root {tmp_path} holds no Pascal VOC; expected VOCdevkit/"):
        load(tmp_path)
    year = devkit(tmp_path)
    (year / "ImageSets" / "Main" / "trainval.txt").unlink()
    with pytest.raises(UsageError, match=r"trainval\.txt is missing"):
        load(year)


def test_an_empty_list_is_named(tmp_path: Path) -> None:
    year = devkit(tmp_path)
    (year / "ImageSets" / "Main" / "test.txt").write_text("\r\n")
    with pytest.raises(CommandError, match=r"test\.txt names no picture"):
        load(year)


def test_a_list_may_have_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    year = devkit(tmp_path)
    plain = load(year).digest
    file = year / "ImageSets" / "Main" / "trainval.txt"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert load(year).digest == plain


def test_what_is_missing_or_broken_is_left_out_and_counted(tmp_path: Path) -> None:
    year = devkit(tmp_path)
    (year / "JPEGImages" / "000001.jpg").unlink()
    picture = year / "JPEGImages" / "000005.jpg"
    picture.write_bytes(picture.read_bytes()[:300])
    (year / "Annotations" / "000006.xml").unlink()
    (year / "Annotations" / "000007.xml").write_text(xml("000007", (("dog", 0),))[:-20])
    (year / "Annotations" / "000008.xml").write_text("<html></html>")
    bomb = (
        '<!DOCTYPE annotation [<!ENTITY a "aaaa">]><annotation><object><name>&a;</name></object></annotation>'
    )
    (year / "Annotations" / "000009.xml").write_text(bomb)
    (year / "Annotations" / "000010.xml").write_text(bomb, encoding="utf-16")
    (year / "Annotations" / "000011.xml").write_text(xml("000011", (("", 0),)))
    with (year / "ImageSets" / "Main" / "trainval.txt").open("a") as lines:
        lines.write("../../outside\n")
    corpus = load(year, skip_limit=0.5)
    assert sorted(numbers(corpus, "train") + numbers(corpus, "val")) == list(range(12, 20))
    assert numbers(corpus, "test") == [2, 3, 4]
    assert corpus.skipped["total"] == 20
    assert sum(corpus.skipped.values()) - 20 == 9
    reasons = " ".join(corpus.skipped)
    for said in ("no plain name", "annotations that are missing", "<html> where", "document type"):
        assert said in reasons
    with pytest.raises(CommandError, match=r"voc: 9 of 20 cannot be used, more than data\.skip_limit 0\.01"):
        load(year)
