"""Pictures as they lie in foreign folders: each has the right colours, or is left out and named."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clip_lite.data.encoded import TURNS
from clip_lite.data.pairs import PairTable, Record
from clip_lite.data.reading import Entry, Reading, Skips, assemble
from clip_lite.errors import CommandError

ORIENTATION = 0x0112
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
BACK = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}  # of what the tag asks for


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def read(folder: Path, **files: bytes) -> tuple[PairTable, Skips]:
    """The table of the files that can be used, and what is left out; ``_`` stands for the dot of a name."""
    folder.mkdir(exist_ok=True)
    entries = []
    for name, content in files.items():
        path = folder / name.replace("_", ".")
        path.write_bytes(content)
        entries.append(Entry(path, Record(path.name, (), {}, path.name)))
    skips = Skips()
    return assemble({"test": entries}, Reading(size=16, skip_limit=0.99), skips, source="ugly")["test"], skips


def square(folder: Path, encoded: bytes, ending: str = "png") -> np.ndarray:
    """Its pixels ``(16, 16, 3)``."""
    table, skips = read(folder, **{f"one_{ending}": encoded})
    assert not skips
    return table.pixels(slice(None))[0].permute(1, 2, 0).numpy()


def close(pixels: np.ndarray, colour: tuple[int, ...], within: int = 4) -> bool:
    return bool((np.abs(pixels.astype(int) - np.array(colour)) <= within).all())


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge(width: int, height: int) -> bytes:
    """A PNG whose header says that it is of that size, with next to no data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + chunk(b"IEND", b"")
    )


def noise(side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def test_cmyk_jpegs_have_their_colours(tmp_path: Path) -> None:
    """Pillow writes, and reads back, the inverted values that Adobe's programs write."""
    for ink, colour in (
        ((0, 255, 255, 0), RED),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
    ):
        encoded = encode(Image.new("CMYK", (32, 32), ink), "JPEG", quality=95)
        assert b"Adobe" in encoded
        assert close(square(tmp_path, encoded, "jpg"), colour)


def test_grey_jpegs_and_grey_pngs_are_grey(tmp_path: Path) -> None:
    assert close(square(tmp_path, encode(Image.new("L", (20, 30), 77), "JPEG"), "jpg"), (77, 77, 77), 1)
    assert close(square(tmp_path, encode(Image.new("L", (20, 30), 77), "PNG")), (77, 77, 77), 0)
    assert close(square(tmp_path, encode(Image.new("1", (20, 30), 1), "PNG")), WHITE, 0)


@pytest.mark.parametrize(("value", "meant"), [(0, 0), (100 * 257, 100), (65535, 255)])
def test_sixteen_bit_pngs_are_scaled_not_cut(tmp_path: Path, value: int, meant: int) -> None:
    image = Image.fromarray(np.full((20, 20), value, dtype=np.uint16))
    assert close(square(tmp_path, encode(image, "PNG")), (meant,) * 3, 0)


def test_a_palette_with_a_transparent_colour_lies_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (32, 32), 0)
    image.putpalette([*GREEN, *BLUE])
    image.paste(1, (16, 0, 32, 32))
    pixels = square(tmp_path, encode(image, "PNG", transparency=bytes([255, 0])))
    assert close(pixels[:, :7], GREEN, 0)
    assert close(pixels[:, 9:], WHITE, 0)
    half = square(tmp_path, encode(image, "PNG", transparency=bytes([127, 255])))
    assert close(half[:, :7], (128, 255, 128), 1)
    assert close(half[:, 9:], BLUE, 0)


