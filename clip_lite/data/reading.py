"""From what a source lists to a corpus: what cannot be used is left out, counted and named."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clip_lite.data.checking import unreadable
from clip_lite.data.encoded import EncodedPictures, Prepare, Store
from clip_lite.data.pairs import PairTable, Record
from clip_lite.errors import CommandError
from clip_lite.progress import say

NAMED = 5  # of what is left out, in a message
WHOLE = (0.0, 0.0, np.inf, np.inf)  # the box of a picture without one, among others that have one


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How pictures are read, whatever the source.

    Attributes:
        size: side of the decoded squares in pixels.
        workers: threads that decode.
        val_fraction, test_fraction: shares that are held out where a source has no such split of its own.
        seed: of that choice.
        skip_limit: share of what a source lists that may be left out.
        annotations: a file that stands in for the source's usual one, or that it needs besides its folder.
        prepare: what the audited model does to a picture, in place of the square in its middle.
    """

    size: int
    workers: int = 2
    val_fraction: float = 0.1
    test_fraction: float = 0.25
    seed: int = 0
    skip_limit: float = 0.01
    annotations: Path | None = None
    prepare: Prepare | None = None


class About(NamedTuple):
    """What a person needs to know of a source: what lies in its folder, where to get it, under what terms."""

    title: str
    layout: str
    url: str
    licence: str


class Entry(NamedTuple):
    """A picture that a source lists; ``box``, left, upper, width, height in pixels, is the part meant."""

    path: Path
    record: Record
    box: tuple[float, float, float, float] | None = None


class Skips:
    """What is left out of a corpus, by reason."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = defaultdict(list)

    def add(self, reason: str, name: object) -> None:
        """Count one more; ``reason`` reads on from a number: "pictures that are missing"."""
        self._names[reason].append(str(name))

    def __len__(self) -> int:
        return sum(map(len, self._names.values()))

    def counts(self, total: int) -> dict[str, int]:
        """Number by reason, and ``total``, how many were listed; empty where nothing was left out."""
        return (
            {reason: len(names) for reason, names in self._names.items()} | {"total": total} if self else {}
        )

    def check(self, total: int, limit: float, *, source: str) -> None:
        """Say what was left out of ``total``.

        Raises:
            CommandError: more than the share ``limit``; names the first five.
        """
        for reason, names in self._names.items():
            say(f"{source}: left out {len(names):,} of {total:,}: {reason}: {_first(names)}")
        if len(self) > limit * total:
            first = _first([f"{name} ({reason})" for reason, names in self._names.items() for name in names])
            raise CommandError(
                f"{source}: {len(self):,} of {total:,} cannot be used, more than data.skip_limit {limit:g}: "
                f"{first}"
            )


def assemble(
    listed: Mapping[str, Sequence[Entry]],
    reading: Reading,
    skips: Skips,
    *,
    source: str,
    store: Store | None = None,
) -> dict[str, PairTable]:
    """The splits of a corpus from what a source lists, without what cannot be used.

    Left out and counted: an id that was there before, a file that is not there, a picture that cannot be
    decoded, or whose box lies outside it. Every picture is decoded once to find out, and the cache remembers.

    Args:
        listed: split → entries.
        reading: how pictures are read.
        skips: what the source itself left out; more is added.
        source: its name, for messages.
        store: pictures in the order of all entries, where they are not files.

    Raises:
        CommandError: more than ``reading.skip_limit`` is left out, or nothing remains.
    """
    total = sum(map(len, listed.values())) + len(skips)
    entries = [(split, entry) for split, own in listed.items() for entry in own]
    kept = [place for place in _first_of_each(entries, skips) if store or _there(entries[place][1], skips)]
    boxes = [entry.box for _, entry in entries]
    pictures = EncodedPictures(
        store or FileStore([entry.path for _, entry in entries]),
        size=reading.size,
        workers=reading.workers,
        boxes=np.array([box or WHOLE for box in boxes], dtype=np.float64) if any(boxes) else None,
        prepare=reading.prepare,
    )
    bad = unreadable(pictures, np.array(kept, dtype=np.int64), source)
    for row, reason in bad.items():
        skips.add(f"pictures that cannot be read ({reason})", pictures.store.name(row))
    skips.check(total, reading.skip_limit, source=source)
    if len(bad) == len(kept):
        raise CommandError(f"{source}: no picture can be used")
    rows: dict[str, list[int]] = {split: [] for split in listed}
    for place in kept:
        if place not in bad:
            rows[entries[place][0]].append(place)
    return {
        split: PairTable(pictures, [entries[row][1].record for row in own], np.array(own, dtype=np.int64))
        for split, own in rows.items()
    }


def divided(
    entries: Sequence[Entry], shares: Mapping[str, float], *, seed: int, rest: str
) -> dict[str, list[Entry]]:
    """Entries in splits of about the given shares of the clusters, and the ``rest``; ``rest`` comes first.

    No cluster is in two splits. The same seed and entries give the same splits.
    """
    clusters = sorted({entry.record.cluster for entry in entries})
    order = np.random.default_rng(seed).permutation(len(clusters))
    split_of: dict[Hashable, str] = {}
    done = 0
    for split, share in shares.items():
        count = round(share * len(clusters))
        split_of |= {clusters[place]: split for place in order[done : done + count]}
        done += count
    splits: dict[str, list[Entry]] = {split: [] for split in (rest, *shares)}
    for entry in entries:
        splits[split_of.get(entry.record.cluster, rest)].append(entry)
    return splits


def with_val(train: Sequence[Entry], reading: Reading) -> dict[str, list[Entry]]:
    """``train`` and ``val``, a share of its clusters, for a source whose own splits are train and test."""
    return divided(train, {"val": reading.val_fraction}, seed=reading.seed, rest="train")


class FileStore:
    """Picture files by row."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, row: int) -> bytes:
        """The file's content."""
        return self.paths[row].read_bytes()

    def name(self, row: int) -> str:
        """The file's path."""
        return str(self.paths[row])

    def fingerprint(self, row: int) -> str:
        """Path, size and time of the last change."""
        seen = self.paths[row].stat()
        return f"{self.paths[row]}:{seen.st_size}:{seen.st_mtime_ns}"


def _first_of_each(entries: Sequence[tuple[str, Entry]], skips: Skips) -> Iterable[int]:
    seen: set[str] = set()
    for place, (_, entry) in enumerate(entries):
        if entry.record.id in seen:
            skips.add("ids that were there before", entry.record.id)
        else:
            seen.add(entry.record.id)
            yield place


def _there(entry: Entry, skips: Skips) -> bool:
    try:
        there = entry.path.is_file()
    except OSError:  # a name that no file can have
        there = False
    if not there:
        skips.add("pictures that are missing", entry.path)
    return there


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (" ..." if len(names) > NAMED else "")
