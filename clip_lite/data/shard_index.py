"""Where the pairs of WebDataset shards lie: tar headers are read once, offsets kept in the cache."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from clip_lite.data.cache import atomic_folder, cache_root
from clip_lite.errors import CommandError
from clip_lite.progress import track

PICTURES = ("jpg", "jpeg", "png", "webp")
TEXT_LIMIT = 1 << 20  # bytes; a caption file beyond that is none
PICTURE_LIMIT = 1 << 28
COLUMNS = ("shard", "picture", "picture_size", "json", "json_size", "text", "text_size")

# what tarfile raises on headers that were damaged or made to harm
WILD = (tarfile.TarError, ValueError, OverflowError, MemoryError, RecursionError)

Place = tuple[int, int]  # offset and size in bytes
NOWHERE: Place = (0, 0)


def shard_index(paths: Sequence[Path]) -> np.ndarray:
    """Offsets and sizes of all pairs ``(n, 7)``, int64, memory-mapped; see ``COLUMNS``.

    A size of 0: there is no such member. Made anew if it is not in the cache or a shard has changed since.

    Raises:
        CommandError: a shard that is no whole uncompressed tar, or has no picture with text.
    """
    seen = hashlib.sha256(b"1")
    for path in paths:
        stat = path.stat()
        seen.update(f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}\n".encode())
    target = cache_root() / f"shards-{seen.hexdigest()[:16]}"
    if not target.exists():
        parts = [
            _rows(number, path) for number, path in enumerate(track(paths, "indexing shards", len(paths)))
        ]
        with atomic_folder(target) as folder:
            np.save(folder / "index.npy", np.concatenate(parts))
    return np.load(target / "index.npy", mmap_mode="r")


def _rows(number: int, path: Path) -> np.ndarray:
    rows = [(number, *places) for members in _groups(path) if (places := _places(members))]
    if not rows:
        raise CommandError(
            f"{path}: no member is a picture ({', '.join(PICTURES)}) with a .txt or .json beside it"
        )
    return np.array(rows, dtype=np.int64)


def _groups(path: Path) -> Iterator[dict[str, Place]]:
    """Neighbouring members of one key, the path up to the first dot of the name, by their ending."""
    group: dict[str, Place] = {}
    last = None
    for name, offset, size in _members(path):
        folder, _, file = name.rpartition("/")
        stem, _, ending = file.partition(".")
        if (folder, stem) != last:
            yield group
            last, group = (folder, stem), {}
        group[ending.lower()] = (offset, size)
    yield group


def _places(members: dict[str, Place]) -> tuple[int, ...] | None:
    """Picture, JSON and text of a pair, if it is one and none of them is too large."""
    picture = next((members[ending] for ending in PICTURES if ending in members), NOWHERE)
    said, text = members.get("json", NOWHERE), members.get("txt", NOWHERE)
    if not 0 < picture[1] <= PICTURE_LIMIT or not 0 < max(said[1], text[1]) <= TEXT_LIMIT:
        return None
    return (*picture, *said, *text)


def _members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of the regular files in a tar, read from its headers alone."""
    end = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar, path.open("rb") as shard:
            for member in tar:
                if not 0 <= member.size <= end - member.offset_data:
                    raise tarfile.ReadError(f"member {member.name} claims {member.size} bytes")
                if member.isreg() and not member.issparse():
                    yield member.name, member.offset_data, member.size
            shard.seek(tar.offset)
            if any(shard.read(tarfile.BLOCKSIZE)):  # tarfile takes a damaged header for the end
                raise tarfile.ReadError(f"damaged at byte {tar.offset}")
    except WILD as error:
        raise CommandError(f"{path} is no whole uncompressed tar file: {error}") from error
