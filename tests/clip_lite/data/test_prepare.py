"""The prepare command: deterministic, whole or not at all, every complaint in one line."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clip_lite.config import DataConfig
from clip_lite.data import prepare, shard_writer
from clip_lite.data.cache import cache_root
from clip_lite.data.corpora import load_corpus
from clip_lite.data.pairs import Corpus
from clip_lite.data.reading import Reading
from clip_lite.data.shard_writer import encoded_picture, pair_digest
from clip_lite.data.sources.coco import load_coco
from clip_lite.data.sources.emoji import Style
from clip_lite.data.sources.npm import Package
from tests.clip_lite.data.conftest import content, load, run


def test_the_command_draws_emoji_by_itself(
    emoji_packages: tuple[Path, tuple[Style, ...], Package],
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache, styles, names = emoji_packages
    load_emoji = prepare.load_corpus.__globals__["load_emoji"]
    monkeypatch.setitem(
        prepare.load_corpus.__globals__,
        "load_emoji",
        lambda **asked: load_emoji(**asked, cache=cache, styles=styles, names=names),
    )
    argv = ("--image-size", 32, "--val-fraction", 0.15, "--out", tmp_path / "out")
    assert run("shards", "--source", "emoji", *argv) == 0
    assert load(tmp_path / "out").splits["test"].records[0].attributes["role"].startswith("role")


def test_the_same_input_gives_the_same_bytes(coco_root: Path, shards: Path, tmp_path: Path) -> None:
    argv = ("--source", "coco", "--root", coco_root, "--pairs-per-shard", 7)
    assert run("shards", *argv, "--out", tmp_path / "again") == 0
    assert content(shards) == content(tmp_path / "again")
    assert run("shards", *argv, "--out", tmp_path / "other", "--split-seed", 1) == 0
    assert content(shards) != content(tmp_path / "other")
    with tarfile.open(shards / "val-000000.tar") as tar:
        members = tar.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    assert [m.name for m in members] == sorted(m.name for m in members)


def test_the_manifest_says_what_is_in_the_shards(coco_root: Path, shards: Path) -> None:
    manifest = json.loads((shards / "manifest.json").read_text())
    assert {name: about["pairs"] for name, about in manifest["shards"].items()} == {
        "train-000000.tar": 7,
        "train-000001.tar": 7,
        "train-000002.tar": 4,
        "val-000000.tar": 2,
        "test-000000.tar": 7,
        "test-000001.tar": 1,
    }
    assert manifest["corpus"]["name"] == "coco"
    assert manifest["corpus"]["sources"][0]["licence"] == "Attribution License"
    source = load_coco(coco_root, Reading(size=32))
    for corpus in (source, load(shards)):
        for split, table in corpus.splits.items():
            pairs = [pair_digest(table.records[i], encoded_picture(table, i)) for i in range(len(table))]
            assert manifest["digests"][split] == shard_writer.digest_of_pairs(pairs)


def test_verify(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", shards) == 0
    assert "6 shards as in the manifest" in capsys.readouterr().out
    changed = bytearray((shards / "train-000001.tar").read_bytes())
    changed[700] ^= 1
    (shards / "train-000001.tar").write_bytes(changed)
    (shards / "val-000000.tar").rename(shards / "val-000007.tar")
    assert run("verify", shards) == 1
    error = capsys.readouterr().err
    for complaint in (
        "train-000001.tar has another SHA-256",
        "val-000000.tar is missing",
        "val-000007.tar is not in the manifest",
    ):
        assert complaint in error
    assert error.count("\n") == 1
    (shards / "manifest.json").write_text("{")
    assert run("verify", shards) == 1
    assert "manifest.json is damaged" in capsys.readouterr().err
    (shards / "manifest.json").unlink()
    assert run("verify", shards) == 2


def test_an_interrupted_run_leaves_no_half_shard(
    coco_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    added, add = [0], shard_writer._add

    def interrupt(*arguments: Any) -> None:
        added[0] += 1
        if added[0] == 10:
            raise KeyboardInterrupt
        add(*arguments)

    monkeypatch.setattr(shard_writer, "_add", interrupt)
    argv = ("--source", "coco", "--root", coco_root, "--pairs-per-shard", 7)
    assert run("shards", *argv, "--out", out) == 130
    assert [path.name for path in out.iterdir()] == ["train-000000.tar"]
    with tarfile.open(out / "train-000000.tar") as tar:
        assert len(tar.getmembers()) == 21


def test_wrong_usage_is_one_line(
    coco_root: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = ("shards", "--source", "coco", "--root", coco_root)
    new = tmp_path / "new"
    for argv, complaint in (
        ((*coco, "--out", shards), "holds shards already"),
        ((*coco, "--out", new, "--val-fraction", 0.7), "data.val_fraction is 0.7"),
        ((*coco, "--out", new, "--val-fraction", 0.01), "split val is empty"),
        ((*coco, "--out", new, "--pairs-per-shard", 0), "0 is no whole number above 0"),
        ((*coco, "--out", new, "--pairs-per-shard", "many"), "many is no whole number above 0"),
        (("shards", "--source", "coco", "--out", new), "--source coco needs its folder: --root DIR"),
        (("shards", "--source", "flickr", "--out", new), "invalid choice: 'flickr'"),
        (("coco", "--shards", shards, "--out", coco_root), "is not empty"),
        (("coco", "--shards", tmp_path / "none", "--out", new), "is no folder"),
        (("verify", coco_root), "manifest.json is missing"),
        ((), "arguments are required"),
    ):
        assert run(*argv) == 2, argv
        error = capsys.readouterr().err
        assert complaint in error
        assert error.count("\n") == 1
    assert not new.exists()


def test_a_picture_of_another_kind_is_named(coco_root: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(coco_root / "val2017" / "000000000101.jpg", "GIF")
    argv = ("shards", "--source", "coco", "--root", coco_root, "--out", tmp_path / "out")
    with pytest.raises(
        prepare.CommandError, match=r"val2017/000000000101\.jpg .*expected one of JPEG, PNG, WEBP"
    ):
        prepare.main([str(part) for part in argv])
    assert not list((tmp_path / "out").glob("*.partial"))


def test_help_teaches() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "clip_lite.data.prepare", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for word in ("shards --source coco", "verify", "--data.source webdataset", "Exit codes"):
        assert word in shown


def test_shards_train_like_any_source(shards: Path) -> None:
    corpus = load_corpus(DataConfig(source="webdataset", root=shards, image_size=32, pixel_cache=True))
    assert isinstance(corpus.splits["train"].images, np.ndarray)
    assert any(cache_root().glob("pixels-*"))
    plain = load(shards)
    assert (corpus.splits["train"].pixels(slice(None)) == plain.splits["train"].pixels(slice(None))).all()
