"""Corpora by name."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib import import_module
from typing import get_args

import numpy as np

from clip_lite.config import DataConfig, SourceName
from clip_lite.data.cache import atomic_folder, cache_root
from clip_lite.data.encoded import EncodedPictures, Prepare
from clip_lite.data.labels import join_labels
from clip_lite.data.pairs import Corpus, PairTable
from clip_lite.data.reading import About, Reading
from clip_lite.data.sources.emoji import ABOUT as EMOJI
from clip_lite.data.sources.emoji import load_emoji
from clip_lite.data.sources.webdataset import ABOUT as SHARDS
from clip_lite.data.sources.webdataset import load_webdataset
from clip_lite.errors import UsageError
from clip_lite.progress import progress_bar

WITH_ANNOTATIONS = ("coco", "coco_gender", "facet", "flickr30k", "folder", "refcoco", "waterbirds")
BLOCK = 256  # pictures decoded at a time for the pixel cache

# Sources that list files of a folder: NAME is load_NAME of clip_lite.data.sources.NAME.
FOLDERS = tuple(name for name in get_args(SourceName) if name not in ("emoji", "webdataset"))


def describe_sources() -> dict[str, About]:
    """Every ``data.source`` with what a person needs to know of it."""
    folders = {name: import_module(f"clip_lite.data.sources.{name}").ABOUT for name in FOLDERS}
    return {"emoji": EMOJI, "webdataset": SHARDS, **folders}


def load_corpus(data: DataConfig, *, prepare: Prepare | None = None) -> Corpus:
    """The corpus that ``data.source`` names, with the asked share of its training pairs.

    Args:
        data: what to load.
        prepare: what the audited model does to a picture, in place of the square in its middle.

    Raises:
        UsageError: a source without its folder, or a folder without the source's files.
        CommandError: files that are there and not what they should be, or too many that cannot be used.
    """
    if data.labels and not data.labels.is_file():
        raise UsageError(f"data.labels {data.labels} is no file")
    corpus = _load(data, prepare)
    if data.labels:
        corpus = join_labels(corpus, data.labels, skip_limit=data.skip_limit)
    if data.pixel_cache and prepare is None:
        splits = {name: cached_pixels(table) for name, table in corpus.splits.items()}
        corpus = replace(corpus, splits=splits)
    return corpus


def _load(data: DataConfig, prepare: Prepare | None) -> Corpus:
    if data.source == "emoji":
        emoji = load_emoji(
            image_size=data.image_size,
            val_fraction=data.val_fraction,
            test_fraction=data.test_fraction,
            seed=data.split_seed,
        )
        return _thinned(emoji, data)
    if data.root is None:
        raise UsageError(f"data.source {data.source} needs its folder: --data.root DIR")
    if not data.root.is_dir():
        raise UsageError(f"data.root {data.root} is no folder; expected that of {data.source}")
    if data.annotations and not data.annotations.is_file():
        raise UsageError(f"data.annotations {data.annotations} is no file")
    if data.annotations and data.source not in WITH_ANNOTATIONS:
        raise UsageError(
            f"data.annotations: {data.source} reads the files of its folder alone; "
            f"{', '.join(WITH_ANNOTATIONS)} take one more"
        )
    reading = Reading(
        size=data.image_size,
        workers=data.workers,
        val_fraction=data.val_fraction,
        test_fraction=data.test_fraction,
        seed=data.split_seed,
        skip_limit=data.skip_limit,
        annotations=data.annotations,
        prepare=prepare,
    )
    if data.source == "webdataset":
        return load_webdataset(data.root, reading, fraction=data.fraction)
    load = getattr(import_module(f"clip_lite.data.sources.{data.source}"), f"load_{data.source}")
    return _thinned(load(data.root, reading), data)


def _thinned(corpus: Corpus, data: DataConfig) -> Corpus:
    """The corpus with ``data.fraction`` of its training pairs."""
    kept = round(data.fraction * len(corpus.splits["train"]))
    train = corpus.splits["train"].sample(kept, seed=data.split_seed)
    return replace(corpus, splits={**corpus.splits, "train": train})


def cached_pixels(table: PairTable) -> PairTable:
    """The same pairs with their centre squares decoded once, memory-mapped from the cache folder.

    Random crops are then taken out of the squares.
    """
    pictures = table.images
    if not isinstance(pictures, EncodedPictures):
        return table
    target = cache_root() / f"pixels-{_key(table, pictures)}"
    if not target.exists():
        shape = (len(table), 3, pictures.size, pictures.size)
        with atomic_folder(target) as folder, progress_bar("decoding pictures", len(table)) as advance:
            pixels = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
            for start in range(0, len(table), BLOCK):
                rows = table.rows[start : start + BLOCK]
                pixels[start : start + BLOCK] = pictures[rows]
                advance(len(rows), "")
            pixels.flush()
    images = np.load(target / "images.npy", mmap_mode="r")
    return PairTable(images, table.records, np.arange(len(table)), streamed=table.streamed)


def _key(table: PairTable, pictures: EncodedPictures) -> str:
    """Digest of the size and of every picture's name and length."""
    seen = hashlib.sha256(f"1 {pictures.size}".encode())
    for row in table.rows:
        box = b"" if pictures.boxes is None else pictures.boxes[row].tobytes()
        seen.update(pictures.store.fingerprint(int(row)).encode() + box)
    return seen.hexdigest()[:16]
