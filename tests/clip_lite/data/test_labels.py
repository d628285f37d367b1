"""Labels of a table on the pictures of a corpus: which row is of which picture, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clip_lite.data.labels import Labelled, join_labels
from clip_lite.data.pairs import Corpus, Flag, PairTable, Record
from clip_lite.data.shards import ShardRecords, ShardStore
from clip_lite.errors import CommandError, UsageError


def corpus(*ids: str, **splits: Sequence[str]) -> Corpus:
    """Records of one grey picture; ``ids`` are those of the test split."""
    none = np.zeros((1, 3, 2, 2), dtype=np.uint8)
    tables = {
        split: PairTable(
            none,
            [Record(name, ("a caption",), {"gender": "unknown", "place": "sea"}, name) for name in own],
            np.zeros(len(own), int),
        )
        for split, own in {**splits, "test": ids}.items()
    }
    return Corpus("planted", tables, ({"name": "planted"},), ("A limit.",), Flag(None), Flag(None))


def csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def said(joined: Corpus, attribute: str, split: str = "test") -> list[str]:
    return joined.splits[split].attribute(attribute).tolist()


def test_a_filled_cell_stands_in_for_the_source_and_an_empty_one_changes_nothing(tmp_path: Path) -> None:
    own = corpus("a", "b", "c")
    joined = join_labels(own, csv(tmp_path / "l.csv", "id,gender,age", "b, woman ,40", "a,,7", "z,man,1"))
    assert said(joined, "gender") == ["unknown", "woman", "unknown"]
    assert said(joined, "age") == ["7", "40", "none"]
    assert said(joined, "place") == ["sea"] * 3
    records = joined.splits["test"].records
    assert [record.id for record in records] == ["a", "b", "c"]
    assert records[-1] == own.splits["test"].records[-1]
    assert records[1:] == [records[1], records[2]]
    assert said(own, "gender") == ["unknown"] * 3


@pytest.mark.parametrize(
    ("rule", "ids", "rows"),
    [
        ("id", ["x/1.jpg", "y/1.jpg"], ["x/1.jpg", "y/1.jpg"]),
        ("file name", ["x/1.jpg", "x/2.jpg"], ["1.jpg", "2.jpg"]),
        ("file name", ["x/1.jpg", "x/2.jpg"], ["C:\\pictures\\1.jpg", "C:\\pictures\\2.jpg"]),
        ("file name", ["1.jpg", "2.jpg"], ["/data/1.jpg", "/data/2.jpg"]),
        ("file name without its ending", ["x/a.v1.jpg", "x/a.v2.JPEG"], ["a.v1", "a.v2.png"]),
        (
            "the number that the file name ends in",
            ["val/000000000009.jpg", "val/000000000000.jpg"],
            ["9", "0"],
        ),
        (
            "the number that the file name ends in",
            ["val/COCO_val2014_000000000042.jpg", "b7.jpg"],
            ["42", "7.0"],
        ),
        (
            "the number that the file name ends in",
            ["train/000042.jpg", "43.png"],
            ["42", "043"],
        ),
    ],
)
def test_rows_find_their_pictures_by_the_first_rule_that_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rule: str, ids: list[str], rows: list[str]
) -> None:
    lines = ["image_id,who", f"{rows[1]},second", f"{rows[0]},first"]
    joined = join_labels(corpus(*ids), csv(tmp_path / "labels.csv", *lines))
    assert said(joined, "who") == ["first", "second"]
    out = capsys.readouterr().out
    assert f"labels.csv: joined by {rule}, 2 of 2 pictures found, 0 rows match no picture" in out


def test_a_rule_that_fits_holds_for_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = csv(tmp_path / "l.csv", "id,who", "x/1.jpg,first", "2.jpg,second", "3,third")
    joined = join_labels(corpus("x/1.jpg", "x/2.jpg", "x/3.jpg"), table)
    assert said(joined, "who") == ["first", "none", "none"]
    assert "joined by id, 1 of 3 pictures found, 2 rows match no picture" in capsys.readouterr().out


def test_a_key_that_several_pictures_share_is_no_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = corpus("x/1.jpg", "y/1.jpg", "y/2.jpg")
    joined = join_labels(own, csv(tmp_path / "l.csv", "file,who", "1.jpg,either", "2.jpg,second"))
    assert said(joined, "who") == ["none", "none", "second"]
    out = capsys.readouterr().out
    assert "joined by file name, 1 of 3 pictures found, 0 rows match no picture, 1 match several" in out
    with pytest.raises(UsageError, match="no row is of a picture"):
        join_labels(own, csv(tmp_path / "l.csv", "file,who", "1.jpg,either"))


def test_an_id_without_a_number_or_without_anything_matches_nothing(tmp_path: Path) -> None:
    own = corpus("x/a.jpg", "x/7.jpg", "")
    joined = join_labels(own, csv(tmp_path / "l.csv", "id,who", "b,nobody", ",empty", "007,seven"))
    assert said(joined, "who") == ["none", "seven", "none"]


def test_names_of_another_data_set_that_end_in_the_same_numbers_match_nothing(tmp_path: Path) -> None:
    table = csv(tmp_path / "l.csv", "id,who", "IMG_0001,first", "zzz2.jpg,second")
    with pytest.raises(UsageError, match="no row is of a picture"):
        join_labels(corpus("x/0001.jpg", "x/0002.jpg"), table)


@pytest.mark.parametrize(
    ("header", "row"),
    [("who,File_Name,id", "me,1.jpg,9"), ("who,path", "me,1.jpg"), ("name,who", "1.jpg,me")],
)
def test_the_first_column_that_is_named_like_an_id_is_the_id(tmp_path: Path, header: str, row: str) -> None:
    joined = join_labels(corpus("1.jpg"), csv(tmp_path / "l.csv", header, row))
    assert said(joined, "who") == ["me"]


def test_a_picture_of_two_splits_is_one_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = corpus("b", "c", train=["a"], style=["c", "b"])
    joined = join_labels(own, csv(tmp_path / "l.csv", "id,who", "c,C", "b,B"))
    assert (said(joined, "who"), said(joined, "who", "style")) == (["B", "C"], ["C", "B"])
    assert said(joined, "who", "train") == ["none"]
    assert "2 of 3 pictures found" in capsys.readouterr().out


def test_no_picture_found_names_ids_of_both_sides(tmp_path: Path) -> None:
    table = csv(tmp_path / "l.csv", "id,who", *(f"other-{letter},x" for letter in "abcd"))
    with pytest.raises(UsageError) as caught:
        join_labels(corpus("p", "q", "r", "s"), table)
    line = str(caught.value)
    assert "other-a, other-b, other-c;" in line
    assert line.endswith("p, q, r")
    assert str(table) in line


def test_equal_rows_of_a_picture_are_fine_and_they_complete_one_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = csv(tmp_path / "l.csv", "id,who,age", "a,me,", "a,me,7", "a,,7", "a,me,")
    joined = join_labels(corpus("a"), table, skip_limit=0)
    assert (said(joined, "who"), said(joined, "age")) == (["me"], ["7"])
    assert "contradict" not in capsys.readouterr().out


def test_of_rows_that_contradict_one_another_the_first_holds_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"p{n}" for n in range(200)]
    table = csv(
        tmp_path / "l.csv", "id,who", *(f"{name},me" for name in names), "p5,you", "p5,they", "p7,you"
    )
    joined = join_labels(corpus(*names), table)
    assert said(joined, "who") == ["me"] * 200
    out = capsys.readouterr().out
    assert "the rows of 2 pictures contradict one another, the first holds" in out
    assert "p5 (who me, then you), p5 (who me, then they), p7 (who me, then you)" in out


def test_too_many_contradictions_name_the_first_five(tmp_path: Path) -> None:
    rows = [f"p{n},{who}" for n in range(20) for who in ("me", "you")]
    with pytest.raises(CommandError) as caught:
        join_labels(corpus(*(f"p{n}" for n in range(20))), csv(tmp_path / "l.csv", "id,who", *rows))
    line = str(caught.value)
    assert "20 of 20 pictures" in line
    assert "p4 (who me, then you)" in line
    assert "p5 " not in line
    assert caught.value.exit_code == 1


def test_a_table_of_ids_alone_has_no_labels(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="column of labels beside 'id'"):
        join_labels(corpus("a"), csv(tmp_path / "l.csv", "id", "a"))


def test_lines_of_json_may_differ_but_must_name_their_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clip_lite.data.tables.chunks.__kwdefaults__", {"rows": 1})
    rows: list[dict[str, Any]] = [{"id": 1, "who": "me"}, {"id": 2}, {"age": 7, "id": 3}]
    table = tmp_path / "l.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    joined = join_labels(corpus("1", "2", "3"), table)
    assert said(joined, "who") == ["me", "none", "none"]
    assert said(joined, "age") == ["none", "none", "7"]
    table.write_text("\n".join(map(json.dumps, [*rows, {"age": 7}])))
    with pytest.raises(CommandError, match="rows without 'id'"):
        join_labels(corpus("1", "2", "3"), table)


def test_rows_that_match_nothing_may_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_lite.data.tables.chunks.__kwdefaults__", {"rows": 3})
    strange = [f"strange{letter},x" for letter in "abcdefghij"]
    joined = join_labels(corpus("x/1.jpg"), csv(tmp_path / "l.csv", "id,who", *strange, "1.jpg,me"))
    assert said(joined, "who") == ["me"]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_every_format_says_the_same_in_parts_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    frame = pd.DataFrame(
        {
            "image": [f"{n % 50}.jpg" for n in range(200)],
            "who": [f"w{n % 50 % 7}" if n % 3 else "" for n in range(200)],
            "at": [f"t{n % 50}" for n in range(200)],
        }
    )
    path = tmp_path / f"l.{ending}"
    if ending == "csv":
        frame.to_csv(path, index=False)
    elif ending == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    own = corpus(*(f"x/{n}.jpg" for n in range(50)))
    for rows in (7, 1000):
        monkeypatch.setattr("clip_lite.data.tables.chunks.__kwdefaults__", {"rows": rows})
        joined = join_labels(own, path, skip_limit=0)
        assert said(joined, "who") == [f"w{n % 7}" for n in range(50)]
        assert said(joined, "at") == [f"t{n}" for n in range(50)]


class Streamed(Sequence[Record]):
    """Records that count how often each is read."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.own, self.read = records, [0] * len(records)

    def __len__(self) -> int:
        return len(self.own)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        record = self.own[place]
        self.read[place] += 1
        return record


