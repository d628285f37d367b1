"""A person's own table of labels, joined by id onto the pictures of any source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
import pandas as pd

from clip_lite.data.id_match import NO_PICTURE, SEVERAL, SHOWN, KeyIndex, NamedPictures
from clip_lite.data.pairs import Corpus, Record
from clip_lite.data.tables import chunks
from clip_lite.errors import CommandError, UsageError
from clip_lite.progress import say

ID_COLUMNS = ("id", "image_id", "file_name", "filename", "image", "path")
NAMED = 5  # contradictions, in a message


def join_labels(corpus: Corpus, path: Path, *, skip_limit: float = 0.01) -> Corpus:
    """The corpus with the table's columns as attributes of its pictures.

    The column that identifies pictures is the first one named ``id``, ``image_id``, ``file_name``,
    ``filename``, ``image`` or ``path``, else the first of all. It is matched with the records' ids by the
    first of these that matches any row: the id itself, its file name, the file name without its ending; where
    the table has bare numbers, the number that this ends in. A key that several pictures share is not used.
    Every other column is an attribute: a filled cell stands in for what the source says, an empty one changes
    nothing. Of rows that contradict one another the first holds.

    The table is read a part at a time. Kept are, of each column, a number for every picture and the distinct
    values of pictures; of ids 64-bit hashes (a million strange ids beside a million pictures: one chance in
    18 million that any is taken for a picture's).

    Args:
        corpus: of any source; streamed records are gone through once.
        path: the table, CSV, JSON lines or Parquet.
        skip_limit: share of the pictures found whose rows may contradict one another.

    Raises:
        UsageError: there is no such table, or none of its rows is of a picture of the corpus.
        CommandError: the table is damaged, has no column of labels, or contradicts itself too often.
    """
    pictures = NamedPictures(corpus)
    labels = _Labels(len(pictures))
    seen_ids: list[str] = []
    column: str | None = None
    index: KeyIndex | None = None
    unmatched = several = 0
    refused: list[str] = []
    for part in chunks(path, refused=refused.append):
        column = column or _id_column(part, path)
        if column not in part:
            raise CommandError(f"{path}: rows without {column!r}, which names the pictures in the first rows")
        ids = part[column].tolist()
        seen_ids = seen_ids or ids[:SHOWN]
        index = index or pictures.first_index(ids)
        rows = index.find(ids) if index else np.full(len(ids), NO_PICTURE)
        unmatched += int((rows == NO_PICTURE).sum())
        several += int((rows == SEVERAL).sum())
        labels.add(part[rows >= 0].drop(columns=column), part[column][rows >= 0], rows[rows >= 0])
    if index is None:
        raise UsageError(
            f"{path}: no row is of a picture of {corpus.name}; the table names {', '.join(seen_ids)}; "
            f"the pictures' ids are {', '.join(pictures.shown)}"
        )
    say(
        f"{path.name}: joined by {index.rule.name}, {labels.found.sum():,} of {len(pictures):,} pictures "
        f"found, {unmatched:,} rows match no picture" + (f", {several:,} match several" if several else "")
    )
    if refused:
        say(f"{path.name}: {len(refused):,} rows cannot be read: {', '.join(refused[:NAMED])}")
    labels.check(path, skip_limit)
    return _labelled(corpus, pictures, labels, path, several)


class Labelled(Sequence[Record]):
    """Records with labels of a table, merged as each is asked for.

    Args:
        records: as the source has them.
        rows: place of each record in ``columns`` ``(n,)``.
        columns: attribute → number of each place's value ``(m,)``, -1 for none, and the values by number.
    """

    def __init__(
        self,
        records: Sequence[Record],
        rows: np.ndarray,
        columns: Mapping[str, tuple[np.ndarray, Sequence[str]]],
    ) -> None:
        self.records, self.rows, self.columns = records, rows, columns

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> list[Record]: ...
    def __getitem__(self, place: int | slice) -> Record | list[Record]:
        """One record, or several."""
        if isinstance(place, slice):
            pairs = zip(self.records[place], self.rows[place].tolist(), strict=True)
            return [self._merged(record, row) for record, row in pairs]
        return self._merged(self.records[place], int(self.rows[place]))

    def __iter__(self) -> Iterator[Record]:
        return map(self._merged, self.records, self.rows.tolist())

    def _merged(self, record: Record, row: int) -> Record:
        said = {
            name: values[code] for name, (codes, values) in self.columns.items() if (code := codes[row]) >= 0
        }
        return record._replace(attributes={**record.attributes, **said}) if said else record


class _Labels:
    """What the rows say of ``count`` pictures."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.found = np.zeros(count, dtype=bool)
        self._disputed = np.zeros(count, dtype=bool)
        self._disputes: list[str] = []
        self._codes: dict[str, np.ndarray] = {}
        self._values: dict[str, dict[str, int]] = {}

    def add(self, cells: pd.DataFrame, ids: pd.Series, rows: np.ndarray) -> None:
        """Take the cells of pictures ``rows``; what is known already stays as it is."""
        self.found[rows] = True
        for name in cells.columns:
            known = self._codes.setdefault(name, np.full(self.count, -1, dtype=np.int32))
            said = self._numbered(name, cells[name])
            filled = np.flatnonzero(said >= 0)
            own, first = np.unique(rows[filled], return_index=True)
            new = known[own] < 0
            known[own[new]] = said[filled[first[new]]]
            for place in filled[known[rows[filled]] != said[filled]]:
                self._disputed[rows[place]] = True
                if len(self._disputes) < NAMED:
                    before = list(self._values[name])[known[rows[place]]]
                    self._disputes.append(
                        f"{ids.iloc[place]} ({name} {before}, then {cells[name].iloc[place]})"
                    )

    def _numbered(self, name: str, cells: pd.Series) -> np.ndarray:
        """Number of each cell's value, -1 for an empty one."""
        codes, values = pd.factorize(cells)
        numbers = self._values.setdefault(name, {})
        stripped = [value.strip() for value in values]
        meant = [numbers.setdefault(value, len(numbers)) if value else -1 for value in stripped]
        return np.array(meant, dtype=np.int32)[codes] if len(codes) else np.empty(0, dtype=np.int32)

    @property
    def disputed(self) -> int:
        """How many pictures have rows that contradict one another."""
        return int(self._disputed.sum())

    def check(self, path: Path, limit: float) -> None:
        """Say which pictures have rows that contradict one another."""
        disputed, found = self.disputed, int(self.found.sum())
        if not disputed:
            return
        named = ", ".join(self._disputes)
        if disputed > limit * found:
            raise CommandError(
                f"{path}: the rows of {disputed:,} of {found:,} pictures contradict one another, more than "
                f"data.skip_limit {limit:g}: {named}"
            )
        say(
            f"{path.name}: the rows of {disputed:,} pictures contradict one another, the first holds: {named}"
        )

    @cached_property
    def columns(self) -> dict[str, tuple[np.ndarray, list[str]]]:
        """Attribute → number of each picture's value ``(m,)``, and the values."""
        return {name: (codes, list(self._values[name])) for name, codes in self._codes.items()}


def _id_column(part: pd.DataFrame, path: Path) -> str:
    column = next((name for name in part.columns if name.lower() in ID_COLUMNS), part.columns[0])
    if len(part.columns) < 2:
        raise CommandError(f"{path}: expected a column of labels beside {column!r}")
    return str(column)


def _labelled(corpus: Corpus, pictures: NamedPictures, labels: _Labels, path: Path, several: int) -> Corpus:
    splits = {
        split: replace(table, records=Labelled(table.records, pictures.rows[split], labels.columns))
        for split, table in corpus.splits.items()
    }
    with path.open("rb") as file:
        version = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    source = {
        "name": f"labels of {path.name}",
        "version": version,
        "licence": "its author's",
        "url": "",
        "attribution": "whoever made the table",
        "pictures": int(labels.found.sum()),
    }
    limit = (
        f"{', '.join(labels.columns)} of {path.name} are labels as perceived by whoever made that table; "
        f"{labels.found.sum():,} of {len(pictures):,} pictures are in it; the rows of {labels.disputed:,} of "
        f"them contradict one another (the first holds), and {several:,} rows match several pictures."
    )
    return replace(corpus, splits=splits, sources=[*corpus.sources, source], limits=[*corpus.limits, limit])
