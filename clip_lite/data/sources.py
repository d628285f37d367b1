"""Corpora by name."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from clip_lite.config import DataConfig
from clip_lite.data.cache import atomic_folder, cache_root
from clip_lite.data.coco import load_coco
from clip_lite.data.emoji import load_emoji
from clip_lite.data.encoded import EncodedPictures
from clip_lite.data.pairs import Corpus, PairTable
from clip_lite.data.webdataset import load_webdataset
from clip_lite.errors import UsageError
from clip_lite.progress import progress_bar

BLOCK = 256  # pictures decoded at a time for the pixel cache


def load_corpus(data: DataConfig) -> Corpus:
    """The corpus that ``data.source`` names, with the asked share of its training pairs.

    Raises:
        UsageError: a source without its folder, or a folder without the source's files.
        CommandError: files that are there and not what they should be.
    """
    corpus = _load(data)
    if data.pixel_cache:
        splits = {name: cached_pixels(table) for name, table in corpus.splits.items()}
        corpus = replace(corpus, splits=splits)
    return corpus


def _load(data: DataConfig) -> Corpus:
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
    if data.source == "coco":
        coco = load_coco(
            data.root,
            image_size=data.image_size,
            val_fraction=data.val_fraction,
            seed=data.split_seed,
            workers=data.workers,
        )
        return _thinned(coco, data)
    return load_webdataset(
        data.root,
        image_size=data.image_size,
        workers=data.workers,
        fraction=data.fraction,
        seed=data.split_seed,
    )


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
        seen.update(pictures.store.fingerprint(int(row)).encode())
    return seen.hexdigest()[:16]