def test_grey_with_alpha_lies_on_white(tmp_path: Path) -> None:
    assert close(square(tmp_path, encode(Image.new("LA", (8, 8), (0, 0)), "PNG")), WHITE, 0)
    assert close(square(tmp_path, encode(Image.new("LA", (8, 8), (100, 255)), "PNG")), (100,) * 3, 0)
    assert close(
        square(tmp_path, encode(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), "WEBP", lossless=True)), WHITE, 0
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    """Upright: red above, green lower left, blue lower right."""
    image = Image.new("RGB", (64, 64), RED)
    image.paste(GREEN, (0, 32, 32, 64))
    image.paste(BLUE, (32, 32, 64, 64))
    turn = TURNS.get(orientation)
    stored = image if turn is None else image.transpose(BACK.get(orientation, turn))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    pixels = square(tmp_path, encode(stored, "JPEG", exif=exif, quality=95, subsampling=0), "jpg")
    assert close(pixels[:6], RED, 12)
    assert close(pixels[10:, :6], GREEN, 12)
    assert close(pixels[10:, 10:], BLUE, 12)


def test_one_pixel_and_one_line_are_pictures(tmp_path: Path) -> None:
    assert close(square(tmp_path, encode(Image.new("RGB", (1, 1), BLUE), "PNG")), BLUE, 0)
    assert close(square(tmp_path, encode(Image.new("RGB", (1, 500), GREEN), "PNG")), GREEN, 0)
    assert close(square(tmp_path, encode(Image.new("RGB", (1, 1), RED), "JPEG"), "jpg"), RED, 3)


def _middle_broken() -> bytes:
    encoded = bytearray(encode(noise(), "PNG"))
    encoded[len(encoded) // 2] ^= 0xFF
    return bytes(encoded)


def _data_broken() -> bytes:
    """Checksums are right; what is packed is not."""
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    packed = bytearray(zlib.compress(noise().tobytes()))
    packed[20:4000] = bytes(3980)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", bytes(packed)) + chunk(b"IEND", b"")


UGLY: dict[str, Callable[[], bytes]] = {
    "truncated.jpg": lambda: encode(noise(), "JPEG")[:-2000],
    "header_alone.jpg": lambda: encode(noise(), "JPEG")[:200],
    "truncated.png": lambda: encode(noise(), "PNG")[:3000],
    "truncated.webp": lambda: encode(noise(), "WEBP", lossless=True)[:3000],
    "text.jpg": lambda: b"this is no picture\n",
    "page.jpg": lambda: b"<html><body>404 Not Found</body></html>",
    "empty.jpg": lambda: b"",
    "moving.gif": lambda: encode(noise(), "GIF"),
    "gif_by_another_name.jpg": lambda: encode(noise(), "GIF"),
    "checksum.png": _middle_broken,
    "data.png": _data_broken,
    "bomb.png": lambda: huge(60_000, 60_000),
    "warned_of.png": lambda: huge(12_000, 10_000),
    "no_size.png": lambda: huge(0, 0),
}


@pytest.mark.parametrize("name", UGLY)
def test_what_is_no_whole_picture_is_left_out_counted_and_named(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good = encode(Image.new("RGB", (20, 20), RED), "PNG")
    table, skips = read(
        tmp_path, a_png=good, **{name.replace("_", "-").replace(".", "_"): UGLY[name]()}, b_png=good
    )
    assert [record.id for record in table.records] == ["a.png", "b.png"]
    assert close(table.pixels(slice(None)).permute(0, 2, 3, 1).numpy(), RED, 0)
    counts = skips.counts(3)
    assert counts.pop("total") == 3
    [(reason, number)] = counts.items()
    assert number == 1
    assert reason.startswith("pictures that cannot be read (")
    assert len(reason) > len("pictures that cannot be read ()")
    out = capsys.readouterr().out
    assert f"left out 1 of 3: {reason}" in out
    assert name.replace("_", "-") in out


def test_the_same_damage_is_counted_together_under_one_reason(tmp_path: Path) -> None:
    files = {f"cut{n}_jpg": encode(noise(64 + n), "JPEG")[: -2000 - n] for n in range(4)}
    good = encode(Image.new("RGB", (20, 20), RED), "PNG")
    _, skips = read(tmp_path, good_png=good, **files)
    counts = skips.counts(5)
    assert list(counts.values()) == [4, 5]


def test_nothing_but_ugly_pictures_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="ugly") as caught:
        read(tmp_path, a_jpg=b"", b_jpg=b"")
    assert "\n" not in str(caught.value)
