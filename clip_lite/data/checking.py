"""Which pictures can be decoded: found out once, remembered in the cache."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
from PIL import Image

from clip_lite.data.cache import atomic_folder, cache_root
from clip_lite.data.encoded import (
    UNREADABLE,
    Crop,
    EncodedPictures,
    decode,
    inside,
    whole_picture,
    why_unreadable,
)
from clip_lite.progress import progress_bar

ANSWER = "unreadable.json"
REMEMBERED = 2048  # pictures at a time: an interrupted check goes on after the last of these
Problem = Callable[[int], str | None]
SIDE = 8  # the smaller, the less of a JPEG is decoded; all of it is read


def unreadable(
    pictures: EncodedPictures, rows: np.ndarray, source: str, *, also: Problem | None = None
) -> dict[int, str]:
    """Rows, of those given, that cannot be decoded, with the reason; each is decoded to find out.

    The answer is kept in the cache folder under a digest of every picture's name, size and time of change, a
    part at a time: an interrupted check goes on where it was.

    Args:
        also: what else can be wrong with a row; None where nothing is.
    """
    found: dict[int, str] = {}
    with (
        ThreadPoolExecutor(pictures.workers, thread_name_prefix="check") as pool,
        progress_bar(f"checking pictures of {source}", len(rows)) as advance,
    ):
        for start in range(0, len(rows), REMEMBERED):
            part = rows[start : start + REMEMBERED]
            target = cache_root() / f"checked-{_key(pictures, part)}"
            if not target.exists():
                wrong = _tried(pictures, part, pool, also or (lambda _row: None))
                with atomic_folder(target) as folder:
                    (folder / ANSWER).write_text(json.dumps(wrong), encoding="utf-8")
            places = json.loads((target / ANSWER).read_text(encoding="utf-8"))
            found |= {int(part[int(place)]): reason for place, reason in places.items()}
            advance(len(part), "")
    return found


def _key(pictures: EncodedPictures, rows: np.ndarray) -> str:
    seen = hashlib.sha256(b"1")
    for row in rows.tolist():
        box = None if pictures.boxes is None else pictures.boxes[row].tolist()
        seen.update(f"{pictures.store.fingerprint(row)} {box}\n".encode())
    return seen.hexdigest()[:16]


def _tried(pictures: EncodedPictures, rows: np.ndarray, pool: Executor, also: Problem) -> dict[int, str]:
    """Place in ``rows`` → reason."""

    def reason(row: int) -> str | None:
        box = None if pictures.boxes is None else Crop(*pictures.boxes[row].tolist())
        try:
            decode(pictures.store.read(row), inside(box, whole_picture) if box else whole_picture, SIDE)
        except (*UNREADABLE, Image.DecompressionBombWarning) as error:  # where warnings are errors
            return re.split(r" ?[(:\d]", why_unreadable(error))[0]  # the kind, not each picture's own numbers
        return also(row)

    reasons = enumerate(pool.map(reason, rows.tolist()))
    return {place: why for place, why in reasons if why is not None}