def streamed(own: Corpus) -> tuple[Corpus, Mapping[str, Streamed]]:
    records = {split: Streamed(table.records) for split, table in own.splits.items()}
    tables = {
        split: PairTable(table.images, records[split], table.rows, streamed=True)
        for split, table in own.splits.items()
    }
    return Corpus(own.name, tables, own.sources, own.limits, own.audited, own.canonical), records


def test_streamed_records_are_gone_through_once_and_merged_when_asked_for(tmp_path: Path) -> None:
    own, records = streamed(corpus("a", "b", train=["c", "d", "e"]))
    joined = join_labels(own, csv(tmp_path / "l.csv", "id,who", "e,E", "a,A"))
    assert {split: table.streamed for split, table in joined.splits.items()} == {"train": True, "test": True}
    assert (records["train"].read, records["test"].read) == ([1, 1, 1], [1, 1])
    assert isinstance(joined.splits["train"].records, Labelled)
    assert joined.splits["train"][2].attributes["who"] == "E"
    assert records["train"].read == [1, 1, 2]
    assert joined.splits["train"].where(lambda record: record.attributes.get("who") == "E").rows.size == 1


def test_shards_take_labels_too(folder: Path, tmp_path: Path) -> None:
    store = ShardStore(sorted(folder.glob("train-*.tar")))
    records = ShardRecords(store)
    table = PairTable(np.zeros((15, 3, 1, 1), np.uint8), records, np.arange(15), streamed=True)
    own = Corpus("shards", {"train": table}, (), (), Flag(None), Flag(None))
    rows = [f'"{record.id}",w{place}' for place, record in enumerate(records)]
    joined = join_labels(own, csv(tmp_path / "l.csv", "id,who", *rows[::-1]))
    assert said(joined, "who", "train") == [f"w{n}" for n in range(15)]
    assert [record.captions for record in joined.splits["train"].records] == [r.captions for r in records]


def test_the_corpus_says_where_the_labels_are_from(tmp_path: Path) -> None:
    own = corpus("a", "b")
    table = csv(tmp_path / "mine.csv", "id,gender,age", "a,woman,7")
    joined = join_labels(own, table)
    assert joined.limits[0] == own.limits[0]
    assert "gender, age of mine.csv are labels as perceived by whoever made that table" in joined.limits[-1]
    assert set(joined.sources[-1]) == {"name", "version", "licence", "url", "attribution", "pictures"}
    assert joined.sources[-1]["pictures"] == 1
    before = joined.sources[-1]["version"], joined.digest
    csv(table, "id,gender,age", "a,man,7")
    after = join_labels(own, table)
    assert after.sources[-1]["version"] != before[0]
    assert after.digest != before[1]
