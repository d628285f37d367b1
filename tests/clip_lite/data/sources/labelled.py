"""Folders of labelled pictures in their true formats, and what is asked of every source that reads one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from clip_lite.data.pairs import Corpus, Record
from clip_lite.data.reading import Reading
from tests.clip_lite.data.conftest import jpeg

Load = Callable[[Path, Reading], Corpus]


def reading(**changed: Any) -> Reading:
    """Small pictures and a limit that lets one of a few be left out."""
    return Reading(**{"size": 16, "skip_limit": 0.2, **changed})


def write_pictures(folder: Path, names: Iterable[str]) -> None:
    """JPEGs of 40 x 30, each another one."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))


def write_csv(path: Path, header: str, rows: Iterable[Iterable[object]], *, bom: bool = False) -> Path:
    """Cells must need no quotes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig" if bom else "utf-8")
    return path


def edit(path: Path, old: str, new: str) -> None:
    """Replace what must be there."""
    content = path.read_bytes().decode("utf-8-sig")
    assert old in content
    path.write_bytes(content.replace(old, new).encode())


def windows(path: Path) -> None:
    """Windows line ends and a byte order mark."""
    content = path.read_bytes().decode("utf-8-sig").replace("\n", "\r\n")
    path.write_bytes(content.encode("utf-8-sig"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def records(corpus: Corpus) -> dict[str, Record]:
    """Every record by id; no id is there twice."""
    every = [record for table in corpus.splits.values() for record in table.records]
    by_id = {record.id: record for record in every}
    assert len(by_id) == len(every)
    return by_id


def sizes(corpus: Corpus) -> dict[str, int]:
    return {split: len(table) for split, table in corpus.splits.items()}


def labels(corpus: Corpus, attribute: str) -> Mapping[str, str | None]:
    return {name: record.attributes.get(attribute) for name, record in records(corpus).items()}


def assert_well_made(corpus: Corpus, *, captioned: bool = False) -> None:
    """What holds of every source: splits apart, pictures that decode, words about origin and limits."""
    assert list(corpus.splits) == ["train", "val", "test"]
    clusters = [set(table.clusters) for table in corpus.splits.values()]
    assert sum(map(len, clusters)) == len(set().union(*clusters))
    for table in corpus.splits.values():
        assert len(table)
        assert table.pixels(slice(None)).shape == (len(table), 3, 16, 16)
    assert corpus.captioned == captioned
    assert all(bool(record.captions) == captioned for record in records(corpus).values())
    (source,) = corpus.sources
    assert source["pictures"] == sum(sizes(corpus).values())
    assert all(source[key] for key in ("name", "licence", "url", "attribution"))
    assert 2 <= len(corpus.limits) <= 4
