"""A folder of pictures and a table: three kinds of table, what columns mean, and rows that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clip_lite.data.pairs import Corpus, Record
from clip_lite.data.reading import Reading
from clip_lite.data.sources.folder import load_folder
from clip_lite.errors import CommandError, UsageError
from tests.clip_lite.data.conftest import jpeg

NAMES = [f"people/{number:04d}.jpg" for number in range(20)]
LONG = " ".join(f"word{place}" for place in range(500))
WRITTEN = {"csv": ",", "jsonl": "", "parquet": ""}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        file = tmp_path / "mine" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(number))
    return tmp_path / "mine"


def rows(**columns: Sequence[Any]) -> list[dict[str, Any]]:
    said = [{"file_name": name, "text": f"a person, {place}"} for place, name in enumerate(NAMES)]
    return [{**row, **{key: own[i] for key, own in columns.items()}} for i, row in enumerate(said)]


def write(root: Path, table: Sequence[Mapping[str, Any]], kind: str = "csv") -> Path:
    file, frame = root / f"metadata.{kind}", pd.DataFrame(table)
    if kind == "csv":
        frame.to_csv(file, index=False)
    elif kind == "parquet":
        frame.to_parquet(file)
    else:
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table), "utf-8")
    return file


def load(root: Path, **changed: Any) -> Corpus:
    return load_folder(root, Reading(**{"size": 16, **changed}))


def by_id(corpus: Corpus) -> dict[str, Record]:
    return {record.id: record for table in corpus.splits.values() for record in table.records}


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_huggingface_image_folder_is_read_from_any_kind_of_table(root: Path, kind: str) -> None:
    age: list[Any] = [None, 31, *range(40, 58)]
    write(root, rows(gender=["woman", "man"] * 10, age=age), kind)
    corpus = load(root)
    records = by_id(corpus)
    assert list(records) != NAMES
    assert sorted(records) == NAMES
    for place, name in enumerate(NAMES):
        record = records[name]
        assert record.captions == (f"a person, {place}",)
        assert record.cluster == name
        assert record.attributes["gender"] == ["woman", "man"][place % 2]
    assert "age" not in records[NAMES[0]].attributes
    assert float(records[NAMES[1]].attributes["age"]) == 31
    assert {split: len(table) for split, table in corpus.splits.items()} == {"train": 13, "val": 2, "test": 5}
    table = corpus.splits["test"]
    assert table.images.encoded_bytes(int(table.rows[0])) == (root / table.records[0].id).read_bytes()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", WRITTEN)
def test_several_captions_come_in_a_list_or_in_rows(root: Path, kind: str) -> None:
    lists = [["one", "", "zwei Mädchen"] for _ in NAMES]
    table = [{"image": row["file_name"], "captions": own} for row, own in zip(rows(), lists, strict=True)]
    if kind == "csv":
        table = [{**row, "captions": json.dumps(row["captions"])} for row in table]
    write(root, table, kind)
    assert {record.captions for record in by_id(load(root)).values()} == {("one", "zwei Mädchen")}
    again = [{"image": row["file_name"], "captions": LONG, "gender": "man"} for row in rows()]
    write(root, [*({"image": name, "captions": "first", "gender": "woman"} for name in NAMES), *again], kind)
    records = by_id(load(root))
    assert {record.captions for record in records.values()} == {("first", LONG)}
    assert {record.attributes["gender"] for record in records.values()} == {"woman"}


def test_ids_clusters_and_splits_are_the_tables(root: Path) -> None:
    splits = ["Train"] * 10 + ["validation"] * 4 + ["testing"] * 4 + ["drawings"] * 2
    ids = [f"picture {place}" for place in range(20)]
    write(root, rows(split=splits, id=ids, cluster=[f"who {place // 2}" for place in range(20)]))
    corpus = load(root)
    assert {split: [record.id for record in table.records] for split, table in corpus.splits.items()} == {
        "train": ids[:10],
        "val": ids[10:14],
        "test": ids[14:18],
        "drawings": ids[18:],
    }
    assert corpus.splits["val"].clusters.tolist() == ["who 5", "who 5", "who 6", "who 6"]
    assert corpus.splits["val"].records[0].attributes == {}


def test_a_split_that_the_table_lacks_is_taken_out_of_train(root: Path) -> None:
    write(root, rows(split=["train"] * 15 + ["test"] * 5))
    corpus = load(root, val_fraction=0.2)
    assert {split: len(table) for split, table in corpus.splits.items()} == {"train": 12, "val": 3, "test": 5}
    write(root, rows(split=["test"] * 20))
    with pytest.raises(CommandError, match="lists no picture of the split train, only of test"):
        load(root)


def test_pictures_of_one_cluster_are_never_divided(root: Path) -> None:
    write(root, rows(cluster=[f"who {place // 4}" for place in range(20)]))
    corpus = load(root, val_fraction=0.2, test_fraction=0.2)
    clusters = [set(table.clusters) for table in corpus.splits.values()]
    assert [len(own) for own in clusters] == [3, 1, 1]
    assert len(set().union(*clusters)) == 5


def test_without_captions_there_is_a_corpus_without_captions(root: Path) -> None:
    write(root, [{"path": name, "gender": "man"} for name in [*NAMES, NAMES[0]]])
    corpus = load(root, skip_limit=0.1)
    assert not corpus.captioned
    assert {record.captions for record in by_id(corpus).values()} == {()}
    assert corpus.skipped == {"pictures that were there before": 1, "total": 21}


def test_marks_windows_line_ends_and_line_ends_in_quotes_are_read(root: Path) -> None:
    text = "file_name,text,gender\r\n" + "".join(
        f'{name},"a ""person"",\r\nseen twice",woman\r\n' for name in NAMES
    )
    (root / "metadata.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    records = by_id(load(root))
    assert sorted(records) == NAMES
    assert {record.captions for record in records.values()} == {('a "person",\r\nseen twice',)}
    assert {record.attributes["gender"] for record in records.values()} == {"woman"}


def test_rows_that_cannot_be_used_are_left_out_and_counted(root: Path) -> None:
    (root.parent / "secret.jpg").write_bytes(jpeg(99))
    (root / NAMES[2]).write_bytes(jpeg(2)[:400])
    (root / "spare.jpg").write_bytes(jpeg(30))
    table = rows(id=[f"p{place}" for place in range(20)], split=["train"] * 12 + ["val"] * 4 + ["test"] * 4)
    more = {"text": "a person", "split": "train"}
    table += [
        {"file_name": "../secret.jpg", "id": "a", **more},
        {"file_name": str(root.parent / "secret.jpg"), "id": "b", **more},
        {"file_name": "", "id": "c", **more},
        {"file_name": "x" * 300, "id": "d", **more},
        {"file_name": "gone.jpg", "id": "e", **more},
        {"file_name": "spare.jpg", "id": "p0", **more},
        {"file_name": "speechless.jpg", "id": "f", "text": " ", "split": "train"},
        {"file_name": "lost.jpg", "id": "g", "text": "a person", "split": ""},
        {"file_name": "odd.jpg", "id": "h", "text": "a person", "split": "../odd"},
        {"file_name": f"./{NAMES[0]}", "id": "p0", "text": "a person", "split": "test"},
    ]
    file = write(root, table)
    corpus = load(root, skip_limit=0.5)
    assert by_id(corpus).keys() == {f"p{place}" for place in range(20) if place != 2}
    unreadable = [reason for reason in corpus.skipped if "cannot be read" in reason]
    assert {reason: n for reason, n in corpus.skipped.items() if reason not in unreadable} == {
        "rows whose path names no picture of the folder": 4,
        "pictures that are missing": 1,
        "ids that were there before": 1,
        "pictures without a caption": 1,
        "pictures without the plain name of a split": 2,
        "pictures that were there before, in another split": 1,
        "total": 30,
    }
    assert [corpus.skipped[reason] for reason in unreadable] == [1]
    with pytest.raises(CommandError, match=f"{file}: 11 of 30 cannot be used") as stopped:
        load(root, skip_limit=0.3)
    assert "../secret.jpg" in str(stopped.value)
    assert "gone.jpg" not in str(stopped.value)  # the sixth


def test_lines_that_are_no_rows_are_left_out_and_counted(root: Path) -> None:
    file = write(root, rows())
    file.write_text(file.read_text() + "people/0000.jpg,a person,too,many\n", "utf-8")
    corpus = load(root, skip_limit=0.1)
    assert corpus.skipped == {"rows that cannot be read": 1, "total": 21}
    assert len(by_id(corpus)) == 20
    with pytest.raises(CommandError, match=r"1 of 21 cannot be used.*metadata\.csv line 22"):
        load(root, skip_limit=0)
    file.unlink()
    write(root, rows(), "jsonl")
    with (root / "metadata.jsonl").open("a") as lines:
        lines.write('{"file_name": \n')
    assert load(root, skip_limit=0.1).skipped == {"rows that cannot be read": 1, "total": 21}


def test_a_column_of_classes_is_what_probes_and_prompts_ask_for(root: Path) -> None:
    write(root, rows(**{"class": ["cat", "dog"] * 10}))
    corpus = load(root)
    assert corpus.classification == corpus.role == "class"
    assert set(corpus.splits["train"].attribute("class")) == {"cat", "dog"}
    write(root, rows())
    assert load(root).classification is None


def test_a_table_of_nothing_that_can_be_used_says_why(root: Path) -> None:
    write(root, [{"file_name": "../secret.jpg", "text": "a secret"}])
    with pytest.raises(CommandError, match=r"1 of 1 cannot be used.*\.\./secret\.jpg"):
        load(root)


def test_the_columns_that_are_there_are_named_where_none_holds_paths(root: Path) -> None:
    file = write(root, [{"photo": NAMES[0], "words": "a person"}])
    with pytest.raises(
        CommandError, match=f"{file} has no column of paths, expected file_name, .*; found photo, words"
    ):
        load(root)


def test_the_table_lies_in_the_folder_or_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"data\.root {root}: metadata\.csv .*missing"):
        load(root)
    file = write(root, rows()).rename(tmp_path / "mine.csv")
    assert sorted(by_id(load(root, annotations=file))) == NAMES
