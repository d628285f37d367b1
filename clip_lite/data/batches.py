"""Training batches: pictures and one caption each, varied, on the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clip_lite.data.encoded import EncodedPictures
from clip_lite.data.order import GlobalOrder, Order, ShardOrder, Turn
from clip_lite.data.pairs import PairTable
from clip_lite.data.transforms import Augment, Draws
from clip_lite.distributed import rank, world_size
from clip_lite.errors import UsageError
from clip_lite.text_cache import LiveTexts, TextCache

AHEAD = 2  # batches that are decoded while a CUDA device computes

Tokens = dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """Pairs of one process.

    Attributes:
        images: normalised float32 ``(n, 3, H, W)``.
        text: features ``(n, f)`` of a frozen text tower, or the tokens that a tower takes.
        caption: key of each caption, ``(n,)`` int64 on the CPU.
        own: keys of all captions of each picture, ``(n, c)``, padded with -1: never its negatives.
        extra: features ``(k, f)`` of captions from the whole corpus, where negatives come from there.
        extra_caption: their keys ``(k,)``.
        group, extra_group: numbers of the groups that the captions of each picture, and of the picture of
            each extra caption, name; ``(n,)`` and ``(k,)`` on the CPU, where they are asked for.
    """

    images: Tensor
    text: Tensor | Tokens
    caption: Tensor
    own: Tensor
    extra: Tensor | None
    extra_caption: Tensor | None
    group: Tensor | None = None
    extra_group: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def parts(self, count: int) -> Iterator[Batch]:
        """The batch in ``count`` equal parts, in order."""
        size = len(self.images) // count
        for first in range(0, size * count, size):
            part = slice(first, first + size)
            yield Batch(
                self.images[part],
                self.text[part]
                if isinstance(self.text, Tensor)
                else {name: tokens[part] for name, tokens in self.text.items()},
                self.caption[part],
                self.own[part],
                self.extra,
                self.extra_caption,
                None if self.group is None else self.group[part],
                self.extra_group,
            )


class Batches:
    """The batches of this process, epoch by epoch; the same ones for the same seed, from any batch on.

    Args:
        table: training pairs.
        texts: their captions, as cached features or live tokens.
        batch_size: pairs per step over all processes.
        extra: how many captions of the whole corpus come with each batch.
    """

    def __init__(
        self,
        table: PairTable,
        texts: TextCache | LiveTexts,
        augment: Augment,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        extra: int = 0,
    ) -> None:
        self.table, self.texts, self.augment = table, texts, augment
        self.device, self.extra = device, extra
        self.order = order_of(table, batch_size=batch_size, seed=seed)
        self.per_epoch = self.order.per_epoch

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Batches from ``start`` on; no partial batch."""
        # on a CPU, decoding beside the arithmetic would only slow it
        ahead = AHEAD if self.device.type == "cuda" else 0
        begun: deque[Callable[[], Batch]] = deque()
        for turn in self.order.turns(number, start):
            begun.append(self._begin(turn))
            if len(begun) > ahead:
                yield begun.popleft()()
        for finish in begun:
            yield finish()

    def _begin(self, turn: Turn) -> Callable[[], Batch]:
        """Draw everything random and start decoding; what is returned waits for it and gives the batch."""
        draws = self.augment.draw(turn.total, turn.rng).rows(turn.part)
        chance = turn.rng.random(turn.total)[turn.part]
        drawn = self.texts.draw(self.table, turn.rows, mirrored=draws.mirrored, chance=chance)
        extra = self.texts.sample(self.extra, turn.rng) if self.extra else None
        pixels = self._pixels(turn.rows, draws)

        def finish() -> Batch:
            images = self._move(pixels())
            text = drawn.text
            return Batch(
                self.augment(images, draws, cropped=self._encoded is not None),
                self._move(text)
                if isinstance(text, Tensor)
                else {name: self._move(tokens) for name, tokens in text.items()},
                drawn.caption,
                drawn.own,
                self._move(extra.text) if extra else None,
                extra.caption if extra else None,
                drawn.group,
                extra.group if extra else None,
            )

        return finish

    @property
    def _encoded(self) -> EncodedPictures | None:
        pictures = self.table.images
        return pictures if isinstance(pictures, EncodedPictures) else None

    def _pixels(self, rows: np.ndarray, draws: Draws) -> Callable[[], Tensor]:
        """What gives the pictures ``(n, 3, H, W)``: copied out of an array, or cropped while decoding."""
        if not self._encoded:
            return lambda: self.table.pixels(rows)
        decoding = self._encoded.submit(
            self.table.rows[rows], draws.box, scale=self.augment.scale, ratio=self.augment.ratio
        )
        return lambda: torch.from_numpy(decoding.result())

    def _move(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


def order_of(table: PairTable, *, batch_size: int, seed: int) -> Order:
    """Shard by shard where the pictures lie in shards, else over the whole table.

    Raises:
        UsageError: fewer shards than processes.
    """
    counts = getattr(table.images, "shard_counts", None)
    if counts is None:
        return GlobalOrder(
            pairs=len(table), batch_size=batch_size, seed=seed, rank=rank(), world_size=world_size()
        )
    if (shards := np.count_nonzero(counts)) < world_size():
        raise UsageError(
            f"data.root holds {shards} training shards for {world_size()} processes, expected at least one "
            "each: write smaller shards"
        )
    return ShardOrder(counts=counts, batch_size=batch_size, seed=seed, rank=rank(), world_size=world_size())
