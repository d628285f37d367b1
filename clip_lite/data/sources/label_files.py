"""What sources of labelled pictures share: files that must be there, columns they must have, the corpus."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clip_lite.data.encoded import Store
from clip_lite.data.pairs import Corpus, Flag
from clip_lite.data.reading import About, Entry, Reading, Skips, assemble, divided
from clip_lite.data.tables import chunks
from clip_lite.errors import CommandError, UsageError


def needed(root: Path, names: Sequence[str], about: About) -> Path:
    """The first of some files or folders below ``root`` that is there.

    Raises:
        UsageError: none is.
    """
    for name in names:
        if (root / name).exists():
            return root / name
    raise UsageError(f"data.root {root}: {names[0]} is missing; expected {about.layout}")


BAD_ROWS = "rows that cannot be read"


def rows_of(file: Path, columns: Sequence[str], skips: Skips) -> Iterator[dict[str, str]]:
    """Each row's cells in ``columns``, without blanks around them; a cell that is not there is "".

    A row with more cells than the header is left out and counted.

    Raises:
        UsageError: there is no such file.
        CommandError: a column is missing, or the file is damaged or empty.
    """
    for part in chunks(file, refused=lambda line: skips.add(BAD_ROWS, f"{file.name} {line}")):
        if missing := [name for name in columns if name not in part.columns]:
            raise CommandError(
                f"{file} has no column {', '.join(missing)}; expected {', '.join(columns)}, found "
                f"{', '.join(map(str, part.columns))}"
            )
        for cells in zip(*(part[name] for name in columns), strict=True):
            yield dict(zip(columns, (cell.strip() for cell in cells), strict=True))


def json_object(file: Path, expected: str) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        CommandError: it holds none, instead of what is ``expected``, in words.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CommandError(f"{file} cannot be read as JSON ({error}); expected {expected}") from error
    if not isinstance(content, dict):
        raise CommandError(f"{file} holds a {type(content).__name__}; expected {expected}")
    return content


def said(**labels: str) -> dict[str, str]:
    """Labels without those that are empty."""
    return {name: label for name, label in labels.items() if label}


def three_ways(entries: Sequence[Entry], reading: Reading) -> dict[str, list[Entry]]:
    """``train``, ``val`` and ``test`` by cluster, for a source without splits of its own."""
    shares = {"val": reading.val_fraction, "test": reading.test_fraction}
    return divided(entries, shares, seed=reading.seed, rest="train")


def labelled_corpus(
    name: str,
    about: About,
    listed: Mapping[str, Sequence[Entry]],
    reading: Reading,
    skips: Skips,
    *,
    attribution: str,
    limits: Sequence[str],
    audited: str | None = None,
    captioned: bool = False,
    store: Store | None = None,
    **described: Any,
) -> Corpus:
    """The corpus of what a source lists; ``store`` as in ``assemble``, ``described`` goes to ``Corpus``.

    Raises:
        CommandError: more than ``reading.skip_limit`` cannot be used, or nothing remains.
    """
    total = sum(map(len, listed.values())) + len(skips)
    splits = assemble(listed, reading, skips, source=name, store=store)
    source = {
        "name": about.title,
        "licence": about.licence,
        "url": about.url,
        "attribution": attribution,
        "pictures": sum(map(len, splits.values())),
    }
    return Corpus(
        name=name,
        splits=splits,
        sources=(source,),
        limits=limits,
        audited=Flag(audited),
        canonical=Flag(None),
        captioned=captioned,
        skipped=skips.counts(total),
        **described,
    )
