"""Pictures that stay encoded until they are needed: files of a folder, members of a shard."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from clip_lite.data.transforms import crop_boxes
from clip_lite.errors import CommandError

FORMATS = ("JPEG", "PNG", "WEBP")  # of the many that Pillow would try on a foreign file
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class Store(Protocol):
    """Encoded pictures by row."""

    def __len__(self) -> int:
        """How many there are."""

    def read(self, row: int) -> bytes:
        """The encoded picture."""

    def name(self, row: int) -> str:
        """Where it lies, for messages."""

    def fingerprint(self, row: int) -> str:
        """What changes when the picture does, without reading it."""


class Crop(NamedTuple):
    """What part of a picture is wanted, in its own pixels: left, upper, width, height."""

    left: float
    upper: float
    width: float
    height: float


class Decoding(NamedTuple):
    """Pictures on their way."""

    parts: list[Future[np.ndarray]]

    def result(self) -> np.ndarray:
        """Wait for uint8 ``(n, 3, size, size)``.

        Raises:
            CommandError: a picture cannot be read.
        """
        return np.stack([part.result() for part in self.parts])


class EncodedPictures:
    """Pictures that are decoded on access, ``pictures[rows]`` → uint8 ``(n, 3, size, size)``, by threads.

    EXIF orientation is applied; CMYK, grey, palette and 16-bit pictures become RGB, transparent ones on
    white.
    """

    def __init__(self, store: Store, *, size: int, workers: int) -> None:
        self.store, self.size, self.workers = store, size, workers

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, rows: np.ndarray | int) -> np.ndarray:
        """The largest square in the middle of each picture."""
        if isinstance(rows, int | np.integer):
            return self._decode(int(rows), centre_square)
        return self._start((int(row), centre_square) for row in rows).result()

    def submit(
        self,
        rows: np.ndarray,
        uniforms: np.ndarray,
        *,
        scale: tuple[float, float],
        ratio: tuple[float, float],
    ) -> Decoding:
        """Begin to decode a random part of each picture, resized to the full square.

        Args:
            uniforms: ``(n, 4)`` in [0, 1): they choose area, aspect ratio and place.
            scale, ratio: ranges of the area as a share of the picture and of the part's aspect ratio.
        """
        return self._start(
            (int(row), random_part(draw, scale, ratio)) for row, draw in zip(rows, uniforms, strict=True)
        )

    def encoded_bytes(self, row: int) -> bytes:
        """The picture as it is stored, for digests."""
        return self.store.read(row)

    @property
    def shard_counts(self) -> np.ndarray | None:
        """Pictures in each shard, where the store has shards."""
        return getattr(self.store, "shard_counts", None)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.workers, thread_name_prefix="decode")

    def _start(self, wanted: Iterable[tuple[int, Callable[[int, int], Crop]]]) -> Decoding:
        return Decoding([self._pool.submit(self._decode, row, choose) for row, choose in wanted])

    def _decode(self, row: int, choose: Callable[[int, int], Crop]) -> np.ndarray:
        try:
            return decode(self.store.read(row), choose, self.size)
        except UNREADABLE as error:
            unknown = isinstance(error, UnidentifiedImageError)
            reason = f"expected one of {', '.join(FORMATS)}" if unknown else error
            raise CommandError(f"{self.store.name(row)} cannot be read as a picture: {reason}") from error


def decode(encoded: bytes, choose: Callable[[int, int], Crop], size: int) -> np.ndarray:
    """One part of an encoded picture as uint8 ``(3, size, size)``.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size as long as the part still has ``size`` pixels each way.

    Args:
        choose: the upright picture's width and height → the part.
    """
    with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
        orientation: Any = image.getexif().get(ORIENTATION)
        width, height = image.size[::-1] if orientation in (5, 6, 7, 8) else image.size
        crop = choose(width, height)
        shrink = max(1.0, min(crop.width, crop.height) / size)
        image.draft("RGB", (math.ceil(image.width / shrink), math.ceil(image.height / shrink)))
        upright = _rgb(image)
        if orientation in TURNS:
            upright = upright.transpose(TURNS[orientation])
    across, down = upright.width / width, upright.height / height
    box = (
        crop.left * across,
        crop.upper * down,
        min(upright.width, (crop.left + crop.width) * across),
        min(upright.height, (crop.upper + crop.height) * down),
    )
    part = upright.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    return np.ascontiguousarray(np.asarray(part).transpose(2, 0, 1))


def centre_square(width: int, height: int) -> Crop:
    """The largest square in the middle."""
    side = min(width, height)
    return Crop((width - side) / 2, (height - side) / 2, side, side)


def random_part(
    uniforms: np.ndarray, scale: tuple[float, float], ratio: tuple[float, float]
) -> Callable[[int, int], Crop]:
    """A random resized crop: area uniform in ``scale``, aspect ratio log-uniform in ``ratio``, place uniform.

    A side that would leave the picture is cut to it.
    """

    def choose(width: int, height: int) -> Crop:
        relative = (ratio[0] * height / width, ratio[1] * height / width)  # of a box in the unit square
        x, y, across, down = crop_boxes(uniforms[None], scale, relative)[0].tolist()
        return Crop((x - across / 2) * width, (y - down / 2) * height, across * width, down * height)

    return choose


def _rgb(image: Image.Image) -> Image.Image:
    """RGB on white; 16-bit grey is scaled to 8."""
    if image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((values / 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    return image.convert("RGB")
