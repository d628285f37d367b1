"""WebDataset shards: tar files whose members of one name, but for the ending, are one pair.

Members are found by their offsets, so that any pair can be read at any time without reading what lies before
it: a training can stop and go on anywhere, and threads read side by side. Nothing is extracted, no member
name becomes a path, nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np

from clip_lite.data.pairs import Record, plain_attributes
from clip_lite.data.shard_index import shard_index
from clip_lite.errors import CommandError

OPEN_FILES = 128  # of each split; systems allow a process about 1,000


class UnusableText(CommandError):
    """Text members that give no caption; ``reason`` is the kind of what is wrong."""

    def __init__(self, name: str, reason: str, error: Exception | None = None) -> None:
        super().__init__(f"{name}: {reason}" + (f": {error}" if error else ""))
        self.reason = reason


class ShardStore:
    """Pairs of shards by row, in the order in which they lie there.

    Args:
        paths: the shards, in order.
        fraction: share of the pairs that is kept, drawn with ``seed``.

    Raises:
        CommandError: a shard that is no whole uncompressed tar, or has no picture with text.
    """

    def __init__(self, paths: Sequence[Path], *, fraction: float = 1.0, seed: int = 0) -> None:
        self.paths = list(paths)
        self.index = shard_index(self.paths)
        if fraction < 1:
            kept = round(fraction * len(self.index))
            self.index = self.index[np.sort(np.random.default_rng(seed).permutation(len(self.index))[:kept])]
        self._opened = lru_cache(maxsize=OPEN_FILES)(_Open)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shard_counts(self) -> np.ndarray:
        """Pairs in each shard."""
        return np.bincount(self.index[:, 0], minlength=len(self.paths))

    def leave_out(self, rows: Sequence[int]) -> None:
        """Forget some rows; those after them move up."""
        if rows:
            self.index = np.delete(self.index, rows, axis=0)

    def problem(self, row: int) -> str | None:
        """What is wrong with the text of a pair, if anything."""
        try:
            self.record(row)
        except UnusableText as error:
            return error.reason
        return None

    def read(self, row: int) -> bytes:
        """The encoded picture."""
        shard, offset, size = self.index[row, :3].tolist()
        return self._read(shard, offset, size)

    def name(self, row: int) -> str:
        """The shard and the picture's name in it."""
        return self._name(*self.index[row, :2].tolist())

    def fingerprint(self, row: int) -> str:
        """Shard, time of its last change, place and size."""
        shard, offset, size = self.index[row, :3].tolist()
        return f"{self.paths[shard]}:{self.paths[shard].stat().st_mtime_ns}:{offset}:{size}"

    def record(self, row: int) -> Record:
        """Captions and what else the text members of a pair say.

        Raises:
            CommandError: JSON that is no object, or no caption in either member.
        """
        shard, picture, _, json_at, json_size, text_at, text_size = self.index[row].tolist()
        said: dict[str, Any] = self._object(shard, json_at, json_size) if json_size else {}
        captions = _captions(said)
        if not captions and text_size:
            text = self._read(shard, text_at, text_size).decode("utf-8-sig", errors="replace").strip()
            captions = (text,) if text else ()
        if not captions:
            raise UnusableText(self._name(shard, json_at or text_at), "no caption in .txt or .json")
        name = str(said.get("id") or f"{self.paths[shard].name}:{picture}")
        return Record(name, captions, plain_attributes(said), str(said.get("cluster") or name))

    def _object(self, shard: int, offset: int, size: int) -> dict[str, Any]:
        try:
            said = json.loads(self._read(shard, offset, size).decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise UnusableText(self._name(shard, offset), "no JSON", error) from error
        if not isinstance(said, dict):
            raise UnusableText(self._name(shard, offset), "no JSON object with captions")
        return said

    def _read(self, shard: int, offset: int, size: int) -> bytes:
        file = self._opened(self.paths[shard])
        return os.pread(file.descriptor, size, offset)

    def _name(self, shard: int, offset: int) -> str:
        """Shard and member, by the first 100 bytes of its name in the header before it."""
        header = self._read(shard, offset - tarfile.BLOCKSIZE, tarfile.BLOCKSIZE)
        member = header[:100].partition(b"\0")[0].decode(errors="replace")
        return f"{self.paths[shard]}, member {member}"


class ShardRecords(Sequence[Record]):
    """The records of a store, read as they are asked for."""

    def __init__(self, store: ShardStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    @overload
    def __getitem__(self, row: int) -> Record: ...
    @overload
    def __getitem__(self, row: slice) -> list[Record]: ...
    def __getitem__(self, row: int | slice) -> Record | list[Record]:
        """One record, or several."""
        if isinstance(row, slice):
            return [self.store.record(i) for i in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        return self.store.record(row % len(self))


def _captions(said: dict[str, Any]) -> tuple[str, ...]:
    """``captions`` of ours, ``caption`` of img2dataset."""
    several = said.get("captions")
    texts = several if isinstance(several, list) else [said.get("caption") or ""]
    return tuple(text for item in texts if (text := str(item).strip()))


class _Open:
    """A file open for reading at any offset, until nobody holds it."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self.descriptor)
