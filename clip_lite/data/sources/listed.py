"""What sources of captioned pictures share: captions, names of files and splits, text files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from clip_lite.data.reading import Entry, Reading, Skips, divided
from clip_lite.errors import CommandError

LONGEST_NAME = 255  # bytes of one part of a path; a longer one is none


def spoken(texts: Iterable[Any]) -> tuple[str, ...]:
    """The captions that say something, without the white space around them."""
    stripped = (text.strip() for text in texts if isinstance(text, str))
    return tuple(text for text in stripped if text)


def stays_inside(name: Any) -> bool:
    """Whether it is a relative path that does not leave the folder that it starts from."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    path = PurePosixPath(name)
    plain = not path.is_absolute() and ".." not in path.parts
    return plain and bool(path.parts) and all(len(part.encode()) <= LONGEST_NAME for part in path.parts)


def names_split(name: Any) -> bool:
    """Whether a split can have that name, which goes into names of files."""
    return isinstance(name, str) and re.fullmatch(r"[\w-]+", name) is not None


def lines_of(file: Path) -> Iterator[str]:
    """The lines of a UTF-8 text, without their ends of any kind and a byte order mark.

    Raises:
        CommandError: it is not UTF-8.
    """
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for line in lines:
                yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is not UTF-8 ({error})") from error


def complete(
    listed: Mapping[str, Sequence[Entry]], reading: Reading, skips: Skips, *, source: str
) -> dict[str, list[Entry]]:
    """Splits with ``train``, ``val`` and ``test`` first: those that are not there are taken out of ``train``.

    Raises:
        CommandError: no ``train``, or more than ``reading.skip_limit`` left out before there could be one.
    """
    if not listed.get("train"):
        skips.check(sum(map(len, listed.values())) + len(skips), reading.skip_limit, source=source)
        there = f", only of {', '.join(listed)}" if listed else ""
        raise CommandError(f"{source} lists no picture of the split train{there}")
    shares = {"val": reading.val_fraction, "test": reading.test_fraction}
    wanted = {split: share for split, share in shares.items() if not listed.get(split)}
    splits = divided(listed["train"], wanted, seed=reading.seed, rest="train")
    own = {split: list(entries) for split, entries in listed.items() if entries and split != "train"}
    ordered = {split: (splits | own)[split] for split in ("train", "val", "test")}
    return ordered | {split: entries for split, entries in own.items() if split not in ordered}
