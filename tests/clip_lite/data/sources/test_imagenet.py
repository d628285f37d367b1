"""ImageNet by folders: names of synsets, further test sets, and layouts that lack something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clip_lite.data.pairs import Corpus
from clip_lite.data.reading import Reading
from clip_lite.data.sources.imagenet import load_imagenet
from clip_lite.errors import CommandError, UsageError
from tests.clip_lite.data.conftest import jpeg

CRANES = ("n02012849", "n03126707")
TENCH, GOLDFISH = "n01440764", "n01443537"  # classes 0 and 1


def put(folder: Path, count: int, seed: int = 0) -> None:
    folder.mkdir(parents=True)
    for place in range(count):
        (folder / f"{folder.name}_{place}.JPEG").write_bytes(jpeg(seed + place))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "imagenet"
    for place, synset in enumerate((TENCH, *CRANES, "own_thing")):
        put(folder / "train" / synset, 4, 10 * place)
        put(folder / "val" / synset, 2, 10 * place + 5)
    return folder


def load(root: Path, **changed: Any) -> Corpus:
    return load_imagenet(root, Reading(size=16, **{"val_fraction": 0.25, **changed}))


def test_classes_are_named_in_words_and_two_cranes_apart(root: Path) -> None:
    corpus = load(root)
    assert {split: len(table) for split, table in corpus.splits.items()} == {"train": 12, "val": 4, "test": 8}
    named = {record.id.split("/")[1]: record.attributes["class"] for record in corpus.splits["test"].records}
    assert named[TENCH] == "tench"
    assert named["own_thing"] == "own_thing"
    assert named[CRANES[0]].startswith("crane (large long-necked wading bird")
    assert named[CRANES[1]] == "crane (lifts and moves heavy objects)"
    assert corpus.splits["test"].records[0].id == f"val/{TENCH}/{TENCH}_0.JPEG"
    assert (corpus.classification, corpus.role, corpus.captioned) == ("class", "class", False)


def test_a_relative_root_gives_the_same_ids(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = load(root).digest
    monkeypatch.chdir(root)
    assert load(Path()).digest == digest


def test_further_test_sets_are_splits_of_the_classes_trained_on(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in ("0", "1"):
        put(root / "imagenetv2-matched-frequency-format-val" / number, 2, 50)
    put(root / "imagenet-a" / TENCH, 1, 70)
    (root / "imagenet-a" / "README.txt").write_text("about")
    corpus = load(root)
    assert list(corpus.splits) == ["train", "val", "test", "imagenet_v2", "imagenet_a"]
    assert corpus.splits["imagenet_v2"].attribute("class").tolist() == ["tench"] * 2
    assert len(corpus.splits["imagenet_a"]) == 1
    assert "imagenet_v2: 2 pictures of classes not in train are not used" in capsys.readouterr().out


def test_a_root_with_only_further_sets_is_told_what_lacks(tmp_path: Path) -> None:
    put(tmp_path / "imagenet-a" / TENCH, 1)
    with pytest.raises(UsageError, match="train/ is missing besides imagenet-a: probes and leakage attacks"):
        load(tmp_path)


def test_a_folder_without_classes_and_a_split_without_pictures_are_named(root: Path) -> None:
    for picture in (root / "val").rglob("*.JPEG"):
        picture.unlink()
    with pytest.raises(CommandError, match=r"val holds no picture"):
        load(root)
    for folder in (root / "val").iterdir():
        folder.rmdir()
    (root / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(jpeg(1))
    with pytest.raises(UsageError, match=r"val has no folders; expected one for each class"):
        load(root)


def test_a_folder_of_v2_that_is_no_class_is_named(root: Path) -> None:
    put(root / "imagenetv2-top-images-format-val" / "1000", 1)
    with pytest.raises(CommandError, match="1000 is no class of ImageNet-V2; expected folders 0 to 999"):
        load(root)


def test_a_truncated_picture_is_left_out_and_counted(root: Path) -> None:
    file = root / "val" / TENCH / f"{TENCH}_0.JPEG"
    file.write_bytes(file.read_bytes()[:300])
    corpus = load(root, skip_limit=0.1)
    assert len(corpus.splits["test"]) == 7
    assert corpus.skipped["total"] == 24
    with pytest.raises(CommandError, match=r"1 of 24 cannot be used"):
        load(root)
