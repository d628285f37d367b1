"""A corpus in WebDataset shards: ``train-*.tar``, ``val-*.tar``, ``test-*.tar`` and further test sets."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from clip_lite.data.checking import unreadable
from clip_lite.data.encoded import EncodedPictures
from clip_lite.data.pairs import Corpus, Flag, PairTable
from clip_lite.data.reading import About, Reading, Skips
from clip_lite.data.shards import ShardRecords, ShardStore
from clip_lite.errors import CommandError, UsageError
from clip_lite.progress import track

ABOUT = About(
    "WebDataset shards",
    "train-*.tar, val-*.tar, test-*.tar: NAME.jpg with NAME.txt or NAME.json",
    "https://github.com/webdataset/webdataset",
    "that of what is in them",
)
MANIFEST = "manifest.json"
NEEDED = ("train", "val", "test")
IN_MEMORY = 200_000  # pairs; the records of a larger training split are read as they are needed
LIMITS = (
    "Nothing is known here of where pictures and captions come from, or of the people in them.",
    "Groups are read from captions unless the shards carry labels: what somebody wrote, as perceived.",
)


def load_webdataset(root: Path, reading: Reading, *, fraction: float = 1.0) -> Corpus:
    """The corpus of a folder of shards; what its manifest says, if ``clip_lite.data.prepare`` wrote one.

    Records are kept in memory, but for those of a training split of more than ``IN_MEMORY`` pairs. Pairs that
    cannot be used, for the picture cannot be decoded or there is no caption, are left out and counted.

    Args:
        root: folder with ``SPLIT-*.tar``.
        reading: how pictures are read.
        fraction: share of the training pairs that is kept, drawn with ``reading.seed``.

    Raises:
        UsageError: no folder, or no shards of a split.
        CommandError: damaged shards, or more than ``reading.skip_limit`` of the pairs cannot be used.
    """
    if not root.is_dir():
        raise UsageError(
            f"data.root {root} is no folder; expected one with train-*.tar, val-*.tar, test-*.tar"
        )
    shards: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(root.glob("*-*.tar")):
        shards[path.name.rpartition("-")[0]].append(path)
    if missing := [f"{split}-*.tar" for split in NEEDED if split not in shards]:
        raise UsageError(
            f"data.root {root}: {', '.join(missing)} missing; expected shards of train, val and test"
        )
    skips, splits = Skips(), {}
    for split in (*NEEDED, *sorted(shards.keys() - set(NEEDED))):
        training = split == "train"
        store = ShardStore(shards[split], fraction=fraction if training else 1.0, seed=reading.seed)
        pictures = EncodedPictures(store, size=reading.size, workers=reading.workers, prepare=reading.prepare)
        _leave_out(pictures, store, split, skips)
        records = ShardRecords(store)
        streamed = training and len(store) > IN_MEMORY
        splits[split] = PairTable(
            pictures,
            records if streamed else list(track(records, f"reading {split} captions", len(store))),
            np.arange(len(store)),
            streamed=streamed,
        )
    total = sum(map(len, splits.values())) + len(skips)
    skips.check(total, reading.skip_limit, source=str(root))
    if empty := [split for split in NEEDED if not len(splits[split])]:
        raise CommandError(f"{root}: no pair of {empty[0]}-*.tar can be used")
    unknown = {"name": str(root), "licence": "unknown", "pictures": sum(map(len, splits.values()))}
    about = read_manifest(root)["corpus"] if (root / MANIFEST).exists() else {}
    return Corpus(
        name=str(about.get("name", "webdataset")),
        splits=splits,
        sources=tuple(about.get("sources", (unknown,))),
        limits=tuple(about.get("limits", LIMITS)),
        audited=Flag(about.get("audited")),
        canonical=Flag(about.get("canonical")),
        classification=about.get("classification"),
        role=about.get("role"),
        objects=about.get("objects"),
        templates=tuple(about.get("templates", Corpus.templates)),
        captioned=bool(about.get("captioned", True)),
        skipped=skips.counts(total),
    )


def _leave_out(pictures: EncodedPictures, store: ShardStore, split: str, skips: Skips) -> None:
    bad = unreadable(pictures, np.arange(len(store)), f"{split} shards", also=store.problem)
    for row, reason in bad.items():
        skips.add(f"pairs that cannot be read ({reason})", store.name(row))
    store.leave_out(list(bad))


def read_manifest(root: Path) -> dict[str, Any]:
    """What ``clip_lite.data.prepare`` wrote beside its shards: ``corpus``, ``shards``, ``digests``.

    Raises:
        CommandError: the file is damaged.
    """
    file = root / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if not all(isinstance(manifest[key], dict) for key in ("corpus", "shards", "digests")):
            raise TypeError("corpus, shards and digests are no objects")
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{file} is damaged ({error}); write the shards again") from error
    return dict(manifest)
