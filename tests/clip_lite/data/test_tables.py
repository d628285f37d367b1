"""Tables in parts: every cell a string, and one line for a file that is no table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clip_lite.data.tables import chunks
from clip_lite.errors import CommandError, UsageError


def whole(path: Path, rows: int = 65536) -> list[dict[str, str]]:
    return [row for part in chunks(path, rows=rows) for row in part.to_dict("records")]


def csv(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CommandError) as caught:
        list(chunks(path))
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line
    return line


def test_csv_cells_stay_as_they_are_written(tmp_path: Path) -> None:
    text = "id,who,score\n007,NA,1.50\n0010,,null\n1e5,True,nan\n"
    assert whole(csv(tmp_path / "a.csv", text)) == [
        {"id": "007", "who": "NA", "score": "1.50"},
        {"id": "0010", "who": "", "score": "null"},
        {"id": "1e5", "who": "True", "score": "nan"},
    ]


def test_csv_of_windows_with_a_mark_quotes_and_line_ends_in_cells(tmp_path: Path) -> None:
    text = '"id","caption"\r\n1,"first line\r\nsecond, ""quoted"""\r\n\r\n2,żółw 象\r\n'
    assert whole(csv(tmp_path / "a.CSV", text, "utf-8-sig")) == [
        {"id": "1", "caption": 'first line\r\nsecond, "quoted"'},
        {"id": "2", "caption": "żółw 象"},
    ]


def test_a_csv_row_may_be_short_but_not_long(tmp_path: Path) -> None:
    assert whole(csv(tmp_path / "short.csv", "id,a,b\n1,x\n2,y,z\n")) == [
        {"id": "1", "a": "x", "b": ""},
        {"id": "2", "a": "y", "b": "z"},
    ]
    assert "line 3" in refusal(csv(tmp_path / "long.csv", "id,a\n1,x\n2,y,z\n"))
    assert "line 2" in refusal(csv(tmp_path / "all_long.csv", "id,a\n1,x,u\n2,y,z\n"))


def test_a_column_without_a_name_is_left_out(tmp_path: Path) -> None:
    assert whole(csv(tmp_path / "a.csv", ", id ,a,\n0,x,y,\n")) == [{"id": "x", "a": "y"}]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    assert "'a'" in refusal(csv(tmp_path / "a.csv", "id,a,a\n1,x,y\n"))
    table = pa.table([pa.array(["1"]), pa.array(["x"]), pa.array(["y"])], names=["id", "a", "a"])
    pq.write_table(table, tmp_path / "a.parquet")
    assert "'a'" in refusal(tmp_path / "a.parquet")


def test_json_lines_take_the_columns_that_their_lines_have(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "a.jsonl",
        {"id": 9, "who": "żółw", "captions": ["a dog", "a cat"]},
        {"id": "009", "adult": True, "who": None, "score": 0.5},
        {"id": 10.0, "score": float("nan")},
    )
    rows = whole(path)
    assert [row["id"] for row in rows] == ["9", "009", "10"]
    assert [row["who"] for row in rows] == ["żółw", "", ""]
    assert [row["adult"] for row in rows] == ["", "True", ""]
    assert [row["score"] for row in rows] == ["", "0.5", ""]
    assert json.loads(rows[0]["captions"]) == ["a dog", "a cat"]


def test_parquet_of_every_kind_of_column_becomes_strings(tmp_path: Path) -> None:
    columns = {
        "id": pa.array([9, None]),
        "floats": pa.array([9.0, 0.25]),
        "yes": pa.array([True, None]),
        "kind": pa.array(["x", "y"]).dictionary_encode(),
        "words": pa.array([["a", "b"], None]),
        "big": pa.array(["u", None], type=pa.large_string()),
        "bytes": pa.array([b"\xff\xd8", b""]),
        "image": pa.array([{"bytes": b"\xff", "path": "x"}, None]),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert whole(tmp_path / "a.parquet") == [
        {"id": "9", "floats": "9", "yes": "True", "kind": "x", "words": '["a", "b"]', "big": "u"},
        {"id": "", "floats": "0.25", "yes": "", "kind": "y", "words": "", "big": ""},
    ]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_parts_are_the_whole_in_order(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    frame = pd.DataFrame({"id": [str(n) for n in range(10)], "a": list("abcdefghij")})
    if ending == "csv":
        frame.to_csv(path, index=False)
    elif ending == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    parts = list(chunks(path, rows=3))
    assert max(map(len, parts)) == 3
    assert len(parts) >= 4
    assert [list(part.index) for part in parts] == [list(range(len(part))) for part in parts]
    assert whole(path, rows=3) == whole(path) == frame.to_dict("records")


def test_a_table_that_is_not_there_or_of_another_kind_is_a_wrong_request(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    for name, said in {"no.csv": "no such file", "folder.csv": "no such file", "a.xlsx": ".parquet"}.items():
        with pytest.raises(UsageError, match=said):
            next(chunks(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", b"", "no rows"),
        ("header.csv", b"id,gender\n", "no rows"),
        ("blank.csv", b"\n\n\n", "no rows"),
        ("latin.csv", "id,a\n1,caf\xe9\n".encode("latin-1"), "utf-8"),
        ("open.csv", b'id,a\n1,"never closed\n2,x\n', "EOF inside string"),
        ("empty.jsonl", b"", "no rows"),
        ("blank.jsonl", b"\n \n", "no rows"),
        ("broken.jsonl", b'{"id": 1}\n{"id": ', "line 2 is no JSON"),
        ("list.jsonl", b"[1, 2]\n", "line 1 is no JSON object"),
        ("deep.jsonl", b'{"id": ' + b"[" * 100_000, "line 1 is no JSON"),
        ("latin.jsonl", '{"id": "caf\xe9"}'.encode("latin-1"), "utf-8"),
        ("empty.parquet", b"", "parquet"),
        ("text.parquet", b"id,gender\n1,woman\n", "parquet"),
    ],
)
def test_a_damaged_table_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert said.lower() in refusal(tmp_path / name).lower()


def test_a_cut_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"id": [str(n) for n in range(1000)]}).to_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refusal(path)
    middle = len(content) // 3
    path.write_bytes(content[:200] + b"\0" * middle + content[200 + middle :])
    refusal(path)
    pd.DataFrame({"id": pd.Series([], dtype=str)}).to_parquet(path)
    assert "no rows" in refusal(path)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("long.csv", b"id,gender\n1,woman\n2,man,and,more\n3,man\n", "line 3"),
        (
            "broken.jsonl",
            b'{"id": "1", "gender": "woman"}\n{"id": \n{"id": "3", "gender": "man"}\n',
            "line 2",
        ),
    ],
)
def test_a_line_that_is_no_row_is_told_and_left_out_where_that_is_asked(
    tmp_path: Path, name: str, content: bytes, line: str
) -> None:
    (tmp_path / name).write_bytes(content)
    refused: list[str] = []
    (part,) = chunks(tmp_path / name, refused=refused.append)
    assert refused == [line]
    assert part.to_dict("list") == {"id": ["1", "3"], "gender": ["woman", "man"]}
    with pytest.raises(CommandError, match=line):
        list(chunks(tmp_path / name))
