"""Corpora into shards and back, and into COCO's layout: nothing is lost."""

from __future__ import annotations

import contextlib
import io
import json
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
from clip_lite.data.coco_export import write_coco
from clip_lite.data.corpora import load_corpus
from clip_lite.data.pairs import Corpus, Flag, PairTable, Record
from clip_lite.data.reading import Reading
from clip_lite.data.sources.coco import load_coco
from debias.attributes import ProtectedAttribute
from evaluation.population import check_auditable
from tests.clip_lite.conftest import Configure, Recorder, training_of
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
    source = load_coco(coco_root, Reading(size=32))
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
            entry = after.imgs[number]
            assert entry.keys() == {"id", "file_name", "width", "height", "split"}
            assert {key: entry[key] for key in ("file_name", "width", "height")} == {
                key: image[key] for key in ("file_name", "width", "height")
            }
            assert [a["caption"] for a in after.imgToAnns[number]] == [
                a["caption"] for a in before.imgToAnns[number]
            ]
        assert len({a["id"] for a in after.dataset["annotations"]}) == len(before.dataset["annotations"])
        picture, captions = torch_set[0]
        assert isinstance(picture, Image.Image)
        assert captions == [a["caption"] for a in before.imgToAnns[torch_set.ids[0]]]
    one, other = (load_coco(root, Reading(size=16)) for root in (coco_root, out))
    assert one.digest == other.digest


def test_emoji_to_shards_to_coco_keep_attributes_clusters_and_splits(corpus: Corpus, tmp_path: Path) -> None:
    shards, out = emoji_shards(corpus, tmp_path / "shards"), tmp_path / "coco"
    assert run("coco", "--shards", shards, "--out", out) == 0
    assert_pairs_equal(corpus, load_coco(out, Reading(size=32)))
    assert (out / "openmoji2017").is_dir()


def assert_pairs_equal(source: Corpus, again: Corpus) -> None:
    """The same splits with the same pairs; the class of a picture has become an object of it besides."""
    assert list(again.splits) == list(source.splits)
    for split, table in source.splits.items():
        before, after = by_id(table), by_id(again.splits[split])
        assert after.keys() == before.keys()
        for name, (record, picture) in before.items():
            known, pixels = after[name]
            assert known._replace(attributes={}) == record._replace(attributes={})
            assert known.attributes == {**record.attributes, "objects": record.attributes["category"]}
            assert np.array_equal(pixels, picture)


@pytest.fixture
def exported(corpus: Corpus, tmp_path: Path) -> Path:
    write_coco(corpus, tmp_path / "exported")
    return tmp_path / "exported"


def test_an_exported_corpus_keeps_splits_pairs_and_their_order(corpus: Corpus, exported: Path) -> None:
    again = load_coco(exported, Reading(size=32, val_fraction=0.4, seed=7))
    assert_pairs_equal(corpus, again)
    for split, table in corpus.splits.items():
        assert [r.id for r in again.splits[split].records] == [r.id for r in table.records]
    assert again.objects == "objects"
    assert again.skipped == {}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools' decode
def test_pycocotools_and_torchvision_read_an_exported_corpus(corpus: Corpus, exported: Path) -> None:
    tables = {"train2017": ("train", "val"), "val2017": ("test",), "openmoji2017": ("openmoji",)}
    for folder, splits in tables.items():
        pairs = {name: pair for split in splits for name, pair in by_id(corpus.splits[split]).items()}
        with contextlib.redirect_stdout(io.StringIO()):
            captions, instances = (
                COCO(str(exported / "annotations" / f"{kind}_{folder}.json"))
                for kind in ("captions", "instances")
            )
            read = CocoCaptions(
                str(exported / folder), str(exported / "annotations" / f"captions_{folder}.json")
            )
        assert len(read) == len(captions.imgs) == len(instances.imgs) == len(pairs)
        for place, number in enumerate(read.ids):
            image = captions.imgs[number]
            record, pixels = pairs[image["pair_id"]]
            picture, texts = read[place]
            assert tuple(texts) == record.captions
            assert np.array_equal(np.asarray(picture).transpose(2, 0, 1), pixels)
            assert (image["width"], image["height"]) == picture.size
            (instance,) = instances.imgToAnns[number]
            assert instances.cats[instance["category_id"]] == {
                "id": instance["category_id"],
                "name": record.attributes["category"],
                "supercategory": "category",
            }
            assert instance["bbox"] == [0, 0, *picture.size]
            assert instances.annToMask(instance).sum() == instance["area"] == 32 * 32


def test_training_from_the_exported_files_gives_the_same_losses(
    corpus: Corpus, exported: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a pixel cache: without one, files are cropped as they are decoded and arrays afterwards."""
    monkeypatch.setattr("clip_lite.fit.LOG_EVERY", 1)
    data = DataConfig(source="coco", root=exported, image_size=32, pixel_cache=True)
    losses = []
    for pairs in (corpus, load_corpus(data)):
        hooks = Recorder()
        training, _ = training_of(configure(data={"image_size": 32}), pairs, hooks)
        training.run()
        logged = sorted(hooks.logged.items())
        losses.append([seen["train/loss"] for _, seen in logged if "train/loss" in seen])
    assert len(set(losses[0])) > 10
    assert losses[0] == losses[1]


def test_ids_that_look_alike_get_files_of_their_own(tmp_path: Path) -> None:
    images = np.arange(3 * 3 * 8 * 8, dtype=np.uint8).reshape(3, 3, 8, 8)
    names = ("a b", "a/b", "日本" * 200)
    records = [Record(name, (f"caption {name}",), {}, name) for name in names]
    table = PairTable(images, records, np.arange(3))
    none = PairTable(images, [], np.arange(0))
    whole = Corpus("mine", {"train": none, "val": none, "test": table}, (), (), Flag(None), Flag(None))
    write_coco(whole, tmp_path / "out")
    file = tmp_path / "out" / "annotations" / "captions_val2017.json"
    entries = {image["pair_id"]: image for image in json.loads(file.read_text("utf-8"))["images"]}
    assert entries.keys() == set(names)
    for record, pixels in zip(records, images, strict=True):
        with Image.open(tmp_path / "out" / "val2017" / entries[record.id]["file_name"]) as picture:
            assert np.array_equal(np.asarray(picture).transpose(2, 0, 1), pixels)
    assert not list((tmp_path / "out" / "annotations").glob("instances_*"))


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
