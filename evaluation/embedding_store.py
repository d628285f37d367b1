"""Embeddings on disk: written by one process or by many, merged, memory-mapped when read.

A folder holds ``features.npy``, ``embedding.npy`` and ``records.jsonl``; its name is a digest of the model's
weights and settings (which fix the transform), of the data and of the kind of device.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from clip_lite.data.cache import atomic_folder, cache_root
from clip_lite.data.pairs import PairTable, Record
from clip_lite.describe import encoder_digest
from clip_lite.distributed import barrier, is_main, rank, world_size
from clip_lite.editable import EditableEncoder
from clip_lite.encoder import ImageFeatures
from clip_lite.errors import CommandError
from evaluation.embed import EmbeddingTable, encoded

VERSION = 1
ARRAYS = ("features", "embedding")
RECORDS = "records.jsonl"


def stored_embeddings(
    model: EditableEncoder, table: PairTable, description: str, *, device: torch.device
) -> EmbeddingTable:
    """The embeddings of ``table`` from the cache folder, computed first where they are not there.

    Under torchrun every process encodes its share of the rows and process 0 merges the shards; all processes
    must call this, and see one file system. A shard that is there is not computed again, so an interrupted
    job goes on where it was.

    Raises:
        CommandError: the cache cannot be written to.
    """
    key = embedding_key(model, table, device)
    target = cache_root() / "embeddings" / key
    if not target.exists():
        shard = shard_folder(target, rank(), world_size())
        if not shard.exists():
            write_shard(shard, model, table, share(len(table)), description, device=device)
        barrier()
        if is_main():
            merge_shards(target, table.records, world_size())
        barrier()
    return read_embeddings(target)


def embedding_key(model: EditableEncoder, table: PairTable, device: torch.device) -> str:
    """Digest of everything that the embeddings depend on."""
    parts = (VERSION, encoder_digest(model), table.digest, device.type)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def share(count: int) -> slice:
    """The rows of this process: contiguous, as even as can be."""
    edges = [count * place // world_size() for place in range(world_size() + 1)]
    return slice(edges[rank()], edges[rank() + 1])


def shard_folder(target: Path, place: int, of: int) -> Path:
    """Where process ``place`` of ``of`` leaves its rows."""
    return target.with_name(f"{target.name}.shard-{place:05d}-of-{of:05d}")


def write_shard(
    folder: Path,
    model: EditableEncoder,
    table: PairTable,
    rows: slice,
    description: str,
    *,
    device: torch.device,
) -> None:
    """Encode some rows into a folder of their own, a batch in memory at a time.

    Raises:
        CommandError: the folder cannot be written to.
    """
    with atomic_folder(folder) as scratch:
        arrays: dict[str, np.ndarray] = {}
        done = 0
        for image in encoded(model, table, rows, description, device=device):
            for name in ARRAYS:
                part = getattr(image, name).numpy()
                if name not in arrays:
                    shape = (rows.stop - rows.start, part.shape[1])
                    arrays[name] = _new_array(scratch / f"{name}.npy", shape)
                arrays[name][done : done + len(part)] = part
            done += len(part)


def merge_shards(target: Path, records: Sequence[Record], of: int) -> None:
    """Put the shards of all processes together, in order, and remove them.

    Raises:
        CommandError: a shard is missing, or the shards do not have as many rows as there are records.
    """
    shards = [shard_folder(target, place, of) for place in range(of)]
    if missing := [shard.name for shard in shards if not shard.exists()]:
        raise CommandError(f"{target.parent}: shard {missing[0]} is missing ({len(missing)} of {of})")
    with atomic_folder(target) as scratch:
        for name in ARRAYS:
            parts = [np.load(file, mmap_mode="r") for s in shards if (file := s / f"{name}.npy").exists()]
            count = sum(map(len, parts))
            if count != len(records):
                raise CommandError(f"{target.parent}: shards hold {count} rows for {len(records)} records")
            whole = _new_array(scratch / f"{name}.npy", (count, parts[0].shape[1]))
            done = 0
            for part in parts:
                whole[done : done + len(part)] = part
                done += len(part)
        lines = (json.dumps(list(record)) for record in records)
        (scratch / RECORDS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for shard in shards:
        shutil.rmtree(shard, ignore_errors=True)


def read_embeddings(folder: Path) -> EmbeddingTable:
    """Open a folder of embeddings; the arrays are memory-mapped.

    Raises:
        CommandError: files are missing or damaged.
    """
    try:
        arrays = [torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in ARRAYS]
        lines = (folder / RECORDS).read_text(encoding="utf-8").splitlines()
        records = [_record(*json.loads(line)) for line in lines]
        if {len(array) for array in arrays} != {len(records)}:
            raise ValueError("arrays and records differ in length")
    except (OSError, ValueError, TypeError) as error:
        raise CommandError(f"{folder} is damaged, remove it to compute it anew: {error}") from error
    return EmbeddingTable(ImageFeatures(*arrays), records)


def _record(name: str, captions: list[str], attributes: dict[str, str], cluster: str) -> Record:
    return Record(name, tuple(captions), attributes, cluster)


def _new_array(path: Path, shape: tuple[int, int]) -> np.ndarray:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
