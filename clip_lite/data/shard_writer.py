"""Pairs into deterministic tar files: the same pairs give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from clip_lite.data.encoded import EncodedPictures
from clip_lite.data.pairs import PairTable, Record
from clip_lite.errors import CommandError
from clip_lite.progress import progress_bar

SIGNATURES = {"jpg": rb"\xff\xd8\xff", "png": rb"\x89PNG\r\n\x1a\n", "webp": rb"RIFF....WEBP"}


def write_shards(
    table: PairTable, order: np.ndarray, out: Path, *, split: str, pairs_per_shard: int
) -> tuple[dict[str, dict[str, object]], str]:
    """Write ``SPLIT-000000.tar`` and so on; a shard has its name only when it is whole.

    Returns pairs and SHA-256 of each shard, and the digest of all pairs (their order does not matter).
    """
    written: dict[str, dict[str, object]] = {}
    digests: list[str] = []
    with progress_bar(f"writing {split}", len(table)) as advance:
        for number, start in enumerate(range(0, len(order), pairs_per_shard)):
            places = order[start : start + pairs_per_shard].tolist()
            name = f"{split}-{number:06d}.tar"
            partial = out / f".{name}.partial"
            try:
                with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
                    for place in places:
                        record, encoded = table.records[place], encoded_picture(table, place)
                        _add(tar, f"{place:09d}", record, encoded)
                        digests.append(pair_digest(record, encoded))
                        advance(1, "")
                written[name] = {"pairs": len(places), "sha256": file_digest(partial)}
                os.replace(partial, out / name)
            finally:
                partial.unlink(missing_ok=True)
    return written, digest_of_pairs(digests)


def encoded_picture(table: PairTable, place: int) -> bytes:
    """A picture as its source stores it; pixels of an array as PNG, which loses nothing."""
    if isinstance(table.images, EncodedPictures):
        return table.images.encoded_bytes(int(table.rows[place]))
    pixels = table.images[int(table.rows[place])]
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(out, "PNG")
    return out.getvalue()


def picture_ending(encoded: bytes, name: str) -> str:
    """``jpg``, ``png`` or ``webp``, by content.

    Raises:
        CommandError: none of them.
    """
    for ending, signature in SIGNATURES.items():
        if re.match(signature, encoded, re.DOTALL):
            return ending
    raise CommandError(f"{name} is no picture that can be stored, expected JPEG, PNG or WebP")


def digest_of_pairs(digests: Sequence[str]) -> str:
    """SHA-256 over the digests of pairs in any order."""
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pair_digest(record: Record, encoded: bytes) -> str:
    """SHA-256 of a record and of its picture as it is stored."""
    seen = hashlib.sha256(json.dumps(_said(record), sort_keys=True).encode())
    seen.update(encoded)
    return seen.hexdigest()


def _said(record: Record) -> dict[str, object]:
    return {
        "id": record.id,
        "captions": list(record.captions),
        "attributes": dict(record.attributes),
        "cluster": record.cluster,
    }


def _add(tar: tarfile.TarFile, key: str, record: Record, encoded: bytes) -> None:
    said = json.dumps(_said(record), ensure_ascii=False).encode()
    members = (
        (picture_ending(encoded, record.id), encoded),
        ("json", said),
        ("txt", record.captions[0].encode()),
    )
    for ending, content in members:
        info = tarfile.TarInfo(f"{key}.{ending}")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
