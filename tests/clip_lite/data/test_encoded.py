"""Encoded pictures: every kind becomes RGB, JPEGs are decoded small, damage is named."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from clip_lite.data.encoded import Crop, EncodedPictures, centre_square, decode, random_part
from clip_lite.data.transforms import crop_boxes
from clip_lite.errors import CommandError

ORIENTATION = 0x0112
SCALE, RATIO = (0.2, 1.0), (0.75, 4 / 3)


class Memory:
    """A store in memory."""

    def __init__(self, pictures: Sequence[bytes]) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, row: int) -> bytes:
        return self.pictures[row]

    def name(self, row: int) -> str:
        return f"picture {row}"

    def fingerprint(self, row: int) -> str:
        return str(row)


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def smooth(width: int, height: int, seed: int = 0) -> Image.Image:
    """Colours that change slowly, so that a good resampling at any size is much the same picture."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def pictures(*encoded: bytes, size: int = 16) -> EncodedPictures:
    return EncodedPictures(Memory(encoded), size=size, workers=2)


def test_rows_come_in_the_order_asked_for() -> None:
    solid = [encode(Image.new("RGB", (30, 20), (grey, grey, grey)), "PNG") for grey in range(0, 250, 10)]
    rows = np.array([7, 3, 3, 24, 0])
    seen = pictures(*solid)[rows]
    assert seen.shape == (5, 3, 16, 16)
    assert seen.dtype == np.uint8
    assert seen[:, 0, 0, 0].tolist() == [70, 30, 30, 240, 0]
    assert np.array_equal(pictures(*solid)[3], seen[1])


def test_the_square_is_cut_from_the_middle() -> None:
    image = Image.new("RGB", (60, 20), "red")
    image.paste((0, 255, 0), (20, 0, 40, 20))
    seen = pictures(encode(image, "PNG"))[0][:, :, 1:-1]
    assert (seen[1] == 255).all()
    assert not seen[[0, 2]].any()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(form: str, orientation: int) -> None:
    upright = Image.new("RGB", (48, 32), "white")
    upright.paste((0, 0, 0), (0, 0, 16, 16))  # a dark upper left corner
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    seen = decode(encode(stored, form, exif=exif, quality=95), lambda w, h: Crop(0, 0, w, h), 16)
    expected = decode(encode(upright, form, quality=95), lambda w, h: Crop(0, 0, w, h), 16)
    assert np.abs(seen.astype(int) - expected).max() < 20
    assert expected[:, 1, 1].max() < 30
    assert expected[:, -2, -2].min() > 220


def test_a_tag_that_is_no_orientation_is_passed_over() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 99
    image = encode(smooth(20, 20), "JPEG", exif=exif)
    assert np.array_equal(pictures(image)[0], pictures(encode(smooth(20, 20), "JPEG"))[0])


