"""Pictures of a person's own: a folder, and a table that says what is known of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from clip_lite.data.pairs import Corpus, Flag, Record
from clip_lite.data.reading import About, Entry, Reading, Skips, assemble
from clip_lite.data.sources.label_files import BAD_ROWS, needed
from clip_lite.data.sources.listed import complete, names_split, spoken, stays_inside
from clip_lite.data.tables import chunks
from clip_lite.errors import CommandError

ABOUT = About(
    "A folder of pictures",
    "pictures and metadata.csv, .jsonl or .parquet with file_name and, if there are captions, text",
    "https://huggingface.co/docs/datasets/image_dataset",
    "that of the pictures",
)
TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
PICTURES = ("file_name", "image", "image_path", "filepath", "path")
CAPTIONS = ("caption", "captions", "text", "title")
CLASS = "class"
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
LIMITS = (
    "Nothing is known here of where pictures and captions come from, or of the people in them.",
    "Groups are read from captions unless the table carries labels: what somebody wrote, as perceived.",
)


class _Columns(NamedTuple):
    """What the columns of a table are for; ``None`` where there is none."""

    picture: str
    caption: str | None
    id: str | None
    split: str | None
    cluster: str | None


class _Listed(NamedTuple):
    """A picture of the table, and where it belongs; ``""`` where the table does not say."""

    captions: list[str]
    attributes: Mapping[str, str]
    id: str
    split: str
    cluster: str


def load_folder(root: Path, reading: Reading) -> Corpus:
    """Pictures with what a table says of them; the table of a HuggingFace *ImageFolder* is one.

    The table has a column of paths below ``root`` (``file_name``, ``image``, ``image_path``, ``filepath`` or
    ``path``) and may have captions (``caption``, ``captions``, ``text`` or ``title``: a text or a JSON list),
    ``id``, ``split`` and ``cluster``. Every other column is an attribute, where its cell is not empty;
    ``class`` is what probes and zero-shot prompts ask for. Rows of the same picture add captions to it; all
    else is its first row's. Without captions the corpus has none.

    Splits are the column's: train, val or validation, test, and further test splits by their own name. Those
    of the three that are not there are taken out of train by ``reading.seed``.

    Args:
        root: the folder.
        reading: how pictures are read; ``annotations`` is the table, if it is not ``metadata.*`` in ``root``.

    Raises:
        UsageError: no folder or no table.
        CommandError: the table is damaged or lacks the column of paths, or too much is left out.
    """
    skips = Skips()
    table = reading.annotations or needed(root, TABLES, ABOUT)
    columns, pictures = _read(table, skips)
    listed = _entries(root, columns, pictures, skips)
    splits = complete(listed, reading, skips, source=str(table))
    total = sum(map(len, splits.values())) + len(skips)
    tables = assemble(splits, reading, skips, source=str(table))
    classes = CLASS if any(CLASS in picture.attributes for picture in pictures.values()) else None
    source = {"name": str(root), "licence": "unknown", "pictures": sum(map(len, tables.values()))}
    return Corpus(
        name="folder",
        splits=tables,
        sources=(source,),
        limits=LIMITS,
        audited=Flag(None),
        canonical=Flag(None),
        classification=classes,
        role=classes,
        captioned=columns.caption is not None,
        skipped=skips.counts(total),
    )


def _read(table: Path, skips: Skips) -> tuple[_Columns, dict[str, _Listed]]:
    """The pictures of a table by their path, in its order."""
    columns: _Columns | None = None
    pictures: dict[str, _Listed] = {}
    for part in chunks(table, refused=lambda line: skips.add(BAD_ROWS, f"{table.name} {line}")):
        columns = columns or _columns(list(part.columns), table)
        for row in part.to_dict("records"):
            _add(row, columns, pictures, skips)
    if columns is None:
        raise CommandError(f"{table} holds no rows")
    return columns, pictures


def _columns(names: Sequence[str], table: Path) -> _Columns:
    by_name = {name.lower(): name for name in reversed(names)}

    def first(wanted: Sequence[str]) -> str | None:
        return next((by_name[name] for name in wanted if name in by_name), None)

    picture = first(PICTURES)
    if picture is None:
        raise CommandError(
            f"{table} has no column of paths, expected {', '.join(PICTURES[:-1])} or {PICTURES[-1]}; found "
            f"{', '.join(names)}"
        )
    return _Columns(picture, first(CAPTIONS), first(["id"]), first(["split"]), first(["cluster"]))


def _add(row: Mapping[Any, Any], columns: _Columns, pictures: dict[str, _Listed], skips: Skips) -> None:
    path = _cell(row, columns.picture)
    if not stays_inside(path):
        skips.add("rows whose path names no picture of the folder", path or "an empty path")
        return
    path = str(PurePosixPath(path))
    captions = _texts(_cell(row, columns.caption))
    known = pictures.get(path)
    if known is None:
        own = {columns.picture, columns.caption, columns.id, columns.split, columns.cluster}
        attributes = {str(name): text for name, text in row.items() if name not in own and _filled(text)}
        about = (_cell(row, name) for name in (columns.id, columns.split, columns.cluster))
        pictures[path] = _Listed(captions, attributes, *about)
    elif columns.caption is None or _split(_cell(row, columns.split)) != _split(known.split):
        reason = "pictures that were there before" + (", in another split" if columns.caption else "")
        skips.add(reason, path)
    else:
        known.captions.extend(captions)


def _filled(cell: Any) -> bool:
    return isinstance(cell, str) and bool(cell.strip())


def _cell(row: Mapping[Any, Any], name: str | None) -> str:
    text = row.get(name, "")
    return text.strip() if isinstance(text, str) else ""


def _texts(cell: str) -> list[str]:
    """A text, or the texts of a JSON list."""
    if cell.startswith("["):
        try:
            texts = json.loads(cell)
        except (ValueError, RecursionError):
            return [cell]
        return list(spoken(texts)) if isinstance(texts, list) else [cell]
    return [cell] if cell else []


def _split(name: str) -> str:
    """The split of a name in the table."""
    lower = name.lower()
    return next((split for split, names in SPLITS.items() if lower in names), name)


def _entries(
    root: Path, columns: _Columns, pictures: Mapping[str, _Listed], skips: Skips
) -> dict[str, list[Entry]]:
    listed: dict[str, list[Entry]] = {}
    divided = any(picture.split for picture in pictures.values())
    for path, picture in pictures.items():
        if columns.caption and not picture.captions:
            skips.add("pictures without a caption", path)
        elif divided and not names_split(picture.split):
            skips.add("pictures without the plain name of a split", path)
        else:
            name = picture.id or path
            record = Record(name, tuple(picture.captions), picture.attributes, picture.cluster or name)
            listed.setdefault(_split(picture.split) or "train", []).append(Entry(root / path, record))
    return listed
