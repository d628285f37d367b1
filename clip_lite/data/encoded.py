"""Pictures that stay encoded until they are needed: files of a folder, members of a shard."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
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


Choose = Callable[[int, int], Crop]  # upright width and height → the part


class Prepare(Protocol):
    """What a model of another library does to a picture before it normalises it."""

    size: int

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Upright RGB picture → uint8 ``(3, size, size)``."""


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

    Args:
        boxes: ``(m, 4)`` left, upper, width, height in pixels: of each picture only this part is looked at.
        prepare: what stands in for the largest square in the middle, resized bilinearly.
        whole: the whole picture is squeezed to a square instead.
    """

    def __init__(
        self,
        store: Store,
        *,
        size: int,
        workers: int,
        boxes: np.ndarray | None = None,
        prepare: Prepare | None = None,
        whole: bool = False,
    ) -> None:
        self.store, self.size, self.workers = store, size, workers
        self.boxes, self.prepare, self.whole = boxes, prepare, whole

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, rows: np.ndarray | int) -> np.ndarray:
        """Each picture as it is evaluated: the largest square in its middle, if not said otherwise."""
        choose = whole_picture if self.whole else centre_square
        prepare = None if self.whole else self.prepare
        if isinstance(rows, int | np.integer):
            return self._decode(int(rows), choose, prepare)
        return Decoding([self._pool.submit(self._decode, int(row), choose, prepare) for row in rows]).result()

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
        return Decoding(
            [
                self._pool.submit(self._decode, int(row), random_part(draw, scale, ratio))
                for row, draw in zip(rows, uniforms, strict=True)
            ]
        )

    def encoded_bytes(self, row: int) -> bytes:
        """The picture as it is stored; a part of one as PNG."""
        encoded = self.store.read(row)
        if self.boxes is None:
            return encoded
        out = io.BytesIO()
        upright(encoded, Crop(*self.boxes[row].tolist())).save(out, "PNG")
        return out.getvalue()

    def digest_bytes(self, row: int) -> bytes:
        """What changes when the picture or its box does."""
        return self.store.read(row) + (b"" if self.boxes is None else self.boxes[row].tobytes())

    @property
    def shard_counts(self) -> np.ndarray | None:
        """Pictures in each shard, where the store has shards."""
        return getattr(self.store, "shard_counts", None)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.workers, thread_name_prefix="decode")

    def _decode(self, row: int, choose: Choose, prepare: Prepare | None = None) -> np.ndarray:
        box = None if self.boxes is None else Crop(*self.boxes[row].tolist())
        try:
            encoded = self.store.read(row)
            if prepare:
                return prepare(upright(encoded, box))
            return decode(encoded, choose if box is None else inside(box, choose), self.size)
        except UNREADABLE as error:
            reason = why_unreadable(error)
            raise CommandError(f"{self.store.name(row)} cannot be read as a picture: {reason}") from error


def why_unreadable(error: Exception) -> str:
    """What is wrong with a picture, in words."""
    unknown = isinstance(error, UnidentifiedImageError)
    return f"expected one of {', '.join(FORMATS)}" if unknown else str(error)


def upright(encoded: bytes, box: Crop | None = None) -> Image.Image:
    """A picture, or a part of it, as RGB with its EXIF orientation applied."""
    with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
        turned = TURNS.get(image.getexif().get(ORIENTATION, 1))
        picture = _rgb(image)
    picture = picture if turned is None else picture.transpose(turned)
    if box is None:
        return picture
    part = inside(box, whole_picture)(*picture.size)
    return picture.crop(
        (
            math.floor(part.left),
            math.floor(part.upper),
            math.ceil(part.left + part.width),
            math.ceil(part.upper + part.height),
        )
    )


def decode(encoded: bytes, choose: Choose, size: int) -> np.ndarray:
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
        picture = _rgb(image)
        if orientation in TURNS:
            picture = picture.transpose(TURNS[orientation])
    across, down = picture.width / width, picture.height / height
    box = (
        crop.left * across,
        crop.upper * down,
        min(picture.width, (crop.left + crop.width) * across),
        min(picture.height, (crop.upper + crop.height) * down),
    )
    part = picture.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    return np.ascontiguousarray(np.asarray(part).transpose(2, 0, 1))


def whole_picture(width: int, height: int) -> Crop:
    """All of it."""
    return Crop(0, 0, width, height)


def inside(box: Crop, choose: Choose) -> Choose:
    """The same choice, made of a part of the picture; what of the part lies outside the picture is cut off.

    Raises:
        ValueError: nothing is left, when the choice is made.
    """

    def chosen(width: int, height: int) -> Crop:
        if any(map(math.isnan, box)):
            raise ValueError(f"its box is none: {tuple(box)}")
        left, upper = max(0.0, box.left), max(0.0, box.upper)
        across, down = min(width, box.left + box.width) - left, min(height, box.upper + box.height) - upper
        if across < 1 or down < 1:
            raise ValueError(f"its box lies outside the picture: {tuple(box)} of {width} x {height}")
        part = choose(int(across), int(down))
        return Crop(left + part.left, upper + part.upper, part.width, part.height)

    return chosen


def centre_square(width: int, height: int) -> Crop:
    """The largest square in the middle."""
    side = min(width, height)
    return Crop((width - side) / 2, (height - side) / 2, side, side)


def random_part(uniforms: np.ndarray, scale: tuple[float, float], ratio: tuple[float, float]) -> Choose:
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
