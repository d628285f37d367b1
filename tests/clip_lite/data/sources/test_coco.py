"""COCO Captions from its folder: splits, captions, attributes, and what is said when something is missing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clip_lite.config import DataConfig
from clip_lite.data.corpora import load_corpus
from clip_lite.data.pairs import Corpus
from clip_lite.data.reading import Reading
from clip_lite.data.sources.coco import load_coco
from clip_lite.errors import CommandError, UsageError
from debias.attributes import ProtectedAttribute
from evaluation.population import check_auditable, group_labels


def load(root: Path, **changed: Any) -> Corpus:
    return load_coco(root, Reading(**{"size": 16, "val_fraction": 0.2, **changed}))


def edit(root: Path, change: Callable[[dict[str, Any]], Any], split: str = "train2017") -> Path:
    file = root / "annotations" / f"captions_{split}.json"
    content = json.loads(file.read_text())
    content = change(content) or content
    file.write_text(json.dumps(content))
    return file


def test_splits_share_no_picture_and_come_by_number(coco_root: Path) -> None:
    corpus = load(coco_root)
    ids = {split: [record.id for record in table.records] for split, table in corpus.splits.items()}
    assert {split: len(names) for split, names in ids.items()} == {"train": 16, "val": 4, "test": 8}
    assert sorted(ids["train"] + ids["val"]) == [f"train2017/{n:012d}.jpg" for n in range(1, 21)]
    assert ids["test"] == [f"val2017/{n:012d}.jpg" for n in range(101, 109)]
    assert ids["train"] == sorted(ids["train"])
    assert [r.id for r in load(coco_root).splits["val"].records] == ids["val"]
    assert [r.id for r in load(coco_root, seed=1).splits["val"].records] != ids["val"]


def test_pictures_and_captions_belong_together(coco_root: Path) -> None:
    corpus = load(coco_root)
    for table in corpus.splits.values():
        for place, record in enumerate(table.records):
            number = int(record.id[-16:-4])
            assert {f": number {number}." in caption for caption in record.captions} == {True}
            assert len(record.captions) == 5
            assert record.cluster == record.id
            stored = (coco_root / record.id).read_bytes()
            assert table.images.encoded_bytes(int(table.rows[place])) == stored  # type: ignore[attr-defined]
    pixels = corpus.splits["val"].pixels(slice(None))
    assert pixels.shape == (4, 3, 16, 16)
    assert (corpus.splits["val"][2].image == pixels[2]).all()


def test_it_says_where_it_is_from(coco_root: Path) -> None:
    corpus = load(coco_root)
    assert corpus.sources[0]["licence"] == "Attribution License"
    assert corpus.sources[0]["pictures"] == 28
    assert corpus.role is None
    assert corpus.classification is None
    assert any("20-30%" in limit for limit in corpus.limits)


def test_groups_come_from_captions(coco_root: Path) -> None:
    corpus, gender = load(coco_root), ProtectedAttribute.load("gender")
    check_auditable(corpus, gender)
    table = corpus.splits["test"]
    assert group_labels(table, gender).tolist() == ["woman", "man"] * 4


def test_reading_prints_nothing(coco_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(coco_root)
    assert capsys.readouterr().out == ""


def test_the_layout_of_2014_is_read_too(coco_root: Path) -> None:
    for path in (*coco_root.glob("*2017"), *coco_root.glob("annotations/*")):
        path.rename(path.parent / path.name.replace("2017", "2014"))
    corpus = load(coco_root)
    assert corpus.splits["test"].records[0].id == "val2014/000000000101.jpg"
    assert corpus.splits["test"].pixels(slice(0, 1)).shape == (1, 3, 16, 16)


def test_a_picture_without_caption_is_left_out_and_counted(
    coco_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def drop(content: dict[str, Any]) -> None:
        kept = [a for a in content["annotations"] if a["image_id"] not in (3, 4)]
        content["annotations"] = [*kept, {"id": 999, "image_id": 4, "caption": "  "}]

    edit(coco_root, drop)
    corpus = load(coco_root, skip_limit=0.1)
    assert len(corpus.splits["train"]) + len(corpus.splits["val"]) == 18
    assert corpus.skipped == {"pictures without a caption": 2, "total": 28}
    assert (
        "left out 2 of 28: pictures without a caption: train2017/000000000003.jpg" in capsys.readouterr().out
    )


def test_captions_are_kept_as_they_are_and_only_empty_ones_dropped(coco_root: Path) -> None:
    long = " ".join(f"word{place}" for place in range(500))

    def speak(content: dict[str, Any]) -> None:
        texts = iter(["Mädchen – 女の子 🚲", "", long, None, "\t\r\n"])
        for annotation in content["annotations"]:
            if annotation["image_id"] == 101:
                annotation["caption"] = next(texts)

    edit(coco_root, speak, "val2017")
    assert load(coco_root).splits["test"].records[0].captions == ("Mädchen – 女の子 🚲", long)


def test_a_byte_order_mark_and_windows_line_ends_are_read_over(coco_root: Path) -> None:
    before = load(coco_root).digest
    for file in (coco_root / "annotations").glob("*.json"):
        text = json.dumps(json.loads(file.read_text()), indent=1).replace("\n", "\r\n")
        file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load(coco_root).digest == before


def test_a_split_that_a_picture_names_stands_above_its_file(coco_root: Path) -> None:
    def name_splits(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["split"] = "val" if image["id"] in (5, 2) else "hard" if image["id"] == 7 else "train"

    edit(coco_root, name_splits)
    corpus = load(coco_root)
    assert list(corpus.splits) == ["train", "val", "test", "hard"]
    assert list(map(len, corpus.splits.values())) == [17, 2, 8, 1]
    assert [record.id[-7:-4] for record in corpus.splits["val"].records] == ["002", "005"]


def test_further_files_with_a_folder_of_their_own_are_test_splits(coco_root: Path) -> None:
    shutil.copytree(coco_root / "val2017", coco_root / "drawings2017")
    annotations = coco_root / "annotations"
    for name in ("drawings2017", "minival2017"):  # the second one has no folder
        shutil.copy(annotations / "captions_val2017.json", annotations / f"captions_{name}.json")
    corpus = load(coco_root)
    assert list(corpus.splits) == ["train", "val", "test", "drawings"]
    assert corpus.splits["drawings"].records[0].id == "drawings2017/000000000101.jpg"


def test_a_picture_listed_twice_counts_once(coco_root: Path) -> None:
    edit(coco_root, lambda content: content["images"].append(content["images"][0]))
    corpus = load(coco_root, skip_limit=0.1)
    assert sum(map(len, corpus.splits.values())) == 28
    assert corpus.skipped == {"ids that were there before": 1, "total": 29}


def test_attributes_and_clusters_of_the_file_are_read(coco_root: Path) -> None:
    def describe(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["attributes"] = {"tone": "dark", "age": 7}
            image["cluster"] = f"photographer {image['id'] % 4}"
        content["images"][0]["attributes"] = ["no", "object"]

    edit(coco_root, describe)
    corpus = load(coco_root, val_fraction=0.25)
    clusters = {split: set(corpus.splits[split].clusters) for split in ("train", "val")}
    assert clusters["train"].isdisjoint(clusters["val"])
    assert len(clusters["val"]) == 1
    everything = [*corpus.splits["train"].records, *corpus.splits["val"].records]
    assert sum(record.attributes == {"tone": "dark", "age": "7"} for record in everything) == 19
    assert sum(record.attributes == {} for record in everything) == 1


@pytest.mark.parametrize("missing", ["annotations/captions_train2017.json", "val2017", "train2017"])
def test_a_missing_part_is_named(coco_root: Path, missing: str) -> None:
    path = coco_root / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UsageError, match=rf"data\.root .*{missing} is missing"):
        load(coco_root)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content["images"][0].update(split="../x") and None, "no plain name"),
        (lambda content: content.pop("images") and None, "images"),
        (lambda content: content["annotations"][0].pop("caption") and None, "caption"),
        (lambda content: content["images"][0].update(file_name="../../secret.jpg"), "no plain name"),
        (lambda content: content["images"][0].update(file_name="/etc/hostname"), "no plain name"),
    ],
)
def test_a_file_that_holds_no_captions_is_refused(
    coco_root: Path, change: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    file = edit(coco_root, change)
    with pytest.raises(CommandError, match=f"{file} holds no COCO captions .*{reason}"):
        load(coco_root)


def test_a_file_that_is_no_json_is_refused(coco_root: Path) -> None:
    file = coco_root / "annotations" / "captions_val2017.json"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CommandError, match=f"{file} cannot be read as JSON"):
        load(coco_root)


def test_no_caption_at_all_is_refused(coco_root: Path) -> None:
    edit(coco_root, lambda content: content.update(annotations=[]))
    with pytest.raises(CommandError, match="no picture has a caption"):
        load(coco_root)


@pytest.mark.parametrize(
    ("damage", "reason"), [("truncated", "cannot be read"), ("missing", "that are missing")]
)
def test_a_picture_that_cannot_be_read_is_left_out_and_named(
    coco_root: Path, capsys: pytest.CaptureFixture[str], damage: str, reason: str
) -> None:
    file = coco_root / "val2017" / "000000000103.jpg"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:400])
    corpus = load(coco_root, skip_limit=0.05)
    assert [int(record.id[-7:-4]) for record in corpus.splits["test"].records] == [101, 102, *range(104, 109)]
    assert corpus.splits["test"].pixels(slice(None)).shape == (7, 3, 16, 16)
    assert str(file) in capsys.readouterr().out
    assert [name for name in corpus.skipped if reason in name]
    with pytest.raises(CommandError, match=f"1 of 28 cannot be used.*{file} .*{reason}"):
        load(coco_root)


def test_too_many_that_cannot_be_used_stop_with_the_first_five(coco_root: Path) -> None:
    for number in range(101, 108):
        (coco_root / "val2017" / f"{number:012d}.jpg").unlink()
    with pytest.raises(CommandError, match=r"7 of 28 .*data\.skip_limit 0\.1: ") as stopped:
        load(coco_root, skip_limit=0.1)
    assert [f"{n:012d}.jpg" in str(stopped.value) for n in range(101, 108)] == [True] * 5 + [False] * 2
    assert "\n" not in str(stopped.value)


def source(root: Path | None, **changed: Any) -> DataConfig:
    return DataConfig(source="coco", root=root, image_size=16, val_fraction=0.2, **changed)


def test_a_source_without_its_folder_is_asked_for_it() -> None:
    for name in ("coco", "webdataset"):
        with pytest.raises(UsageError, match=rf"data\.source {name} .*--data\.root"):
            load_corpus(DataConfig(source=name))


def test_a_fraction_of_the_training_pictures(coco_root: Path) -> None:
    whole, half = load_corpus(source(coco_root)), load_corpus(source(coco_root, fraction=0.5))
    kept = [record.id for record in half.splits["train"].records]
    assert len(kept) == 8
    assert set(kept) < {record.id for record in whole.splits["train"].records}
    assert kept == [r.id for r in load_corpus(source(coco_root, fraction=0.5)).splits["train"].records]
    for split in ("val", "test"):
        assert half.splits[split].digest == whole.splits[split].digest
    same = half.splits["train"].pixels(slice(0, 1))[0]
    place = [record.id for record in whole.splits["train"].records].index(kept[0])
    assert (same == whole.splits["train"][place].image).all()


def test_limits_draw_pictures_in_order(coco_root: Path) -> None:
    corpus = load(coco_root)
    limited = corpus.limited(train=6, test=1000)
    ids = [record.id for record in limited.splits["train"].records]
    assert len(ids) == 6
    assert ids == sorted(ids)
    assert limited.splits["test"].digest == corpus.splits["test"].digest
    assert limited.splits["val"] is corpus.splits["val"]


def test_pixels_are_decoded_once_and_again_when_a_picture_changes(
    coco_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load_corpus(source(coco_root))
    first = load_corpus(source(coco_root, pixel_cache=True))
    for split, table in first.splits.items():
        assert isinstance(table.images, np.ndarray)
        assert (table.pixels(slice(None)) == plain.splits[split].pixels(slice(None))).all()
        assert table.records == plain.splits[split].records

    def never(*_: object) -> None:
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr("clip_lite.data.encoded.decode", never)
        again = load_corpus(source(coco_root, pixel_cache=True))
    assert again.digest == first.digest
    (coco_root / "val2017" / "000000000102.jpg").write_bytes(
        (coco_root / "val2017" / "000000000101.jpg").read_bytes()
    )
    test = load_corpus(source(coco_root, pixel_cache=True)).splits["test"].pixels(slice(None))
    assert (test[0] == test[1]).all()
