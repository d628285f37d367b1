"""Embeddings on disk equal those in memory, however many processes wrote them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from clip_lite.data.cache import cache_root
from clip_lite.data.pairs import PairTable, Record
from clip_lite.distributed import process_group, rank
from clip_lite.errors import CommandError
from clip_lite.model import DualEncoder
from debias.methods.random_direction import random_direction
from evaluation.embed import embed
from evaluation.embedding_store import (
    embedding_key,
    merge_shards,
    read_embeddings,
    shard_folder,
    stored_embeddings,
    write_shard,
)
from tests.clip_lite.two_ranks import two_ranks

CPU = torch.device("cpu")


def pictures(count: int = 11) -> PairTable:
    rng = np.random.default_rng(0)
    records = [
        Record(f"img {i}", (f"a man\u2028number {i}", "a man"), {"gender": "man"}, f"stem {i // 2}")
        for i in range(count)
    ]
    return PairTable(rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), records, np.arange(count))


@pytest.fixture
def model(saved_model: Path) -> DualEncoder:
    return DualEncoder.from_pretrained(saved_model)


def test_what_is_stored_is_what_one_pass_gives(model: DualEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pictures()
    stored = stored_embeddings(model, table, "embedding", device=CPU)
    fresh = embed(model, table, "embedding", device=CPU)
    assert torch.equal(stored.image.features, fresh.image.features)
    assert torch.equal(stored.image.embedding, fresh.image.embedding)
    assert stored.records == table.records
    assert stored.ids == [record.id for record in table.records]
    captions, own = stored.captions()
    assert len(captions) == 12
    assert captions[own[3][1]] == "a man"
    assert stored.clusters.tolist() == table.clusters.tolist()

    def never(*_: object) -> None:
        raise AssertionError("the second call reads what the first stored")

    monkeypatch.setattr(DualEncoder, "encode_image", never)
    again = stored_embeddings(model, table, "embedding", device=CPU)
    assert torch.equal(again.image.embedding, fresh.image.embedding)


def test_rows_may_be_picked_by_mask_or_by_place(model: DualEncoder) -> None:
    table = embed(model, pictures(), "embedding", device=CPU)
    mask = np.arange(11) % 3 == 0
    by_mask, by_place = table.rows(mask), table.rows(np.flatnonzero(mask))
    assert by_mask.ids == by_place.ids == ["img 0", "img 3", "img 6", "img 9"]
    assert np.array_equal(by_mask.embedding, table.embedding[mask])
    assert np.array_equal(by_place.features, table.features[mask])


def test_the_key_follows_weights_settings_data_and_erasers_that_act(
    model: DualEncoder,
) -> None:
    table, key = pictures(), embedding_key(model, pictures(), CPU)
    assert key == embedding_key(model, pictures(), CPU)
    assert key != embedding_key(model, pictures(10), CPU)
    model.erase = False
    off = embedding_key(model, table, CPU)
    model.attach({"embedding": random_direction(8, rank=1, mean=torch.zeros(8), seed=0)})
    assert embedding_key(model, table, CPU) == off
    model.erase = True
    assert embedding_key(model, table, CPU) not in (off, key)
    model.erase = False
    with torch.no_grad():
        model.logit_scale += 1e-3
    assert embedding_key(model, table, CPU) != off
    model.settings["image_size"] = 64
    assert embedding_key(model, table, CPU) != off


def test_shards_merge_to_one_pass_and_are_gone(model: DualEncoder, tmp_path: Path) -> None:
    table, target = pictures(), tmp_path / "store" / "abc"
    for place, rows in enumerate((slice(0, 4), slice(4, 4), slice(4, 11))):
        write_shard(shard_folder(target, place, 3), model, table, rows, "embedding", device=CPU)
    merge_shards(target, table.records, 3)
    whole = embed(model, table, "embedding", device=CPU)
    np.testing.assert_allclose(read_embeddings(target).embedding, whole.embedding, atol=1e-6)
    np.testing.assert_allclose(read_embeddings(target).features, whole.features, atol=1e-5)
    assert [path.name for path in target.parent.iterdir()] == ["abc"]


def test_a_missing_or_short_shard_is_one_line(model: DualEncoder, tmp_path: Path) -> None:
    table, target = pictures(), tmp_path / "abc"
    write_shard(shard_folder(target, 0, 2), model, table, slice(0, 4), "embedding", device=CPU)
    with pytest.raises(CommandError, match=r"shard abc\.shard-00001-of-00002 is missing"):
        merge_shards(target, table.records, 2)
    write_shard(shard_folder(target, 1, 2), model, table, slice(4, 9), "embedding", device=CPU)
    with pytest.raises(CommandError, match="shards hold 9 rows for 11 records"):
        merge_shards(target, table.records, 2)
    assert not target.exists()


@pytest.mark.parametrize("damage", ["gone", "cut", "records"])
def test_a_damaged_store_says_what_to_remove(model: DualEncoder, damage: str) -> None:
    table = pictures()
    stored_embeddings(model, table, "embedding", device=CPU)

    folder = cache_root() / "embeddings" / embedding_key(model, table, CPU)
    if damage == "gone":
        (folder / "features.npy").unlink()
    elif damage == "cut":
        (folder / "features.npy").write_bytes((folder / "features.npy").read_bytes()[:200])
    else:
        lines = (folder / "records.jsonl").read_text().splitlines()
        (folder / "records.jsonl").write_text("\n".join(lines[:-1]))
    with pytest.raises(CommandError, match="is damaged, remove it"):
        stored_embeddings(model, table, "embedding", device=CPU)


def test_two_processes_store_what_one_does(
    model: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save_pretrained(tmp_path / "both" / "model")
    monkeypatch.setenv("CLIP_LITE_CACHE", str(tmp_path / "both" / "cache"))
    found = two_ranks("tests.evaluation.test_embedding_store", tmp_path / "both")
    alone = embed(model, pictures(), "embedding", device=CPU)
    for got in found:
        np.testing.assert_allclose(got["embedding"].numpy(), alone.embedding, atol=1e-6)
        assert got["ids"] == alone.ids
    assert sorted(rows for got in found for rows in got["encoded"]) == [5, 6]


def _worker(folder: Path) -> None:
    with process_group(CPU):
        model = DualEncoder.from_pretrained(folder / "model")
        encoded, own = [], model.encode_image
        model.encode_image = lambda pixels: (encoded.append(len(pixels)), own(pixels))[1]  # type: ignore[method-assign]
        table = stored_embeddings(model, pictures(), "embedding", device=CPU)
        found = {"embedding": table.image.embedding.clone(), "ids": table.ids, "encoded": encoded}
        torch.save(found, folder / f"{rank()}.pt")


if __name__ == "__main__":
    _worker(Path(sys.argv[1]))