@pytest.mark.parametrize("changed", [(2, 1), (3, 2), (12, 1)], ids=["text", "two numbers", "cut off"])
def test_an_orientation_of_the_wrong_type_is_no_failure(changed: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    damaged = exif.tobytes().replace(
        struct.pack(">HHI", ORIENTATION, 3, 1), struct.pack(">HHI", ORIENTATION, *changed)
    )
    assert damaged != exif.tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow says that the tag is damaged
        assert pictures(encode(smooth(20, 20), "JPEG", exif=damaged))[0].shape == (3, 16, 16)


def test_every_kind_of_picture_becomes_rgb() -> None:
    red = Image.new("RGB", (20, 20), (200, 40, 40))
    kinds = {
        "grey": encode(red.convert("L"), "PNG"),
        "grey jpeg": encode(red.convert("L"), "JPEG"),
        "cmyk": encode(red.convert("CMYK"), "JPEG", quality=98),
        "palette": encode(red.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
        "one bit": encode(Image.new("1", (20, 20), 1), "PNG"),
        "webp": encode(red, "WEBP", lossless=True),
    }
    seen = {kind: pictures(encoded)[0][:, 8, 8].astype(int) for kind, encoded in kinds.items()}
    for kind in ("cmyk", "palette", "webp"):
        assert np.abs(seen[kind] - [200, 40, 40]).max() < 6, kind
    for kind in ("grey", "grey jpeg"):
        assert np.abs(seen[kind] - red.convert("L").getpixel((0, 0))).max() < 3, kind
    assert seen["one bit"].tolist() == [255, 255, 255]


def test_what_is_transparent_is_white() -> None:
    image = Image.new("RGBA", (20, 20), (0, 0, 255, 0))
    image.paste((0, 0, 255, 255), (0, 0, 20, 10))
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([0, 0, 255, 0, 0, 255])
    palette.paste(1, (0, 0, 20, 10))
    for encoded in (encode(image, "PNG"), encode(palette, "PNG", transparency=0)):
        seen = pictures(encoded)[0]
        assert seen[:, 12, 8].tolist() == [255, 255, 255]
        assert seen[:, 3, 8].tolist() == [0, 0, 255]


def test_sixteen_bits_are_scaled_to_eight() -> None:
    values = np.full((20, 20), 32768, dtype=np.uint16)
    assert pictures(encode(Image.fromarray(values), "PNG"))[0][:, 8, 8].tolist() == [127, 127, 127]


@pytest.mark.parametrize(("side", "decoded"), [(64, 64), (128, 64), (300, 75), (1024, 128), (60, 60)])
def test_a_jpeg_is_decoded_no_larger_than_needed(
    side: int, decoded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder halves by itself as long as 64 pixels are left, and the picture stays the same."""
    image = smooth(side, side)
    encoded = encode(image, "JPEG", quality=98)
    sizes: list[tuple[int, int]] = []
    load = JpegImagePlugin.JpegImageFile.load

    def spy(self: JpegImagePlugin.JpegImageFile) -> Any:
        sizes.append(self.size)
        return load(self)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", spy)
    seen = decode(encoded, centre_square, 64)
    assert set(sizes) == {(decoded, decoded)}
    exact = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.abs(seen.astype(int) - exact).mean() < 2


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_crop_of_a_small_decoded_jpeg_is_the_crop_of_the_large_one(orientation: int) -> None:
    image = smooth(640, 480, seed=3)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    draws = np.random.default_rng(0).random((12, 4))
    small = pictures(*[encode(image, "JPEG", quality=98, exif=exif)] * 12, size=32)
    exact = pictures(*[encode(image, "PNG", exif=exif)] * 12, size=32)
    rows = np.arange(12)
    seen = small.submit(rows, draws, scale=SCALE, ratio=RATIO).result()
    expected = exact.submit(rows, draws, scale=SCALE, ratio=RATIO).result()
    assert np.abs(seen.astype(int) - expected).mean() < 2
    moved = exact.submit(rows, 1 - draws, scale=SCALE, ratio=RATIO).result()
    assert np.abs(seen.astype(int) - moved).mean() > 10


def test_random_parts_are_those_of_the_augmentation() -> None:
    """On a square picture the boxes are the ones that ``Augment`` cuts from pixels."""
    draws = np.random.default_rng(1).random((500, 4))
    boxes = crop_boxes(draws, SCALE, RATIO) * 100
    for draw, (x, y, width, height) in zip(draws, boxes, strict=True):
        crop = random_part(draw, SCALE, RATIO)(100, 100)
        assert np.allclose(crop, (x - width / 2, y - height / 2, width, height))


def test_random_parts_stay_inside_and_have_the_area_asked_for() -> None:
    draws = np.random.default_rng(2).random((500, 4))
    crops = np.array([random_part(draw, SCALE, RATIO)(640, 200) for draw in draws])
    assert (crops[:, :2] >= 0).all()
    assert (crops[:, 0] + crops[:, 2] <= 640 + 1e-9).all()
    assert (crops[:, 1] + crops[:, 3] <= 200 + 1e-9).all()
    uncut = (crops[:, 2] < 640) & (crops[:, 3] < 200)
    area = crops[:, 2] * crops[:, 3] / (640 * 200)
    assert np.allclose(area[uncut], (0.2 + 0.8 * draws[:, 0])[uncut])


def _header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    chunks = b""
    for kind, content in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
    ):
        chunks += struct.pack(">I", len(content)) + kind + content
        chunks += struct.pack(">I", zlib.crc32(kind + content))
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (encode(smooth(64, 64), "JPEG")[:900], "truncated"),
        (encode(smooth(64, 64), "PNG")[:300], "truncated"),
        (b"no picture", "expected one of JPEG, PNG, WEBP"),
        (b"", "expected one of"),
        (encode(smooth(8, 8), "GIF"), "expected one of"),
        (encode(smooth(8, 8), "EPS"), "expected one of"),  # which Pillow would hand to Ghostscript
        (_header(200_000, 200_000), "exceeds limit"),
    ],
)
def test_a_picture_that_cannot_be_read_is_named_in_one_line(damaged: bytes, reason: str) -> None:
    good = encode(smooth(20, 20), "PNG")
    with pytest.raises(CommandError, match=rf"picture 1 cannot be read as a picture: .*{reason}") as caught:
        _ = pictures(good, damaged, good)[np.arange(3)]
    assert "\n" not in str(caught.value)


def test_digest_is_over_what_is_stored() -> None:
    encoded = encode(smooth(20, 20), "JPEG")
    assert pictures(encoded).encoded_bytes(0) == encoded
