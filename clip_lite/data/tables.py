"""Tables of a person's own, whatever they are stored in: CSV, JSON lines or Parquet, a part at a time."""

from __future__ import annotations

import itertools
import json
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from clip_lite.errors import CommandError, UsageError

ROWS = 65536
LINE = re.compile(r"Skipping (line \d+)")  # in pandas' warning of a row that is too long
Refused = Callable[[str], None]


def chunks(path: Path, *, rows: int = ROWS, refused: Refused | None = None) -> Iterator[pd.DataFrame]:
    """The table's parts of at most ``rows`` rows, every cell a string, an empty cell ``""``.

    CSV is UTF-8 with a header, separated by commas; a quoted cell may hold line ends. Each line of JSON lines
    is an object; a part has the columns that its own lines have; lists and objects become JSON. Columns of
    Parquet that hold bytes or structures are left out. Columns without a name and blank lines
    are left out.

    Args:
        path: ends in ``.csv``, ``.jsonl`` or ``.parquet``.
        rows: a part has at most so many.
        refused: told of each line that is no row (more cells than the header, no JSON object), which is then
            left out; without it such a line is an error.

    Raises:
        UsageError: there is no such file, or its name has another ending.
        CommandError: the file is damaged, is not what its ending says, or holds no row.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise UsageError(f"{path}: expected a table that ends in {', '.join(READERS)}")
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    empty = True
    parts = read(path, rows, refused)
    while True:
        try:
            part = next(parts, None)
        except (ValueError, OSError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CommandError(f"{path} cannot be read as {path.suffix[1:].lower()}: {reason}") from error
        if part is None:
            break
        if len(part):
            empty = False
            yield part
    if empty:
        raise CommandError(f"{path} holds no rows; expected a header with names of columns, and rows")


def _csv(path: Path, rows: int, refused: Refused | None) -> Iterator[pd.DataFrame]:
    """Without pandas' header, which would take a longer row's first cell for an index."""
    try:
        parts = pd.read_csv(
            path,
            header=None,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            chunksize=rows,
            on_bad_lines="warn" if refused else "error",
        )
    except pd.errors.EmptyDataError:
        return
    with parts:
        names: list[str] | None = None
        while True:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", pd.errors.ParserWarning)
                part = next(parts, None)
            for line in LINE.findall(" ".join(str(warning.message) for warning in said)):
                assert refused
                refused(line)
            if part is None:
                return
            if names is None:
                names, part = part.iloc[0].fillna("").tolist(), part.iloc[1:]
            yield _named(part.fillna("").set_axis(names, axis=1))


def _jsonl(path: Path, rows: int, refused: Refused | None) -> Iterator[pd.DataFrame]:
    with path.open(encoding="utf-8-sig") as lines:
        objects = _objects(lines, refused)
        while part := list(itertools.islice(objects, rows)):
            names = list(dict.fromkeys(name for row in part for name in row))
            columns = {name: [_text(row.get(name)) for row in part] for name in names}
            yield _named(pd.DataFrame(columns, dtype="str"))


def _parquet(path: Path, rows: int, _refused: Refused | None) -> Iterator[pd.DataFrame]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        types = pa.types
        opaque = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_struct)
        kept = [part.name for part in file.schema_arrow if not any(holds(part.type) for holds in opaque)]
        _check_names(kept)
        for batch in file.iter_batches(batch_size=rows, columns=kept):
            yield _named(pd.DataFrame({name: _strings(batch.column(name)) for name in kept}, dtype="str"))


READERS: dict[str, Callable[[Path, int, Refused | None], Iterator[pd.DataFrame]]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}


def _named(part: pd.DataFrame) -> pd.DataFrame:
    """The columns that have a name, by that name, counted from row 0."""
    names = [str(name).strip() for name in part.columns]
    _check_names(names)
    return part.set_axis(names, axis=1)[[name for name in names if name]].reset_index(drop=True)


def _check_names(names: list[str]) -> None:
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise ValueError(f"more than one column is named {twice[0]!r}")


def _objects(lines: Iterable[str], refused: Refused | None) -> Iterator[dict[str, Any]]:
    for place, line in enumerate(lines, start=1):
        try:
            if line.strip():
                yield _object(line, place)
        except ValueError:
            if refused is None:
                raise
            refused(f"line {place}")


def _object(line: str, place: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {place} is no JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"line {place} is no JSON object")
    return row


def _strings(column: Any) -> Any:
    """A column of Arrow's as strings, as Python writes them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    types = pa.types
    plain = (types.is_string, types.is_large_string, types.is_integer, types.is_dictionary)
    if any(is_plain(column.type) for is_plain in plain):
        return pc.fill_null(column.cast(pa.string()), "").to_pandas()
    return [_text(value) for value in column.to_pylist()]


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # an id beside missing ones, which made its column one of floats
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
