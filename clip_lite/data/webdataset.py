"""A corpus in WebDataset shards: ``train-*.tar``, ``val-*.tar``, ``test-*.tar`` and further test sets."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from clip_lite.data.encoded import EncodedPictures
from clip_lite.data.pairs import Corpus, Flag, PairTable
from clip_lite.data.shards import ShardRecords, ShardStore
from clip_lite.errors import CommandError, UsageError
from clip_lite.progress import track

MANIFEST = "manifest.json"
NEEDED = ("train", "val", "test")
IN_MEMORY = 200_000  # pairs; the records of a larger training split are read as they are needed
LIMITS = (
    "Nothing is known here of where pictures and captions come from, or of the people in them.",
    "Groups are read from captions unless the shards carry labels: what somebody wrote, as perceived.",
)


def load_webdataset(
    root: Path, *, image_size: int, workers: int, fraction: float = 1.0, seed: int = 0
) -> Corpus:
    """The corpus of a folder of shards; what its manifest says, if ``clip_lite.data.prepare`` wrote one.

    Records are read at once, but for those of a training split of more than ``IN_MEMORY`` pairs.

    Args:
        root: folder with ``SPLIT-*.tar``.
        image_size: side of the decoded pictures.
        workers: threads that decode.
        fraction: share of the training pairs that is kept, drawn with ``seed``.

    Raises:
        UsageError: no folder, or no shards of a split.
        CommandError: damaged shards.
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
    splits = {}
    for split in (*NEEDED, *sorted(shards.keys() - set(NEEDED))):
        training = split == "train"
        store = ShardStore(shards[split], fraction=fraction if training else 1.0, seed=seed)
        pictures = EncodedPictures(store, size=image_size, workers=workers)
        records = ShardRecords(store)
        streamed = training and len(store) > IN_MEMORY
        splits[split] = PairTable(
            pictures,
            records if streamed else list(track(records, f"reading {split} captions", len(store))),
            np.arange(len(store)),
            streamed=streamed,
        )
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
    )


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
