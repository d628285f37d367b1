"""Corpora into shards and back, and into COCO's layout: nothing is lost."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import CocoCaptions
from webdataset import tariterators
from webdataset.autodecode import Decoder, imagehandler

from clip_lite.config import DataConfig
from clip_lite.data import prepare
from clip_lite.data.coco import load_coco
from clip_lite.data.pairs import Corpus, PairTable, Record
from debias.attributes import ProtectedAttribute
from evaluation.population import check_auditable
from tests.clip_lite.data.conftest import content, load, run


def by_id(table: PairTable) -> dict[str, tuple[Record, np.ndarray]]:
    pixels = table.pixels(np.arange(len(table))).numpy()
    return {record.id: (record, picture) for record, picture in zip(table.records, pixels, strict=True)}


def assert_same(one: Corpus, other: Corpus) -> None:
    """The same pairs in each split, and all that evaluation needs to know about them."""
    assert list(one.splits) == list(other.splits)
    for split, table in one.splits.items():
        left, right = by_id(table), by_id(other.splits[split])
        assert left.keys() == right.keys()
        for name, (record, picture) in left.items():
            assert record == right[name][0]
            assert np.array_equal(picture, right[name][1])
        for picks in ("audited", "canonical"):
            before, after = getattr(one, picks), getattr(other, picks)
            assert [before(r) for r, _ in left.values()] == [after(right[name][0]) for name in left]
    assert [dict(source) for source in one.sources] == [dict(source) for source in other.sources]
    for field in ("name", "limits", "role", "classification"):
        assert getattr(one, field) == getattr(other, field)


def emoji_shards(corpus: Corpus, out: Path) -> Path:
    prepare.to_shards(corpus, out, data=DataConfig(), pairs_per_shard=100)
    return out


def test_emoji_come_back_as_they_were(corpus: Corpus, tmp_path: Path) -> None:
    again = load(emoji_shards(corpus, tmp_path / "shards"))
    assert_same(corpus, again)
    check_auditable(again, ProtectedAttribute.load("gender"))
    train = again.splits["train"].images
    assert set(train.shard_counts.tolist()[:-1]) == {100}  # type: ignore[attr-defined]


def test_training_pairs_are_mixed_so_that_neighbours_are_not_alike(corpus: Corpus, tmp_path: Path) -> None:
    out = emoji_shards(corpus, tmp_path / "shards")
    table = load(out).splits["train"]
    place = {record.id: index for index, record in enumerate(corpus.splits["train"].records)}
    order = np.array([place[record.id] for record in table.records])
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.2


def test_coco_comes_back_as_it_was(coco_root: Path, shards: Path) -> None:
    source = load_coco(coco_root, image_size=32, val_fraction=0.1, seed=0, workers=2)
    again = load(shards)
    assert_same(source, again)
    assert {split: len(table) for split, table in again.splits.items()} == {"train": 18, "val": 2, "test": 8}
    assert sorted(path.name for path in shards.glob("*.tar")) == [
        "test-000000.tar",
        "test-000001.tar",
        "train-000000.tar",
        "train-000001.tar",
        "train-000002.tar",
        "val-000000.tar",
    ]


def test_the_webdataset_library_reads_the_shards(coco_root: Path, shards: Path) -> None:
    read: list[dict[str, Any]] = []
    for path in sorted(shards.glob("train-*.tar")):
        with path.open("rb") as stream:  # webdataset's own opener leaves its last file open
            opened = [{"url": str(path), "stream": stream}]
            read += tariterators.group_by_keys(tariterators.tar_file_expander(opened))
    records = load(shards).splits["train"].records
    assert len(read) == len(records) == 18
    decode = Decoder([imagehandler("rgb8")])
    for sample, record in zip(read, records, strict=True):
        assert sample["jpg"] == (coco_root / record.id).read_bytes()
        assert sample["txt"].decode() == record.captions[0]
        decoded = decode(sample)
        assert decoded["jpg"].shape == (30, 40, 3)
        assert decoded["json"]["captions"] == list(record.captions)


def test_coco_to_shards_to_coco(coco_root: Path, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    assert run("coco", "--shards", shards, "--out", out) == 0
    for split in ("train2017", "val2017"):
        assert content(out / split) == content(coco_root / split)
        name = f"annotations/captions_{split}.json"
        with contextlib.redirect_stdout(io.StringIO()):
            before, after = COCO(str(coco_root / name)), COCO(str(out / name))
            torch_set = CocoCaptions(str(out / split), str(out / name))
        assert sorted(before.imgs) == sorted(after.imgs)
        for number, image in before.imgs.items():
            assert after.imgs[number] == {"id": number, "file_name": image["file_name"]}
            assert [a["caption"] for a in after.imgToAnns[number]] == [
                a["caption"] for a in before.imgToAnns[number]
            ]
        assert len({a["id"] for a in after.dataset["annotations"]}) == len(before.dataset["annotations"])
        picture, captions = torch_set[0]
        assert isinstance(picture, Image.Image)
        assert captions == [a["caption"] for a in before.imgToAnns[torch_set.ids[0]]]
    arguments: Mapping[str, Any] = {"image_size": 16, "val_fraction": 0.1, "seed": 0, "workers": 2}
    one, other = load_coco(coco_root, **arguments), load_coco(out, **arguments)
    assert one.digest == other.digest


def test_emoji_to_shards_to_coco_keep_attributes_and_clusters(corpus: Corpus, tmp_path: Path) -> None:
    shards, out = emoji_shards(corpus, tmp_path / "shards"), tmp_path / "coco"
    assert run("coco", "--shards", shards, "--out", out) == 0
    again = load_coco(out, image_size=32, val_fraction=0.2, seed=0, workers=2)
    assert by_id(again.splits["test"]).keys() == by_id(corpus.splits["test"]).keys()
    for name, (record, picture) in by_id(again.splits["test"]).items():
        source, pixels = by_id(corpus.splits["test"])[name]
        assert record == source
        assert np.array_equal(picture, pixels)
    assert len(again.splits["train"]) + len(again.splits["val"]) == len(corpus.splits["train"]) + len(
        corpus.splits["val"]
    )
    assert set(again.splits["train"].clusters).isdisjoint(again.splits["val"].clusters)
    assert (out / "openmoji2017").is_dir()


@pytest.mark.parametrize("third", ["other", "train2017/01.jpg"])
def test_pictures_get_distinct_numbers_where_names_give_none(tmp_path: Path, third: str) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    ids = {
        "train": ("train2017/2.jpg", "train2017/1.jpg", third),
        "val": ("train2017/7.jpg",),
        "test": ("x",),
    }
    for split, names in ids.items():
        with webdataset.TarWriter(str(folder / f"{split}-0.tar")) as sink:
            for key, name in enumerate(names):
                said = {"id": name, "caption": f"caption of {name}"}
                sink.write({"__key__": str(key), "jpg": Image.new("RGB", (8, 8)), "json": said})
    assert run("coco", "--shards", folder, "--out", tmp_path / "coco") == 0
    written = json.loads((tmp_path / "coco" / "annotations" / "captions_train2017.json").read_text())
    by_number = {
        image["id"]: image.get("pair_id", f"train2017/{image['file_name']}") for image in written["images"]
    }
    assert sorted(by_number) == [1, 2, 3, 4]
    assert sorted(by_number.values()) == sorted((*ids["train"], *ids["val"]))
    for caption in written["annotations"]:
        assert caption["caption"] == f"caption of {by_number[caption['image_id']]}"
