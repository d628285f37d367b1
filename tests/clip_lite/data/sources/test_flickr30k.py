"""Flickr30k from its folder: both files of captions, Karpathy's splits, and lines that say nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torchvision.datasets import Flickr30k

from clip_lite.data.pairs import Corpus
from clip_lite.data.reading import Reading
from clip_lite.data.sources.flickr30k import load_flickr30k
from clip_lite.errors import CommandError, UsageError
from tests.clip_lite.data.conftest import jpeg

NAMES = [f"{1000092795 + number}.jpg" for number in range(20)]
LONG = " ".join(f"word{place}" for place in range(500))


def texts(name: str) -> list[str]:
    return [f"Two young guys , seen {place} times , in {name} ." for place in range(5)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "flickr30k" / "flickr30k-images"
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(jpeg(number))
    return tmp_path / "flickr30k"


def write_tokens(root: Path, *further: str, end: str = "\n", mark: bytes = b"") -> Path:
    lines = [f"{name}#{place}\t{text}" for name in NAMES for place, text in enumerate(texts(name))]
    file = root / "results_20130124.token"
    file.write_bytes(mark + end.join([*lines, *further, ""]).encode())
    return file


def write_table(root: Path, *further: str) -> Path:
    lines = ["image_name| comment_number| comment"]
    lines += [f"{name}| {place}| {text}" for name in NAMES for place, text in enumerate(texts(name))]
    file = root / "results.csv"
    file.write_text("\n".join([*lines, *further, ""]), encoding="utf-8")
    return file


def load(root: Path, **changed: object) -> Corpus:
    return load_flickr30k(root, Reading(**{"size": 16, **changed}))  # type: ignore[arg-type]


def captions(corpus: Corpus) -> dict[str, tuple[str, ...]]:
    return {record.id: record.captions for table in corpus.splits.values() for record in table.records}


def test_the_token_file_is_read_as_torchvision_reads_it(root: Path) -> None:
    file = write_tokens(root)
    read = Flickr30k(str(root / "flickr30k-images"), str(file))
    assert captions(load(root)) == {name: tuple(own) for name, own in read.annotations.items()}


def test_without_splits_of_its_own_pictures_are_divided_by_seed(root: Path) -> None:
    write_tokens(root)
    ids = [{s: [r.id for r in t.records] for s, t in load(root, seed=n).splits.items()} for n in (0, 0, 1)]
    assert {split: len(own) for split, own in ids[0].items()} == {"train": 13, "val": 2, "test": 5}
    assert sorted(name for own in ids[0].values() for name in own) == NAMES
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("folder", ["flickr30k-images", "flickr30k_images"])
def test_the_table_says_the_same_and_its_broken_line_is_counted(root: Path, folder: str) -> None:
    (root / "flickr30k-images").rename(root / folder)
    write_table(root, f"{NAMES[3]}| 5   A dog runs across the grass .")
    corpus = load(root, skip_limit=0.1)
    assert captions(corpus) == {name: tuple(texts(name)) for name in NAMES}
    assert corpus.skipped == {"lines of results.csv without picture, number and caption": 1, "total": 21}


def test_marks_line_ends_and_odd_captions_change_nothing_else(root: Path) -> None:
    write_tokens(root)
    before = captions(load(root))
    write_tokens(root, f"{NAMES[0]}#5\t女の子 und Mädchen", f"{NAMES[0]}#6\t", f"{NAMES[0]}#7\t{LONG}",
                 end="\r\n", mark=b"\xef\xbb\xbf")  # fmt: skip
    after = captions(load(root))
    assert after == {**before, NAMES[0]: (*before[NAMES[0]], "女の子 und Mädchen", LONG)}


def test_what_cannot_be_used_is_left_out_and_counted(root: Path) -> None:
    pictures = root / "flickr30k-images"
    (pictures / NAMES[1]).unlink()
    (pictures / NAMES[2]).write_bytes(jpeg(2)[:400])
    write_tokens(root, "speechless.jpg#0\t ", "../secret.jpg#0\ta secret", "no line")
    corpus = load(root, skip_limit=0.3)
    assert captions(corpus).keys() == set(NAMES) - {NAMES[1], NAMES[2]}
    assert corpus.skipped["total"] == 23
    assert sum(corpus.skipped.values()) == 23 + 5
    assert corpus.skipped["pictures without a caption"] == 1
    with pytest.raises(CommandError, match="5 of 23 cannot be used") as stopped:
        load(root, skip_limit=0.2)
    assert all(name in str(stopped.value) for name in (NAMES[1], NAMES[2], "speechless.jpg", "line 102"))


def test_karpathys_splits_are_taken(root: Path) -> None:
    splits = ["train"] * 14 + ["val"] * 2 + ["test"] * 4
    pictures = [
        {
            "sentids": [0],
            "imgid": number,
            "sentences": [{"tokens": [], "raw": text, "imgid": number, "sentid": 0} for text in texts(name)],
            "split": split,
            "filename": name,
        }
        for number, (name, split) in enumerate(zip(NAMES, splits, strict=True))
    ]
    file = root / "dataset_flickr30k.json"
    file.write_text(json.dumps({"images": pictures, "dataset": "flickr30k"}))
    corpus = load(root, annotations=file)
    assert [record.id for record in corpus.splits["test"].records] == NAMES[16:]
    assert [record.id for record in corpus.splits["val"].records] == NAMES[14:16]
    assert captions(corpus) == {name: tuple(texts(name)) for name in NAMES}


@pytest.mark.parametrize("missing", ["flickr30k-images", "results_20130124.token"])
def test_a_missing_part_is_named(root: Path, missing: str) -> None:
    write_tokens(root)
    (root / missing).rename(root / "elsewhere")
    with pytest.raises(UsageError, match=rf"data\.root {root}: {missing} .*missing"):
        load(root)


def test_text_that_is_not_utf8_is_refused(root: Path) -> None:
    file = write_tokens(root)
    file.write_bytes(f"{NAMES[0]}#0\tMädchen\n".encode("latin-1"))
    with pytest.raises(CommandError, match=f"{file} is not UTF-8"):
        load(root)
