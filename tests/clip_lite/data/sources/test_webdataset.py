"""A folder of WebDataset shards as a corpus, as the webdataset library writes it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from clip_lite.config import DataConfig
from clip_lite.data import shard_index
from clip_lite.data.batches import order_of
from clip_lite.data.corpora import load_corpus
from clip_lite.data.pairs import Corpus, Record
from clip_lite.data.reading import Reading
from clip_lite.data.shards import ShardStore
from clip_lite.data.sources import webdataset as loader
from clip_lite.data.sources.webdataset import load_webdataset
from clip_lite.errors import CommandError, UsageError
from tests.clip_lite.data.conftest import pair, png, shard, write


def load(root: Path, *, fraction: float = 1.0, **changed: Any) -> Corpus:
    return load_webdataset(root, Reading(size=16, **changed), fraction=fraction)


def values_of(corpus: Corpus, split: str) -> list[int]:
    """The picture's red value, checked against its caption."""
    table = corpus.splits[split]
    red = table.pixels(np.arange(len(table)))[:, 0, 0, 0].tolist()
    assert [record.captions for record in table.records] == [(f"caption {value}",) for value in red]
    return red


def test_splits_are_the_shards_in_order(folder: Path) -> None:
    corpus = load(folder)
    assert values_of(corpus, "train") == list(range(15))
    assert values_of(corpus, "val") == [20, 21, 22]
    assert values_of(corpus, "test") == [30, 31, 32, 33]
    assert corpus.splits["train"].images.shard_counts.tolist() == [5, 4, 6]  # type: ignore[attr-defined]
    assert corpus.sources[0]["pictures"] == 22
    assert len({record.id for table in corpus.splits.values() for record in table.records}) == 22
    assert corpus.role is None


def test_what_the_webdataset_library_writes(tmp_path: Path) -> None:
    for split in ("train", "val", "test", "sketches"):
        pattern = str(tmp_path / f"{split}-%06d.tar")
        with webdataset.ShardWriter(pattern, maxcount=3, verbose=0) as sink:
            for value in range(7):
                said = {"captions": [f"caption {value}"], "attributes": {"tone": "dark", "n": value}}
                picture = Image.new("RGB", (16, 16), (value, 10, 20))
                sink.write({"__key__": f"some/folder.v1/{value}", "png": picture, "json": said})
    corpus = load(tmp_path)
    assert list(corpus.splits) == ["train", "val", "test", "sketches"]
    for split in corpus.splits:
        assert values_of(corpus, split) == list(range(7))
    assert corpus.splits["sketches"].records[3].attributes == {"tone": "dark", "n": "3"}
    assert corpus.splits["train"].images.shard_counts.tolist() == [3, 3, 1]  # type: ignore[attr-defined]


def test_a_picture_that_cannot_be_read_is_named_by_shard_and_member(folder: Path) -> None:
    path = write(folder / "train-000000.tar", {**pair("0", 0), "1.png": png(1)[:60], "1.txt": b"cut"})
    with pytest.raises(CommandError, match=rf"1 of 19 cannot be used.*{path}, member 1\.png"):
        load(folder).splits["train"].pixels(slice(None))


def test_pairs_that_cannot_be_used_are_left_out_and_counted(folder: Path) -> None:
    members = {**pair("0", 0), "1.png": png(1)[:60], "1.txt": b"cut", **pair("2", 2)}
    members |= {"3.png": png(3), "3.json": b"[no json", "4.png": png(4), "4.txt": b" \r\n", **pair("5", 5)}
    write(folder / "train-000000.tar", members)
    corpus = load(folder, skip_limit=0.2)
    assert values_of(corpus, "train") == [0, 2, 5, *range(5, 15)]
    assert corpus.splits["train"].images.shard_counts.tolist() == [3, 4, 6]  # type: ignore[attr-defined]
    assert corpus.skipped["total"] == 23
    assert sum(corpus.skipped.values()) == 23 + 3
    assert any("truncated" in reason for reason in corpus.skipped)
    assert any("no caption" in reason for reason in corpus.skipped)
    again = load(folder, skip_limit=0.2)
    assert again.skipped == corpus.skipped
    with pytest.raises(CommandError, match=r"3 of 23 cannot be used, more than data\.skip_limit 0\.1"):
        load(folder, skip_limit=0.1)


def test_the_index_is_made_once_and_again_when_a_shard_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    members = shard_index._members

    def spy(path: Path) -> Any:
        opened.append(path.name)
        return members(path)

    monkeypatch.setattr(shard_index, "_members", spy)
    load(folder)
    assert len(opened) == 5
    load(folder)
    assert len(opened) == 5
    replacement = shard(folder / "new.tar", range(50, 54))
    assert replacement.stat().st_size == (folder / "test-000000.tar").stat().st_size
    os.replace(replacement, folder / "test-000000.tar")
    assert values_of(load(folder), "test") == list(range(50, 54))
    assert opened[5:] == ["test-000000.tar"]


def test_the_index_stays_on_disk_and_is_small(folder: Path) -> None:
    index = load(folder).splits["train"].images.store.index  # type: ignore[attr-defined]
    assert isinstance(index, np.memmap)
    assert index.nbytes == 56 * 15


def test_records_of_many_training_pairs_are_read_as_they_are_needed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not load(folder).splits["train"].streamed
    monkeypatch.setattr(loader, "IN_MEMORY", 10)
    asked: list[int] = []
    record = ShardStore.record

    def spy(store: ShardStore, row: int) -> Record:
        asked.append(row)
        return record(store, row)

    monkeypatch.setattr(ShardStore, "record", spy)
    corpus = load(folder)
    assert len(asked) == 7
    train = corpus.splits["train"]
    assert train.streamed
    assert train[12].captions == ("caption 12",)
    assert len(asked) == 8
    limited = corpus.limited(train=6).splits["train"]
    assert len(asked) == 14
    assert not limited.streamed
    assert len(limited.where(lambda r: True)) == 6
    assert len(asked) == 14


def test_a_fraction_keeps_pairs_of_each_shard_and_their_order(folder: Path) -> None:
    config = DataConfig(source="webdataset", root=folder, image_size=16, fraction=0.6)
    corpus = load_corpus(config)
    kept = values_of(corpus, "train")
    assert len(kept) == 9
    assert kept == sorted(set(kept))
    assert kept == values_of(load_corpus(config), "train")
    assert len(values_of(corpus, "test")) == 4
    train = corpus.splits["train"]
    ids = {r.captions: r.id for r in load(folder).splits["train"].records}
    assert all(ids[r.captions] == r.id for r in train.records)
    order = order_of(train, batch_size=3, seed=0)
    rows = np.concatenate([turn.rows for turn in order.turns(1)])
    assert sorted(rows.tolist()) == list(range(9))


def test_missing_shards_are_named(folder: Path) -> None:
    (folder / "val-000000.tar").rename(folder / ".val-000000.tar.partial")
    with pytest.raises(UsageError, match=r"data\.root .*: val-\*\.tar missing"):
        load(folder)
    with pytest.raises(UsageError, match=r"data\.root .* is no folder"):
        load(folder / "train-000000.tar")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"corpus": 5, "shards": {}, "digests": {}}', '{"corpus": {}}']
)
def test_a_damaged_manifest_is_named(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(CommandError, match=r"manifest\.json is damaged"):
        load(folder)
